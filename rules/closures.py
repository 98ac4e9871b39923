"""From a tree to closures that read a run's series: scalars, conditions and the windows they need.

Built once per run and rule instance; evaluating is then a few calls and no lookups. Windows and derived
series are
shared: equal subtrees over the same tags are one node, whichever rules they stand in. A number is unknown
    as NaN, a condition as None, and both follow Kleene: a comparison with NaN is unknown, never False.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rules.fits import NAN
from rules.measures import CONDITIONS, MEASURES
from rules.operators import AGAINST_CONSTANT, COMPARISONS, arithmetic, constantly, latest, logic
from rules.parts import Parts
from rules.store import Answer, Derived, Push, Reading, Series
from rules.tree import (
    Aligned,
    Arithmetic,
    Call,
    Choice,
    Compare,
    Logic,
    Missing,
    Negative,
    Node,
    Not,
    Number,
    StepAny,
    Tag,
    Truth,
    children,
    kind,
    walk,
)


def has_missing(node: Node) -> bool:
    """Whether a tree can have no value yet; `coalesce` and `known` live with a missing part."""
    if isinstance(node, Missing):
        return True
    if isinstance(node, Call) and node.function in {"coalesce", "known", "absent"}:
        return False
    return any(has_missing(child) for child in children(node))


class Builder(Parts):
    """Makes closures over the series of one run.

    Args:
        tags: the run's series by tag; grows as the run logs.
        step_any: the run as a whole.
        first_wall: tells when the run's first point came; NaN before it.
    """

    def __init__(self, tags: dict[str, Series], step_any: Series, first_wall: Callable[[], float]) -> None:
        self.tags = tags
        self.step_any = step_any
        self.first_wall = first_wall
        self.shared: dict[Any, Any] = {}
        self.attached: list[tuple[Series, Push, bool]] = []
        self.driver: Series = step_any
        self.open_ticks: set[int] = set()  # whose points are still to be handed to what is made now
        self.queue: list[Derived] = []  # what is to be made when the tick closes

    def attach(self, series: Series, push: Push, skip: Push | None = None) -> None:
        """Let `push` have every finite point of a series from now on, and `skip` the others."""
        series.pushes = (*series.pushes, push)
        self.attached.append((series, push, True))
        if skip is not None:
            series.skips = (*series.skips, skip)
            self.attached.append((series, skip, False))

    def inputs(self, node: Node) -> list[Series]:
        """The series a tree reads, each once, in the order of the text; the first is the driver."""
        found: dict[str, Series] = {}
        for part in _leaves(node):
            series = self.step_any if isinstance(part, StepAny) else self.tags[part.name]
            found.setdefault(series.name, series)
        return list(found.values())

    def source(self, node: Node) -> Series | None:
        """The series behind a tree in a position that needs history; None when it can never have a point."""
        if isinstance(node, Tag):
            return self.tags[node.name]
        if isinstance(node, StepAny):
            return self.step_any
        if has_missing(node):
            return None
        same_step = isinstance(node, Aligned)
        key = ("series", node)
        if key not in self.shared:
            inputs = self.inputs(node)
            if not inputs:
                return None
            outer, self.driver = self.driver, inputs[0]
            compute = self._history(node.operand if isinstance(node, Aligned) else node)
            self.driver = outer
            come = sum(
                1 << index
                for index, series in enumerate(inputs)
                if series.count and series.tick not in self.open_ticks
            )
            order = len(self.shared)
            derived = Derived(inputs, compute, self.queue, order=order, same_step=same_step, come=come)
            for index, series in enumerate(inputs):
                arrival = derived.arrival(index)
                self.attach(series, arrival, arrival)
            self.shared[key] = derived
        found = self.shared[key]
        assert isinstance(found, Series)
        return found

    def _history(self, node: Node) -> Reading:
        if kind(node) == "num":
            return self.number(node)
        condition = self.truth(node)

        def share(now: float) -> float:
            answer = condition(now)
            return NAN if answer is None else 1.0 if answer else 0.0

        return share

    def number(self, node: Node) -> Reading:
        """A closure for a tree that is a number."""
        match node:
            case Number():
                return constantly(node.value)
            case Tag() | StepAny() | Aligned():
                series = self.source(node)
                return constantly(NAN) if series is None else latest(series)
            case Negative():
                operand = self.number(node.operand)
                return lambda now: -operand(now)
            case Arithmetic():
                return arithmetic(node.op, self.number(node.left), self.number(node.right))
            case Choice():
                condition = self.truth(node.condition)
                then, otherwise = self.number(node.then), self.number(node.otherwise)

                def choose(now: float) -> float:
                    answer = condition(now)
                    return NAN if answer is None else then(now) if answer else otherwise(now)

                return choose
            case Call():
                return MEASURES[node.function](self, node)
            case _:
                return constantly(NAN)

    def truth(self, node: Node) -> Answer:
        """A closure for a tree that is a condition."""
        match node:
            case Truth():
                value = node.value
                return lambda _now: value
            case Compare():
                return self._compare(node)
            case Not():
                operand = self.truth(node.operand)

                def negate(now: float) -> bool | None:
                    answer = operand(now)
                    return None if answer is None else not answer

                return negate
            case Logic():
                # Kleene's `and` and `or` do not mind the order, so what is cheap is asked first.
                operands = tuple(self.truth(part) for part in sorted(node.operands, key=_cost))
                return logic(operands, decides=node.op == "or")
            case Choice():
                condition = self.truth(node.condition)
                then, otherwise = self.truth(node.then), self.truth(node.otherwise)

                def choose(now: float) -> bool | None:
                    answer = condition(now)
                    return None if answer is None else then(now) if answer else otherwise(now)

                return choose
            case Call():
                return CONDITIONS[node.function](self, node)
            case _:
                return lambda _now: None

    def _compare(self, node: Compare) -> Answer:
        if isinstance(node.right, Number) and isinstance(node.left, Tag) and node.op in AGAINST_CONSTANT:
            return AGAINST_CONSTANT[node.op](self.tags[node.left.name], node.right.value)
        return COMPARISONS[node.op](self.number(node.left), self.number(node.right))


def _leaves(node: Node) -> Iterator[Tag | StepAny]:
    for part in walk(node):
        if isinstance(part, Tag | StepAny):
            yield part


def _cost(node: Node) -> int:
    """How dear a condition is to ask: windows and fits count a hundred parts."""
    return sum(100 if isinstance(part, Call) and part.row.windows else 1 for part in walk(node))
