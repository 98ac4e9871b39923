"""An alert's life: inactive, pending, firing, recovering, resolved; and probation after a rollback.

Three answers move it, and UNKNOWN is one that moves nothing: a dead trainer logs nothing, and its silence is
no recovery. An alert carries its onset, the first breach of the episode, because a rollback must go to before
the trouble began.
"""

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
        key: the rule's full name, with the capture of an `each` rule in brackets:
            `generic/nonfinite[train/loss]`.
        state: where the alert is in its life.
        number: how many times it has begun (become pending or firing) in this run; with run and key it names
            one incident.
        onset: the first breach of the present episode; what a rollback must precede.
        held: how long the present condition has held, without unknown time: the breach while pending or on
            probation, the calm while `quiet_since` is set.
        last: where it was last evaluated with a known answer.
        blind: whether the answer has been UNKNOWN since.
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
    blind: bool = False


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
    """How long things must last before an alert changes state; every span in points, steps or seconds.

    Attributes:
        hold: the breach, before it fires. At most one point means: at the first breach.
        keep: the calm, before a firing alert resolves. At most one point means: at the first clear answer.
        within: what probation may take, in run steps, points or seconds; None where recovery is only the
            rule's own calm.
    """

    hold: Amount = (0, "points")
    keep: Amount = (0, "points")
    within: Amount | None = None


Moved: TypeAlias = "tuple[Alert, Transition | None]"


def advance(alert: Alert, verdict: Verdict, timing: Timing) -> Moved:
    """Move an alert by one verdict. Pure; the only place, with `rewound`, where an alert changes state.

    UNKNOWN neither fires nor resolves, and its time does not count: losing sight of a sick run is not its
    recovery. Only probation, which is a promise to recover in time, runs out in the dark too.
    """
    if verdict.condition is Condition.UNKNOWN:
        blind = alert if alert.blind else replace(alert, blind=True)
        if alert.probation_since is None:
            return blind, None
        return _on_trial(alert, blind, verdict, timing)
    seen = replace(alert, last=verdict.at, blind=False, value=verdict.value, limit=verdict.limit)
    match alert.state:
        case AlertState.INACTIVE | AlertState.RESOLVED:
            return _at_rest(alert, seen, verdict, timing)
        case AlertState.PENDING:
            return _while_pending(alert, seen, verdict, timing)
        case AlertState.PROBATION:
            return _on_probation(alert, seen, verdict, timing)
        case AlertState.FIRING | AlertState.RECOVERING:
            if alert.probation_since is not None and timing.within is not None:
                return _on_trial(alert, seen, verdict, timing)
            return _while_firing(alert, seen, verdict, timing)


def rewound(alert: Alert, at: Mark) -> Moved:
    """Move an alert to a new attempt: what was pending is forgotten, what fired is on probation.

    Args:
        alert: as the last attempt left it.
        at: where the new attempt begins; its points are those of the alert's driver.
    """
    if alert.state in (AlertState.INACTIVE, AlertState.RESOLVED):
        return alert, None
    fresh = replace(alert, last=None, blind=False, held=Held(), quiet_since=None)
    if alert.state is AlertState.PENDING:
        after = replace(fresh, state=AlertState.INACTIVE, onset=None)
    else:
        after = replace(fresh, state=AlertState.PROBATION, probation_since=at)
    if after.state is alert.state:
        return after, None
    verdict = Verdict(Condition.UNKNOWN, None, None, alert.value, alert.limit, at)
    return after, _moved(alert, after, verdict, "a new attempt began")


def _at_rest(alert: Alert, seen: Alert, verdict: Verdict, timing: Timing) -> Moved:
    """A breach begins a new episode; calm is nothing new."""
    if verdict.condition is not Condition.BREACH:
        return alert, None
    begun = replace(
        seen,
        state=AlertState.PENDING,
        number=alert.number + 1,
        onset=verdict.at,
        held=Held(points=1),
        fired=None,
        quiet_since=None,
        probation_since=None,
    )
    if _lasts(begun.held, timing.hold):
        return _fire(alert, begun, verdict, _lasted(begun.held))
    return begun, _moved(alert, begun, verdict, "it began")


def _while_pending(alert: Alert, seen: Alert, verdict: Verdict, timing: Timing) -> Moved:
    if verdict.condition is Condition.OK:
        calm = replace(seen, state=AlertState.INACTIVE, onset=None, held=Held())
        return calm, _moved(alert, calm, verdict, "the breach did not last")
    longer = replace(seen, held=_more(alert, verdict.at))
    if _lasts(longer.held, timing.hold):
        return _fire(alert, longer, verdict, _lasted(longer.held))
    return longer, None


