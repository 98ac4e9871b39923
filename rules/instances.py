"""A rule in one run: its closures over the run's series, and when it is to be judged.

Made again when a name it uses comes to mean something; windows that were there before are kept, since equal
subtrees are one node.
"""

from __future__ import annotations

import math

from rules.closures import Builder, has_missing
from rules.compile import CompiledRule
from rules.deciders import Decider
from rules.names import Names
from rules.store import Answer, Reading, Series
from rules.tree import Call, Logic, Missing, Node, Not, Tag, kind, walk


class Instance:
    """One rule in one run, or one tag's share of an `each` rule."""

    __slots__ = (
        "answer", "applies", "captures", "clear", "decide", "driver", "failures", "fires_blind", "inputs",
        "key", "lazy", "named", "order", "recovered", "rule", "said", "tag", "trees", "waiting", "when",
    )  # fmt: skip

    answer: Answer
    clear: Answer | None
    recovered: Answer | None
    when: Answer | None
    driver: Series

    def __init__(self, rule: CompiledRule, key: str, tag: str | None, captures: dict[str, str]) -> None:
        self.rule = rule
        self.key = key
        self.tag = tag
        self.captures = captures
        self.order = (rule.order, key)
        self.trees: tuple[Node | None, ...] = ()
        self.inputs: tuple[Series, ...] = ()
        self.named: dict[str, Reading] = {}
        self.decide: Decider | None = None
        self.fires_blind = rule.spec.no_data == "fire"
        self.lazy = False
        self.waiting = True
        self.said: dict[str, float | None] | None = None
        self.failures = 0
        self.applies = rule.when is None

    def build(self, names: Names, builder: Builder) -> bool:
        """(Re)make the closures; False if nothing has changed since the last time."""
        rule = self.rule
        trees = tuple(
            tree and names.tree(tree, self.tag, self.captures)
            for tree in (rule.expr, rule.clear, rule.recovered, rule.when, *(node for _, node in rule.named))
        )
        if trees == self.trees:
            return False
        self.trees = trees
        self.waiting = any(isinstance(part, Missing) for tree in trees if tree for part in walk(tree))
        expr, clear, recovered, when, *named = trees
        assert expr is not None
        conditions = [tree for tree in (expr, clear, recovered) if tree is not None]
        inputs = list(dict.fromkeys(series for tree in conditions for series in builder.inputs(tree)))
        self.inputs = tuple(inputs)
        own = builder.tags.get(self.tag) if self.tag is not None else None
        self.driver = builder.driver = own or (inputs[0] if inputs else builder.step_any)
        self.answer = builder.truth(expr)
        self.clear = builder.truth(clear) if clear is not None else None
        self.recovered = builder.truth(recovered) if recovered is not None else None
        self.when = builder.truth(when) if when is not None else None
        self.decide = None
        self.named = {
            name: builder.number(tree)
            for (name, _), tree in zip(rule.named, named, strict=True)
            if tree is not None and kind(tree) == "num"
        }
        self._subscribe(builder, expr)
        return True

    def _subscribe(self, builder: Builder, expr: Node) -> None:
        """Have it judged when its inputs get points; lazily where a quiet answer is certain
        without it.
        """
        alarm = _alarm(expr)
        match expr:
            case _ if alarm is not None:
                self.lazy = True
                series = builder.tags[alarm]
                if self not in series.alarms:
                    series.alarms = (*series.alarms, self)
            case Call("stale" | "absent"):
                self.lazy = True  # a point makes it young: only the timer can find it old
            case _:
                # What names no series of this run, such as `step() > 9`, goes by the run's own steps.
                fallback = () if self.inputs or has_missing(expr) else (builder.step_any,)
                for series in self.inputs or fallback:
                    if self not in series.rules:
                        series.rules = (*series.rules, self)

    def ends_badly(self) -> bool:
        """Whether a lazy instance's own series ends in a value that it must see."""
        return any(not math.isfinite(series.value) for series in self.inputs)


def _alarm(expr: Node) -> str | None:
    """The tag without whose NaN or infinity a condition cannot be True; None for another condition."""
    match expr:
        case Not(Call("is_finite", (Tag(name),))) | Call("is_nan", (Tag(name),)):
            return name
        case Logic("and", operands):
            return next((found for operand in operands if (found := _alarm(operand)) is not None), None)
    return None
