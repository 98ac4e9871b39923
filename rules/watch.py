"""The rules and alerts of one run: samples in, observations out.

An evaluator says what each rule says now; this file carries the alerts through their lives by it. Between samples the
rules about silence are asked at multiples of five seconds of wall time, live and in a replay alike, so that both see the
same moments; never past the last sample of a replay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from rules.alert import Alert, AlertState, Timing, Transition, advance, rewound
from rules.evaluate import Evaluator, Program
from rules.schema import LadderSpec, RuleSpec, Span
from rules.series import Sample
from rules.template import render
from rules.verdict import Condition, Mark, Verdict

BadgeText: TypeAlias = Literal["", "warming", "nodata"]

TIMER = 5.0
"""Seconds of wall time between two moments at which silence is judged."""

_RESTING = (AlertState.INACTIVE, AlertState.RESOLVED)
_ACTIVE = (AlertState.FIRING, AlertState.RECOVERING, AlertState.PROBATION)


@dataclass(frozen=True, slots=True)
class Observation:
    """One evaluation of an alert that is not at rest.

    Attributes:
        key: the alert. rule: what it is an instance of. alert: how it now stands.
        transition: its change of state, if it made one.
        verdict: what the rule said.
    """

    key: str
    rule: RuleSpec
    alert: Alert
    transition: Transition | None
    verdict: Verdict


class RunWatch:
    """The alerts of one run. Pure but for its own memory: time comes with the samples."""

    def __init__(
        self, program: Program, ladders: Mapping[str, LadderSpec], alerts: Iterable[Alert] = ()
    ) -> None:
        """Begin to watch.

        Args:
            program: the rules, compiled.
            ladders: by name; what recovery is, and how long it may take, is theirs to say.
            alerts: where an earlier process left them.
        """
        self._program = program
        self._ladders = ladders
        self._rules = {compiled.spec.name: compiled.spec for compiled in program.rules}
        self._evaluator: Evaluator = program.evaluator()
        self.alerts: dict[str, Alert] = {alert.key: alert for alert in alerts if self.knows(alert.key)}
        self._timings: dict[str, Timing] = {}
        self._next_timer: float | None = None
        self._grace_from: Mark | None = None
        self._blind: set[str] = set()
        self._warming: set[str] = set()
        self._follow_all()

    @property
    def run_step(self) -> int:
        """The greatest step that any series has logged in this attempt."""
        return self._evaluator.run_step

    def run_step_at(self, wall_time: float) -> int:
        """Return the greatest run step logged at or before a wall time, 0 if none."""
        return self._evaluator.run_step_at(wall_time)

    def wall_at(self, run_step: int) -> float | None:
        """Return the last wall time at which the run had not yet passed `run_step`."""
        return self._evaluator.wall_at(run_step)

    def rule(self, key: str) -> RuleSpec:
        """Return the rule an alert is an instance of."""
        return self._rules[key.partition("[")[0]]

    def knows(self, key: str) -> bool:
        """Whether the rule of an alert is still among the rules; a configuration may have changed since."""
        return key.partition("[")[0] in self._rules

    def resolution(self) -> dict[str, str | None]:
        """Return what each metric resolved to in this run; None where nothing it may be has been logged."""
        return self._evaluator.resolution()

    def message(self, key: str) -> str:
        """Return the rule's own sentence about this alert, with its numbers filled in."""
        rule, alert = self.rule(key), self.alerts.get(key, Alert(key))
        at = alert.last
        values: dict[str, object] = {
            **(self._evaluator.captures(key) if key in self._evaluator.keys() else {}),
            **(self._evaluator.names(key) if key in self._evaluator.keys() else {}),
            "rule": rule.name,
            "step": at.step if at else None,
            "run_step": at.run_step if at else None,
            "onset": alert.onset.step if alert.onset else None,
            "value": alert.value,
            "limit": alert.limit,
        }
        return render(rule.summary or "{rule}: {value:.6g} (limit {limit:.6g})", values)

    def marks(self) -> dict[str, BadgeText]:
        """Return what keeps a rule from being judged: `warming` by its own wish, or `nodata`."""
        return {**dict.fromkeys(sorted(self._blind), "nodata"), **dict.fromkeys(sorted(self._warming), "warming")}

    def warm(self, samples: Sequence[Sample], source: int = 0) -> None:
        """Fill the windows from samples that were judged before."""
        self._evaluator.feed(samples, source, judge=False)
        if samples:
            self._next_timer = _next_multiple(samples[-1][2])

    def observe(self, samples: Sequence[Sample], source: int = 0) -> list[Observation]:
        """Judge new samples of one file, in its order."""
        timer = self._next_timer
        if not self._evaluator.has_timers or (timer is not None and samples and samples[-1][2] < timer):
            return self._advance(self._evaluator.feed(samples, source))
        observations: list[Observation] = []
        begin = 0
        for index, sample in enumerate(samples):
            wall = sample[2]
            if self._next_timer is None:
                self._next_timer = _next_multiple(wall)
            elif wall >= self._next_timer:
                observations += self._advance(self._evaluator.feed(samples[begin:index], source))
                begin = index
                observations += self.advance_to(wall)
        return observations + self._advance(self._evaluator.feed(samples[begin:], source))

    def advance_to(self, now: float) -> list[Observation]:
        """Judge silence at every multiple of five seconds up to `now` (wall time, seconds)."""
        observations: list[Observation] = []
        if not self._evaluator.has_timers or self._next_timer is None:
            return observations
        while self._next_timer <= now:
            observations += self._advance(self._evaluator.timer(self._next_timer))
            self._next_timer += TIMER
        return observations

    def flush(self) -> list[Observation]:
        """Judge what waits for its tick to close: no further point belongs to it."""
        return self._advance(self._evaluator.flush())

    def rewind(
        self, to_step: int, at_wall: float, history: Iterable[tuple[int, Sequence[Sample]]]
    ) -> list[Observation]:
        """Begin a new attempt.

        Args:
            to_step: run step it goes on from.
            at_wall: when it began, seconds since the epoch.
            history: (source, samples) that stay valid, oldest first; the windows are filled from them.
        """
        self._evaluator = self._program.evaluator()
        for source, samples in history:
            self._evaluator.feed(samples, source, judge=False)
        self._evaluator.flush(judge=False)
        mark = Mark(to_step, at_wall, 0, to_step)
        self._grace_from = mark
        observations = []
        for key, before in list(self.alerts.items()):
            after, moved = rewound(before, mark)
            self.alerts[key] = after
            self._follow(key, after)
            if moved is not None:
                verdict = Verdict(Condition.UNKNOWN, None, None, after.value, after.limit, mark)
                observations.append(Observation(key, self.rule(key), after, moved, verdict))
        return observations

    def _advance(self, verdicts: Iterable[tuple[str, Verdict]]) -> list[Observation]:
        observations = []
        for key, found in verdicts:
            rule = self.rule(key)
            verdict = self._muted(rule, found)
            self._note_blindness(key, verdict)
            before = self.alerts.get(key)
            if before is None:
                if verdict.condition is not Condition.BREACH:
                    continue
                before = Alert(key)
            after, moved = advance(before, verdict, self._timing(rule))
            if after is before and moved is None:
                continue
            self.alerts[key] = after
            if after.state is not before.state:
                self._follow(key, after)
            if moved is not None or after.state in _ACTIVE:
                observations.append(Observation(key, rule, after, moved, verdict))
        return observations

    def _muted(self, rule: RuleSpec, verdict: Verdict) -> Verdict:
        """A rule that is warming up, or in its grace after a rollback, has no opinion yet."""
        at = verdict.at
        warming = at.step < rule.after_step or at.points < rule.after_points
        graced = (
            self._grace_from is not None
            and rule.grace is not None
            and rule.severity != "fatal"
            and _within(rule.grace, self._grace_from, at)
        )
        if not warming and not graced:
            self._warming.discard(rule.name)
            return verdict
        self._warming.add(rule.name)
        return replace(verdict, condition=Condition.UNKNOWN, cleared=None)

    def _note_blindness(self, key: str, verdict: Verdict) -> None:
        if verdict.condition is Condition.UNKNOWN:
            self._blind.add(key)
        else:
            self._blind.discard(key)

    def _follow(self, key: str, alert: Alert) -> None:
        """Have the evaluator report this alert at every evaluation while it is not at rest."""
        watching, probation = self._evaluator.watching, self._evaluator.probation
        (watching.discard if alert.state in _RESTING else watching.add)(key)
        tried = alert.state is AlertState.PROBATION or alert.probation_since is not None
        (probation.add if tried and alert.state not in _RESTING else probation.discard)(key)

    def _follow_all(self) -> None:
        for key, alert in self.alerts.items():
            self._follow(key, alert)

    def _timing(self, rule: RuleSpec) -> Timing:
        timing = self._timings.get(rule.name)
        if timing is None:
            within = self._ladders[rule.ladder or "notify"].within
            timing = self._timings[rule.name] = Timing(
                hold=(rule.for_.amount, rule.for_.unit),
                keep=(rule.keep_firing_for.amount, rule.keep_firing_for.unit),
                within=(within.amount, within.unit) if within is not None else None,
            )
        return timing


def _within(span: Span, since: Mark, at: Mark) -> bool:
    match span.unit:
        case "steps":
            return at.run_step - since.run_step < span.amount
        case "points":
            return at.points - since.points < span.amount
        case _:
            return at.wall_time - since.wall_time < span.amount


def _next_multiple(wall: float) -> float:
    return (math.floor(wall / TIMER) + 1) * TIMER
