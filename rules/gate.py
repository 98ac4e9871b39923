"""Gates: whether a run, as a whole, has shown what it was started to show. pass, fail or inconclusive.

A gate's requirements are conditions of the rule language and are judged by the same evaluator, from the same
points in the same order, once the run has come to the gate's `at`: so the verdict does not depend on whether
it is asked live or of a recording. What is unknown never passes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from rules.alert import Transition
from rules.compile import compile_all
from rules.evaluate import Evaluator, Program
from rules.findings import Finding, find, numbers
from rules.gate_checks import with_needs
from rules.merge import RuleSet
from rules.schema import GateSpec, RequirementSpec, RuleSpec, Severity
from rules.series import Sample
from rules.source import Problem, RuleErrors
from rules.store import PROBES
from rules.verdict import Condition, Mark, Verdict

GateVerdict: TypeAlias = Literal["pass", "fail", "inconclusive"]
Ending: TypeAlias = Literal["unknown", "running", "finished", "terminated", "died"]
"""What is known of a run's end besides its points: its trainer still runs, finished, was told to end, or
died."""

WORST_FIRST: tuple[GateVerdict, ...] = ("fail", "inconclusive", "pass")


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate, compiled. `requirements`: (key in the program, what was written)."""

    spec: GateSpec
    requirements: tuple[tuple[str, RequirementSpec], ...]

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name


@dataclass(frozen=True, slots=True)
class GateBook:
    """All gates, and the program that judges their requirements."""

    gates: Mapping[str, Gate]
    program: Program


