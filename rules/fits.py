"""Batch statistics of one window: fits, trend tests, quantiles. Pure functions of sequences.

NaN is the answer "unknown" (too few points, a division by zero); infinity is an answer: a doubling time of
infinity means that nothing doubles. Every one of these starts from the window's points, so nothing a window
has forgotten can colour the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from operator import mul, truediv

NAN = float("nan")
INF = float("inf")
BLOCKS = 6
T_CRITICAL = 2.132
"""Student's t, one-sided 5 %, with BLOCKS - 2 = 4 degrees of freedom."""


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of sorted values, linear between order statistics; NaN of nothing."""
    if not ordered:
        return NAN
    position = q * (len(ordered) - 1)
    low = int(position)
    share = position - low
    if share == 0:
        return ordered[low]
    return ordered[low] * (1 - share) + ordered[low + 1] * share


def median(ordered: Sequence[float]) -> float:
    """The median of sorted values; NaN of nothing."""
    n = len(ordered)
    if not n:
        return NAN
    half = n >> 1
    return ordered[half] if n & 1 else 0.5 * ordered[half - 1] + 0.5 * ordered[half]


def deviation(ordered: Sequence[float]) -> float:
    """The median absolute deviation from the median of sorted values, in O(log n); NaN of nothing.

    Deviations to the left of the median ascend towards the left, those to the right towards the right: two
        sorted sequences, whose k-th smallest element is found by bisection without writing either down.
    """
    n = len(ordered)
    if not n:
        return NAN
    middle = median(ordered)
    half = n >> 1

    def kth(k: int) -> float:
        # `left` elements are taken from the left sequence, ordered[half - 1 - i], and k + 1 - left from the
        # right.
        low, high = max(0, k + 1 - (n - half)), min(k + 1, half)
        while low < high:
            left = (low + high) >> 1
            right = k + 1 - left
            if middle - ordered[half - 1 - left] < ordered[half + right - 1] - middle:
                low = left + 1
            else:
                high = left
        right = k + 1 - low
        greatest = -INF
        if low:
            greatest = middle - ordered[half - low]
        if right:
            greatest = max(greatest, ordered[half + right - 1] - middle)
        return greatest

    return kth(half) if n & 1 else 0.5 * kth(half - 1) + 0.5 * kth(half)


def line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float, float, float]:
    """The least-squares line through points, as (slope, mean x, mean y, R2).

    All x equal gives a slope of 0 with R2 0: no line. All y equal is a perfect flat line, R2 1.
    """
    n = len(xs)
    mean_x, mean_y = sum(xs) / n, sum(ys) / n
    dx = [x - mean_x for x in xs]
    dy = [y - mean_y for y in ys]
    sxx, syy = sum(map(mul, dx, dx)), sum(map(mul, dy, dy))
    if not sxx > 0:
        return 0.0, mean_x, mean_y, 0.0
    sxy = sum(map(mul, dx, dy))
    slope = sxy / sxx
    if not syy > 0:
        return slope, mean_x, mean_y, 1.0
    return slope, mean_x, mean_y, min(1.0, slope * (sxy / syy))


def doubling(steps: Sequence[float], values: Sequence[float], *, min_r2: float, direction: int) -> float:
    """Steps in which the values double (direction 1) or halve (-1), from a line through (step, ln value).

    Only the positive tail of the window is used, since a logarithm needs it. Infinite when the slope has
    the wrong sign, all steps are equal, or R2 < min_r2.
    """
    start = len(values)
    while start and values[start - 1] > 0:
        start -= 1
    if len(values) - start < 3:
        return NAN
    slope, _, _, r2 = line(steps[start:], list(map(math.log, values[start:])))
    if not (slope * direction > 0 and r2 >= min_r2):
        return INF
    return math.log(2) / abs(slope)


def distance(positions: Sequence[float], values: Sequence[float], target: float, *, log: bool) -> float:
    """How far after the last position the fitted line meets the target, on the positions' axis.

    0 when the last value, approached from the first side of the fit, is past the target; infinite when the
    line recedes from the target or fits badly (R2 < 0.5).
    """
    if log:
        start = len(values)
        while start and values[start - 1] > 0:
            start -= 1
        if target <= 0:
            return INF
        positions, values, target = positions[start:], list(map(math.log, values[start:])), math.log(target)
    if len(values) < 3:
        return NAN
    slope, mean_x, mean_y, r2 = line(positions, values)
    if not math.isfinite(slope):
        return NAN  # values too large for their squares
    if r2 < 0.5 or slope == 0:
        return 0.0 if values[-1] == target else INF
    side = 1.0 if slope > 0 else -1.0
    first = mean_y + slope * (positions[0] - mean_x)
    if (values[-1] - target) * side >= 0:
        # Beyond the target in the direction of travel: past it if the window still saw the other side, else
        # receding.
        return 0.0 if (first - target) * side <= 0 or values[-1] == target else INF
    meets = mean_x + (target - mean_y) / slope
    return max(0.0, meets - positions[-1])


def trend(values: Sequence[float], *, direction: int, by: float) -> bool:
    """Whether the values rise (direction 1) or fall (-1): the t-test of a line through six block means.

    Six blocks of neighbouring points are nearly independent even where single points are not, so the test
    keeps its size under autocorrelation, which a test over all points does not.

    Args:
        values: the window's points in order of arrival; at least six.
        direction: 1 or -1.
        by: the least relative change of the last block's mean against the first's.
    """
    means, slope, error = _block_line(values)
    slope, first, last = direction * slope, direction * means[0], direction * means[-1]
    if not slope > 0 or slope <= T_CRITICAL * error:
        return False
    return by == 0 or last - first >= by * abs(first)


def trend_t(values: Sequence[float]) -> float:
    """Student's t of the line through six block means, which `trend` holds against T_CRITICAL.

    Infinite where the means lie on a line exactly, 0 where they are all the same, NaN of fewer than six
    points.
    """
    if len(values) < BLOCKS:
        return NAN
    _, slope, error = _block_line(values)
    if error == 0:
        return math.copysign(INF, slope) if slope else 0.0
    return slope / error


def _block_line(values: Sequence[float]) -> tuple[list[float], float, float]:
    """The means of six blocks of neighbouring points; slope and standard error of the line through them."""
    n = len(values)
    edges = [n * block // BLOCKS for block in range(BLOCKS + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    xs = (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5)
    centre = sum(means) / BLOCKS
    ys = [value - centre for value in means]
    slope = sum(map(mul, xs, ys)) / 17.5
    rest = [y - slope * x for x, y in zip(xs, ys, strict=True)]
    residual = sum(map(mul, rest, rest))
    return means, slope, math.sqrt(residual / (BLOCKS - 2) / 17.5)


def theil_sen(steps: Sequence[float], values: Sequence[float]) -> float:
    """Median of the pairwise slopes of at most 64 evenly chosen points; NaN when all steps are equal."""
    n = len(steps)
    if n > 64:
        chosen = [round(i * (n - 1) / 63) for i in range(64)]
        steps, values = [steps[i] for i in chosen], [values[i] for i in chosen]
        n = 64
    slopes = [
        (values[j] - values[i]) / (steps[j] - steps[i])
        for i in range(n)
        for j in range(i + 1, n)
        if steps[j] != steps[i]
    ]
    return median(sorted(slopes))


def oscillation(values: Sequence[float]) -> float:
    """How periodic values are: -min of the detrended window's autocorrelation, lags 3 to n/2; at least 0."""
    n = len(values)
    slope, mean_x, mean_y, _ = line(range(n), values)
    rest = [value - mean_y - slope * (i - mean_x) for i, value in enumerate(values)]
    power = sum(map(mul, rest, rest))
    # A straight line leaves only rounding behind, and rounding swings.
    if not power > 1e-18 * sum(map(mul, values, values)):
        return 0.0
    least = min(sum(map(mul, rest, rest[lag:])) for lag in range(3, n // 2 + 1))
    return float(max(0.0, -least / power))


def rate(steps: Sequence[float], walls: Sequence[float]) -> float:
    """Median steps per second between successive points; pairs without progress are passed over."""
    advances = [(b - a, d - c) for (a, b), (c, d) in zip(pairwise(steps), pairwise(walls), strict=True)]
    rates = sorted(truediv(dstep, dwall) for dstep, dwall in advances if dstep > 0 and dwall > 0)
    return median(rates)
