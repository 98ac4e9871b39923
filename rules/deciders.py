"""Which number decided a condition, and what it was compared with: what a message about an alert shows.

Asked only when a verdict is reported, so it costs the quiet path nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from rules.closures import Builder
from rules.tree import Call, Choice, Compare, Logic, Node, Not

Decision: TypeAlias = tuple[float | None, float | None]
Decider: TypeAlias = Callable[[float], Decision]

NOTHING: Decision = (None, None)


def decider(builder: Builder, node: Node) -> Decider:
    """A closure for (value, limit) of the comparison that decides a condition.

    For `or` it is the first one that is True, for `and` the first; where none is, the first that has a
    number.
    """
    match node:
        case Compare():
            left, right = builder.number(node.left), builder.number(node.right)
            return lambda now: (_known(left(now)), _known(right(now)))
        case Not():
            return decider(builder, node.operand)
        case Logic():
            return _of_logic(builder, node)
        case Choice():
            condition = builder.truth(node.condition)
            then, otherwise = decider(builder, node.then), decider(builder, node.otherwise)
            return lambda now: then(now) if condition(now) else otherwise(now)
        case Call():
            return _of_call(builder, node)
        case _:
            return lambda _now: NOTHING


def _of_logic(builder: Builder, node: Logic) -> Decider:
    operands = [(builder.truth(part), decider(builder, part)) for part in node.operands]

    def decide(now: float) -> Decision:
        first = NOTHING
        for answer, decision in operands:
            found = decision(now)
            if found[0] is None:
                continue
            if node.op == "and" or answer(now) is True:
                return found
            if first is NOTHING:
                first = found
        return first

    return decide


def _of_call(builder: Builder, node: Call) -> Decider:
    if not node.arguments or node.function == "known":
        return lambda _now: NOTHING
    series = builder.source(node.arguments[0])
    if series is None:
        return lambda _now: NOTHING
    if node.function in {"is_finite", "is_nan"}:
        return lambda _now: (series.value, None)  # a NaN is the very value to show
    if node.function == "stale":
        assert node.window is not None
        least = node.window.size
        return lambda now: (_known(now - series.latest()), max(least, 10 * series.gap()))
    return lambda _now: (_known(series.value), None)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
