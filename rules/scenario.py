"""Scenario files: what happens to a run, and what the rules are to make of it. Read and checked here.

A rule is data, so its test is data too. Nothing is judged here: a case is played by the very code that judges
live runs and replays, and what came is compared in `rules.expectations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rules import generators, packs
from rules.alert import AlertState
from rules.evaluate import Program, compile_rules
from rules.merge import RuleSet, merge
from rules.notation import Values, expand, seeds, span
from rules.schema import Setting, Severity, SpanField, Strict, Verb, validate
from rules.series import Sample
from rules.source import Document, Path, Problem, RuleErrors, nearest, parse

BETWEEN_POINTS = 10.0
"""Seconds between two points of an axis that gives no wall times."""


class Axis(Strict):
    """Series whose points come together; `steps` and `wall` are written like the values."""

    steps: str | None = None
    wall: str | None = None
    series: dict[str, str] = {}  # noqa: RUF012  # a model's default is copied for each instance


class Rewind(Strict):
    """A new attempt: at `wall` the run goes on from run step `to_step`."""

    wall: float
    to_step: int


class Deed(Strict):
    """One action that a ladder is to ask for. What is not given may be anything.

    Attributes:
        do: what. to_step: a rollback's target, in run steps. set, reinit: its remedy.
        withheld: it was due and is not taken; the reason holds this text.
    """

    do: Verb
    to_step: int | None = None
    set: dict[str, Setting] | None = None
    reinit: tuple[str, ...] | None = None
    withheld: str | None = None


class Bounds(Strict):
    """How often, at least and at most."""

    min: float = 0
    max: float = math.inf


class Rate(Strict):
    """How many firings in 100 000 points of the longest series, over all seeds, by rules of `severity` and
    above.
    """

    max: float
    severity: Severity = "info"


class Expect(Strict):
    """What one rule is to do. Steps are on the axis of the rule's own series.

    Attributes:
        rule: a rule, or one instance of an `each` rule (`generic/nonfinite[train/loss]`); without brackets,
            any instance. Left out, `actions` are those of all rules.
        fires: it fires at all. fires_at, fires_by: the step at which it first fires, exactly or at the
            latest.
        never: it does not fire. times: how often it fires.
        onset, value, message: of the first firing; the message holds this text.
        before: a rule that fires later than this one in wall time, or never.
        state: how the alert stands in the end, or at the step `at`. reason: why it last changed its state.
        actions: what its ladder asks for, in order; what was withheld counts only where one of them says so.
        runs: in how many of the seeds all this holds; without it, in each.
    """

    rule: str = ""
    fires: bool = False
    fires_at: int | None = None
    fires_by: int | None = None
    never: bool = False
    times: int | None = None
    onset: int | None = None
    value: float | None = None
    message: str | None = None
    before: str | None = None
    state: AlertState | None = None
    at: int | None = None
    reason: str | None = None
    actions: tuple[Deed, ...] | None = None
    runs: Bounds | None = None


class Case(Axis):
    """One test of a scenario file: `series` written down, the points of event files, or a generated run.

    Attributes:
        axis: further series with steps and wall times of their own, such as episodes.
        source: an event file or a run's folder, from the scenario's own folder.
        gen: a generated run, such as `cheetah(seed=3, n=2000)`. seeds: those it is run with, such as `0-19`.
        tags: which tags of the source or the generated run are taken, by patterns; all where there is none.
        rename: the tag that one of theirs goes by.
        only_steps: run steps that are taken of them, such as `0-1500`.
        until: wall time of the end: later points are left out, and silence is judged up to it.
        silence: how long silence is judged after the last point.
        rewind: new attempts. rewind_at: run steps that new attempts go on from, where `steps` go back.
        checkpoints: run steps of good checkpoints, written like the values; without it a rollback's target is
            open.
        quiet: no rule of this severity or a higher one fires.
        expect_false_alarms_per_1e5: how many firings a generated run may have.
    """

    name: str
    axis: tuple[Axis, ...] = ()
    source: str | None = None
    gen: str | None = None
    seeds: str | None = None
    tags: tuple[str, ...] = ()
    rename: dict[str, str] = {}  # noqa: RUF012  # a model's default is copied for each instance
    only_steps: str | None = None
    until: float | None = None
    silence: SpanField | None = None
    rewind: tuple[Rewind, ...] = ()
    rewind_at: tuple[int, ...] = ()
    checkpoints: str | None = None
    quiet: Severity | None = None
    expect_false_alarms_per_1e5: Rate | None = None
    expect: tuple[Expect, ...] = ()

    @property
    def is_recorded(self) -> bool:
        """Whether its points are not written down in the file itself."""
        return self.source is not None or self.gen is not None


class _File(Strict):
    include: tuple[str, ...] = ()
    test: tuple[Case, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario file, checked.

    Attributes:
        document: the file. rules, program: what it tests. cases: how.
    """

    document: Document
    rules: RuleSet
    program: Program
    cases: tuple[Case, ...]


