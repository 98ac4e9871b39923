"""Fits and tests over one window: what they say of series whose answer is known."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import fits

INF = math.inf


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_the_deviation_by_bisection_is_the_median_of_the_deviations(values: list[float]) -> None:
    """Without writing the deviations down."""
    ordered = sorted(values)
    middle = fits.median(ordered)
    expected = statistics.median(abs(value - middle) for value in ordered)
    assert fits.deviation(ordered) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40))
def test_a_quantile_is_linear_between_order_statistics(values: list[float]) -> None:
    """As `statistics.quantiles(method="inclusive")` has it."""
    expected = statistics.quantiles(values, n=10, method="inclusive")[-1]
    assert fits.quantile(sorted(values), 0.9) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("every", [1, 10, 100])
def test_a_doubling_time_is_found_whatever_the_cadence(every: int) -> None:
    """Values that double every 200 steps."""
    steps = list(range(1000, 2000, every))
    values = [3.0 * 2 ** (step / 200) for step in steps]
    assert fits.doubling(steps, values, min_r2=0.9, direction=1) == pytest.approx(200)
    assert fits.doubling(steps, values, min_r2=0.9, direction=-1) == INF
    assert fits.doubling(steps, values[::-1], min_r2=0.9, direction=-1) == pytest.approx(200)


def test_a_doubling_time_uses_the_positive_tail_and_needs_three_points() -> None:
    """A logarithm needs positive values; what came before the last non-positive one is left out."""
    assert fits.doubling([0, 1, 2, 3], [-1.0, 1.0, 2.0, 4.0], min_r2=0.9, direction=1) == pytest.approx(1)
    assert math.isnan(fits.doubling([0, 1, 2, 3], [1.0, -1.0, 2.0, 4.0], min_r2=0.9, direction=1))
    assert fits.doubling([5, 5, 5], [1.0, 2.0, 4.0], min_r2=0.0, direction=1) == INF


def test_a_badly_fitting_line_has_no_doubling_time() -> None:
    """R2 below min_r2 is infinity: nothing doubles."""
    values = [1.0, 9.0, 1.0, 9.0, 1.0, 10.0]
    assert fits.doubling(range(6), values, min_r2=0.9, direction=1) == INF


@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        ([10.0, 9.0, 8.0], 0.0, 8.0),
        ([1.0, 2.0, 3.0], 5.0, 2.0),
        ([1.0, 2.0, 3.0], 2.5, 0.0),
        ([1.0, 2.0, 3.0], 0.0, INF),
        ([3.0, 2.0, 1.0], 5.0, INF),
        ([4.0, 4.0, 4.0], 5.0, INF),
        ([1.0, 9.0, 1.0], 5.0, INF),
    ],
)
def test_the_distance_to_a_target(values: list[float], target: float, expected: float) -> None:
    """Ahead: how far; crossed inside the window: 0; going away, standing still or no line: infinity."""
    assert fits.distance([0, 1, 2], values, target, log=False) == pytest.approx(expected)


def test_a_trend_is_told_from_noise() -> None:
    """A clear rise passes, its mirror image falls, white noise passes either way in about 5 % of draws."""
    noise = random.Random(1)
    rise = [0.05 * n + noise.gauss(0, 1) for n in range(100)]
    assert fits.trend(rise, direction=1, by=0)
    assert not fits.trend(rise, direction=-1, by=0)
    assert fits.trend([-value for value in rise], direction=-1, by=0)
    hits = sum(fits.trend([noise.gauss(0, 1) for _ in range(60)], direction=1, by=0) for _ in range(1000))
    assert 20 <= hits <= 85


def test_a_trend_must_be_as_large_as_asked() -> None:
    """`by` is relative to the first block."""
    values = [100.0 + n for n in range(12)]
    assert fits.trend(values, direction=1, by=0.05)
    assert not fits.trend(values, direction=1, by=0.2)
    assert fits.trend([-value for value in values], direction=-1, by=0.05)


def test_constants_neither_rise_nor_swing() -> None:
    """Nothing is inferred from no variation."""
    assert not fits.trend([5.0] * 60, direction=1, by=0)
    assert fits.oscillation([5.0] * 60) == 0
    assert fits.oscillation([float(n) for n in range(60)]) == 0


def test_a_swing_is_found() -> None:
    """A sine of period 15 to 60 within 200 points is near 1; noise stays well below."""
    for period in (15, 30, 60):
        assert fits.oscillation([math.sin(2 * math.pi * n / period) for n in range(200)]) > 0.6
    noise = random.Random(2)
    assert fits.oscillation([noise.gauss(0, 1) for _ in range(200)]) < 0.5


def test_theil_sen_withstands_an_outlier() -> None:
    """One wild point does not tilt the line; a hundred points are thinned."""
    values = [2.0 * n for n in range(100)]
    values[50] = 1e9
    assert fits.theil_sen(range(100), values) == pytest.approx(2)
    assert math.isnan(fits.theil_sen([3, 3, 3], [1.0, 2.0, 3.0]))


def test_a_rate_ignores_pairs_without_progress() -> None:
    """Several points at one step or one moment say nothing of the speed."""
    assert fits.rate([0, 100, 100, 200], [0.0, 1.0, 1.5, 2.0]) == pytest.approx(150)
    assert math.isnan(fits.rate([1, 1], [0.0, 1.0]))


def test_numbers_too_large_for_their_squares_are_unknown_and_raise_nothing() -> None:
    """A watchdog meets 1e200."""
    huge = [1e200, 1.1e200, 1.3e200] * 4
    for answer in (
        fits.distance(range(12), huge, 1.0, log=False),
        fits.oscillation(huge),
        fits.doubling(range(12), huge, min_r2=0.9, direction=1),
    ):
        assert math.isnan(answer) or answer >= 0
    assert fits.trend([value * 1e100 for value in huge], direction=1, by=0) is False
