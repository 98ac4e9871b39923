"""The lanes of our OpenDRIVE text, as the real client's map library reads it, against lanes.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.carla_server.process import result_of, why_not
from tests.carla_server.simulation import ROADS, map_of
from trainer.driving.kinematic_world import LANE_WIDTH
from trainer.driving.traffic import ONCOMING_LATERAL

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "carla is here")

SIDES = {"ego": (0.0, 0.0), "oncoming": (ONCOMING_LATERAL, math.pi)}


def survey(_port: int, name: str, side: str) -> dict[str, Any]:
    """Look up a lane every half metre, then go round it by `next`."""
    import carla

    road = map_of(name)
    lane, (lateral, turn) = road.lane, SIDES[side]
    assert lane is not None
    lanes = carla.Map(name, road.opendrive)
    along = np.arange(0.0, lane.length, 0.5)
    places, headings = lane.points(along, np.full(along.size, lateral)), lane.poses(along)[:, 2]
    found = [lanes.get_waypoint(carla.Location(float(x), float(y), 0.0)) for x, y in places]
    off = [
        lane.project(point.transform.location.x, point.transform.location.y, near).lateral - lateral
        for point, near in zip(found, along, strict=True)
    ]
    displaced = [
        math.hypot(point.transform.location.x - x, point.transform.location.y - y)
        for point, (x, y) in zip(found, places, strict=True)
    ]
    turned = [
        math.remainder(math.radians(point.transform.rotation.yaw) - heading - turn, math.tau)
        for point, heading in zip(found, headings, strict=True)
    ]

    here, near, steps, off_lap = found[0], 0.0, 0, []
    forward = -1.0 if turn else 1.0
    travelled = 0.0
    while travelled < lane.length:
        branches = here.next(2.0)
        assert len(branches) == 1, (here, branches)
        here = branches[0]
        place = lane.project(here.transform.location.x, here.transform.location.y, near)
        travelled += forward * lane.ahead(near, place.arc_length)
        near = place.arc_length
        off_lap.append(place.lateral - lateral)
        steps += 1
        assert steps < lane.length
    return {
        "off": float(np.abs(off).max()),
        "displaced": max(displaced),
        "turned": float(np.abs(turned).max()),
        "widths": sorted({round(point.lane_width, 6) for point in found}),
        "lanes": sorted({point.lane_id for point in found}),
        "markings": sorted({f"{p.left_lane_marking.type} {p.right_lane_marking.type}" for p in found}),
        "off_lap": float(np.abs(off_lap).max()),
        "round": math.dist((here.transform.location.x, here.transform.location.y), places[0]),
        "grass": lanes.get_waypoint(carla.Location(1e3, 1e3, 0.0), project_to_road=False) is None,
    }


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ROADS)
def test_carla_map_has_the_lanes_where_lanes_py_has_them(name: str, side: str) -> None:
    """Everywhere to within 2 cm across; along the lane the library's own look-up is off by up to 15 cm."""
    seen = result_of(survey, 0, name, side)
    assert seen["off"] < 0.02
    assert seen["off_lap"] < 0.001
    assert seen["displaced"] < 0.15
    assert seen["turned"] < math.radians(1.0)
    assert seen["widths"] == [LANE_WIDTH]
    assert seen["lanes"] == [-1 if side == "ego" else 1]
    assert seen["markings"] == ["Broken Solid"]
    assert seen["round"] < 2.5, "a lap by next() ends where it began"
    assert seen["grass"]


def branches(_port: int) -> dict[str, Any]:
    """From each arm of the crossing, list where its three ways lead."""
    import carla

    crossing = map_of("Crossing")
    lanes = carla.Map("Crossing", crossing.opendrive)
    led: dict[str, list[Any]] = {}
    for x, y in ((13, -1.75), (1.75, 13), (-13, 1.75), (-1.75, -13)):
        arm = lanes.get_waypoint(carla.Location(float(x), float(y), 0.0))
        ways = arm.next(2.0)
        inside = [way.is_junction for way in ways]
        ends = []
        for way in ways:
            here = way
            for _ in range(40):
                if not here.is_junction:
                    break
                (here,) = here.next(1.0)
            turned = math.remainder(here.transform.rotation.yaw - arm.transform.rotation.yaw, 360.0)
            ends.append(round(turned))
        led[f"{x},{y}"] = [inside, sorted(ends), arm.is_junction]
    apart = [
        lanes.get_waypoint(carla.Location(point.x, point.y, 0.0)).transform.location.distance(
            carla.Location(point.x, point.y, 0.0)
        )
        for point in crossing.spawn_points
    ]
    return {"led": led, "apart": max(apart)}


def test_a_lane_has_three_ways_through_the_crossing() -> None:
    """From each arm to the left, straight on and to the right, each ending on a road again."""
    seen = result_of(branches, 0)
    for inside, ends, in_junction in seen["led"].values():
        assert inside == [True] * 3
        assert not in_junction
        assert ends == pytest.approx([-90, 0, 90], abs=2)
    assert seen["apart"] < 0.15, "every spawn point is in the middle of a lane"
