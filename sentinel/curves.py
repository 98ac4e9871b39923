"""What a run has logged, thinned, for the plots of its stories. Pure.

Why a history of its own: the judge's windows hold only what the rules ask for, lose what a rollback voids,
and would have to be asked one by one; reading the event files again takes a second for each million points,
in a tick or beside it, and files may have been pruned. Kept here are for each tag its newest points as they
are, and the older ones as the least and the greatest of ever longer stretches: at most 1100 points of 24
bytes, for a few hundred tags. A point costs a look-up, an append, and its share of packing them.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from rules.evaluate import Program
from rules.series import Sample
from rules.tree import Tag, walk

NEWEST = 256
"""Points of a tag that are kept as they are."""

OLDER = 256
"""Points that stand for all those before them, at the most twice as many."""

OTHERS = 200
"""Tags that no rule names and that are kept all the same, the first; an `each` rule may fire on them."""

MOST_PASSED = 10_000
"""Tags that are remembered as not kept."""

_FOLD = 64  # points of a tag that are held as tuples before they are packed
_FOLD_EVERY = 2048  # points of all tags
_FIRST_GROUP = 16  # points that become two when they are no longer among the newest


class Kept(NamedTuple):
    """One point: step on its tag's axis, seconds since the epoch, value."""

    step: int
    wall_time: float
    value: float


class _Packed:
    """Points in three columns: 24 bytes each."""

    __slots__ = ("steps", "values", "walls")

    def __init__(self) -> None:
        self.steps = array("q")
        self.walls = array("d")
        self.values = array("d")

    def __len__(self) -> int:
        return len(self.steps)

    def points(self) -> list[Kept]:
        return [Kept(*each) for each in zip(self.steps, self.walls, self.values, strict=True)]

    def move(self, begin: int, end: int, to: _Packed) -> None:
        """Give the points of the least and of the greatest value of a stretch to another."""
        for place in _extremes(self.values, begin, end):
            to.steps.append(self.steps[place])
            to.walls.append(self.walls[place])
            to.values.append(self.values[place])

    def forget(self, many: int) -> None:
        del self.steps[:many], self.walls[:many], self.values[:many]


class Curve:
    """The history of one tag."""

    __slots__ = ("_group", "_newest", "_older", "fresh")

    def __init__(self) -> None:
        self.fresh: list[Sample] = []
        self._newest = _Packed()
        self._older = _Packed()
        self._group = _FIRST_GROUP

    def fold(self) -> None:
        """Pack what is fresh, and thin what is old."""
        if not self.fresh:
            return
        _, steps, walls, values = zip(*self.fresh, strict=True)
        newest, older = self._newest, self._older
        newest.steps.extend(steps)
        newest.walls.extend(walls)
        newest.values.extend(values)
        self.fresh.clear()
        if len(newest) < 2 * NEWEST:
            return
        at = 0
        while len(newest) - at - self._group >= NEWEST:
            newest.move(at, at + self._group, older)
            at += self._group
            if len(older) > 2 * OLDER:
                self._thin()
                older = self._older
        newest.forget(at)

    def _thin(self) -> None:
        thinner = _Packed()
        for at in range(0, len(self._older), 4):
            self._older.move(at, min(at + 4, len(self._older)), thinner)
        self._older = thinner
        self._group *= 2

    def points(self) -> list[Kept]:
        """Return what is kept, in the order in which it was logged."""
        packed = [*self._older.points(), *self._newest.points()]
        return packed + [Kept(step, wall, value) for _, step, wall, value in self.fresh]

    @property
    def last_step(self) -> int:
        """Step of its last point; 0 before the first."""
        if self.fresh:
            return self.fresh[-1][1]
        return self._newest.steps[-1] if len(self._newest) else 0

    def __len__(self) -> int:
        return len(self._older) + len(self._newest) + len(self.fresh)


class Curves:
    """The histories of one run's tags."""

    def __init__(self, program: Program) -> None:
        """Begin with nothing.

        Args:
            program: the rules; what they name is kept before anything else.
        """
        self._named = named(program)
        self._curves: dict[str, Curve] = {}
        self._keep: dict[str, Callable[[Sample], None]] = {}  # how a tag's point is put away
        self._others = 0
        self._passed: set[str] = set()
        self._unfolded = 0

    def take(self, samples: Sequence[Sample]) -> None:
        """Take new points in, in the order in which they were logged."""
        get = self._keep.get
        for sample in samples:
            keep = get(sample[0])
            if keep is not None:
                keep(sample)
            elif sample[0] not in self._passed:
                self._begin(sample)
        self._unfolded += len(samples)
        if self._unfolded >= _FOLD_EVERY:
            self._unfolded = 0
            for curve in self._curves.values():
                if len(curve.fresh) >= _FOLD:
                    curve.fold()

    def _begin(self, sample: Sample) -> None:
        tag = sample[0]
        if tag not in self._named:
            if self._others >= OTHERS:
                if len(self._passed) < MOST_PASSED:  # those beyond are looked up anew: slower, and bounded
                    self._passed.add(tag)
                return
            self._others += 1
        curve = self._curves[tag] = Curve()
        self._keep[tag] = curve.fresh.append
        curve.fresh.append(sample)

    def points(self, tag: str) -> list[Kept]:
        """Return what is kept of a tag; nothing of one that is not known."""
        curve = self._curves.get(tag)
        return [] if curve is None else curve.points()

    def wall_at(self, step: int, until: float = math.inf) -> float | None:
        """Return when the run was at a run step, before a moment: between two points by interpolation.

        Args:
            step: run step. until: seconds since the epoch; the last time before it counts.

        Returns:
            Seconds since the epoch; None where no points tell.
        """
        points = [point for point in self._pace() if point.wall_time <= until]
        for after, before in zip(reversed(points), reversed(points[:-1]), strict=False):
            if before.step <= step <= after.step:
                share = (step - before.step) / ((after.step - before.step) or 1)
                return before.wall_time + share * (after.wall_time - before.wall_time)
            if after is points[-1] and step > after.step:
                return after.wall_time  # a little behind the last point: that point is the best there is
        return None

    def _pace(self) -> list[Kept]:
        """Return the series that tells most of the run's steps against time."""
        furthest = max((curve.last_step for curve in self._curves.values()), default=0)
        fit = [curve for curve in self._curves.values() if curve.last_step >= 0.8 * furthest]
        return max(fit, key=len).points() if fit else []


@lru_cache(maxsize=4)  # a thousand runs share one program
def named(program: Program) -> frozenset[str]:
    """Return every tag that a rule or a metric names."""
    found: set[str] = set()
    for alias in program.metrics.values():
        for candidate in alias.candidates:
            if candidate.tree is None:
                found.add(candidate.text)
            else:
                found |= {part.name for part in walk(candidate.tree) if isinstance(part, Tag)}
    for rule in program.rules:
        found |= {part.name for part in walk(rule.expr) if isinstance(part, Tag)}
    return frozenset(found)


def _extremes(values: array[float], begin: int, end: int) -> list[int]:
    """Return the places of the least and of the greatest value, in their order; a NaN is the greatest."""
    stretch = values[begin:end]
    total = sum(stretch)
    if total - total == 0.0:  # all are finite
        low, high = stretch.index(min(stretch)), stretch.index(max(stretch))
    else:
        keyed = [(math.inf if math.isnan(value) else value, place) for place, value in enumerate(stretch)]
        low, high = min(keyed)[1], max(keyed)[1]
    return sorted({begin + low, begin + high})
