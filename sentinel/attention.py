"""Which runs are looked at in a tick: those that may have something new, and not the thousand others.

A change that the observer announces is looked at in the next tick. A run that grew lately is looked at in
every tick, announced or not; one in which only the passing of time can matter is looked at when it does. All
others are passed by on a slow round that asks the file system for nothing but sizes and times: the safety net
for file systems that announce nothing, for lost announcements and for links.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from sentinel.round import Round


@dataclass(frozen=True, slots=True)
class Changes:
    """What has been announced since the last tick.

    Attributes:
        paths: files that have grown or were put in place.
        anew: there may be other runs or other files of runs than before.
    """

    paths: frozenset[Path] = frozenset()
    anew: bool = False


Files: TypeAlias = Sequence[Path] | Sequence[str]
Stamp: TypeAlias = tuple[tuple[int, int, int], ...]


class Attention:
    """Remembers for each run when it is due, and what its files were when it was last looked at."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._stamps: dict[str, Stamp] = {}
        self._folders: dict[str, str] = {}  # path: run
        self._round = Round()

    def meet(self, run: str, folder: Path) -> None:
        """Take a run in; it is due at once."""
        self._folders[str(folder)] = run
        self._due[run] = -math.inf

    def forget(self, run: str) -> None:
        """Let a run go; `meet` takes it in again."""
        self._due.pop(run, None)
        self._stamps.pop(run, None)
        self._folders = {folder: name for folder, name in self._folders.items() if name != run}

    def wake(self, run: str) -> None:
        """Make a run due."""
        self._due[run] = -math.inf

    def heed(self, changed: Iterable[Path]) -> None:
        """Make the runs due to which changed paths belong."""
        for path in changed:
            above = (str(path), *map(str, path.parents))
            run = next((self._folders[each] for each in above if each in self._folders), None)
            if run is not None:
                self._due[run] = -math.inf

    def due(self, monotonic: float, files: Callable[[str], Files]) -> list[str]:
        """Return the runs to look at now.

        Args:
            monotonic: seconds from any origin.
            files: the files of a run whose change matters, for the slow round.
        """
        for run in self._round.part(self._due, monotonic):
            self._check(run, monotonic, files)
        return [run for run, due in self._due.items() if due <= monotonic]

    def check(self, runs: Iterable[str], monotonic: float, files: Callable[[str], Files]) -> None:
        """Make those runs due whose files have changed; for when nothing is announced."""
        for run in runs:
            self._check(run, monotonic, files)

    def _check(self, run: str, monotonic: float, files: Callable[[str], Files]) -> None:
        if self._due.get(run, -math.inf) > monotonic and stamp(files(run)) != self._stamps.get(run):
            self._due[run] = -math.inf

    def looked(self, run: str, monotonic: float, rest: float, seen: Stamp) -> None:
        """Note that a run was looked at, and for how long only a change in its files can matter.

        Args:
            run: its name. monotonic: now. rest: seconds; 0 for "look again in the next tick".
            seen: the stamp of its files from before the look, so that what was written meanwhile differs.
        """
        self._stamps[run] = seen
        self._due[run] = monotonic + rest


def stamp(files: Files) -> Stamp:
    """Return what tells whether files have changed: inode, size and time; zeros where there is none."""
    return tuple(_stamp(path) for path in files)


def _stamp(path: Path | str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116  asked of every file again and again; Path.stat costs twice as much
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)
