"""A ground-plane camera: what a pinhole camera on the bonnet sees of a flat road and the cars on it, in grey.

The one fact to hold: the camera does not move within the car, so each pixel below the horizon always meets
the ground at the same place in the ego frame. Those places are computed once; a frame is a rotation of
them, a look-up in a painted map of the road, and a box for every car. It exists because learning from
pixels needs a thousand frames a second on one core.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from trainer.driving.junction import STOP_LINE, middles
from trainer.driving.lanes import Floats, Lane

Grey = NDArray[np.uint8]

MOUNT_FORWARD, MOUNT_HEIGHT, FIELD_OF_VIEW = 2.0, 1.5, 90.0
"""m ahead of the car's centre, m above the ground, degrees across the image: the incident's camera."""

MAP_STEP = 0.1
"""m a pixel of the finest map."""
MAP_LEVELS = 5
"""Each level halves the one before: far pixels see means, so thin lines do not flicker."""
MAP_MARGIN = 30.0
"""m of grass painted round the lane; a camera that looks beyond sees the same grass."""

SKY_TOP, SKY_HORIZON, GRASS, ASPHALT, MARKING, KERB = 235, 205, 105, 55, 245, 150
CAR_REAR, CAR_SIDE, CAR_WINDOW, CAR_SHADOW = 190, 160, 25, 20


@dataclass(frozen=True)
class RoadMap:
    """A painting of the road from above, in MAP_LEVELS sizes laid end to end.

    `pixels` is uint8; level k has `shapes[k]` rows and columns of `MAP_STEP * 2**k` m and begins at
    `offsets[k]`; the corner of all is `origin` (x, y in m). Rows are x, columns y.
    """

    pixels: Grey
    offsets: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]
    origin: tuple[float, float]


def paint_road(lane: Lane, lane_width: float) -> RoadMap:
    """Paint the lane, its oncoming neighbour to the left, and their markings.

    The ego lane has a solid line to its right and a broken one (3 m drawn, 3 m not) to its left; kerbs edge
    the asphalt. A crossing is bare asphalt between four stop lines.
    """
    along = np.arange(0.0, lane.length, MAP_STEP / 2)
    across = np.arange(-1.5 * lane_width - 1.0, 0.5 * lane_width + 1.0, MAP_STEP / 2)
    grey = np.full((along.size, across.size), ASPHALT, np.uint8)
    left, right, outer = -0.5 * lane_width, 0.5 * lane_width, -1.5 * lane_width
    grey[:, (across > right + 0.4) | (across < outer - 0.4)] = KERB
    grey[:, np.abs(across - right) < 0.12] = MARKING
    grey[:, np.abs(across - outer) < 0.12] = MARKING
    drawn = np.mod(along, 6.0) < 3.0
    grey[np.ix_(drawn, np.abs(across - left) < 0.12)] = MARKING
    painted = _paint_crossings(grey, lane, lane_width, along, across)

    edge = lane.poses(np.arange(0.0, lane.length, 1.0))[:, :2]
    low, high = edge.min(axis=0) - MAP_MARGIN, edge.max(axis=0) + MAP_MARGIN
    block = 2 ** (MAP_LEVELS - 1)
    rows, columns = (math.ceil(size / MAP_STEP / block) * block for size in high - low)
    finest = np.full((rows, columns), GRASS, np.uint8)
    for k in range(across.size):
        points = lane.points(along, np.full(along.size, across[k]))
        index = ((points - low) / MAP_STEP).astype(np.int64)
        shown = index[painted[:, k]]
        finest[shown[:, 0], shown[:, 1]] = grey[painted[:, k], k]

    levels = [finest]
    for _ in range(MAP_LEVELS - 1):
        last = levels[-1].astype(np.uint16)
        mean = (last[::2, ::2] + last[1::2, ::2] + last[::2, 1::2] + last[1::2, 1::2] + 2) // 4
        levels.append(mean.astype(np.uint8))
    offsets = (0, *np.cumsum([level.size for level in levels[:-1]]).tolist())
    shapes = tuple((level.shape[0], level.shape[1]) for level in levels)
    return RoadMap(
        np.concatenate([level.ravel() for level in levels]), offsets, shapes, (float(low[0]), float(low[1]))
    )


def _paint_crossings(
    grey: Grey, lane: Lane, lane_width: float, along: Floats, across: Floats
) -> NDArray[np.bool_]:
    """Clear the strip where the lane crosses itself, and draw its stop lines.

    Returns:
        Which pixels of the strip are to be seen: not the kerbs that would lie across the other pass.
    """
    painted = np.ones(grey.shape, np.bool_)
    middle, half = -0.5 * lane_width, lane_width + 0.4
    for crossing in lane.crossings:
        for place in middles(crossing, middle):
            away = (along - place + 0.5 * lane.length) % lane.length - 0.5 * lane.length
            grey[np.ix_(np.abs(away) < STOP_LINE, np.abs(across - middle) < half)] = ASPHALT
            painted[np.ix_(np.abs(away) < half, np.abs(across - middle) >= half)] = False
            for side in (1, -1):
                line = np.abs(away + side * (STOP_LINE - 0.5)) < 0.2
                lane_of_it = np.abs(across - middle - side * 0.5 * lane_width) < 0.5 * lane_width - 0.1
                grey[np.ix_(line, lane_of_it)] = MARKING
    return painted


class Camera:
    """Renders frames of `height` x `width` pixels over one road map."""

    def __init__(self, road: RoadMap, height: int, width: int) -> None:
        self.road = road
        self.height, self.width = height, width
        self.focal = 0.5 * width / math.tan(math.radians(0.5 * FIELD_OF_VIEW))
        """Pixels; the optical axis is level and passes through the image's centre."""
        self._horizon = height // 2 + 1
        rows, columns = np.mgrid[self._horizon : height, 0:width]
        forward = self.focal * MOUNT_HEIGHT / (rows + 0.5 - 0.5 * height)
        right = forward * (columns + 0.5 - 0.5 * width) / self.focal
        self._forward = (forward + MOUNT_FORWARD).ravel().astype(np.float32)
        self._right = right.ravel().astype(np.float32)

        # A pixel covers forward / focal metres across and much more along: its level is between the two.
        cover = np.sqrt((forward / self.focal) * (forward**2 / (self.focal * MOUNT_HEIGHT)))
        level = np.clip(np.round(np.log2(cover / MAP_STEP)), 0, MAP_LEVELS - 1).astype(np.int64).ravel()
        self._scale = (1.0 / (MAP_STEP * 2.0**level)).astype(np.float32)
        shapes = np.array(road.shapes)[level]
        self._row_limit = (shapes[:, 0] - 1).astype(np.float32)
        self._column_limit = (shapes[:, 1] - 1).astype(np.float32)
        self._stride = shapes[:, 1].astype(np.int32)
        self._offset = np.array(road.offsets)[level].astype(np.int32)

        sky = np.linspace(SKY_TOP, SKY_HORIZON, self._horizon).astype(np.uint8)
        self._blank = np.full((height, width), GRASS, np.uint8)
        self._blank[: self._horizon] = sky[:, None]

    def frame(self, x: float, y: float, heading: float, cars: Floats) -> Grey:
        """Return what is seen from a car at (x, y, heading): uint8 [height, width].

        Args:
            x, y, heading: of the ego car's centre, m and rad.
            cars: the others, float64 [n, 5]: x, y, heading, length, width, in m and rad.
        """
        cos, sin = np.float32(math.cos(heading)), np.float32(math.sin(heading))
        row = (self._forward * cos - self._right * sin + np.float32(x - self.road.origin[0])) * self._scale
        column = (self._forward * sin + self._right * cos + np.float32(y - self.road.origin[1])) * self._scale
        np.clip(row, 0, self._row_limit, out=row)
        np.clip(column, 0, self._column_limit, out=column)
        index = row.astype(np.int32) * self._stride + column.astype(np.int32) + self._offset
        image = self._blank.copy()
        image[self._horizon :] = self.road.pixels[index].reshape(-1, self.width)
        if len(cars):
            self._draw_cars(image, x, y, heading, cars)
        return image

    def _draw_cars(self, image: Grey, x: float, y: float, heading: float, cars: Floats) -> None:
        cos, sin = math.cos(heading), math.sin(heading)
        dx, dy = cars[:, 0] - x, cars[:, 1] - y
        ahead, right = dx * cos + dy * sin, dy * cos - dx * sin
        seen = np.flatnonzero((ahead > MOUNT_FORWARD + 0.5) & (ahead < 80.0) & (np.abs(right) < ahead + 4.0))
        for k in seen[np.argsort(-ahead[seen])]:
            _, _, direction, length, width = cars[k]
            self._draw_car(image, ahead[k], right[k], turned=direction - heading, length=length, width=width)

    def _draw_car(
        self, image: Grey, ahead: float, right: float, *, turned: float, length: float, width: float
    ) -> None:
        """Draw a box: what spans all its corners (the sides), then its near face with window and shadow."""
        cos, sin = math.cos(turned), math.sin(turned)
        corners = [
            (ahead + a * cos - b * sin - MOUNT_FORWARD, right + a * sin + b * cos)
            for a, b in (
                (-length / 2, -width / 2),
                (-length / 2, width / 2),
                (length / 2, -width / 2),
                (length / 2, width / 2),
            )
        ]
        corners = [(max(depth, 0.5), side) for depth, side in corners]
        depth = min(corner[0] for corner in corners)
        columns = [self._column(side / away) for away, side in corners]
        near = sorted(range(4), key=lambda i: corners[i][0])[:2]
        left_face, right_face = sorted(columns[i] for i in near)
        bottom, top = self._row(MOUNT_HEIGHT / depth), self._row((MOUNT_HEIGHT - 1.45) / depth)
        waist = self._row((MOUNT_HEIGHT - 0.85) / depth)
        _fill(image, (waist - 1, bottom), (min(columns), max(columns)), CAR_SIDE)
        _fill(image, (top, bottom), (left_face, right_face), CAR_REAR)
        inset = (right_face - left_face) // 8
        _fill(image, (top + 1, waist), (left_face + inset, right_face - inset), CAR_WINDOW)
        _fill(image, (bottom - 1, bottom + max(1, (bottom - top) // 8)), (left_face, right_face), CAR_SHADOW)

    def _column(self, slope: float) -> int:
        return round(0.5 * self.width + self.focal * slope)

    def _row(self, slope: float) -> int:
        return round(0.5 * self.height + self.focal * slope)


def _fill(image: Grey, rows: tuple[int, int], columns: tuple[int, int], grey: int) -> None:
    image[max(rows[0], 0) : max(rows[1], 0), max(columns[0], 0) : max(columns[1], 0)] = grey


@lru_cache(maxsize=4)
def road_map(lane: Lane, lane_width: float) -> RoadMap:
    """Return the painting of a lane, painted once."""
    return paint_road(lane, lane_width)
