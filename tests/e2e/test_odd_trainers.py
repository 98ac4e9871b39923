"""Trainers that refuse, ignore, half-execute or cannot hear: each keeps its life, and people are told."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.e2e.scene import Scene, stop, until

ONLY_SAVE = """
[ladders.only_save]
rungs = [{ do = ["notify", "checkpoint"] }]
[override.loss_high]
ladder = "only_save"
"""


def test_a_refusal_is_told_and_ends_nobody(scene: Scene) -> None:
    """Its reason reaches people; the rollback it refuses is asked again only as often as the ladder says."""
    scene.write_rules(more='[override.loss_high]\nladder = "twice"\n' + TWICE)
    sentinel, job = scene.sentinel(), scene.start(*odd(scene, "refuses"), log="job.log")
    until(lambda: "not today" in told(scene), "the refusal is told")
    until(lambda: len(states(scene, "rollback")) >= 1, "the rollback was asked for")
    until(lambda: set(states(scene, "rollback")) == {"refused"}, "and refused")
    assert job.poll() is None
    assert no_force(scene)
    assert stop(sentinel) == 0


def test_one_that_says_nothing_is_rung_twice_and_left_alone(scene: Scene) -> None:
    """Stopped before it could take the letter: no receipt, a second ring, and then people are told."""
    scene.write_rules(ack="500ms", more=ONLY_SAVE)
    job = scene.start(*odd(scene, "ignores"), log="job.log")
    until((scene.logdir / "a" / "control" / "trainer.json").exists, "it has registered")
    sentinel = scene.sentinel()
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step > 5"), "it is watched")
    job.send_signal(signal.SIGSTOP)
    asked = scene.start("-m", "sentinel", "command", "a", "checkpoint", *scene.where(), log="command.log")
    until(lambda: "unanswered" in " ".join(states(scene, "checkpoint")), "it is given up")
    assert asked.wait(30) == 1
    until(lambda: set(states(scene, "checkpoint")) == {"unanswered"}, "so is each")
    rings = sum(row["what"].startswith("to do: rung again") for row in steps(scene))
    assert rings == len(states(scene, "checkpoint")), "each was rung for twice"
    assert no_force(scene)
    job.send_signal(signal.SIGCONT)
    before = scene.step()
    until(lambda: scene.step() > before, "it trains on")
    assert stop(sentinel) == 0


def test_one_that_ends_in_the_middle_has_failed_and_nothing_follows(scene: Scene) -> None:
    """A command is carried out at most once: its successor is not asked the same again by the same letter."""
    scene.write_rules(more=ONLY_SAVE)
    sentinel, job = scene.sentinel(), scene.start(*odd(scene, "half"), log="job.log")
    assert job.wait(60) == 3
    until(lambda: states(scene, "checkpoint") == ["failed"], "the command has failed")
    until(lambda: "ended before checkpoint" in told(scene), "that is told")
    again = scene.start(*odd(scene, "ignores"), log="again.log")
    until(lambda: scene.step() > 2, "a successor trains")
    assert "ignores" not in scene.said("again.log"), "the letter was its predecessor's"
    assert again.poll() is None
    assert stop(sentinel) == 0


@pytest.mark.slow
def test_one_in_a_long_call_of_c_is_waited_for(scene: Scene) -> None:
    """No Python handler runs for seconds; the ring is kept, and the command carried out after the call."""
    scene.write_rules(ack="20s", more=ONLY_SAVE)
    sentinel, job = scene.sentinel(), scene.start(*odd(scene, "stuck"), log="job.log")
    until(lambda: "sent" in states(scene, "checkpoint"), "it was asked meanwhile")
    until(lambda: states(scene, "checkpoint") == ["done"], "and has obeyed after it")
    assert scene.said("job.log").splitlines()[-3:] == ["stuck", "back", "stuck checkpoint"]
    assert job.poll() is None
    assert no_force(scene)
    assert stop(sentinel) == 0


def test_a_zombie_is_a_process_that_has_ended(scene: Scene) -> None:
    """Killed and not yet waited for: its pid is there, and yet nothing is sent to it."""
    scene.write_rules(more=ONLY_SAVE)
    sentinel, job = scene.sentinel(), scene.start(*odd(scene, "ignores"), log="job.log")
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step > 5"), "it is watched")
    job.kill()  # and not waited for: `stop` and the scene's end do that
    until(lambda: zombie(job.pid), "it is a zombie")
    asked = scene.ask("command", "a", "checkpoint", *scene.where())
    assert asked.returncode == 1
    assert "ended" in asked.stdout
    assert no_force(scene)
    assert stop(sentinel) == 0


@pytest.mark.slow
def test_a_stopped_sentinel_comes_back_to_a_run_that_went_on(scene: Scene) -> None:
    """SIGSTOP for longer than every patience: no command was given up by that, and it says so."""
    scene.write_rules(ack="500ms", more=ONLY_SAVE)
    sentinel, job = scene.sentinel(), scene.start(*odd(scene, "refuses"), log="job.log")
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step > 3"), "it is watched")
    sentinel.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: time.monotonic() - stopped > 6.5, "longer than what counts as a standstill")
    sentinel.send_signal(signal.SIGCONT)
    until(lambda: "the clock has jumped" in told(scene), "it says that it stood still")
    until(lambda: states(scene, "checkpoint") == ["refused"], "what was logged meanwhile is judged")
    assert job.poll() is None
    assert stop(sentinel) == 0


STOPS_ITSELF = """
import os, signal, sys
from pathlib import Path
from sentinel import engine
from sentinel.cli import main

