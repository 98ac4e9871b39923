"""What a simulator that may fail has cost: faults, restarts, the time it was away, and when it is given up.

The one fact to hold: a fault of the simulator is no experience. The loop leaves its transition out and begins
another episode; here it is counted, so that a rule can see what the policy never will.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

SAY_EVERY = 10.0
"""s between two lines, and two points, about a simulator that is away."""


class Simulator:
    """The account of one simulator in one process.

    Args:
        patience: s without a single step after which it is given up. say: where lines for people go.
        now: the monotonic clock.
    """

    def __init__(
        self, patience: float, say: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self.faults = 0
        self.restarts = 0
        self._patience, self._say, self._now = patience, say, now
        self._away_since: float | None = None
        self._said_at = 0.0
        self._began = False
        self._steps, self._seconds = 0, 0.0

    @property
    def away(self) -> float:
        """Seconds since it last made a step, while none is to be had; else 0."""
        return 0.0 if self._away_since is None else self._now() - self._away_since

    @property
    def given_up(self) -> bool:
        """Whether patience has run out."""
        return self.away > self._patience

    def stepped(self, seconds: float) -> None:
        """It made a step, which took so long: it is there."""
        self._steps += 1
        self._seconds += seconds
        self._away_since = None

    def failed(self, reason: str) -> None:
        """It failed under a step or at the start of an episode."""
        self.faults += 1
        self._begin_waiting()
        self._say(f"the simulator failed: {reason}; its transition is left out and its episode cut short")

    def waits(self, trouble: str) -> bool:
        """It is not there yet; True when that has just been said and should be logged."""
        self._begin_waiting()
        if self._now() - self._said_at < SAY_EVERY:
            return False
        self._said_at = self._now()
        self._say(
            f"waiting for the simulator for {self.away:.0f} s, {self._patience:.0f} s at the most "
            f"(--carla-patience): {trouble}"
        )
        return True

    def is_back(self) -> None:
        """An episode has begun. After a time away that is a restart, but for the first start of all."""
        self.restarts += self._began and self._away_since is not None
        self._began = True

    def gives_up(self, trouble: str) -> None:
        """Say that patience has run out."""
        self._say(
            f"the simulator stayed away for {self.away:.0f} s and is given up: {trouble}. Start it, and go "
            "on with --resume latest"
        )

    def scalars(self) -> dict[str, float]:
        """Counts since this process began, the mean step since the last call (none without a step)."""
        scalars: dict[str, float] = {
            "simulator/faults": self.faults,
            "simulator/restarts": self.restarts,
            "simulator/away_seconds": self.away,
        }
        if self._steps:
            scalars["simulator/step_seconds"] = self._seconds / self._steps
        self._steps, self._seconds = 0, 0.0
        return scalars

    def _begin_waiting(self) -> None:
        if self._away_since is None:
            self._away_since = self._now()
            self._said_at = (
                self._now() - SAY_EVERY + 2.0
            )  # a start of less than two seconds is not worth a line


def together(accounts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """One account of the simulators of all ranks: what is counted adds up, of what is timed the longest."""
    tags = dict.fromkeys(tag for account in accounts for tag in account)
    found: dict[str, float] = {}
    for tag in tags:
        values = [account[tag] for account in accounts if tag in account]
        found[tag] = max(values) if tag.endswith("_seconds") else sum(values)
    return found
