"""The lane's geometry: it closes, it is smooth, and projecting undoes placing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.driving.kinematic_world import SCENARIOS, lane_of
from trainer.driving.lanes import HORIZON, Lane, wrap_angle

SCENARIO = st.integers(0, len(SCENARIOS) - 1)
PLACE = st.floats(0.0, 1.0, exclude_max=True)


@pytest.mark.parametrize("scenario", range(len(SCENARIOS)))
def test_a_lane_closes_without_a_kink(scenario: int) -> None:
    """The end is the beginning, in place and in direction; and so is every joint between two segments."""
    lane = lane_of(scenario)
    joints = np.array([segment.start for segment in lane.segments])
    after, before = lane.poses(joints), lane.poses(joints - 1e-6 + lane.length)
    assert np.allclose(after[:, :2], before[:, :2], atol=1e-5)
    turned = [wrap_angle(float(b - a)) for a, b in zip(before[:, 2], after[:, 2], strict=True)]
    assert np.allclose(turned, 0.0, atol=1e-5)


@given(scenario=SCENARIO, place=PLACE)
def test_a_metre_of_arc_is_a_metre_of_road(scenario: int, place: float) -> None:
    """A small step of arc length moves the point just as far, in the lane's direction."""
    lane, step = lane_of(scenario), 1e-3
    s = place * lane.length
    here, there = lane.poses(np.array([s, s + step]))
    assert math.hypot(*(there - here)[:2]) == pytest.approx(step, rel=1e-4)
    direction = math.atan2(there[1] - here[1], there[0] - here[0])
    assert abs(wrap_angle(direction - float(here[2]))) < 1e-3


@given(scenario=SCENARIO, place=PLACE, lateral=st.floats(-4.0, 4.0), hint=st.floats(-8.0, 8.0))
def test_projecting_undoes_placing(scenario: int, place: float, lateral: float, hint: float) -> None:
    """Where a car was put is where it is found, also by a hint that is a few metres old."""
    lane = lane_of(scenario)
    s = place * lane.length
    x, y = lane.points(np.array([s]), np.array([lateral]))[0]
    found = lane.project(float(x), float(y), s + hint)
    assert 0.0 <= found.arc_length < lane.length
    assert abs(lane.ahead(s, found.arc_length)) < 1e-6
    assert found.lateral == pytest.approx(lateral, abs=1e-6)
    assert abs(wrap_angle(found.heading - float(lane.poses(np.array([s]))[0, 2]))) < 1e-6


def test_right_is_positive() -> None:
    """A point to the right has a positive offset, and a right-hand bend a positive curvature."""
    lane = Lane(((0, 0), (100, 0), (100, 100), (0, 100)), 10)
    assert lane.project(50.0, 1.5, 40.0).lateral == pytest.approx(1.5)
    assert all(segment.curvature >= 0 for segment in lane.segments)
    assert lane.length == pytest.approx(4 * 80 + 2 * math.pi * 10)


@given(scenario=SCENARIO, place=PLACE)
def test_waypoints_lie_ahead_on_the_centreline(scenario: int, place: float) -> None:
    """Waypoint k is the centreline k spacings ahead, to a millimetre."""
    lane = lane_of(scenario)
    s = place * lane.length
    expected = lane.poses(np.arange(s + 2.0, s + 51.0, 2.0)[:25])[:, :2]
    assert np.abs(lane.waypoints(s, 25, 2.0) - expected).max() < 1e-3


@given(start=PLACE, way=st.floats(-200.0, 200.0))
def test_the_way_ahead_is_signed_and_short(start: float, way: float) -> None:
    """Driving over the end of the loop is driving on, not driving a lap back."""
    lane = lane_of(0)
    s = start * lane.length
    assert lane.ahead(s, (s + way) % lane.length) == pytest.approx(way, abs=1e-6)


@pytest.mark.parametrize(
    ("corners", "radius", "complaint"),
    [
        (((0, 0), (1, 0)), 1.0, "at least three"),
        (((0, 0), (50, 0), (100, 0), (50, 80)), 5.0, "corner 1"),
        (((0, 0), (10, 0), (10, 10), (0, 10)), 6.0, "overlap"),
        (((0, 0), (50, 0), (50, 50)), (5.0, 5.0), "3 corners need 3 radii"),
        (((0, 0), (80, 0), (80, 40), (40, 40), (20, -40), (0, -40)), 5.0, "only right angles"),
    ],
)
def test_a_lane_that_cannot_be_says_why(
    corners: tuple[tuple[float, float], ...], radius: float | tuple[float, ...], complaint: str
) -> None:
    """A bad polygon is refused with the corner that is wrong."""
    with pytest.raises(ValueError, match=complaint):
        Lane(corners, radius)


def test_a_road_that_does_not_exist_is_refused() -> None:
    """--scenario 4 is an error, not the last road."""
    with pytest.raises(ValueError, match="no driving scenario 4"):
        lane_of(4)


def test_a_lane_knows_where_it_crosses_itself() -> None:
    """Both passes of a crossing are the same point, a quarter turn apart; other roads have none."""
    assert [len(lane_of(k).crossings) for k in range(len(SCENARIOS))] == [0, 0, 0, 1]
    (crossing,) = lane_of(3).crossings
    first, second = lane_of(3).poses(np.array(crossing.places))
    assert np.allclose(first[:2], second[:2], atol=1e-9)
    assert wrap_angle(float(second[2] - first[2])) == pytest.approx(crossing.turn * math.pi / 2)


def test_a_crossing_knows_its_side() -> None:
    """In the mirror image the second pass goes to the first one's other side."""
    eight = ((0.0, 0.0), (80.0, 0.0), (80.0, 40.0), (40.0, 40.0), (40.0, -40.0), (0.0, -40.0))
    assert Lane(eight, 5.0).crossings[0].turn == -1
    assert Lane(tuple((x, -y) for x, y in eight), 5.0).crossings[0].turn == 1


@pytest.mark.parametrize(("count", "spacing"), [(25, 0.25), (int(HORIZON), 1.0), (5, 0.0)])
def test_waypoints_the_table_does_not_hold_are_refused(count: int, spacing: float) -> None:
    """Asking for what the table cannot give is an error, not a wrong point."""
    with pytest.raises(ValueError, match="waypoint"):
        lane_of(0).waypoints(0.0, count, spacing)
