"""Functions of the last values, and of values carried from point to point: no windows.

Each maker takes the call's tree and answers with a closure over one run's series; `functions.py` defines
what they mean.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from math import isnan

from rules.fits import NAN
from rules.parts import Parts, once
from rules.store import Answer, Reading, Series
from rules.tree import Call, StepAny, Tag


def unary(function: Callable[[float], float]) -> Callable[[Parts, Call], Reading]:
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


def sign(value: float) -> float:
    return math.copysign(1.0, value) if value else 0.0


def extreme(choose: Callable[[list[float]], float]) -> Callable[[Parts, Call], Reading]:
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


def clip(parts: Parts, call: Call) -> Reading:
    a, lo, hi = (parts.number(argument) for argument in call.arguments)

    def apply(now: float) -> float:
        value, low, high = a(now), lo(now), hi(now)
        if isnan(value) or isnan(low) or isnan(high):
            return NAN
        return min(max(value, low), high)

    return apply


def relgap(parts: Parts, call: Call) -> Reading:
    a, b = (parts.number(argument) for argument in call.arguments)
    floor = call.number("floor")

    def apply(now: float) -> float:
        reference = b(now)
        scale = max(abs(reference), floor)
        return (a(now) - reference) / scale if scale else NAN

    return apply


def coalesce(parts: Parts, call: Call) -> Reading:
    arguments = [parts.number(argument) for argument in call.arguments]

    def apply(now: float) -> float:
        for argument in arguments:
            value = argument(now)
            if not isnan(value):
                return value
        return NAN

    return apply


def known(parts: Parts, call: Call) -> Answer:
    argument = call.arguments[0]
    if isinstance(argument, Tag | StepAny):  # a fresh NaN is a value that is known to be NaN
        series = parts.source(argument)
        assert series is not None
        return lambda now: bool(series.count) and not series.is_old(now)
    number = parts.number(argument)
    return lambda now: not isnan(number(now))


def is_finite(_parts: Parts, _call: Call, series: Series) -> Answer:
    return lambda _now: math.isfinite(series.value) if series.count else None


def is_nan(_parts: Parts, _call: Call, series: Series) -> Answer:
    return lambda _now: isnan(series.value) if series.count else None


def last(_parts: Parts, _call: Call, series: Series) -> Reading:
    return lambda _now: series.value


def prev(parts: Parts, call: Call, series: Series) -> Reading:
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


def initial(parts: Parts, call: Call, series: Series) -> Reading:
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

    def read(_now: float) -> float:
        if len(first) < size:
            return NAN
        try:
            return math.fsum(first) / size
        except OverflowError:  # the sum is beyond all numbers, the mean is not
            return math.fsum(value / size for value in first)

    return read


def best(parts: Parts, call: Call, series: Series) -> Reading:
    mode = call.word("mode")

    def step(carried: float, value: float) -> float:
        return carried if (carried >= value if mode == "max" else carried <= value) else value

    return _running(parts, series, ("best", mode), step)


def ewma(parts: Parts, call: Call, series: Series) -> Reading:
    assert call.window is not None
    alpha = 2.0 / (call.window.size + 1.0)

    def step(carried: float, value: float) -> float:
        return value if isnan(carried) else carried + alpha * (value - carried)

    return _running(parts, series, ("ewma", alpha), step)


def nonfinite(parts: Parts, _call: Call, series: Series) -> Reading:
    count = _running(parts, series, "nonfinite", lambda n, _value: 1.0 if isnan(n) else n + 1.0, skips=True)

    def read(now: float) -> float:
        n = count(now)
        return 0.0 if isnan(n) else n

    return read
