"""Who holds a run's event files open for writing: the process of a job that never heard of us.

One walk over /proc/*/fd serves every run, and is made seldom. A holder is known by pid and start time, both
read around the walk, so a pid that changes hands meanwhile names nobody. Where several processes write and
they are not the forked workers of one of them, nobody is chosen: a guess might signal the wrong process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from sentinel.clock import Clock
from sentinel.discover import is_event_file
from sentinel.process import PROC, Process, boot_id, effective_uid, parent, start_time

SCAN_EVERY = 15.0
"""Seconds between two walks over /proc, at the least."""

_SHARE = 200.0  # a walk that took t seconds is not made again within 200 t: at most half a percent of a core

_Inode: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of a run's writers.

    Attributes:
        process: the one that writes; None where there is none, or more than one.
        why_not: why several writers leave nobody to attach to, in words; empty where there are none.
    """

    process: Process | None = None
    why_not: str = ""


@dataclass(slots=True)
class Holders:
    """Event files that are open for writing, by device and inode, as of the last walk.

    Attributes:
        clock: tells when the next walk may be made.
    """

    clock: Clock
    _found: Mapping[_Inode, Sequence[Process]] = field(default_factory=dict)
    _next: float = float("-inf")

    def of(self, files: Iterable[Path]) -> Held:
        """Say who writes these files; walks over /proc where the last walk is too old."""
        began = self.clock.monotonic()
        if began >= self._next:
            self._found = writers()
            self._next = began + max(SCAN_EVERY, _SHARE * (self.clock.monotonic() - began))
        if not self._found:
            return Held()
        return choose(held for path in files for held in self._of(path))

    def _of(self, path: Path) -> Sequence[Process]:
        try:
            found = path.stat()
        except OSError:
            return ()
        # As root we see everyone's processes; only the file's owner is believed to train what is in it.
        return [p for p in self._found.get((found.st_dev, found.st_ino), ()) if p.uid == found.st_uid]


def writers(proc: Path = PROC) -> dict[_Inode, list[Process]]:
    """Walk over the processes that may be looked into; returns who holds which event file open for writing.

    This process itself is left out.
    """
    found: dict[_Inode, list[Process]] = {}
    boot, host, me = boot_id(), os.uname().nodename, os.getpid()
    with contextlib.suppress(OSError), os.scandir(proc) as entries:
        for entry in entries:
            if not entry.name.isdecimal() or int(entry.name) in (0, 1, me):
                continue
            pid = int(entry.name)
            started = start_time(pid)
            held = _event_files(proc / entry.name) if started is not None else set()
            uid = effective_uid(pid) if held else None
            if uid is None or start_time(pid) != started or started is None:
                continue
            for inode in held:
                found.setdefault(inode, []).append(Process(pid, started, boot, host, uid))
    return found


def choose(holders: Iterable[Process]) -> Held:
    """Pick the one writer; of a process and the workers that it forked, the process."""
    found = list(dict.fromkeys(holders))
    if len(found) <= 1:
        return Held(found[0] if found else None)
    first = [p for p in found if all(q is p or _forked(q.pid, p.pid) for q in found)]
    if len(first) == 1:
        return Held(first[0])
    pids = ", ".join(str(process.pid) for process in sorted(found, key=lambda p: p.pid))
    return Held(None, f"processes {pids} all hold its event files open for writing")


def _event_files(process: Path) -> set[_Inode]:
    """Device and inode of each event file that a process has open for writing; nothing where it may not be
    looked into.
    """
    held: set[_Inode] = set()
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        return held
    for descriptor in descriptors:
        try:
            target = descriptor.readlink()
            if not is_event_file(target.name) or not target.is_absolute():
                continue
            if _writes(process / "fdinfo" / descriptor.name):
                inode = descriptor.stat()
                held.add((inode.st_dev, inode.st_ino))
        except (OSError, ValueError):
            continue  # closed while we look
    return held


def _writes(fdinfo: Path) -> bool:
    for line in fdinfo.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False


def _forked(pid: int, ancestor: int) -> bool:
    """Whether `pid` descends from `ancestor` and still runs the same command: a loader's worker, which has
    inherited the file.
    """
    if _command(pid) != _command(ancestor) or not _command(pid):
        return False
    for _ in range(64):  # a chain that changes while we walk it must not hold us
        above = parent(pid)
        if above is None or above <= 1:
            return False
        if above == ancestor:
            return True
        pid = above
    return False


def _command(pid: int) -> bytes:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""
