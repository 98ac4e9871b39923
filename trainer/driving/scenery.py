"""What stands on the road and beside it, drawn for people: cars, trees, lights.

The one fact to hold: things are drawn whole, the far before the near, and of a thing only the faces that
look at the camera. Sizes are in m. The agent never sees any of this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

from trainer.driving.lanes import Floats, Lane
from trainer.driving.view import View, box

Colour = tuple[int, int, int]

PAINTS: tuple[Colour, ...] = (
    (178, 34, 40),
    (38, 84, 160),
    (226, 226, 222),
    (58, 62, 68),
    (212, 160, 40),
    (46, 120, 84),
    (150, 156, 164),
    (120, 60, 110),
)
GLASS: Colour = (44, 58, 72)
TYRE: Colour = (22, 22, 24)
REAR_LIGHT: Colour = (164, 22, 24)
BRAKE_LIGHT: Colour = (255, 64, 48)
HEADLIGHT: Colour = (250, 246, 214)
PLATE: Colour = (232, 232, 226)
HAZE: Colour = (203, 216, 226)
VIVID: tuple[Colour, ...] = (
    *PAINTS,
    *((red * 7 // 10, green * 7 // 10, blue * 7 // 10) for red, green, blue in PAINTS),
    GLASS,
    REAR_LIGHT,
    BRAKE_LIGHT,
    HEADLIGHT,
)
"""Colours of small things, which a film with few colours must not lose."""
SUN = math.radians(60.0)
"""Where the light comes from, an angle of the world."""
ROUND = np.linspace(0.0, math.tau, 12, endpoint=False)
FAR = 170.0
"""m beyond which nothing is drawn."""


@dataclass(frozen=True)
class Tree:
    """A tree: place and height in m; `tint` in [0, 1]."""

    x: float
    y: float
    height: float
    tint: float


def plant(lane: Lane, lane_width: float) -> list[Tree]:
    """Return trees beside a road, the same each time: none within 9 m of its middle."""
    random = np.random.default_rng(20)
    along = np.arange(0.0, lane.length, 7.0)
    side = random.choice((-1.0, 1.0), along.size)
    away = side * random.uniform(11.0, 34.0, along.size) - 0.5 * lane_width
    places = lane.points(along, away)
    road = lane.points(
        np.arange(0.0, lane.length, 2.0), np.full(math.ceil(lane.length / 2.0), -0.5 * lane_width)
    )
    nearest = np.hypot(places[:, None, 0] - road[None, :, 0], places[:, None, 1] - road[None, :, 1]).min(
        axis=1
    )
    height, tint = random.uniform(4.0, 9.0, along.size), random.uniform(0.0, 1.0, along.size)
    return [
        Tree(float(places[k, 0]), float(places[k, 1]), float(height[k]), float(tint[k]))
        for k in np.flatnonzero(nearest > 9.0)
    ]


def hazy(colour: Colour, distance: float, light: float = 1.0) -> Colour:
    """Return a colour in a light of so much, seen over a distance in m."""
    share = 1.0 - math.exp(-max(distance, 0.0) / 260.0)
    red, green, blue = (
        round((1.0 - share) * min(c * light, 255.0) + share * h) for c, h in zip(colour, HAZE, strict=True)
    )
    return red, green, blue


def draw_tree(draw: ImageDraw.ImageDraw, view: View, tree: Tree, distance: float) -> None:
    """Draw a tree: a trunk, and a crown of three balls."""
    place = np.array([(tree.x, tree.y)])
    foot = view.polygon(place)
    if not foot:
        return
    (column, row), scale = foot[0], view.focal / max(distance, 1.0)
    trunk = 0.035 * tree.height * scale
    draw.rectangle(
        (column - trunk, row - 0.4 * tree.height * scale, column + trunk, row),
        fill=hazy((92, 70, 50), distance),
    )
    leaf = (52 + int(26 * tree.tint), 104 + int(22 * tree.tint), 46)
    for across, up, size, light in (
        (-0.13, 0.52, 0.24, 0.8),
        (0.14, 0.56, 0.24, 0.95),
        (0.0, 0.74, 0.26, 1.12),
    ):
        x, y, radius = (
            column + across * tree.height * scale,
            row - up * tree.height * scale,
            size * tree.height * scale,
        )
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=hazy(leaf, distance, light))


def draw_light(
    draw: ImageDraw.ImageDraw, view: View, pose: tuple[float, float, float], *, green: bool
) -> None:
    """Draw a traffic light at the foot (x, y), facing those who come along `heading`."""
    x, y, heading = pose
    (ahead, _), *_ = view.seen(np.array([(x, y)])).tolist()
    if ahead < 1.0:
        return
    facing = math.cos(heading - view.heading) > 0.3
    for sides, low, high, colour in (
        (0.07, 0.0, 2.4, (70, 74, 78)),
        (0.24, 2.4, 3.5, (34, 36, 38)),
    ):
        corners = box(x, y, view.heading, ((0, -sides), (0, sides), (0, sides), (0, -sides)))
        draw.polygon(view.polygon(corners, np.array((low, low, high, high))), fill=hazy(colour, ahead))
    if not facing:
        return
    for up, lit, colour in ((3.2, not green, (255, 56, 40)), (2.7, green, (60, 235, 96))):
        (column, row), *_ = view.polygon(np.array([(x, y)]), up)
        radius = 0.19 * view.focal / ahead
        draw.ellipse(
            (column - radius, row - radius, column + radius, row + radius),
            fill=colour if lit else (58, 50, 46),
        )


Place = tuple[float, float]
"""Forward and right of a car's middle, m."""


