"""What a backtest adds up to: per rule, per run, per rung of a ladder, and in all. Pure.

Three things are kept apart that look alike: a rule that was quiet, a rule that never had an answer, and a run
that could not be read. And what the record holds behind an action is no saving by itself: had the action been
taken, the run would have gone on otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal, TypeAlias, get_args

from rules.alert import AlertState
from rules.schema import RuleSpec, Severity
from rules.verdict import Mark
from sentinel.config import Settings
from sentinel.judge import GRAVE, Step
from sentinel.replay import Outcome

SEVERITIES: tuple[str, ...] = get_args(Severity)

Standing: TypeAlias = Literal["fired", "quiet", "unjudged", "error"]
"""How a run came out: `unjudged` where no rule ever had an answer, `error` where nothing could be read."""

DEEDS = ("checkpoint", "rollback", "terminate")

_OVER = (AlertState.RESOLVED, AlertState.INACTIVE)


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alert that fired: once for each episode, however often it flickered.

    Attributes:
        run: where. key: the alert. rule: what it is an instance of.
        at: where it first fired. onset: where the episode's first breach was.
        attempt: of the run.
    """

    run: str
    key: str
    rule: RuleSpec
    at: Mark
    onset: Mark | None
    attempt: int


@dataclass(frozen=True, slots=True)
class Deed:
    """An action that a ladder would have taken, or that was due and withheld."""

    run: str
    key: str
    ladder: str
    rung: int
    verb: str
    at: Mark
    withheld: str
    target_step: int | None


@dataclass(frozen=True, slots=True)
class Behind:
    """What the record holds behind the first rollback or end that a ladder would have asked for.

    Attributes:
        verb, key, at: what, by which alert, where.
        steps: run steps recorded after it, over all later attempts. seconds: of wall time.
        lasted: the alert was not over when the record ended, so the run did not get well by itself.
    """

    verb: str
    key: str
    at: Mark
    steps: int
    seconds: float
    lasted: bool


@dataclass(frozen=True, slots=True)
class RunTally:
    """How one run came out.

    Attributes:
        outcome: what was found. standing: in a word. alarms: in the order in which they fired.
        rules: how many were in force. judged: how many of them had an answer.
        behind: see Behind; None where no ladder would have gone back or ended it.
    """

    outcome: Outcome
    standing: Standing
    alarms: tuple[Alarm, ...]
    rules: int
    judged: int
    behind: Behind | None

    @property
    def worst(self) -> Alarm | None:
        """The first alarm of the greatest severity."""
        rank = SEVERITIES.index
        return max(self.alarms, key=lambda alarm: rank(alarm.rule.severity), default=None)


@dataclass(slots=True)
class RuleTally:
    """How one rule came out over all runs.

    Attributes:
        rule: it.
        judged: runs in which it had an answer. points: of these runs.
        touched: runs in which it fired. alarms: how often, over all.
        first: its first alarm in each run that it touched.
        deeds: by verb, how many runs it would have been done in. withheld: the same of what was withheld.
        reasons: why it had no answer, and in how many runs.
    """

    rule: RuleSpec
    judged: int = 0
    points: int = 0
    touched: int = 0
    alarms: int = 0
    first: list[Alarm] = field(default_factory=list)
    deeds: Counter[str] = field(default_factory=Counter)
    withheld: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def per_million(self) -> float | None:
        """Alarms per 1e6 points of the runs in which it had an answer; None where there is none."""
        return 1e6 * self.alarms / self.points if self.points else None

    @property
    def median_step(self) -> float | None:
        """The median run step of the first alarms."""
        return median(alarm.at.run_step for alarm in self.first) if self.first else None

    @property
    def earliest(self) -> Alarm | None:
        """The first alarm of the smallest run step."""
        return min(self.first, key=lambda alarm: alarm.at.run_step, default=None)


@dataclass(slots=True)
class RungTally:
    """What one verb of one rung of a ladder came to.

    Attributes:
        ladder, rung, verb: which; rungs count from 0. rules: how many climb this ladder.
        runs: in how many runs it would have been done. times: how often in all.
        first: the run step of the first time in each run.
        targets: how many of the rollbacks had a checkpoint to go back to.
        withheld: why it was due and not done, and in how many runs.
    """

    ladder: str
    rung: int
    verb: str
    rules: int = 0
    runs: int = 0
    times: int = 0
    first: list[int] = field(default_factory=list)
    targets: int = 0
    withheld: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Tally:
    """A whole backtest."""

    runs: tuple[RunTally, ...]
    rules: tuple[RuleTally, ...]
    rungs: tuple[RungTally, ...]

    @property
    def grave(self) -> bool:
        """Whether a critical or fatal rule fired anywhere."""
        return any(alarm.rule.severity in GRAVE for run in self.runs for alarm in run.alarms)

    @property
    def exit_code(self) -> int:
        """1 if a critical or fatal rule fired, else 3 if a run could not be read, else 0."""
        return 1 if self.grave else 3 if any(run.standing == "error" for run in self.runs) else 0