def load(text: str, file: str, read: Callable[[str], str]) -> Scenario:
    """Read a scenario file: `include`, `[[test]]`, and whatever a rule file may hold.

    Args:
        text: its TOML. file: its name, for problems.
        read: gives the text of another rule file that it includes.

    Raises:
        RuleErrors: with every problem of the file and of what it includes.
    """
    document = parse(text, file)
    own = {key: value for key, value in document.data.items() if key in _File.model_fields}
    rest = {key: value for key, value in document.data.items() if key not in own}
    model, problems = validate(_File, _spelled_out(own), document)
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
    if model is not None:
        problems += _faults(model, document, {rule.name for rule in rules.rules})
    if problems or model is None or program is None:
        raise RuleErrors(problems)
    return Scenario(document, rules, program, model.test)


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


def _faults(file: _File, document: Document, rules: Collection[str]) -> Iterator[Problem]:
    for number, case in enumerate(file.test):
        for place, what, hint in (*_points_faults(case), *_expect_faults(case, rules)):
            yield Problem(document.where(("test", number, *place)), f"test {case.name!r}: {what}", hint)


_Fault = tuple[Path, str, str]


def _points_faults(case: Case) -> Iterator[_Fault]:
    well = True
    for index, axis in enumerate((case, *case.axis)):
        try:
            points(axis)
        except ValueError as error:
            well = False
            yield () if index == 0 else ("axis", index - 1), str(error), ""
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
        given = expect.model_fields_set - {"rule", "at", "runs"}
        if not given:
            yield place, "it expects nothing of the rule", "give fires_at, never, state or the like"
        if not expect.rule and given - {"actions"}:
            yield place, "rule: this key is required", "only actions can be expected of all rules together"
        if expect.at is not None and expect.state is None:
            yield (*place, "at"), "`at` is the step of a `state`", 'give state = "pending" or the like'
        if expect.runs is not None and case.seeds is None:
            yield (*place, "runs"), "`runs` counts seeds", 'give the test seeds = "0-19"'


_READ: Mapping[str, Callable[[str], object]] = {
    "gen": generators.read,
    "seeds": seeds,
    "only_steps": span,
    "checkpoints": lambda text: _whole("checkpoints", text),
}


def _whole(name: str, text: str) -> list[int]:
    found = _expand(name, text)
    known = [int(place) for place in found if place is not None and math.isfinite(place)]
    if len(known) < len(found):
        raise ValueError("every place must be a number")
    return known


# Points


def samples(case: Case) -> list[list[Sample]]:
    """Return the written points of a case in the order of their wall times: one list for each place on an
    axis.
    """
    batches = [batch for axis in (case, *case.axis) for batch in points(axis)]
    return sorted(batches, key=lambda batch: batch[0][2])


def checkpoint_steps(case: Case) -> list[int] | None:
    """Return the run steps at which the case has checkpoints; None where it says nothing of them."""
    return None if case.checkpoints is None else _whole("checkpoints", case.checkpoints)


def rewinds(case: Case) -> list[Rewind]:
    """Return the new attempts of a case by wall time, the short form `rewind_at` spelled out.

    Raises:
        ValueError: `rewind_at` has other than one step for each place at which `steps` go back.
    """
    if not case.rewind_at:
        return sorted(case.rewind, key=lambda rewind: rewind.wall)
    found = [] if case.is_recorded else points(case)
    back = [late[0][2] for early, late in pairwise(found) if late[0][1] < early[0][1]]
    if len(back) != len(case.rewind_at):
        raise ValueError(
            f"rewind_at has {len(case.rewind_at)} steps, and `steps` go back {len(back)} times; "
            "use [[test.rewind]] with wall and to_step where they do not"
        )
    short = [Rewind(wall=wall, to_step=step) for wall, step in zip(back, case.rewind_at, strict=True)]
    return sorted((*case.rewind, *short), key=lambda rewind: rewind.wall)


def points(axis: Axis) -> list[list[Sample]]:
    """Return the points of one axis, a list for each place on it that has any.

    Raises:
        ValueError: a series or an axis is not written as it should be.
    """
    series = {tag: _expand(tag, text) for tag, text in axis.series.items()}
    longest = max((len(values) for values in series.values()), default=0)
    steps = _places("steps", axis.steps, [float(n) for n in range(1, longest + 1)], longest)
    walls = _places("wall", axis.wall, [n * BETWEEN_POINTS for n in range(1, longest + 1)], longest)
    batches = []
    for index in range(longest):
        found = [(tag, values[index]) for tag, values in series.items() if index < len(values)]
        batch = [(tag, int(steps[index]), walls[index], value) for tag, value in found if value is not None]
        if batch:
            batches.append(batch)
    return batches


def _expand(name: str, text: str) -> Values:
    try:
        return expand(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _places(name: str, text: str | None, usual: list[float], needed: int) -> list[float]:
    if text is None:
        return usual
    found = _expand(name, text)
    known = [place for place in found if place is not None and math.isfinite(place)]
    if len(known) < len(found):
        raise ValueError(f"{name}: every place must be a number")
    if len(known) < needed:
        raise ValueError(f"{name}: {len(known)} places for {needed} points")
    return known
