"""Healthy TD3 and DDPG runs: nine shapes that a value curve takes while nothing is wrong.

The actor's Q and the critics' are drawn together: what sets sick runs apart is a relation between the two, so
series drawn apart would say nothing. Levels are functions of the step, noise comes with the point. The shapes
imitate published learning curves; they are no recordings.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import TypeAlias

from rules.generators.trace import Clock, Point, Series, Setting, Trace, autoregressive, clock, student

Level: TypeAlias = Callable[[int], float]
"""The critics' Q at an environment step, without noise."""

Shape: TypeAlias = Callable[[random.Random, Sequence[int]], tuple[list[float], list[float]]]
"""Draws (level of the critics' Q, lead of the actor over it as a share) at the given steps."""


def cheetah(rng: random.Random, steps: Sequence[int]) -> tuple[list[float], list[float]]:
    """Saturating growth to 500-5000, as HalfCheetah has."""
    top, scale = rng.uniform(500, 5000), rng.uniform(20e3, 120e3)
    return [top * -math.expm1(-step / scale) for step in steps], _lead(rng, steps, 0.05, 0.25)


def hopper(rng: random.Random, steps: Sequence[int]) -> tuple[list[float], list[float]]:
    """150-400 with dips to a half and back, as Hopper and Walker have."""
    top, scale = rng.uniform(150, 400), rng.uniform(5e3, 30e3)
    dips = [(rng.uniform(0, steps[-1]), rng.uniform(2e3, 15e3), rng.uniform(0.2, 0.6)) for _ in range(6)]
    values = [
        top
        * -math.expm1(-step / scale)
        * (1 - max(d * math.exp(-(((step - at) / w) ** 2)) for at, w, d in dips))
        for step in steps
    ]
    return values, _lead(rng, steps, 0.05, 0.3)


def negative(rng: random.Random, steps: Sequence[int]) -> tuple[list[float], list[float]]:
    """0 down to -200, then up to -20: costs, as Pendulum and Reacher have."""
    low, high, scale = rng.uniform(-250, -150), rng.uniform(-30, -10), rng.uniform(3e3, 20e3)
    values = [
        low * -math.expm1(-step / scale) + (high - low) * -math.expm1(-((step / (6 * scale)) ** 2))
        for step in steps
    ]
    return values, _lead(rng, steps, 0.02, 0.15)


def sparse(rng: random.Random, steps: Sequence[int]) -> tuple[list[float], list[float]]:
    """Flat near 0, then growth that is meant: a goal was found, and its value spreads."""
    top, at = rng.uniform(5, 60), rng.uniform(0.2, 0.7) * steps[-1]
    width = max(rng.uniform(1.5e3, 10e3), 0.01 * steps[-1])
    return [top / (1 + math.exp(-_within(step - at, width))) for step in steps], _lead(rng, steps, 0.02, 0.2)


def bursty(rng: random.Random, steps: Sequence[int]) -> tuple[list[float], list[float]]:
    """A plateau at 20-200 from which actor and critics jump together, 1.5 to 3 times for 1 to 5 points."""
    level, rise = rng.uniform(20, 200), rng.uniform(2e3, 20e3)
    values = [level * -math.expm1(-step / rise) for step in steps]
    index = 0
    while index < len(values):
        index += 1 + int(rng.expovariate(1 / 80))
        times = rng.uniform(1.5, 3)
        for place in range(index, min(index + rng.randint(1, 5), len(values))):
            values[place] *= times
    return values, [lead + 0.03 * _clipped(student(rng), 6) for lead in _lead(rng, steps, 0.02, 0.2)]


def dqn(rng: random.Random, steps: Sequence[int]) -> tuple[list[float], list[float]]:
    """A saw-tooth: each copy of the target network lifts the values, which then settle."""
    top, scale, period = rng.uniform(10, 40), rng.uniform(20e3, 80e3), rng.choice((1e3, 2.5e3, 1e4))
    depth = rng.uniform(0.05, 0.25)
    values = [
        top * -math.expm1(-step / scale) * (1 + depth * math.exp(-3 * (step % period) / period))
        for step in steps
    ]
    return values, _lead(rng, steps, 0.02, 0.2)


def warmup(rng: random.Random, steps: Sequence[int]) -> tuple[list[float], list[float]]:
    """All of the growth in the first 1-5 thousand steps, then a plateau at 20-300."""
    top, scale = rng.uniform(20, 300), rng.uniform(1e3, 5e3) / 3
    return [top * -math.expm1(-step / scale) for step in steps], _lead(rng, steps, 0.05, 0.3)


def earlylead(rng: random.Random, steps: Sequence[int]) -> tuple[list[float], list[float]]:
    """The actor leads the replayed actions by 50-150 % at first, for these are random ones; it decays."""
    top, scale = rng.uniform(20, 300), rng.uniform(5e3, 40e3)
    first, decay = rng.uniform(0.5, 1.5), rng.uniform(5e3, 40e3)
    lead = [first * math.exp(-step / decay) for step in steps]
    return [top * -math.expm1(-step / scale) for step in steps], lead


def crossing(rng: random.Random, steps: Sequence[int]) -> tuple[list[float], list[float]]:
    """From costs to gains: -100 to -5 at first, 5 to 100 in the end, and through zero, where ratios fail."""
    low, high, scale = rng.uniform(-100, -5), rng.uniform(5, 100), rng.uniform(2e3, 30e3)
    sunk = rng.uniform(200, 2e3)
    return [
        low * -math.expm1(-step / sunk) + (high - low) * -math.expm1(-((step / scale) ** 2)) for step in steps
    ], _lead(rng, steps, 0.02, 0.2)


