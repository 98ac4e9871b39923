"""What a generated run is made of: its series, where its fault began, and the axes they lie on."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from rules.series import Sample

Point: TypeAlias = tuple[int, float, float]
"""(step on the series' own axis, wall time in seconds since the epoch, value)."""

Series: TypeAlias = dict[str, list[Point]]

BEGIN = 1.7e9
"""Wall time, seconds since the epoch, at which every generated run begins."""

SECONDS_PER_STEP = 0.26
"""How long a step takes: what the driving world of the reference incident needed."""


@dataclass(frozen=True, slots=True)
class Place:
    """A moment of a run: env step and wall time, and how many points of the driver came before it."""

    step: int
    wall: float
    point: int


@dataclass(frozen=True, slots=True)
class Rewind:
    """The run goes back to run step `to_step` at wall time `wall`, as a session that starts again does."""

    wall: float
    to_step: int


@dataclass(slots=True)
class Trace:
    """A generated run.

    Attributes:
        series: (step, wall, value) by tag, each in the order in which it was logged.
        onset: where its fault begins, exact by construction; None for a healthy run.
        harm: where the task is lost, at or after the onset; None if the run ends before.
        rewinds: where a session announces that it starts again.
        until: wall time to which silence lasts after the last point, if it is part of the fault.
        points: how often the driving series was logged.
    """

    series: Series
    onset: Place | None = None
    harm: Place | None = None
    rewinds: list[Rewind] = field(default_factory=list)
    until: float | None = None
    points: int = 0

    def samples(self) -> list[Sample]:
        """Return all points in the order in which they were written, as one event file has them."""
        found = [
            (tag, step, wall, value) for tag, points in self.series.items() for step, wall, value in points
        ]
        found.sort(key=lambda sample: sample[2])
        return found


@dataclass(frozen=True, slots=True)
class Setting:
    """How a family is asked for.

    Attributes:
        seed: of its random numbers. n: how many times its driving series is logged.
        cadence: steps between two of these. severity: of a fault: 1 mild, 2 middling, 3 grave.
        at: the share of the run after which a fault begins.
    """

    seed: int = 0
    n: int = 2000
    cadence: int = 100
    severity: int = 2
    at: float = 0.5

    @property
    def begin(self) -> int:
        """The index of the driving series' first point in the fault."""
        return min(int(self.at * self.n), self.n - 1)


@dataclass(frozen=True, slots=True)
class Clock:
    """Steps and wall times at which the driving series is logged."""

    steps: list[int]
    walls: list[float]

    def place(self, index: int) -> Place:
        """Return the moment of the driver's point `index`."""
        return Place(self.steps[index], self.walls[index], index)

    def zip(self, values: Sequence[float]) -> list[Point]:
        """Lay values on this axis; shorter sequences end early."""
        return list(zip(self.steps, self.walls, values, strict=False))


def clock(rng: random.Random, n: int, cadence: int, start: int = 0) -> Clock:
    """Make an axis of `n` points; a step takes SECONDS_PER_STEP, give or take a tenth for each point."""
    spacing = cadence * SECONDS_PER_STEP
    wall = BEGIN + start * SECONDS_PER_STEP
    walls = []
    for _ in range(n):
        wall += spacing * max(0.2, 1 + 0.1 * rng.gauss(0, 1))
        walls.append(wall)
    return Clock([start + cadence * (index + 1) for index in range(n)], walls)


def autoregressive(rng: random.Random, n: int, rho: float, scale: float = 1.0) -> Iterator[float]:
    """Yield an AR(1) process of standard deviation `scale`, in its stationary state from the start."""
    innovation = scale * math.sqrt(1 - rho * rho)
    value = rng.gauss(0, scale)
    for _ in range(n):
        yield value
        value = rho * value + rng.gauss(0, innovation)


def student(rng: random.Random, degrees: int = 3) -> float:
    """Draw from Student's t: heavy tails, as minibatch losses have."""
    chi = sum(rng.gauss(0, 1) ** 2 for _ in range(degrees))
    return rng.gauss(0, 1) / math.sqrt(max(chi, 1e-12) / degrees)
