"""How packs and the user's own files become one set of rules.

All problems of all files are told at once: what is wrong with one entry hides nothing of another, since a
stand-in keeps its name known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rules.gate_checks import SEVERITIES, check_gates
from rules.mending import mended
from rules.references import check
from rules.schema import (
    GateSpec,
    InhibitSpec,
    LadderSpec,
    LimitsSpec,
    MetricSpec,
    RemedySpec,
    RuleFile,
    RuleSpec,
    RungSpec,
    mistakes,
    validate,
)
from rules.source import Document, Path, Problem, RuleErrors, nearest

MAX_RULES = 2000

NOTIFY = LadderSpec(rungs=(RungSpec(do=("notify",)),))
"""The ladder of every rule that names none."""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules, ready to be compiled.

    Attributes:
        rules: packs first, in the order of their inclusion; disabled ones are left out.
        metrics: canonical names. params: numbers by namespace (a pack's name, "" for the user's file) and
            name.
        ladders, remedies: by name. limits: of the run. inhibit: the user's own.
        origins: (rule name, field) to `file:line:column`; ("", "") gives the file of last resort.
        gates: by name; the rules they forbid are full names. gate_packs: whose params each may name.
        applies: by namespace, the condition under which a pack's rules are for a run.
    """

    rules: tuple[RuleSpec, ...]
    metrics: Mapping[str, MetricSpec]
    params: Mapping[str, Mapping[str, float]]
    ladders: Mapping[str, LadderSpec]
    remedies: Mapping[str, RemedySpec]
    limits: LimitsSpec
    inhibit: tuple[InhibitSpec, ...] = ()
    origins: Mapping[tuple[str, str], str] = field(default_factory=dict)
    gates: Mapping[str, GateSpec] = field(default_factory=dict)
    gate_packs: Mapping[str, str] = field(default_factory=dict)
    applies: Mapping[str, str] = field(default_factory=dict)

    def where(self, name: str, part: str = "") -> str:
        """Return the place of a rule's field, metric (`metrics.x`), ladder (`ladders.x`) or gate (`gates.x`)
        as `file:line:column`.
        """
        for key in ((name, part), (name, ""), ("", "")):
            if key in self.origins:
                return self.origins[key]
        return "rules"


def build(documents: Sequence[tuple[str, Document]]) -> RuleSet:
    """Merge rule files: later files win, and the last one is the user's.

    Args:
        documents: (namespace, file) in order; the namespace of a pack is its name, that of the user's own
            files "".

    Raises:
        RuleErrors: with every problem of every file.
    """
    rules, problems = merge(documents)
    if problems:
        raise RuleErrors(problems)
    return rules


def merge(documents: Sequence[tuple[str, Document]]) -> tuple[RuleSet, list[Problem]]:
    """Merge as `build` does; with problems, the set is what is well, to look for more of them in."""
    problems: list[Problem] = []
    files: list[tuple[str, Document, RuleFile]] = []
    for namespace, document in documents:
        model, found = validate(RuleFile, document.data, document)
        problems += found
        if model is None:
            # What is well in a faulty file still counts, so that the problems of the others can be told too.
            model, _ = validate(RuleFile, mended(document.data), document)
        if model is not None:
            files.append((namespace, document, model))
    merged = _Merge(problems)
    for namespace, document, model in files:
        merged.add(namespace, document, model)
    for namespace, document, model in files:
        merged.adjust(namespace, document, model)
    return merged.finish(), problems


