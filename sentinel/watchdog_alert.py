"""The alert that always fires: a message at an interval that says all is watched, so that its absence is the
alarm.

It is due by the journal, not by this process: when the last one was queued is written in the transaction that
queues the next, so a restart neither tells one twice nor leaves one out. A sentinel that cannot see withholds
it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from notifier.message import Message
from rules.alert import AlertState
from sentinel.journal import Journal
from sentinel.story import notice

Phase: TypeAlias = Literal["live", "finished", "past", "gone"]

RESTING = (AlertState.INACTIVE, AlertState.RESOLVED)
"""States of an alert that nobody needs to hear of."""

TITLE = "watchdog: the sentinel is watching"

SILENT = 1800.0
"""Seconds without a point after which nobody can call a run healthy."""

_ROW = "watchdog"


@dataclass(frozen=True, slots=True)
class RunStanding:
    """How a run stands.

    Attributes:
        run: its name. phase: live, finished, past or gone. blind: it could not be read.
        alerts: those that are not at rest, by key.
        last_wall: when its newest point was logged, seconds since the epoch; None before the first.
    """

    run: str
    phase: Phase
    blind: bool
    alerts: dict[str, AlertState]
    last_wall: float | None


class WatchdogAlert:
    """Says when the next message is due, and what it says."""

    def __init__(self, journal: Journal, every: float | None) -> None:
        """Take up when the last one was queued.

        Args:
            journal: remembers that. every: seconds between two; None for never.
        """
        self._journal = journal
        self._every = every
        found = journal.rows("SELECT value FROM meta WHERE name = ?", _ROW) if every is not None else []
        self._last = float(found[0]["value"]) if found else None

    def due(self, now: float) -> bool:
        """Whether one is due at a wall time; one too many after the clock was set back, rather than none."""
        if self._every is None:
            return False
        return self._last is None or not 0.0 <= now - self._last < self._every

    def take(self, standings: Iterable[RunStanding], now: float) -> Message:
        """Compose the message that is due and write down that it was; only inside a transaction."""
        self._last = now
        self._journal.put("meta", name=_ROW, value=repr(now))
        assert self._every is not None, "it is never due then"
        return notice("", _ROW, "info", TITLE, report(standings, self._every, now), now)


def report(standings: Iterable[RunStanding], every: float, now: float) -> str:
    """Say how everything stands, in words. Pure.

    A run is healthy when it is being trained, logs, and has no alert that is not at rest; what is not known
    to be so is not counted.
    """
    live = [s for s in standings if s.phase == "live"]
    healthy = [s for s in live if not s.blind and not s.alerts and _age(s, now) <= SILENT]
    text = f"watching {len(live)} {_runs(len(live))}, {len(healthy)} healthy"
    last = min((_age(s, now) for s in live if s.last_wall is not None), default=None)
    if last is not None:
        text += f", last point {span(last)} ago"
    lines = [f"{text}."]
    lines += [f"{s.run}: {_why(s, now)}" for s in live if s not in healthy][:_MOST]
    if len(live) - len(healthy) > _MOST:
        lines.append(f"and {len(live) - len(healthy) - _MOST} more")
    lines.append(f"The next one comes in {span(every)}; if it does not, nobody watches.")
    return "\n".join(lines)


_MOST = 10


def _why(standing: RunStanding, now: float) -> str:
    if standing.blind:
        return "its files cannot be read"
    if standing.alerts:
        return ", ".join(f"{key} {state.value}" for key, state in sorted(standing.alerts.items()))
    if standing.last_wall is None:
        return "no point yet"
    return f"no point for {span(_age(standing, now))}"


def _age(standing: RunStanding, now: float) -> float:
    return max(0.0, now - standing.last_wall) if standing.last_wall is not None else float("inf")


def _runs(number: int) -> str:
    return "run" if number == 1 else "runs"


def span(seconds: float) -> str:
    """Write a time as people say it: `4 s`, `30 min`, `36 h`, `14 days`."""
    for unit, size, from_ in (("days", 86400.0, 172800.0), ("h", 3600.0, 7200.0), ("min", 60.0, 120.0)):
        if seconds >= from_:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
