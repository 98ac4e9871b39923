"""Functions of a window, and of time: means, medians, fits, tests of a trend, silence.

Each maker takes the call's tree and answers with a closure over one run's series; `functions.py` defines
what they mean. Statistics that need a pass over the window are computed at most once per point.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isnan

from rules import fits
from rules.fits import NAN
from rules.parts import Parts, buffer, constant, enough, gated, once, over_series, per_point, riding
from rules.store import Answer, Reading, Series
from rules.tree import Call, Missing
from rules.windows import Buffer, Greatest, LogLine, Ordered, PointBuffer, Sums


def windowed(
    compute: Callable[[Parts, Call, Buffer], Callable[[], float]], missing: float = NAN
) -> Callable[[Parts, Call], Reading]:
    def make(parts: Parts, call: Call, series: Series) -> Reading:
        assert call.window is not None
        on = buffer(parts, series, call.window)
        return gated(call, on, compute(parts, call, on))

    return over_series(make, missing)


def sums(method: Callable[[Sums], float]) -> Callable[[Parts, Call, Buffer], Callable[[], float]]:
    def compute(parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
        sums = riding(parts, on, "sums", Sums)
        return lambda: method(sums)

    return compute


def ordered(method: Callable[[Ordered], float]) -> Callable[[Parts, Call, Buffer], Callable[[], float]]:
    def compute(parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
        ordered = riding(parts, on, "ordered", Ordered)
        return lambda: method(ordered)

    return compute


def greatest(parts: Parts, on: Buffer, sign: float) -> Greatest:
    found = riding(parts, on, f"greatest{sign}", lambda values: Greatest(values, sign))
    assert isinstance(found, Greatest)
    return found


def quantile(parts: Parts, call: Call, on: Buffer) -> Callable[[], float]:
    ordered = riding(parts, on, "ordered", Ordered)
    q = constant(call.arguments[1])
    return lambda: fits.quantile(ordered.values, q)


def delta(_parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
    values = on.values
    return lambda: values[-1] - values[0] if values else NAN


def ratio(_parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
    values = on.values
    return lambda: values[-1] / values[0] if values and values[0] else NAN


def slope(_parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
    return per_point(on, lambda: fits.theil_sen(list(on.steps), list(on.values)))


def doubling(direction: int) -> Callable[[Parts, Call, Buffer], Callable[[], float]]:
    def compute(parts: Parts, call: Call, on: Buffer) -> Callable[[], float]:
        min_r2 = call.number("min_r2")
        line = riding(parts, on, "logline", lambda _values: LogLine(on))
        return lambda: float(line.doubling(min_r2, direction))

    return compute


def steps_to(_parts: Parts, call: Call, on: Buffer) -> Callable[[], float]:
    target, log = constant(call.arguments[1]), call.word("model") == "exp"
    return per_point(on, lambda: fits.distance(list(on.steps), list(on.values), target, log=log))


def time_to(parts: Parts, call: Call, series: Series) -> Reading:
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


def trend(direction: int) -> Callable[[Parts, Call, Series], Answer]:
    def make(parts: Parts, call: Call, series: Series) -> Answer:
        assert call.window is not None
        on = buffer(parts, series, call.window)
        by, ready = call.number("by"), enough(call, on)
        test = per_point(on, lambda: fits.trend(list(on.values), direction=direction, by=by))
        return lambda _now: test() if ready() and len(on.values) >= fits.BLOCKS else None

    return make


def unchanged(parts: Parts, call: Call, series: Series) -> Answer:
    assert call.window is not None
    on = buffer(parts, series, call.window)
    ready, rtol = enough(call, on), call.number("rtol")
    high, low, values = greatest(parts, on, 1.0), greatest(parts, on, -1.0), on.values

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


def zscore(parts: Parts, call: Call, series: Series) -> Reading:
    on = _before(parts, call, series)
    sums = riding(parts, on, "sums", Sums)

    def score() -> float:
        spread = sums.std()
        return (series.value - sums.mean()) / spread if spread else NAN

    return gated(call, on, score)


def rzscore(parts: Parts, call: Call, series: Series) -> Reading:
    on = _before(parts, call, series)
    ordered = riding(parts, on, "ordered", Ordered)
    floor = call.number("rel_floor")

    def score() -> float:
        middle = ordered.median()
        spread = 1.4826 * ordered.mad() + floor * abs(middle)
        return (series.value - middle) / spread if spread else NAN

    return gated(call, on, score)


def oscillation(_parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
    return per_point(on, lambda: fits.oscillation(list(on.values)), every=10)


def throughput(_parts: Parts, _call: Call, on: Buffer) -> Callable[[], float]:
    return per_point(on, lambda: fits.rate(list(on.steps), list(on.walls)))


# Time


def age(_parts: Parts, _call: Call, series: Series) -> Reading:
    return lambda now: now - series.latest() if series.count else NAN


def stale(_parts: Parts, call: Call, series: Series) -> Answer:
    assert call.window is not None
    least = call.window.size

    def answer(now: float) -> bool | None:
        if not series.count:
            return None
        age = now - series.latest()
        return age > least and age > 10 * series.gap()

    return answer


def absent(parts: Parts, call: Call) -> Answer:
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


def step(parts: Parts, _call: Call) -> Reading:
    driver = parts.driver
    return lambda _now: float(driver.step) if driver.count else NAN


def elapsed(parts: Parts, _call: Call) -> Reading:
    first_wall = parts.first_wall
    return lambda now: now - first_wall()
