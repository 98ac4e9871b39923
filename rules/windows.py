"""Windows over a series, kept point by point: buffers of points and the statistics that ride on them.

A window heals: after a 1e20, a NaN or an infinity has left it, its statistics are those of the points that
remain, because a running sum that has lost its precision is summed again. Buffers are left-open and right-
closed, and end at the series' own furthest point, never at a global clock.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections import deque
from operator import mul
from typing import Protocol

from rules.fits import INF, NAN, deviation, doubling, median, quantile

MOST_POINTS = 100_000
"""Points that any window holds at most, whatever its length in steps or seconds."""


class Statistic(Protocol):
    """What rides on a buffer: told of every point that enters and leaves."""

    def add(self, value: float, /) -> None:
        """A point entered."""

    def drop(self, value: float, /) -> None:
        """The oldest point left."""


class Buffer(ABC):
    """The finite points of one window, in order of arrival.

    Attributes:
        steps, walls, values: the points' parts.
        version: how often the buffer has changed; lets slow statistics be computed once per point.
        statistics: what rides on it.
    """

    __slots__ = ("statistics", "steps", "values", "version", "walls")

    def __init__(self) -> None:
        self.steps: deque[int] = deque()
        self.walls: deque[float] = deque()
        self.values: deque[float] = deque()
        self.version = 0
        self.statistics: list[Statistic] = []

    @abstractmethod
    def push(self, step: int, wall: float, value: float) -> None:
        """Take a finite point in."""

    @abstractmethod
    def skip(self, step: int, wall: float, value: float) -> None:
        """A non-finite point came: it moves the window's end, and is not kept."""

    @abstractmethod
    def lived(self) -> float:
        """The share of the window that the series has lived through, 0 to 1."""

    def _drop(self) -> None:
        self.steps.popleft()
        self.walls.popleft()
        value = self.values.popleft()
        for statistic in self.statistics:
            statistic.drop(value)


