"""Actors send what they saw, whole and in order; the learner counts it, learns from it and obeys."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainer.test_loop import SMALL
from trainer import checkpoint as checkpoints
from trainer import config, envs
from trainer.__main__ import main
from trainer.acting import Actor, Chunk, Orders, Weights, policy_of
from trainer.config import Config, ConfigError
from trainer.crew import Scores
from trainer.driving.env import DrivingEnv
from trainer.driving.isolated import Isolated
from trainer.learner import Learner
from trainer.td3 import TD3

ROOT = Path(__file__).parents[2]
ACTING = SMALL | {"actors": 3, "actor_steps": 7, "max_timesteps": 120}


class Here:
    """A crew in this process: an order is carried out when its turn comes; some die instead of answering."""

    def __init__(self, asked: Config, deaths: tuple[int, ...] = ()) -> None:
        self.asked, self.deaths, self.restarts = asked, list(deaths), 0
        self.actors = [Actor(asked, number) for number in range(asked.actors)]
        self.orders: list[tuple[int, Orders]] = []
        self.rounds = 0
        self.sent: list[tuple[int, Chunk]] = []

    def ask(self, number: int, orders: Orders) -> None:
        assert number not in [busy for busy, _ in self.orders], "an actor has one order at a time"
        self.orders.append((number, orders))

    def next(self, within: float) -> tuple[int, Chunk | None] | None:
        self.rounds += 1
        number, orders = self.orders.pop(0)
        if self.rounds in self.deaths:
            self.restarts += 1
            self.actors[number] = Actor(self.asked, number, self.restarts)
            return number, None
        chunk = self.actors[number].act(orders, self.asked.actor_steps)
        self.sent.append((number, chunk))
        return number, chunk

    def evaluate(self, weights: Weights) -> Callable[[float], Scores | None]:
        answers = iter([None, None, self.actors[0].evaluate(weights)])
        return lambda _within: next(answers)

    def close(self) -> None:
        self.orders.clear()
        for actor in self.actors:
            actor.close()


class Taught(Learner):
    """A learner with a crew here, to whom letters arrive at given steps."""

    def __init__(
        self, run: Path, *, deaths: tuple[int, ...] = (), letters: dict[int, Any] | None = None, **more: Any
    ) -> None:
        asked = config.build(ACTING | {"logdir": str(run)} | more)
        self.letters = dict(letters or {})
        self.said: list[str] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.here = Here(asked, deaths)
        super().__init__(asked, crew=self.here, say=self.said.append)
        log = self.metrics.log
        self.metrics.log = lambda scalars, step: (  # type: ignore[method-assign]  # watched, not replaced
            self.logged.append((step, dict(scalars))),
            log(scalars, step),
        )

    def _obey(self) -> bool:
        if self.letters and self.step >= min(self.letters):
            letter = self.letters.pop(min(self.letters))
            now = time.time()
            content = {"id": 1, "to_checkpoint": None, "to_step": None, "set": {}, "reinit": []}
            content |= {"if_attempt": None, "issued_at": now, "expires_at": now + 60, "reason": "test"}
            path = self.run_dir / "control" / "commands" / "000001.json"
            path.write_text(json.dumps(content | letter), encoding="utf-8")
            signal.raise_signal(signal.SIGUSR2)
        return super()._obey()


def transitions(learner: Learner) -> list[tuple[bytes, bytes, float, bytes]]:
    """What can be drawn, in the order in which it was stored."""
    rows = learner.replay.rows
    return [
        (row["vector"].tobytes(), row["action"].tobytes(), float(row["reward"]), after["vector"].tobytes())
        for row, after in itertools.pairwise(rows)
        if row["drawable"]
    ]


def happened(sent: list[tuple[int, Chunk]]) -> list[tuple[bytes, bytes, float, bytes]]:
    found = []
    for _, chunk in sent:
        for stretch in chunk.stretches:
            before = stretch.start
            for step in stretch.steps:
                reward = float(np.float32(step.reward))
                found.append(
                    (
                        before["vector"].tobytes(),
                        step.action.tobytes(),
                        reward,
                        step.after["vector"].tobytes(),
                    )
                )
                before = step.after
    return found


def test_all_that_actors_send_is_stored_counted_and_learnt_from(tmp_path: Path) -> None:
    """A step is one transition of one actor; each chunk's rows belong together; one update a step."""
    learner = Taught(tmp_path / "run")
    assert learner.run() == "finished"
    assert learner.step == 120
    assert transitions(learner) == happened(learner.here.sent)[:120]
    assert learner.agent.updates == 120 - 30
    assert learner.here.restarts == 0
    lags = [scalars["actors/policy_lag"] for _, scalars in learner.logged if "actors/policy_lag" in scalars]
    assert 0 < max(lags) < 3 * 3 * 7, "steps are at most a round of all actors old"
    assert not checkpoints.verify(tmp_path / "run" / "checkpoints" / "00-00000120")


