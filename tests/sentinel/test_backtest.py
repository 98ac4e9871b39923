"""Many runs: the same outcomes however the work is spread, and no run's trouble is another's."""

from __future__ import annotations

import math
import os
import pickle
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rules import packs
from sentinel.backtest import DIED, backtest, fitting_jobs, largest_first
from sentinel.cli import main
from sentinel.config import Settings, load
from sentinel.replay import Outcome, Recording, find, judge_run
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import Scene, encode
from tests.sentinel.test_engine import curve


def ignored(_bytes: int) -> None:
    """Want no progress."""


def tree(folder: Path) -> Scene:
    """Four runs: one that fires, one that stays calm, one whose file is damaged, one without a point."""
    scene = Scene(folder, FakeClock(T0))
    scene.log(curve([1, 60, 60, math.nan, 60, 60]), "fires")
    scene.log(curve([1, 2, 3]), "calm")
    scene.log(curve([1, 2, 3]), "damaged")
    scene.write(b"\x07" * 300, "damaged")
    scene.write(b"", "empty")
    return scene


def told(outcomes: list[list[Outcome]]) -> list[object]:
    return [(o.run, o.error, o.points, o.unjudged, list(o.lines())) for (o,) in outcomes]


def test_the_outcome_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    """Nor does its order; what came from another process shares the rules of this one."""
    scene = tree(tmp_path)
    recordings = find([scene.logdir])
    alone = backtest(recordings, [scene.settings], 1, ignored)
    done: list[int] = []
    spread = backtest(recordings, [scene.settings], 2, done.append)
    assert [o.run for (o,) in spread] == ["runs/calm", "runs/damaged", "runs/empty", "runs/fires"]
    assert told(spread) == told(alone)
    assert sum(done) == sum(recording.size for recording in recordings)
    specs = {id(rule) for rule in scene.settings.rules.rules}
    assert {id(step.observation.rule) for (o,) in spread for step in o.steps} <= specs


def test_a_run_that_cannot_be_read_ends_no_other(tmp_path: Path) -> None:
    """It has its error; damage behind which points stand has none, and is told as blind."""
    scene = tree(tmp_path)
    recordings = find([scene.logdir])
    gone = Recording("gone", tmp_path / "gone", (tmp_path / "gone" / "events.out.tfevents.1",))
    broken = Recording("outside", tmp_path / "x", (scene.logdir / "calm" / "events.out.tfevents.1",))
    found = {o.run: o for (o,) in backtest([gone, broken, *recordings], [scene.settings], 1, ignored)}
    assert "events.out.tfevents.1" in found["gone"].error
    assert found["outside"].error.startswith("ValueError")
    assert (found["runs/empty"].error, found["runs/empty"].points) == ("", 0)
    assert not found["runs/damaged"].error
    assert found["runs/damaged"].hurt
    assert found["runs/fires"].steps


def test_a_folder_that_may_not_be_looked_into_is_an_outcome(tmp_path: Path) -> None:
    """A tree of a thousand runs is judged but for the one that belongs to somebody else."""
    if os.geteuid() == 0:
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "a\nb").mkdir()
        (tmp_path / "runs" / "a\nb" / "events.out.tfevents.1").write_bytes(encode(curve([1])))
        reason = "printable"
    else:
        (tmp_path / "runs" / "closed").mkdir(parents=True, mode=0)
        reason = "not watched"
    (recording,) = find([tmp_path / "runs"])
    assert reason in recording.error


