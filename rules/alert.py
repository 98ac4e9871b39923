"""An alert's life: inactive, pending, firing, recovering, resolved; and probation after a rollback."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from rules.verdict import Mark


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
