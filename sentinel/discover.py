"""Which runs and event files exist under a log directory, now.

A run is a folder with event files; its name is its path below the log directory, "." for the log directory
itself. Runs appear and vanish while they are watched, so a scan reports what it could not look into and never
fails because of it: one unreadable folder must not blind the sentinel to the others.

The fact to hold: a `Scanner` lists a folder again only where it cannot be sure that the listing would be the
same. It is sure where the file system keeps times of folders (`KEEPS_TIMES`), the folder's number and times
are those of before, and they had already stood for GRAIN seconds by our own clock when it was last listed:
a file that was added within the same tick of the file system's clock, or under a clock that was set back, is
so found all the same. A folder with links in it is always listed, since what a link leads to changes
elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from sentinel.mounts import KEEPS_TIMES, mounted
from sentinel.round import Round

CONTROL = "control"
CHECKPOINTS = "checkpoints"
TRAINER = "trainer.json"

_PRINTABLE = "a name must be printable text, since people are told it"

_NUMBER = re.compile(r"(\d+)")
_TIMESTAMP = re.compile(r"tfevents\.(\d+)")


@dataclass(frozen=True, slots=True)
class RunFiles:
    """One run: its folder and its event files, oldest first.

    Attributes:
        has_control: there is a control folder; where there is none nobody has registered.
    """

    path: Path
    event_files: list[Path]
    has_control: bool = True


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A folder or entry that a scan could not look into, and why."""

    path: str
    reason: str


class Runs(dict[str, RunFiles]):
    """Runs by name, and what could not be looked into.

    Attributes:
        unreadable: folders whose runs, if any, are not watched.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unreadable: list[Unreadable] = []


def is_event_file(name: str) -> bool:
    """Say whether a name is an event file's, by TensorBoard's own criterion: both see the same runs."""
    return "tfevents" in name


def age_order(path: Path) -> tuple[int, list[tuple[int, str]]]:
    """Return a sort key: the time in an event file's name, then the name with its numbers as numbers.

    Writers append a counter to the names of one second: `.10` comes after `.9`.
    """
    stamp = _TIMESTAMP.search(path.name)
    parts = _NUMBER.split(path.name)
    return int(stamp[1]) if stamp else 0, [(int(p), "") if p.isdecimal() else (0, p) for p in parts]


def called(name: str, folder: Path) -> str:
    """Give the name that people know a run by: the log directory as a run goes by the folder's own."""
    return folder.resolve().name if name == "." else name


def scan(logdir: Path) -> Runs:
    """Find every run at and below `logdir`, following links to folders, each folder once.

    Hidden folders are left out, and so are the `control` and `checkpoints` folders of a run. A path to an
    event file is a run of that one file.
    """
    return Scanner(logdir).scan(0.0)


GRAIN = 3.0
"""Seconds for which a folder's times must have stood before a listing is kept; the coarsest clock of a file
system ticks every two seconds (FAT).
"""

_Stamp: TypeAlias = tuple[int, int, int, int]  # device, inode, time of the content, time of the inode


@dataclass(slots=True)
class _Folder:
    """A folder as it was last listed.

    Attributes:
        stamp: what it was just before that. since: when this stamp was first seen, in monotonic seconds.
        settled: the stamp had stood for GRAIN by then, so that an equal stamp means an equal listing.
        files: its event files. below: folders in it that may hold runs. links: those of them that are links.
        unreadable: what in it is not watched.
        holds_control: there is a control folder in it.
        fickle: what was found depends on more than the folder itself.
    """

    stamp: _Stamp
    since: float
    settled: bool
    files: list[Path] = field(default_factory=list)
    below: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    holds_control: bool = False
    fickle: bool = False


