"""Which runs and event files exist under a log directory, now.

A run is a folder with event files; its name is its path below the log directory, "." for the log directory
itself. Runs appear and vanish while they are watched, so a scan reports what it could not look into and never
fails because of it: one unreadable folder must not blind the sentinel to the others.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

CONTROL = "control"
CHECKPOINTS = "checkpoints"
TRAINER = "trainer.json"

_PRINTABLE = "a name must be printable text, since people are told it"

_NUMBER = re.compile(r"(\d+)")
_TIMESTAMP = re.compile(r"tfevents\.(\d+)")


@dataclass(frozen=True, slots=True)
class RunFiles:
    """One run: its folder and its event files, oldest first."""

    path: Path
    event_files: list[Path]


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
    runs = Runs()
    if logdir.is_file() and is_event_file(logdir.name):
        runs["."] = RunFiles(logdir.parent, [logdir])
        return runs
    visited: set[tuple[int, int]] = set()
    folders: list[str] = [str(logdir)]
    links: list[str] = []  # after all real folders, so that a run goes by its real name where it has one
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        try:
            found = Path(folder).stat()
            if (found.st_dev, found.st_ino) in visited:
                continue
            visited.add((found.st_dev, found.st_ino))
            _look_into(folder, logdir, runs, folders, links)
        except OSError as error:
            gone = isinstance(error, FileNotFoundError) and folder != str(logdir)
            if not gone:
                runs.unreadable.append(Unreadable(folder, f"{error.strerror}; runs in it are not watched"))
    return runs


def _look_into(folder: str, logdir: Path, runs: Runs, folders: list[str], links: list[str]) -> None:
    """Add a folder's event files to the runs and its subfolders to what is still to be visited."""
    files: list[Path] = []
    below: dict[str, bool] = {}  # name: is a link
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir():
                    if not entry.name.startswith("."):
                        below[entry.name] = entry.is_symlink()
                elif is_event_file(entry.name) and entry.is_file():
                    if entry.name.isprintable():
                        files.append(Path(entry.path))
                    else:
                        runs.unreadable.append(
                            Unreadable(ascii(entry.path), f"{_PRINTABLE}; the file is not read, rename it")
                        )
            except OSError:  # a link that leads in a circle is no run
                continue
    if files or (CONTROL in below and Path(folder, CONTROL, TRAINER).exists()):
        below.pop(CONTROL, None)
        below.pop(CHECKPOINTS, None)
    for name in sorted(below, reverse=True):
        (links if below[name] else folders).append(f"{folder}/{name}")
    if files:
        name = Path(folder).relative_to(logdir).as_posix()
        if name.isprintable():
            runs[name] = RunFiles(Path(folder), sorted(files, key=age_order))
        else:
            runs.unreadable.append(
                Unreadable(ascii(folder), f"{_PRINTABLE}; the run is not watched, rename the folder")
            )
