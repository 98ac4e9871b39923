"""Requests from outside: the command line drops a file, the sentinel's next tick turns it into rows.

Only the sentinel writes its journal, so whoever wants something of it asks. A request is a file that appears
whole by rename; it is removed once the transaction that answers it has been committed, and its name keeps it
from being done twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from contextlib import closing
from pathlib import Path
from typing import TextIO

from notifier.format import neutral
from sentinel.actuator import SETTLED
from sentinel.clock import Clock
from sentinel.errors import CommandError, StateError
from sentinel.journal import Journal
from sentinel.lock import is_held
from sentinel.requests import Ack, Answer, Command, Expire, Request, Silence, from_body, to_body
from sentinel.state import INBOX, JOURNAL, state_folder

__all__ = ["Ack", "Answer", "Command", "Expire", "Request", "Silence", "ask", "drop", "pending", "remove"]

_LARGEST = 1 << 20
"""Bytes; no honest request is longer."""


def drop(request: Request, folder: Path) -> str:
    """Put a request into a state folder's inbox; returns its name.

    Raises:
        StateError: the folder cannot be written.
    """
    inbox = folder / INBOX
    name = f"{secrets.token_hex(8)}.json"
    try:
        inbox.mkdir(mode=0o700, exist_ok=True)
        temporary = inbox / f".{name}"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(to_body(request), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(inbox / name)
    except OSError as error:
        raise StateError(f"{inbox}: {error.strerror}; the request was not made") from error
    return name


def pending(folder: Path) -> list[tuple[str, Request | str]]:
    """Read the requests that wait in an inbox, oldest first; one that cannot be read comes as the reason, in
    words.
    """
    inbox = folder / INBOX
    try:
        paths = sorted(
            (p for p in inbox.iterdir() if p.suffix == ".json" and not p.name.startswith(".")), key=_age
        )
    except OSError:
        return []
    return [(path.name, _read(path)) for path in paths]


def remove(folder: Path, name: str) -> None:
    """Take away a request that has been answered; one that cannot be is known by its name and not answered
    again.
    """
    with contextlib.suppress(OSError):
        (folder / INBOX / name).unlink()


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read(path: Path) -> Request | str:
    try:
        if path.stat().st_size > _LARGEST:
            return f"the request cannot be read: it is longer than {_LARGEST} bytes"
        return from_body(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        return f"the request cannot be read: {type(error).__name__}: {error}"


def ask(
    request: Request, logdir: Path, chosen: Path | None, wait_seconds: float, clock: Clock, out: TextIO
) -> int:
    """Make a request and wait for its outcome.

    Returns:
        0 when it was done, 1 when it was refused, failed or not answered in time.

    Raises:
        CommandError: no sentinel runs on this state.
    """
    folder = state_folder(logdir, chosen)
    if not is_held(folder):
        raise CommandError(
            f"no sentinel watches {logdir} (state {folder}); nothing was asked. "
            f"Start one with: sentinel run {logdir}"
        )
    name = drop(request, folder)
    with closing(Journal(folder / JOURNAL, read_only=True)) as journal:
        deadline = clock.monotonic() + wait_seconds
        while clock.monotonic() < deadline:
            answer = _answer(journal, name)
            if answer is not None:
                state, text = answer
                print(neutral(text), file=out)
                return 0 if state == "done" else 1
            clock.rest(0.1)
    waited = f"no outcome after {wait_seconds:g} s; the request stands"
    print(neutral(f"{waited}. See: sentinel status --logdir {logdir}"), file=out)
    return 1


def _answer(journal: Journal, name: str) -> tuple[str, str] | None:
    settled = journal.rows("SELECT state, outcome FROM requests WHERE name = ? AND state != 'taken'", name)
    if settled:
        return settled[0]["state"], settled[0]["outcome"]
    rows = journal.rows("SELECT * FROM commands WHERE request = ?", name)
    if not rows or rows[0]["state"] not in SETTLED:
        return None
    row = rows[0]
    where = f" at step {row['step']}" if row["step"] is not None else ""
    checkpoint = (
        f", checkpoint {row['checkpoint']} (step {row['checkpoint_step']})" if row["checkpoint"] else ""
    )
    reason = f": {row['reason']}" if row["state"] != "done" and row["reason"] else ""
    return row[
        "state"
    ], f"{row['run']}: command {row['id']} {row['verb']} {row['state']}{where}{checkpoint}{reason}"
