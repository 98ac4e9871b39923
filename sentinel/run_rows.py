"""The rows of one run in the journal: what the last process left, and what has changed since.

A run is taken up from here alone, so whatever decides something later must be written here before the commit
of the tick in which it came to be. Only what has changed is written: an idle tick costs no disk.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rules.alert import Alert, AlertState, Held, Transition
from rules.series import Sample
from rules.verdict import Mark
from sentinel.approvals import read_asked
from sentinel.attempts import PROBES_KEPT, Rewind
from sentinel.journal import Cursor, Journal, to_json
from sentinel.judge import GRAVE, Ledger, Step
from sentinel.policy import Climb
from sentinel.replay import action_as_json
from sentinel.tail import Hurt

TIDY_EVERY = 3600.0
"""Seconds between two looks for measurements that are too old to be kept."""


class RunRows:
    """One run's part of the journal. Everything that writes is called inside a transaction."""

    def __init__(self, journal: Journal, run: str) -> None:
        self._journal = journal
        self._run = run
        self._saved: dict[str, Any] = {}
        self._tidied = -math.inf

    # ── taking up where the last process stopped ──

    def run(self) -> Any | None:
        """Return the run's own row; None where no sentinel has seen it."""
        rows = self._journal.rows("SELECT * FROM runs WHERE run = ?", self._run)
        return rows[0] if rows else None

    def cursors(self) -> Iterable[Cursor]:
        """Return how far each event file was read and judged."""
        return self._journal.cursors(self._run).values()

    def fact(self, name: str) -> dict[str, Any]:
        """Return one of the run's other facts, as `note` wrote it; empty where it never did."""
        rows = self._journal.rows("SELECT value FROM meta WHERE name = ?", f"{name}/{self._run}")
        found: dict[str, Any] = json.loads(rows[0]["value"]) if rows else {}
        return found

    def alerts(self) -> list[Alert]:
        """Return every alert as it stood."""
        return [read_alert(row["body"]) for row in self._bodies("alerts")]

    def climbs(self) -> list[Climb]:
        """Return how far each alert had climbed its ladder."""
        return [read_climb(row["body"]) for row in self._bodies("climbs")]

    def rewinds(self) -> list[Rewind]:
        """Return the beginning of every attempt after the first, oldest first."""
        rows = self._journal.rows("SELECT * FROM rewinds WHERE run = ? ORDER BY attempt", self._run)
        return [Rewind(r["attempt"], r["to_step"], r["kept_until"], r["wall_time"]) for r in rows]

    def probes(self) -> list[Sample]:
        """Return the sentinel's own measurements of the run, oldest first."""
        rows = self._journal.rows("SELECT * FROM probes WHERE run = ? ORDER BY wall_time", self._run)
        return [(r["tag"], r["step"], r["wall_time"], r["value"]) for r in rows]

    def ledger(self, rewinds: Sequence[Rewind]) -> Ledger:
        """Build the ledger again from the rows that recorded what it stands for."""
        ledger = Ledger(rewinds=[(r.to_step, r.wall_time) for r in rewinds])
        for row in self._journal.rows("SELECT * FROM transitions WHERE run = ? ORDER BY id", self._run):
            if row["before"] != row["after"] and row["severity"] in GRAVE:
                ledger.follow(_as_transition(row), row["severity"])
            for action in json.loads(row["actions"]):
                if action["verb"] in ("checkpoint", "rollback") and "withheld" not in action:
                    ledger.actions.append(row["wall_time"])
        for row in self._journal.rows(
            "SELECT * FROM commands WHERE run = ? AND verb = 'rollback' AND state = 'done' ORDER BY id",
            self._run,
        ):
            ledger.rollbacks.append(gone_back(row))
        return ledger

    def _bodies(self, table: str) -> Sequence[Any]:
        return self._journal.rows(f"SELECT body FROM {table} WHERE run = ?", self._run)  # noqa: S608  our own two names

    # ── what has happened ──

    def add_transition(self, step: Step, now: float) -> None:
        """Add what one judged step led to."""
        alert, at, moved = step.observation.alert, step.observation.verdict.at, step.observation.transition
        onset = moved.onset if moved else alert.onset
        self._journal.add(
            "transitions",
            run=self._run,
            attempt=step.attempt,
            key=step.observation.key,
            number=alert.number,
            before=(moved.before if moved else alert.state).value,
            after=(moved.after if moved else alert.state).value,
            step=at.step,
            run_step=at.run_step,
            wall_time=at.wall_time,
            onset_step=onset.step if onset else None,
            onset_run_step=onset.run_step if onset else None,
            onset_wall=onset.wall_time if onset else None,
            value=alert.value,
            bound=alert.limit,
            severity=step.observation.rule.severity,
            reason=moved.reason if moved else "",
            actions=to_json([action_as_json(action) for action in step.actions]),
            recorded=now,
        )

    def add_damage(self, stretch: Hurt, now: float) -> None:
        """Add a stretch of a file that could not be read."""
        self._journal.add(
            "damage",
            run=self._run,
            path=stretch.path,
            offset=stretch.offset,
            length=stretch.length,
            reason=stretch.reason,
            wall_time=now,
        )

    def add_probes(self, samples: Sequence[Sample]) -> None:
        """Add the sentinel's own measurements, and forget those that are older than PROBES_KEPT."""
        for tag, step, wall, value in samples:
            self._journal.add("probes", run=self._run, tag=tag, step=step, wall_time=wall, value=value)
        newest = samples[-1][2] if samples else self._tidied
        if not 0.0 <= newest - self._tidied < TIDY_EVERY:  # the clock may have been set back
            self._tidied = newest
            self._forget_probes(newest - PROBES_KEPT)

    def _forget_probes(self, before: float) -> None:
        self._journal.change("DELETE FROM probes WHERE run = ? AND wall_time < ?", self._run, before)

    # ── how things stand ──

    def note_run(self, row: dict[str, Any]) -> None:
        """Write the run's own row; of one that is over, no measurement has to be remembered."""
        if row["phase"] != "live" and self._saved.get("run") != row:
            self._forget_probes(math.inf)
        self._put("run", row, "runs", run=self._run, **row)

    def note_cursors(self, cursors: Iterable[Cursor]) -> None:
        """Write how far each file was read and judged."""
        for cursor in cursors:
            self._put(f"cursor/{cursor.path}", cursor, "cursors", run=self._run, **dataclasses.asdict(cursor))

    def note_states(self, table: str, states: Mapping[str, Alert | Climb]) -> None:
        """Write the alerts or the climbs that have changed."""
        for key, state in states.items():
            if state is not self._saved.get(f"{table}/{key}"):  # spares the encoding of what stands still
                body = to_json(dataclasses.asdict(state))
                self._put(f"{table}/{key}", state, table, run=self._run, key=key, body=body)

    def note_rewinds(self, rewinds: Iterable[Rewind]) -> None:
        """Write the attempts."""
        for rewind in rewinds:
            self._put(
                f"rewind/{rewind.attempt}", rewind, "rewinds", run=self._run, **dataclasses.asdict(rewind)
            )

    def note(self, name: str, value: Mapping[str, Any]) -> None:
        """Write one of the run's other facts, as JSON."""
        self._put(name, value, "meta", name=f"{name}/{self._run}", value=to_json(value))

    def _put(self, slot: str, state: object, table: str, **columns: object) -> None:
        if self._saved.get(slot) != state:
            self._saved[slot] = state
            self._journal.put(table, **columns)


