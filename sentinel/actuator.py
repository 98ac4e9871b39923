"""From a decision to the trainer: the letter, the bell, the receipt, and what follows when none comes.

`advance` is pure and says what is to be done next; the caller records that, commits, and only then lets
`perform` do it. Every effect may therefore happen twice (a crash after the commit), and none matters twice:
the letter is one file per id that the guard claims once, a ring only says "look". Only `terminate` ever ends
a process, and only one that is provably the trainer that registered; a lost receipt of another verb costs the
job nothing.

    intended ──▶ sent ──▶ accepted ──▶ done │ refused │ failed
        │          ├─ no receipt: rings again ──▶ unanswered
        │          │                └─ terminate: ending, until the process has ended ──▶ done
        └▶ expired └─ terminate: stopping (SIGCONT, SIGTERM) ──▶ killing (SIGKILL) ──▶ done │ failed

A job without guard gets no letter: its command is one signal, sent once and never again by a later process
(`by_signal`). Its receipt is what can be seen: a new checkpoint, or the end of the process.

    intended ──▶ sent ──▶ done (it is there) │ refused (it was not sent) │ unanswered
                  └─ terminate: stopping, killing, as above

`now` is monotonic seconds. What has to outlive this process is the letter and the state's name; `resume` puts
a Pending together again and takes its last step once more.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from sentinel.control import Letter, Receipt, read_receipt, write_letter
from sentinel.process import Liveness, send


class State(StrEnum):
    """How far a command has come."""

    INTENDED = "intended"  # recorded, nothing written
    SENT = "sent"  # the letter is there and the bell was rung; no receipt
    ACCEPTED = "accepted"  # the trainer has taken it and has not finished
    ENDING = "ending"  # terminate is done, says the trainer; its process is still there
    STOPPING = "stopping"  # terminate had no effect: SIGCONT and SIGTERM were sent
    KILLING = "killing"  # and SIGKILL
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNANSWERED = "unanswered"
    EXPIRED = "expired"  # it came too late to be sent

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be done for it."""
        return self in (State.DONE, State.REFUSED, State.FAILED, State.UNANSWERED, State.EXPIRED)


SETTLED = tuple(state for state in State if state.settled)
"""The states in which nothing more is to be done for a command."""

__all__ = [
    "SETTLED",
    "Effect",
    "Letter",
    "Patience",
    "Pending",
    "Receipt",
    "Ring",
    "Signal",
    "State",
    "WriteLetter",
    "advance",
    "intend",
    "perform",
    "read_receipt",
    "refused_by_clock",
    "resume",
    "unsent",
    "unwritten",
    "written",
]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        ack: for `accepted`, after each of two rings; the phase the trainer is in decides.
        work: from `accepted` to the outcome.
        grace: for the process to end after it has said that it will, after the signal that asks a job
            without guard to, after SIGTERM, and after SIGKILL.
    """

    ack: float = 30.0
    work: float = 600.0
    grace: float = 30.0

    @property
    def lifetime(self) -> float:
        """How long a letter stays valid: once it counts as unanswered the guard must not begin it."""
        return 2 * self.ack


@dataclass(frozen=True, slots=True)
class Pending:
    """A command on its way.

    Attributes:
        letter: what is asked. state: how far it has come. reason: why it is there, in words.
        since: when the present wait began, monotonic seconds.
        expires: when the letter ceases to be valid, monotonic seconds.
        rings: how often the bell was rung in this wait.
        receipt: the trainer's last word.
    """

    letter: Letter
    state: State
    since: float
    expires: float
    rings: int = 0
    reason: str = ""
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class WriteLetter:
    """Put the letter into the run's control folder, unless it is there."""

    letter: Letter

    def __str__(self) -> str:
        return f"letter {self.letter.id} written: {self.letter.verb}"


@dataclass(frozen=True, slots=True)
class Ring:
    """Send `letter.trainer` the signal that says "look into the folder"."""

    letter: Letter
    number: int

    def __str__(self) -> str:
        return "rung" if self.number == 1 else f"rung again, no receipt ({self.number})"


@dataclass(frozen=True, slots=True)
class Signal:
    """Send `letter.trainer` a signal that ends it, or SIGCONT so that a stopped process can take it.

    Attributes:
        asks: it is the command itself, not the force that follows: not sent where it would kill.
    """

    letter: Letter
    signum: signal.Signals
    asks: bool = False

    def __str__(self) -> str:
        return f"{self.signum.name} sent"


OUT_OF_DATE = ("expired ", "from the future")
"""What the guard's refusals of a letter begin with that is out of date by its clock."""

MOST_ANEW = 2
"""So often one command is asked anew because of a clock."""

Effect: TypeAlias = WriteLetter | Ring | Signal


def intend(letter: Letter, now: float, wall: float) -> Pending:
    """Begin with a command; nothing has left this process yet."""
    lifetime = letter.expires_at - letter.issued_at  # no more, should our own clock have been set back
    return Pending(letter, State.INTENDED, now, now + min(lifetime, letter.expires_at - letter.skew - wall))


