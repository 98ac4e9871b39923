"""What is to be drawn of a story, as plain data: a few series, a limit, and marks. Pure.

A message carries its plot through the journal, so that nothing is lost over a restart and whoever sends it
draws it, in a thread of its own (notifier.picture). Everything is bounded here, whatever it is made from: a
row of the journal stays below some tens of kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_POINTS = 300
"""Points of one series; of more, those that shape the curve are kept."""

MOST_SERIES = 4
MOST_MARKS = 24
MOST_TEXT = 80
"""Characters of a label or a title."""

MARKS = ("onset", "fired", "checkpoint", "suspect", "rollback", "ended", "closed")
"""When it began; when it was seen; a good checkpoint, and one that is not to be trusted; where the run went
back from; where it was ended; where the story was closed."""

Point = tuple[float, float]
"""(step, value); the value may be NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Line:
    """One series.

    Attributes:
        label: what it is, as it is logged.
        parts: its points, a list for each attempt: a line is not drawn from one to the next.
        is_limit: it is what the others are held against.
    """

    label: str
    parts: tuple[tuple[Point, ...], ...]
    is_limit: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A step at which something happened. kind: one of MARKS. label: in a few words. to_step: of a rollback,
    where the run went on from.
    """

    kind: str
    step: float
    label: str
    to_step: float | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture.

    Attributes:
        title: in words. subtitle: of which run.
        axis: what its steps count.
        lines: what is drawn, the deciding one first.
        limit: value of the threshold, in the unit of the lines; None where it has none there.
        limit_label: what the limit is, in words.
        marks: see Mark.
    """

    title: str
    subtitle: str
    axis: str
    lines: tuple[Line, ...]
    limit: float | None = None
    limit_label: str = ""
    marks: tuple[Mark, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data; numbers that JSON does not know are written as text."""
        return {
            "title": self.title,
            "subtitle": self.subtitle,
            "axis": self.axis,
            "lines": [
                {
                    "label": line.label,
                    "parts": [[[_short(step), _short(value)] for step, value in part] for part in line.parts],
                    "is_limit": line.is_limit,
                }
                for line in self.lines
            ],
            "limit": None if self.limit is None else _short(self.limit),
            "limit_label": self.limit_label,
            "marks": [
                {
                    "kind": mark.kind,
                    "step": _short(mark.step),
                    "label": mark.label,
                    "to_step": None if mark.to_step is None else _short(mark.to_step),
                }
                for mark in self.marks
            ],
        }


def from_json(body: Mapping[str, Any]) -> Plot:
    """Read what `as_json` wrote.

    Raises:
        TypeError, ValueError, KeyError, AttributeError: the data is no plot.
    """
    return bounded(
        Plot(
            title=str(body["title"]),
            subtitle=str(body["subtitle"]),
            axis=str(body["axis"]),
            lines=tuple(
                Line(
                    str(line["label"]),
                    tuple(
                        tuple((float(step), float(value)) for step, value in part) for part in line["parts"]
                    ),
                    bool(line.get("is_limit", False)),
                )
                for line in body["lines"]
            ),
            limit=None if body.get("limit") is None else float(body["limit"]),
            limit_label=str(body.get("limit_label", "")),
            marks=tuple(
                Mark(
                    str(mark["kind"]),
                    float(mark["step"]),
                    str(mark["label"]),
                    None if mark.get("to_step") is None else float(mark["to_step"]),
                )
                for mark in body.get("marks", ())
            ),
        )
    )


def bounded(plot: Plot) -> Plot:
    """Keep a plot within its bounds: fewer points, series and marks, shorter texts."""
    return Plot(
        title=plot.title[:MOST_TEXT],
        subtitle=plot.subtitle[:MOST_TEXT],
        axis=plot.axis[:MOST_TEXT],
        lines=tuple(_bounded(line) for line in plot.lines[:MOST_SERIES]),
        limit=plot.limit,
        limit_label=plot.limit_label[:MOST_TEXT],
        marks=tuple(
            Mark(mark.kind, mark.step, mark.label[:MOST_TEXT], mark.to_step)
            for mark in plot.marks[-MOST_MARKS:]
            if mark.kind in MARKS and math.isfinite(mark.step)
        ),
    )


def _bounded(line: Line) -> Line:
    parts = [
        tuple(point for point in part if math.isfinite(point[0])) for part in line.parts[-MOST_MARKS:] if part
    ]
    total = sum(len(part) for part in parts)
    if total > MOST_POINTS:
        parts = [tuple(thinned(part, max(2, len(part) * MOST_POINTS // total))) for part in parts]
    return Line(line.label[:MOST_TEXT], tuple(parts), line.is_limit)


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most `most` points with the shape of all of them: of each stretch its least and its greatest.

    The first and the last stay where `most` allows; a value that is no number counts as the greatest, since
    it is what a reader must not miss.
    """
    if len(points) <= most:
        return list(points)
    if most < 4:
        return list(points[-most:])
    inner = points[1:-1]
    stretches = (most - 2) // 2
    kept = [points[0]]
    for number in range(stretches):
        begin = number * len(inner) // stretches
        end = (number + 1) * len(inner) // stretches
        kept += extremes(inner[begin:end])
    return [*kept, points[-1]]


def extremes(points: Sequence[Point]) -> list[Point]:
    """Return the points of the least and the greatest value, in their order; a NaN is the greatest."""
    if len(points) <= 2:
        return list(points)
    keyed = [(math.inf if math.isnan(value) else value, place) for place, (_, value) in enumerate(points)]
    return [points[place] for place in sorted({min(keyed)[1], max(keyed)[1]})]


def values(lines: Iterable[Line]) -> list[float]:
    """Return every finite value of some lines."""
    return [value for line in lines for part in line.parts for _, value in part if math.isfinite(value)]


def _short(number: float) -> float | int | str:
    """Six digits are more than a picture shows; steps keep all of theirs."""
    if not math.isfinite(number):
        return str(number)
    short = number if number == int(number) and abs(number) < 1e15 else float(f"{number:.6g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short
