"""Stand-ins for the world's edges, each with the behaviour that the real one promises."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class FakeClock:
    """A clock that a test owns: `wall` for people, `monotonic` for deadlines, and only `rest` lets time pass.

    Attributes:
        rests: what was asked of `rest`, in seconds.
    """

    now: float = 1_700_000_000.0
    since_boot: float = 1000.0
    rests: list[float] = field(default_factory=list)

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return self.now

    def monotonic(self) -> float:
        """Return seconds since boot."""
        return self.since_boot

    def rest(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.rests.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        if seconds < 0:
            raise ValueError("a monotonic clock does not go back; use step_wall() for a clock that is set")
        self.now += seconds
        self.since_boot += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock on or back, as NTP does."""
        self.now += seconds
