"""An actor: an environment of its own, a policy that it is sent, and the steps that it sends back.

The one fact to hold: an actor keeps its episode between two calls and nothing else that matters. What it has
not sent is lost with it, and lost without harm: the learner counts what it has received.

Why it exists: a simulator that takes 0.1 s a step keeps a learner waiting; many of them do not. This file
knows nothing of Ray: trainer/crew.py puts actors into other processes, a test calls one as it is.
"""

from __future__ import annotations

import os
import random
import socket
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer import envs
from trainer.config import Config
from trainer.driving.world import SimulatorFaultError
from trainer.envs import Seen
from trainer.ranks import SEEDS_APART
from trainer.td3 import TD3

Weights = dict[str, dict[str, torch.Tensor]]
"""State dicts of the policy, by the names of its parts in TD3: `actor_encoder` and `actor`."""

EVALUATION_SEEDS = 10_000
"""Above the run's seed: where the seeds of evaluations begin."""

TOLD = ("rewards", "collisions", "lane_invasions")
"""What of an environment's info is sent."""

WAIT = 0.5
"""s that an actor whose simulator is away looks for it before it answers."""


@dataclass(frozen=True)
class Step:
    """One environment step: `action` float32 [action_dim] in [-1, 1], `info` what episodes sum up."""

    action: NDArray[np.float32]
    reward: float
    after: Seen
    terminated: bool
    ended: bool
    info: dict[str, Any]


@dataclass
class Stretch:
    """Steps of one episode in a row, from `start` on, which is its first observation where it `begins`."""

    start: Seen
    begins: bool
    steps: list[Step] = field(default_factory=list)


@dataclass
class Chunk:
    """What an actor sends at once.

    Attributes:
        updates: of the weights that it acted with; None with random actions.
        seconds: that its environment took. faults: of its simulator, in words. restarts: times that the
        simulator came back. trouble: why there are no steps, where its simulator is away.
        place: host and process of the actor.
    """

    stretches: list[Stretch] = field(default_factory=list)
    updates: int | None = None
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    restarts: int = 0
    trouble: str = ""
    place: str = ""


@dataclass(frozen=True)
class Orders:
    """How to act: `weights` of so many `updates`, or at random; `fresh`: in a new episode."""

    weights: Weights
    updates: int
    at_random: bool
    fresh: bool


def policy_of(agent: TD3) -> Weights:
    """What an actor needs of the agent, on the CPU; a copy."""
    parts = {"actor_encoder": agent.actor_encoder, "actor": agent.actor}
    return {
        part: {name: tensor.detach().to("cpu", copy=True) for name, tensor in net.state_dict().items()}
        for part, net in parts.items()
    }


