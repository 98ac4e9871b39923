"""How all processes of a job are ended, step by step. Pure.

    waiting ──▶ stopping (SIGCONT, SIGTERM to each) ──▶ killing (SIGKILL) ──▶ outlived
       └────────────────┴── nobody is left ─────────────────┴──▶ over

It begins with waiting where the trainer was asked in its own way, so that it may end by itself. Nothing of
it is remembered: a sentinel that was started anew goes through it again, and a second SIGTERM is the worst of
it.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from enum import StrEnum


class Phase(StrEnum):
    """How far it has come."""

    WAITING = "waiting"
    STOPPING = "stopping"
    KILLING = "killing"
    OUTLIVED = "outlived"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class EndingOf:
    """The end of a job's processes under way.

    Attributes:
        phase: how far. since: when the present wait began, monotonic seconds.
        sent: the last signal.
    """

    phase: Phase
    since: float
    sent: signal.Signals | None = None


def begin(now: float, *, asked: bool) -> EndingOf:
    """Begin. `asked`: the trainer was asked in its own way, and is given time to do it."""
    return EndingOf(Phase.WAITING, now if asked else float("-inf"))


def step(
    ending: EndingOf, *, left: bool, being_asked: bool, now: float, grace: float, gentle: signal.Signals
) -> tuple[EndingOf, tuple[signal.Signals, ...]]:
    """Take it one step further, if a step is due.

    Args:
        ending: where it stands.
        left: whether a process is left. being_asked: the trainer's answer to a letter is still awaited.
        now: monotonic seconds. grace: seconds between two signals.
        gentle: the first signal.

    Returns:
        Where it then stands, and what is to be sent to each process that is left.
    """
    if ending.phase is Phase.OVER or ending.phase is Phase.OUTLIVED:
        return ending, ()
    if not left:
        return replace(ending, phase=Phase.OVER), ()
    if being_asked:
        return replace(ending, since=now), ()
    if now - ending.since < grace:
        return ending, ()
    match ending.phase:
        case Phase.WAITING:
            return EndingOf(Phase.STOPPING, now, gentle), (signal.SIGCONT, gentle)
        case Phase.STOPPING:
            return EndingOf(Phase.KILLING, now, signal.SIGKILL), (signal.SIGKILL,)
        case _:
            return replace(ending, phase=Phase.OUTLIVED), ()