class _Merge:
    """The rule set while it grows."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems
        self._rules: dict[str, RuleSpec] = {}
        self._metrics: dict[str, MetricSpec] = {}
        self._params: dict[str, dict[str, float]] = {"": {}}
        self._ladders: dict[str, LadderSpec] = {"notify": NOTIFY}
        self._remedies: dict[str, RemedySpec] = {}
        self._limits = LimitsSpec()
        self._inhibit: list[InhibitSpec] = []
        self._gates: dict[str, GateSpec] = {}
        self._gate_packs: dict[str, str] = {}
        self._applies: dict[str, str] = {}
        self._off: set[str] = set()
        self._origins: dict[tuple[str, str], str] = {}

    def add(self, namespace: str, document: Document, file: RuleFile) -> None:
        """Take a file's definitions in."""
        self._origins[("", "")] = document.file
        if file.pack is not None and file.pack.when is not None:
            self._add_pack(namespace, document, file.pack.when)
        for index, table in enumerate(file.rule):
            self._add_rule(namespace, document, index, table)
        self._metrics.update(file.metrics)
        self._ladders.update(file.ladders)
        self._remedies.update(file.remedies)
        for kind, names in (
            ("metrics", file.metrics),
            ("ladders", file.ladders),
            ("remedies", file.remedies),
        ):
            for name in names:
                self._remember(f"{kind}.{name}", document, (kind, name))
        if namespace:
            self._params.setdefault(namespace, {}).update(file.params)
        if file.limits is not None:
            self._limits = file.limits
            self._remember("limits", document, ("limits",))
        for index, inhibit in enumerate(file.inhibit):
            self._remember(f"inhibit.{len(self._inhibit)}", document, ("inhibit", index))
            self._inhibit.append(inhibit)
        for index, gate in enumerate(file.gate):
            if any(gate.name == other.name for other in file.gate[:index]):
                self._say(document.where(("gate", index, "name")), f"gate {gate.name!r} is defined twice")
            self._add_gate(namespace, document, index, gate)

    def _add_pack(self, namespace: str, document: Document, when: str) -> None:
        """Remember for which runs a pack is; a file that is none would narrow all of the user's own rules."""
        if not namespace:
            what, hint = "pack.when: this file is no pack", "give each rule its own `when`"
            self._say(document.where(("pack", "when")), what, hint)
            return
        self._applies[namespace] = when
        self._remember(f"pack.{namespace}", document, ("pack",))

    def _add_gate(self, namespace: str, document: Document, index: int, gate: GateSpec) -> None:
        """Take a gate in; a later file's replaces that of the same name, as with ladders."""
        own = tuple(
            word if not namespace or "/" in word or word in SEVERITIES else f"{namespace}/{word}"
            for word in gate.forbid
        )
        self._gates[gate.name] = gate.model_copy(update={"forbid": own})
        self._gate_packs[gate.name] = namespace
        self._origins = {at: place for at, place in self._origins.items() if at[0] != f"gates.{gate.name}"}
        self._remember(f"gates.{gate.name}", document, ("gate", index))

    def _add_rule(self, namespace: str, document: Document, index: int, table: RuleSpec) -> None:
        name = f"{namespace}/{table.name}" if namespace else table.name
        if name in self._rules:
            self._say(document.where(("rule", index, "name")), f"rule {name!r} is defined twice")
        mutes = tuple(
            other if "/" in other or not namespace else f"{namespace}/{other}" for other in table.inhibits
        )
        self._rules[name] = RuleSpec.model_construct(
            **{**{f: getattr(table, f) for f in RuleSpec.model_fields}, "name": name, "inhibits": mutes}
        )
        self._remember(name, document, ("rule", index))

    def _remember(self, name: str, document: Document, path: Path) -> None:
        self._origins[(name, "")] = document.where(path)
        for key in document.positions:
            if key[: len(path)] == path and len(key) > len(path):
                part = ".".join(str(k) for k in key[len(path) :])
                self._origins[(name, part)] = document.where(key)

    def adjust(self, namespace: str, document: Document, file: RuleFile) -> None:
        """Apply what a file says of other files: params, overrides, disabled rules."""
        if not namespace:
            self._set_params(document, file.params)
        for name, changes in file.override.items():
            self._override(document, name, changes)
        for index, name in enumerate(file.disable.rules):
            if name not in self._rules:
                self._say(
                    document.where(("disable", "rules", index)),
                    f"no rule {name!r} to disable",
                    nearest(name, self._rules),
                )
            self._off.add(name)

    def _set_params(self, document: Document, params: Mapping[str, float]) -> None:
        """A user's parameter replaces that of every pack which has one of its name, and is the user's own
        besides.
        """
        self._params[""].update(params)
        self._origins.update({("params", name): document.where(("params", name)) for name in params})
        for names in self._params.values():
            names.update({name: value for name, value in params.items() if name in names})

    def _override(self, document: Document, name: str, changes: Mapping[str, Any]) -> None:
        rule = self._rules.get(name)
        path: Path = ("override", name)
        if rule is None:
            self._say(document.where(path), f"no rule {name!r} to override", nearest(name, self._rules))
            return
        body = {f.alias or field: getattr(rule, field) for field, f in RuleSpec.model_fields.items()}
        if "name" in changes:
            self._say(document.where((*path, "name")), "a rule keeps its name")
            return
        model, found = validate(RuleSpec, {**body, **changes}, document, path)
        self._problems += found
        if model is None:  # what is well of it counts, and may hold further problems
            unknown, wrong = mistakes(RuleSpec, {**body, **changes})
            faulty = {str(place[0]) for place in (*unknown, *wrong) if place}
            well = {key: value for key, value in changes.items() if key not in faulty}
            model, _ = validate(RuleSpec, {**body, **well}, document, path)
        if model is not None:
            self._rules[name] = model
            for key in changes:
                self._origins[(name, key)] = document.where((*path, key))

    def finish(self) -> RuleSet:
        """Check what refers to what, and return the whole."""
        known = set(self._rules)
        rules = tuple(r for r in self._rules.values() if r.enabled and r.name not in self._off)
        if len(rules) > MAX_RULES:
            self._say(self._origins[("", "")], f"{len(rules)} rules; at most {MAX_RULES} are allowed")
        merged = RuleSet(
            rules,
            self._metrics,
            self._params,
            self._ladders,
            self._remedies,
            self._limits,
            tuple(self._inhibit),
            self._origins,
            self._gates,
            self._gate_packs,
            self._applies,
        )
        self._problems += check(merged, known)
        self._problems += check_gates(merged, known)
        return merged

    def _say(self, where: str, what: str, hint: str = "") -> None:
        self._problems.append(Problem(where, what, hint))
