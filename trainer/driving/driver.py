"""A driver by rule, for pictures and for comparison: it follows the lane and keeps its distance.

The one fact to hold: it sees what no agent is shown, the other cars' places. What it reaches is what a road
and its traffic allow, not what can be learnt from a camera.
"""

from __future__ import annotations

import math

import numpy as np

from trainer.driving.kinematic_world import LANE_WIDTH, WAYPOINT_SPACING, CarModel
from trainer.driving.lanes import Floats, wrap_angle
from trainer.driving.traffic import follow
from trainer.driving.world import Facts

LOOK_AHEAD = 3
"""Which waypoint it steers for, counted from 0: 8 m ahead."""
WISHED_SPEED = 8.5
"""m/s."""


def drive(facts: Facts, cars: Floats, before: Floats, dt: float, car: CarModel) -> tuple[float, float]:
    """Return steer and throttle, both in [-1, 1].

    Pure pursuit of a waypoint (Coulter 1992, CMU-RI-TR-92-01), and the intelligent driver model behind the
    car ahead.

    Args:
        facts: where the ego car is. cars, before: the others now and `dt` s ago, float64 [n, 5] as a world
        gives them. car: its own limits.
    """
    x, y = facts.waypoints[LOOK_AHEAD]
    way = math.hypot(x - facts.x, y - facts.y)
    aside = wrap_angle(math.atan2(y - facts.y, x - facts.x) - facts.heading)
    wheel = math.atan(2.0 * car.wheelbase * math.sin(aside) / way)
    gap, leading = _ahead(facts, cars, before, dt)
    speed = np.array([facts.speed])
    push = float(follow(speed, np.array([gap]), speed - leading, np.array([WISHED_SPEED]))[0])
    pull = push + car.drag * facts.speed
    throttle = pull / (car.throttle_limit if pull > 0 else car.brake_limit)
    return min(max(wheel / car.steer_limit, -1.0), 1.0), min(max(throttle, -1.0), 1.0)


def _ahead(facts: Facts, cars: Floats, before: Floats, dt: float) -> tuple[float, float]:
    """Return gap, m, and speed, m/s, of the nearest car on the way ahead; far away where there is none."""
    if not len(cars):
        return 1e6, 0.0
    apart = np.hypot(
        cars[:, None, 0] - facts.waypoints[None, :, 0], cars[:, None, 1] - facts.waypoints[None, :, 1]
    )
    forward = np.cos(cars[:, 2] - facts.heading) > 0.0
    on_the_way = np.flatnonzero((apart.min(axis=1) < 0.5 * LANE_WIDTH) & forward)
    if not len(on_the_way):
        return 1e6, 0.0
    nearest = on_the_way[np.argmin(apart[on_the_way].argmin(axis=1))]
    way = (int(apart[nearest].argmin()) + 1) * WAYPOINT_SPACING
    leading = float(np.hypot(*(cars[nearest, :2] - before[nearest, :2]))) / dt
    return way - float(cars[nearest, 3]), leading