class Fatal(Recording):
    """A run that kills whatever unpickles it."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (os._exit, (1,))


def test_a_process_that_dies_costs_its_runs_and_not_the_answer(tmp_path: Path) -> None:
    """As the kernel ends one for want of memory."""
    scene = tree(tmp_path)
    (calm, *_) = find([scene.logdir])
    fatal = Fatal("fatal", tmp_path, (), size=1 << 30)
    found = {o.run: o for (o,) in backtest([calm, fatal], [scene.settings], 2, ignored)}
    assert found["fatal"].error == DIED
    assert set(found) == {"fatal", "runs/calm"}


def test_an_outcome_is_plain_data(tmp_path: Path) -> None:
    """It survives the way from one process to another unchanged."""
    scene = tree(tmp_path)
    for recording in find([scene.logdir]):
        (outcome,) = judge_run(recording, [scene.settings])
        assert repr(pickle.loads(pickle.dumps(outcome))) == repr(outcome)  # noqa: S301  what we pickled


def test_small_trees_are_judged_in_one_process() -> None:
    """A process costs a second to start; large runs are handed out first."""
    sizes = [3 << 20, 40 << 20, 1 << 20]
    runs = [Recording(str(size), Path(), (), size) for size in sizes]
    assert fitting_jobs(runs, 64) == 3
    assert fitting_jobs(runs, 2) == 2
    assert fitting_jobs([Recording("a", Path(), (), 1000)] * 50, 64) == 1
    assert fitting_jobs([], 64) == 1
    assert largest_first(runs) == [1, 0, 2]


def test_two_sets_of_rules_judge_in_one_reading_as_they_do_alone(tmp_path: Path) -> None:
    """Neither sees the other."""
    scene = tree(tmp_path)
    other: Settings = Scene(tmp_path / "b", FakeClock(T0), OTHER).settings
    for recording in find([scene.logdir]):
        both = judge_run(recording, [scene.settings, other])
        alone = [judge_run(recording, [rules])[0] for rules in (scene.settings, other)]
        assert repr(both) == repr(alone)


OTHER = """
version = 1
[metrics]
q = ["q"]
[[rule]]
name = "q_high"
expr = "q > 2"
severity = "warning"
"""


@pytest.mark.slow
@pytest.mark.parametrize("group", [True, False], ids=["terminal", "kill"])
def test_ctrl_c_ends_it_with_a_sentence(tmp_path: Path, *, group: bool) -> None:
    """No traceback and no process left behind, whether the signal reaches all of them or only the first."""
    runs = tmp_path / "runs"
    body = encode([("q", step, T0 + step, float(step % 7)) for step in range(60_000)])
    for name in "abcdef":
        (runs / name).mkdir(parents=True)
        (runs / name / "events.out.tfevents.1700000000.t").write_bytes(body)
    command = [sys.executable, "-m", "sentinel", "replay", "--jobs", "2", str(runs)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: len(alive(process.pid)) >= 3)
    if group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert said == "sentinel: interrupted; 6 runs were not judged to the end\n"
    assert process.returncode == 3
    wait_for(lambda: not alive(process.pid))


def alive(group: int) -> list[str]:
    """List the processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            found.append(stat.parent.name)
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_a_terminal_sees_how_far_it_is(tmp_path: Path) -> None:
    """On standard error alone; what is piped on is as clean as ever."""
    tree(tmp_path)
    lead, follow = pty.openpty()
    command = [sys.executable, "-m", "sentinel", "replay", "--jobs", "1", str(tmp_path / "runs")]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=follow, env=environment, check=False)
    os.close(follow)
    shown = os.read(lead, 1 << 16)
    os.close(lead)
    assert b"judging" in shown
    assert b"judging" not in ended.stdout
    assert b"\x1b" not in ended.stdout
    assert b"4 runs" in ended.stdout


@pytest.mark.slow
def test_the_corpus_is_judged_by_every_pack_within_twenty_seconds(corpus: Path) -> None:
    """Of one core."""
    rules = load(None, packs.names())
    begin = time.process_time()
    outcomes = backtest(find([corpus]), [rules], 1, ignored)
    assert time.process_time() - begin < 20
    assert len(outcomes) == 197
    assert not any(outcome.error for (outcome,) in outcomes)


def test_jobs_is_a_number_of_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """None is not enough."""
    with pytest.raises(SystemExit):
        main(["replay", "--jobs", "0", str(tmp_path)])
    assert "at least one process" in capsys.readouterr().err
