"""What a rule says of a run at one moment: OK, BREACH or UNKNOWN, where it stands, and the number behind it.

Three answers, because a dead trainer logs nothing: UNKNOWN neither fires nor resolves an alert.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple


class Condition(enum.Enum):
    """The three-valued answer of a rule."""

    OK = "ok"
    BREACH = "breach"
    UNKNOWN = "unknown"


class Mark(NamedTuple):
    """A place in a run, on all axes that anyone measures by.

    Attributes:
        step: the last step of the rule's driver, on that series' own axis (episodes, updates or environment
            steps).
        wall_time: seconds since the epoch, taken from the points and not from the sentinel's clock.
        points: how many points of the driver have been seen in this attempt.
        run_step: the greatest step that any series has logged in this attempt: the trainer's own step count.
    """

    step: int
    wall_time: float
    points: int
    run_step: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """One evaluation of one rule instance.

    Attributes:
        condition: BREACH when `expr` is True, OK when it is False, UNKNOWN otherwise.
        cleared: `clear` if the rule has one, else the negation of `expr`; None is unknown.
        recovered: the ladder's `recovered_when`, evaluated only on probation; None is unknown or absent.
        value: the left side of the comparison that decides `expr`, in the metric's unit; None if there is
            none.
        limit: the right side of that comparison.
        at: where the run stood.
    """

    condition: Condition
    cleared: bool | None
    recovered: bool | None
    value: float | None
    limit: float | None
    at: Mark
