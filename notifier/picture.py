"""A plot as a PNG that can be read on a phone. The only file that knows matplotlib, which is an extra.

Nothing global of matplotlib is touched (no pyplot, no rcParams), so it may run in a notifier's thread. Labels
come from files that anyone may have written: they are drawn as they stand, never as TeX, and signs that the
font does not have become boxes.
"""

# ruff: noqa: PLC0415  imported where it is used: matplotlib costs half a second, and is not always there

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from notifier.format import neutral
from notifier.numbers import number
from notifier.plot import Line, Mark, Plot, Point, bounded, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT, DPI = 8.0, 6.0, 150
"""Inches and dots an inch: 1200 by 900 dots, which a phone shows at a third of that."""

LACKING = "matplotlib is not installed; `pip install 'training-sentinel[plots]'` brings it"

EXPLODES = 30.0
"""How many times its own middle a series must reach for its axis to be logarithmic."""

_INK, _FAINT, _PAPER, _GRID = "#1d2733", "#5b6876", "#fbfbf9", "#e3e5e4"
_LINES = ("#c2410c", "#1d6fb8", "#6b4fa0", "#2f7d4f")
_LIMIT = "#8a1c1c"
_MARKS = {
    "onset": "#b45309",
    "fired": "#b91c1c",
    "checkpoint": "#2f7d4f",
    "suspect": "#b91c1c",
    "rollback": "#1d6fb8",
    "ended": "#111111",
    "closed": "#2f7d4f",
}
_ROWS = 3  # of labels above the axes
_MOST = 1e30
_TITLE, _LONG_TITLE, _SUBTITLE = 44, 62, 70  # characters that fit in one line, large, smaller, and small
_WIDE = 1_000_000  # steps from which on a label takes the room of two


def available() -> bool:
    """Whether pictures can be drawn here; imports nothing."""
    return find_spec("matplotlib") is not None


def render(plot: Plot) -> bytes:
    """Draw a plot.

    Returns:
        A PNG of 1200 by 900 dots.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there is no point to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    asked = bounded(plot)
    plot = _within_reach(asked)
    if not any(part for line in plot.lines for part in line.parts):
        raise ValueError("the plot has no points")
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor=_PAPER)
    FigureCanvasAgg(figure)  # the figure holds it
    axes = figure.add_axes((0.11, 0.115, 0.70, 0.645), facecolor=_PAPER)
    _scale(axes, plot)
    for place, line in enumerate(plot.lines):
        _draw(axes, line, _LIMIT if line.is_limit else _LINES[place % len(_LINES)])
    _limit(axes, plot)
    _frame(axes, plot)
    _marks(axes, plot)
    _label_ends(axes, plot, [_last(line) for line in asked.lines])
    _say(figure, plot)
    written = io.BytesIO()
    figure.savefig(written, format="png", facecolor=_PAPER, metadata={"Software": "training-sentinel"})
    return written.getvalue()


def _within_reach(plot: Plot) -> Plot:
    """Hold values to what an axis can show: thirty decades, and on a logarithmic one twelve below the
    greatest.
    """
    found = values(plot.lines)
    greatest = min(max((abs(value) for value in found), default=0.0), _MOST)
    least = greatest * 1e-12 if min(found, default=0.0) > 0 else -_MOST
    lines = (
        replace(line, parts=tuple(tuple(_held(point, least) for point in part) for part in line.parts))
        for line in plot.lines
    )
    limit = None if plot.limit is None else _held((0.0, plot.limit), least)[1]
    return replace(plot, lines=tuple(lines), limit=limit)


def _held(point: Point, least: float) -> Point:
    step, value = point
    return point if not math.isfinite(value) else (step, min(max(value, least), _MOST))


def _say(figure: Any, plot: Plot) -> None:
    title, subtitle = _drawn(plot.title), _drawn(plot.subtitle)
    large = 19.0 if len(title) <= _TITLE else 19.0 * _TITLE / min(len(title), _LONG_TITLE)
    title = title if len(title) <= _LONG_TITLE else f"{title[: _LONG_TITLE - 1]}…"
    subtitle = subtitle if len(subtitle) <= _SUBTITLE else f"…{subtitle[1 - _SUBTITLE :]}"
    shared = {"va": "center", "parse_math": False}
    figure.text(0.025, 0.955, title, fontsize=large, weight="bold", color=_INK, **shared)
    figure.text(0.025, 0.905, subtitle, fontsize=13, color=_FAINT, **shared)


# -- the axes ------------------------------------------------------------------


def _scale(axes: Axes, plot: Plot) -> None:
    found = values(plot.lines) + ([plot.limit] if plot.limit is not None else [])
    sizes = sorted(abs(value) for value in found if value)
    if not sizes or sizes[-1] < EXPLODES * max(sizes[len(sizes) // 2], sizes[-1] * 1e-12):
        wide = len(sizes) > 1 and min(found) > 0 and sizes[-1] > EXPLODES * sizes[0]
        if not wide:
            return
    if min(found) > 0:
        axes.set_yscale("log")
    else:
        # Linear below a tenth of the middle, so that small values and both signs are seen.
        axes.set_yscale("symlog", linthresh=_nearly_zero(sizes))


def _nearly_zero(sizes: Sequence[float]) -> float:
    return max(sizes[len(sizes) // 2], sizes[-1] * 1e-6)


def _frame(axes: Axes, plot: Plot) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    steps = [step for line in plot.lines for part in line.parts for step, _ in part]
    steps += [mark.step for mark in plot.marks]
    low, high = min(steps), max(steps)
    margin = (high - low) * 0.03 or 1.0
    axes.set_xlim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5 if high < _WIDE else 3, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    crowded = 0.0  # on an axis of both signs the small ones would be written over one another
    if axes.get_yscale() == "symlog":
        crowded = _nearly_zero(sorted(abs(value) for value in values(plot.lines) if value))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: "" if 0 < abs(value) <= crowded else _compact(value))
    )
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid(visible=True, color=_GRID, linewidth=1)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_FAINT)
    axes.tick_params(labelsize=13, colors=_INK, length=4)
    axes.set_xlabel(_drawn(plot.axis), fontsize=13, color=_FAINT, parse_math=False)
    if axes.get_yscale() != "linear":
        axes.text(-0.125, 1.035, "log scale", fontsize=11.5, color=_FAINT, transform=axes.transAxes)
    if any(len(line.parts) > 1 for line in plot.lines):
        axes.text(
            -0.13,
            -0.135,
            "pale: what was given up",
            color=_FAINT,
            fontsize=12,
            va="center",
            transform=axes.transAxes,
        )


def _compact(value: float) -> str:
    """Write a number so that it fits beside the axis: `500`, `10k`, `2.5M`, `1e+12`."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size <= abs(value) < 1e12:
            return f"{value / (1e3 if sign == 'k' else size):.4g}{sign}"
    return number(value) if abs(value) < 1e9 else f"{value:.2g}"


