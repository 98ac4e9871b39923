"""The functions of the language, as closures over one run's series: what `functions.py` defines, computed.

Each maker takes the call's tree and answers with a closure; windows come from `Parts.buffer`, shared by all
calls over the same series and stretch. Statistics that need a pass over the window are computed at most
once per point.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from math import isnan
from typing import Any, Protocol, TypeVar

from rules import fits
from rules.fits import NAN
from rules.store import Answer, Push, Reading, Series
from rules.tree import Call, Missing, Node, Number, StepAny, Tag, Window
from rules.windows import Buffer, Greatest, LogLine, Ordered, PointBuffer, SpanBuffer, Sums

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


def _unknown(_now: float) -> float:
    return NAN


def _no_answer(_now: float) -> bool | None:
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


# Pointwise


def _unary(function: Callable[[float], float]) -> Callable[[Parts, Call], Reading]:
    def make(parts: Parts, call: Call) -> Reading:
        argument = parts.number(call.arguments[0])

        def apply(now: float) -> float:
            try:
                return function(argument(now))
            except ValueError:  # outside the domain
                return NAN
            except OverflowError:
                return math.inf

        return apply

    return make


def _sign(value: float) -> float:
    return math.copysign(1.0, value) if value else 0.0


def _extreme(choose: Callable[[list[float]], float]) -> Callable[[Parts, Call], Reading]:
    def make(parts: Parts, call: Call) -> Reading:
        arguments = [parts.number(argument) for argument in call.arguments]

        def apply(now: float) -> float:
            values = [argument(now) for argument in arguments]
            # min() and max() pass NaN over or not by the order of the arguments; a sum never does.
            # Infinities of both signs make a NaN too, so then each value is looked at.
            if isnan(sum(values)) and any(map(isnan, values)):
                return NAN
            return choose(values)

        return apply

    return make


def _clip(parts: Parts, call: Call) -> Reading:
    a, lo, hi = (parts.number(argument) for argument in call.arguments)

    def apply(now: float) -> float:
        value, low, high = a(now), lo(now), hi(now)
        if isnan(value) or isnan(low) or isnan(high):
            return NAN
        return min(max(value, low), high)

    return apply


def _relgap(parts: Parts, call: Call) -> Reading:
    a, b = (parts.number(argument) for argument in call.arguments)
    floor = call.number("floor")

    def apply(now: float) -> float:
        reference = b(now)
        scale = max(abs(reference), floor)
        return (a(now) - reference) / scale if scale else NAN

    return apply


def _coalesce(parts: Parts, call: Call) -> Reading:
    arguments = [parts.number(argument) for argument in call.arguments]

    def apply(now: float) -> float:
        for argument in arguments:
            value = argument(now)
            if not isnan(value):
                return value
        return NAN

    return apply


def _known(parts: Parts, call: Call) -> Answer:
    argument = call.arguments[0]
    if isinstance(argument, Tag | StepAny):  # a fresh NaN is a value that is known to be NaN
        series = parts.source(argument)
        assert series is not None
        return lambda now: bool(series.count) and not series.is_old(now)
    number = parts.number(argument)
    return lambda now: not isnan(number(now))


# The last points


def _over_series(
    make: Callable[[Parts, Call, Series], Reading], missing: float = NAN
) -> Callable[[Parts, Call], Reading]:
    """A maker for functions of one series; a series that cannot exist yet has no number."""

    def maker(parts: Parts, call: Call) -> Reading:
        series = parts.source(call.arguments[0])
        return (lambda _now: missing) if series is None else make(parts, call, series)

    return maker


def _ask_series(make: Callable[[Parts, Call, Series], Answer]) -> Callable[[Parts, Call], Answer]:
    def maker(parts: Parts, call: Call) -> Answer:
        series = parts.source(call.arguments[0])
        return _no_answer if series is None else make(parts, call, series)

    return maker


def _is_finite(_parts: Parts, _call: Call, series: Series) -> Answer:
    return lambda _now: math.isfinite(series.value) if series.count else None


def _is_nan(_parts: Parts, _call: Call, series: Series) -> Answer:
    return lambda _now: isnan(series.value) if series.count else None


def _last(_parts: Parts, _call: Call, series: Series) -> Reading:
    return lambda _now: series.value


def _prev(parts: Parts, call: Call, series: Series) -> Reading:
    back = int(call.number("n")) + 1

    def make() -> deque[float]:
        kept: deque[float] = deque(maxlen=back)

        def push(_step: int, _wall: float, value: float) -> None:
            kept.append(value)

        parts.attach(series, push, push)
        return kept

    kept = once(parts, (id(series), "prev", back), make)
    return lambda _now: kept[0] if len(kept) == back else NAN


def _running(
    parts: Parts, series: Series, key: object, step: Callable[[float, float], float], *, skips: bool = False
) -> Reading:
    """A value carried from point to point: `step(carried, value)`; NaN before the first."""

    def make() -> list[float]:
        carried = [NAN]

        def push(_step: int, _wall: float, value: float) -> None:
            carried[0] = step(carried[0], value)

        if skips:
            parts.attach(series, _ignore, push)
        else:
            parts.attach(series, push)
        return carried

    carried = once(parts, (id(series), key), make)
    return lambda _now: carried[0]


def _ignore(_step: int, _wall: float, _value: float) -> None:
    pass


def _initial(parts: Parts, call: Call, series: Series) -> Reading:
    assert call.window is not None
    size = int(call.window.size)

    def make() -> list[float]:
        first: list[float] = []

        def push(_step: int, _wall: float, value: float) -> None:
            if len(first) < size:
                first.append(value)

        parts.attach(series, push)
        return first

    first = once(parts, (id(series), "initial", size), make)
    return lambda _now: math.fsum(first) / size if len(first) == size else NAN


def _best(parts: Parts, call: Call, series: Series) -> Reading:
    mode = call.word("mode")

    def step(carried: float, value: float) -> float:
        return carried if (carried >= value if mode == "max" else carried <= value) else value

    return _running(parts, series, ("best", mode), step)


def _ewma(parts: Parts, call: Call, series: Series) -> Reading:
    assert call.window is not None
    alpha = 2.0 / (call.window.size + 1.0)

    def step(carried: float, value: float) -> float:
        return value if isnan(carried) else carried + alpha * (value - carried)

    return _running(parts, series, ("ewma", alpha), step)


def _nonfinite(parts: Parts, _call: Call, series: Series) -> Reading:
    count = _running(parts, series, "nonfinite", lambda n, _value: 1.0 if isnan(n) else n + 1.0, skips=True)

    def read(now: float) -> float:
        n = count(now)
        return 0.0 if isnan(n) else n

    return read


# Windows


def _windowed(
    compute: Callable[[Parts, Call, Buffer], Callable[[], float]], missing: float = NAN
) -> Callable[[Parts, Call], Reading]:
    def make(parts: Parts, call: Call, series: Series) -> Reading:
        assert call.window is not None
        on = buffer(parts, series, call.window)
        return gated(call, on, compute(parts, call, on))

    return _over_series(make, missing)


def _sums(method: Callable[[Sums], float]) -> Callable[[Parts, Call, Buffer], Callable[[], float]]:
    def compute(parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
        sums = riding(parts, on, "sums", Sums)
        return lambda: method(sums)

    return compute


def _ordered(method: Callable[[Ordered], float]) -> Callable[[Parts, Call, Buffer], Callable[[], float]]:
    def compute(parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
        ordered = riding(parts, on, "ordered", Ordered)
        return lambda: method(ordered)

    return compute


def _greatest(parts: Parts, on: Buffer, sign: float) -> Greatest:
    found = riding(parts, on, f"greatest{sign}", lambda values: Greatest(values, sign))
    assert isinstance(found, Greatest)
    return found


def _quantile(parts: Parts, call: Call, on: Buffer) -> Callable[[], float]:
    ordered = riding(parts, on, "ordered", Ordered)
    q = constant(call.arguments[1])
    return lambda: fits.quantile(ordered.values, q)


def constant(node: Node) -> float:
    """The value of an argument that the parser has made sure is a constant."""
    return node.value if isinstance(node, Number) else NAN


def _delta(_parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
    values = on.values
    return lambda: values[-1] - values[0] if values else NAN


def _ratio(_parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
    values = on.values
    return lambda: values[-1] / values[0] if values and values[0] else NAN


def _slope(_parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
    return per_point(on, lambda: fits.theil_sen(list(on.steps), list(on.values)))


def _doubling(direction: int) -> Callable[[Parts, Call, Buffer], Callable[[], float]]:
    def compute(parts: Parts, call: Call, on: Buffer) -> Callable[[], float]:
        min_r2 = call.number("min_r2")
        line = riding(parts, on, "logline", lambda _values: LogLine(on))
        return lambda: float(line.doubling(min_r2, direction))

    return compute


def _steps_to(_parts: Parts, call: Call, on: Buffer) -> Callable[[], float]:
    target, log = constant(call.arguments[1]), call.word("model") == "exp"
    return per_point(on, lambda: fits.distance(list(on.steps), list(on.values), target, log=log))


def _time_to(parts: Parts, call: Call, series: Series) -> Reading:
    assert call.window is not None
    on = buffer(parts, series, call.window)
    target = constant(call.arguments[1])
    away = gated(
        call, on, per_point(on, lambda: fits.distance(list(on.walls), list(on.values), target, log=False))
    )

    def read(now: float) -> float:
        seconds = away(now)
        if isnan(seconds):
            return NAN
        return max(0.0, seconds - (now - on.walls[-1]))  # the fit stands at the last point

    return read


def _trend(direction: int) -> Callable[[Parts, Call, Series], Answer]:
    def make(parts: Parts, call: Call, series: Series) -> Answer:
        assert call.window is not None
        on = buffer(parts, series, call.window)
        by, ready = call.number("by"), enough(call, on)
        test = per_point(on, lambda: fits.trend(list(on.values), direction=direction, by=by))
        return lambda _now: test() if ready() and len(on.values) >= fits.BLOCKS else None

    return make


def _unchanged(parts: Parts, call: Call, series: Series) -> Answer:
    assert call.window is not None
    on = buffer(parts, series, call.window)
    ready, rtol = enough(call, on), call.number("rtol")
    high, low, values = _greatest(parts, on, 1.0), _greatest(parts, on, -1.0), on.values

    def answer(_now: float) -> bool | None:
        return high.value() - low.value() <= rtol * abs(values[-1]) if ready() else None

    return answer


class _Before:
    """Feeds a buffer with the points before the last one."""

    __slots__ = ("_buffer", "_held")

    def __init__(self, on: Buffer) -> None:
        self._buffer = on
        self._held: tuple[int, float, float] | None = None

    def push(self, step: int, wall: float, value: float) -> None:
        if self._held is not None:
            self._buffer.push(*self._held)
        self._held = (step, wall, value)

    def skip(self, _step: int, _wall: float, _value: float) -> None:
        if self._held is not None:
            self._buffer.push(*self._held)
        self._held = None


def _before(parts: Parts, call: Call, series: Series) -> Buffer:
    assert call.window is not None
    size = int(call.window.size)

    def make() -> Buffer:
        on = PointBuffer(size)
        before = _Before(on)
        parts.attach(series, before.push, before.skip)
        return on

    return once(parts, (id(series), "before", size), make)


def _zscore(parts: Parts, call: Call, series: Series) -> Reading:
    on = _before(parts, call, series)
    sums = riding(parts, on, "sums", Sums)

    def score() -> float:
        spread = sums.std()
        return (series.value - sums.mean()) / spread if spread else NAN

    return gated(call, on, score)


def _rzscore(parts: Parts, call: Call, series: Series) -> Reading:
    on = _before(parts, call, series)
    ordered = riding(parts, on, "ordered", Ordered)
    floor = call.number("rel_floor")

    def score() -> float:
        middle = ordered.median()
        spread = 1.4826 * ordered.mad() + floor * abs(middle)
        return (series.value - middle) / spread if spread else NAN

    return gated(call, on, score)


def _oscillation(_parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
    return per_point(on, lambda: fits.oscillation(list(on.values)), every=10)


def _throughput(_parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
    return per_point(on, lambda: fits.rate(list(on.steps), list(on.walls)))


# Time


def _age(_parts: Parts, _call: Call, series: Series) -> Reading:
    return lambda now: now - series.latest() if series.count else NAN


def _stale(_parts: Parts, call: Call, series: Series) -> Answer:
    assert call.window is not None
    least = call.window.size

    def answer(now: float) -> bool | None:
        if not series.count:
            return None
        age = now - series.latest()
        return age > least and age > 10 * series.gap()

    return answer


def _absent(parts: Parts, call: Call) -> Answer:
    assert call.window is not None
    wait, first_wall = call.window.size, parts.first_wall
    argument = call.arguments[0]
    series = None if isinstance(argument, Missing) else parts.source(argument)

    def answer(now: float) -> bool | None:
        if series is not None and series.count:
            return False
        age = now - first_wall()
        return None if isnan(age) else age > wait

    return answer


def _step(parts: Parts, _call: Call) -> Reading:
    driver = parts.driver
    return lambda _now: float(driver.step) if driver.count else NAN


def _elapsed(parts: Parts, _call: Call) -> Reading:
    first_wall = parts.first_wall
    return lambda now: now - first_wall()


MEASURES: dict[str, Callable[[Parts, Call], Reading]] = {
    "abs": _unary(abs),
    "log": _unary(math.log),
    "log10": _unary(math.log10),
    "exp": _unary(math.exp),
    "sqrt": _unary(math.sqrt),
    "sign": _unary(_sign),
    "min": _extreme(min),
    "max": _extreme(max),
    "clip": _clip,
    "relgap": _relgap,
    "coalesce": _coalesce,
    "last": _over_series(_last),
    "prev": _over_series(_prev),
    "initial": _over_series(_initial),
    "best": _over_series(_best),
    "ewma": _over_series(_ewma),
    "nonfinite": _over_series(_nonfinite, missing=0.0),
    "count": _windowed(lambda _parts, _call, on: lambda: float(len(on.values)), missing=0.0),
    "mean": _windowed(_sums(Sums.mean)),
    "sum": _windowed(_sums(Sums.sum)),
    "std": _windowed(_sums(Sums.std)),
    "frac": _windowed(_sums(Sums.mean)),
    "median": _windowed(_ordered(Ordered.median)),
    "mad": _windowed(_ordered(Ordered.mad)),
    "quantile": _windowed(_quantile),
    "highest": _windowed(lambda parts, _call, on: _greatest(parts, on, 1.0).value),
    "lowest": _windowed(lambda parts, _call, on: _greatest(parts, on, -1.0).value),
    "delta": _windowed(_delta),
    "ratio": _windowed(_ratio),
    "slope": _windowed(_slope),
    "doubling_steps": _windowed(_doubling(1)),
    "halving_steps": _windowed(_doubling(-1)),
    "steps_to": _windowed(_steps_to),
    "time_to": _over_series(_time_to),
    "zscore": _over_series(_zscore),
    "rzscore": _over_series(_rzscore),
    "oscillation": _windowed(_oscillation),
    "throughput": _windowed(_throughput),
    "age": _over_series(_age),
    "step": _step,
    "elapsed": _elapsed,
}
"""Makers of the functions that return a number."""

CONDITIONS: dict[str, Callable[[Parts, Call], Answer]] = {
    "known": _known,
    "is_finite": _ask_series(_is_finite),
    "is_nan": _ask_series(_is_nan),
    "rising": _ask_series(_trend(1)),
    "falling": _ask_series(_trend(-1)),
    "unchanged": _ask_series(_unchanged),
    "stale": _ask_series(_stale),
    "absent": _absent,
}
"""Makers of the functions that return a condition."""
