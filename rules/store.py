"""The series of one run: what its tags have last logged, who wants their points, and series made from others.

A point is pushed to everything that rides on a series as it arrives, once. Inner windows are attached
before the series made from them, so a derived series always sees windows that hold the point it stands for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import Any, TypeAlias

from rules.fits import NAN

Push: TypeAlias = Callable[[int, float, float], None]
Point: TypeAlias = tuple[int, float, float]
"""(step, wall time, value)."""
Reading: TypeAlias = Callable[[float], float]
"""A number at a moment (`now`, seconds since the epoch); NaN is unknown."""
Answer: TypeAlias = Callable[[float], bool | None]
"""A condition at a moment; None is unknown."""

FRESH_FOR = 600.0
"""Seconds for which a value is fresh at least; ten median gaps when that is longer."""
GAPS_KEPT = 129
NO_STEP = -(1 << 63)
PROBES = "sys/"
"""Tags of the sentinel's own measurements; they do not tell that the trainer is alive."""


class Series:
    """One tag of a run.

    Attributes:
        name: the tag.
        step, wall, value: the last point; NaN before there is one.
        count: points seen, finite or not.
        tick: number of the tick in which the last point came.
        pushes: who takes finite points. skips: who must know of the others.
        rules: the rule instances to judge when a point has come.
        alarms: those to judge only when it is NaN or infinite.
        probe: whether the sentinel measured it.
    """

    __slots__ = (
        "alarms",
        "arrivals",
        "count",
        "name",
        "probe",
        "pushes",
        "rules",
        "skips",
        "step",
        "tick",
        "value",
        "wall",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.step = NO_STEP
        self.wall = -math.inf
        self.value = NAN
        self.count = 0
        self.tick = -1
        self.pushes: tuple[Push, ...] = ()
        self.skips: tuple[Push, ...] = ()
        self.rules: tuple[Any, ...] = ()
        self.alarms: tuple[Any, ...] = ()
        self.probe = name.startswith(PROBES)
        self.arrivals: deque[float] = deque(maxlen=GAPS_KEPT)

    def gap(self) -> float:
        """Median seconds between distinct steps, of the last 128; 0 before there are two."""
        walls = list(self.arrivals)
        gaps = sorted(b - a for a, b in pairwise(walls))
        return gaps[len(gaps) // 2] if gaps else 0.0

    def is_old(self, now: float) -> bool:
        """Whether the last point no longer says how things are."""
        return now - self.wall > max(FRESH_FOR, 10 * self.gap())

    def latest(self) -> float:
        """Wall time of the last point."""
        return self.wall

    def take(self, step: int, wall: float, value: float) -> None:
        """Take a point in and hand it on; `Evaluator.feed` does the same in line for tags."""
        if step != self.step:
            self.arrivals.append(wall)
            self.step = step
        self.wall = wall
        self.value = value
        self.count += 1
        if self.pushes:
            for push in self.pushes if value - value == 0.0 else self.skips:
                push(step, wall, value)


class StepAny(Series):
    """The run as a whole: a point whenever its greatest step has grown, as old as the newest of any tag."""

    __slots__ = ("_tags",)

    def __init__(self, tags: dict[str, Series]) -> None:
        super().__init__("step_any")
        self._tags = tags

    def latest(self) -> float:
        return max((series.wall for series in self._tags.values() if not series.probe), default=-math.inf)

    def is_old(self, now: float) -> bool:
        return now - self.latest() > max(FRESH_FOR, 10 * self.gap())


class Derived(Series):
    """A series made from others: it has a point when every input has a new one (the slowest decides).

    Its step is the first input's, the driver's; its wall time the latest. Inputs on different axes so join by
    arrival. With `same_step` only points of exactly equal steps make one. `come` has the bits of the inputs
    whose last point came before this series was made, and still waits for its partners.

    A join is made when its tick closes, not at the arrival of the last input: within a tick points have no
    order, and a value that is older than its tick must not be joined when a new one is still to come. Until
    then it waits in `queue`, which is to be emitted by `order`, so that inner series are there before outer
    ones.
    """

    __slots__ = ("_all", "_compute", "_inputs", "_queue", "_queued", "_same_step", "_waiting", "order")

    def __init__(
        self,
        inputs: Sequence[Series],
        compute: Reading,
        queue: list[Derived],
        *,
        order: int = 0,
        same_step: bool = False,
        come: int = 0,
    ) -> None:
        super().__init__("")
        self.order = order
        self._inputs = tuple(inputs)
        self._compute = compute
        self._queue = queue
        self._queued = False
        self._same_step = same_step
        self._all = (1 << len(self._inputs)) - 1
        self._waiting = self._all & ~come

    def arrival(self, index: int) -> Push:
        """What input number `index` is to call when it has a point."""
        if len(self._inputs) == 1:
            return self._make
        rest = self._all & ~(1 << index)

        def arrive(_step: int, _wall: float, _value: float) -> None:
            self._waiting &= rest
            if not self._waiting and not self._queued:
                self._queued = True
                self._queue.append(self)

        return arrive

    def emit(self) -> None:
        """Make the point that has been waiting for its tick to close."""
        self._queued = False
        inputs = self._inputs
        step = inputs[0].step
        if self._same_step and any(series.step != step for series in inputs):
            return
        self._waiting = self._all
        self.tick = max([series.tick for series in inputs])
        wall = max([series.wall for series in inputs])
        self.take(step, wall, self._value(wall))

    def _make(self, step: int, wall: float, value: float) -> None:  # noqa: ARG002  # the shape of every push
        self.tick = self._inputs[0].tick
        self.take(step, wall, self._value(wall))

    def _value(self, wall: float) -> float:
        try:
            return self._compute(wall)
        except ArithmeticError:
            return NAN  # out of the numbers' range is unknown, like any other value that cannot be had


def emit_all(queue: list[Derived]) -> None:
    """Make the points of a tick that closes, inner series first; empties the queue."""
    if len(queue) > 1:
        queue.sort(key=_order)
    for derived in queue:
        derived.emit()
    queue.clear()


_order = attrgetter("order")
