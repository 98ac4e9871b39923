"""What the makers of closures share: windows over a series, what rides on them, and when they may answer."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from rules.fits import NAN
from rules.store import Answer, Push, Reading, Series
from rules.tree import Call, Node, Number, Window
from rules.windows import Buffer, PointBuffer, SpanBuffer

T = TypeVar("T")


class Parts(Protocol):
    """What a maker may ask of the builder."""

    shared: dict[Any, Any]
    step_any: Series
    driver: Series
    first_wall: Callable[[], float]

    def attach(self, series: Series, push: Push, skip: Push | None = None) -> None:
        """Let a closure have a series' points."""

    def source(self, node: Node) -> Series | None:
        """The series behind a tree."""

    def number(self, node: Node) -> Reading:
        """A closure for a number."""


def no_answer(_now: float) -> bool | None:
    return None


def once(parts: Parts, key: Any, make: Callable[[], T]) -> T:
    """The part under that key, made on first use."""
    if key not in parts.shared:
        parts.shared[key] = make()
    found: T = parts.shared[key]
    return found


def buffer(parts: Parts, series: Series, window: Window) -> Buffer:
    """The points of a window over a series."""

    def make() -> Buffer:
        made: Buffer
        if window.unit == "points":
            made = PointBuffer(int(window.size))
        else:
            made = SpanBuffer(window.size, by_time=window.unit == "time")
        parts.attach(series, made.push, made.skip)
        return made

    return once(parts, (id(series), window), make)


def riding(parts: Parts, on: Buffer, kind: str, make: Callable[[deque[float]], Any]) -> Any:
    """A statistic that rides on a buffer, shared by everything that asks for its kind."""

    def attach() -> Any:
        statistic = make(on.values)
        on.statistics.append(statistic)
        return statistic

    return once(parts, (id(on), kind), attach)


def enough(call: Call, on: Buffer) -> Callable[[], bool]:
    """Whether a window holds enough points, and has been lived through enough, for the call to answer."""
    assert call.window is not None
    row, given = call.row, dict(call.options)
    least = int(call.number("min_points")) if "min_points" in given else row.min_points
    share = row.cover[0] if call.window.unit == "points" else row.cover[1]
    if "cover" in given:
        share = call.number("cover")
    elif "min_points" in given:
        share = 0.0
    values = on.values
    if call.window.unit == "points":
        # A share of .8 of 20 points is 16 points, whatever rounding makes of the product.
        least = max(least, math.ceil(share * call.window.size - 1e-9))
    elif share:
        return lambda: len(values) >= least and on.lived() >= share - 1e-12
    return lambda: len(values) >= least


def gated(call: Call, on: Buffer, compute: Callable[[], float]) -> Reading:
    """The statistic while there are enough points, else unknown."""
    ready = enough(call, on)
    return lambda _now: compute() if ready() else NAN


def per_point(on: Buffer, compute: Callable[[], T], every: int = 1) -> Callable[[], T]:
    """Compute at most once per `every` changes of the buffer."""
    at = -every
    last: T

    def cached() -> T:
        nonlocal at, last
        if on.version - at >= every:
            at = on.version
            last = compute()
        return last

    return cached


def constant(node: Node) -> float:
    """The value of an argument that the parser has made sure is a constant."""
    return node.value if isinstance(node, Number) else NAN


def over_series(
    make: Callable[[Parts, Call, Series], Reading], missing: float = NAN
) -> Callable[[Parts, Call], Reading]:
    """A maker for functions of one series; a series that cannot exist yet has no number."""

    def maker(parts: Parts, call: Call) -> Reading:
        series = parts.source(call.arguments[0])
        return (lambda _now: missing) if series is None else make(parts, call, series)

    return maker


def ask_series(make: Callable[[Parts, Call, Series], Answer]) -> Callable[[Parts, Call], Answer]:
    def maker(parts: Parts, call: Call) -> Answer:
        series = parts.source(call.arguments[0])
        return no_answer if series is None else make(parts, call, series)

    return maker
