"""The clock of a trainer on another host, as its heartbeats tell it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.far_clock import AGREES, PATIENCE, FarClock

T0 = 1_700_000_000.0


@given(
    st.floats(-1e5, 1e5),
    st.lists(st.floats(0.0, 60.0), min_size=1, max_size=40),
    st.floats(-7200.0, 7200.0),
)
def test_the_estimate_is_late_by_the_quickest_of_the_last_readings(
    ahead: float, lags: list[float], step: float
) -> None:
    """Whatever lies in a cache, the best witness counts; a step of our own clock is none of theirs."""
    clock = FarClock()
    clock.hear(T0 + ahead - 1e6, 0.0)  # of any age
    assert not clock.known
    for number, lag in enumerate(lags, 1):
        monotonic = 100.0 * number
        clock.hear(T0 + monotonic + ahead - lag, monotonic)
    true = ahead - min(lags[-16:])
    found = clock.ahead(T0 + monotonic + step, monotonic) + step
    if abs(true - step) > AGREES:
        assert found == pytest.approx(true, abs=1e-3)
    else:
        assert found == pytest.approx(step, abs=1e-3)


def test_a_second_heartbeat_is_waited_for_and_not_for_ever() -> None:
    """A trainer that is dead leaves one; then our own clock has to do."""
    clock = FarClock()
    assert not clock.is_awaited(0.0), "nobody has written any"
    for monotonic in (10.0, 20.0):
        clock.hear(T0, monotonic)
        assert clock.is_awaited(monotonic)
    assert not clock.is_awaited(10.0 + PATIENCE)
    clock.hear(T0 + 300.0, 11.0)
    assert clock.known
    assert not clock.is_awaited(12.0)
    clock.forget()
    assert not clock.known
    assert clock.ahead(T0, 0.0) == 0.0
