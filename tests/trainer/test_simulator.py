"""A simulator that fails under a training: what is counted, what is learnt, how long it is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.test_loop import Letter, Scripted
from trainer import checkpoint as checkpoints
from trainer import envs
from trainer.driving.env import DrivingEnv
from trainer.driving.isolated import Isolated
from trainer.simulator import Simulator


class Watched(DrivingEnv):
    """Remembers what really happened: observation, reward, the one after, and whether it ended there."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.happened: list[tuple[Any, float, Any, bool]] = []
        self._last: Any = None

    def reset(self, **more: Any) -> Any:
        self._last, info = super().reset(**more)
        return self._last, info

    def step(self, action: Any) -> Any:
        result = super().step(action)
        if "simulator_fault" not in result[4]:
            self.happened.append((self._last, result[1], result[0], result[2]))
        self._last = result[0]
        return result


class Simulated(Scripted):
    """A trainer whose world is a simulator in a child; its children die in the steps given, one each."""

    def __init__(self, run: Path, deaths: list[Any], letters: Any = (), **more: Any) -> None:
        self.deaths = deaths
        self.logged: list[tuple[int, dict[str, float]]] = []
        super().__init__(run, letters, **{"carla_patience": 30.0} | more)
        log = self.metrics.log
        self.metrics.log = lambda scalars, step: (  # type: ignore[method-assign]  # watched, not replaced
            self.logged.append((step, dict(scalars))),
            log(scalars, step),
        )

    def _make_env(self) -> envs.Env:
        def arguments(number: int) -> dict[str, Any]:
            death = self.deaths[min(number, len(self.deaths) - 1)]
            return {"harm": "not there"} if death == "away" else {"dies_at": death}

        world = Isolated("tests.trainer.worlds:Opaque", arguments, dt=0.1, patience=0.0)
        return Watched(world, "state")

    def check_replay(self) -> None:
        """What can be drawn is what happened, all of it, in order, and nothing else."""
        env = self.env
        assert isinstance(env, Watched)
        rows = self.replay.rows[: self.replay.written + 1]
        drawable = np.flatnonzero(rows["drawable"][:-1])
        assert len(drawable) == len(env.happened) == self.step
        for row, (before, reward, after, ended) in zip(drawable, env.happened, strict=True):
            assert np.array_equal(rows["vector"][row], before)
            assert np.array_equal(rows["vector"][row + 1], after)
            assert rows["reward"][row] == np.float32(reward)
            assert rows["not_done"][row] == (not ended)


def test_a_fault_is_left_out_of_the_replay_and_training_goes_on(tmp_path: Path) -> None:
    """Two children die in mid-episode; the run makes all its steps, and each is one that happened."""
    trainer = Simulated(tmp_path / "run", [20, 33, 0], max_timesteps=80)
    assert trainer.run() == "finished"
    trainer.check_replay()
    assert trainer.simulator is not None
    assert (trainer.simulator.faults, trainer.simulator.restarts) == (2, 2)
    faults = [(step, s["simulator/faults"]) for step, s in trainer.logged if "simulator/faults" in s]
    assert (19, 1) in faults
    assert (51, 2) in faults
    assert faults[-1] == (80, 2)
    assert any(s.get("simulator/step_seconds", 0) > 0 for _, s in trainer.logged)
    lengths = [s["train/episode_length"] for _, s in trainer.logged if "train/episode_length" in s]
    assert sum(lengths) < 80 - 19, "an episode that was cut short is no measure of how well it drives"
    assert any("SIGABRT" in line for line in trainer.said)


def test_an_evaluation_takes_the_one_world_and_the_training_episode_ends_there(tmp_path: Path) -> None:
    """Nothing of the evaluation is learnt from; one that a fault cuts short gives no result."""
    trainer = Simulated(tmp_path / "run", [0], eval_freq=40, eval_episodes=1)
    trainer.run()
    trainer.check_replay()
    assert [step for step, s in trainer.logged if "eval/mean_reward" in s] == [40, 80]
    broken = Simulated(tmp_path / "broken", [43, 0], eval_freq=40, eval_episodes=1)
    broken.run()
    broken.check_replay()
    assert [step for step, s in broken.logged if "eval/mean_reward" in s] == [80]


@pytest.mark.parametrize("verb", ["checkpoint", "terminate", "rollback"])
def test_commands_are_obeyed_while_the_simulator_is_away(tmp_path: Path, verb: str) -> None:
    """The loop beats and polls; what is saved then verifies, and goes on with a new episode."""
    run = tmp_path / "run"
    letter: Letter = {"verb": verb} | ({"to_checkpoint": "00-00000010"} if verb == "rollback" else {})
    trainer = Simulated(run, [45, "away", 0], [(44, "start", letter)])
    outcome = trainer.run()
    assert outcome == ("terminated" if verb == "terminate" else "finished")
    receipt = trainer.receipt()
    assert (receipt["status"], receipt["checkpoint_step"]) == ("done", 10 if verb == "rollback" else 44)
    assert not checkpoints.verify(run / "checkpoints" / receipt["checkpoint"])
    if verb == "checkpoint":
        trainer.check_replay()
    resumed = Simulated(run, [0], resume="latest", max_timesteps=100)
    assert resumed.run() == "finished"
    assert resumed.step == 100
    rows = resumed.replay.rows[: resumed.replay.written]
    assert rows["drawable"].sum() == 100


def test_a_simulator_that_stays_away_is_given_up_after_a_checkpoint(tmp_path: Path) -> None:
    """With a line on what it waits for; the checkpoint holds what was learnt until then."""
    run = tmp_path / "run"
    trainer = Simulated(run, [45, "away"], carla_patience=3.0)
    assert trainer.run() == "failed"
    assert checkpoints.names(run / "checkpoints")[-1] == "00-00000044"
    assert not checkpoints.verify(run / "checkpoints" / "00-00000044")
    assert any(
        "waiting for the simulator" in line and "nothing listens there" in line for line in trainer.said
    )
    assert any("given up" in line and "--resume latest" in line for line in trainer.said)
    assert trainer.logged[-1][1]["simulator/away_seconds"] >= 2.0


def test_a_first_start_that_takes_long_is_waited_for(tmp_path: Path) -> None:
    """The trainer may be started before its simulator; that is no restart, and no fault."""
    trainer = Simulated(tmp_path / "run", ["away", "away", 0], max_timesteps=40)
    assert trainer.run() == "finished"
    trainer.check_replay()
    assert trainer.simulator is not None
    assert (trainer.simulator.faults, trainer.simulator.restarts) == (0, 0)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_the_time_away_counts_from_the_last_step_and_is_told_every_ten_seconds() -> None:
    """A restart that gives no step is no return: patience runs on through it."""
    clock, said = Clock(), list[str]()
    account = Simulator(60.0, said.append, clock)
    account.stepped(0.5)
    account.stepped(0.25)
    account.failed("the tick timed out")
    assert account.scalars() == {
        "simulator/faults": 1,
        "simulator/restarts": 0,
        "simulator/away_seconds": 0.0,
        "simulator/step_seconds": 0.375,
    }
    told = []
    for second in range(1, 31):
        clock.time = second
        told += [second] if account.waits("refused") else []
    assert told == [2, 12, 22]
    account.is_back()
    account.failed("again")
    clock.time = 61.0
    assert account.given_up
    assert account.scalars()["simulator/away_seconds"] == 61.0
    account.stepped(0.1)
    assert not account.given_up
    assert account.away == 0.0