@dataclass(frozen=True)
class _Solid:
    """A thing with walls at (x, y, heading), so far away in m."""

    draw: ImageDraw.ImageDraw
    view: View
    pose: tuple[float, float, float]
    distance: float

    def wall(
        self,
        ends: tuple[Place, Place],
        rows: tuple[float, float],
        colour: Colour,
        top: tuple[Place, ...] = (),
    ) -> None:
        """Fill a wall whose outside is to the left of the way between its ends, if it looks at the camera.

        Args:
            ends: of its foot. rows: heights of foot and top, m. top: the ends of its top, if it leans.
        """
        above = top or ends
        ground = box(*self.pose, (*ends, above[1], above[0]))
        if _looks_away(self.view, ground[0], ground[1]):
            return
        along = math.atan2(ground[1, 1] - ground[0, 1], ground[1, 0] - ground[0, 0])
        light = 0.82 + 0.22 * math.cos(along + 0.5 * math.pi - SUN)
        low, high = rows
        corners = self.view.polygon(ground, np.array((low, low, high, high)))
        _fill(self.draw, corners, hazy(colour, self.distance, light))

    def lid(self, corners: Sequence[Place], up: float, colour: Colour, light: float = 1.0) -> None:
        """Fill what lies flat at a height in m."""
        seen = self.view.polygon(box(*self.pose, corners), up)
        _fill(self.draw, seen, hazy(colour, self.distance, light))

    def wheel(self, forward: float, right: float) -> None:
        """Draw a wheel on the side that is so far to the right."""
        outwards = math.copysign(1.0, right)
        ends = box(*self.pose, ((forward - outwards, right), (forward + outwards, right)))
        if not _looks_away(self.view, ends[0], ends[1]):
            rim = box(*self.pose, [(forward + 0.33 * math.cos(turn), right) for turn in ROUND])
            corners = self.view.polygon(rim, 0.33 + 0.33 * np.sin(ROUND))
            _fill(self.draw, corners, hazy(TYRE, self.distance))


def draw_car(
    draw: ImageDraw.ImageDraw, view: View, car: Sequence[float], paint: Colour, *, braking: bool = False
) -> None:
    """Draw a car: x, y, heading, length, width, in m and rad."""
    x, y, heading, length, width = car
    ahead = float(view.seen(np.array([(x, y)]))[0, 0])
    solid = _Solid(draw, view, (x, y, heading), max(ahead, 0.0))
    half, side = 0.5 * length, 0.5 * width
    shadow = ((-half - 0.2, -side - 0.15), (half + 0.2, -side - 0.15))
    solid.lid((*shadow, (half + 0.2, side + 0.35), (-half - 0.2, side + 0.35)), 0.0, (38, 40, 42))
    for right in (-side + 0.14, side - 0.14):
        solid.wall(((-half + 0.3, right - 0.12), (-half + 0.3, right + 0.12)), (0.0, 0.4), TYRE)

    body = _ring(-half, half, side)
    red, green, blue = paint
    sill = (red * 7 // 10, green * 7 // 10, blue * 7 // 10)
    for k in range(4):
        ends = (body[k], body[(k + 1) % 4])
        solid.wall(ends, (0.22, 0.55), sill)
        solid.wall(ends, (0.5, 0.92), paint)
    for forward in (-0.3 * length, 0.3 * length):
        solid.wheel(forward, -side)
        solid.wheel(forward, side)
    solid.lid(body, 0.92, paint, 1.1)

    foot = _ring(-0.46 * length, 0.24 * length, side - 0.06)
    roof = _ring(-0.33 * length, 0.06 * length, side - 0.22)
    for k in range(4):
        n = (k + 1) % 4
        solid.wall((foot[k], foot[n]), (0.92, 1.45), GLASS, (roof[k], roof[n]))
    solid.lid(roof, 1.45, paint, 1.15)

    for low, high in ((-side + 0.04, -side + 0.42), (side - 0.42, side - 0.04)):
        solid.wall(((-half, low), (-half, high)), (0.62, 0.82), BRAKE_LIGHT if braking else REAR_LIGHT)
        solid.wall(((half, high), (half, low)), (0.58, 0.76), HEADLIGHT)
    solid.wall(((-half, -0.3), (-half, 0.3)), (0.45, 0.58), PLATE)


def _ring(rear: float, front: float, side: float) -> tuple[Place, Place, Place, Place]:
    """Return corners in the order in which each wall between two has its outside to the left."""
    return (rear, -side), (rear, side), (front, side), (front, -side)


def _looks_away(view: View, a: Floats, b: Floats) -> bool:
    """Whether the outside of a wall from a to b, to the right of that way, is not seen."""
    return bool((b[0] - a[0]) * (view.y - a[1]) - (b[1] - a[1]) * (view.x - a[0]) < 0.0)


def _fill(draw: ImageDraw.ImageDraw, corners: list[tuple[float, float]], colour: Colour) -> None:
    if len(corners) >= 3:
        draw.polygon(corners, fill=colour)
