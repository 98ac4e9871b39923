"""A way to drive: a search over a map's waypoints, and the polyline that it gives.

The one fact to hold: this knows no simulator. A waypoint is anything with a place and `next(distance)`;
the real client's are such, and a test's. What comes out is a chain of points a metre apart that runs on past
the goal, so that there is always something ahead to look at. Coordinates are CARLA's (see lanes.py).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from trainer.driving.lanes import Floats, LanePoint, wrap_angle

STEP = 1.0
"""m between points of a route: a chord of it leaves a bend of 5 m radius by 2.5 cm."""

LENGTHS = (200.0, 600.0)
"""m: a goal lies so far from the start, where the map has such places."""

BEYOND = 60.0
"""m that a route runs on past its goal, where the road does."""

BEHIND, AHEAD = 6, 25
"""Points before and after the last place among which a car is looked for: it moves 1 m a step or so."""


class Waypoint(Protocol):
    """A place in a lane, as `carla.Waypoint` is: `s` in m along its road, `transform` in m and degrees."""

    @property
    def road_id(self) -> int: ...
    @property
    def section_id(self) -> int: ...
    @property
    def lane_id(self) -> int: ...
    @property
    def s(self) -> float: ...
    @property
    def transform(self) -> Any: ...
    def next(self, distance: float) -> Sequence[Waypoint]:
        """Return the places that far on, one for each way to go."""


class Route:
    """A polyline to drive along.

    Args:
        points: x, y (m) and heading (rad) of its points in driving order, float64 [n, 3]; at least two.
        length: m of arc from the first point to the goal; what lies behind it is only looked at.

    Raises:
        ValueError: there are fewer than two points.
    """

    def __init__(self, points: Floats, length: float | None = None) -> None:
        if len(points) < 2:
            raise ValueError(f"a route needs at least two points, got {len(points)}")
        self._places = points[:, :2]
        self._headings = np.unwrap(points[:, 2])
        self._chords = np.diff(self._places, axis=0)
        sizes = np.hypot(self._chords[:, 0], self._chords[:, 1])
        self._arc = np.concatenate(((0.0,), np.cumsum(sizes)))
        self._sizes = np.maximum(sizes, 1e-9)
        self.length = float(self._arc[-1]) if length is None else min(length, float(self._arc[-1]))

    def place(self, x: float, y: float, near: float) -> LanePoint:
        """Return the closest place to (x, y) on the stretch around arc length `near`."""
        index = int(np.searchsorted(self._arc, near, side="right")) - 1
        first = min(max(index - BEHIND, 0), len(self._chords) - 1)
        part = slice(first, min(index + AHEAD, len(self._chords)))
        offset = np.array((x, y)) - self._places[part]
        chord, size = self._chords[part], self._sizes[part]
        along = np.clip((offset * chord).sum(axis=1) / size**2, 0.0, 1.0)
        away = offset - along[:, None] * chord
        best = int(np.argmin((away**2).sum(axis=1)))
        k, share = first + best, float(along[best])
        heading = float(self._headings[k] + share * (self._headings[k + 1] - self._headings[k]))
        aside = away[best]
        lateral = math.copysign(math.hypot(*aside), chord[best, 0] * aside[1] - chord[best, 1] * aside[0])
        return LanePoint(float(self._arc[k] + share * self._sizes[k]), lateral, wrap_angle(heading))

    def waypoints(self, arc_length: float, count: int, spacing: float) -> Floats:
        """Return points ahead: float64 [count, 2], x and y in m, the first `spacing` m of arc ahead.

        Where the road ends, its last point is repeated.
        """
        ahead = arc_length + spacing * np.arange(1, count + 1)
        return np.stack([np.interp(ahead, self._arc, self._places[:, k]) for k in (0, 1)], axis=1)


def plan(start: Waypoint, random: np.random.Generator) -> Route:
    """Return the shortest way from `start` to a goal drawn from the places that lie LENGTHS m away.

    A breadth-first search over `next(STEP)`, all of whose steps are equally long. Where nothing lies far
    enough away the goal is the farthest place.

    Raises:
        ValueError: no way leads on from there.
    """
    came_from: list[tuple[Waypoint, int, int]] = [(start, -1, 0)]  # place, index of the one before, steps
    seen = {_cell(start)}
    waiting = deque([0])
    far: list[int] = []
    while waiting:
        index = waiting.popleft()
        place, _, steps = came_from[index]
        if steps * STEP >= LENGTHS[0]:
            far.append(index)
        if steps * STEP >= LENGTHS[1]:
            continue
        for after in place.next(STEP):
            cell = _cell(after)
            if cell not in seen:
                seen.add(cell)
                waiting.append(len(came_from))
                came_from.append((after, index, steps + 1))
    goal = int(random.choice(far)) if far else len(came_from) - 1
    way: list[Waypoint] = []
    index = goal
    while index >= 0:
        way.append(came_from[index][0])
        index = came_from[index][1]
    way.reverse()
    length = (len(way) - 1) * STEP
    for _ in range(round(BEYOND / STEP)):
        on = way[-1].next(STEP)
        if not on:
            break
        way.append(on[0])
    return Route(np.array([_pose(place) for place in way]), length)


def _cell(place: Waypoint) -> tuple[int, int, int, int]:
    """Return which metre of which lane a place lies in: two ways that meet are one from there on."""
    return place.road_id, place.section_id, place.lane_id, int(place.s / STEP)


def _pose(place: Waypoint) -> tuple[float, float, float]:
    where = place.transform
    return where.location.x, where.location.y, math.radians(where.rotation.yaw)
