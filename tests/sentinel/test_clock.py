"""A clock that is set and a machine that sleeps are neither silence nor a trainer that does not answer."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from sentinel.clock import STANDSTILL, AwakeClock, SystemClock
from sentinel.guard import Guard
from tests.e2e.scene import until
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import Scene
from tests.sentinel.test_engine import curve

HOUR = 3600.0


def told(scene: Scene, title: str) -> int:
    return sum(message.title == title for message in scene.post.messages)


def log_and_tick(scene: Scene, points: int, begin: int) -> None:
    """Log a point every three seconds by the wall clock of the machine, and look after each."""
    for n in range(begin, begin + points):
        scene.clock.advance(3.0)
        scene.log(curve([1], begin=n, start=scene.clock.now - 3.0 * n))
        scene.engine.tick()


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_step_of_the_clock_is_told_once_and_no_run_is_called_silent(tmp_path: Path, jump: float) -> None:
    """An hour on or back between two points: nobody is told of a silence, and a real one still is."""
    scene = Scene(tmp_path, FakeClock(T0))
    log_and_tick(scene, 5, 1)
    scene.clock.step_wall(jump)
    for _ in range(4):
        scene.tick(0.5)
    log_and_tick(scene, 5, 6)
    assert told(scene, "the clock has jumped") == 1
    assert told(scene, "silent") == 0, [m.title for m in scene.post.messages]
    if jump > 0:
        for _ in range(60):
            scene.tick(1.0)
        assert told(scene, "silent") == 1, "a real silence is told after it as before it"


def test_a_run_that_stays_silent_after_a_step_is_told_by_the_time_it_was_silent(tmp_path: Path) -> None:
    """Twenty seconds are twenty seconds, whatever the wall clock says; over a restart too."""
    for jump in (HOUR, -HOUR):
        scene = Scene(tmp_path / str(jump), FakeClock(T0))
        log_and_tick(scene, 5, 1)
        scene.clock.step_wall(jump)
        scene.tick(0.5)
        scene.start()
        for _ in range(13):
            scene.tick(1.0)
        assert told(scene, "silent") == 0
        for _ in range(60):
            scene.tick(1.0)
        assert told(scene, "silent") == 1


def test_live_and_replay_agree_on_a_log_whose_wall_times_jump(tmp_path: Path) -> None:
    """What is recorded of the gap is what a replay makes of it; the sentinel merely does not act on it."""
    scene = Scene(tmp_path, FakeClock(T0))
    log_and_tick(scene, 5, 1)
    scene.clock.step_wall(HOUR)
    scene.tick(0.5)
    log_and_tick(scene, 5, 6)
    scene.settle()
    late = Scene(tmp_path / "late", scene.clock)
    source = scene.logdir / "a" / "events.out.tfevents.1700000000.t"
    late.write(source.read_bytes())
    late.settle()
    strip = [{k: v for k, v in row.items() if k != "actions"} for row in scene.transitions()]
    assert strip == [{k: v for k, v in row.items() if k != "actions"} for row in late.transitions()]
    assert [row["after"] for row in scene.transitions() if row["key"] == "silent"] == ["firing", "resolved"]


def test_a_standstill_costs_no_patience() -> None:
    """A wait that took an hour instead of half a second was no hour in which anybody could have answered."""
    real = FakeClock()
    clock = AwakeClock(real)
    before = clock.monotonic()
    clock.wait(real.advance, 0.5)
    assert clock.monotonic() == before + 0.5
    clock.wait(lambda seconds: real.advance(seconds + HOUR), 0.5)
    assert clock.monotonic() == before + 1.0
    assert clock.wall() == real.wall()
    clock.rest(2.0)
    assert clock.monotonic() == before + 3.0
    real.rest = lambda seconds: real.advance(seconds + HOUR)  # type: ignore[method-assign]  # asleep in it
    clock.rest(2.0)
    assert clock.monotonic() == before + 5.0


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_what_is_logged_after_a_step_is_acted_upon(tmp_path: Path, jump: float) -> None:
    """Set back, the clock makes new points look older than the sentinel itself; they are no history."""
    scene = Scene(tmp_path, FakeClock(T0), act=True)
    (scene.logdir / "a").mkdir()
    guard = Guard(scene.logdir / "a", wall=scene.clock.wall)
    log_and_tick(scene, 5, 1)
    scene.clock.step_wall(jump)
    scene.tick(0.5)
    for n in range(6, 10):
        scene.clock.advance(3.0)
        scene.log(curve([60], begin=n, start=scene.clock.now - 3.0 * n))
        scene.engine.tick()
    assert [row["verb"] for row in scene.journal.rows("SELECT verb FROM commands")] == ["checkpoint"]
    guard.finish()


def test_a_standstill_in_the_middle_of_work_costs_no_patience() -> None:
    """What is neither work nor a wait on purpose is no time; real work is, and so are small gaps."""
    real, busy = FakeClock(), [0.0]
    clock = AwakeClock(real, lambda: busy[0])
    before = clock.monotonic()

    def task() -> None:
        real.advance(2.0)
        real.advance(HOUR)
        assert clock.monotonic() < before + STANDSTILL, "noticed at the next look, in the middle of it"
        real.advance(HOUR)

    clock.work(task)
    assert clock.monotonic() < before + STANDSTILL

    def long_work() -> None:
        real.advance(HOUR)
        busy[0] += HOUR

    noticed = clock.monotonic()
    clock.work(long_work)
    assert clock.monotonic() == noticed + HOUR
    clock.work(lambda: real.advance(STANDSTILL - 1.0))
    assert clock.monotonic() == noticed + HOUR + STANDSTILL - 1.0
    real.advance(HOUR)
    assert clock.monotonic() == noticed + 2 * HOUR + STANDSTILL - 1.0, "outside of work nothing is known"


def test_a_process_that_is_stopped_in_the_middle_of_work_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real SIGSTOP, in a child that stops itself while it works and tells what its clock made of it."""
    monkeypatch.setattr("sentinel.clock.STANDSTILL", 0.2)
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        clock = AwakeClock(SystemClock())
        before = clock.monotonic()
        clock.work(lambda: os.kill(os.getpid(), signal.SIGSTOP))
        os.write(tell, b"%f" % (clock.monotonic() - before))
        os._exit(0)
    _, status = os.waitpid(child, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 1.0, "a second in which nobody could act")
    os.kill(child, signal.SIGCONT)
    os.waitpid(child, 0)
    assert float(os.read(told, 64)) < 0.5
    os.close(told)
    os.close(tell)
