"""What can be said of a run's series without any rule: how many points, on which axis, how far apart.

One pass over the samples, in the order in which they were logged, in memory that does not grow with the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rules.series import Sample

TICK_GAP = 2.0
"""Seconds without a point that close a tick, as in the evaluator."""

_GAPS_KEPT = 1024


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """One series as a whole.

    Attributes:
        count: its points. finite: those that are neither NaN nor infinite.
        first_step, last_step: the least and the greatest. first_wall, last_wall: seconds since the epoch.
        step_gap, wall_gap: median steps and seconds between two points of different steps; 0 before there are
            two.
        repeats: points at the step of the point before them. backs: points at an earlier step than that.
        sources: how many event files hold it.
    """

    count: int
    finite: int
    first_step: int
    last_step: int
    first_wall: float
    last_wall: float
    step_gap: float
    wall_gap: float
    repeats: int = 0
    backs: int = 0
    sources: int = 1

    @property
    def steps(self) -> int:
        """How many steps lie between its first and its last point."""
        return self.last_step - self.first_step

    @property
    def seconds(self) -> float:
        """How many seconds lie between its first and its last point."""
        return self.last_wall - self.first_wall


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run as a whole.

    Attributes:
        series: by tag. whole: the run's own steps, a point whenever its greatest step has grown; None before
            the first.
        ticks: how often the run has logged something.
    """

    series: Mapping[str, SeriesFacts]
    whole: SeriesFacts | None
    ticks: int


class _Gaps:
    """A sample of gaps to take the median of: every one at first, then every second, every fourth."""

    __slots__ = ("_every", "_kept", "_seen")

    def __init__(self) -> None:
        self._kept: list[float] = []
        self._every = 1
        self._seen = 0

    def add(self, gap: float) -> None:
        self._seen += 1
        if self._seen % self._every:
            return
        self._kept.append(gap)
        if len(self._kept) == _GAPS_KEPT:
            del self._kept[::2]
            self._every *= 2

    def median(self) -> float:
        ordered = sorted(self._kept)
        return ordered[len(ordered) // 2] if ordered else 0.0


class _Series:
    """A series while it is read."""

    __slots__ = (
        "backs", "count", "finite", "first_step", "first_wall", "last_step", "last_wall", "repeats",
        "sources", "step", "step_gaps", "wall", "wall_gaps",
    )  # fmt: skip

    def __init__(self, step: int, wall: float) -> None:
        self.count = self.finite = self.repeats = self.backs = 0
        self.first_step = self.last_step = step
        self.first_wall = self.last_wall = wall
        self.step: int | None = None
        self.wall = wall
        self.sources: set[int] = set()
        self.step_gaps = _Gaps()
        self.wall_gaps = _Gaps()

    def take(self, step: int, wall: float, value: float, source: int) -> None:
        self.count += 1
        self.finite += math.isfinite(value)
        self.sources.add(source)
        if self.step is not None:
            if step == self.step:
                self.repeats += 1
            else:
                self.backs += step < self.step
                self.step_gaps.add(abs(step - self.step))
                self.wall_gaps.add(abs(wall - self.wall))
                self.wall = wall
        self.step = step
        self.first_step, self.last_step = min(self.first_step, step), max(self.last_step, step)
        self.first_wall, self.last_wall = min(self.first_wall, wall), max(self.last_wall, wall)

    def facts(self) -> SeriesFacts:
        return SeriesFacts(
            self.count,
            self.finite,
            self.first_step,
            self.last_step,
            self.first_wall,
            self.last_wall,
            self.step_gaps.median(),
            self.wall_gaps.median(),
            self.repeats,
            self.backs,
            len(self.sources),
        )


@dataclass(slots=True)
class _Tick:
    step: int
    wall: float
    tags: set[str] = field(default_factory=set)


class AxisFacts:
    """Gathers the facts about a run, sample by sample."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}
        self._whole: _Series | None = None
        self._ticks: dict[int, _Tick] = {}
        self._count = 0

    def take(self, samples: Iterable[Sample], source: int = 0) -> None:
        """Take samples of one event file in, in its order."""
        for tag, step, wall, value in samples:
            series = self._series.get(tag)
            if series is None:
                series = self._series[tag] = _Series(step, wall)
            series.take(step, wall, value, source)
            if self._whole is None:
                self._whole = _Series(step, wall)
            if self._whole.step is None or step > self._whole.step:
                self._whole.take(step, wall, float(step), 0)
            self._whole.last_wall = max(self._whole.last_wall, wall)
            self._tick(tag, step, wall, source)

    def rewound(self) -> None:
        """Note that the run goes on from an earlier step: what is logged again is no disorder."""
        for series in self._series.values():
            series.step = None
        if self._whole is not None:
            self._whole.step = None

    def facts(self) -> RunFacts:
        """Return what is known by now."""
        series = {tag: found.facts() for tag, found in self._series.items()}
        return RunFacts(series, self._whole.facts() if self._whole else None, self._count)

    def _tick(self, tag: str, step: int, wall: float, source: int) -> None:
        tick = self._ticks.get(source)
        if tick is None or step != tick.step or wall - tick.wall > TICK_GAP or tag in tick.tags:
            self._count += 1
            tick = self._ticks[source] = _Tick(step, wall)
        tick.tags.add(tag)
        tick.wall = wall
