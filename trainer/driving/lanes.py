"""Lane geometry: a closed lane of straights and arcs; from x, y to the lane's own coordinates and back.

The one fact to hold: coordinates are CARLA's. x points forward, y to the RIGHT, angles grow clockwise seen
from above, so a positive lateral offset, a positive curvature and a positive steering angle all mean
"right". The formulas are the usual ones; only the picture is mirrored. It exists so that every world gives
the environment the same facts about the lane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TABLE_STEP = 0.1
"""Metres between the points of the centreline table that waypoints are read from."""

HORIZON = 60.0
"""Metres by which the table runs on past the end of the loop, so that looking ahead never wraps."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of constant curvature: `start` and `length` in m of arc, `curvature` in 1/m.

    `x`, `y` (m) and `heading` (rad) are the pose of its first point.
    """

    start: float
    length: float
    curvature: float
    x: float
    y: float
    heading: float


@dataclass(frozen=True, slots=True)
class LanePoint:
    """A place in lane coordinates: arc length (m), offset (m, right positive), lane direction (rad)."""

    arc_length: float
    lateral: float
    heading: float


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where a lane crosses itself at a right angle.

    Attributes:
        places: the arc lengths of its two passes over the same point, m.
        turn: 1 if the second pass goes to the first one's right, -1 if to its left.
    """

    places: tuple[float, float]
    turn: int


def wrap_angle(angle: float) -> float:
    """Return the same direction in [-pi, pi)."""
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


class Lane:
    """A closed lane through the corners of a polygon, each corner rounded by an arc.

    Args:
        corners: at least three (x, y) in m, in driving order.
        radius: of the arcs in m, one for all corners or one for each.

    Raises:
        ValueError: fewer than three corners, a corner that does not turn, arcs that do not fit between
        two corners, or a lane that crosses itself on two straights, but not at a right angle.
    """

    def __init__(self, corners: Sequence[tuple[float, float]], radius: float | Sequence[float]) -> None:
        radii = (
            [float(radius)] * len(corners) if isinstance(radius, (int, float)) else [float(r) for r in radius]
        )
        self.segments = _round_corners(corners, radii)
        self.length = self.segments[-1].start + self.segments[-1].length
        self.crossings = _crossings(self.segments)
        """Where it crosses itself; straights are looked at, arcs are not."""
        self._starts = np.array([segment.start for segment in self.segments])
        self._fields = np.array([(s.curvature, s.x, s.y, s.heading) for s in self.segments])
        self._table = self.poses(np.arange(0.0, self.length + HORIZON, TABLE_STEP))[:, :2].copy()

    def poses(self, arc_length: Floats) -> Floats:
        """Return the centreline's x, y (m) and heading (rad): float64 [n, 3] for arc lengths [n], any lap."""
        s = np.mod(arc_length, self.length)
        index = np.searchsorted(self._starts, s, side="right") - 1
        curvature, x, y, heading = self._fields[index].T
        along = s - self._starts[index]
        half = 0.5 * curvature * along
        # An arc's chord is along * sinc(half) long and points to heading + half; so does a straight's.
        chord = along * np.sinc(half / np.pi)
        return np.stack(
            (x + chord * np.cos(heading + half), y + chord * np.sin(heading + half), heading + 2 * half),
            axis=1,
        )

    def points(self, arc_length: Floats, lateral: Floats) -> Floats:
        """Return x, y of places in lane coordinates: float64 [n, 2] for arc lengths and offsets [n], m."""
        pose = self.poses(arc_length)
        normal = np.stack((-np.sin(pose[:, 2]), np.cos(pose[:, 2])), axis=1)
        places: Floats = pose[:, :2] + np.asarray(lateral)[:, None] * normal
        return places

    def waypoints(self, arc_length: float, count: int, spacing: float) -> Floats:
        """Return the centreline ahead: float64 [count, 2], x and y in m, the first `spacing` m of arc ahead.

        Raises:
            ValueError: `spacing` is no multiple of TABLE_STEP, or the last point lies further ahead than
            HORIZON.
        """
        stride = round(spacing / TABLE_STEP)
        if abs(stride * TABLE_STEP - spacing) > 1e-9 or stride < 1:
            raise ValueError(f"waypoint spacing must be a multiple of {TABLE_STEP} m, got {spacing}")
        if count * spacing > HORIZON - 2 * TABLE_STEP:
            raise ValueError(f"{count} waypoints {spacing} m apart reach beyond the table's {HORIZON} m")
        place = (arc_length % self.length) / TABLE_STEP
        first = int(place)
        fraction = place - first
        end = first + count * stride + 1
        here = self._table[first + stride : end : stride]
        following = self._table[first + stride + 1 : end + 1 : stride]
        return here + fraction * (following - here)

    def project(self, x: float, y: float, near: float) -> LanePoint:
        """Return the closest place to (x, y) on the segment at arc length `near` and its two neighbours.

        The hint makes it fast, and keeps a car on its own stretch where the lane comes close to itself.
        """
        last = len(self.segments) - 1
        index = int(np.searchsorted(self._starts, near % self.length, side="right")) - 1
        best, best_distance = None, math.inf
        for k in (index, index + 1 if index < last else 0, index - 1 if index > 0 else last):
            candidate, distance, inside = _project(self.segments[k], x, y)
            if distance < best_distance:
                best, best_distance = candidate, distance
            if inside and k == index:
                break
        assert best is not None
        if best.arc_length < self.length:
            return best
        return LanePoint(best.arc_length - self.length, best.lateral, best.heading)

    def ahead(self, start: float, end: float) -> float:
        """Return the signed way in m along the lane from one arc length to another, the shorter way round."""
        half = 0.5 * self.length
        return (end - start + half) % self.length - half


