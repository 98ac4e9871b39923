"""The sentinel's memory: one SQLite file, one transaction a tick.

Cursor, alert, transition, command and message of a tick commit together or not at all, so a sentinel killed
anywhere finds on its return either the whole tick or none of it. Points are not kept here: the event files
are the points.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentinel.errors import StateError

_MIGRATIONS = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE runs (
        run TEXT PRIMARY KEY, path TEXT NOT NULL, attempt INTEGER NOT NULL DEFAULT 0,
        attempt_began INTEGER NOT NULL DEFAULT 0, phase TEXT NOT NULL, first_seen REAL NOT NULL,
        last_step INTEGER, last_wall REAL, trainer TEXT
    ) STRICT;
    CREATE TABLE cursors (
        run TEXT NOT NULL, path TEXT NOT NULL, source INTEGER NOT NULL, inode INTEGER NOT NULL,
        offset INTEGER NOT NULL, PRIMARY KEY (run, path)
    ) STRICT;
    CREATE TABLE alerts (run TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (run, key))
    STRICT; CREATE TABLE climbs (run TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (run,
    key)) STRICT; CREATE TABLE transitions (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, attempt INTEGER NOT NULL, key TEXT NOT NULL, number INTEGER
        NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, step INTEGER NOT NULL, run_step INTEGER NOT NULL,
        wall_time REAL NOT NULL, onset_step INTEGER, onset_run_step INTEGER, onset_wall REAL, value REAL,
        bound REAL, severity TEXT NOT NULL, reason TEXT NOT NULL, actions TEXT NOT NULL, recorded REAL NOT
        NULL
    ) STRICT;
    CREATE INDEX transitions_by_run ON transitions (run, key);
    CREATE TABLE rewinds (
        run TEXT NOT NULL, attempt INTEGER NOT NULL, to_step INTEGER NOT NULL, kept_until REAL NOT NULL,
        wall_time REAL NOT NULL, PRIMARY KEY (run, attempt)
    ) STRICT;
    CREATE TABLE commands (
        run TEXT NOT NULL, id INTEGER NOT NULL, key TEXT, rung INTEGER, thread TEXT, verb TEXT NOT NULL,
        letter TEXT NOT NULL, state TEXT NOT NULL, asked_step INTEGER, asked REAL NOT NULL, updated REAL NOT
        NULL, reason TEXT NOT NULL, step INTEGER, checkpoint TEXT, checkpoint_step INTEGER, request TEXT,
        PRIMARY KEY (run, id)
    ) STRICT;
    CREATE TABLE command_steps (
        run TEXT NOT NULL, id INTEGER NOT NULL, wall_time REAL NOT NULL, what TEXT NOT NULL
    ) STRICT;
    CREATE TABLE probes (run TEXT NOT NULL, tag TEXT NOT NULL, step INTEGER NOT NULL, wall_time REAL NOT NULL,
        value REAL NOT NULL) STRICT;
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, channel TEXT NOT NULL, thread TEXT NOT NULL, body TEXT NOT
        NULL, state TEXT NOT NULL, ref TEXT, attempts INTEGER NOT NULL DEFAULT 0, queued REAL NOT NULL,
        settled REAL, reason TEXT, UNIQUE (key, channel)
    ) STRICT;
    CREATE INDEX messages_by_state ON messages (state);
    CREATE INDEX messages_by_thread ON messages (channel, thread);
    CREATE TABLE damage (
        run TEXT NOT NULL, path TEXT NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL, reason TEXT
        NOT NULL, wall_time REAL NOT NULL
    ) STRICT;
    CREATE TABLE requests (name TEXT PRIMARY KEY, wall_time REAL NOT NULL, outcome TEXT NOT NULL) STRICT;
    """,
    """
    ALTER TABLE commands ADD COLUMN carrier TEXT NOT NULL DEFAULT 'letter';
    CREATE TABLE lives (
        id INTEGER PRIMARY KEY, job INTEGER NOT NULL, cause TEXT NOT NULL, state TEXT NOT NULL, command TEXT
        NOT NULL, folder TEXT NOT NULL, due REAL NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', process
        TEXT, began REAL, ended REAL, code INTEGER, furthest INTEGER, runs TEXT NOT NULL DEFAULT '[]', run
        TEXT, checkpoint TEXT, step INTEGER, overrides TEXT NOT NULL DEFAULT '{}', request INTEGER, "after"
        TEXT NOT NULL DEFAULT ''
    ) STRICT;
    """,
    "CREATE INDEX probes_by_run ON probes (run, wall_time);",
    """
    ALTER TABLE requests ADD COLUMN state TEXT NOT NULL DEFAULT 'refused';
    UPDATE requests SET state = 'taken' WHERE outcome = 'taken';
    CREATE TABLE silences (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, rule TEXT NOT NULL, began REAL NOT NULL, ends REAL NOT
        NULL, who TEXT NOT NULL, why TEXT NOT NULL, actions INTEGER NOT NULL, expired_by TEXT
    ) STRICT;
    CREATE TABLE acks (
        run TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, wall_time REAL NOT NULL, who TEXT NOT
        NULL, why TEXT NOT NULL, PRIMARY KEY (run, key, number)
    ) STRICT;
    """,
    """
    CREATE TABLE stories (
        channel TEXT NOT NULL, thread TEXT NOT NULL, grp TEXT NOT NULL, run TEXT NOT NULL, rule TEXT NOT NULL,
        kind TEXT NOT NULL, severity TEXT NOT NULL, state TEXT NOT NULL, due REAL NOT NULL, top TEXT NOT NULL
        DEFAULT '', told REAL, ended REAL, PRIMARY KEY (channel, thread)
    ) STRICT;
    CREATE INDEX stories_by_state ON stories (state, channel);
    CREATE INDEX stories_by_time ON stories (channel, told);
    ALTER TABLE messages ADD COLUMN why TEXT NOT NULL DEFAULT '';
    ALTER TABLE messages ADD COLUMN severity TEXT NOT NULL DEFAULT '';
    ALTER TABLE messages ADD COLUMN counted REAL;
    CREATE INDEX messages_counted ON messages (channel, counted);
    """,
    """
    CREATE TABLE questions (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, rung INTEGER
        NOT NULL, thread TEXT NOT NULL, verb TEXT NOT NULL, what TEXT NOT NULL, asked REAL NOT NULL, deadline
        REAL NOT NULL, unanswered TEXT NOT NULL, token TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'open', told
        TEXT, answered_by TEXT, answered_at REAL, why TEXT
    ) STRICT;
    CREATE INDEX questions_by_state ON questions (state, run);
    CREATE TABLE answers (
        id INTEGER PRIMARY KEY, question INTEGER NOT NULL, wall_time REAL NOT NULL, choice TEXT NOT NULL, who
        TEXT NOT NULL, why TEXT NOT NULL, outcome TEXT NOT NULL
    ) STRICT;
    """,
    """
    CREATE INDEX stories_by_top ON stories (channel, top);
    CREATE INDEX stories_by_group ON stories (channel, grp, state);
    """,
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far one event file has been read and judged. `offset` is a record boundary, in bytes."""

    path: str
    source: int
    inode: int
    offset: int


class Journal:
    """The state database; one connection, written by the main thread alone."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or create the database and bring its schema up to date.

        Args:
            path: the file, or `:memory:` as a Path for a replay that remembers nothing.
            read_only: for `status` and other readers beside a running sentinel.

        Raises:
            StateError: it cannot be opened, is damaged, or was written by a newer version.
        """
        self.path = path
        try:
            if read_only:
                self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
            else:
                self._connection = sqlite3.connect(path, isolation_level=None, timeout=5)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.row_factory = sqlite3.Row
            version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(_MIGRATIONS):
                raise StateError(
                    f"{path}: written by a newer sentinel (schema {version}, "
                    f"this one knows {len(_MIGRATIONS)}); "
                    "left as it is. Upgrade this sentinel, or give it a state of its own with --state."
                )
            if not read_only:
                self._migrate(version)
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _migrate(self, version: int) -> None:
        for number, script in enumerate(_MIGRATIONS[version:], start=version + 1):
            self._connection.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")

    def _error(self, error: sqlite3.Error) -> StateError:
        return StateError(
            f"{self.path}: {error}. "
            "A sentinel that cannot remember may not act; training goes on. "
            "Free space or repair the folder, or use another one with --state."
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything inside together, or nothing of it.

        Raises:
            StateError: the disk is full, the file is damaged or locked by a stranger.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._connection.in_transaction:  # SQLite itself has rolled back where the disk is full
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise self._error(error) from error

    def close(self) -> None:
        """Close the connection; a crash does the same."""
        self._connection.close()

    def put(self, table: str, **values: object) -> None:
        """Insert a row, or replace the one with its key."""
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        self._connection.execute(
            f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})",  # noqa: S608  names are our own
            _storable(values.values()),
        )

    def add(self, table: str, **values: object) -> int:
        """Insert a row unless its key is there already; returns the row id, 0 if it was there."""
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        cursor = self._connection.execute(
            f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})",  # noqa: S608  as above
            _storable(values.values()),
        )
        return (cursor.lastrowid or 0) if cursor.rowcount else 0

    def rows(self, query: str, *arguments: object) -> list[sqlite3.Row]:
        """Read rows.

        Raises:
            StateError: the file is damaged or gone.
        """
        try:
            return self._connection.execute(query, _storable(arguments)).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error

    def change(self, statement: str, *arguments: object) -> None:
        """Update or delete rows; only inside a transaction."""
        self._connection.execute(statement, _storable(arguments))

    def cursors(self, run: str) -> dict[str, Cursor]:
        """Return the read positions of a run's event files, by path."""
        found = self.rows("SELECT path, source, inode, offset FROM cursors WHERE run = ?", run)
        return {row["path"]: Cursor(row["path"], row["source"], row["inode"], row["offset"]) for row in found}

    def next_command_id(self, run: str, highest_on_disk: int) -> int:
        """Return an id that neither this journal nor the run's control folder has seen.

        The folder counts too: where a state was deleted, old receipts must not answer for new commands.
        """
        known = self.rows("SELECT max(id) AS id FROM commands WHERE run = ?", run)[0]["id"] or 0
        return int(max(known, highest_on_disk)) + 1


def _storable(values: Iterable[object]) -> tuple[object, ...]:
    """Write halves of surrogate pairs as text: JSON and file names may hold them, and SQLite refuses them."""
    return tuple(
        value.encode("utf-8", "backslashreplace").decode()
        if isinstance(value, str) and not value.isascii()
        else value
        for value in values
    )


def to_json(value: Mapping[str, Any] | list[Any]) -> str:
    """Encode a column's value; keys sorted, so that equal values are equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