@dataclass(frozen=True, slots=True)
class Fired:
    """A forbidden rule that fired: the alert's key, its severity, where, and the numbers that decided it."""

    key: str
    severity: Severity
    at: Mark
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a gate stands, or stood when it was judged.

    Attributes:
        gate: its specification. verdict: unknown is never pass. reason: why, in one sentence.
        certain: whether no further point could change it.
        reached: whether the run came to the gate's `at`. at: where the run stood as it was judged.
        findings: one a requirement, in order. forbidden: what fired that must not.
        needs: how the gates stand that it needs.
    """

    gate: GateSpec
    verdict: GateVerdict
    reason: str
    certain: bool
    reached: bool
    at: Mark
    findings: tuple[Finding, ...]
    forbidden: tuple[Fired, ...]
    needs: Mapping[str, GateVerdict]


def compile_gates(rules: RuleSet, names: Collection[str] | None = None) -> GateBook:
    """Parse and check the requirements of gates; of all, or of the named ones and what they need.

    Raises:
        RuleErrors: with all problems of all of them, each with its file, line and column.
    """
    chosen = list(rules.gates) if names is None else with_needs(rules.gates, names)
    gates: dict[str, Gate] = {}
    conditions: list[RuleSpec] = []
    origins = dict(rules.origins)
    spoken: dict[str, str] = {}
    for name in chosen:
        spec, pack = rules.gates[name], rules.gate_packs.get(name, "")
        keys = []
        for index, requirement in enumerate(spec.require):
            key = f"{pack}/{name}.{index}" if pack else f"{name}.{index}"
            conditions.append(RuleSpec(name=key, expr=requirement.expr, let=spec.let, severity="info"))
            keys.append((key, requirement))
            part = f"require.{index}"
            inner = (f"gates.{name}", f"{part}.expr")
            origins[key, "expr"] = origins.get(inner) or rules.where(f"gates.{name}", part)
            spoken[f"{key}.expr"] = f"gate {name}.{part}"
            for let in spec.let:
                origins[key, f"let.{let}"] = rules.where(f"gates.{name}", f"let.{let}")
                spoken[f"{key}.let.{let}"] = f"gate {name}.let.{let}"
        gates[name] = Gate(spec, tuple(keys))
    try:
        compiled = compile_all(replace(rules, rules=tuple(conditions), origins=origins))
    except RuleErrors as error:
        raise RuleErrors(list(dict.fromkeys(_said_of_gate(p, spoken) for p in error.problems))) from error
    return GateBook(gates, Program(compiled))


def _said_of_gate(problem: Problem, spoken: Mapping[str, str]) -> Problem:
    part, colon, rest = problem.what.partition(":")
    return replace(problem, what=spoken[part] + colon + rest) if part in spoken else problem


@dataclass(slots=True)
class _Progress:
    """How far the judging of one gate has come."""

    early: dict[str, Verdict]
    forbidden: list[Fired]
    judged: Mark | None = None
    findings: tuple[Finding, ...] = ()


class GateWatch:
    """The gates of one run: samples in, outcomes out. Pure but for its own memory.

    Attributes:
        names: the gates watched, each after those that it needs.
    """

    def __init__(self, book: GateBook, names: Collection[str] | None = None) -> None:
        self._book = book
        wanted = list(book.gates) if names is None else names
        self.names = with_needs({name: gate.spec for name, gate in book.gates.items()}, wanted)
        self._gates = [book.gates[name] for name in self.names]
        self._progress = {name: _Progress({}, []) for name in self.names}
        self._owners = {key: (g.name, r) for g in self._gates for key, r in g.requirements}
        self._evaluator = self._fresh()
        self._said: dict[str, Verdict] = {}
        self._first_wall = math.nan
        self._last_wall = -math.inf

    def _fresh(self) -> Evaluator:
        evaluator = self._book.program.evaluator()
        evaluator.watching.update(self._owners)  # every answer counts, not only the breaches
        return evaluator

    # -- what happens to the run --

    def feed(self, samples: Sequence[Sample], source: int = 0) -> None:
        """Take points in, in order of arrival; a gate is judged just before the first point beyond its
        `at`.
        """
        begin = 0
        waiting = self._waiting()
        for index, (tag, step, wall, _) in enumerate(samples) if waiting else ():
            if math.isnan(self._first_wall):
                self._first_wall = wall
            if tag.startswith(PROBES):
                continue
            due = [gate for gate in waiting if self._is_beyond(gate, step, wall)]
            if due:
                self._take(samples[begin:index], source)
                begin = index
                self._judge(due)
                waiting = self._waiting()
        self._take(samples[begin:] if begin else samples, source)

    def fired(self, rule: RuleSpec, moved: Transition) -> None:
        """Note that a rule has begun to fire; `feed` has had the point at which it did, or will not."""
        at = moved.at
        for gate in self._gates:
            progress = self._progress[gate.name]
            in_time = progress.judged is None or at.wall_time <= progress.judged.wall_time
            if in_time and (rule.severity in gate.spec.forbid or rule.name in gate.spec.forbid):
                progress.forbidden.append(Fired(moved.key, rule.severity, at, moved.value, moved.limit))

    def rewind(self, history: Iterable[tuple[int, Sequence[Sample]]]) -> None:
        """Begin a new attempt: windows hold `history`, oldest first. What has failed has failed."""
        self._evaluator = self._fresh()
        self._said.clear()
        for source, samples in history:
            self._evaluator.feed(samples, source, judge=False)
        self._evaluator.flush(judge=False)

    def flush(self) -> None:
        """Close open ticks, since two seconds have gone by without a point; the run may go on."""
        self._note(self._evaluator.flush())

    def end(self, ended_step: int | None = None) -> None:
        """Close open ticks: no further point belongs to them. A gate is judged whose `at` the run has just
        come to.

        Args:
            ended_step: the step at which the trainer says that it finished; it need not have logged there.
        """
        self.flush()
        step = max(self._evaluator.run_step, ended_step or 0)
        self._judge([gate for gate in self._waiting() if self._has_come_to(gate, step)])

    def _waiting(self) -> list[Gate]:
        return [gate for gate in self._gates if self._progress[gate.name].judged is None]

    def _is_beyond(self, gate: Gate, step: int, wall: float) -> bool:
        at = gate.spec.at
        return (step if at.unit == "steps" else wall - self._first_wall) > at.amount

    def _has_come_to(self, gate: Gate, step: int) -> bool:
        at = gate.spec.at
        return (step if at.unit == "steps" else self._last_wall - self._first_wall) >= at.amount

    def _take(self, samples: Sequence[Sample], source: int) -> None:
        if samples:
            self._note(self._evaluator.feed(samples, source))
            self._last_wall = samples[-1][2]

    def _note(self, verdicts: Iterable[tuple[str, Verdict]]) -> None:
        for key, verdict in verdicts:
            self._said[key] = verdict
            name, requirement = self._owners[key]
            progress = self._progress[name]
            is_false = verdict.condition is Condition.OK  # a rule that is not breached: its expr is False
            if is_false and requirement.early_fail and progress.judged is None:
                progress.early.setdefault(key, verdict)

    def _judge(self, gates: Sequence[Gate]) -> None:
        if gates:
            self.flush()
        for gate in gates:
            progress = self._progress[gate.name]
            progress.findings = self._findings(gate)
            progress.judged = self._here()

    def _here(self) -> Mark:
        return Mark(self._evaluator.run_step, self._last_wall, 0, self._evaluator.run_step)

    def _findings(self, gate: Gate) -> tuple[Finding, ...]:
        early = self._progress[gate.name].early
        return tuple(
            find(self._evaluator, key, requirement, self._said.get(key), early.get(key), self._last_wall)
            for key, requirement in gate.requirements
        )

    # -- how the gates stand --

    def settled(self) -> dict[str, GateVerdict]:
        """Return the gates whose verdict no further point could change. Cheap: to be asked at every look."""
        found: dict[str, GateVerdict] = {}
        for gate in self._gates:
            progress = self._progress[gate.name]
            needs = [found.get(name) for name in gate.spec.needs]
            if progress.forbidden or progress.early or "fail" in needs:
                found[gate.name] = "fail"
            elif progress.judged is not None and None not in needs:
                shown = all(finding.answer for finding in progress.findings) and "inconclusive" not in needs
                failed = any(finding.fails for finding in progress.findings)
                found[gate.name] = "fail" if failed else "pass" if shown else "inconclusive"
        return found

    def outcomes(self, ending: Ending = "unknown") -> list[Outcome]:
        """Return how every gate stands, each after those that it needs.

        Args:
            ending: what is known of the run's end; a run that died before a gate's `at` has failed it.
        """
        settled = self.settled()
        found: dict[str, Outcome] = {}
        for gate in self._gates:
            needs = {name: found[name].verdict for name in gate.spec.needs}
            found[gate.name] = self._outcome(gate, settled.get(gate.name), ending, needs)
        return list(found.values())

    def _outcome(
        self, gate: Gate, settled: GateVerdict | None, ending: Ending, needs: Mapping[str, GateVerdict]
    ) -> Outcome:
        progress = self._progress[gate.name]
        reached = progress.judged is not None
        findings = progress.findings if reached else self._findings(gate)
        at = progress.judged or self._here()
        died = ending == "died" and not reached
        verdict = settled or ("fail" if died or "fail" in needs.values() else "inconclusive")
        facts = Outcome(
            gate.spec, verdict, "", settled is not None or died, reached, at, findings,
            tuple(progress.forbidden), needs,
        )  # fmt: skip
        return replace(facts, reason=reason(facts, ending))


def reason(outcome: Outcome, ending: Ending) -> str:
    """Say in one sentence why a gate has the verdict it has; what decided it comes first."""
    gate, at = outcome.gate, outcome.at
    place = f"step {at.run_step}"
    if outcome.forbidden:
        first = outcome.forbidden[0]
        said = "" if first.value is None else f": {numbers(first.value, first.limit)}"
        return f"{first.key} ({first.severity}) fired at step {first.at.run_step}{said}"
    false = [f for f in outcome.findings if f.fails and (outcome.reached or f.step is not None)]
    if false:
        return f"{_count(false, outcome)} False: {_first(false)}"
    failed = [name for name, verdict in outcome.needs.items() if verdict == "fail"]
    if failed:
        return f"it needs {', '.join(failed)}, which failed"
    if not outcome.reached:
        if ending == "died":
            return f"the trainer died at {place}, before {gate.at}"
        how = {
            "running": "the run goes on",
            "finished": "the run finished there",
            "terminated": "the run was told to end there",
        }
        return f"the run is at {place} and is judged at {gate.at}; " + how.get(
            ending, "its files end there, and whether it crashed, was stopped or goes on is not known"
        )
    open_ = [finding for finding in outcome.findings if not finding.answer]
    if open_:
        return f"{_count(open_, outcome)} not shown: {_first(open_)}"
    if outcome.verdict != "pass":
        waits = [name for name, verdict in outcome.needs.items() if verdict != "pass"]
        return f"it needs {', '.join(waits)}, which did not pass"
    held = f"all {len(outcome.findings)} requirements hold" if outcome.findings else "nothing is required"
    return f"{held} at {place}, and nothing forbidden has fired" if gate.forbid else f"{held} at {place}"


def _count(some: Sequence[Finding], outcome: Outcome) -> str:
    return f"{len(some)} of {len(outcome.findings)} requirements {'is' if len(some) == 1 else 'are'}"


def _first(findings: Sequence[Finding]) -> str:
    """Tell the first; the others stand in the table below."""
    more = "" if len(findings) == 1 else f"; and {len(findings) - 1} more"
    return f"{findings[0].text} ({findings[0].reason}){more}"


def worst(verdicts: Iterable[GateVerdict]) -> GateVerdict:
    """Return the verdict of several gates together: fail beats inconclusive beats pass."""
    return min(verdicts, key=WORST_FIRST.index)
