"""The only place that asks what time it is.

Three clocks, never mixed: points carry event time, deadlines are measured on the monotonic clock, people read
the wall clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

STANDSTILL = 5.0
"""Seconds by which a wait may exceed what was meant, and the wall clock the time that has passed; what goes
beyond is a machine that stood still, or a clock that was set.
"""


class Clock(Protocol):
    """Time, passed in so that a test can own it."""

    def wall(self) -> float:
        """Return seconds since the epoch; may jump."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary origin; never goes back."""

    def rest(self, seconds: float) -> None:
        """Let `seconds` pass."""


class SystemClock:
    """The machine's clocks."""

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since boot."""
        return time.monotonic()

    def rest(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)


class AwakeClock:
    """A clock whose monotonic time stands still while the machine, or this process alone, did.

    Deadlines count how long somebody had to answer. A suspended laptop, a frozen container or a SIGSTOP takes
    that time from the trainer or from us, so a patience must not run out by it.
    """

    def __init__(self, clock: Clock, busy: Callable[[], float] = time.thread_time) -> None:
        """Begin.

        Args:
            clock: the machine's.
            busy: seconds of work that the calling thread has done: what goes by in its work and is neither
                work nor a wait on purpose is a standstill too.
        """
        self._clock = clock
        self._busy = busy
        self._asleep = 0.0
        self._worker = 0
        self._seen = (0.0, 0.0)

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return self._clock.wall()

    def monotonic(self) -> float:
        """Return seconds from an arbitrary origin, without those that were slept away."""
        if self._worker == threading.get_ident():
            self._notice()
        return self._clock.monotonic() - self._asleep

    def rest(self, seconds: float) -> None:
        """Sleep, and no longer than was meant."""
        self.wait(self._clock.rest, seconds)

    def wait(self, waiting: Callable[[float], object], seconds: float) -> None:
        """Wait on purpose, for at most `seconds`; a wait that took much longer was no wait but a standstill.

        Args:
            waiting: waits for the seconds it is given, or less.
            seconds: for how long.
        """
        before = self._clock.monotonic()
        waiting(seconds)
        too_long = self._clock.monotonic() - before - seconds
        if too_long > STANDSTILL:
            self._asleep += too_long

    def work(self, task: Callable[[], object]) -> None:
        """Do something that does not wait on purpose; a standstill in the middle of it is noticed at the next
        look at this clock, and at its end.

        A file system that keeps us waiting for long counts as well: nobody's silence is judged by a time in
        which nobody looked.
        """
        self._seen = (self._clock.monotonic(), self._busy())
        self._worker = threading.get_ident()
        try:
            task()
        finally:
            self._notice()
            self._worker = 0

    def _notice(self) -> None:
        (then, busy_then), self._seen = self._seen, (self._clock.monotonic(), self._busy())
        idle = (self._seen[0] - then) - (self._seen[1] - busy_then)
        if idle > STANDSTILL:
            self._asleep += idle
