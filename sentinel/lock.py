"""One sentinel per state folder.

The kernel releases a `flock` when its holder dies, however it dies, so a lock is never stale and nobody has
to judge whether a pid file tells the truth.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from sentinel.errors import StateError


class StateLock:
    """Exclusive hold on a state folder for as long as this object lives."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            StateError: another sentinel holds it, or the folder cannot be written.
        """
        path = folder / "lock"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(
                f"{path}: cannot be opened ({error.strerror}); a sentinel that cannot remember may not act. "
                "Choose another folder with --state."
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 64).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise StateError(
                f"{folder}: another sentinel (pid {holder or 'unknown'}) works on this state; "
                "this one did nothing. "
                "Stop that one, or give this one a state of its own with --state."
            ) from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same, it only has no name
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let go; the kernel does the same when the process ends."""
        os.close(self._descriptor)


def is_held(folder: Path) -> bool:
    """Say whether a sentinel holds this state folder now, without taking it."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who ask are no sentinel
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
