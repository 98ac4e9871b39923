"""The rules and alerts of one run: samples in, observations out.

An evaluator says what each rule says now; this file carries the alerts through their lives by it. Between
samples the rules about silence are asked at multiples of five seconds of wall time, live and in a replay
alike, so that both see the same moments; never past the last sample of a replay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from rules.alert import Alert, AlertState, Timing, Transition, advance, rewound
from rules.evaluate import RESOLVE_BY, TICK_GAP, Evaluator, Program
from rules.explain import Part
from rules.schema import LadderSpec, RuleSpec, Span
from rules.series import Sample
from rules.template import render
from rules.tree import Node
from rules.verdict import Condition, Mark, Verdict

BadgeText: TypeAlias = Literal["", "warming", "nodata", "error", "inapplicable"]

TIMER = 5.0
"""Seconds of wall time between two moments at which silence is judged."""

_HOUR, _DAY = 3600.0, 86400.0
_LONGEST_SILENCE = 30 * _DAY
"""Silence is judged no further than this past the last sample: a broken clock must not turn it into for
ever.
"""

_RESTING = (AlertState.INACTIVE, AlertState.RESOLVED)
_ACTIVE = (AlertState.FIRING, AlertState.RECOVERING, AlertState.PROBATION)

DEFAULT_SUMMARY = "{rule}: {value:.6g} (limit {limit:.6g}) at step {step}, since step {onset}"
"""What is said of a rule that has no `summary`."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One evaluation of an alert that is not at rest, or that is traced.

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


@dataclass(frozen=True, slots=True)
class Judged:
    """How far judging has come beyond the samples: what a watch warmed with the same samples cannot know.

    Attributes:
        due: the next moment at which silence is judged, seconds since the epoch; None before the first
            sample.
        open: the sources whose last tick is still open.
    """

    due: float | None = None
    open: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleFailure:
    """A rule's own evaluation failed; the other rules go on, and after three failures it is asked no more.

    Attributes:
        key: the rule's instance. what: the error in words.
    """

    key: str
    what: str


