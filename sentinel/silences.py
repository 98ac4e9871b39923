"""Silences and acknowledgements: which alerts nobody is told of for a while, and which somebody has in hand.

The one fact to hold: they change what is told, never what is judged or recorded. They are rows of the
journal, so they hold over restarts, and they are looked up anew each time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from notifier.format import utc
from rules.alert import AlertState
from rules.source import nearest
from sentinel.journal import Journal
from sentinel.requests import Ack, Expire, Silence

GOING = (AlertState.FIRING, AlertState.RECOVERING, AlertState.PROBATION)
"""States of an alert that people are told of and that can be acknowledged."""


class Outcome(NamedTuple):
    """What became of a request, in words. A command that was taken has its outcome in its own row."""

    state: Literal["taken", "done", "refused"]
    text: str


@dataclass(frozen=True, slots=True)
class Active:
    """A silence as the journal holds it; times are seconds since the epoch."""

    id: int
    run: str
    rule: str
    began: float
    ends: float
    who: str
    why: str
    actions: bool

    def covers(self, runs: Iterable[str], key: str) -> bool:
        """Whether it holds for an alert.

        Args:
            runs: what its run is called. key: the rule; one made by `each` is also known without its capture.
        """
        names = {key, key.partition("[")[0]}
        fits = any(fnmatchcase(name, self.rule) for name in names)
        return fits and any(fnmatchcase(run, self.run) for run in runs)

    @property
    def words(self) -> str:
        """Say who asked for it, until when and why."""
        return f"silence {self.id}, until {utc(self.ends)}, {self.who}: {self.why}"


class Silences:
    """The silences and acknowledgements of one journal. Everything that writes is called in a transaction."""

    def __init__(self, journal: Journal, root: str = ".") -> None:
        """Take up the rows. `root`: what people call the run that is the log directory itself."""
        self._journal = journal
        self._root = root
        self._known: list[Active] | None = None
        self._next_end = -math.inf  # whether one has ended since the last process was here is not known

    def begin(self, asked: Silence, runs: Iterable[str], now: float, rules: Iterable[str] = ()) -> Outcome:
        """Put a silence into force; one that fits nothing known is taken, and that is said.

        Args:
            asked: what is to be silent. runs: names of the runs there are. now: wall time.
            rules: names of the rules there are.
        """
        if asked.ends <= now:
            return Outcome(
                "refused", f"it would have ended at {utc(asked.ends)}, which is past; nothing was done"
            )
        number = self._journal.add(
            "silences",
            run=asked.run,
            rule=asked.rule,
            began=now,
            ends=float(asked.ends),
            who=asked.by,
            why=asked.why,
            actions=int(asked.actions),
        )
        self._known, self._next_end = None, min(self._next_end, float(asked.ends))
        silence = Active(
            number, asked.run, asked.rule, now, float(asked.ends), asked.by, asked.why, asked.actions
        )
        what = f"silence {number}: {asked.run} {asked.rule} until {utc(asked.ends)}"
        fits = [run for run in runs if any(fnmatchcase(name, asked.run) for name in self._names(run))]
        if not fits:
            hint = nearest(asked.run, list(runs))
            return Outcome("done", f"{what}. No run is called so yet{f'; {hint}' if hint else ''}")
        keys = [row["key"] for row in self._journal.rows("SELECT DISTINCT key FROM alerts")]
        known = sorted({*rules, *(key.partition("[")[0] for key in keys)})
        if not any(fnmatchcase(name, asked.rule) for name in (*known, *keys)):
            hint = nearest(asked.rule, known)
            return Outcome("done", f"{what}. No rule is called so{f'; {hint}' if hint else ''}")
        going = sum(silence.covers(self._names(run), key) for run, key in self.going())
        return Outcome("done", f"{what}. It covers {len(fits)} runs, and {going} alerts that fire")

    def expire(self, asked: Expire, now: float) -> Outcome:
        """End a silence now."""
        active = {silence.id: silence for silence in self.active(now)}
        if asked.silence not in active:
            known = ", ".join(str(number) for number in active) or "none"
            return Outcome(
                "refused", f"no silence {asked.silence} is in force (there are: {known}); nothing was done"
            )
        self._journal.change(
            "UPDATE silences SET ends = ?, expired_by = ? WHERE id = ?", now, asked.by, asked.silence
        )
        self._known, self._next_end = None, now
        return Outcome("done", f"silence {asked.silence} has ended")

    def ack(self, asked: Ack, runs: Iterable[str], now: float) -> Outcome:
        """Note who has an alert in hand, until the end of this episode."""
        going = self.going(asked.run)
        if asked.run not in runs:
            known = list(runs)
            hint = nearest(asked.run, known) or f"there are: {', '.join(sorted(known)) or 'none'}"
            return Outcome("refused", f"no run {asked.run!r} is watched ({hint}); nothing was done")
        number = going.get((asked.run, asked.rule))
        if number is None:
            firing = [key for _, key in going]
            hint = nearest(asked.rule, firing) or f"there fire: {', '.join(firing) or 'none'}"
            return Outcome(
                "refused", f"{asked.run}: no alert {asked.rule!r} fires ({hint}); nothing was done"
            )
        self._journal.put(
            "acks", run=asked.run, key=asked.rule, number=number, wall_time=now, who=asked.by, why=asked.why
        )
        return Outcome(
            "done", f"{asked.run} {asked.rule}: {asked.by} has it; it is not repeated while it lasts"
        )

    def active(self, now: float) -> list[Active]:
        """Return the silences in force, oldest first."""
        if self._known is None:
            rows = self._journal.rows("SELECT * FROM silences WHERE ends > ? ORDER BY id", now)
            self._known = [read_silence(row) for row in rows]
        return [silence for silence in self._known if silence.ends > now]

    def over(self, run: str, key: str, now: float) -> Active | None:
        """Return the silence that lasts longest of those that hold for an alert; None for none."""
        found = [silence for silence in self.active(now) if silence.covers(self._names(run), key)]
        return max(found, key=lambda silence: silence.ends, default=None)

    def rests(self, run: str, key: str, now: float) -> str | None:
        """Say which silence lets an alert's ladder rest; None for none."""
        active = [silence for silence in self.active(now) if silence.actions]
        return next((s.words for s in active if s.covers(self._names(run), key)), None)

    def ended(self, now: float) -> bool:
        """Whether a silence may have ended since `note_ended`."""
        return self._next_end <= now

    def note_ended(self, now: float) -> None:
        """Take note that what was silenced has been looked at."""
        self._known = None
        self._next_end = min((silence.ends for silence in self.active(now)), default=math.inf)

    def acked(self) -> dict[str, str]:
        """Return who has which story in hand, by its thread."""
        rows = self._journal.rows("SELECT * FROM acks")
        return {f"{row['run']}/{row['key']}#{row['number']}": row["who"] for row in rows}

    def _names(self, run: str) -> set[str]:
        return {".", self._root, run} if run in (".", self._root) else {run}

    def going(self, run: str | None = None) -> dict[tuple[str, str], int]:
        """Return the episode of every alert that fires, by run and key; of one run, or of all."""
        rows = self._journal.rows(
            "SELECT run, key, body FROM alerts WHERE run = coalesce(?, run) ORDER BY run, key", run
        )
        alerts = ((row["run"], row["key"], json.loads(row["body"])) for row in rows)
        return {(run, key): alert["number"] for run, key, alert in alerts if alert["state"] in GOING}


def read_silence(row: Any) -> Active:
    """Read a silence from its row."""
    return Active(
        row["id"],
        row["run"],
        row["rule"],
        row["began"],
        row["ends"],
        row["who"],
        row["why"],
        bool(row["actions"]),
    )
