"""How far a run had come at what time: the greatest step of any series, against wall time.

Series have axes of their own (episodes, updates), so a place on one of them is carried to the trainer's own
step by wall time. A long run is thinned; what is left then errs towards the earlier step, the safe side of
a rollback.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

MOST_KEPT = 200_000


class Progress:
    """The run step as a function of wall time, and back.

    Each entry is a run step, the wall time of its first point, and that of the last point before it.
    """

    __slots__ = ("_before", "_first", "_steps")

    def __init__(self) -> None:
        self._steps = array("q")
        self._first = array("d")
        self._before = array("d")

    def advance(self, step: int, wall: float, before: float) -> None:
        """The run has come to `step`, with a point at `wall`; the point before that was at `before`."""
        self._steps.append(step)
        self._first.append(wall)
        self._before.append(before)
        if len(self._steps) > MOST_KEPT:
            self._thin()

    def step_at(self, wall: float) -> int:
        """The greatest run step logged at or before a wall time; 0 if none."""
        # Clocks may go back between two writers, so walls are nearly sorted and the last entry at or before
        # counts.
        index = bisect_right(self._first, wall)
        while index < len(self._first) and self._first[index] <= wall:
            index += 1
        return self._steps[index - 1] if index else 0

    def wall_at(self, step: int) -> float | None:
        """The last wall time at which the run step was at most `step`; None while it still is, or if it
        never was.
        """
        index = bisect_right(self._steps, step)
        if index == len(self._steps) or index == 0:
            return None
        return self._before[index]

    def _thin(self) -> None:
        """Forget every other entry; the next one answers for the gap with the earlier time."""
        for index in range(2, len(self._steps), 2):
            self._before[index] = self._before[index - 1]
        self._steps = self._steps[::2]
        self._first = self._first[::2]
        self._before = self._before[::2]
