"""The actors of a run in processes of their own, on this machine or on a Ray cluster.

The one fact to hold: an actor has at most one order to act on. It is asked again when its steps have been
received, so what comes is never older than one round, and a learner that falls behind slows its actors.

An actor that dies is started again with another seed, and counted. Ray is an extra: only this file knows it.
"""

# ruff: noqa: PLC0415  ray is an extra, and takes seconds to import: only whoever asks for it pays

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, Protocol

from trainer.acting import Actor, Chunk, Orders, Weights
from trainer.config import Config, ConfigError

MOST_DEATHS = 5
"""Of one actor, without a single chunk between them: then it is the environment, not chance."""

PARTING = 30.0
"""s that actors may take to finish an order and let their simulators go, before they are killed."""

Scores = tuple[list[float], list[int]]


class CrewLostError(RuntimeError):
    """An actor dies again and again before it has sent anything."""


class Crew(Protocol):
    """Actors, by number from 0 on."""

    restarts: int
    """Actors that died and were started again."""

    def ask(self, number: int, orders: Orders) -> None:
        """Have an actor act."""

    def next(self, within: float) -> tuple[int, Chunk | None] | None:
        """Whose steps have come, at most so many seconds from now; None for one that has died instead."""

    def evaluate(self, weights: Weights) -> Callable[[float], Scores | None]:
        """Have actor 0 evaluate; gives what waits so many seconds for the scores, None without them."""

    def close(self) -> None:
        """End all of them."""


class RayCrew:
    """Actors on Ray; `say` gets a line for each that dies.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at config.ray.
    """

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        self._ray = _connected(config)
        self._config, self._say = config, say
        self.restarts = 0
        self._held = self._ray.put(config)
        self._make = self._ray.remote(num_cpus=1, max_restarts=0)(Actor)
        self._lives = [0] * config.actors
        self._deaths = [0] * config.actors
        self._actors = [self._made(number) for number in range(config.actors)]
        self._pending: dict[Any, int] = {}

    def ask(self, number: int, orders: Orders) -> None:
        order = self._actors[number].act.remote(orders, self._config.actor_steps)
        self._pending[order] = number

    def next(self, within: float) -> tuple[int, Chunk | None] | None:
        done, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=within)
        if not done:
            return None
        number = self._pending.pop(done[0])
        try:
            chunk: Chunk = self._ray.get(done[0])
        except self._ray.exceptions.RayActorError as error:
            self._start_again(number, error)
            return number, None
        self._deaths[number] = 0
        return number, chunk

    def evaluate(self, weights: Weights) -> Callable[[float], Scores | None]:
        result = self._actors[0].evaluate.remote(weights)

        def wait(within: float) -> Scores | None:
            done, _ = self._ray.wait([result], timeout=within)
            try:
                scores: Scores | None = self._ray.get(result) if done else None
            except self._ray.exceptions.RayActorError:
                return [], []  # the order to act, which it also had, tells of its death
            return scores

        return wait

    def close(self) -> None:
        if self._config.env == "carla":
            ends = [actor.close.remote() for actor in self._actors]
            self._ray.wait(ends, num_returns=len(ends), timeout=PARTING)
        self._ray.shutdown()

    def _made(self, number: int) -> Any:
        return self._make.remote(self._held, number, self._lives[number])

    def _start_again(self, number: int, error: Exception) -> None:
        reason = _reason(error)
        self._deaths[number] += 1
        if self._deaths[number] > MOST_DEATHS:
            raise CrewLostError(
                f"actor {number} died {self._deaths[number]} times before it had sent anything: {reason}"
            ) from error
        self.restarts += 1
        self._lives[number] += 1
        self._say(f"actor {number} died and is started again: {reason}; what it had not sent is lost")
        self._actors[number] = self._made(number)


def _connected(config: Config) -> Any:
    os.environ.setdefault(
        "RAY_NUM_REDIS_GET_RETRIES", "1"
    )  # read at import: 20 tries last a quarter of an hour
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a training tells nobody that it runs
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "--actors needs Ray, which is not installed here; pip install 'training-sentinel[ray]', or leave "
            "--actors out: one process then acts and learns"
        ) from error
    local: dict[str, Any] = {"num_cpus": config.actors, "include_dashboard": False}
    try:
        ray.init(
            address=config.ray,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **(local if config.ray == "local" else {}),
        )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"--ray {config.ray}: no Ray cluster could be joined: {str(error).splitlines()[0]}; start one "
            "with `ray start --head`, or leave --ray out for actors on this machine"
        ) from error
    return ray


def _reason(error: Exception) -> str:
    """The sentence of Ray's report that says why: the first of its last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].split(". ")[0].rstrip(".") if lines else type(error).__name__
