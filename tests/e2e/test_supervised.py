"""`sentinel run -- CMD` with real processes: terminals, pipes, restarts, resumes, and ends in between."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sentinel.members import members
from tests.e2e.scene import ROOT, Scene, until

LISTENS = """
import os, signal, sys, time
counts = {}
def note(signum, frame):
    counts[signum] = counts.get(signum, 0) + 1
    print(signal.Signals(signum).name, counts[signum], flush=True)
signal.signal(signal.SIGINT, note)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
print("ready", os.isatty(1), os.getpid(), flush=True)
while True:
    time.sleep(0.02)
"""
BIG = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 40960); sys.exit(4)"


def command(scene: Scene, *child: str, act: bool = False) -> list[str]:
    ours = ["-m", "sentinel", "run", "-c", str(scene.config), "--state", str(scene.state), str(scene.logdir)]
    return [*ours, *(["--act"] if act else []), "--", *child]


class Terminal:
    """A terminal with `sentinel run -- …` in its foreground, as a shell would have started it."""

    def __init__(self, scene: Scene, *child: str) -> None:
        self.pid, self.master = pty.fork()
        if not self.pid:
            os.chdir(ROOT)
            os.execve(sys.executable, [sys.executable, *command(scene, *child)], scene.environment)  # noqa: S606  no shell is meant
        self.seen = b""

    def read(self) -> str:
        while select.select([self.master], [], [], 0)[0]:
            try:
                self.seen += os.read(self.master, 65536)
            except OSError:
                break
        return self.seen.decode(errors="replace").replace("\r\n", "\n")

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    def wait(self, seconds: float = 40.0) -> int:
        deadline = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.read()
            if pid:
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, self.read()
            time.sleep(0.02)


@pytest.fixture
def terminal(scene: Scene) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def make(*child: str) -> Terminal:
        opened.append(Terminal(scene, *child))
        return opened[-1]

    yield make
    for each in opened:
        os.close(each.master)  # hangs up: whatever is left in it ends
        for process in mine(scene):
            os.kill(process, signal.SIGKILL)


def token(scene: Scene) -> str:
    rows = scene.rows("SELECT value FROM meta WHERE name = 'job/token'")
    return str(rows[0]["value"]) if rows else ""


def mine(scene: Scene) -> list[int]:
    """Every process of every life of the scene's jobs."""
    marks = [f"{token(scene)}.{row['id']}" for row in scene.rows("SELECT id FROM lives")]
    return [process.pid for mark in marks for process in members(mark)]


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_ctrl_c_reaches_the_child_once(scene: Scene, terminal: Callable[..., Terminal]) -> None:
    """The kernel tells both; ours is not passed on besides. The child has the terminal itself."""
    seen = terminal(sys.executable, "-c", LISTENS)
    until(lambda: "ready True" in seen.read(), "the child is at a terminal")
    until(lambda: scene.rows("SELECT 1 FROM lives WHERE state = 'running'"), "it is watched")
    seen.press(b"\x03")
    until(lambda: "SIGINT 1" in seen.read(), "the child is told")
    time.sleep(1.0)  # what was passed on as well would have come by now
    assert "SIGINT 2" not in seen.read()
    os.kill(seen.pid, signal.SIGTERM)
    assert seen.wait() == 9


@pytest.mark.slow
def test_ctrl_z_stops_both_and_going_on_goes_on(scene: Scene, terminal: Callable[..., Terminal]) -> None:
    """As with any job of a shell."""
    seen = terminal("sh", "-c", f"{sys.executable} -c '{LISTENS}'")
    until(lambda: "ready True" in seen.read(), "the child is at a terminal")
    found = re.search(r"ready True (\d+)", seen.read())
    assert found is not None
    child = int(found[1])
    signal_group = os.tcgetpgrp(seen.master)
    os.killpg(signal_group, signal.SIGTSTP)  # an orphaned group's default for it is nothing, in a pty
    os.killpg(signal_group, signal.SIGSTOP)
    until(lambda: (state(seen.pid), state(child)) == ("T", "T"), "both have stopped")
    os.killpg(signal_group, signal.SIGCONT)
    until(lambda: (state(seen.pid) in "SR", state(child) in "SR") == (True, True), "both go on")
    os.kill(seen.pid, signal.SIGTERM)
    seen.wait()
    assert not mine(scene)