SHAPES: dict[str, Shape] = {
    shape.__name__: shape
    for shape in (cheetah, hopper, negative, sparse, bursty, dqn, warmup, earlylead, crossing)
}


def run(shape: Shape, rng: random.Random, setting: Setting) -> Trace:
    """Draw a whole healthy run of one shape, with every series such a trainer logs."""
    axis = clock(rng, setting.n, setting.cadence)
    level, lead = shape(rng, axis.steps)
    return Trace(joint(rng, axis, level, lead), points=setting.n)


def joint(
    rng: random.Random,
    axis: Clock,
    level: Sequence[float],
    lead: Sequence[float],
    healthy: Sequence[float] | None = None,
) -> Series:
    """Lay noise over a level and a lead, and add the losses, gradients and episodes that go with them.

    Rewards and episodes go by the `healthy` level where the critics' own has left it.
    """
    n = len(axis.steps)
    gauss = rng.gauss
    shared = list(autoregressive(rng, n, 0.6, 0.04))  # one minibatch is dear, another cheap, to all alike
    apart = math.exp(rng.uniform(math.log(0.002), math.log(0.1)))  # and what one network sees of it alone
    task = level if healthy is None else healthy
    peak = max(abs(value) for value in task)
    floor = [0.02 + 0.0005 * peak + apart * abs(value) for value in level]
    critic = [value * (1 + s) + f * gauss(0, 1) for value, s, f in zip(level, shared, floor, strict=True)]
    first = [value + 0.1 * f * gauss(0, 1) for value, f in zip(critic, floor, strict=True)]
    second = [value + 0.1 * f * gauss(0, 1) for value, f in zip(critic, floor, strict=True)]
    actor = [
        value * (1 + s) + abs(value) * ahead + f * gauss(0, 1)
        for value, s, ahead, f in zip(level, shared, lead, floor, strict=True)
    ]
    spread = rng.uniform(0.2, 0.6)
    highest = [value + abs(value) * spread * rng.uniform(0.6, 1.4) + 0.1 for value in actor]
    reward = 0.3 + 0.01 * peak
    td_error = [(reward + 0.03 * abs(v)) * math.exp(0.2 * gauss(0, 1)) for v in level]
    decay = rng.uniform(0, 0.5) / max(axis.steps[-1], 1)
    actor_norm, critic_norm = math.exp(gauss(-1, 1)), math.exp(gauss(1, 0.5))
    series: Series = {
        "debug/actor_q_mean": axis.zip(actor),
        "debug/actor_q_max": axis.zip(highest),
        "debug/q1_mean": axis.zip(first),
        "debug/q2_mean": axis.zip(second),
        "debug/td_error_q1": axis.zip(td_error),
        "train/critic_loss": axis.zip([2 * td * td * math.exp(0.2 * gauss(0, 1)) for td in td_error]),
        "train/actor_loss": axis.zip([-value for value in actor]),
        "gradients/actor_mlp_norm": axis.zip(
            [actor_norm * math.exp(0.3 * gauss(0, 1) - decay * step) for step in axis.steps]
        ),
        "gradients/critic_mlp_norm": axis.zip(
            [critic_norm * math.exp(0.3 * gauss(0, 1)) for _ in axis.steps]
        ),
    }
    lengths, rewards = _episodes(rng, axis, task)
    return series | {"train/episode_length": lengths, "train/episode_reward": rewards}


def _episodes(rng: random.Random, axis: Clock, level: Sequence[float]) -> tuple[list[Point], list[Point]]:
    """Draw episodes that grow longer and richer with the value; their axis is the episode's number."""
    low, high = min(level), max(level)
    span = max(high - low, 1e-9)
    longest, worth, spread = rng.uniform(200, 1000), rng.uniform(0.5, 3), rng.uniform(0.1, 0.6)
    offset = 0.0 if high > 0 else -1.2  # where value is cost, reward is too
    lengths: list[Point] = []
    rewards: list[Point] = []
    index, number, due = 0, 0, 0.0
    while True:
        due += longest * (0.3 + 0.7 * (level[index] - low) / span) * math.exp(spread * rng.gauss(0, 1))
        while index < len(axis.steps) - 1 and axis.steps[index] < due:
            index += 1
        if axis.steps[index] < due:
            return lengths, rewards
        skill = 0.3 + 0.7 * (level[index] - low) / span
        length = longest * skill * math.exp(spread * rng.gauss(0, 1))
        wall = axis.walls[index] - 1e-3  # an episode ends before the update that follows it is logged
        lengths.append((number, wall, float(round(length))))
        rewards.append((number, wall, longest * worth * (skill + offset) * math.exp(0.3 * rng.gauss(0, 1))))
        number += 1


def _lead(rng: random.Random, steps: Sequence[int], low: float, high: float) -> list[float]:
    """Draw a small steady lead: the policy's actions are a little better than what is replayed."""
    return list(autoregressive(rng, len(steps), 0.9, rng.uniform(low, high) / 4))


def _within(value: float, width: float) -> float:
    return _clipped(value / width, 60)


def _clipped(value: float, bound: float) -> float:
    return max(-bound, min(bound, value))
