"""A run that is over, as little as has to be held of it.

A run takes some hundred kilobytes to judge and nothing to remember: whatever decides something later is in
the journal. So a run that has finished, or whose points were old when it was first seen, is let go of when
all of it has been judged, and taken up again from its rows, as a new process would, when its files change. A
run that an earlier process saw to its end is not even read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from notifier.message import Message
from rules.alert import AlertState
from sentinel.actuator import SETTLED
from sentinel.discover import RunFiles
from sentinel.journal import Journal
from sentinel.mail import Mail
from sentinel.registration import Registration
from sentinel.run_rows import RunRows
from sentinel.story import notice
from sentinel.watchdog_alert import RESTING, Phase, RunStanding

OVER = ("past", "finished")
"""Phases in which a run waits for nothing but a change of its files."""


@dataclass(slots=True)
class Over:
    """A run that is over.

    Attributes:
        name: of the run. folder: where it lies.
        phase: past, finished, or gone where its folder is no more.
        last_wall: wall time of its newest point; None where it has none.
        alerts: those that were not at rest at its end, by key.
        history_ends: points older than this lead to no action, should it go on; None where another process
            saw it last.
    """

    name: str
    folder: Path
    phase: Phase
    last_wall: float | None
    alerts: dict[str, AlertState] = field(default_factory=dict)
    history_ends: float | None = None

    @property
    def standing(self) -> RunStanding:
        """How it stands."""
        return RunStanding(self.name, self.phase, blind=False, alerts=self.alerts, last_wall=self.last_wall)

    def skip_time(self, journal: Journal, seconds: float) -> None:
        """Let a jump of the wall clock be no silence, as `LiveRun.skip_time`; only inside a transaction."""
        rows = RunRows(journal, self.name)
        judged = rows.fact("judged")
        rows.note("judged", {**judged, "skipped": float(judged.get("skipped", 0.0)) + seconds})
        if self.history_ends is not None:
            self.history_ends += min(seconds, 0.0)

    def vanish(self, journal: Journal, mail: Mail, now: float) -> None:
        """Note that the run's folder is gone; only inside a transaction."""
        if self.phase == "gone":
            return
        self.phase = "gone"
        mail.post(gone(self.name, self.folder, now), now)
        rows = RunRows(journal, self.name)
        row = rows.run()
        if row is not None:
            rows.note_run({**{name: row[name] for name in row.keys() if name != "run"}, "phase": "gone"})  # noqa: SIM118  a Row iterates over its values


def gone(name: str, folder: Path, now: float) -> Message:
    """The message that a run's folder is gone."""
    text = f"{folder} is not there any more"
    return notice(name, "gone", "warning", "the run's folder is gone", text, now)


def seen_to_its_end(journal: Journal, name: str, found: RunFiles) -> Over | None:
    """Return a run that an earlier process judged to its end, where nothing has changed since; else None.

    Every event file is the one that was read, and was read to its last byte; nothing waits to be judged, and
    no command has an outcome outstanding.
    """
    rows = RunRows(journal, name)
    row = rows.run()
    if row is None or row["phase"] not in OVER:
        return None
    judged = rows.fact("judged")
    if judged.get("new", True) or judged.get("open") or _asked(journal, name):
        return None
    if not _read_to_the_end(found.event_files, rows, found.path):
        return None
    if found.has_control:
        registration = Registration(found.path)
        registration.refresh()
        over = registration.finished if row["phase"] == "finished" else not registration.known
        if not over:
            return None  # somebody may train it
    alerts = {alert.key: alert.state for alert in rows.alerts() if alert.state not in RESTING}
    return Over(name, found.path, row["phase"], row["last_wall"], alerts)


def _asked(journal: Journal, name: str) -> bool:
    """Whether a command has no outcome yet."""
    marks = ", ".join("?" * len(SETTLED))
    query = f"SELECT 1 FROM commands WHERE run = ? AND state NOT IN ({marks}) LIMIT 1"  # noqa: S608  marks only
    return bool(journal.rows(query, name, *SETTLED))


def _read_to_the_end(files: Sequence[Path], rows: RunRows, folder: Path) -> bool:
    cursors = {cursor.path: cursor for cursor in rows.cursors()}
    for path in files:
        cursor = cursors.get(path.relative_to(folder).as_posix())
        try:
            found = path.stat()
        except OSError:
            return False
        if cursor is None or (cursor.inode, cursor.offset) != (found.st_ino, found.st_size):
            return False
    return True
