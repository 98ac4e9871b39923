"""From a set of rules to a program: all expressions parsed and checked, and every problem told at once.

A program knows nothing of any run: metrics are still names, and an `each` rule is one rule. It can be
shared by all runs; what is a run's own lives in its `Evaluator`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from rules import template
from rules.expr import Scope, parse
from rules.functions import Kind
from rules.merge import RuleSet
from rules.patterns import Pattern, compile_pattern
from rules.schema import RuleSpec
from rules.source import Problem, RuleErrors
from rules.syntax import MAX_PARTS, Fault
from rules.tree import Call, Logic, Metric, Node, kind, walk

MAX_ALIAS_NESTING = 4

Extent: TypeAlias = tuple[int, int]
"""How many expressions deep something goes, and of how many parts it is, with the metrics filled in."""

MESSAGE_NUMBERS = frozenset({"age", "attempt", "limit", "onset", "run_step", "step", "value", "wall"})
MESSAGE_WORDS = frozenset({"key", "rule", "run", "severity", "tag"})
"""What a message may name besides metrics, lets, params and captures."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the things a metric may be in a run: an exact tag, or an expression over other metrics and
    tags.
    """

    text: str
    tree: Node | None = None


@dataclass(frozen=True, slots=True)
class Alias:
    """A metric's candidates in order of preference. `same_step`: its inputs join at equal steps only."""

    candidates: tuple[Candidate, ...]
    same_step: bool = False


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One rule, parsed.

    Attributes:
        order: its place among the rules; verdicts of one tick come in this order.
        expr, clear, recovered: its conditions; `recovered` is its ladder's.
        when: the condition under which it is for a run: its own and its pack's; None is every run.
        pattern: of an `each` rule.
        named: the metrics and lets that its messages may name.
        params: the numbers behind p.name, by bare name.
        timed: whether its answer changes between points.
    """

    order: int
    spec: RuleSpec
    expr: Node
    clear: Node | None
    recovered: Node | None
    pattern: Pattern | None
    named: tuple[tuple[str, Node], ...]
    params: Mapping[str, float]
    timed: bool
    when: Node | None = None


@dataclass(frozen=True, slots=True)
class Compiled:
    """Everything parsed: what a program is made of."""

    rules: tuple[CompiledRule, ...]
    metrics: Mapping[str, Alias] = field(default_factory=dict)


def compile_all(rules: RuleSet) -> Compiled:
    """Parse and check every expression.

    Raises:
        RuleErrors: with all problems of all rules, each with its file, line and column.
    """
    compiler = _Compiler(rules)
    metrics = {name: compiler.alias(name) for name in rules.metrics}
    compiler.check_nesting(metrics)
    compiled = tuple(compiler.rule(order, spec) for order, spec in enumerate(rules.rules) if spec.enabled)
    if compiler.problems:
        raise RuleErrors(compiler.problems)
    return Compiled(compiled, metrics)


class _Compiler:
    """Collects problems while it parses."""

    def __init__(self, rules: RuleSet) -> None:
        self._set = rules
        self._packs: dict[str, Node] = {}
        self._extents: dict[str, Extent] = {}
        self.problems: list[Problem] = []

    def alias(self, name: str) -> Alias:
        """A metric's candidates."""
        spec = self._set.metrics[name]
        scope = Scope(metrics=self._set.metrics, params=self._set.params.get("", {}))
        where = self._set.where(f"metrics.{name}")
        found: list[Candidate] = []
        for text in spec.any:
            if text.startswith("="):
                tree = self._parse(text[1:], scope, "num", where, f"metrics.{name}")
                found.append(Candidate(text, tree))
            else:
                found.append(Candidate(text))
        return Alias(tuple(found), spec.align == "step")

    def check_nesting(self, metrics: Mapping[str, Alias]) -> None:
        """Expressions over metrics may be nested, but not for ever, nor into more and more parts."""
        self._extents = _extents(metrics)
        for name in metrics:
            depth, size = self._extents[name]
            where, what = self._set.where(f"metrics.{name}"), f"metrics.{name}"
            if depth > MAX_ALIAS_NESTING:
                what = f"{what}: nested deeper than {MAX_ALIAS_NESTING}"
                self._problem(where, what, "does the metric name itself?")
            elif size > MAX_PARTS:
                self._problem(where, f"{what}: {_too_many(size)}", "name less in it")

    def rule(self, order: int, spec: RuleSpec) -> CompiledRule:
        """One rule; where parts are faulty the result only keeps the checking going."""
        pattern = self._pattern(spec)
        namespace = spec.name.rpartition("/")[0]
        params = {**self._set.params.get("", {}), **self._set.params.get(namespace, {})}
        scope = Scope(
            metrics=self._set.metrics,
            params=params,
            lets=spec.let,
            each=pattern is not None,
            captures=pattern.captures if pattern else (),
        )
        lets = {
            name: self._parse(
                text, scope, None, self._set.where(spec.name, f"let.{name}"), f"{spec.name}.let.{name}"
            )
            for name, text in spec.let.items()
        }
        expr = self._condition(spec, "expr", spec.expr, scope)
        clear = self._condition(spec, "clear", spec.clear, scope) if spec.clear else None
        recovered = self._recovery(spec, scope)
        when = self._applies(spec, scope, params)
        self._messages(spec, scope, lets)
        conditions = [expr, *(tree for tree in (clear, recovered) if tree is not None)]
        size = max(_sum(tree, self._extents)[1] for tree in (*conditions, *lets.values()))
        if size > MAX_PARTS:
            self._problem(
                self._set.where(spec.name, "expr"), f"{spec.name}: {_too_many(size)}", "name less in it"
            )
        metrics = dict.fromkeys(
            [part.name for tree in conditions for part in walk(tree) if isinstance(part, Metric)]
            + [name for name in _fields(spec) if name in self._set.metrics and name not in lets]
        )
        named = {**{name: Metric(name) for name in metrics}, **lets}
        timed = any(isinstance(part, Call) and part.row.timed for tree in conditions for part in walk(tree))
        return CompiledRule(
            order, spec, expr, clear, recovered, pattern, tuple(named.items()), params, timed, when
        )

    def _condition(self, spec: RuleSpec, part: str, text: str, scope: Scope) -> Node:
        return self._parse(text, scope, "bool", self._set.where(spec.name, part), f"{spec.name}.{part}")

    def _applies(self, spec: RuleSpec, scope: Scope, params: Mapping[str, float]) -> Node | None:
        """For which runs a rule is: its own condition, and its pack's, which knows nothing of one rule."""
        own = self._condition(spec, "when", spec.when, scope) if spec.when is not None else None
        namespace = spec.name.rpartition("/")[0]
        text = self._set.applies.get(namespace)
        if text is None:
            return own
        pack, owner = self._packs.get(namespace), f"pack.{namespace}"
        if pack is None:
            where = self._set.where(owner, "when")
            pack = self._parse(text, Scope(scope.metrics, params), "bool", where, f"{owner}.when")
            self._packs[namespace] = pack
        return pack if own is None else Logic("and", (pack, own))

    def _recovery(self, spec: RuleSpec, scope: Scope) -> Node | None:
        ladder = self._set.ladders.get(spec.ladder or "notify")
        if ladder is None or ladder.recovered_when is None:
            return None
        where = self._set.where(f"ladders.{spec.ladder}", "recovered_when")
        return self._parse(
            ladder.recovered_when, scope, "bool", where, f"ladders.{spec.ladder}.recovered_when"
        )

    def _pattern(self, spec: RuleSpec) -> Pattern | None:
        if spec.each is None:
            return None
        try:
            return compile_pattern(spec.each)
        except ValueError as error:
            self._problem(self._set.where(spec.name, "each"), f"{spec.name}.each: {error}")
            return compile_pattern("**")

    def _messages(self, spec: RuleSpec, scope: Scope, lets: Mapping[str, Node]) -> None:
        """A message that names something unknown would fail when it is needed most."""
        conditions = {name for name, tree in lets.items() if kind(tree) != "num"}
        numbers = {*scope.metrics, *scope.params, *scope.lets, *MESSAGE_NUMBERS} - conditions
        words = MESSAGE_WORDS | set(scope.captures)
        if scope.each:
            numbers |= {"x"}
        else:
            words -= {"tag"}
        for part in ("summary", "why", "try_"):
            shown = part.rstrip("_")
            where = self._set.where(spec.name, shown)
            for fault in template.faults(getattr(spec, part), numbers, words):
                self._problem(where, f"{spec.name}.{shown}: {fault.what}", fault.hint)

    def _parse(self, text: str, scope: Scope, expect: Kind | None, where: str, part: str) -> Node:
        tree, faults = parse(text, scope, expect)
        for fault in faults:
            self.problems.append(_problem(where, part, text, fault))
        return tree

    def _problem(self, where: str, what: str, hint: str = "") -> None:
        self.problems.append(Problem(where, what, hint))


