"""The journal's disk: real SQLite on a real file, that can be full; at its n-th touch the sentinel dies.

A killed sentinel leaves its write-ahead log behind, which closing a connection would have folded in; so what
was on disk at the moment of death is copied and put back.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

CHANGES = re.compile(r"\s*(BEGIN|COMMIT|INSERT|UPDATE|DELETE)", re.IGNORECASE)
connect = sqlite3.connect


class Killed(BaseException):
    """SIGKILL: nothing in the sentinel may catch it and do anything more."""


class Disk:
    """What the sentinel's statements go through.

    Attributes:
        full: no statement that changes anything succeeds. fuse: touches until the kill; None for none.
        dead: the process was killed, and does nothing any more. touches: how many there were.
    """

    def __init__(self) -> None:
        self.full = False
        self.fuse: int | None = None
        self.dead = False
        self.touches = 0
        self._open: weakref.WeakSet[Connection] = weakref.WeakSet()

    def touch(self) -> None:
        """Count, and perhaps die."""
        if self.dead:
            raise Killed
        self.touches += 1
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.dead = True
                raise Killed

    def statement(self, text: str) -> None:
        """A statement is about to be carried out."""
        if self.dead:
            raise Killed
        if CHANGES.match(text):
            self.touch()
            if self.full and not text.lstrip().upper().startswith("BEGIN"):
                raise sqlite3.OperationalError("database or disk is full")

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the journal be opened through this disk."""

        def opened(*arguments: Any, **options: Any) -> sqlite3.Connection:
            found = connect(*arguments, factory=Connection, **options)
            assert isinstance(found, Connection)
            found.disk = self
            self._open.add(found)
            return found

        with mock.patch.object(sqlite3, "connect", opened):
            yield

    def lose_power(self, journal: Path) -> None:
        """Let the process be gone: every connection is dropped, and the files are as they were."""
        kept = []
        for suffix in ("", "-wal"):
            path = journal.with_name(journal.name + suffix)
            if path.exists():
                shutil.copy(path, path.with_name(f".kept{suffix}"))
                kept.append((path.with_name(f".kept{suffix}"), path))
        for connection in list(self._open):
            connection.close()
        journal.with_name(journal.name + "-shm").unlink(missing_ok=True)
        journal.with_name(journal.name + "-wal").unlink(missing_ok=True)
        for copy, path in kept:
            copy.replace(path)
        self.dead, self.fuse = False, None


class Connection(sqlite3.Connection):
    """A connection that asks the disk first."""

    disk: Disk | None = None

    def execute(self, sql: str, /, *arguments: Any) -> sqlite3.Cursor:
        """Carry out a statement, unless the disk is full or the process dead."""
        if self.disk is not None:
            self.disk.statement(sql)
        return super().execute(sql, *arguments)
