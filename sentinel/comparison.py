"""What a change of rules changes on recorded runs: two tallies of the same runs, side by side. Pure.

A is before, B is after: "earlier" is earlier under B. A change is what a person or the trainer would have
noticed (an alarm, its place or severity, an action), or that a rule of both sets lost or gained its answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, TypeAlias

from sentinel.replay import Outcome
from sentinel.story import describe
from sentinel.tally import Alarm, Behind, RuleTally, RunTally, Tally, alarms

Kind: TypeAlias = Literal["only_a", "only_b", "earlier", "later", "same", "none"]
"""Which set an alert fires under; `none` where under neither."""

KINDS: tuple[Kind, ...] = ("only_a", "only_b", "earlier", "later", "same")


@dataclass(frozen=True, slots=True)
class Side:
    """One alert of one run under one set of rules.

    Attributes:
        alarms: all of them, in order.
        actions: (run step, the action in words), in order, without what was withheld.
        judged: the rule had an answer in this run. None: it is not in this set.
    """

    alarms: tuple[Alarm, ...]
    actions: tuple[tuple[int, str], ...]
    judged: bool | None

    @property
    def first(self) -> Alarm | None:
        """The first alarm."""
        return self.alarms[0] if self.alarms else None


@dataclass(frozen=True, slots=True)
class Difference:
    """One alert of one run under both sets, where they differ.

    Attributes:
        run, key: which. a, b: the sides.
    """

    run: str
    key: str
    a: Side
    b: Side

    @property
    def kind(self) -> Kind:
        """How the first alarms stand to each other."""
        a, b = self.a.first, self.b.first
        if a is None or b is None:
            return "none" if a is b else "only_b" if a is None else "only_a"
        if a.at.wall_time == b.at.wall_time and a.at.run_step == b.at.run_step:
            return "same"
        return "later" if (a.at.wall_time, a.at.run_step) < (b.at.wall_time, b.at.run_step) else "earlier"

    @property
    def by(self) -> tuple[int, float] | None:
        """How much later the first alarm is under B, in run steps and seconds; negative is earlier."""
        a, b = self.a.first, self.b.first
        if a is None or b is None:
            return None
        return b.at.run_step - a.at.run_step, b.at.wall_time - a.at.wall_time

    @property
    def severities(self) -> tuple[str, str] | None:
        """The two severities of the first alarms where they differ."""
        a, b = self.a.first, self.b.first
        if a is None or b is None or a.rule.severity == b.rule.severity:
            return None
        return a.rule.severity, b.rule.severity

    @property
    def sight(self) -> bool:
        """Whether a rule of both sets had an answer in this run under only one of them."""
        return None not in (self.a.judged, self.b.judged) and self.a.judged is not self.b.judged

    @property
    def matters(self) -> bool:
        """Whether anything is different at all."""
        places = [[(alarm.at.run_step, alarm.at.wall_time) for alarm in s.alarms] for s in (self.a, self.b)]
        return (
            places[0] != places[1]
            or self.severities is not None
            or self.a.actions != self.b.actions
            or self.sight
        )


@dataclass(frozen=True, slots=True)
class RuleComparison:
    """One rule over all runs; None on the side of a set that does not have it."""

    name: str
    a: RuleTally | None
    b: RuleTally | None
    differences: tuple[Difference, ...]

    def count(self, kind: Kind) -> int:
        """In how many runs its alerts stand so."""
        return len({found.run for found in self.differences if found.kind == kind})

    @property
    def actions(self) -> int:
        """In how many runs it would act otherwise."""
        return len({found.run for found in self.differences if found.a.actions != found.b.actions})

    @property
    def median_by(self) -> tuple[float, float] | None:
        """The median of how much later it fires under B, in run steps and seconds, where it moved."""
        moved = [found.by for found in self.differences if found.kind in ("earlier", "later") and found.by]
        if not moved:
            return None
        return median(steps for steps, _ in moved), median(seconds for _, seconds in moved)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sets of rules over the same runs.

    Attributes:
        a, b: the tallies. rules: those of either set, A's first.
        differences: by run, in the order of the runs.
    """

    a: Tally
    b: Tally
    rules: tuple[RuleComparison, ...]
    differences: tuple[Difference, ...]

    @property
    def exit_code(self) -> int:
        """1 if anything changes, else 3 if a run could not be read, else 0."""
        if self.differences:
            return 1
        return 3 if any(run.standing == "error" for run in self.a.runs) else 0

    @property
    def runs_changed(self) -> list[str]:
        """The runs that come out otherwise."""
        return list(dict.fromkeys(found.run for found in self.differences))

    def behind(self) -> Iterator[tuple[str, Behind | None, Behind | None]]:
        """Yield each run in which the first rollback or end is another: its name, and both."""
        for a, b in zip(self.a.runs, self.b.runs, strict=True):
            if _place(a.behind) != _place(b.behind):
                yield a.outcome.run, a.behind, b.behind


