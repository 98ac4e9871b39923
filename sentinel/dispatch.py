"""The commands of one run: a row before the letter, the letter, and a row for each step until the outcome.

What is to be done next is recorded and committed first and performed after that, so a crash leaves a row that
says what was meant, and the next process takes that step again; letters and rings do not matter twice.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sentinel.actuator import (
    Effect,
    Letter,
    Patience,
    Pending,
    Receipt,
    Signal,
    State,
    WriteLetter,
    advance,
    intend,
    perform,
    read_receipt,
    refused_by_clock,
    resume,
    unsent,
    unwritten,
    written,
)
from sentinel.checkpoints import Checkpoint
from sentinel.clock import Clock
from sentinel.clusters.reach import Reach
from sentinel.control import highest_id
from sentinel.journal import Journal
from sentinel.policy import Setting
from sentinel.process import Liveness, Process
from sentinel.registration import Registration

_TOLD = (
    State.DONE,
    State.REFUSED,
    State.FAILED,
    State.UNANSWERED,
    State.EXPIRED,
    State.STOPPING,
    State.KILLING,
)

CANCEL = 90.0
"""Seconds that a cluster may take besides to end a job by force (Slurm's KillWait is 30)."""

SAME_CLOCK = 5.0
"""Seconds by which two clocks may seem to differ because a receipt was read a while after it was written."""

_DISARMED = "the sentinel was started again in mode observe; nothing more is sent for it"


@dataclass(frozen=True, slots=True)
class Settled:
    """A command that has come to something worth telling.

    Attributes:
        row: the journal's row as it now is.
        final: nothing more is to come.
    """

    row: dict[str, Any]
    final: bool

    @property
    def sentence(self) -> str:
        """Say it in words."""
        row = self.row
        where = f" at step {row['step']}" if row["step"] is not None else ""
        checkpoint = (
            f", checkpoint {row['checkpoint']} (step {row['checkpoint_step']})" if row["checkpoint"] else ""
        )
        reason = f": {row['reason']}" if row["reason"] else ""
        return f"command {row['id']} {row['verb']} {row['state']}{where}{checkpoint}{reason}"


class Dispatch:
    """Carries the commands of one run to its trainer.

    Attributes:
        skew: seconds by which the trainer's clock is ahead of ours; letters are dated by it.
    """

    def __init__(
        self,
        run: str,
        folder: Path,
        journal: Journal,
        patience: Patience,
        clock: Clock,
        reach: Reach | None = None,
        *,
        act: bool,
    ) -> None:
        """Take up every command that has no outcome yet.

        Args:
            run: its name. folder: its folder. journal, patience, clock: shared by all runs.
            reach: the way to a cluster's jobs; None for none.
            act: without it, what rules asked for before a restart goes no further; what a person asked does.
        """
        self._run = run
        self._control = folder / "control"
        self._journal = journal
        self._patience = patience
        self._clock = clock
        self._reach = reach or Reach({}, clock.monotonic, int)
        self._trouble: dict[int, str] = {}  # commands that a cluster did not take, and why
        self._effects: list[tuple[int, Effect]] = []
        self._trainer: Process | None = None
        self._doorbell: signal.Signals | None = None
        self._registration: Registration | None = None
        self._unsent: dict[int, str] = {}  # commands whose signal did not leave, and why
        self._unwritten: dict[int, str] = {}  # commands whose letter the disk does not take, and why
        self.skew = 0.0
        self._late: list[int] = []  # commands whose letter was written after all
        self._before: dict[int, set[tuple[str, float]]] = {}  # checkpoints that were there when one was asked
        self._pending: dict[int, Pending] = {}
        open_states = [state.value for state in State if not state.settled]
        self._disarmed: set[int] = set()
        mine = "SELECT id, letter, state, request FROM commands WHERE run = ? AND carrier = 'letter'"
        rows = journal.rows(mine, run)
        for row in rows:
            if row["state"] in open_states:
                letter = Letter.from_json(row["letter"])
                self._pending[row["id"]] = resume(
                    letter, State(row["state"]), clock.monotonic(), clock.wall()
                )
                if not act and row["request"] is None:
                    self._disarmed.add(row["id"])

    @property
    def in_flight(self) -> set[str]:
        """The verbs of commands without an outcome."""
        return {pending.letter.verb for pending in self._pending.values()}

    def ask(
        self,
        verb: str,
        *,
        checkpoint: str | None,
        to_step: int | None,
        set: Mapping[str, Setting],  # noqa: A002  the protocol's own word
        reinit: Sequence[str],
        reason: str,
        asked_step: int,
        attempt: int,
        now: float,
        key: str | None = None,
        rung: int | None = None,
        thread: str | None = None,
        request: str | None = None,
        carrier: str = "letter",
    ) -> None:
        """Record the intent; only inside a transaction. A checkpoint that is on its way already serves both
        who asked. What another carrier than the letter takes on is recorded here and carried out by that.
        """
        if verb == "checkpoint" and request is None and verb in self.in_flight:
            return
        number = self._journal.next_command_id(self._run, highest_id(self._control))
        by_signal = self._registration.by_signal(verb) if self._registration is not None else None
        if by_signal is not None and verb == "checkpoint":
            self._before[number] = {(c.name, c.wall_time) for c in self._checkpoints()}
        skew = self.skew if by_signal is None else 0.0
        letter = Letter(
            id=number,
            verb=verb,  # type: ignore[arg-type]  # rules and the command line admit only the three verbs
            if_attempt=attempt,
            issued_at=now + skew,
            expires_at=now + skew + self._patience.lifetime,
            skew=skew,
            reason=reason,
            to_checkpoint=checkpoint,
            to_step=to_step,
            set=dict(set),
            reinit=tuple(reinit),
            trainer=self._trainer,
            by_signal=by_signal.name if by_signal is not None and carrier == "letter" else None,
            workload=self._registration.workload if self._registration is not None else None,
        )
        if carrier == "letter":
            self._pending[number] = intend(letter, self._clock.monotonic(), now)
        self._journal.add(
            "commands",
            carrier=carrier,
            run=self._run,
            id=number,
            key=key,
            rung=rung,
            thread=thread,
            verb=verb,
            letter=letter.to_json(),
            state=State.INTENDED.value,
            asked_step=asked_step,
            asked=now,
            updated=now,
            reason=reason,
            checkpoint=checkpoint,
            checkpoint_step=to_step,
            request=request,
        )
        self._note(number, f"intended: {verb} because {reason}", now)

    def follow(self, registration: Registration, now: float) -> list[Settled]:
        """Take every command one step further; only inside a transaction. Returns those with something to
        tell.
        """
        self._trainer = registration.process
        self._doorbell = registration.doorbell
        self._registration = registration
        told = []
        monotonic = self._clock.monotonic()
        self._hear(now)
        while self._late:
            self._note(self._late.pop(0), "the letter was written after all", now)
        for number, pending in list(self._pending.items()):
            # Liveness before the receipt: a trainer may answer and end between the two.
            armed = number not in self._disarmed
            alive = self._liveness(pending.letter) if armed else Liveness.UNKNOWN
            receipt = self._receipt(pending.letter)
            if armed and receipt is not None and refused_by_clock(pending, receipt, monotonic):
                told.append(self._ask_anew(pending, receipt, now))
                continue
            if number in self._unsent:
                after, effects = unsent(pending, self._unsent.pop(number), alive, monotonic)
            elif number in self._unwritten and receipt is None and not alive.ended:
                after, effects = unwritten(pending, self._unwritten[number], alive, monotonic)
            else:
                after, effects = advance(pending, receipt, alive, monotonic, self._patient(pending))
            if number in self._trouble and after.state in (State.FAILED, State.UNANSWERED):
                after = replace(after, reason=f"{after.reason}; {self._trouble.pop(number)}")
            if not armed:
                effects = ()
                if receipt is None:
                    after = replace(pending, state=State.EXPIRED, reason=_DISARMED)
            stuck = after.state is State.SENT and after.reason != pending.reason and number in self._unwritten
            if after.state is not State.SENT or receipt is not None:
                self._give_up_writing(number)
            self._effects += [(number, effect) for effect in effects]
            if after == pending and not effects:
                continue
            self._pending[number] = after
            self._record(number, pending, after, now)
            for effect in effects:
                self._note(number, f"to do: {effect}", now)
            if after.state.settled:
                del self._pending[number]
            if stuck:
                self._note(number, after.reason, now)
            if stuck or (after.state is not pending.state and after.state in _TOLD):
                row = self._row(number)
                if stuck:
                    row["state"] = "unwritten"  # for people: the row says sent, as a restart must take it
                told.append(Settled(row, after.state.settled))
        return told

    def _ask_anew(self, pending: Pending, receipt: Receipt, now: float) -> Settled:
        """Ask the same under another id, by the trainer's clock: by that this letter is out of date.

        Who asked waits for the new one; the old one is no outcome.
        """
        number, wall = pending.letter.id, receipt.wall_time
        ahead = (wall if wall is not None else now) - now
        self.skew = ahead if abs(ahead) > SAME_CLOCK else 0.0
        fresh = self._journal.next_command_id(self._run, highest_id(self._control))
        clock = "a clock was set meanwhile"
        if self.skew:
            clock = f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
        said = f"{receipt.reason}; {clock}; asked anew as command {fresh}"
        self._record(
            number, pending, replace(pending, state=State.EXPIRED, reason=said, receipt=receipt), now
        )
        row = self._row(number)
        self._journal.change("UPDATE commands SET request = NULL WHERE run = ? AND id = ?", self._run, number)
        issued = now + self.skew
        letter = replace(
            pending.letter,
            id=fresh,
            issued_at=issued,
            expires_at=issued + self._patience.lifetime,
            skew=self.skew,
            again=pending.letter.again + 1,
        )
        again = {**row, "id": fresh, "letter": letter.to_json(), "state": State.INTENDED.value, "step": None}
        self._journal.add("commands", **{**again, "updated": now, "reason": letter.reason})
        self._note(fresh, f"intended: command {number} asked anew, since {clock}", now)
        del self._pending[number]
        self._pending[fresh] = intend(letter, self._clock.monotonic(), now)
        return Settled({**row, "state": "asked anew"}, final=False)

    def _row(self, number: int) -> dict[str, Any]:
        query = "SELECT * FROM commands WHERE run = ? AND id = ?"
        return dict(self._journal.rows(query, self._run, number)[0])

    def perform(self) -> list[str]:
        """Do what has been committed; returns in words what could not be done, to be tried again by the
        actuator's waits.
        """
        effects, self._effects = self._effects, []
        failures = []
        for number, effect in effects:
            if number in self._unwritten and not isinstance(effect, WriteLetter):
                self._effects.append((number, effect))  # a ring is for a letter that is there
                continue
            try:
                elsewhere = self._reach.perform(self._asker, number, effect)
                said = perform(effect, self._control, self._doorbell) if elsewhere is None else str(effect)
                if isinstance(effect, Signal) and effect.asks and said != str(effect):
                    self._unsent[number] = said
            except OSError as error:
                failures.append(f"command {number}: {effect}: {error.strerror}")
                if isinstance(effect, WriteLetter):
                    self._unwritten[number] = f"{error.filename or self._control}: {error.strerror}"
                    self._effects.append((number, effect))
                continue
            if isinstance(effect, WriteLetter) and self._unwritten.pop(number, None) is not None:
                self._pending[number] = written(self._pending[number], self._clock.monotonic())
                self._late.append(number)
        return failures

    def _give_up_writing(self, number: int) -> None:
        """Try no longer to write a letter that nothing depends on any more."""
        if self._unwritten.pop(number, None) is not None:
            self._effects = [(other, effect) for other, effect in self._effects if other != number]

    @property
    def _asker(self) -> str:
        return f"letter/{self._run}"

    def _hear(self, now: float) -> None:
        """Take the cluster's answers to what was handed to it."""
        for told in self._reach.told(self._asker):
            self._note(told.number, f"{told.what}: {told.said or 'the cluster took it'}", now)
            pending = self._pending.get(told.number)
            if not told.said or pending is None:
                continue
            if pending.letter.by_signal is not None and pending.state is State.SENT:
                self._unsent[told.number] = told.said
            elif pending.state in (State.STOPPING, State.KILLING):
                self._trouble[told.number] = told.said

    def _liveness(self, letter: Letter) -> Liveness:
        return self._reach.liveness(letter.trainer, letter.workload, eager=True)

    def _patient(self, pending: Pending) -> Patience:
        """How long to wait: a cluster takes its time to end a job by force."""
        slow = pending.state is State.KILLING and self._reach.serves(pending.letter.workload)
        return replace(self._patience, grace=self._patience.grace + CANCEL) if slow else self._patience

    def _checkpoints(self) -> Sequence[Checkpoint]:
        listed = self._registration.catalogue if self._registration is not None else None
        return [c for c in listed() if c.verified] if listed is not None else ()

    def _receipt(self, letter: Letter) -> Receipt | None:
        """What a trainer has answered; of a job without guard, what can be seen of it."""
        if letter.by_signal is None:
            return read_receipt(self._control, letter.id)
        if letter.verb != "checkpoint":
            return None
        before = self._before.get(letter.id)
        new = [
            c
            for c in self._checkpoints()
            if (c.wall_time >= letter.issued_at if before is None else (c.name, c.wall_time) not in before)
        ]
        if not new:
            return None
        found = max(new, key=lambda c: (c.wall_time, c.step))
        return Receipt(letter.id, "done", None, None, found.wall_time, found.name, found.step, "")

    def _record(self, number: int, before: Pending, after: Pending, now: float) -> None:
        receipt = after.receipt
        self._journal.change(
            "UPDATE commands SET state = ?, updated = ?, reason = ? WHERE run = ? AND id = ?",
            after.state.value,
            now,
            after.reason or before.letter.reason,
            self._run,
            number,
        )
        if receipt is not None:
            self._journal.change(
                "UPDATE commands SET step = ?, checkpoint = coalesce(?, checkpoint), "
                "checkpoint_step = coalesce(?, checkpoint_step) WHERE run = ? AND id = ?",
                receipt.step,
                receipt.checkpoint,
                receipt.checkpoint_step,
                self._run,
                number,
            )
        if after.state is not before.state:
            self._note(number, _words(after, receipt), now)

    def _note(self, number: int, what: str, now: float) -> None:
        self._journal.add("command_steps", run=self._run, id=number, wall_time=now, what=what)


def _words(pending: Pending, receipt: Receipt | None) -> str:
    step = f" at step {receipt.step}" if receipt is not None and receipt.step is not None else ""
    return f"{pending.state}{step}" + (f": {pending.reason}" if pending.reason else "")
