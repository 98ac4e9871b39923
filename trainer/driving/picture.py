"""A picture of the driving world for people: what a driver sees, a map, and how the driving goes.

The one fact to hold: it is drawn from facts and geometry alone, and has nothing to do with the camera that
the agent sees through. It is drawn twice as large as it is shown, so that far lines do not flicker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from trainer.driving import scenery
from trainer.driving.dashboard import (
    BRAKE,
    CAR,
    EGO,
    EVENT,
    ROUTE,
    STEER,
    THROTTLE,
    Gauges,
    RoadPlan,
    draw_gauges,
)
from trainer.driving.junction import STOP_LINE, middles
from trainer.driving.lanes import Floats, Lane
from trainer.driving.scenery import FAR, HAZE, PAINTS, Colour, draw_car, draw_light, draw_tree, hazy, plant
from trainer.driving.view import CHASE, DRIVER, Mount, View

VIVID: tuple[Colour, ...] = (*scenery.VIVID, STEER, THROTTLE, BRAKE, ROUTE, CAR, EGO, EVENT)
"""Colours that a film with few of them must not lose."""
LARGER = 2
SKY_TOP: Colour = (88, 142, 206)
GRASS_NEAR: Colour = (96, 138, 62)
KERB: Colour = (158, 154, 148)
ASPHALT: Colour = (84, 86, 90)
PAINT: Colour = (236, 236, 230)
STEP = 1.5
"""m between the places at which the road's edge is drawn."""
PIECE = 40
"""Steps of road that are one polygon: too few for the road to cross itself within."""
HILLS = ((0.010, 3.0, 0.4), (0.014, 5.0, 2.0), (0.006, 11.0, 1.1))
"""Height in rad, how often round the horizon, phase."""


@dataclass(frozen=True)
class Shot:
    """What there is to draw.

    Attributes:
        pose: x, y, heading of the ego car, m and rad. size: its length and width, m. arc_length: its place
        on the lane, m. cars: the others, float64 [n, 5] as a world gives them. braking: which of them brake.
        open_roads: of each crossing, which of its roads have green. gauges: what the instruments show.
    """

    pose: tuple[float, float, float]
    size: tuple[float, float]
    arc_length: float
    cars: Floats
    braking: NDArray[np.bool_]
    open_roads: tuple[tuple[bool, bool], ...]
    gauges: Gauges