class PointBuffer(Buffer):
    """The last `size` finite points."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def push(self, step: int, wall: float, value: float) -> None:
        self.version += 1
        self.steps.append(step)
        self.walls.append(wall)
        self.values.append(value)
        for statistic in self.statistics:
            statistic.add(value)
        if len(self.values) > self.size:
            self._drop()

    def skip(self, step: int, wall: float, value: float) -> None:
        pass

    def lived(self) -> float:
        return len(self.values) / self.size


class SpanBuffer(Buffer):
    """The finite points of the last `size` steps or seconds: position in (end - size, end].

    `end` is the furthest position seen. Where a series goes back (two writers of one tag), points stay in
    order of arrival, and leave when everything before them has left. Nobody knows beforehand how many points
    come in so many steps or seconds: beyond MOST_POINTS the oldest leave early.
    """

    __slots__ = ("by_time", "end", "size", "start")

    def __init__(self, size: float, *, by_time: bool) -> None:
        super().__init__()
        self.size = size
        self.by_time = by_time
        self.end = -INF
        self.start = INF

    def push(self, step: int, wall: float, value: float) -> None:
        self.steps.append(step)
        self.walls.append(wall)
        self.values.append(value)
        for statistic in self.statistics:
            statistic.add(value)
        self.skip(step, wall, value)

    def skip(self, step: int, wall: float, value: float) -> None:  # noqa: ARG002  # the same shape as push
        self.version += 1
        position = wall if self.by_time else step
        self.start = min(self.start, position)
        self.end = max(self.end, position)
        edge = self.end - self.size
        positions = self.walls if self.by_time else self.steps
        while positions and (positions[0] <= edge or len(positions) > MOST_POINTS):
            self._drop()

    def lived(self) -> float:
        return min(1.0, (self.end - self.start) / self.size) if self.end > self.start else 0.0


_LOSS = 1e-4
"""A sum that has shrunk below this share of its greatest extent since it was last summed has lost precision.
"""


class Sums:
    """Mean, sum and standard deviation by running sums about a centre, summed again before precision is lost.

    The sums are of the distances from `centre`, a value the window has held. Each time they are summed
    again the centre becomes the window's mean, so a small spread around a large level keeps its digits.
    """

    __slots__ = ("_centre", "_extent", "_s1", "_s2", "_since", "_values")

    _centre: float
    _extent: float
    _s1: float
    _s2: float
    _since: int

    def __init__(self, values: deque[float]) -> None:
        self._values = values
        self._again()

    def add(self, value: float) -> None:
        d = value - self._centre
        self._s1 += d
        self._s2 += d * d
        self._extent = max(self._extent, self._s2)
        self._since += 1

    def drop(self, value: float) -> None:
        d = value - self._centre
        self._s1 -= d
        self._s2 -= d * d

    def _again(self) -> None:
        values = self._values
        n = len(values)
        self._since = 0
        self._centre = sum(values) / n if n else 0.0
        if n and not math.isfinite(
            self._centre
        ):  # the sum of values near 1e308 is infinite, their mean is not
            self._centre = sum(value / n for value in values)
        self._s1 = self._s2 = 0.0
        for value in values:
            d = value - self._centre
            self._s1 += d
            self._s2 += d * d
        self._extent = self._s2

    def _settled(self) -> int:
        """Make the sums precise; the number of points."""
        n = len(self._values)
        # NaN (infinity less infinity) and infinity fail the comparison, and are summed again.
        spread = self._s2 - self._s1 * self._s1 / n if n else 0.0
        precise = spread >= _LOSS * self._extent and self._extent < INF
        constant = self._extent == 0.0 and self._s1 == 0.0
        if not (precise or constant) or self._since > n + 64:
            self._again()
        return n

    def mean(self) -> float:
        n = self._settled()
        return self._centre + self._s1 / n if n else NAN

    def sum(self) -> float:
        n = self._settled()
        return self._centre * n + self._s1

    def std(self) -> float:
        n = self._settled()
        if n < 2:
            return NAN
        return math.sqrt(max(0.0, self._s2 - self._s1 * self._s1 / n) / (n - 1))


class LogLine:
    """The least-squares line through (step, ln value) of the window's positive tail, by running sums.

    Kept about an origin inside the window, and summed again once as many points have come as it holds.
    """

    __slots__ = ("_buffer", "_origin", "_since", "_sums", "_xs", "_ys")

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._xs: deque[int] = deque()
        self._ys: deque[float] = deque()
        self._origin = (0, 0.0)
        self._since = 0
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        for step, value in zip(buffer.steps, buffer.values, strict=True):
            self._take(step, value)

    def add(self, value: float) -> None:
        self._take(self._buffer.steps[-1], value)

    def drop(self, _value: float) -> None:
        if len(self._xs) > len(self._buffer.values):  # the tail reached to the beginning
            x, y = self._xs.popleft() - self._origin[0], self._ys.popleft() - self._origin[1]
            sx, sy, sxx, sxy, syy = self._sums
            self._sums = (sx - x, sy - y, sxx - x * x, sxy - x * y, syy - y * y)

    def _take(self, step: int, value: float) -> None:
        if value <= 0:
            self._xs.clear()
            self._ys.clear()
            return
        log = math.log(value)
        if not self._xs:
            self._origin, self._sums, self._since = (step, log), (0.0, 0.0, 0.0, 0.0, 0.0), 0
        self._xs.append(step)
        self._ys.append(log)
        self._since += 1
        x, y = step - self._origin[0], log - self._origin[1]
        sx, sy, sxx, sxy, syy = self._sums
        self._sums = (sx + x, sy + y, sxx + x * x, sxy + x * y, syy + y * y)

    def doubling(self, min_r2: float, direction: int) -> float:
        """Steps in which the values double or halve; as `fits.doubling`, which see."""
        n = len(self._xs)
        if n < 3:
            return NAN
        if self._since > n:
            self._again(n)
        sx, sy, sxx, sxy, syy = self._sums
        vx, vxy, vy = sxx - sx * sx / n, sxy - sx * sy / n, syy - sy * sy / n
        # A nearly flat line, or steps that are nearly one, are differences of large sums: ask the points.
        if vx <= 1e-6 * sxx or vy <= 1e-6 * syy:
            return doubling(
                list(self._xs), list(self._buffer.values)[-n:], min_r2=min_r2, direction=direction
            )
        if vxy * direction > 0 and vxy * vxy >= min_r2 * vx * vy:
            return math.log(2) * vx / abs(vxy)
        return INF

    def _again(self, n: int) -> None:
        x0, y0 = self._origin = (self._xs[n // 2], self._ys[n // 2])
        xs, ys = [x - x0 for x in self._xs], [y - y0 for y in self._ys]
        self._since = 0
        sx, sxx = float(sum(xs)), float(sum(map(mul, xs, xs)))
        self._sums = (sx, sum(ys), sxx, sum(map(mul, xs, ys)), sum(map(mul, ys, ys)))


class Ordered:
    """The window's values sorted: median, quantile and median absolute deviation."""

    __slots__ = ("values",)

    def __init__(self, values: deque[float]) -> None:
        self.values = sorted(values)

    def add(self, value: float) -> None:
        insort(self.values, value)

    def drop(self, value: float) -> None:
        del self.values[bisect_left(self.values, value)]

    def median(self) -> float:
        return median(self.values)

    def quantile(self, q: float) -> float:
        return quantile(self.values, q)

    def mad(self) -> float:
        return deviation(self.values)


class Greatest:
    """The greatest value of the window times `sign`, in O(1) amortised: the candidates, descending."""

    __slots__ = ("_candidates", "_sign")

    def __init__(self, values: deque[float], sign: float) -> None:
        self._sign = sign
        self._candidates: deque[float] = deque()
        for value in values:
            self.add(value)

    def add(self, value: float) -> None:
        value *= self._sign
        candidates = self._candidates
        while candidates and candidates[-1] < value:
            candidates.pop()
        candidates.append(value)

    def drop(self, value: float) -> None:
        if self._candidates[0] == value * self._sign:
            self._candidates.popleft()

    def value(self) -> float:
        return self._candidates[0] * self._sign if self._candidates else NAN