settle, flag = engine.Engine._settle_named, Path(sys.argv.pop(1))

def stopping(self, now):
    if flag.exists():
        flag.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)
    settle(self, now)

engine.Engine._settle_named = stopping
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_standstill_in_the_middle_of_a_tick_gives_nobody_up(scene: Scene) -> None:
    """Both are stopped for longer than the patience, the sentinel while it works; then both go on."""
    scene.write_rules(ack="2s", more=ONLY_SAVE)
    flag = scene.folder / "stop"
    where = ("-c", str(scene.config), "--state", str(scene.state), str(scene.logdir))
    sentinel = scene.start("-c", STOPS_ITSELF, str(flag), "run", *where, log="sentinel.log")
    job = scene.start(*odd(scene, "refuses"), log="job.log")
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step BETWEEN 3 AND 8"), "it is watched")
    job.send_signal(signal.SIGSTOP)
    asked = scene.start("-m", "sentinel", "command", "a", "checkpoint", *scene.where(), log="command.log")
    until(lambda: states(scene, "checkpoint") == ["sent"], "it is asked")
    flag.touch()
    until(lambda: state_of(sentinel.pid) == "T", "it has stopped in the middle of a tick")
    stopped = time.monotonic()
    until(lambda: time.monotonic() - stopped > 6.5, "longer than what counts as a standstill")
    job.send_signal(signal.SIGCONT)
    sentinel.send_signal(signal.SIGCONT)
    assert asked.wait(40) == 1
    assert "not today" in scene.said("command.log"), "it was heard, not given up"
    until(lambda: "the clock has jumped" in told(scene), "it says that it stood still")
    assert "unanswered" not in states(scene, "checkpoint")
    assert not any(row["what"].startswith("to do: rung again") for row in steps(scene))
    assert stop(sentinel) == 0


TWICE = """
[ladders.twice]
rungs = [
  { do = ["notify", "checkpoint"] },
  { do = ["rollback"], after = "2 points", to = "last_good", max = 2, remedy = "gentler" },
]
"""


def odd(scene: Scene, way: str) -> tuple[str, ...]:
    return "-m", "tests.e2e.odd_job", str(scene.logdir / "a"), way


def states(scene: Scene, verb: str) -> list[str]:
    return [row["state"] for row in scene.rows("SELECT state FROM commands WHERE verb = ? ORDER BY id", verb)]


def steps(scene: Scene) -> list[dict[str, str]]:
    return scene.rows("SELECT what FROM command_steps ORDER BY rowid")


def no_force(scene: Scene) -> bool:
    return not any("SIGTERM" in row["what"] or "SIGKILL" in row["what"] for row in steps(scene))


def zombie(pid: int) -> bool:
    return state_of(pid) == "Z"


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123  not a file of ours
        return file.read().rpartition(")")[2].split()[0]


def told(scene: Scene) -> str:
    return json.dumps([call.body for call in scene.slack.sent()], ensure_ascii=False)


pytestmark = pytest.mark.timeout(100)