def compare(a: Tally, b: Tally) -> Comparison:
    """Hold two tallies of the same runs, in the same order, against each other."""
    names = list(dict.fromkeys(rule.rule.name for rule in (*a.rules, *b.rules)))
    known_a = {rule.rule.name: rule for rule in a.rules}
    known_b = {rule.rule.name: rule for rule in b.rules}
    differences: list[Difference] = []
    for run_a, run_b in zip(a.runs, b.runs, strict=True):
        if run_a.standing != "error":
            differences += _run(run_a, run_b, names, known_a.keys(), known_b.keys())
    rules = tuple(
        RuleComparison(
            name,
            known_a.get(name),
            known_b.get(name),
            tuple(found for found in differences if _rule(found.key) == name),
        )
        for name in names
    )
    return Comparison(a, b, rules, tuple(differences))


def _run(a: RunTally, b: RunTally, names: Sequence[str], in_a: Any, in_b: Any) -> Iterator[Difference]:
    sides_a, sides_b = _sides(a.outcome), _sides(b.outcome)
    fired = {*sides_a, *sides_b}
    silent = [name for name in names if name not in {_rule(key) for key in fired}]
    order = {name: index for index, name in enumerate(names)}
    for key in sorted((*fired, *silent), key=lambda key: (order[_rule(key)], key)):
        name = _rule(key)
        judged = [
            (name not in run.outcome.unjudged) if name in there else None
            for run, there in ((a, in_a), (b, in_b))
        ]
        found = Difference(
            a.outcome.run,
            key,
            Side(*sides_a.get(key, ((), ())), judged[0]),
            Side(*sides_b.get(key, ((), ())), judged[1]),
        )
        if found.matters:
            yield found


_Fired: TypeAlias = tuple[tuple[Alarm, ...], tuple[tuple[int, str], ...]]


def _sides(outcome: Outcome) -> dict[str, _Fired]:
    """Return the alarms and actions of a run by alert."""
    fired: dict[str, list[Alarm]] = {}
    done: dict[str, list[tuple[int, str]]] = {}
    for alarm in alarms(outcome):
        fired.setdefault(alarm.key, []).append(alarm)
    for step in outcome.steps:
        for action in step.actions:
            if action.verb != "notify" and not action.withheld:
                place = step.observation.verdict.at.run_step
                done.setdefault(step.observation.key, []).append((place, describe(action)))
    return {key: (tuple(fired.get(key, ())), tuple(done.get(key, ()))) for key in {*fired, *done}}


def _place(behind: Behind | None) -> tuple[str, int, float] | None:
    return None if behind is None else (behind.verb, behind.at.run_step, behind.at.wall_time)


def _rule(key: str) -> str:
    return key.partition("[")[0]


# -- for machines --------------------------------------------------------------


def comparison_as_json(found: Comparison) -> Iterator[dict[str, Any]]:
    """Yield one JSON-ready object per difference, per rule, and one in all; docs/backtests.md has them."""
    for difference in found.differences:
        steps, seconds = difference.by or (None, None)
        yield {
            "type": "difference",
            "run": difference.run,
            "rule": difference.key,
            "kind": difference.kind,
            "steps": steps,
            "seconds": seconds,
            "a": _side(difference.a),
            "b": _side(difference.b),
        }
    for rule in found.rules:
        by = rule.median_by
        yield {
            "type": "rule",
            "rule": rule.name,
            **{kind: rule.count(kind) for kind in KINDS if kind != "same"},
            "actions_changed": rule.actions,
            "median_steps": by[0] if by else None,
            "median_seconds": by[1] if by else None,
            "a": _rule_side(rule.a),
            "b": _rule_side(rule.b),
        }
    yield {
        "type": "total",
        "runs": len(found.a.runs),
        "runs_changed": len(found.runs_changed),
        "runs_unread": sum(run.standing == "error" for run in found.a.runs),
        "differences": len(found.differences),
    }


def _side(side: Side) -> dict[str, Any]:
    first = side.first
    return {
        "judged": side.judged,
        "alarms": len(side.alarms),
        "severity": first.rule.severity if first else None,
        "run_step": first.at.run_step if first else None,
        "wall_time": first.at.wall_time if first else None,
        "actions": [{"run_step": step, "what": what} for step, what in side.actions],
    }


def _rule_side(rule: RuleTally | None) -> dict[str, Any] | None:
    if rule is None:
        return None
    return {
        "severity": rule.rule.severity,
        "runs_judged": rule.judged,
        "runs_touched": rule.touched,
        "alarms": rule.alarms,
        "alarms_per_million_points": rule.per_million,
        "median_first_step": rule.median_step,
    }
