"""The signals to a sentinel that has no child: SIGINT and SIGTERM end it, SIGHUP lets it read its rules anew.

A handler only sets a flag and wakes the loop; everything else happens between two ticks.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType


class Stop:
    """What was asked for by signal, while used as a context manager."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._stopped = False
        self._reload = False
        self._had_terminal = _has_terminal()
        self._before: dict[signal.Signals, object] = {}

    def poll(self) -> int | None:
        """Return 0 once the end was asked for."""
        return 0 if self._stopped else None

    def take_reload(self) -> bool:
        """Say once that the rules are to be read anew."""
        asked, self._reload = self._reload, False
        return asked

    def __enter__(self) -> Stop:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]  # what signal.signal gave us

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        if signum == signal.SIGHUP and not (self._had_terminal and not _has_terminal()):
            self._reload = True
        else:  # a SIGHUP of a terminal that was closed is an end
            self._stopped = True
        self._wake()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
