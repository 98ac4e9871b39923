"""Which runs are looked at in a tick: those that may have something new, and not the thousand others.

A change that the observer announces is looked at in the next tick. A run that grew lately is looked at in
every tick, announced or not; one in which only the passing of time can matter is looked at when it does. All
others are passed by on a slow round that asks the file system for nothing but sizes and times: the safety net
for file systems that announce nothing, for lost announcements and for links.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

ROUND_SECONDS = 10.0
"""Seconds in which the slow round comes by every run once."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What has been announced since the last tick.

    Attributes:
        paths: files that have grown or were put in place.
        anew: there may be other runs or other files of runs than before.
    """

    paths: frozenset[Path] = frozenset()
    anew: bool = False


Stamp: TypeAlias = tuple[tuple[int, int, int], ...]


class Attention:
    """Remembers for each run when it is due, and what its files were when it was last looked at."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._stamps: dict[str, Stamp] = {}
        self._folders: dict[Path, str] = {}
        self._round: list[str] = []
        self._owed = 0.0
        self._last: float | None = None

    def meet(self, run: str, folder: Path) -> None:
        """Take a run in; it is due at once."""
        self._folders[folder] = run
        self._due[run] = -math.inf

    def forget(self, run: str) -> None:
        """Let a run go; `meet` takes it in again."""
        self._due.pop(run, None)
        self._stamps.pop(run, None)
        self._folders = {folder: name for folder, name in self._folders.items() if name != run}
        self._round = [name for name in self._round if name != run]

    def wake(self, run: str) -> None:
        """Make a run due."""
        self._due[run] = -math.inf

    def heed(self, changed: Iterable[Path]) -> None:
        """Make the runs due to which changed paths belong."""
        for path in changed:
            run = next((self._folders[p] for p in (path, *path.parents) if p in self._folders), None)
            if run is not None:
                self._due[run] = -math.inf

    def due(self, monotonic: float, files: Callable[[str], Sequence[Path]]) -> list[str]:
        """Return the runs to look at now.

        Args:
            monotonic: seconds from any origin.
            files: the files of a run whose change matters, for the slow round.
        """
        for run in self._come_by(monotonic):
            if self._due[run] > monotonic and stamp(files(run)) != self._stamps.get(run):
                self._due[run] = -math.inf
        return [run for run, due in self._due.items() if due <= monotonic]

    def looked(self, run: str, monotonic: float, rest: float, seen: Stamp) -> None:
        """Note that a run was looked at, and for how long only a change in its files can matter.

        Args:
            run: its name. monotonic: now. rest: seconds; 0 for "look again in the next tick".
            seen: the stamp of its files from before the look, so that what was written meanwhile differs.
        """
        self._stamps[run] = seen
        self._due[run] = monotonic + rest

    def _come_by(self, monotonic: float) -> list[str]:
        """Return the next part of the round, as much as the time since the last one is worth."""
        if self._last is not None:
            self._owed += len(self._due) * min(monotonic - self._last, ROUND_SECONDS) / ROUND_SECONDS
        self._last = monotonic
        passed: list[str] = []
        while self._owed >= 1.0 and self._due:
            if not self._round:
                self._round = list(self._due)
            passed.append(self._round.pop())
            self._owed -= 1.0
        return passed


def stamp(files: Sequence[Path]) -> Stamp:
    """Return what tells whether files have changed: inode, size and time; zeros where there is none."""
    return tuple(_stamp(path) for path in files)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)