def _while_firing(alert: Alert, seen: Alert, verdict: Verdict, timing: Timing) -> Moved:
    """Calm resolves once it has lasted whole; neither calm nor breach (hysteresis) only interrupts it.

    A breach is no calm even where `clear` holds too: the two may look at different parts of the trouble.
    """
    breach = verdict.condition is Condition.BREACH
    if verdict.cleared is None and not breach:
        return replace(alert, blind=True, value=verdict.value, limit=verdict.limit), None
    if verdict.cleared is True and not breach:
        calm = _calmer(alert, seen, verdict.at)
        if _lasts(calm.held, timing.keep):
            done = replace(calm, state=AlertState.RESOLVED)
            return done, _moved(alert, done, verdict, "the rule has cleared")
        calm = replace(calm, state=AlertState.RECOVERING)
        moved = alert.state is not AlertState.RECOVERING
        return calm, _moved(alert, calm, verdict, "it is calm") if moved else None
    broken = replace(seen, held=Held(), quiet_since=None)
    if alert.state is AlertState.RECOVERING and breach:
        back = replace(broken, state=AlertState.FIRING)
        return back, _moved(alert, back, verdict, "it began again")
    return broken, None


def _on_probation(alert: Alert, seen: Alert, verdict: Verdict, timing: Timing) -> Moved:
    """After a rollback a rule may breach again, recover, or merely fall silent."""
    if verdict.condition is not Condition.BREACH:
        if timing.within is not None:
            return _on_trial(alert, replace(seen, held=Held(), quiet_since=None), verdict, timing)
        if verdict.cleared is None:
            return replace(alert, blind=True), None
        if verdict.cleared is False:
            return replace(seen, held=Held(), quiet_since=None), None
        calm = _calmer(alert, seen, verdict.at)
        if not _lasts(calm.held, timing.keep):
            return calm, None
        done = replace(calm, state=AlertState.RESOLVED, probation_since=None)
        return done, _moved(alert, done, verdict, "the rule has cleared")
    begins = alert.quiet_since is not None or alert.held.points == 0
    again = replace(
        seen,
        held=Held(points=1) if begins else _more(alert, verdict.at),
        onset=verdict.at if begins else alert.onset,
        quiet_since=None,
    )
    if not _lasts(again.held, timing.hold):
        return _on_trial(alert, again, verdict, timing)
    return _fire(alert, replace(again, probation_since=None), verdict, "it began again after the rollback")


def _on_trial(alert: Alert, after: Alert, verdict: Verdict, timing: Timing) -> Moved:
    """Where a ladder says what recovery is, nothing else ends the trouble; and it is given a limited time.

    Recovery counts from where the alert had fired before: short of that step even the sick run looked well.
    It also counts when the time is over, so that a rollback from far ahead is judged at all.
    """
    if timing.within is None or alert.probation_since is None:
        return after, None
    firing = alert.state is not AlertState.PROBATION
    over = firing or _passed(alert.probation_since, verdict.at, timing.within)
    known_ground = alert.fired is None or verdict.at.run_step >= alert.fired.run_step
    if verdict.recovered is True and verdict.condition is not Condition.BREACH and (over or known_ground):
        done = replace(after, state=AlertState.RESOLVED, probation_since=None)
        return done, _moved(alert, done, verdict, "recovered")
    if over and not firing:
        silent = replace(after, held=Held(), quiet_since=None)
        since = alert.probation_since  # kept: from here on only recovery ends it
        return _fire(alert, replace(silent, probation_since=since), verdict, "suppressed, not recovered")
    return after, None


def _more(alert: Alert, at: Mark) -> Held:
    """Add what has passed since the last answer; of a stretch that ended in the dark only the present point
    counts.
    """
    held, last = alert.held, alert.last
    if last is None:
        return Held(held.points + 1, held.steps, held.seconds)
    points = max(0, at.points - last.points)
    if alert.blind:
        return Held(held.points + min(1, points), held.steps, held.seconds)
    return Held(
        held.points + points,
        held.steps + max(0, at.step - last.step),
        held.seconds + max(0.0, at.wall_time - last.wall_time),
    )


def _calmer(alert: Alert, seen: Alert, at: Mark) -> Alert:
    """Count a clear answer: the first, or one more."""
    if alert.quiet_since is None:
        return replace(seen, quiet_since=at, held=Held(points=1))
    return replace(seen, held=_more(alert, at))


def _lasts(held: Held, span: Amount) -> bool:
    amount, unit = span
    has: float = held.points if unit == "points" else held.steps if unit == "steps" else held.seconds
    return has >= amount


def _passed(since: Mark, at: Mark, span: Amount) -> bool:
    """Whether a span has passed in the trainer's own steps, the driver's points, or seconds."""
    amount, unit = span
    if unit == "points":
        return at.points - since.points >= amount
    if unit == "steps":
        return at.run_step - since.run_step >= amount
    return at.wall_time - since.wall_time >= amount


def _fire(alert: Alert, after: Alert, verdict: Verdict, reason: str) -> Moved:
    firing = replace(after, state=AlertState.FIRING, fired=verdict.at)
    return firing, _moved(alert, firing, verdict, reason)


def _lasted(held: Held) -> str:
    if held.points <= 1 and held.seconds == 0:
        return "it breached"
    return f"it has breached for {held.points} points, {held.steps} steps, {held.seconds:.0f} s"


def _moved(before: Alert, after: Alert, verdict: Verdict, reason: str) -> Transition:
    onset = after.onset or before.onset
    return Transition(
        before.key, before.state, after.state, verdict.at, onset, verdict.value, verdict.limit, reason
    )
