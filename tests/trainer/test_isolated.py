"""A world in a child process: the same world, and whatever ends it is a fault that can be survived."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from trainer.driving.env import DrivingEnv
from trainer.driving.isolated import BACK_OFF, Deadlines, Isolated
from trainer.driving.kinematic_world import KinematicWorld
from trainer.driving.world import Facts, RecoverableWorld, SimulatorFaultError

EMBEDDED = "trainer.driving.kinematic_world:KinematicWorld"
WORLDS = "tests.trainer.worlds"


def fragile(harm: str, **more: Any) -> Isolated:
    """A world whose first child is harmed and whose later ones are sound."""
    return Isolated(f"{WORLDS}:Fragile", lambda number: {"harm": "" if number else harm}, dt=0.1, **more)


@pytest.fixture(scope="module")
def twins() -> Any:
    """The embedded world here and in a child, each with a camera."""
    world = Isolated(EMBEDDED, lambda _: {"npcs": 6, "image_size": 48}, dt=0.1, image_size=48)
    yield world, KinematicWorld(npcs=6, image_size=48)
    world.close()


def same(a: Facts, b: Facts) -> bool:
    names = [name for name in Facts.__slots__ if name != "waypoints"]
    equal = all(getattr(a, name) == getattr(b, name) for name in names)
    return equal and np.array_equal(a.waypoints, b.waypoints)


def test_a_child_lives_the_same_life_bit_for_bit(twins: tuple[Isolated, KinematicWorld]) -> None:
    """Facts, frames and state of a world in a child are those of the world here."""
    far, near = twins
    assert isinstance(far, RecoverableWorld)
    assert same(far.reset(7), near.reset(7))
    for steer in np.linspace(-0.3, 0.3, 40).tolist():
        assert same(far.step(steer, 0.5), near.step(steer, 0.5))
        assert np.array_equal(far.frame(), near.frame())
    assert far.state_dict() == near.state_dict()
    assert (far.trouble, far.starts) == ("", 1)


def test_its_state_is_taken_over_with_the_frame(twins: tuple[Isolated, KinematicWorld]) -> None:
    """A restored child shows at once what its camera sees there."""
    far, near = twins
    near.reset(11)
    near.step(0.1, 1.0)
    far.load_state_dict(near.state_dict())
    assert np.array_equal(far.frame(), near.frame())
    assert same(far.step(0.0, 0.5), near.step(0.0, 0.5))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("hang", "no answer to step within 1 s"),
        ("abort", "was ended by SIGABRT"),
        ("fault", "the tick timed out"),
        ("bug", "KeyError: 'speed'"),
    ],
)
def test_whatever_ends_a_step_is_a_fault_and_the_next_reset_is_sound(
    harm: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Hung, aborted, refused by the simulator, or a bug: the child is gone and another takes its place."""
    world = fragile(harm, deadlines=Deadlines(step=1.0))
    world.reset(3)
    pid = world.pid
    assert pid is not None
    with pytest.raises(SimulatorFaultError, match=words):
        world.step(0.0, 0.0)
    assert not os.path.exists(f"/proc/{pid}")  # noqa: PTH110  # a process, not a file
    assert words in world.trouble
    with pytest.raises(SimulatorFaultError, match="away"):
        world.step(0.0, 0.0)
    here = KinematicWorld()
    assert same(world.reset(3), here.reset(3))
    assert same(world.step(0.1, 0.2), here.step(0.1, 0.2))
    assert world.starts == 2
    world.close()
    assert ("Traceback" in capfd.readouterr().err) == (harm == "bug"), "a bug shows where it is"


def test_a_killed_child_is_a_fault() -> None:
    """kill -9 from outside; a checkpoint taken meanwhile says that the state is not known."""
    world = fragile("")
    world.reset(0)
    assert world.pid is not None
    os.kill(world.pid, signal.SIGKILL)
    assert world.state_dict() is None
    with pytest.raises(SimulatorFaultError, match="SIGKILL"):
        world.step(0.0, 0.0)
    world.close()


@pytest.mark.parametrize("harm", ["never starts", "not there"])
def test_a_start_that_fails_is_tried_again_by_a_fresh_child(harm: str) -> None:
    """`ready` says no, why, and goes on with the next child when it is called again."""
    world = fragile(harm, deadlines=Deadlines(start=1.0))
    assert not world.ready(0.05)
    assert world.ready(20.0)
    assert world.starts == 2
    world.close()


def test_a_simulator_that_stays_away_is_given_up_with_the_reason() -> None:
    """Where nobody calls `ready`, a reset waits for its patience, and then says what is wrong."""
    world = Isolated(f"{WORLDS}:Fragile", lambda _: {"harm": "not there"}, dt=0.1, patience=1.5)
    with pytest.raises(SimulatorFaultError, match=r"stayed away for 1\.5 s: nothing listens there"):
        world.reset(0)
    world.close()


def test_what_does_not_exist_is_not_tried_again() -> None:
    """A ValueError is the caller's."""
    world = Isolated(f"{WORLDS}:Fragile", lambda _: {"harm": "no such town"}, dt=0.1)
    with pytest.raises(ValueError, match="Atlantis"):
        world.reset(0)
    assert (world.starts, world.pid) == (1, None)


def test_between_tries_there_is_a_growing_pause() -> None:
    """No child is started before the pause is over; the clock here is the test's."""
    clock = [0.0]
    started: list[float] = []

    def arguments(_number: int) -> dict[str, Any]:
        started.append(clock[0])
        return {"harm": "not there"}

    def pause(seconds: float) -> None:
        clock[0] += seconds

    world = Isolated(f"{WORLDS}:Fragile", arguments, dt=0.1, now=lambda: clock[0], pause=pause)
    while len(started) < 4:
        assert not world.ready(0.0 if world.pid else 0.25)
    world.close()
    assert np.diff(started).tolist() == pytest.approx(list(BACK_OFF[:3]))


def test_the_child_dies_with_its_parent() -> None:
    """A parent that is killed cannot tidy up; the kernel ends its child."""
    script = (
        "import os, signal; from trainer.driving.isolated import Isolated;"
        f"world = Isolated('{EMBEDDED}', lambda _: {{}}, dt=0.1); world.reset(0);"
        "print(world.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    parent = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    pid = int(parent.stdout)
    deadline = time.monotonic() + 10
    while _alive(pid):
        assert time.monotonic() < deadline, "an orphan is left"
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123  # a process, not a file
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_child_imports_no_torch() -> None:
    """A simulator's process is small: its start costs tenths of a second."""
    world = Isolated(f"{WORLDS}:names_of_modules", lambda _: {}, dt=0.1)
    with pytest.raises(ValueError, match="modules") as caught:
        world.reset(0)
    assert "torch" not in str(caught.value).split()


def test_a_fault_truncates_the_episode_and_says_so() -> None:
    """Never terminal, nothing earned, the last observation again; the next episode is a sound one."""
    world = fragile("abort", image_size=None)
    env = DrivingEnv(world)
    first, _ = env.reset(seed=5)
    seen, reward, terminated, truncated, info = env.step(np.zeros(2, np.float32))
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert "SIGABRT" in info["simulator_fault"]
    assert np.array_equal(np.asarray(seen), np.asarray(first))
    env.reset()
    assert "simulator_fault" not in env.step(np.zeros(2, np.float32))[4]
    env.close()