def _fields(spec: RuleSpec) -> Iterator[str]:
    for message in (spec.summary, spec.why, spec.try_):
        yield from template.names(message)


def _problem(where: str, part: str, text: str, fault: Fault) -> Problem:
    return Problem(where, f"{part}: {fault.what}", fault.hint, " ".join(text.splitlines()), fault.span)


def _too_many(size: int) -> str:
    return f"{size:,} parts with the metrics that it names filled in; at most {MAX_PARTS:,} are allowed"


def _extents(metrics: Mapping[str, Alias]) -> dict[str, Extent]:
    """How many expressions deep each metric goes, and of how many parts it is.

    Round by round, each one expression deeper: one that is still growing in the last is too deep, or names
    itself.
    """
    known: dict[str, Extent] = dict.fromkeys(metrics, (0, 1))
    for _ in range(MAX_ALIAS_NESTING + 1):
        known = {name: _extent(alias, known) for name, alias in metrics.items()}
    return known


def _extent(alias: Alias, known: Mapping[str, Extent]) -> Extent:
    found = [_sum(candidate.tree, known) for candidate in alias.candidates if candidate.tree is not None]
    return max((depth for depth, _ in found), default=0), max((size for _, size in found), default=1)


def _sum(tree: Node, known: Mapping[str, Extent]) -> Extent:
    """The same of a tree, its metrics filled in."""
    depth, size = 0, 0
    for part in walk(tree):
        deeper, more = known.get(part.name, (0, 1)) if isinstance(part, Metric) else (-1, 1)
        depth, size = max(depth, 1 + deeper), size + more
    return depth, size