def test_episodes_of_actors_are_each_summed_up_by_themselves(tmp_path: Path) -> None:
    """Chunks of several actors come in turn; every episode's length and return are its own."""
    learner = Taught(tmp_path / "run", max_timesteps=300, actor_steps=5)
    learner.run()
    told = [(s["train/episode_length"], s["train/episode_reward"]) for _, s in learner.logged if
            "train/episode_length" in s]  # fmt: skip
    open_: dict[int, list[float]] = {}
    expected = []
    left = 300
    for number, chunk in learner.here.sent:
        for stretch in chunk.stretches:
            open_[number] = [] if stretch.begins else open_[number]
            for step in stretch.steps[:left]:
                open_[number].append(step.reward)
                if step.ended:
                    expected.append((len(open_[number]), sum(open_[number])))
            left = max(0, left - len(stretch.steps))
    assert len(told) > 3
    assert told == expected


def test_updates_may_be_fewer_than_steps(tmp_path: Path) -> None:
    """--steps_per_update 4: the ratio is fixed, however fast the actors are."""
    learner = Taught(tmp_path / "run", steps_per_update=4)
    learner.run()
    assert learner.agent.updates == len([step for step in range(31, 121) if step % 4 == 0])


def test_an_actor_that_dies_is_counted_and_what_it_had_not_sent_is_lost(tmp_path: Path) -> None:
    """The run goes on to its last step, with a new episode there."""
    learner = Taught(tmp_path / "run", deaths=(4, 9))
    learner.run()
    assert learner.step == 120
    assert transitions(learner) == happened(learner.here.sent)[:120]
    assert [s["actors/restarts"] for _, s in learner.logged if set(s) == {"actors/restarts"}] == [1, 2]


def test_a_rollback_drops_what_is_under_way(tmp_path: Path) -> None:
    """Chunks that were asked for before it are not stored behind it, and every actor begins anew."""
    letter = {"verb": "rollback", "to_checkpoint": "00-00000040", "set": {"tau": 0.1}}
    learner = Taught(tmp_path / "run", letters={64: letter})
    assert learner.run() == "finished"
    receipt = json.loads((tmp_path / "run" / "control" / "receipts" / "000001.json").read_bytes())
    assert (receipt["status"], receipt["checkpoint_step"]) == ("done", 40)
    assert learner.agent.parameters.tau == 0.1
    stored, sent = transitions(learner), happened(learner.here.sent)
    assert stored[:40] == sent[:40]
    behind = [n for n, one in enumerate(sent) if one == stored[40]]
    assert behind == [n for n in behind if n > 64 + 3 * 7 - 8], "not what was in flight"
    assert len(stored) == 120


def test_a_resume_goes_on_with_everything_but_what_was_under_way(tmp_path: Path) -> None:
    """Networks, optimisers, counters and all rows are the checkpoint's; one process can go on from it too."""
    run = tmp_path / "run"
    first = Taught(run, max_timesteps=80)
    first.run()
    second = Taught(run, resume="latest", max_timesteps=120)
    assert checkpoints.digest(second.agent.state_dict()) == checkpoints.digest(first.agent.state_dict())
    assert second.run() == "finished"
    assert transitions(second)[:80] == transitions(first)
    assert len(transitions(second)) == 120
    assert main(["--logdir", str(run), "--resume", "latest", "--actors", "0", "--max_timesteps", "140"]) == 0


def test_actor_0_evaluates_while_the_learner_obeys(tmp_path: Path) -> None:
    """The scores stand at the step whose weights were tried; a command does not wait for them."""
    learner = Taught(tmp_path / "run", eval_freq=50, eval_episodes=2, letters={50: {"verb": "checkpoint"}})
    learner.run()
    assert [step for step, s in learner.logged if "eval/mean_reward" in s] == [50, 100]
    receipt = json.loads((tmp_path / "run" / "control" / "receipts" / "000001.json").read_bytes())
    assert receipt["checkpoint_step"] == 50


