"""A round over many things that is done bit by bit: each is come by once in so many seconds, and no moment
has more to do than its share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Protocol

ROUND_SECONDS = 10.0
"""Seconds in which a slow round comes by everything once."""


class _Names(Sized, Iterable[str], Protocol):
    pass


class Round:
    """Hands out, call by call, as many names as the time since the last call is worth."""

    def __init__(self, seconds: float = ROUND_SECONDS) -> None:
        self._seconds = seconds
        self._left: list[str] = []
        self._owed = 0.0
        self._last: float | None = None

    def part(self, names: _Names, monotonic: float) -> list[str]:
        """Return the next names; one that has gone since the round began may be among them.

        Args:
            names: all of them, now. monotonic: seconds from any origin.
        """
        if self._last is not None:
            self._owed += len(names) * min(monotonic - self._last, self._seconds) / self._seconds
        self._last = monotonic
        found: list[str] = []
        while self._owed >= 1.0 and len(names):
            if not self._left:
                self._left = list(names)
            found.append(self._left.pop())
            self._owed -= 1.0
        return found