class Painter:
    """Draws pictures of `width` x `height` pixels of one road."""

    def __init__(
        self, lane: Lane, lane_width: float, *, width: int = 640, height: int = 360, chase: bool = False
    ) -> None:
        self.lane, self.lane_width = lane, lane_width
        self.width, self.height = width, height
        self.mount: Mount = CHASE if chase else DRIVER
        self._trees = plant(lane, lane_width)
        self._tree_places = np.array([(tree.x, tree.y) for tree in self._trees]).reshape(-1, 2)
        self._plan = RoadPlan(lane, lane_width, height)
        self._fine = np.random.default_rng(3).normal(0.0, 1.0, (256, 256))
        self._broad = _smooth(self._fine)
        self._along = np.arange(0.0, lane.length, STEP)
        self._middles = [
            place for crossing in lane.crossings for place in middles(crossing, -0.5 * lane_width)
        ]
        self._fonts = (
            ImageFont.load_default(max(10, height // 24)),
            ImageFont.load_default(max(8, height // 32)),
        )

    def picture(self, shot: Shot) -> NDArray[np.uint8]:
        """Return the picture, uint8 [height, width, 3]."""
        view = View(self.mount, shot.pose, self.width * LARGER, self.height * LARGER)
        image = self._land(view)
        draw = ImageDraw.Draw(image)
        self._road(draw, view)
        self._things(draw, view, shot)
        if self.mount is DRIVER:
            _bonnet(draw, view)
        image = image.resize((self.width, self.height), Image.Resampling.LANCZOS)
        self._plan.draw(image, shot.pose, shot.cars, self.lane.waypoints(shot.arc_length, 25, 2.0))
        draw_gauges(image, shot.gauges, self._fonts)
        return np.asarray(image, np.uint8)

    def _land(self, view: View) -> Image.Image:
        """Sky, hills at the horizon, and grass."""
        columns, rows = self.width // 2, self.height // 2
        land = np.empty((rows, columns, 3))
        horizon = view.horizon / view.height * rows
        high = np.clip((np.arange(rows) + 0.5) / horizon, 0.0, 1.0)[:, None, None] ** 1.5
        land[:] = (1.0 - high) * np.array(SKY_TOP) + high * np.array(HAZE)
        first = max(math.ceil(horizon), 0)
        x, y, ahead = (part[first:] for part in view.ground(columns, rows))
        fine = self._fine[np.floor(x * 2.0).astype(int) % 256, np.floor(y * 2.0).astype(int) % 256]
        broad = self._broad[np.floor(x).astype(int) % 256, np.floor(y).astype(int) % 256]
        rough = 9.0 * fine * np.exp(-ahead / 14.0) + 6.0 * broad * np.exp(-ahead / 90.0)
        far = (1.0 - np.exp(-ahead / 320.0))[..., None]
        grass = np.array(GRASS_NEAR) + rough[..., None] * np.array((0.8, 1.0, 0.5))
        land[first:] = (1.0 - far) * grass + far * np.array(HAZE)
        image = Image.fromarray(np.clip(land, 0, 255).astype(np.uint8))
        image = image.resize((view.width, view.height), Image.Resampling.BILINEAR)
        across = np.linspace(0.0, view.width, 81)
        angle = view.heading + np.arctan((across - 0.5 * view.width) / view.focal)
        rise = np.zeros(across.size)
        for high_as, often, phase in HILLS:
            rise += high_as * (1.0 + np.sin(often * angle + phase))
        top = view.horizon - view.focal * rise
        ImageDraw.Draw(image).polygon(
            [*zip(across.tolist(), top.tolist(), strict=True), (view.width, view.horizon), (0, view.horizon)],
            fill=(150, 172, 178),
        )
        return image

    def _road(self, draw: ImageDraw.ImageDraw, view: View) -> None:
        """Kerbs, then asphalt, then paint: so one road's kerb does not lie across another's asphalt."""
        width = self.lane_width
        left, right = -1.5 * width, 0.5 * width
        places = self._near(view)
        along = self._along[places]
        for low, high, colour in ((left - 1.0, right + 1.0, KERB), (left - 0.4, right + 0.4, ASPHALT)):
            for piece in _pieces(places, PIECE):
                self._strip(draw, view, piece * STEP, (low, high), colour)
        painted = places[~self._in_crossing(along, 1.2)]
        for offset in (left, right):
            for piece in _pieces(painted, PIECE):
                self._strip(draw, view, piece * STEP, (offset - 0.08, offset + 0.08), PAINT)
        dashes = np.unique(along // 6.0) * 6.0
        for start in dashes[~self._in_crossing(dashes + 1.5, 2.0)]:
            ends = np.array((start, start + 1.5, start + 3.0))
            self._strip(draw, view, ends, (-0.5 * width - 0.07, -0.5 * width + 0.07), PAINT)
        for place in self._middles:
            for side, lane in (
                (-1.0, (-0.5 * width + 0.2, right - 0.2)),
                (1.0, (left + 0.2, -0.5 * width - 0.2)),
            ):
                ends = place + side * (STOP_LINE - 0.5) + np.array((-0.25, 0.25))
                if np.hypot(*(self.lane.poses(ends[:1])[0, :2] - (view.x, view.y))) < FAR:
                    self._strip(draw, view, ends, lane, PAINT)

    def _near(self, view: View) -> NDArray[np.int64]:
        """Which places of the lane, STEP m apart, may be seen."""
        seen = view.seen(self.lane.poses(self._along)[:, :2])
        return np.flatnonzero((seen[:, 0] > -12.0) & (np.hypot(seen[:, 0], seen[:, 1]) < FAR))

    def _in_crossing(self, along: Floats, more: float) -> NDArray[np.bool_]:
        lap = self.lane.length
        inside = np.zeros(along.size, np.bool_)
        for place in self._middles:
            inside |= np.abs((along - place + 0.5 * lap) % lap - 0.5 * lap) < STOP_LINE - 1.0 + more
        return inside

    def _strip(
        self,
        draw: ImageDraw.ImageDraw,
        view: View,
        along: Floats,
        across: tuple[float, float],
        colour: Colour,
    ) -> None:
        """Fill the road from one lateral offset to another along some places; m."""
        low, high = (self.lane.points(along, np.full(along.size, offset)) for offset in across)
        corners = view.polygon(np.concatenate((low, high[::-1])))
        if len(corners) >= 3:
            draw.polygon(corners, fill=hazy(colour, 0.5 * _distance(view, low)))

    def _things(self, draw: ImageDraw.ImageDraw, view: View, shot: Shot) -> None:
        """All that stands, the far first."""
        cars = shot.cars
        trees = view.seen(self._tree_places)
        near_trees = np.flatnonzero(
            (trees[:, 0] > 1.0) & (trees[:, 0] < FAR) & (np.abs(trees[:, 1]) < trees[:, 0] + 8.0)
        )
        seen = view.seen(cars[:, :2])
        near_cars = np.flatnonzero(
            (seen[:, 0] > -4.0) & (seen[:, 0] < FAR) & (np.abs(seen[:, 1]) < seen[:, 0] + 8.0)
        )
        lights = list(self._lights(view, shot.open_roads))
        order: list[tuple[float, str, int]] = [(float(trees[k, 0]), "tree", int(k)) for k in near_trees]
        order += [(float(seen[k, 0]), "car", int(k)) for k in near_cars]
        order += [(ahead, "light", k) for k, (ahead, _, _) in enumerate(lights)]
        if self.mount is CHASE:
            order.append((-self.mount.forward, "ego", 0))
        for ahead, kind, k in sorted(order, reverse=True):
            if kind == "tree":
                draw_tree(draw, view, self._trees[k], ahead)
            elif kind == "car":
                draw_car(draw, view, cars[k].tolist(), PAINTS[k % len(PAINTS)], braking=bool(shot.braking[k]))
            elif kind == "ego":
                draw_car(
                    draw, view, (*shot.pose, *shot.size), (30, 120, 220), braking=shot.gauges.throttle < 0
                )
            else:
                _, pose, green = lights[k]
                draw_light(draw, view, pose, green=green)

    def _lights(
        self, view: View, open_roads: tuple[tuple[bool, bool], ...]
    ) -> Iterable[tuple[float, tuple[float, float, float], bool]]:
        """Each light: how far ahead, its foot and the direction of those who obey it, whether green."""
        for crossing, is_open in zip(self.lane.crossings, open_roads, strict=True):
            for place, green in zip(middles(crossing, -0.5 * self.lane_width), is_open, strict=True):
                for side, lateral, turned in ((-1.0, 0.5, 0.0), (1.0, -1.5, math.pi)):
                    beside = lateral * self.lane_width - side * 1.4
                    along = np.array([place + side * STOP_LINE])
                    x, y = self.lane.points(along, np.array([beside]))[0].tolist()
                    ahead = float(view.seen(np.array([(x, y)]))[0, 0])
                    if 1.0 < ahead < FAR:
                        heading = float(self.lane.poses(along)[0, 2]) + turned
                        yield ahead, (x, y, heading), green


def _smooth(grain: Floats) -> Floats:
    """Return a pattern without its fine parts, of spread 1; it still repeats without a seam."""
    for _ in range(12):
        grain = (grain + np.roll(grain, 1, 0) + np.roll(grain, 1, 1) + np.roll(grain, (1, 1), (0, 1))) / 4.0
    return grain / float(grain.std())


def _pieces(places: NDArray[np.int64], longest: int) -> list[Floats]:
    """Cut rising numbers where one is missing and after so many; a piece begins where the last one ended."""
    pieces = []
    for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1):
        for first in range(0, len(run), longest):
            piece = run[first : first + longest + 1]
            if len(piece):
                pieces.append(np.append(piece, piece[-1] + 1).astype(np.float64))
    return pieces


def _distance(view: View, places: Floats) -> float:
    return float(np.hypot(places[:, 0] - view.x, places[:, 1] - view.y).min())


def _bonnet(draw: ImageDraw.ImageDraw, view: View) -> None:
    """Draw the bonnet of the driver's own car along the lower edge."""
    across = np.linspace(-1.0, 1.0, 25)
    for height, colour in ((0.105, (20, 62, 118)), (0.092, (34, 96, 170))):
        top = view.height * (1.0 - height * (1.0 - 0.35 * across**2 - 0.65 * across**8))
        columns = 0.5 * view.width * (1.0 + 0.86 * across)
        draw.polygon(
            [*zip(columns.tolist(), top.tolist(), strict=True), (view.width, view.height), (0, view.height)],
            fill=colour,
        )