def resume(letter: Letter, state: State, now: float, wall: float) -> Pending:
    """Go on after a restart of this process: the last recorded step is taken once more, waits begin anew."""
    if letter.by_signal is not None and state is State.SENT:
        # It may have been delivered: a second one would be a second command.
        return replace(intend(letter, now, wall), state=state)
    before = {State.SENT: State.INTENDED, State.STOPPING: State.SENT, State.KILLING: State.STOPPING}
    pending = replace(intend(letter, now, wall), state=before.get(state, state))
    if state in (State.STOPPING, State.KILLING):
        return replace(pending, since=float("-inf"), rings=2)  # the wait before that step was over
    return pending


def advance(
    pending: Pending, receipt: Receipt | None, liveness: Liveness, now: float, patience: Patience
) -> tuple[Pending, tuple[Effect, ...]]:
    """Take a command one step further, if a step is due. Pure.

    Args:
        pending: where it stands.
        receipt: what `read_receipt` found; None while there is none, or a torn one. Read it after the
        liveness:
            a trainer may answer and end between the two.
        liveness: of `pending.letter.trainer`.
        now: monotonic seconds.
        patience: how long to wait; may differ from call to call as the trainer's phase does.

    Returns:
        The command as it then stands, and what is to be performed after that has been recorded. A settled
        command stays as it is, but for a receipt that comes after all: what the trainer did is what counts.
    """
    if receipt is not None and receipt.id == pending.letter.id and receipt != pending.receipt:
        pending = _answered(pending, receipt, now)
    if pending.state.settled:
        return pending, ()
    if liveness.ended:
        return _ended(pending), ()
    waited = now - pending.since
    match pending.state:
        case State.INTENDED if now >= pending.expires:
            return replace(pending, state=State.EXPIRED, reason="it was too old to be sent"), ()
        case State.INTENDED | State.SENT if pending.letter.by_signal is not None:
            return _by_signal(pending, pending.letter.by_signal, liveness, now, patience)
        case State.INTENDED:
            sent = replace(pending, state=State.SENT, since=now, rings=1)
            return sent, (WriteLetter(pending.letter), Ring(pending.letter, 1))
        case State.SENT if waited >= patience.ack and pending.rings < 2:
            return replace(pending, since=now, rings=pending.rings + 1), (
                Ring(pending.letter, pending.rings + 1),
            )
        case State.SENT if waited >= patience.ack:
            return _overdue(pending, f"no receipt within {2 * patience.ack:g} s and two rings", liveness, now)
        case State.ACCEPTED if waited >= patience.work:
            return _overdue(pending, f"accepted, but no outcome within {patience.work:g} s", liveness, now)
        case State.ENDING if liveness is not Liveness.ALIVE:
            return replace(pending, state=State.DONE), ()
        case State.ENDING if waited >= patience.grace:
            lingers = f"done, said the trainer, but its process still runs {patience.grace:g} s later"
            return _overdue(pending, lingers, liveness, now)
        case State.STOPPING | State.KILLING if waited >= patience.grace and liveness is not Liveness.ALIVE:
            return _overdue(
                pending, f"no sign of an end, {patience.grace:g} s after the last signal", liveness, now
            )
        case State.STOPPING if waited >= patience.grace:
            killing = replace(pending, state=State.KILLING, since=now)
            return killing, (Signal(pending.letter, signal.SIGKILL),)
        case State.KILLING if waited >= patience.grace:
            return replace(pending, state=State.FAILED, reason="the process outlives SIGKILL"), ()
    return pending, ()


def _by_signal(
    pending: Pending, name: str, liveness: Liveness, now: float, patience: Patience
) -> tuple[Pending, tuple[Effect, ...]]:
    """A command that is one signal: sent once, then its effect is waited for."""
    if pending.state is State.INTENDED:
        if liveness is not Liveness.ALIVE:
            return replace(pending, state=State.REFUSED, reason=f"{name} not sent: it is {liveness}"), ()
        sent = replace(pending, state=State.SENT, since=now)
        return sent, (Signal(pending.letter, signal.Signals[name], asks=True),)
    # Nobody says that an end has been taken up, so it gets the time that an end has anywhere.
    ends = pending.letter.verb == "terminate"
    wait = patience.grace if ends else patience.work
    if now - pending.since < wait:
        return pending, ()
    wanted = "end of the process" if ends else "new verified checkpoint"
    return _overdue(pending, f"{name} sent, but no {wanted} within {wait:g} s", liveness, now)


def refused_by_clock(pending: Pending, receipt: Receipt | None, now: float) -> bool:
    """Whether a letter was refused as out of date while its time by our own watch is not up: one of the two
    clocks was set, or they differ. The trainer has not decided anything; it may be asked anew, twice.
    """
    return (
        receipt is not None
        and receipt.status == "refused"
        and receipt.wall_time is not None
        and receipt.reason.startswith(OUT_OF_DATE)
        and pending.state in (State.INTENDED, State.SENT)
        and now < pending.expires
        and pending.letter.again < MOST_ANEW
    )


