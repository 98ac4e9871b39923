"""The map in the corner of a picture and its instruments: what a glance cannot tell from the road alone.

The one fact to hold: a map has north up and x is north: a right turn on the road is one on the map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainer.driving.lanes import Floats, Lane

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

PANEL = (16, 22, 28, 168)
STEER, THROTTLE, BRAKE = (90, 200, 255), (90, 220, 110), (240, 90, 70)
ROUTE, CAR, EGO, EVENT = (90, 220, 255), (250, 200, 60), (40, 140, 255), (255, 240, 90)
EDGE = 8
"""Pixels between a panel and the picture's edge."""


@dataclass(frozen=True)
class Gauges:
    """What the instruments show.

    Attributes:
        title: who drives, and where. seconds: since the episode began. speed: m/s. steer, throttle: the
        action, in [-1, 1]. reward: of this step. total: of the episode so far. event: what happened, if
        anything did.
    """

    title: str
    seconds: float
    speed: float
    steer: float
    throttle: float
    reward: float
    total: float
    event: str = ""


class RoadPlan:
    """The map of a road, for pictures of `height` pixels."""

    def __init__(self, lane: Lane, lane_width: float, height: int) -> None:
        line = lane.points(
            np.arange(0.0, lane.length, 2.0), np.full(int(np.ceil(lane.length / 2.0)), -0.5 * lane_width)
        )
        self._low, high = line.min(axis=0), line.max(axis=0)
        size = high - self._low
        self._scale = min(0.30 * height / size[0], 0.42 * height / size[1])
        self._margin = 7
        columns, rows = (int(self._scale * size[k]) + 2 * self._margin for k in (1, 0))
        self._rows = rows
        larger = 3
        panel = Image.new("RGBA", (columns * larger, rows * larger), PANEL)
        corners = [(column * larger, row * larger) for column, row in self._at(line)]
        ImageDraw.Draw(panel).line([*corners, *corners[:2]], fill=(150, 156, 162), width=9, joint="curve")
        self._panel = panel.resize((columns, rows), Image.Resampling.LANCZOS)

    def draw(self, image: Image.Image, pose: tuple[float, float, float], cars: Floats, route: Floats) -> None:
        """Put the map into the upper right corner: cars, the route ahead [n, 2], the ego car's pose."""
        panel = self._panel.copy()
        draw = ImageDraw.Draw(panel)
        draw.line(self._at(route), fill=ROUTE, width=3)
        for column, row in self._at(cars[:, :2]):
            draw.ellipse((column - 1.6, row - 1.6, column + 1.6, row + 1.6), fill=CAR)
        x, y, heading = pose
        turn = np.array(((np.cos(heading), -np.sin(heading)), (np.sin(heading), np.cos(heading))))
        arrow = np.array(((6.0, 0.0), (-4.5, 4.0), (-4.5, -4.0))) @ turn.T / self._scale + (x, y)
        draw.polygon(self._at(arrow), fill=EGO, outline=(255, 255, 255))
        image.paste(panel, (image.width - panel.width - EDGE, EDGE), panel)

    def _at(self, places: Floats) -> list[tuple[float, float]]:
        columns = self._margin + (places[:, 1] - self._low[1]) * self._scale
        rows = self._rows - self._margin - (places[:, 0] - self._low[0]) * self._scale
        return list(zip(columns.tolist(), rows.tolist(), strict=True))


def draw_gauges(image: Image.Image, gauges: Gauges, fonts: tuple[Font, Font]) -> None:
    """Put the instruments into the upper left corner, and what happened into the middle."""
    font, small = fonts
    line = image.height // 20
    bar = int(0.16 * image.width)
    width, height = int(0.36 * image.width), 5 * line + 10
    panel = Image.new("RGBA", (width, height), PANEL)
    draw = ImageDraw.Draw(panel)
    white, dim = (255, 255, 255, 255), (176, 188, 198, 255)
    draw.text((8, 4), gauges.title, font=small, fill=dim)
    draw.text((8, 4 + line), f"{gauges.speed * 3.6:3.0f} km/h", font=font, fill=white)
    draw.text((width - 8, 4 + line), f"{gauges.seconds:4.1f} s", font=font, fill=white, anchor="ra")
    left = width - bar - 8
    for row, name, value, colour in (
        (2, "steer", gauges.steer, STEER),
        (3, "throttle", gauges.throttle, THROTTLE)
        if gauges.throttle >= 0
        else (3, "brake", gauges.throttle, BRAKE),
    ):
        top = 8 + row * line
        draw.text((8, top - 2), f"{name} {value:+.2f}", font=small, fill=dim)
        draw.rectangle((left, top + 2, left + bar, top + line - 5), fill=(70, 80, 90, 255))
        middle = left + 0.5 * bar
        end = middle + 0.5 * bar * value
        draw.rectangle((min(middle, end), top + 2, max(middle, end), top + line - 5), fill=colour)
        draw.line((middle, top, middle, top + line - 3), fill=white)
    draw.text(
        (8, 6 + 4 * line), f"reward {gauges.reward:+5.2f}   sum {gauges.total:+7.1f}", font=small, fill=white
    )
    image.paste(panel, (EDGE, EDGE), panel)
    if gauges.event:
        place = (0.5 * image.width, 0.42 * image.height)
        ImageDraw.Draw(image).text(
            place,
            gauges.event,
            font=font,
            fill=EVENT,
            anchor="mm",
            stroke_width=2,
            stroke_fill=(20, 20, 20),
        )