class Scanner:
    """Finds runs again and again, and lists only the folders that have changed.

    Attributes:
        is_sure: every folder could be looked into, and has times that tell whether it has changed.
    """

    def __init__(self, logdir: Path, file_system: Callable[[Path], str] | None = None) -> None:
        """Begin.

        Args:
            logdir: the folder of runs.
            file_system: names the type of the file system that a path lies on; None asks this machine.
        """
        self._logdir = logdir
        self._file_system = file_system or mounted
        self._folders: dict[str, _Folder] = {}
        self._kinds: dict[int, str] = {}  # of file systems, by device
        self._found = Runs()
        self._round = Round()
        self._lacking = False
        self.is_sure = False

    def scan(self, monotonic: float) -> Runs:
        """Find every run, as `scan` does; the object of the last call where nothing is different.

        Args:
            monotonic: now, in seconds from any origin.
        """
        logdir = self._logdir
        runs = Runs()
        if logdir.is_file() and is_event_file(logdir.name):
            runs["."] = RunFiles(logdir.parent, [logdir])
            return runs
        known, self._folders = self._folders, {}
        changed = not known
        visited: set[tuple[int, int]] = set()
        folders: list[str] = [str(logdir)]
        links: list[str] = []  # after all real folders, so that a run goes by its real name where it has one
        while folders or links:
            path = folders.pop() if folders else links.pop()
            try:
                stamp = _stamp(path)
                if stamp[:2] in visited:
                    continue
                visited.add(stamp[:2])
                before = known.get(path)
                folder = self._folders[path] = self._folder(path, stamp, before, monotonic)
                changed |= folder is not before
            except OSError as error:
                gone = isinstance(error, FileNotFoundError) and path != str(logdir)
                if not gone:
                    runs.unreadable.append(Unreadable(path, f"{error.strerror}; runs in it are not watched"))
                continue
            folders += folder.below
            links += folder.links
        changed |= bool(runs.unreadable) or self._lacking or len(self._folders) != len(known)
        self._lacking = bool(runs.unreadable)
        self.is_sure = not runs.unreadable and all(folder.settled for folder in self._folders.values())
        if changed:
            self._found = self._collect(runs)
        return self._found

    def has_changed(self, monotonic: float) -> bool:
        """Go on with a round over the folders that asks for nothing but their times; says whether one of
        those that need not be listed again has changed.
        """
        for path in self._round.part(self._folders, monotonic):
            folder = self._folders.get(path)
            try:
                if folder is not None and folder.settled and _stamp(path) != folder.stamp:
                    return True
            except OSError:
                return True
        return False

    def _folder(self, path: str, stamp: _Stamp, before: _Folder | None, monotonic: float) -> _Folder:
        """What a folder holds: as it was listed before, where that is sure, else as it is listed now."""
        since = before.since if before is not None and before.stamp == stamp else monotonic
        if before is not None and before.settled and before.stamp == stamp:
            return before
        fresh = _look_into(path, _Folder(stamp, since, settled=False))
        stood = monotonic - since >= GRAIN
        fresh.settled = stood and not fresh.fickle and self._keeps_times(path, stamp[0])
        return fresh

    def _keeps_times(self, path: str, device: int) -> bool:
        if device not in self._kinds:
            self._kinds[device] = self._file_system(Path(path))
        return self._kinds[device] in KEEPS_TIMES

    def _collect(self, runs: Runs) -> Runs:
        for path, folder in self._folders.items():
            runs.unreadable += folder.unreadable
            if not folder.files:
                continue
            name = Path(path).relative_to(self._logdir).as_posix()
            if name.isprintable():
                runs[name] = RunFiles(Path(path), folder.files, folder.holds_control)
            else:
                runs.unreadable.append(
                    Unreadable(ascii(path), f"{_PRINTABLE}; the run is not watched, rename the folder")
                )
        return runs


def _stamp(path: str) -> _Stamp:
    found = os.stat(path)  # noqa: PTH116  a Path costs more than the call, and this is asked of every folder
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def _look_into(path: str, folder: _Folder) -> _Folder:
    """List a folder: its event files, and the subfolders that may hold runs."""
    below: dict[str, bool] = {}  # name: is a link
    with os.scandir(path) as entries:
        for entry in entries:
            folder.fickle |= entry.is_symlink()
            try:
                if entry.is_dir():
                    if not entry.name.startswith("."):
                        below[entry.name] = entry.is_symlink()
                elif is_event_file(entry.name) and entry.is_file():
                    if entry.name.isprintable():
                        folder.files.append(Path(entry.path))
                    else:
                        folder.unreadable.append(
                            Unreadable(ascii(entry.path), f"{_PRINTABLE}; the file is not read, rename it")
                        )
            except OSError:  # a link that leads in a circle is no run
                continue
    folder.files.sort(key=age_order)
    folder.holds_control = CONTROL in below
    if not folder.files and folder.holds_control:
        folder.fickle = True  # whether it is a run's is for the file below to say
    if folder.files or (folder.holds_control and Path(path, CONTROL, TRAINER).exists()):
        below.pop(CONTROL, None)
        below.pop(CHECKPOINTS, None)
    for name in sorted(below, reverse=True):
        (folder.links if below[name] else folder.below).append(f"{path}/{name}")
    return folder
