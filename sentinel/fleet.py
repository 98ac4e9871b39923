"""Every run that is watched: met, under watch, or over.

A run is met when it is found, and taken up when its turn to be looked at comes: those that are being trained
before those that an earlier process never saw to their end, the youngest first. One that is over is let go of
but for what `Over` holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sentinel.discover import RunFiles
from sentinel.live_run import LiveRun, Tools
from sentinel.over import Over, seen_to_its_end
from sentinel.watchdog_alert import RunStanding


class Fleet:
    """The runs, by name.

    Attributes:
        live: those under watch. over: those that are over.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._met: dict[str, float] = {}  # when its files last changed, in seconds since the epoch
        self.live: dict[str, LiveRun] = {}
        self.over: dict[str, Over] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.live or name in self.over or name in self._met

    def __len__(self) -> int:
        return len(self.live) + len(self.over) + len(self._met)

    def __iter__(self) -> Iterator[str]:
        yield from self.live
        yield from self.over
        yield from self._met

    def meet(self, name: str, found: RunFiles) -> Over | None:
        """Take note of a run that was found; returns it where it is over, and need not be read."""
        over = seen_to_its_end(self._tools.journal, name, found) if self._tools.gates is None else None
        if over is None:
            self._met[name] = _newest(found)
        else:
            self.over[name] = over
        return over

    def take_up(self, name: str, found: RunFiles, now: float) -> LiveRun:
        """Return a run to be looked at; only inside a transaction.

        Args:
            name: of the run. found: its files. now: wall time.
        """
        run = self.live.get(name)
        if run is None:
            self._met.pop(name, None)
            over = self.over.pop(name, None)
            ends = over.history_ends if over is not None else None
            run = self.live[name] = LiveRun(name, found.path, self._tools, now, history_ends=ends)
        return run

    def settle(self, name: str) -> bool:
        """Let go of a run that is over, after its rows were written; returns whether it is."""
        run = self.live.get(name)
        over = run.as_over() if run is not None else None
        if over is None:
            return False
        del self.live[name]
        self.over[name] = over
        if self._tools.job is not None:
            self._tools.job.forget(name)
        return True

    def vanish(self, name: str, now: float) -> None:
        """Note that a run's folder is gone; only inside a transaction."""
        if name in self.live:
            self.live[name].vanish(now)
        elif name in self.over:
            self.over[name].vanish(self._tools.journal, self._tools.mail, now)

    def skip_time(self, seconds: float) -> None:
        """Let a jump of the wall clock be no silence of any run; only inside a transaction."""
        for run in self.live.values():
            run.skip_time(seconds)
        for over in self.over.values():
            over.skip_time(self._tools.journal, seconds)

    def drop(self, name: str) -> None:
        """Forget a run; the journal knows it if it comes back."""
        self.live.pop(name, None)
        self.over.pop(name, None)
        self._met.pop(name, None)

    @property
    def gone(self) -> list[str]:
        """Those whose folder was not there when they were last looked at."""
        return [name for runs in (self.live, self.over) for name, run in runs.items() if run.phase == "gone"]

    @property
    def standings(self) -> list[RunStanding]:
        """How every run stands that was looked at."""
        return [run.standing for runs in (self.live, self.over) for run in runs.values()]

    def in_turn(self, names: Iterable[str]) -> list[str]:
        """Put names in the order in which the runs are to be looked at."""
        met = self._met
        return sorted(names, key=lambda name: -met[name] if name in met else float("-inf"))

    def is_new(self, name: str) -> bool:
        """Whether a run was met, and never looked at."""
        return name in self._met


def _newest(found: RunFiles) -> float:
    times = []
    for path in found.event_files:
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue  # gone since; the look will say so
    return max(times, default=0.0)