def unsent(
    pending: Pending, reason: str, liveness: Liveness, now: float
) -> tuple[Pending, tuple[Effect, ...]]:
    """The signal that is the command was not sent: refused, but for an end, which goes on by force."""
    if pending.state is not State.SENT:
        return pending, ()
    if pending.letter.verb == "terminate":
        return _overdue(pending, reason, liveness, now)
    return replace(pending, state=State.REFUSED, reason=reason), ()


def unwritten(
    pending: Pending, reason: str, liveness: Liveness, now: float
) -> tuple[Pending, tuple[Effect, ...]]:
    """The letter cannot be written (a full disk, no permission): the caller tries again until the command's
    time is up; then it has failed, but for an end, which goes on by force.
    """
    if now < pending.expires:
        left = pending.expires - now
        said = f"its letter cannot be written ({reason}); it is tried again for {left:.0f} s"
        return (pending if pending.reason else replace(pending, reason=said)), ()
    failed = replace(pending, state=State.FAILED, reason=f"its letter could not be written ({reason})")
    if pending.letter.verb == "terminate":
        return _overdue(pending, failed.reason, liveness, now)
    return failed, ()


def written(pending: Pending, now: float) -> Pending:
    """The letter is there after all: from now on an answer is waited for."""
    return replace(pending, since=now, reason="")


def _answered(pending: Pending, receipt: Receipt, now: float) -> Pending:
    """Take the trainer's word: the first outcome is final, and a late one corrects what was given up."""
    if pending.state in (State.DONE, State.REFUSED, State.EXPIRED):
        return pending
    if receipt.status == "done" and pending.letter.verb == "terminate" and not pending.state.settled:
        # Its word is no end yet. One that is being ended by force is not given the same time once more.
        if pending.state in (State.STOPPING, State.KILLING):
            return replace(pending, receipt=receipt)
        return replace(pending, state=State.ENDING, since=now, receipt=receipt, reason=receipt.reason)
    if receipt.status != "accepted":
        return replace(pending, state=State(receipt.status), receipt=receipt, reason=receipt.reason)
    given_up = pending.state is State.UNANSWERED and pending.letter.verb == "terminate"
    if given_up or pending.state in (State.STOPPING, State.KILLING, State.FAILED):
        # Too late: the process is being ended as was asked, or has ended; waiting anew would force it twice.
        return replace(pending, receipt=receipt)
    return replace(pending, state=State.ACCEPTED, since=now, receipt=receipt, reason="")


def _ended(pending: Pending) -> Pending:
    """The process has ended: what `terminate` asked for, and the end of everything else."""
    if pending.letter.verb == "terminate":
        how = {State.STOPPING: "ended by SIGTERM", State.KILLING: "ended by SIGKILL"}
        if pending.state is State.ENDING:
            return replace(pending, state=State.DONE)
        return replace(pending, state=State.DONE, reason=how.get(pending.state, "the process has ended"))
    return replace(
        pending, state=State.FAILED, reason=f"the trainer's process ended before {pending.letter.verb}"
    )


def _overdue(
    pending: Pending, reason: str, liveness: Liveness, now: float
) -> tuple[Pending, tuple[Effect, ...]]:
    """The trainer is silent. Only terminate goes on, and only against a process known to be the trainer."""
    if pending.letter.verb == "terminate" and liveness is Liveness.ALIVE:
        stopping = replace(pending, state=State.STOPPING, since=now, reason=reason)
        return stopping, (Signal(pending.letter, signal.SIGCONT), Signal(pending.letter, signal.SIGTERM))
    if pending.letter.verb == "terminate":
        reason += f"; no further signal is sent, the process is {liveness}"
    return replace(pending, state=State.UNANSWERED, reason=reason), ()


def perform(effect: Effect, control: Path, doorbell: signal.Signals | None) -> str:
    """Do one effect that has been recorded; all of them may be done twice.

    Args:
        effect: what `advance` asked for. Only the process that its letter is meant for is ever signalled.
        control: the run's control folder.
        doorbell: the signal the trainer listens to; None where it only looks into the folder.

    Returns:
        What was done or why it was not, in words for the journal.

    Raises:
        OSError: the letter could not be written (a full disk, no permission); it can be performed again.
    """
    match effect:
        case WriteLetter(letter):
            write_letter(control, letter)
            return str(effect)
        case Ring(letter):
            if doorbell is None:
                return "not rung: the trainer looks into the folder by itself"
            return send(letter.trainer, doorbell, only_if_caught=True) or str(effect)
        case Signal(letter, signum, asks):
            # SIGTERM is what an end is asked by, handler or not; no other signal may kill by accident.
            gently = asks and (signum is not signal.SIGTERM or letter.verb != "terminate")
            return send(letter.trainer, signum, only_if_caught=gently) or str(effect)
