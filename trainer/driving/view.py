"""Where a place in the world lies in a picture: a pinhole camera that looks a little down.

The one fact to hold: a polygon is cut at a plane just before the camera before it is projected; what lies
behind a camera would otherwise appear upside down before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.driving.lanes import Floats

NEAR = 0.4
"""m before the camera at which polygons are cut."""

Pixels = list[tuple[float, float]]
"""Corners of a polygon in a picture: columns and rows, which may lie outside it."""


@dataclass(frozen=True)
class Mount:
    """Where a camera sits on a car: m ahead of its centre, m above ground, rad downwards, degrees across."""

    forward: float
    height: float
    pitch: float
    field_of_view: float


DRIVER = Mount(forward=0.4, height=1.45, pitch=math.radians(4.0), field_of_view=75.0)
CHASE = Mount(forward=-9.0, height=3.6, pitch=math.radians(9.0), field_of_view=70.0)
"""From the driver's seat; and from behind and above the car, which is then to be seen too."""


class View:
    """A camera on a car at (x, y, heading), m and rad; its picture has `width` x `height` pixels."""

    def __init__(self, mount: Mount, pose: tuple[float, float, float], width: int, height: int) -> None:
        self.mount = mount
        self.width, self.height = width, height
        self.focal = 0.5 * width / math.tan(math.radians(0.5 * mount.field_of_view))
        x, y, self.heading = pose
        self._cos, self._sin = math.cos(self.heading), math.sin(self.heading)
        self.x, self.y = x + mount.forward * self._cos, y + mount.forward * self._sin
        self._down = math.cos(mount.pitch), math.sin(mount.pitch)
        self.horizon = 0.5 * height - self.focal * math.tan(mount.pitch)
        """The row at which the ground ends."""

    def seen(self, places: Floats) -> Floats:
        """Return places of the world as the camera has them: ahead and right of it, m; [n, 2] to [n, 2]."""
        dx, dy = places[:, 0] - self.x, places[:, 1] - self.y
        return np.stack((dx * self._cos + dy * self._sin, dy * self._cos - dx * self._sin), axis=1)

    def polygon(self, places: Floats, up: float | Floats = 0.0) -> Pixels:
        """Return a polygon of the world in the picture, cut at NEAR; fewer than three corners: not seen.

        Args:
            places: its corners' x and y, [n, 2], m. up: their heights above ground, one or [n], m.
        """
        seen = self.seen(places)
        cos, sin = self._down
        above = self.mount.height - np.broadcast_to(np.asarray(up, np.float64), len(seen))
        depth = seen[:, 0] * cos + above * sin
        points = np.stack((seen[:, 1], above * cos - seen[:, 0] * sin, depth), axis=1)
        if depth.min() < NEAR:
            points = _cut(points)
        scale = self.focal / points[:, 2]
        columns = 0.5 * self.width + points[:, 0] * scale
        rows = 0.5 * self.height + points[:, 1] * scale
        return list(zip(columns.tolist(), rows.tolist(), strict=True))

    def ground(self, columns: int, rows: int) -> tuple[Floats, Floats, Floats]:
        """Return where the pixels of a picture of that size meet the ground.

        Returns:
            x, y and distance ahead of each pixel, m; each [rows, columns]; those above the horizon are far.
        """
        right = (np.arange(columns) + 0.5) / columns * self.width - 0.5 * self.width
        down = (np.arange(rows) + 0.5) / rows * self.height - 0.5 * self.height
        cos, sin = self._down
        fall = np.maximum(down * cos + self.focal * sin, 1e-3)
        ahead = self.mount.height * (self.focal * cos - down * sin) / fall
        across = self.mount.height / fall
        ahead_all = np.repeat(ahead[:, None], columns, axis=1)
        right_all = across[:, None] * right[None, :]
        x = self.x + ahead_all * self._cos - right_all * self._sin
        y = self.y + ahead_all * self._sin + right_all * self._cos
        return x, y, ahead_all


def _cut(points: Floats) -> Floats:
    """Return the part of a polygon whose depth, the third number, is at least NEAR (Sutherland-Hodgman)."""
    kept: list[Floats] = []
    for before, here in zip(np.roll(points, 1, axis=0), points, strict=True):
        if (before[2] < NEAR) != (here[2] < NEAR):
            kept.append(before + (here - before) * (NEAR - before[2]) / (here[2] - before[2]))
        if here[2] >= NEAR:
            kept.append(here)
    return np.array(kept).reshape(-1, 3)


def box(
    x: float,
    y: float,
    heading: float,
    sides: Sequence[tuple[float, float]],
) -> Floats:
    """Return corners given as (forward, right) of a thing at (x, y, heading), in the world: [n, 2], m."""
    cos, sin = math.cos(heading), math.sin(heading)
    return np.array([(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in sides])
