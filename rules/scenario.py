"""Scenario files: what happens to a run, and what the rules are to make of it. Read and checked here.

A rule is data, so its test is data too. Nothing is judged here: a case is played by the very code that judges
live runs and replays, and what came is compared in `rules.expectations`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rules import generators, packs
from rules.case import Axis, Case, points, rewinds, whole
from rules.evaluate import Program, compile_rules
from rules.gate import GateBook, compile_gates
from rules.merge import RuleSet, merge
from rules.notation import expand, seeds, span
from rules.schema import Strict, validate
from rules.source import Document, Path, Problem, RuleErrors, nearest, parse


class ScenarioFile(Strict):
    include: tuple[str, ...] = ()
    test: tuple[Case, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario file, checked.

    Attributes:
        document: the file. rules, program: what it tests. cases: how.
        gates: those that its tests speak of.
    """

    document: Document
    rules: RuleSet
    program: Program
    cases: tuple[Case, ...]
    gates: GateBook | None = None


def load(text: str, file: str, read: Callable[[str], str]) -> Scenario:
    """Read a scenario file: `include`, `[[test]]`, and whatever a rule file may hold.

    Args:
        text: its TOML. file: its name, for problems.
        read: gives the text of another rule file that it includes.

    Raises:
        RuleErrors: with every problem of the file and of what it includes.
    """
    document = parse(text, file)
    own = {key: value for key, value in document.data.items() if key in ScenarioFile.model_fields}
    rest = {key: value for key, value in document.data.items() if key not in own}
    model, problems = validate(ScenarioFile, _spelled_out(own), document)
    documents: list[tuple[str, Document]] = []
    named = document.data.get("include")
    for item in model.include if model else named if isinstance(named, list) else ():
        try:
            documents += _included(item, documents, read)
        except (LookupError, OSError) as error:
            problems.append(Problem(document.where(("include",)), str(error)))
        except RuleErrors as error:
            problems += error.problems
    documents.append(("", Document(file, rest, document.positions)))
    rules, found = merge(documents)
    problems += found
    program: Program | None = None
    try:
        program = compile_rules(rules)
    except RuleErrors as error:
        problems += error.problems
    gates: GateBook | None = None
    if model is not None:
        problems += _faults(model, document, {rule.name for rule in rules.rules}, rules.gates)
        named_gates = {e.gate for case in model.test for e in case.expect if e.gate in rules.gates}
        try:
            gates = compile_gates(rules, [name for name in rules.gates if name in named_gates])
        except RuleErrors as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems or model is None or program is None:
        raise RuleErrors(problems)
    return Scenario(document, rules, program, model.test, gates if gates and gates.gates else None)


def _spelled_out(own: Mapping[str, Any]) -> dict[str, Any]:
    """Write short forms out: `"notify"` as `{ do = "notify" }`, `rewind_at = 1500` as a list."""
    tests = own.get("test")
    if not isinstance(tests, list):
        return dict(own)
    return {**own, "test": [_test_spelled_out(test) for test in tests]}


def _test_spelled_out(test: object) -> object:
    if not isinstance(test, dict):
        return test
    test = dict(test)
    at = test.get("rewind_at")
    if isinstance(at, int):
        test["rewind_at"] = [at]
    expects = test.get("expect")
    if isinstance(expects, list):
        test["expect"] = [_expect_spelled_out(expect) for expect in expects]
    return test


def _expect_spelled_out(expect: object) -> object:
    if not isinstance(expect, dict) or not isinstance(expect.get("actions"), list):
        return expect
    deeds = [{"do": deed} if isinstance(deed, str) else deed for deed in expect["actions"]]
    return {**expect, "actions": deeds}


def _included(
    item: object, so_far: Sequence[tuple[str, Document]], read: Callable[[str], str]
) -> list[tuple[str, Document]]:
    if not isinstance(item, str):
        return []
    if not item.startswith("pack:"):
        return [("", parse(read(item), item))]
    found = packs.with_aliases(item.removeprefix("pack:"))
    have = {document.file for _, document in so_far}
    return [(namespace, document) for namespace, document in found if document.file not in have]


# What only a whole case can be wrong about


