"""Every online statistic equals the batch formula over the points in the window, after each point."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.fits import doubling, quantile
from rules.windows import Buffer, Greatest, LogLine, Ordered, PointBuffer, SpanBuffer, Sums

NAN, INF = math.nan, math.inf

values = st.one_of(
    st.floats(-100, 100).map(lambda value: round(value, 6)),  # squares below 1e-308 would vanish
    st.integers(-6, 20).map(lambda power: 10.0**power),
    st.sampled_from([0.0, 1.0, -1.0, 5.0, 1e20, -1e20, 1e8, 1e8 + 1e-3, 3e-9, NAN, INF, -INF]),
)
points = st.lists(st.tuples(st.integers(-3, 12), st.floats(0, 9), values), max_size=60)
"""(step difference, seconds since the last point, value): steps may stand still and go back."""

windows = st.one_of(
    st.tuples(st.just("points"), st.integers(1, 12)),
    st.tuples(st.just("steps"), st.integers(1, 40)),
    st.tuples(st.just("time"), st.integers(1, 30)),
)


def make(unit: str, size: int) -> Buffer:
    return PointBuffer(size) if unit == "points" else SpanBuffer(size, by_time=unit == "time")


def batch(unit: str, size: int, history: list[tuple[int, float, float]]) -> list[float]:
    """What the window holds, from the whole history."""
    finite = [point for point in history if math.isfinite(point[2])]
    if unit == "points":
        return [value for _, _, value in finite[-size:]]
    axis = 1 if unit == "time" else 0
    edge = max((point[axis] for point in history), default=0) - size
    while finite and finite[0][axis] <= edge:
        finite.pop(0)
    return [value for _, _, value in finite]


def agree(online: float, expected: float, scale: float, rel: float = 1e-9) -> bool:
    if math.isnan(expected):
        return math.isnan(online)
    return online == expected or abs(online - expected) <= rel * max(abs(expected), scale)


@settings(max_examples=300, deadline=None)
@given(windows, points)
def test_each_statistic_equals_the_batch_formula_after_each_point(
    window: tuple[str, int], moves: list[tuple[int, float, float]]
) -> None:
    """Also while a 1e20 is in the window, and after it, a NaN or an infinity has left it."""
    unit, size = window
    buffer = make(unit, size)
    sums, ordered = Sums(buffer.values), Ordered(buffer.values)
    high, low = Greatest(buffer.values, 1.0), Greatest(buffer.values, -1.0)
    line = LogLine(buffer)
    buffer.statistics += [sums, ordered, high, low, line]
    history: list[tuple[int, float, float]] = []
    step, wall = 0, 0.0
    for dstep, dwall, value in moves:
        step, wall = step + dstep, wall + dwall
        history.append((step, wall, value))
        (buffer.push if math.isfinite(value) else buffer.skip)(step, wall, value)
        held = batch(unit, size, history)
        assert list(buffer.values) == held
        assert len(buffer.steps) == len(buffer.walls) == len(held)
        scale = max(map(abs, held), default=0.0)
        mean = math.fsum(held) / len(held) if held else NAN
        assert agree(sums.mean(), mean, scale)
        assert agree(sums.sum(), math.fsum(held), scale * len(held))
        if len(held) > 1:
            assert agree(sums.std(), statistics.stdev(held), 0.0, 1e-6)
        else:
            assert math.isnan(sums.std())
        median = statistics.median(held) if held else NAN
        assert agree(ordered.median(), median, scale, 1e-15)
        deviations = [abs(v - ordered.median()) for v in held]
        assert agree(ordered.mad(), statistics.median(deviations) if held else NAN, scale, 1e-15)
        assert ordered.quantile(0.9) == quantile(sorted(held), 0.9) or not held
        expected = doubling(list(buffer.steps), held, min_r2=0.0, direction=1)
        found = line.doubling(0.0, 1)
        # Where the slope is nearly none, its sign may be either's rounding.
        assert agree(found, expected, 0.0, 1e-6) or min(found, expected) > 1e6
        assert (high.value(), low.value()) == (max(held), min(held)) if held else math.isnan(high.value())


@pytest.mark.parametrize("statistic", [Sums.mean, Sums.std, Sums.sum])
def test_a_window_is_right_again_once_1e20_has_left_it(statistic: Callable[[Sums], float]) -> None:
    """A plain running mean reads 0 for ever after one 1e20."""
    buffer = PointBuffer(10)
    sums = Sums(buffer.values)
    buffer.statistics.append(sums)
    fresh = PointBuffer(10)
    beside = Sums(fresh.values)
    fresh.statistics.append(beside)
    for n in range(40):
        buffer.push(n, n, 1e20 if n == 15 else n % 7)
        if n > 25:
            fresh.push(n, n, n % 7)
    assert statistic(sums) == pytest.approx(statistic(beside), rel=1e-12)


def test_a_small_spread_around_a_large_level_keeps_its_digits() -> None:
    """The textbook sum of squares would answer 0 or NaN."""
    buffer = PointBuffer(50)
    sums = Sums(buffer.values)
    buffer.statistics.append(sums)
    for n in range(500):
        buffer.push(n, n, 1e9 + n * 100 + (n % 2) * 1e-3)
    assert sums.std() == pytest.approx(statistics.stdev(buffer.values), rel=1e-9)


def test_a_window_is_left_open_and_right_closed() -> None:
    """A point exactly `size` steps before the last is outside, the last is inside."""
    buffer = SpanBuffer(100, by_time=False)
    for step in (0, 50, 100):
        buffer.push(step, 0.0, float(step))
    assert list(buffer.values) == [50.0, 100.0]


def test_a_window_of_steps_keeps_arrival_order_when_steps_go_back() -> None:
    """Two writers of one tag zig-zag; nothing is lost and nothing breaks."""
    buffer = SpanBuffer(100, by_time=False)
    for step in (10, 12, 11, 13, 12):
        buffer.push(step, 0.0, float(step))
    assert list(buffer.steps) == [10, 12, 11, 13, 12]


def test_a_nan_moves_the_end_of_a_window() -> None:
    """The window follows the series' own last point, be it finite or not."""
    buffer = SpanBuffer(10, by_time=False)
    buffer.push(0, 0.0, 1.0)
    buffer.skip(10, 1.0, NAN)
    assert not buffer.values


def test_how_much_of_a_window_has_been_lived_through() -> None:
    """Half of 100 steps is half; after 100 steps it is all, however few points came."""
    buffer = SpanBuffer(100, by_time=False)
    assert buffer.lived() == 0
    buffer.push(1000, 0.0, 1.0)
    buffer.push(1050, 0.0, 1.0)
    assert buffer.lived() == 0.5
    buffer.push(1500, 0.0, 1.0)
    assert buffer.lived() == 1.0
