"""What the policy is told and what it says: a climb, a run's facts, an action. Plain data, and nothing else.

A climb is kept in the journal as JSON, so whatever is added to it needs a default: the rows of an older
sentinel do not have it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rules.schema import InhibitSpec, LadderSpec, LimitsSpec, RemedySpec, Verb
from rules.verdict import Mark
from sentinel.checkpoints import Checkpoint

Approval: TypeAlias = Literal["all", "none"]
"""Every question is answered at once: do it, or leave it."""

Setting: TypeAlias = float | int | bool | str


@dataclass(frozen=True, slots=True)
class Climb:
    """How far one alert has climbed its ladder, and what it has used up in this run.

    Attributes:
        key: the alert.
        fired: where the alert began to fire; a new value starts a new climb.
        rung: index of the rung that comes next.
        waiting_since: from where the next rung's `after` is measured.
        uses: how often each rung was taken in this run.
        next_try: index of the remedy's next try.
        last_target: run step of the checkpoint last rolled back to; an older one comes next within the
            cool-down.
        target_number: the alert's number when that was asked for: the same number is the same trouble.
        target_before: what `last_target` was before the last rollback was asked for; it counts again if that
            comes to nothing.
        exhausted: a rollback was due and none was left.
        told: what was said or done already at a rung that is still due in this climb, so that it is once.
        asked: the question that has to be answered before the next rung is taken, if one was put.
    """

    key: str
    fired: Mark | None = None
    rung: int = 0
    waiting_since: Mark | None = None
    uses: tuple[int, ...] = ()
    next_try: int = 0
    last_target: int | None = None
    target_number: int = 0
    target_before: int | None = None
    exhausted: bool = False
    told: tuple[str, ...] = ()
    asked: Asked | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """What the trainer said of itself: which parameters and verbs a command may name.

    Attributes:
        values: parameters and their present values. reinit: parts that can be given fresh weights.
        verbs: what it can be asked for.
        open: an absolute value may be given to any parameter (it becomes a part of a resume command).
        bounds: (low, high) by parameter, where the sentinel has to see to them; a None is no bound.
        never: verbs that nobody can be asked for here, and why; a ladder passes them over.
    """

    values: Mapping[str, Setting]
    reinit: frozenset[str]
    verbs: frozenset[str]
    open: bool = False
    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    never: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the policy needs to know of a run beside the alert itself.

    Attributes:
        now: wall time of the decision, in seconds since the epoch.
        catalogue: lists the checkpoints on the present line of descent when asked (hashing is not free); None
            where there is no catalogue.
        declared: what the trainer declared; None when nobody did (a replay, a job without the guard).
        rollbacks: run steps (asked at, went back to) of this run's rollbacks, oldest first.
        attempt_began: run step at which the present attempt began.
        suspect: wall-time intervals in which a critical rule was pending or firing; an open one ends with
            None.
        actions: wall times of this run's checkpoints and rollbacks asked for.
        in_flight: verbs of commands without an outcome.
        inhibited_by: the firing rule that mutes this one, if any.
        others_exhausted: another ladder of this run has used up its rollbacks.
        checkpoint_bytes: says, when asked, what the run's checkpoints take on disk.
        unreachable: why no command can reach the trainer; empty where one can.
        present: wall time by which people's time to answer counts: later than `now` where the sentinel lags.
    """

    now: float
    catalogue: Callable[[], Sequence[Checkpoint]] | None = None
    declared: Declared | None = None
    rollbacks: tuple[tuple[int, int], ...] = ()
    attempt_began: int = 0
    suspect: tuple[tuple[float, float | None], ...] = ()
    actions: tuple[float, ...] = ()
    in_flight: frozenset[str] = frozenset()
    inhibited_by: str | None = None
    others_exhausted: bool = False
    checkpoint_bytes: Callable[[], int] = int
    unreachable: str = ""
    present: float = -math.inf


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do, or one that was due and is withheld, with the reason in words.

    Attributes:
        verb: what. withheld: it is told, and not done.
        checkpoint, to_step: a rollback's target; both None where there is no catalogue.
        set, reinit: a rollback's remedy.
        reason: why it is done or not done.
        rung: index of the rung that asked.
        asks: people are asked before the rung is taken, and this is the question; always withheld.
        settles: what became of such a question, a value of `Settled`; always withheld, and no deed itself.
    """

    verb: Verb
    reason: str
    withheld: bool = False
    checkpoint: str | None = None
    to_step: int | None = None
    set: Mapping[str, Setting] | None = None
    reinit: tuple[str, ...] = ()
    rung: int = 0
    asks: Asked | None = None
    settles: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A rung that is not taken before people have answered.

    Attributes:
        rung: its index. deeds: what would be done, as it stood when it was asked.
        asked, deadline: wall times, in seconds since the epoch.
        default: what follows where nobody answers.
        lapsed: nobody has, and it is done as soon as it can be.
    """

    rung: int
    deeds: tuple[Action, ...]
    asked: float
    deadline: float
    default: Literal["hold", "act"] = "hold"
    lapsed: bool = False


class Settled(enum.StrEnum):
    """What becomes of a question."""

    ACT = "act"
    HOLD = "hold"
    TERMINATE = "terminate"
    LAPSED = "lapsed"
    CHANGED = "changed"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Book:
    """The parts of a configuration that the policy reads; `approval`: how a replay answers every question."""

    ladders: Mapping[str, LadderSpec]
    remedies: Mapping[str, RemedySpec]
    limits: LimitsSpec
    inhibit: tuple[InhibitSpec, ...] = ()
    approval: Approval | None = None