def _faults(
    file: ScenarioFile, document: Document, rules: Collection[str], gates: Collection[str]
) -> Iterator[Problem]:
    for number, case in enumerate(file.test):
        found = (*_points_faults(case), *_expect_faults(case, rules), *_gate_faults(case, gates))
        for place, what, hint in found:
            yield Problem(document.where(("test", number, *place)), f"test {case.name!r}: {what}", hint)


_Fault = tuple[Path, str, str]


def _points_faults(case: Case) -> Iterator[_Fault]:
    well = True
    for index, axis in enumerate((case, *case.axis)):
        place: Path = () if index == 0 else ("axis", index - 1)
        found = list(_axis_faults(axis))
        well = well and not found
        yield from (((*place, *inner), what, "") for inner, what in found)
    for key, read in _READ.items():
        text = getattr(case, key)
        if text is not None:
            try:
                read(text)
            except ValueError as error:
                yield (key,), f"{key}: {error}", ""
    yield from _origin_faults(case)
    if case.silence is not None and case.silence.unit != "seconds":
        yield ("silence",), "silence is a time", 'write "30s", "10m" or "1h"'
    if well:
        try:
            rewinds(case)
        except ValueError as error:
            yield ("rewind_at",), str(error), ""


def _axis_faults(axis: Axis) -> Iterator[tuple[Path, str]]:
    """Every series that is not written as it should be; and if all are, whether its places are."""
    well = True
    for tag, text in axis.series.items():
        try:
            expand(text)
        except ValueError as error:
            well = False
            yield ("series", tag), f"{tag}: {error}"
    if not well:
        return
    try:
        points(axis)
    except ValueError as error:
        yield (str(error).partition(":")[0],), str(error)


def _origin_faults(case: Case) -> Iterator[_Fault]:
    origins = {"series": bool(case.series or case.axis), "source": case.source is not None}
    origins["gen"] = case.gen is not None
    given = [key for key, there in origins.items() if there]
    if len(given) > 1:
        yield (given[1],), f"its points come from {' and '.join(given)}", "give one of them"
    if case.seeds is not None and case.gen is None:
        yield ("seeds",), "seeds are for a generated run", 'give gen = "cheetah(n=2000)"'
    for key in ("tags", "rename", "only_steps"):
        if getattr(case, key) and not case.is_recorded:
            yield (key,), f"{key} is for points that come from `source` or `gen`", ""


def _expect_faults(case: Case, rules: Collection[str]) -> Iterator[_Fault]:
    if not case.expect and case.quiet is None and case.expect_false_alarms_per_1e5 is None:
        yield (), "it expects nothing", "give [[test.expect]], quiet or expect_false_alarms_per_1e5"
    for index, expect in enumerate(case.expect):
        place: Path = ("expect", index)
        for key, name in (("rule", expect.rule), ("before", expect.before or "")):
            if name and name.partition("[")[0] not in rules:
                yield (*place, key), f"no rule {name!r}", nearest(name, rules)
        if expect.runs is not None and case.seeds is None:
            yield (*place, "runs"), "`runs` counts seeds", 'give the test seeds = "0-19"'
        if expect.gate is not None:
            continue
        given = expect.model_fields_set - {"rule", "at", "runs", "verdict"}
        if not given:
            yield place, "it expects nothing of the rule", "give fires_at, never, state or the like"
        if not expect.rule and given - {"actions"}:
            yield place, "rule: this key is required", "only actions can be expected of all rules together"
        if expect.at is not None and expect.state is None:
            yield (*place, "at"), "`at` is the step of a `state`", 'give state = "pending" or the like'


def _gate_faults(case: Case, gates: Collection[str]) -> Iterator[_Fault]:
    for index, expect in enumerate(case.expect):
        place: Path = ("expect", index)
        if expect.gate is not None and expect.gate not in gates:
            yield (*place, "gate"), f"no gate {expect.gate!r}", nearest(expect.gate, gates)
        if (expect.gate is None) != (expect.verdict is None):
            yield place, "`gate` and `verdict` belong together", 'give verdict = "pass" and the gate\'s name'
        more = expect.model_fields_set - {"gate", "verdict", "reason", "runs"}
        if expect.gate is not None and more:
            hint = "expect them of a rule, in an [[test.expect]] of their own"
            yield place, f"of a gate there is no {', '.join(sorted(more))}", hint


_READ: Mapping[str, Callable[[str], object]] = {
    "gen": generators.read,
    "seeds": seeds,
    "only_steps": span,
    "checkpoints": whole,
}