def _project(segment: Segment, x: float, y: float) -> tuple[LanePoint, float, bool]:
    """Return the closest place on a segment, its distance in m, and whether it lies between the ends."""
    dx, dy = x - segment.x, y - segment.y
    cos, sin = math.cos(segment.heading), math.sin(segment.heading)
    curvature, length = segment.curvature, segment.length
    if curvature == 0.0:
        along = dx * cos + dy * sin
        lateral = dy * cos - dx * sin
        heading = segment.heading
    else:
        # Vector from the arc's centre; the centre lies 1/curvature to the right of the first point.
        rx, ry = dx + sin / curvature, dy - cos / curvature
        sign = math.copysign(1.0, curvature)
        heading = math.atan2(rx * sign, -ry * sign)
        # Measured from the middle of the arc: the cut of the angle lies on the far side of the circle.
        middle = segment.heading + 0.5 * curvature * length
        along = wrap_angle(heading - middle) / curvature + 0.5 * length
        lateral = (1.0 - math.hypot(rx, ry) * abs(curvature)) / curvature
        heading = segment.heading + curvature * along
    inside = 0.0 <= along < length
    if inside:
        return LanePoint(segment.start + along, lateral, heading), abs(lateral), True
    beyond = along if along < 0 else along - length
    clamped = min(max(along, 0.0), length)
    heading = segment.heading + curvature * clamped
    return LanePoint(segment.start + clamped, lateral, heading), math.hypot(lateral, beyond), False


def _round_corners(corners: Sequence[tuple[float, float]], radii: Sequence[float]) -> tuple[Segment, ...]:
    count = len(corners)
    if count < 3:
        raise ValueError(f"a closed lane needs at least three corners, got {count}")
    if len(radii) != count:
        raise ValueError(f"{count} corners need {count} radii, got {len(radii)}")
    edges = [
        (corners[(i + 1) % count][0] - x, corners[(i + 1) % count][1] - y) for i, (x, y) in enumerate(corners)
    ]
    headings = [math.atan2(dy, dx) for dx, dy in edges]
    turns = [wrap_angle(headings[i] - headings[i - 1]) for i in range(count)]
    for i, turn in enumerate(turns):
        if not 1e-3 < abs(turn) < math.pi - 1e-3:
            raise ValueError(
                f"corner {i} at {corners[i]} turns by {turn:.4f} rad; it must turn, and not back"
            )
    tangents = [radii[i] * math.tan(0.5 * abs(turns[i])) for i in range(count)]

    segments: list[Segment] = []
    start = 0.0
    for i, (x, y) in enumerate(corners):
        heading, after = headings[i], (i + 1) % count
        straight = math.hypot(*edges[i]) - tangents[i] - tangents[after]
        if straight <= 0:
            raise ValueError(
                f"the arcs at corners {i} and {after} overlap by {-straight:.2f} m; use smaller radii"
            )
        x, y = x + tangents[i] * math.cos(heading), y + tangents[i] * math.sin(heading)  # noqa: PLW2901  # the corner, moved to where its arc ends
        segments.append(Segment(start, straight, 0.0, x, y, heading))
        start += straight
        x, y = x + straight * math.cos(heading), y + straight * math.sin(heading)  # noqa: PLW2901  # and on to the next arc
        turn = turns[after]
        segments.append(
            Segment(start, radii[after] * abs(turn), math.copysign(1 / radii[after], turn), x, y, heading)
        )
        start += radii[after] * abs(turn)
    assert all(abs(a.start + a.length - b.start) < 1e-9 for a, b in pairwise(segments))
    return tuple(segments)


def _crossings(segments: Sequence[Segment]) -> tuple[Crossing, ...]:
    found = []
    straights = [segment for segment in segments if segment.curvature == 0.0]
    for first, second in combinations(straights, 2):
        turn = wrap_angle(second.heading - first.heading)
        if abs(math.sin(turn)) < 1e-9:
            continue
        dx, dy = second.x - first.x, second.y - first.y
        along_first = (dx * math.sin(second.heading) - dy * math.cos(second.heading)) / math.sin(turn)
        along_second = (dx * math.sin(first.heading) - dy * math.cos(first.heading)) / math.sin(turn)
        if not (0.0 <= along_first <= first.length and 0.0 <= along_second <= second.length):
            continue
        if abs(math.cos(turn)) > 1e-6:
            raise ValueError(
                f"the lane crosses itself at {math.degrees(turn):.1f} degrees; only right angles are possible"
            )
        places = (first.start + along_first, second.start + along_second)
        found.append(Crossing(places, 1 if turn > 0 else -1))
    return tuple(found)
