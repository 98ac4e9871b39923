"""A rule in words, for people who did not write it: what it reads, and what is done, rung by rung.

Everything is taken from the rule set and nothing is evaluated: a rule that is shipped switched off, or lacks
a parameter, can be described too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rules import packs
from rules.merge import RuleSet, build
from rules.schema import LadderSpec, MetricSpec, RemedySpec, RuleSpec, RungSpec, Span, TrySpec
from rules.source import Document
from rules.syntax import UnreadableError, read

_DEEDS = {
    "notify": "people are told",
    "checkpoint": "a checkpoint is asked for",
    "rollback": "a rollback is asked for",
    "terminate": "the run is ended",
}


@dataclass(frozen=True, slots=True)
class Description:
    """All that there is to say of one rule.

    Attributes:
        rule: as configured. on: whether it is in force.
        params: the numbers it names, by bare name; None where nobody has given one.
        metrics: the canonical names it reads, those that they are made of included, with their candidates.
        deeds: its ladder, a sentence a rung, and what recovery is.
    """

    rule: RuleSpec
    on: bool
    params: Mapping[str, float | None]
    metrics: Mapping[str, tuple[str, ...]]
    deeds: tuple[str, ...]

    @property
    def pack(self) -> str:
        """The pack it is from; empty for a user's own."""
        return self.rule.name.rpartition("/")[0]

    @property
    def ladder(self) -> str:
        """The name of its ladder."""
        return self.rule.ladder or "notify"


def shipped(names: Sequence[str]) -> tuple[RuleSet, frozenset[str]]:
    """Read packs with every rule in them; return also the names of those that are shipped switched off.

    Raises:
        LookupError: there is no pack of a name.
    """
    documents = [("", packs.read(packs.ALIASES))]
    off = set()
    for name in names:
        found = packs.read(name)
        rules = found.data.get("rule", [])
        off |= {f"{name}/{rule['name']}" for rule in rules if not rule.get("enabled", True)}
        everything = {**found.data, "rule": [{**rule, "enabled": True} for rule in rules]}
        documents.append((name, Document(found.file, everything, found.positions)))
    return build(documents), frozenset(off)


def describe(rule: RuleSpec, rules: RuleSet, *, on: bool = True) -> Description:
    """Collect what there is to say of a rule of a rule set."""
    names, params = _named(rule)
    pack = rule.name.rpartition("/")[0]
    numbers = {**rules.params.get("", {}), **rules.params.get(pack, {})}
    return Description(
        rule,
        on,
        {name: numbers.get(name) for name in sorted(params)},
        dict(_metrics(names, rules.metrics)),
        tuple(_deeds(rules.ladders[rule.ladder or "notify"], rules.remedies)),
    )


def _named(rule: RuleSpec) -> tuple[set[str], set[str]]:
    """Return the bare names and the parameters in a rule's expressions; its own lets are no metrics."""
    names: set[str] = set()
    params: set[str] = set()
    for text in (rule.expr, rule.clear or "", *rule.let.values()):
        found = _read(text)
        names |= found[0]
        params |= found[1]
    return names - set(rule.let), params


def _read(text: str) -> tuple[set[str], set[str]]:
    try:
        nodes = list(ast.walk(read(text))) if text else []
    except UnreadableError:
        return set(), set()  # the problem is told where rules are compiled, with its place
    return (
        {node.id for node in nodes if isinstance(node, ast.Name)},
        {node.attr for node in nodes if isinstance(node, ast.Attribute)},
    )


def _metrics(
    names: set[str], known: Mapping[str, MetricSpec], seen: frozenset[str] = frozenset()
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each metric with its candidates, then the metrics that its candidates are made of."""
    for name in sorted(names & set(known) - seen):
        yield name, known[name].any
        inner = {part for text in known[name].any if text[0] == "=" for part in _read(text[1:])[0]}
        yield from _metrics(inner, known, seen | {name})


def _deeds(ladder: LadderSpec, remedies: Mapping[str, RemedySpec]) -> Iterator[str]:
    for number, rung in enumerate(ladder.rungs, start=1):
        yield f"{number}. {_when(rung, number)}: {_what(rung)}"
        if "rollback" in rung.do and rung.remedy is not None:
            tries = remedies[rung.remedy].tries
            yield from (f"   try {count}: {_change(try_)}" for count, try_ in enumerate(tries, start=1))
    if ladder.recovered_when is not None and ladder.within is not None:
        condition = " ".join(ladder.recovered_when.split())
        within = said(ladder.within)
        yield f"recovered, after a rollback: when {condition}, within {within}; else it fires again"


def _when(rung: RungSpec, number: int) -> str:
    if rung.when == "exhausted":
        return "once rollbacks, tries or the run's budget are used up"
    if rung.after is not None:
        return f"after {said(rung.after)} of firing"
    return "as it fires" if number == 1 else "at once after that"


def _what(rung: RungSpec) -> str:
    words = " and ".join(_DEEDS[verb] for verb in rung.do)
    if "rollback" in rung.do:
        words += " to the newest good checkpoint"
        words += f" at least {said(rung.margin)} before the onset" if rung.margin else " before the onset"
        words += f", with the remedy {rung.remedy}" if rung.remedy else ""
    if rung.max is not None:
        words += f"; at most {rung.max} times in a run"
    if rung.cooldown is not None:
        words += f"; again within {said(rung.cooldown)} it is the same trouble still: "
        words += "the next try, an older checkpoint"
    if rung.approve:
        unanswered = "it is done" if rung.default == "act" else "it is not done"
        words += f"; people are asked first, and without an answer within {said(rung.patience)} {unanswered}"
    return words


def _change(try_: TrySpec) -> str:
    parts = [
        f"{name} times {value[1:]}" if isinstance(value, str) and value[:1] == "x" else f"{name} = {value}"
        for name, value in try_.set.items()
    ]
    parts += [f"fresh weights for {name}" for name in try_.reinit]
    return ", ".join(parts)


def said(span: Span) -> str:
    """Say a span as a person would: `10 minutes`, `1 point`."""
    amount, unit = span.amount, span.unit
    if unit == "seconds" and amount >= 60 and amount % 60 == 0:
        amount, unit = amount / 60, "minutes"  # type: ignore[assignment]  # a word for people, no unit of a Span
    return f"{amount:g} {unit[:-1] if amount == 1 else unit}"
