"""How far the clock of a trainer on another host is ahead of ours, as its heartbeats tell.

What a run logs bears its trainer's time, and how old a point is can only be said by that clock. Two processes
of one boot share it; of two hosts nobody knows. A heartbeat is read some time after it was written, never
before: the latest by its own account is the best witness.
"""

from __future__ import annotations

from collections import deque

AGREES = 10.0
"""Seconds by which two clocks may differ, or seem to, without any consequence."""

PATIENCE = 30.0
"""Seconds for which a second heartbeat is waited for before a clock is taken for ours."""

_WITNESSES = 16


class FarClock:
    """One trainer's clock; all times in seconds, wall times since the epoch."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._since = 0.0
        self._offsets: deque[float] = deque(maxlen=_WITNESSES)

    @property
    def known(self) -> bool:
        """Whether there is another clock at all."""
        return bool(self._offsets)

    def hear(self, beat: float | None, monotonic: float) -> None:
        """Take a heartbeat's wall time. The first that is found may be of any age and tells nothing."""
        if beat is None or beat == self._last:
            return
        if self._last is None:
            self._since = monotonic
        else:
            self._offsets.append(beat - monotonic)
        self._last = beat

    def is_awaited(self, monotonic: float) -> bool:
        """Whether nothing is known of it yet, and soon will be."""
        return self._last is not None and not self.known and monotonic - self._since < PATIENCE

    def forget(self) -> None:
        """Somebody else trains from now on."""
        self._last = None
        self._offsets.clear()

    def ahead(self, wall: float, monotonic: float) -> float:
        """Return the seconds by which it is ahead of ours (negative: behind); 0 where they agree.

        Our own clock may be set meanwhile: `wall` and `monotonic` are of one moment.
        """
        if not self._offsets:
            return 0.0
        found = max(self._offsets) + monotonic - wall
        return found if abs(found) > AGREES else 0.0
