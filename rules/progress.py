"""How far a run had come at what time: the greatest step of any series, against wall time.

Series have axes of their own (episodes, updates), so a place on one of them is carried to the trainer's own
step by wall time. A long run is thinned; what is left then errs towards the earlier step, the safe side of
a rollback.
"""

from __future__ import annotations

MOST_KEPT = 20_000


class Progress:
    """The run step as a function of wall time, and back.

    Attributes:
        advances: (run step, wall time of its first point, wall time of the last point before it), oldest
            first.
            The evaluator appends; `thin` is to be called once there are more than MOST_KEPT.
    """

    __slots__ = ("advances",)

    def __init__(self) -> None:
        self.advances: list[tuple[int, float, float]] = []

    def step_at(self, wall: float) -> int:
        """The greatest run step logged at or before a wall time; 0 if none."""
        # From the end, since it is asked of the recent past, and clocks may go back between two writers.
        return next((step for step, first, _ in reversed(self.advances) if first <= wall), 0)

    def wall_at(self, step: int) -> float | None:
        """The last wall time at which the run step was at most `step`; None while it is, or if it never
        was.
        """
        before = None
        for at, _, last in reversed(self.advances):
            if at <= step:
                return before
            before = last
        return None

    def thin(self) -> None:
        """Forget every other entry; the next one answers for the gap with the earlier time."""
        kept = self.advances
        self.advances = [
            (step, first, kept[index - 1][2] if index and index % 2 == 0 else before)
            for index, (step, first, before) in enumerate(kept)
        ][::2]