# -- the series ----------------------------------------------------------------


def _draw(axes: Axes, line: Line, colour: str) -> None:
    for part in line.parts:
        last = part is line.parts[-1]
        steps, shown = [step for step, _ in part], [value for _, value in part]
        axes.plot(
            steps,
            [value if math.isfinite(value) else math.nan for value in shown],
            color=colour,
            linewidth=1.8 if line.is_limit else 2.6,
            linestyle="--" if line.is_limit else "-",
            alpha=1.0 if last else 0.4,
            marker="o" if len(part) <= 40 and not line.is_limit else "",
            markersize=5,
            solid_capstyle="round",
            zorder=3,
        )
        broken = [step for step, value in part if not math.isfinite(value)]
        if broken:
            axes.plot(
                broken,
                [0.97] * len(broken),
                "x",
                color=colour,
                markersize=9,
                markeredgewidth=2.5,
                transform=axes.get_xaxis_transform(),
                zorder=4,
            )


def _limit(axes: Axes, plot: Plot) -> None:
    if plot.limit is None or not math.isfinite(plot.limit):
        return
    axes.axhline(plot.limit, color=_LIMIT, linewidth=1.8, linestyle="--", zorder=2)


def _label_ends(axes: Axes, plot: Plot, last: Sequence[str]) -> None:
    """Name every line at its end, with its last value, in its own colour; pushed apart where they meet."""
    ends: list[tuple[float, str, str]] = []
    for place, line in enumerate(plot.lines):
        finite = [point for part in line.parts for point in part if math.isfinite(point[1])]
        colour = _LIMIT if line.is_limit else _LINES[place % len(_LINES)]
        said = "" if line.is_limit else f"\n{last[place]}"
        at = finite[-1][1] if finite else axes.get_ylim()[1]
        ends.append((at, f"{_wrapped(line.label)}{said}", colour))
    if plot.limit is not None and math.isfinite(plot.limit):
        ends.append((plot.limit, _wrapped(plot.limit_label or f"limit {number(plot.limit)}"), _LIMIT))
    to_axes = axes.transAxes.inverted()
    placed = sorted(
        (min(max(float(to_axes.transform(axes.transData.transform((0.0, at)))[1]), 0.0), 1.0), text, colour)
        for at, text, colour in ends
    )
    heights = [0.052 * (text.count("\n") + 1) + 0.02 for _, text, _ in placed]
    for (_, text, colour), where in zip(placed, _apart([at for at, _, _ in placed], heights), strict=True):
        axes.text(
            1.015,
            where,
            _drawn(text, lines=True),
            color=colour,
            fontsize=12.5,
            va="center",
            linespacing=1.05,
            transform=axes.transAxes,
            parse_math=False,
        )


