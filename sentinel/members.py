"""Which processes belong to a supervised job: all that carry its mark among their variables.

A process group would not do. Ours is the child's too, so that the terminal treats both as one; and launchers
such as torchrun give each worker a session of its own. A variable is inherited through every fork, exec and
setsid, survives the death of parents, and can be read after a restart of the sentinel.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from sentinel.clock import SystemClock
from sentinel.process import PROC, Process, boot_id, from_record

MARK = "SENTINEL_JOB"
"""The variable."""


PAUSES = (0.0, 0.001, 0.002, 0.004, 0.008, 0.016)
"""Seconds before each look at who could not be judged: between two programs a process has no variables."""

_KERNEL = 0x00200000
"""PF_KTHREAD in field 9 of /proc/PID/stat: such a thread never has variables."""


_CLOCK = SystemClock()


def members(mark: str, rest: Callable[[float], None] = _CLOCK.rest) -> list[Process]:
    """Every process of this user that carries `mark` and has not ended, in the order of pids.

    A process in the middle of exec shows no variables for a moment, and one may be born while we look: both
    are looked at again, a few milliseconds later (`rest` lets them pass).
    """
    wanted = f"{MARK}={mark}".encode()
    here, host, uid = boot_id(), os.uname().nodename, os.geteuid()
    found: dict[int, Process] = {}
    judged: set[int] = {os.getpid()}
    for pause in PAUSES:
        fresh = [pid for pid in _pids() if pid not in judged]
        if not fresh:
            break
        if pause:
            rest(pause)
        for pid in fresh:
            try:
                variables = (PROC / str(pid) / "environ").read_bytes()
                stat = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                judged.add(pid)  # of another user, or gone meanwhile
                continue
            if variables or stat[0] in (b"Z", b"X") or int(stat[6]) & _KERNEL:
                judged.add(pid)
            record = {"pid": pid, "start_time": int(stat[19]), "boot_id": here, "host": host, "uid": uid}
            process = from_record(record)
            if stat[0] not in (b"Z", b"X") and process is not None and wanted in variables.split(b"\0"):
                found[pid] = process
    return [found[pid] for pid in sorted(found)]


def holders(files: Iterable[Path], processes: Iterable[Process]) -> list[Process]:
    """Those of `processes` that have one of `files` open."""
    wanted = set()
    for path in files:
        try:
            found = path.stat()
        except OSError:
            continue
        wanted.add((found.st_dev, found.st_ino))
    return [process for process in processes if wanted & _open_files(process.pid)]


def _open_files(pid: int) -> set[tuple[int, int]]:
    folder = PROC / str(pid) / "fd"
    found = set()
    try:
        for path in folder.iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                stat = path.stat()
                found.add((stat.st_dev, stat.st_ino))
    except OSError:
        return set()
    return found


def identify(pid: int) -> Process | None:
    """Who has this pid now; None where nobody has."""
    try:
        stat = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return Process(pid, int(stat[19]), boot_id(), os.uname().nodename, os.geteuid())


def everyone() -> list[Process]:
    """Every process that there is, this one left out."""
    pids = [pid for pid in _pids() if pid != os.getpid()]
    return [process for process in map(identify, pids) if process is not None]


def _pids() -> list[int]:
    return sorted(int(path.name) for path in PROC.iterdir() if path.name.isdigit())