def test_an_actor_plays_the_policy_that_it_was_sent(tmp_path: Path) -> None:
    """Without noise its actions are the agent's own; two actors see different episodes."""
    asked = config.build(ACTING | {"expl_noise": 0.0})
    actors = [Actor(asked, number) for number in (0, 1)]
    torch.manual_seed(9)
    agent = TD3(actors[0].policy.shape, asked.hyperparameters(), torch.device("cpu"))
    orders = Orders(policy_of(agent), 5, at_random=False, fresh=False)
    chunks = [actor.act(orders, 6) for actor in actors]
    for chunk in chunks:
        assert chunk.updates == 5
        (stretch,) = chunk.stretches
        action = agent.act({"vector": torch.as_tensor(stretch.start["vector"])[None]}).numpy()
        assert np.array_equal(action, stretch.steps[0].action)
    assert not np.array_equal(chunks[0].stretches[0].start["vector"], chunks[1].stretches[0].start["vector"])
    again = actors[0].act(orders, 3)
    assert [stretch.begins for stretch in again.stretches] == [False]
    assert np.array_equal(
        again.stretches[0].start["vector"], chunks[0].stretches[0].steps[-1].after["vector"]
    )


def test_faults_of_an_actors_simulator_are_told_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its step never happened, a new episode begins, and the learner's account has the fault."""

    def simulated(asked: Config, number: int = 0) -> envs.Env:
        def arguments(tries: int) -> dict[str, Any]:
            return {"dies_at": 10 if (number, tries) == (1, 0) else 0}

        return DrivingEnv(Isolated("tests.trainer.worlds:Opaque", arguments, dt=0.1, patience=0.0), "state")

    monkeypatch.setattr(Config, "make_env", simulated)
    learner = Taught(tmp_path / "run", actors=2, max_timesteps=60)
    assert learner.run() == "finished"
    assert learner.simulator is not None
    assert (learner.simulator.faults, learner.simulator.restarts) == (1, 1)
    assert transitions(learner) == happened(learner.here.sent)[:60]
    assert any(s.get("simulator/faults") == 1 for _, s in learner.logged)


def test_simulators_that_stay_away_are_given_up_after_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 75 follows from the outcome; the line says what is waited for."""

    def away(asked: Config, number: int = 0) -> envs.Env:
        world = Isolated(
            "tests.trainer.worlds:Fragile", lambda _: {"harm": "not there"}, dt=0.1, patience=0.0
        )
        return DrivingEnv(world, "state")

    monkeypatch.setattr(Config, "make_env", away)
    learner = Taught(tmp_path / "run", actors=1, carla_patience=3.0)
    assert learner.run() == "failed"
    assert any("waiting for the simulator" in line for line in learner.said)
    assert any("given up" in line for line in learner.said)


def test_without_ray_it_says_how_to_get_it(tmp_path: Path) -> None:
    """Nothing is begun, not even the run's folder."""
    code = "import sys; sys.modules['ray'] = None; from trainer.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--actors", "2", "--logdir", str(tmp_path / "run")]
    ended = subprocess.run(command, text=True, capture_output=True, check=False, cwd=ROOT)
    assert ended.returncode == 2
    assert "pip install 'training-sentinel[ray]'" in ended.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_on_ray_a_killed_actor_is_started_again_and_a_resume_goes_on(tmp_path: Path) -> None:
    """The real thing on this machine: two actor processes, one of them killed in the middle."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")
    run = tmp_path / "run"
    small = [f"--{name}={value}" for name, value in SMALL.items() if name != "max_timesteps"]
    arguments = [*small, "--actors", "2", "--actor_steps", "10", "--logdir", str(run)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "trainer", *arguments, "--max_timesteps", "1000000"]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, env=environment, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            killed = False
            for line in process.stdout:
                if (found := re.match(r"actor 1 acts: .*process (\d+)", line)) is not None:
                    if killed:
                        break
                    os.kill(int(found[1]), signal.SIGKILL)
                elif line.startswith("actor 1 died and is started again"):
                    killed = True
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
            assert process.wait(60) == 143
            assert killed
        finally:
            process.kill()
    step = int(checkpoints.names(run / "checkpoints")[-1].split("-")[1])
    command = [sys.executable, "-m", "trainer", "--logdir", str(run), "--resume", "latest"]
    command += ["--max_timesteps", str(step + 50)]
    resumed = subprocess.run(command, text=True, capture_output=True, env=environment, cwd=ROOT, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert f"finished at step {step + 50}" in resumed.stdout


def test_a_crew_has_at_least_nobody() -> None:
    """Numbers that make no sense are refused, all in one go."""
    with pytest.raises(ConfigError, match=r"--actor_steps must be at least 1.*--actors must be not negative"):
        config.build({"actors": -1, "actor_steps": 0})
