"""Starts of a supervised job: meant in the journal, claimed on disk, made once.

The one fact to hold: a row says that a start is meant, a claim (`sentinel.launch`) that it was made. A
sentinel that was killed between the two leaves a row without a claim; the next one forbids that start and
means another.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from sentinel import job_words as words
from sentinel.job_commands import JobCommands
from sentinel.journal import Journal
from sentinel.launch import claim
from sentinel.lives import LifeRow, Lives
from sentinel.mail import Mail
from sentinel.members import identify
from sentinel.process import Process, from_record
from sentinel.supervise import Processes


class JobStarts:
    """The starts of one state folder's jobs. Everything but `make` is called inside a transaction."""

    def __init__(
        self, journal: Journal, mail: Mail, state: Path, processes: Processes, commands: JobCommands
    ) -> None:
        self._journal = journal
        self._mail = mail
        self._claims = state / "starts"
        self._processes = processes
        self._commands = commands
        self._rows = Lives(journal)
        self._mine: set[int] = set()  # starts that were meant by this object: no other process makes them

    def mark(self, life: LifeRow) -> str:
        """What every process of this life carries among its variables."""
        return f"{self._token}.{life.id}"

    def begin_job(self, command: Sequence[str], folder: Path) -> None:
        """Mean to start the first life of a new job."""
        if not self._token:
            self._journal.put("meta", name="job/token", value=secrets.token_hex(8))
            del self._token
        job = self._rows.last_job() + 1
        self._mine.add(self._rows.add(job, "start", "intended", command, folder, reason="the command line"))

    def mean(self, life: LifeRow) -> None:
        """Mean to start a life whose row is there already."""
        self._rows.change(life.id, state="intended")
        self._mine.add(life.id)

    def make(self, life: LifeRow) -> None:
        """Start it, if this process is the one to; a process that cannot be made is tried again."""
        if life.state != "intended" or life.id not in self._mine:
            return
        self._mine.discard(life.id)
        mark = self.mark(life)
        try:
            pid = self._processes.start(life.command, claim=self._claim(life), mark=mark, folder=life.folder)
        except OSError:
            self._mine.add(life.id)  # no process could be made: tried again by the next tick
            return
        self._processes.started[life.id] = pid
        self._processes.current, self._processes.mark = identify(pid), mark

    def find(self, life: LifeRow, now: float) -> bool:
        """Learn what became of a start that was meant; returns whether it runs now."""
        path = self._claim(life)
        pid = self._processes.started.get(life.id)
        found = _read_claim(path)
        if found is None and life.id in self._mine:
            return False
        if found is None and pid is not None:
            if pid in self._processes.exits:
                self._rows.change(life.id, state="ended", ended=now, code=self._processes.exits[pid])
                self._commands.settle_request(life, "failed", "the resume command could not be started", now)
            return False
        if found is None:  # recorded by a sentinel that was killed before it could start it
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not claim(path, {"void": True}):
                return False  # started after all: the next look finds by whom
            self._rows.change(life.id, state="void")
            self._mine.add(
                self._rows.add(
                    life.job,
                    life.cause,
                    "intended",
                    life.command,
                    life.folder,
                    reason=life.reason,
                    overrides=life.overrides,
                    run=life.run,
                    checkpoint=life.checkpoint,
                    step=life.step,
                    request=life.request,
                )
            )
            return False
        self._rows.change(life.id, state="running", process=found, began=now)
        self._processes.current, self._processes.mark = found, self.mark(life)
        if life.request is not None:
            self._commands.settle_request(life, "done", "", now)
        if life.cause != "start":
            self._mail.post(words.started(life, found, now), now)
        return True

    def wait(self, life: LifeRow, now: float) -> None:
        """Mean to start it once its time has come, unless the end was asked for."""
        if self._processes.asked_to_stop is not None:
            self._rows.change(life.id, state="void", reason="the end was asked for while it waited")
        elif now >= life.due:
            self.mean(life)

    def _claim(self, life: LifeRow) -> Path:
        return self._claims / f"{life.id:06d}.json"

    @cached_property
    def _token(self) -> str:
        """Tells this state's jobs from those of others; made with the first job."""
        rows = self._journal.rows("SELECT value FROM meta WHERE name = 'job/token'")
        return str(rows[0]["value"]) if rows else ""


def _read_claim(path: Path) -> Process | None:
    """The process that made a claim; None where there is none, or it forbids the start."""
    try:
        return from_record(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None
