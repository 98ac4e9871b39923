"""A channel of one's own in one file: every message is a line of JSON at the end of a file.

Installed beside the sentinel (`pip install ./examples/notifier`), it is found by its kind:

    [notify.archive]
    kind = "team_log"
    path = "/var/log/training.jsonl"

The keys of the table are the arguments of the class. What can fail is told apart: a full disk may have room
later (Transient), a folder that is not there will not come by itself (Permanent).
"""

from __future__ import annotations

import errno
import json
from pathlib import Path

from notifier.base import DeliveryError, Permanent, Transient
from notifier.message import Message
from notifier.webhook import body_of

MAY_PASS = {errno.ENOSPC, errno.EDQUOT, errno.EINTR, errno.EAGAIN, errno.EIO}


class TeamLog:
    """Appends each message to a file. Called from one thread; one attempt a call, no waiting."""

    def __init__(self, *, path: str) -> None:
        """Take the file's path; nothing is written.

        Raises:
            ValueError: it is not absolute; what it says is told when the sentinel starts.
        """
        self._path = Path(path)
        if not self._path.is_absolute():
            raise ValueError("path must be absolute: a sentinel started elsewhere would write elsewhere")

    def __repr__(self) -> str:
        return f"TeamLog({str(self._path)!r})"

    def send(self, message: Message, thread_ref: str | None) -> str:  # noqa: ARG002  a file has no threads
        """Append a message; see notifier.base.Notifier."""
        line = json.dumps(body_of(message), ensure_ascii=False)
        error = self._append(line + "\n")
        if error is not None:
            raise error
        return message.key

    def edit(self, first_ref: str, message: Message) -> None:
        """Do nothing: what is written stays, and the message that changed it has a line of its own."""

    def _append(self, line: str) -> DeliveryError | None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            words = f"team_log: {error.strerror}"
            passing = error.errno in MAY_PASS
            return Transient(words) if passing else Permanent(words, channel_dead=True)
        return None
