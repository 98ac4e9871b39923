"""The operators of the language as closures: arithmetic, comparisons, `and` and `or`.

Unknown is NaN for a number and None for a condition. Both follow Kleene: a comparison with NaN is unknown,
never False, and one operand that decides is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from math import isnan
from operator import mod, truediv

from rules.fits import NAN
from rules.store import FRESH_FOR, Answer, Reading, Series


def constantly(value: float) -> Reading:
    """The same number at every moment."""
    return lambda _now: value


def latest(series: Series) -> Reading:
    """The last value of a series while it is fresh."""

    def read(now: float) -> float:
        if now - series.wall > FRESH_FOR and series.is_old(now):
            return NAN
        return series.value

    return read


def arithmetic(op: str, left: Reading, right: Reading) -> Reading:
    """`left op right`; a division by zero, and a power that is no number, are unknown."""
    if op == "+":
        return lambda now: left(now) + right(now)
    if op == "-":
        return lambda now: left(now) - right(now)
    if op == "*":
        return lambda now: left(now) * right(now)
    if op == "**":

        def power(now: float) -> float:
            base, exponent = left(now), right(now)
            try:
                return math.pow(base, exponent)
            except OverflowError:
                return -math.inf if base < 0 and exponent % 2 == 1 else math.inf
            except ValueError:  # a root of a negative number, or 0 ** -1
                return NAN

        return power
    divide = truediv if op == "/" else mod

    def quotient(now: float) -> float:
        b = right(now)
        return divide(left(now), b) if b else NAN

    return quotient


def logic(operands: tuple[Answer, ...], *, decides: bool) -> Answer:
    """`or` (decides True) or `and` (decides False): one operand that decides is enough, else unknown beats
    known.
    """
    if len(operands) == 2:
        first, second = operands

        def pair(now: float) -> bool | None:
            a = first(now)
            if a is decides:
                return decides
            b = second(now)
            if b is decides:
                return decides
            return None if a is None or b is None else not decides

        return pair

    def several(now: float) -> bool | None:
        answer: bool | None = not decides
        for operand in operands:
            found = operand(now)
            if found is decides:
                return decides
            if found is None:
                answer = None
        return answer

    return several


def _greater(left: Reading, right: Reading) -> Answer:
    def compare(now: float) -> bool | None:
        a, b = left(now), right(now)
        return True if a > b else False if a <= b else None

    return compare


def _less(left: Reading, right: Reading) -> Answer:
    return _greater(right, left)


def _at_least(left: Reading, right: Reading) -> Answer:
    def compare(now: float) -> bool | None:
        a, b = left(now), right(now)
        return True if a >= b else False if a < b else None

    return compare


def _at_most(left: Reading, right: Reading) -> Answer:
    return _at_least(right, left)


def _equal(left: Reading, right: Reading) -> Answer:
    def compare(now: float) -> bool | None:
        a, b = left(now), right(now)
        return True if a == b else None if isnan(a) or isnan(b) else False

    return compare


def _unequal(left: Reading, right: Reading) -> Answer:
    def compare(now: float) -> bool | None:
        a, b = left(now), right(now)
        return False if a == b else None if isnan(a) or isnan(b) else True

    return compare


COMPARISONS: dict[str, Callable[[Reading, Reading], Answer]] = {
    ">": _greater,
    "<": _less,
    ">=": _at_least,
    "<=": _at_most,
    "==": _equal,
    "!=": _unequal,
}


def _above(series: Series, limit: float) -> Answer:
    def compare(now: float) -> bool | None:
        if now - series.wall > FRESH_FOR and series.is_old(now):
            return None
        value = series.value
        return True if value > limit else False if value <= limit else None

    return compare


def _below(series: Series, limit: float) -> Answer:
    def compare(now: float) -> bool | None:
        if now - series.wall > FRESH_FOR and series.is_old(now):
            return None
        value = series.value
        return True if value < limit else False if value >= limit else None

    return compare


AGAINST_CONSTANT: dict[str, Callable[[Series, float], Answer]] = {">": _above, "<": _below}
"""The commonest comparison of all, a tag against a limit, in one call instead of three."""