class RunWatch:
    """The alerts of one run. Pure but for its own memory: time comes with the samples.

    Attributes:
        alerts: by key; only those of rules that have breached at least once.
        attempt: how many times the run has been rewound.
    """

    def __init__(
        self,
        program: Program,
        ladders: Mapping[str, LadderSpec],
        alerts: Iterable[Alert] = (),
        *,
        attempt: int = 0,
        began: tuple[int, float] | None = None,
        traced: Collection[str] = (),
    ) -> None:
        """Begin to watch.

        Args:
            program: the rules, compiled.
            ladders: by name; what recovery is, and how long it may take, is theirs to say.
            alerts: where an earlier process left them.
            attempt: the run's present one. began: (run step, wall time) at which it did, if a rewind began
                it.
            traced: keys that are observed at every evaluation, also while they are at rest.
        """
        self._program = program
        self._ladders = ladders
        self._rules = {compiled.spec.name: compiled.spec for compiled in program.rules}
        self._traced = frozenset(traced)
        self._evaluator: Evaluator = program.evaluator()
        self._evaluator.watching |= self._traced
        self.alerts: dict[str, Alert] = {alert.key: alert for alert in alerts if self.knows(alert.key)}
        self.attempt = attempt
        self._began = None if began is None else Mark(began[0], began[1], 0, began[0])
        self._points_before: dict[str, int] = {}
        self._timings: dict[str, Timing] = {}
        self._due = -math.inf
        self._last_wall = -math.inf
        self._told: dict[str, str] = {}
        self._follow_all()

    # What it knows

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

    def explain(self, key: str, now: float) -> Part:
        """Take a rule's condition apart as of `now` (wall time, seconds since the epoch)."""
        return self._evaluator.explain(key, now)

    def subject(self, key: str) -> tuple[Node, Callable[[Node], Node]] | None:
        """Return a rule's condition as written, and what a name, a tag or `x` in it stands for in this run.

        None where there is no such instance (yet).
        """
        return self._evaluator.subject(key)

    def driver(self, key: str) -> str:
        """Name the tag on whose axis a rule's steps are; `step_any` where that is the run as a whole."""
        return self._evaluator.driver(key)

    @property
    def tags(self) -> Collection[str]:
        """Every tag that the run has logged."""
        return self._evaluator.tags

    def keys(self) -> list[str]:
        """Return every rule instance that exists in this run."""
        return self._evaluator.keys()

    def message(self, key: str, run: str = "") -> str:
        """Return the rule's own sentence about this alert, with its numbers as of the last point filled
        in.
        """
        rule, alert = self.rule(key), self.alerts.get(key, Alert(key))
        at = alert.last or alert.fired
        values: dict[str, object] = {}
        keys = self._evaluator.keys()
        if key in keys:
            values |= self._evaluator.captures(key)
            values |= self._evaluator.names(key)
        values |= {
            "key": key,
            "rule": rule.name,
            "run": run,
            "severity": rule.severity,
            "attempt": self.attempt,
            "step": at.step if at else None,
            "run_step": at.run_step if at else None,
            "wall": at.wall_time if at else None,
            "onset": alert.onset.step if alert.onset else None,
            "age": at.wall_time - alert.onset.wall_time if at and alert.onset else None,
            "value": alert.value,
            "limit": alert.limit,
        }
        return render(rule.summary or DEFAULT_SUMMARY, values)

    def marks(self, keys: Iterable[str] | None = None) -> dict[str, BadgeText]:
        """Return for each rule instance, or for some, what keeps it from being judged as of the last sample.

        `error`: its evaluation failed. `warming`: it waits, by its own wish. `nodata`: its answer is UNKNOWN,
        for want of a metric or because what there is has grown old. `inapplicable`: its `when` has not been
        True in the run's first RESOLVE_BY ticks; should it come to be, the rule is judged from then on.
        Empty: it is judged.
        """
        return {key: self._mark(key) for key in (self._evaluator.keys() if keys is None else keys)}

    def _mark(self, key: str) -> BadgeText:
        if key in self._evaluator.errors:
            return "error"
        if not self._evaluator.applies(key):
            return "inapplicable" if self._evaluator.ticks >= RESOLVE_BY else "warming"
        if self._waits(key, self.rule(key), self._evaluator.place(key, self._last_wall)):
            return "warming"
        try:
            answer = self._evaluator.condition(key)(self._last_wall)
        except (ArithmeticError, ValueError, LookupError, TypeError):
            return "error"
        return "nodata" if answer is None else ""

    def failures(self) -> list[RuleFailure]:
        """Return the rules whose evaluation has failed in a way not told before."""
        errors = self._evaluator.errors
        if not errors:
            return []
        fresh = [RuleFailure(key, what) for key, what in errors.items() if self._told.get(key) != what]
        self._told.update((failure.key, failure.what) for failure in fresh)
        return fresh

    # What happens to it

    def warm(self, samples: Sequence[Sample], source: int = 0) -> None:
        """Fill the windows from samples that were judged before."""
        self._evaluator.feed(samples, source, judge=False)
        if samples:
            self._last_wall = max(self._last_wall, samples[-1][2])
            self._due = _next_multiple(self._last_wall)

    @property
    def judged(self) -> Judged:
        """How far judging has come; to be kept with the alerts, and given to `resume`."""
        return Judged(None if math.isinf(self._due) else self._due, self._evaluator.open_sources)

    def resume(self, judged: Judged) -> None:
        """Go on, after `warm`, where another watch stopped: no tick and no silence is judged twice, none
        never.
        """
        self._evaluator.flush(judge=False, but=judged.open)
        if judged.due is not None:
            self._due = judged.due

    def warmed(self) -> None:
        """Note that the windows hold what the present attempt began with; what is warmed next is its own."""
        self._evaluator.flush(judge=False)
        if self._began is not None:
            wall = self._began.wall_time
            self._evaluator.alive(wall)
            keys = self._evaluator.keys()
            self._points_before = {key: self._evaluator.place(key, wall).points for key in keys}

    def observe(self, samples: Sequence[Sample], source: int = 0) -> list[Observation]:
        """Judge new samples of one file, in its order."""
        if not samples:
            return []
        observations: list[Observation] = []
        begin = 0
        if self._evaluator.has_timers:
            for index, sample in enumerate(samples):
                if sample[2] >= self._due:
                    observations += self._take(samples[begin:index], source)
                    observations += self.advance_to(sample[2])
                    self._due = _next_multiple(sample[2])
                    begin = index
        return observations + self._take(samples[begin:] if begin else samples, source)

    def advance_to(self, now: float) -> list[Observation]:
        """Judge silence at every multiple of five seconds up to `now` (wall time, seconds).

        After an hour without a sample once a minute is enough, and after a day once an hour.
        """
        observations: list[Observation] = []
        if not self._evaluator.has_timers or self._due == -math.inf:
            return observations
        while self._due <= now and self._due - self._last_wall <= _LONGEST_SILENCE:
            if self._due - self._last_wall > TICK_GAP:
                observations += self.flush()
            observations += self._advance(self._evaluator.timer(self._due))
            silence = self._due - self._last_wall
            self._due = _next_multiple(
                self._due, TIMER if silence < _HOUR else 60.0 if silence < _DAY else _HOUR
            )
        return observations

    def flush(self) -> list[Observation]:
        """Judge what waits for its tick to close: no further point belongs to it."""
        return self._advance(self._evaluator.flush())

    def rewind(
        self, to_step: int, at_wall: float, history: Iterable[tuple[int, Sequence[Sample]]]
    ) -> list[Observation]:
        """Begin a new attempt: what was pending is forgotten, what fired is on probation.

        Args:
            to_step: run step it goes on from.
            at_wall: when it began, seconds since the epoch.
            history: (source, samples) that stay valid, oldest first; the windows are filled from them.
        """
        self._evaluator = self._program.evaluator()
        self._evaluator.watching |= self._traced
        for source, samples in history:
            self._evaluator.feed(samples, source, judge=False)
        self._evaluator.flush(judge=False)
        self._evaluator.alive(at_wall)
        self._last_wall = max(self._last_wall, at_wall)
        self._due = max(self._due, _next_multiple(at_wall))
        self.attempt += 1
        self._began = Mark(to_step, at_wall, 0, to_step)
        keys = self._evaluator.keys()
        self._points_before = {k: self._evaluator.place(k, at_wall).points for k in keys}
        observations = []
        for key, before in sorted(self.alerts.items()):  # the same order after a restart
            mark = self._began._replace(points=self._points_before.get(key, 0))
            after, moved = rewound(before, mark)
            self.alerts[key] = after
            self._follow(key, after)
            if moved is not None:
                verdict = Verdict(Condition.UNKNOWN, None, None, after.value, after.limit, mark)
                observations.append(Observation(key, self.rule(key), after, moved, verdict))
        return observations

    def _take(self, samples: Sequence[Sample], source: int) -> list[Observation]:
        if not samples:
            return []
        verdicts = self._evaluator.feed(samples, source)
        self._last_wall = samples[-1][2]
        return self._advance(verdicts) if verdicts else []

    def _advance(self, verdicts: Iterable[tuple[str, Verdict]]) -> list[Observation]:
        observations: list[Observation] = []
        for key, found in verdicts:
            rule = self.rule(key)
            verdict = found
            if self._waits(key, rule, found.at):
                verdict = replace(found, condition=Condition.UNKNOWN, cleared=None)
            before = self.alerts.get(key)
            if before is None:
                if verdict.condition is not Condition.BREACH:
                    observations += self._at_rest(key, rule, Alert(key), verdict)  # it is no alert yet
                    continue
                before = Alert(key)
            after, moved = advance(before, verdict, self._timing(rule))
            if moved is None and after.state in _RESTING:
                observations += self._at_rest(key, rule, after, verdict)
                continue
            self.alerts[key] = after
            if after.state is not before.state:
                self._follow(key, after)
            if moved is not None or after.state in _ACTIVE or key in self._traced:
                observations.append(Observation(key, rule, after, moved, verdict))
        return observations

    def _at_rest(self, key: str, rule: RuleSpec, alert: Alert, verdict: Verdict) -> tuple[Observation, ...]:
        """Let a rule that is quiet go unreported from now on, unless it is traced."""
        if key in self._traced:
            return (Observation(key, rule, alert, None, verdict),)
        self._evaluator.watching.discard(key)
        return ()

    def _waits(self, key: str, rule: RuleSpec, at: Mark) -> bool:
        """Whether a rule has no opinion yet: it is warming up, or in its grace after a rollback."""
        if at.step < rule.after_step or at.points < rule.after_points:
            return True
        if rule.after_time is not None:
            age = at.wall_time - self._evaluator.first_wall
            if not age >= rule.after_time.amount:
                return True
        if self._began is None or rule.grace is None or rule.severity == "fatal":
            return False
        since = self._began
        if rule.grace.unit == "points":
            since = since._replace(points=self._points_before.get(key, 0))
        return _within(rule.grace, since, at)

    def _follow(self, key: str, alert: Alert) -> None:
        """Have the evaluator report this alert at every evaluation while it is not at rest."""
        watching, probation = self._evaluator.watching, self._evaluator.probation
        resting = alert.state in _RESTING and key not in self._traced
        (watching.discard if resting else watching.add)(key)
        tried = alert.probation_since is not None and alert.state not in _RESTING
        (probation.add if tried else probation.discard)(key)

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


def _next_multiple(wall: float, spacing: float = TIMER) -> float:
    """Return the next moment after a wall time at which silence is judged; none after one that is no time."""
    return (math.floor(wall / spacing) + 1) * spacing if math.isfinite(wall) else -math.inf
