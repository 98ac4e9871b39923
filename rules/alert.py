"""An alert's life: inactive, pending, firing, recovering, resolved; and probation after a rollback."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from rules.verdict import Condition, Mark, Verdict

Amount: TypeAlias = tuple[float, str]
"""(how many, of what): points, steps or seconds."""


class AlertState(enum.StrEnum):
    """Where an alert is in its life."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RECOVERING = "recovering"
    PROBATION = "probation"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Held:
    """How long something has held, in the three units that `for` may use. Unknown stretches are left out."""

    points: int = 0
    steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule instance in one run.

    Attributes:
        key: the rule's full name, with the capture of an `each` rule in brackets: `generic/nonfinite[train/loss]`.
        state: where the alert is in its life.
        number: how many times it has begun (become pending or firing) in this run; with run and key it names one incident.
        onset: the first breach of the present episode; what a rollback must precede.
        held: how long the breach has held, without unknown time.
        last: where it was last evaluated with a known answer.
        fired: where it began to fire.
        quiet_since: where it began to be clear, while recovering.
        probation_since: where the attempt after a rollback began, while on probation.
        value: the last deciding value. limit: what it was compared with.
    """

    key: str
    state: AlertState = AlertState.INACTIVE
    number: int = 0
    onset: Mark | None = None
    held: Held = field(default_factory=Held)
    last: Mark | None = None
    fired: Mark | None = None
    quiet_since: Mark | None = None
    probation_since: Mark | None = None
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state, with the reason in words."""

    key: str
    before: AlertState
    after: AlertState
    at: Mark
    onset: Mark | None
    value: float | None
    limit: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things must hold before an alert changes state; each span in points, steps or seconds of the rule's driver.

    Attributes:
        hold: the breach, before it fires. At most one point means: fires at the first breach.
        keep: the calm, before a firing alert resolves.
        within: run steps, points or seconds that probation may take; None where recovery is only the rule's own calm.
    """

    hold: Amount
    keep: Amount
    within: Amount | None = None


def advance(alert: Alert, verdict: Verdict, timing: Timing) -> tuple[Alert, Transition | None]:
    """Move an alert by one verdict. Pure; the only place where an alert changes state.

    UNKNOWN neither fires nor resolves, and its time does not count: losing sight of a sick run is not its recovery.
    """
    condition, cleared = verdict.condition, verdict.cleared is True
    if condition is Condition.UNKNOWN:
        # Time begins again at the next known answer, so that what was not seen is not counted.
        blind = replace(alert, last=None)
        if alert.state is AlertState.PROBATION:
            return _on_probation(alert, blind, alert.held, verdict, timing, cleared=False)
        return blind, None
    held = _held(alert, verdict.at)
    seen = replace(alert, last=verdict.at, value=verdict.value, limit=verdict.limit)
    match alert.state, condition:
        case AlertState.INACTIVE | AlertState.RESOLVED, Condition.BREACH:
            begun = replace(
                seen,
                number=alert.number + 1,
                onset=verdict.at,
                held=Held(points=1),
                fired=None,
                quiet_since=None,
                probation_since=None,
            )
            return _pend(alert, begun, verdict, timing)
        case AlertState.PENDING, Condition.BREACH:
            return _pend(alert, replace(seen, held=held), verdict, timing)
        case AlertState.PENDING, Condition.OK:
            calm = replace(seen, state=AlertState.INACTIVE, onset=None, held=Held())
            return calm, _moved(alert, calm, verdict, "the breach did not last")
        case AlertState.FIRING | AlertState.RECOVERING, _:
            return _while_firing(alert, seen, verdict, timing, cleared=cleared)
        case AlertState.PROBATION, _:
            return _on_probation(alert, seen, held, verdict, timing, cleared=cleared)
    return (seen if alert.last is not None else alert), None


def rewound(alert: Alert, at: Mark) -> tuple[Alert, Transition | None]:
    """Move an alert to a new attempt: what was pending is forgotten, what fired is on probation."""
    match alert.state:
        case AlertState.PENDING:
            calm = replace(alert, state=AlertState.INACTIVE, onset=None, held=Held(), last=None)
            return calm, Transition(
                alert.key, alert.state, calm.state, at, None, alert.value, alert.limit, "a new attempt began"
            )
        case AlertState.FIRING | AlertState.RECOVERING | AlertState.PROBATION:
            trial = replace(
                alert,
                state=AlertState.PROBATION,
                held=Held(),
                last=None,
                quiet_since=None,
                probation_since=at,
            )
            if alert.state is AlertState.PROBATION:
                return trial, None
            return trial, Transition(
                alert.key,
                alert.state,
                trial.state,
                at,
                alert.onset,
                alert.value,
                alert.limit,
                "a new attempt began",
            )
    return replace(alert, last=None), None


def _held(alert: Alert, at: Mark) -> Held:
    """Add what has passed since the last known answer."""
    if alert.last is None:
        return Held(alert.held.points + 1, alert.held.steps, alert.held.seconds)
    return Held(
        alert.held.points + max(0, at.points - alert.last.points),
        alert.held.steps + max(0, at.step - alert.last.step),
        alert.held.seconds + max(0.0, at.wall_time - alert.last.wall_time),
    )


def _long_enough(held: Held, hold: Amount) -> bool:
    amount, unit = hold
    return getattr(held, unit, 0) >= amount if unit in ("points", "steps", "seconds") else True


def _passed(since: Mark, at: Mark, span: Amount, *, run: bool) -> bool:
    amount, unit = span
    match unit:
        case "points":
            return at.points - since.points >= amount
        case "steps":
            return (at.run_step - since.run_step if run else at.step - since.step) >= amount
        case _:
            return at.wall_time - since.wall_time >= amount


def _pend(before: Alert, alert: Alert, verdict: Verdict, timing: Timing) -> tuple[Alert, Transition | None]:
    """A breach goes on: fire if it has lasted, else wait."""
    if _long_enough(alert.held, timing.hold):
        firing = replace(alert, state=AlertState.FIRING, fired=verdict.at)
        return firing, _moved(before, firing, verdict, _lasted(alert.held))
    pending = replace(alert, state=AlertState.PENDING)
    return pending, None if before.state is AlertState.PENDING else _moved(
        before, pending, verdict, "it began"
    )


def _while_firing(
    before: Alert, alert: Alert, verdict: Verdict, timing: Timing, *, cleared: bool
) -> tuple[Alert, Transition | None]:
    if alert.probation_since is not None and timing.within is not None:
        # It fell silent once without recovering: from then on only recovery itself ends it.
        if verdict.recovered is True:
            done = replace(alert, state=AlertState.RESOLVED)
            return done, _moved(before, done, verdict, "recovered")
        return alert, None
    if not cleared:
        if before.state is AlertState.RECOVERING and verdict.condition is Condition.BREACH:
            back = replace(alert, state=AlertState.FIRING, quiet_since=None)
            return back, _moved(before, back, verdict, "it began again")
        return alert, None
    since = alert.quiet_since or verdict.at
    if _passed(since, verdict.at, timing.keep, run=False):
        done = replace(alert, state=AlertState.RESOLVED, quiet_since=since)
        return done, _moved(before, done, verdict, "the rule has cleared")
    calm = replace(alert, state=AlertState.RECOVERING, quiet_since=since)
    return calm, None if before.state is AlertState.RECOVERING else _moved(
        before, calm, verdict, "it is calm"
    )


def _on_probation(
    before: Alert, alert: Alert, held: Held, verdict: Verdict, timing: Timing, *, cleared: bool
) -> tuple[Alert, Transition | None]:
    """After a rollback: recovered, sick again, or merely silent."""
    if verdict.recovered is True:
        done = replace(alert, state=AlertState.RESOLVED)
        return done, _moved(before, done, verdict, "recovered")
    if verdict.condition is Condition.BREACH:
        begins = before.held.points == 0
        again = replace(
            alert, held=Held(points=1) if begins else held, onset=verdict.at if begins else before.onset, quiet_since=None
        )
        if not _long_enough(again.held, timing.hold):
            return again, None
        firing = replace(again, state=AlertState.FIRING, fired=verdict.at, probation_since=None)
        return firing, _moved(before, firing, verdict, "it began again after the rollback")
    if verdict.condition is Condition.OK:
        alert = replace(alert, held=Held())
    if timing.within is not None:
        assert alert.probation_since is not None, "probation has a beginning"
        if not _passed(alert.probation_since, verdict.at, timing.within, run=True):
            return alert, None
        silent = replace(alert, state=AlertState.FIRING, fired=verdict.at)
        return silent, _moved(before, silent, verdict, "suppressed, not recovered")
    if not cleared:
        return replace(alert, quiet_since=None), None
    since = alert.quiet_since or verdict.at
    if _passed(since, verdict.at, timing.keep, run=False):
        done = replace(alert, state=AlertState.RESOLVED)
        return done, _moved(before, done, verdict, "the rule has cleared")
    return replace(alert, quiet_since=since), None


def _lasted(held: Held) -> str:
    if held.points <= 1:
        return "it breached"
    return f"it has breached for {held.points} points, {held.steps} steps, {held.seconds:.0f} s"


def _moved(before: Alert, after: Alert, verdict: Verdict, reason: str) -> Transition:
    return Transition(
        before.key,
        before.state,
        after.state,
        verdict.at,
        after.onset or before.onset,
        verdict.value,
        verdict.limit,
        reason,
    )