class Actor:
    """One actor of a run.

    Args:
        config: of the run. number: of this actor, from 0 on: its seed and its simulator's ports follow from
        it. life: how often it has been started before; another life has other episodes.
    """

    def __init__(self, config: Config, number: int, life: int = 0) -> None:
        torch.set_num_threads(1)
        self.config = config
        seed = config.seed + SEEDS_APART * (number + 1) + life
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % (1 << 32))  # of environments that draw from the global generators
        self.rng = np.random.default_rng(seed)
        self.env = config.make_env(number)
        self.env.action_space.seed(seed)
        self.has_simulator = envs.has_simulator(self.env)
        self.eval_env = envs.beside(self.env) if self.has_simulator else config.make_env(number)
        seen = envs.unseen(self.env)
        vector_dim, frames, size = envs.dimensions(seen)
        action_dim = self.env.action_space.shape[0]  # type: ignore[index]  # a Box, envs.make has checked
        shape = config.shape(vector_dim, action_dim, frames, size)
        self.policy = TD3(shape, config.hyperparameters(), torch.device("cpu"))
        self._seed: int | None = seed
        self._seen: Seen | None = None  # None: no episode is under way
        self._failed = False

    def act(self, orders: Orders, steps: int) -> Chunk:
        """Make `steps` steps, fewer where the simulator is away."""
        self._take(orders.weights)
        chunk = Chunk(place=f"{socket.gethostname()}, process {os.getpid()}")
        chunk.updates = None if orders.at_random else orders.updates
        if orders.fresh:
            self._seen = None
        stretch: Stretch | None = None
        for _ in range(steps):
            if self._seen is None:
                stretch = None
                if not self._begin(chunk):
                    break
                stretch = self._stretch(chunk, begins=True)
            stretch = stretch or self._stretch(chunk, begins=False)
            self._step(chunk, stretch, at_random=orders.at_random)
        return chunk

    def evaluate(self, weights: Weights) -> tuple[list[float], list[int]]:
        """Returns and lengths of the run's evaluation episodes, without exploration noise; a fault: none.

        Where there is one simulator, the episode under way is cut short for them.
        """
        self._take(weights)
        if self.has_simulator:
            self._seen = None
            if not envs.ready(self.env, WAIT):
                return [], []
        try:
            episodes = [self._evaluate(number) for number in range(self.config.eval_episodes)]
        except SimulatorFaultError:
            return [], []
        return [total for total, _ in episodes], [length for _, length in episodes]

    def close(self) -> None:
        """Let the simulator go, if there is one."""
        self.env.close()

    def _evaluate(self, number: int) -> tuple[float, int]:
        seen = envs.see(self.eval_env.reset(seed=self.config.seed + EVALUATION_SEEDS + number)[0])
        total, length, ended = 0.0, 0, False
        while not ended:
            action = envs.to_env(self._policy_action(seen), self.eval_env.action_space)
            after, reward, terminated, truncated, info = self.eval_env.step(action)
            if "simulator_fault" in info:
                raise SimulatorFaultError(info["simulator_fault"])
            seen, total, length = envs.see(after), total + float(reward), length + 1
            ended = bool(terminated or truncated)
        return total, length

    def _take(self, weights: Weights) -> None:
        for part, state in weights.items():
            getattr(self.policy, part).load_state_dict(state)

    def _stretch(self, chunk: Chunk, *, begins: bool) -> Stretch:
        assert self._seen is not None
        chunk.stretches.append(Stretch(self._seen, begins))
        return chunk.stretches[-1]

    def _begin(self, chunk: Chunk) -> bool:
        """Begin an episode; False, and why, where the simulator is away."""
        if self.has_simulator and not envs.ready(self.env, WAIT):
            chunk.trouble = envs.trouble(self.env)
            return False
        try:
            self._seen = envs.see(self.env.reset(seed=self._seed)[0])
        except SimulatorFaultError as fault:
            self._suffer(chunk, str(fault))
            return False
        self._seed = None
        chunk.restarts += self._failed
        self._failed = False
        return True

    def _step(self, chunk: Chunk, stretch: Stretch, *, at_random: bool) -> None:
        assert self._seen is not None
        action = self._random_action() if at_random else self._explore(self._seen)
        began = time.perf_counter()
        after, reward, terminated, truncated, info = self.env.step(envs.to_env(action, self.env.action_space))
        chunk.seconds += time.perf_counter() - began
        if "simulator_fault" in info:
            self._suffer(chunk, info["simulator_fault"])
            return
        ended = bool(terminated or truncated)
        told: dict[str, Any] = {name: info[name] for name in TOLD if name in info}
        stretch.steps.append(Step(action, float(reward), envs.see(after), bool(terminated), ended, told))
        self._seen = None if ended else envs.see(after)

    def _suffer(self, chunk: Chunk, reason: str) -> None:
        chunk.faults.append(reason)
        self._seen, self._failed = None, True

    def _random_action(self) -> NDArray[np.float32]:
        action: NDArray[np.float32] = self.env.action_space.sample()
        return envs.from_env(action, self.env.action_space)

    def _explore(self, seen: Seen) -> NDArray[np.float32]:
        action = self._policy_action(seen)
        noise = self.rng.normal(0.0, self.config.expl_noise, size=action.shape)
        noisy: NDArray[np.float32] = np.clip(action + noise, -1.0, 1.0).astype(np.float32)
        return noisy

    def _policy_action(self, seen: Seen) -> NDArray[np.float32]:
        observation = {name: torch.as_tensor(value)[None] for name, value in seen.items()}
        action: NDArray[np.float32] = self.policy.act(observation).numpy()
        return action
