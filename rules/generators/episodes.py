"""Healthy episodes: five ways in which lengths and rewards scatter and grow, without any value function.

Their axis is the number of the episode. Where a goal ends an episode, shorter is better: a rule that knows
lengths alone takes success for collapse.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import TypeAlias

from rules.generators.trace import BEGIN, SECONDS_PER_STEP, Point, Setting, Trace

LENGTH, REWARD = "train/episode_length", "train/episode_reward"

Draw: TypeAlias = Callable[[random.Random, float], tuple[float, float]]
"""Draws (length in steps, reward) of one episode, at a share of the run between 0 and 1."""


def episodes_steady(rng: random.Random) -> Draw:
    """Lengths and rewards that scatter around slow growth."""
    length, gain, spread = rng.uniform(50, 500), rng.uniform(1, 4), rng.uniform(0.15, 0.45)

    def draw(rng: random.Random, share: float) -> tuple[float, float]:
        steps = length * (1 + (gain - 1) * share) * math.exp(spread * rng.gauss(0, 1))
        return steps, steps * rng.uniform(0.7, 1.3)

    return draw


def episodes_exponential(rng: random.Random) -> Draw:
    """Lengths as if every step had the same risk of ending the episode: the widest scatter there is."""
    length, gain = rng.uniform(50, 500), rng.uniform(1, 4)

    def draw(rng: random.Random, share: float) -> tuple[float, float]:
        steps = 1 + rng.expovariate(1 / (length * (1 + (gain - 1) * share)))
        return steps, steps * rng.uniform(0.7, 1.3)

    return draw


def episodes_goal(rng: random.Random) -> Draw:
    """Episodes become shorter and richer, for the goal is reached sooner."""
    limit, best, spread = rng.uniform(200, 1000), rng.uniform(15, 60), rng.uniform(0.1, 0.3)

    def draw(rng: random.Random, share: float) -> tuple[float, float]:
        skilled = rng.random() < 0.95 * share / (share + 0.15)
        steps = best * math.exp(spread * rng.gauss(0, 1)) if skilled else limit
        return steps, 100 * skilled - 0.05 * steps

    return draw


def episodes_capped(rng: random.Random) -> Draw:
    """A time limit that more and more episodes reach; the others fall early."""
    limit, early = rng.uniform(300, 1000), rng.uniform(20, 100)

    def draw(rng: random.Random, share: float) -> tuple[float, float]:
        lasts = rng.random() < 0.1 + 0.8 * share
        steps = limit if lasts else min(limit, 1 + rng.expovariate(1 / early))
        return steps, steps * rng.uniform(0.8, 1.2)

    return draw


def episodes_beginner(rng: random.Random) -> Draw:
    """A stumble when the policy takes over from random actions, then growth far beyond the first episodes."""
    length, gain, over = rng.uniform(40, 150), rng.uniform(3, 10), rng.uniform(0.02, 0.05)

    def draw(rng: random.Random, share: float) -> tuple[float, float]:
        level = 1.0 if share < over else 0.15 + gain * min(1.0, (share - over) / 0.5)
        steps = length * level * math.exp(0.3 * rng.gauss(0, 1))
        return steps, steps * rng.uniform(0.7, 1.3)

    return draw


SHAPES: dict[str, Callable[[random.Random], Draw]] = {
    shape.__name__: shape
    for shape in (
        episodes_steady,
        episodes_exponential,
        episodes_goal,
        episodes_capped,
        episodes_beginner,
    )
}


def run(shape: Callable[[random.Random], Draw], rng: random.Random, setting: Setting) -> Trace:
    """Draw `setting.n` episodes; the cadence has no say, for each is logged when it ends."""
    draw = shape(rng)
    lengths: list[Point] = []
    rewards: list[Point] = []
    wall = BEGIN
    for number in range(setting.n):
        steps, reward = draw(rng, number / setting.n)
        steps = float(max(1, round(steps)))
        wall += steps * SECONDS_PER_STEP
        lengths.append((number, wall, steps))
        rewards.append((number, wall, reward))
    return Trace({LENGTH: lengths, REWARD: rewards}, points=setting.n)
