"""What of this machine is in the sentinel's way: names, limits, file systems, space, another sentinel.

Read-only: the state folder is not even made.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sentinel.errors import StateError
from sentinel.journal import Journal
from sentinel.lock import is_held
from sentinel.mounts import NETWORK, file_system
from sentinel.mounts import mounts as mounted_here
from sentinel.process import PROC
from sentinel.state import JOURNAL

PACKAGES = ("rules", "sentinel", "notifier", "trainer")

LEAST_SPACE = 1 << 30
"""Bytes; a fuller disk is a problem."""

MOST_FOLDERS = 200_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. A problem keeps a decision from being made or carried out; a note does not."""

    level: Literal["problem", "note"]
    what: str
    text: str


def machine(logdir: Path, state: Path) -> list[Finding]:
    """Look at everything that is not about one run."""
    return [
        *names(),
        *watches(logdir),
        *file_systems(logdir, state),
        *space(logdir, state),
        *others(logdir, state),
    ]


def names(packages: Sequence[str] = PACKAGES) -> Iterator[Finding]:
    """Each of our packages must be ours: `trainer` and `rules` are names that others take too."""
    home = Path(__file__).resolve().parents[1]
    for package in packages:
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError) as error:
            yield Finding("problem", "packages", f"{package} cannot be found: {error}")
            continue
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is None:
            place = list(spec.submodule_search_locations or ()) if spec is not None else []
            text = (
                f"{package} is a folder without our __init__.py: {', '.join(place)}"
                if place
                else (f"{package} is not installed here")
            )
            yield Finding("problem", "packages", f"{text}. Install the sentinel in an environment of its own")
        elif origin.parent != home / package:
            yield Finding(
                "problem",
                "packages",
                f"{package} is {origin}, not ours of {home}; install the sentinel in an environment of its "
                "own (pipx, uv tool), and start it from another folder or with python -P",
            )


def watches(logdir: Path) -> Iterator[Finding]:
    """Each folder takes one of the user's inotify watches."""
    folders = _count_folders(logdir)
    most = _number(PROC / "sys/fs/inotify/max_user_watches")
    instances = _number(PROC / "sys/fs/inotify/max_user_instances")
    if most is not None and folders * 10 > most * 9:
        yield Finding(
            "problem",
            "inotify",
            f"{logdir} holds {folders} folders, and a user may watch {most}: changes are seen by "
            f"polling alone. sysctl fs.inotify.max_user_watches={max(2 * folders, 2 * most)}",
        )
    if instances is not None and instances < 16:
        yield Finding(
            "problem",
            "inotify",
            f"a user may have {instances} observers; sysctl fs.inotify.max_user_instances=128",
        )


def file_systems(logdir: Path, state: Path, mounts: str | None = None) -> Iterator[Finding]:
    """A network file system announces no changes of other machines, and is no place for a journal."""
    text = mounted_here() if mounts is None else mounts
    kind = file_system(existing(logdir), text)
    if kind in NETWORK:
        yield Finding(
            "note",
            "network",
            f"{logdir} lies on {kind}: what another machine writes there is not announced; it is "
            "polled every half second instead",
        )
    kind = file_system(existing(state), text)
    if kind in NETWORK:
        yield Finding(
            "problem",
            "network",
            f"the state {state} lies on {kind}, where SQLite's journal is not safe; --state",
        )


def space(logdir: Path, state: Path) -> Iterator[Finding]:
    """Whether the state can be written, and whether there is room."""
    place = existing(state)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Finding("problem", "state", f"{state} cannot be written; choose another with --state")
    for path in dict.fromkeys((existing(logdir), place)):
        try:
            usage = shutil.disk_usage(path)
        except OSError as error:
            yield Finding("problem", "disk", f"{path}: {error.strerror}")
            continue
        if usage.free < LEAST_SPACE:
            yield Finding("problem", "disk", f"{path} has {usage.free >> 20} MiB left")


def others(logdir: Path, state: Path) -> Iterator[Finding]:
    """Two sentinels on one log directory would both act."""
    if is_held(state):
        yield Finding("note", "sentinel", f"a sentinel is running on the state {state}")
    ours = logdir.absolute().resolve()
    for folder in _open_states():
        if folder == state.absolute().resolve():
            continue
        try:
            journal = Journal(folder / JOURNAL, read_only=True)
        except StateError:
            continue
        try:
            row = next(iter(journal.rows("SELECT value FROM meta WHERE name = 'logdir'")), None)
        except StateError:
            row = None
        finally:
            journal.close()
        if row is not None and Path(row["value"]).resolve() == ours:
            yield Finding(
                "problem",
                "sentinel",
                f"another sentinel watches {logdir} too, with the state {folder}: both would act; stop one",
            )


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    found = path.absolute().resolve()
    while not found.exists() and found != found.parent:
        found = found.parent
    return found


def _open_states() -> set[Path]:
    """State folders whose journal some process holds open."""
    found: set[Path] = set()
    for process in PROC.iterdir():
        if not process.name.isdecimal():
            continue
        try:
            for descriptor in (process / "fd").iterdir():
                target = descriptor.readlink()
                if target.name == JOURNAL and target.is_absolute():
                    found.add(target.parent)
        except OSError:
            continue  # of another user, or gone
    return found


def _count_folders(logdir: Path) -> int:
    count = 0
    for _ in os.walk(logdir):
        count += 1
        if count >= MOST_FOLDERS:
            break
    return count


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