def test_ten_megabytes_that_nobody_reads_hold_up_nobody_but_the_writer(scene: Scene) -> None:
    """The sentinel ticks on, and what is read late is whole, byte for byte."""
    process = subprocess.Popen(
        [sys.executable, *command(scene, sys.executable, "-c", BIG)],
        env=scene.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        beats = {"": ""}

        def ticks() -> bool:
            rows = scene.rows("SELECT value FROM meta WHERE name = 'last_tick'")
            if rows:
                beats[rows[0]["value"]] = ""
            return len(beats) > 2

        until(ticks, "it ticks on beside a child that waits for its reader")
        assert process.poll() is None
        assert process.stdout is not None
        assert process.stdout.read() == bytes(range(256)) * 40960
        assert process.wait(30) == 4
    finally:
        if process.stdout is not None:
            process.stdout.close()
        process.kill()
        process.wait()


def test_a_job_that_always_dies_is_given_up(scene: Scene) -> None:
    """The loop guard: a bounded number of lives, each a row, a report at the end, and its own exit code."""
    scene.write_rules(
        more='\n[trainer.restart]\non = "failure"\nmax = 3\nbackoff = "0.2s"\nbudget = "50 in 1h"\n'
    )
    born = scene.folder / "born"
    process = scene.start(*command(scene, "sh", "-c", f"echo $$ >> {born}; exit 5"), log="both.log")
    assert process.wait(60) == 5, scene.said("both.log")
    assert len(born.read_text().split()) == 3
    lives = scene.rows("SELECT cause, state, code FROM lives ORDER BY id")
    assert [(r["cause"], r["state"], r["code"]) for r in lives] == [
        ("start", "ended", 5),
        ("restart", "ended", 5),
        ("restart", "ended", 5),
    ]
    told = [row["body"] for row in scene.rows("SELECT body FROM messages WHERE channel = 'console'")]
    assert sum("the job was started again" in body for body in told) == 2
    assert sum("the job is given up" in body and "counts double" in body for body in told) == 1


@pytest.mark.slow
def test_a_wait_and_its_budget_outlive_the_sentinel(scene: Scene) -> None:
    """Killed while a restart is due, the next sentinel waits on and counts on; a finished job is none."""
    scene.write_rules(
        more='\n[trainer.restart]\non = "failure"\nmax = 1\nbackoff = "3s"\nbudget = "50 in 1h"\n'
    )
    born = scene.folder / "born"
    line = command(scene, "sh", "-c", f"echo $$ >> {born}; exit 5")
    first = scene.start(*line, log="both.log")
    until(lambda: scene.rows("SELECT 1 FROM lives WHERE state = 'due'"), "a restart is due")
    first.kill()
    first.wait()
    assert scene.start(*line, log="both.log").wait(60) == 5
    assert "goes on" in scene.said("both.log")
    assert len(born.read_text().split()) == 2


@pytest.mark.slow
def test_an_orphan_is_adopted_and_its_family_ended(scene: Scene) -> None:
    """A sentinel that is killed leaves the job training; the next one takes it up, and passes signals on."""
    wrapper = ("sh", "-c", f"{sys.executable} -c '{LISTENS}'; exit 6")
    first = scene.start(*command(scene, *wrapper), log="both.log", start_new_session=True)
    until(lambda: "ready" in scene.said("both.log"), "the job trains")
    until(lambda: scene.rows("SELECT 1 FROM lives WHERE state = 'running'"), "it is known")
    first.kill()
    first.wait()
    before = mine(scene)
    assert len(before) == 2, "the shell and its child go on"
    again = scene.start(*command(scene, *wrapper), log="again.log", start_new_session=True)
    until(
        lambda: "taken up" in scene.said("again.log") or "goes on" in scene.said("again.log"), "it is adopted"
    )
    assert mine(scene) == before
    other = scene.start(*command(scene, "sleep", "1"), log="other.log")
    assert other.wait(30) != 0, "a second sentinel on the same state starts nothing"
    again.send_signal(signal.SIGTERM)
    until(lambda: not mine(scene), "nobody of the family is left")
    assert again.wait(30) in (3, 143), "nobody saw its exit code"


def test_a_start_and_a_resume_happen_once_wherever_the_sentinel_is_killed(tmp_path: Path) -> None:
    """Between stop and start too: the rollback is finished by the next sentinel, exactly once."""
    check_relaunch(tmp_path, (8, 17, 20))


@pytest.mark.slow
def test_a_start_and_a_resume_happen_once_at_every_touch(tmp_path: Path) -> None:
    """The same at each statement, start and signal of the story."""
    check_relaunch(tmp_path, range(1, 30))


def check_relaunch(folder: Path, points: object) -> None:
    assert isinstance(points, (tuple, range))
    line = [sys.executable, "-m", "tests.e2e.relaunch", str(folder), *map(str, points)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=200, check=True)
    stories = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(stories) == len(points)
    assert any(len(story["codes"]) > 1 for story in stories), "some were killed"
    for story in stories:
        first, second = story["starts"]
        assert first == [], story
        assert second[0].endswith("rl_model_40_steps.zip --lr 0.25"), story
        assert (story["alive"], story["running"]) == (1, 1), story
        assert [row["state"] for row in story["commands"]] == ["done"], story


@pytest.mark.slow
def test_the_example_is_resumed_from_before_its_fault(tmp_path: Path) -> None:
    """examples/resume: a script that knows nothing of us, and a real `sentinel run --act -- …`."""
    run = tmp_path / "runs" / "plain"
    ours = ["-m", "sentinel", "run", "--act", "-c", "examples/resume/sentinel.toml"]
    ours += ["--state", str(tmp_path / "state"), str(run.parent)]
    job = [sys.executable, "examples/resume/train.py", str(run), "--pause", "0.1", "--steps", "90"]
    done = subprocess.run(
        [sys.executable, *ours, "--", *job],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    says = done.stdout.splitlines()
    assert says[0] == "training from step 0 with lr 0.5"
    assert re.fullmatch(r"training from step [1-6]0 with lr 0.25", says[1])
    assert says[2].startswith("finished at step 90")
    assert "rollback done" in done.stderr