def tally(outcomes: Sequence[Outcome], settings: Settings) -> Tally:
    """Add up what one set of rules said of the runs."""
    runs = tuple(_run(outcome, settings) for outcome in outcomes)
    return Tally(runs, tuple(_rules(runs, settings)), tuple(_rungs(runs, settings)))


def alarms(outcome: Outcome) -> Iterator[Alarm]:
    """Yield every alarm of a run, in the order in which they fired."""
    seen: set[tuple[str, int]] = set()
    for step in outcome.steps:
        found, moved = step.observation, step.observation.transition
        if moved is None or moved.after is not AlertState.FIRING:
            continue
        episode = (found.key, found.alert.number)
        if episode not in seen:
            seen.add(episode)
            yield Alarm(outcome.run, found.key, found.rule, moved.at, moved.onset, step.attempt)


def deeds(outcome: Outcome) -> Iterator[Deed]:
    """Yield what the ladders would have done with a run, without what is only told."""
    for step in outcome.steps:
        found = step.observation
        for action in step.actions:
            if action.verb != "notify" and not action.settles:
                yield Deed(
                    outcome.run,
                    found.key,
                    found.rule.ladder or "notify",
                    action.rung,
                    action.verb,
                    found.verdict.at,
                    action.reason if action.withheld else "",
                    action.to_step,
                )


def behind(outcome: Outcome) -> Behind | None:
    """Say what is recorded behind the first rollback or end that a ladder would have asked for."""
    for step in outcome.steps:
        for action in step.actions:
            if action.verb in ("rollback", "terminate") and not action.withheld:
                steps, seconds = outcome.behind(step)
                key, at = step.observation.key, step.observation.verdict.at
                return Behind(action.verb, key, at, steps, seconds, _lasts(outcome.steps, key))
    return None


def _lasts(steps: Sequence[Step], key: str) -> bool:
    """Say whether an alert that fired was still not over at the end of the record."""
    last = next(step for step in reversed(steps) if step.observation.key == key)
    return last.observation.alert.state not in _OVER


def _run(outcome: Outcome, settings: Settings) -> RunTally:
    fired = tuple(alarms(outcome))
    rules = len(settings.program.rules)
    judged = rules - len(outcome.unjudged)
    standing: Standing = "fired" if fired else "quiet" if judged else "unjudged"
    if outcome.error:
        standing, judged = "error", 0
    return RunTally(outcome, standing, fired, rules, judged, behind(outcome))


def _rules(runs: Sequence[RunTally], settings: Settings) -> Iterator[RuleTally]:
    found = {rule.spec.name: RuleTally(rule.spec) for rule in settings.program.rules}
    for run in runs:
        if run.standing == "error":
            continue
        for name, one in found.items():
            reason = run.outcome.unjudged.get(name)
            if reason is not None:
                one.reasons[reason] += 1
            else:
                one.judged += 1
                one.points += run.outcome.points
        first: dict[str, Alarm] = {}
        for alarm in run.alarms:
            found[alarm.rule.name].alarms += 1
            first.setdefault(alarm.rule.name, alarm)
        for name, alarm in first.items():
            found[name].touched += 1
            found[name].first.append(alarm)
        done = list(deeds(run.outcome))
        for name, verb, withheld in {(_rule(d.key), d.verb, bool(d.withheld)) for d in done}:
            (found[name].withheld if withheld else found[name].deeds)[verb] += 1
    yield from found.values()


def _rungs(runs: Sequence[RunTally], settings: Settings) -> Iterator[RungTally]:
    """Yield every rung of the ladders that a rule in force climbs."""
    climbed = Counter(rule.spec.ladder or "notify" for rule in settings.program.rules)
    found: dict[tuple[str, int, str], RungTally] = {}
    for name in sorted(climbed):
        for index, rung in enumerate(settings.book.ladders[name].rungs):
            for verb in rung.do:
                if verb != "notify":
                    found[name, index, verb] = RungTally(name, index, verb, climbed[name])
    for run in runs:
        _climb(deeds(run.outcome), found)
    yield from found.values()


def _climb(done: Iterator[Deed], found: Mapping[tuple[str, int, str], RungTally]) -> None:
    """Count one run."""
    seen: set[tuple[str, int, str, str]] = set()
    for deed in done:
        rung = found[deed.ladder, deed.rung, deed.verb]
        if not deed.withheld:
            rung.times += 1
            rung.targets += deed.target_step is not None
        once = (deed.ladder, deed.rung, deed.verb, deed.withheld)
        if once in seen:
            continue
        seen.add(once)
        if deed.withheld:
            rung.withheld[deed.withheld] += 1
        else:
            rung.runs += 1
            rung.first.append(deed.at.run_step)


def _rule(key: str) -> str:
    return key.partition("[")[0]