def _last(line: Line) -> str:
    last = next((part[-1][1] for part in reversed(line.parts) if part), math.nan)
    return number(last) if math.isfinite(last) else "NaN" if math.isnan(last) else "infinite"


def _apart(wanted: list[float], heights: list[float]) -> list[float]:
    """Move labels, lowest first, as far apart as they are high; within 0 and 1 where they fit."""
    placed: list[float] = []
    for at, height in zip(wanted, heights, strict=True):
        least = placed[-1] + (heights[len(placed) - 1] + height) / 2 if placed else height / 2
        placed.append(max(at, least))
    ceiling = 1.0 + heights[-1] / 2
    for place in reversed(range(len(placed))):
        placed[place] = min(placed[place], ceiling - heights[place] / 2)
        ceiling = placed[place] - heights[place] / 2
    return placed


def _wrapped(label: str, width: int = 14) -> str:
    """Break a label behind its slashes, else where it must be broken; into three lines at the most."""
    lines: list[str] = []
    for piece in label.replace("/", "/\n").split("\n"):
        rest = piece
        while len(rest) > width:
            cut = max(rest.rfind(sign, 1, width) for sign in "_ .:-") + 1 or width
            lines.append(rest[:cut].rstrip())
            rest = rest[cut:]
        lines.append(rest)
    joined: list[str] = []
    for line in lines:
        if joined and joined[-1].endswith("/") and len(joined[-1]) + len(line) <= width:
            joined[-1] += line
        else:
            joined.append(line)
    if len(joined) > 3:
        joined = ["…", *joined[-2:]]
    return "\n".join(joined)


# -- what happened -------------------------------------------------------------


def _marks(axes: Axes, plot: Plot) -> None:
    _checkpoints(axes, [mark for mark in plot.marks if mark.kind in ("checkpoint", "suspect")])
    others = [mark for mark in plot.marks if mark.kind not in ("checkpoint", "suspect")]
    taken = [-math.inf] * _ROWS
    low, high = axes.get_xlim()
    for mark in sorted(others, key=lambda mark: mark.step):
        colour = _MARKS[mark.kind]
        axes.axvline(
            mark.step,
            color=colour,
            linewidth=1.6,
            linestyle=(0, (1, 1.6)) if mark.kind == "onset" else "-",
            alpha=0.85,
            zorder=1,
        )
        text = _drawn(mark.label)
        width = len(text) * 0.0153 * (high - low) * 1.06
        right = mark.step - low > 0.6 * (high - low)
        begin = mark.step - width if right else mark.step
        row = next((row for row in range(_ROWS) if taken[row] <= begin), _ROWS - 1)
        taken[row] = begin + width
        axes.text(
            mark.step,
            1.02 + 0.058 * row,
            text,
            color=colour,
            fontsize=12.5,
            ha="right" if right else "left",
            va="bottom",
            transform=axes.get_xaxis_transform(),
            parse_math=False,
        )
        if row:
            axes.plot(
                [mark.step, mark.step],
                [1.0, 1.02 + 0.058 * row],
                color=colour,
                linewidth=1,
                alpha=0.5,
                clip_on=False,
                transform=axes.get_xaxis_transform(),
            )
        if mark.to_step is not None:
            axes.annotate(
                "",
                xy=(mark.to_step, 0.06),
                xytext=(mark.step, 0.06),
                xycoords=axes.get_xaxis_transform(),
                arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2.2, "mutation_scale": 18},
                zorder=5,
            )


def _checkpoints(axes: Axes, marks: list[Mark]) -> None:
    for mark in marks:
        suspect = mark.kind == "suspect"
        axes.plot(
            [mark.step],
            [0.0],
            "^",
            markersize=11,
            color=_MARKS[mark.kind],
            markerfacecolor=_PAPER if suspect else _MARKS[mark.kind],
            markeredgewidth=1.8,
            clip_on=False,
            transform=axes.get_xaxis_transform(),
            zorder=6,
        )
    kinds = {mark.kind for mark in marks}
    words = []
    if "checkpoint" in kinds:
        words.append("▲ checkpoint")
    if "suspect" in kinds:
        words.append("△ suspect checkpoint")
    if words:
        axes.text(
            1.26,
            -0.135,
            "   ".join(words),
            color=_FAINT,
            fontsize=12,
            ha="right",
            va="center",
            transform=axes.transAxes,
        )


# -- text ----------------------------------------------------------------------


def _drawn(text: str, *, lines: bool = False) -> str:
    """Make text harmless, and leave out what the font cannot draw."""
    signs = _signs()
    return "".join(
        character if ord(character) in signs or character == "\n" else "□"
        for character in neutral(text, lines=lines)
    )


@cache
def _signs() -> frozenset[int]:
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())
