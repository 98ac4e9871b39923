"""What sensors send, matched with the tick that it belongs to.

The one fact to hold: only frame numbers tell the truth. A sensor's message may come after its tick has been
answered, not at all, or be one of an episode long gone; so a value is asked for by its frame number, waited
for, and never replaced by another's. Sensors call `put` on threads of their own.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

from trainer.driving.world import SimulatorFaultError


class Arrivals:
    """One value a frame.

    Args:
        what: it is, for messages. now: the monotonic clock.
    """

    def __init__(self, what: str, now: Callable[[], float] = time.monotonic) -> None:
        self.late = 0
        """How often a value had not come yet when it was asked for."""
        self._what, self._now = what, now
        self._queue: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()

    def put(self, frame: int, value: object) -> None:
        """Store the value of a frame."""
        self._queue.put((frame, value))

    def take(self, frame: int, within: float) -> Any:
        """Return the value of a frame; those of earlier ones are thrown away.

        Raises:
            SimulatorFaultError: it does not come within so many s, or a later one has come instead.
        """
        until, late = self._now() + within, False
        while True:
            try:
                number, value = self._queue.get_nowait()
            except queue.Empty:
                self.late += not late
                late = True
                try:
                    number, value = self._queue.get(timeout=max(until - self._now(), 0.0))
                except queue.Empty:
                    raise SimulatorFaultError(
                        f"no {self._what} of frame {frame} within {within:g} s"
                    ) from None
            if number == frame:
                return value
            if number > frame:
                raise SimulatorFaultError(f"the {self._what} of frame {frame} is lost; that of {number} came")


class Events:
    """Things that happen in some frames: a collision, a marking that was crossed."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[int] = queue.SimpleQueue()

    def put(self, frame: int) -> None:
        """Note that it happened in a frame."""
        self._queue.put(frame)

    def since(self, frame: int) -> bool:
        """Return whether it happened after `frame`, and forget all that has come so far.

        What comes after its tick was answered counts in the next one; nothing tells that none will come.
        """
        happened = False
        while True:
            try:
                happened |= self._queue.get_nowait() > frame
            except queue.Empty:
                return happened