def gone_back(row: Any) -> tuple[int, int]:
    """Return from where and to where a rollback went, in run steps."""
    return row["asked_step"], row["asked_step"] if row["checkpoint_step"] is None else row["checkpoint_step"]


def _as_transition(row: Any) -> Transition:
    at = Mark(row["step"], row["wall_time"], 0, row["run_step"])
    onset = None
    if row["onset_wall"] is not None:
        onset = Mark(row["onset_step"], row["onset_wall"], 0, row["onset_run_step"])
    return Transition(
        row["key"],
        AlertState(row["before"]),
        AlertState(row["after"]),
        at,
        onset,
        row["value"],
        row["bound"],
        row["reason"],
    )


def _mark(value: list[Any] | None) -> Mark | None:
    return None if value is None else Mark(*value)


def read_alert(text: str) -> Alert:
    """Read an alert back from its row."""
    body = json.loads(text)
    marks = {name: _mark(body[name]) for name in ("onset", "last", "fired", "quiet_since", "probation_since")}
    return Alert(**{**body, **marks, "state": AlertState(body["state"]), "held": Held(**body["held"])})


def read_climb(text: str) -> Climb:
    """Read a climb back from its row."""
    body = json.loads(text)
    marks = {name: _mark(body[name]) for name in ("fired", "waiting_since")}
    lists = {"uses": tuple(body["uses"]), "told": tuple(body["told"]), "asked": read_asked(body.get("asked"))}
    return Climb(**{**body, **marks, **lists})
