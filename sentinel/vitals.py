"""What the loop knows of itself, for those who measure it: written by the main thread, read by another.

Each field is replaced as a whole, so a reader sees an old or a new value and never half of one; no lock is
held, so no reader delays a tick.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the seconds that a tick takes; the last bucket has none."""


@dataclass(frozen=True, slots=True)
class Ticks:
    """How long ticks took. `counts` has one entry for each of BUCKETS and one for what is beyond them."""

    counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    seconds: float = 0.0

    def and_one(self, seconds: float) -> Ticks:
        """Return these and one that took so long."""
        at = bisect_left(BUCKETS, seconds)
        counts = (*self.counts[:at], self.counts[at] + 1, *self.counts[at + 1 :])
        return Ticks(counts, self.seconds + seconds)

    @property
    def cumulative(self) -> list[tuple[str, float]]:
        """Return the buckets as Prometheus wants them: (upper bound, how many took at most so long)."""
        bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
        return [(bound, float(sum(self.counts[: at + 1]))) for at, bound in enumerate(bounds)]


@dataclass(slots=True)
class Vitals:
    """How the loop is.

    Attributes:
        ticks: how long they took. sees: the last one was remembered and could read what it watches.
        lost: why nothing can be remembered; "" while all is well.
        blind: names of the runs that cannot be read.
        severities: by the names of the rules in force.
        mode: act or observe.
    """

    ticks: Ticks = field(default_factory=Ticks)
    sees: bool = False
    lost: str = ""
    blind: tuple[str, ...] = ()
    severities: dict[str, str] = field(default_factory=dict)
    mode: str = "observe"
