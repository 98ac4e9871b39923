"""Commands that are carried out by ending and starting a job: their rows, and what is told of them.

They are commands like any other (`sentinel.dispatch`), but for their carrier: no letter is written for them.
Everything that writes is called inside a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentinel.actuator import State
from sentinel.control import Letter
from sentinel.dispatch import Settled
from sentinel.ending import Phase
from sentinel.journal import Journal
from sentinel.lives import LifeRow

_SETTLED = frozenset(state.value for state in State if state.settled)


class JobCommands:
    """The rows of one carrier: the job that we started, or a cluster."""

    def __init__(self, journal: Journal, carrier: str = "job") -> None:
        self._journal = journal
        self._carrier = carrier
        self._settled: dict[str, list[Settled]] = {}

    def open(self) -> list[dict[str, Any]]:
        mine = "SELECT * FROM commands WHERE carrier = ? ORDER BY asked, id"
        rows = self._journal.rows(mine, self._carrier)
        return [dict(row) for row in rows if row["state"] not in _SETTLED]

    def settled(self, run: str) -> list[Settled]:
        """Take what has come of the commands that were carried out here."""
        return self._settled.pop(run, [])

    def in_flight(self, run: str) -> set[str]:
        """The verbs that are under way here."""
        return {row["verb"] for row in self.open() if row["run"] == run}

    @property
    def untold(self) -> bool:
        """Whether an outcome has not been taken yet."""
        return bool(self._settled)

    def note(self, row: Mapping[str, Any], state: str, what: str, now: float) -> None:
        run, number = row["run"], row["id"]
        self._journal.change(
            "UPDATE commands SET state = ?, updated = ? WHERE run = ? AND id = ?", state, now, run, number
        )
        self._journal.add("command_steps", run=run, id=number, wall_time=now, what=f"{state}: {what}")

    def settle(self, row: Mapping[str, Any], state: str, reason: str, now: float) -> None:
        """Give a command its outcome; its run tells it in this same transaction."""
        run, number = row["run"], row["id"]
        self.note(row, state, reason, now)
        if reason:
            self._journal.change(
                "UPDATE commands SET reason = ? WHERE run = ? AND id = ?", reason, run, number
            )
        found = self._journal.rows("SELECT * FROM commands WHERE run = ? AND id = ?", run, number)
        self._settled.setdefault(run, []).append(Settled(dict(found[0]), final=True))

    def note_phase(self, life: LifeRow, phase: Phase, now: float) -> None:
        """Say of the commands that end this life how far that is."""
        for row in self.open():
            if row["run"] in life.runs and row["state"] != "intended":
                sent = "SIGKILL sent" if phase is Phase.KILLING else "SIGCONT and SIGTERM sent"
                self.note(row, phase.value, sent, now)

    def fail_all(self, life: LifeRow, reason: str, now: float) -> None:
        for row in self.open():
            if row["run"] in life.runs:
                self.settle(row, "failed", reason, now)

    def settle_request(self, life: LifeRow, state: str, reason: str, now: float) -> None:
        for row in self.open():
            if row["run"] == life.run and row["id"] == life.request:
                self.settle(row, state, reason, now)

    def settle_ended(self, life: LifeRow, now: float) -> None:
        """A life has ended: whoever asked for that has it."""
        for row in self.open():
            if row["verb"] == "terminate" and row["run"] in life.runs:
                self.settle(row, "done", "", now)

    def letters_open(self, life: LifeRow) -> bool:
        """Whether a trainer has been asked to end by letter and that has no outcome yet."""
        return any(
            row["state"] not in _SETTLED
            for run in life.runs
            for row in self._journal.rows(
                "SELECT state FROM commands WHERE run = ? AND verb = 'terminate' AND carrier = 'letter'", run
            )
        )

    def set_by_letter(self, run: str, life: LifeRow) -> set[str]:
        """Names of the parameters that the trainer itself has changed in this life, as it was asked to."""
        rows = self._journal.rows(
            "SELECT letter FROM commands WHERE run = ? AND verb = 'rollback' AND carrier = 'letter' "
            "AND state = 'done' AND asked >= ?",
            run,
            life.began,
        )
        return {name for row in rows for name in Letter.from_json(row["letter"]).set}

    def ended_by(self, life: LifeRow, *states: str) -> bool:
        """Whether a `terminate` was asked for in this life; with `states`: and has come to one of them."""
        found = [
            row["state"]
            for run in life.runs
            for row in self._journal.rows(
                "SELECT state FROM commands WHERE run = ? AND verb = 'terminate' AND asked >= ?",
                run,
                life.began,
            )
        ]
        return any(state in states if states else state not in ("refused", "expired") for state in found)
