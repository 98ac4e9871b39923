"""Routes: the search over a map's waypoints, and the polyline in lane coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.driving.lanes import Lane
from trainer.driving.route import LENGTHS, STEP, Route, plan

LANE = Lane(((0, 0), (220, 0), (260, 110), (-30, 120)), 30.0)


def along(lane: Lane, length: float) -> Route:
    return Route(lane.poses(np.arange(0.0, length, STEP)))


@dataclass(frozen=True)
class Place:
    """A waypoint of a grid of streets: eastward along `row`, at whose crossings one may turn down a row."""

    row: int
    s: float
    end: float = math.inf
    turns: bool = False

    road_id = property(lambda self: self.row)
    section_id = lane_id = 0

    @property
    def transform(self) -> Any:
        location = SimpleNamespace(x=self.s, y=10.0 * self.row, z=0.0)
        return SimpleNamespace(location=location, rotation=SimpleNamespace(yaw=0.0))

    def next(self, distance: float) -> Sequence[Place]:
        s = self.s + distance
        if s > self.end:
            return []
        on = Place(self.row, s, self.end, self.turns)
        down = Place(self.row + 1, s, self.end, self.turns)
        return [on, on, down] if self.turns and s % 50 == 0 else [on]


@given(s=st.floats(5.0, 180.0), lateral=st.floats(-4.0, 4.0), hint=st.floats(-3.0, 3.0))
def test_a_place_comes_back_from_its_lane_coordinates(s: float, lateral: float, hint: float) -> None:
    """Arc length, offset and direction are the lane's own, to the breadth of a chord."""
    route = along(LANE, 250.0)
    ((x, y),) = LANE.points(np.array([s]), np.array([lateral]))
    place = route.place(x, y, s + hint)
    assert place.arc_length == pytest.approx(s, abs=0.1)
    assert place.lateral == pytest.approx(lateral, abs=0.02)
    assert place.heading == pytest.approx(LANE.poses(np.array([s]))[0, 2], abs=0.02)


@given(s=st.floats(0.0, 190.0))
def test_waypoints_are_those_of_the_lane(s: float) -> None:
    """Twenty-five points two metres apart, as the embedded world gives them."""
    expected = LANE.waypoints(s, 25, 2.0)
    assert np.allclose(along(LANE, 250.0).waypoints(s, 25, 2.0), expected, atol=0.05)


def test_where_the_road_ends_its_last_point_is_repeated() -> None:
    """The agent sees the end of the world come nearer, and no more."""
    route = along(LANE, 101.0)
    points = route.waypoints(95.0, 25, 2.0)
    assert points.shape == (25, 2)
    assert np.allclose(points[3:], route.waypoints(0.0, 1, 100.0), atol=1e-6)


def test_a_car_that_comes_near_itself_stays_on_its_own_stretch() -> None:
    """The place is looked for around the last one, not over the whole route."""
    there_and_back = np.array([(float(x), 0.0, 0.0) for x in range(100)])
    back = np.array([(float(x), 3.0, math.pi) for x in range(99, -1, -1)])
    route = Route(np.concatenate((there_and_back, back)))
    assert route.place(50.0, 2.0, 50.0).lateral == pytest.approx(2.0)
    assert route.place(50.0, 2.0, 152.0).lateral == pytest.approx(1.0)


@pytest.mark.parametrize("turns", [False, True])
def test_a_goal_lies_as_far_as_it_should_by_the_shortest_way(turns: bool) -> None:
    """The search over `next` also goes round corners; the route runs on past its goal."""
    for seed in range(5):
        route = plan(Place(0, 0.0, turns=turns), np.random.default_rng(seed))
        assert LENGTHS[0] <= route.length <= LENGTHS[1] + 10 * LENGTHS[1] / 50
        assert len(route.waypoints(route.length, 25, 2.0)) == 25
        assert route.waypoints(route.length, 25, 2.0)[-1, 0] > route.waypoints(route.length, 1, 2.0)[0, 0]


def test_a_route_is_drawn_by_its_seed() -> None:
    """The same start and seed give the same way, another seed another one."""
    lengths = [plan(Place(0, 0.0, turns=True), np.random.default_rng(k)).length for k in (1, 1, 2)]
    assert lengths[0] == lengths[1] != lengths[2]


def test_a_short_road_is_driven_to_its_end_and_no_road_is_refused() -> None:
    """The farthest place is the goal where none is far enough; a place without a way on is an error."""
    assert plan(Place(0, 0.0, end=80.0), np.random.default_rng(0)).length == pytest.approx(80.0)
    with pytest.raises(ValueError, match="two points"):
        plan(Place(0, 0.0, end=0.5), np.random.default_rng(0))
