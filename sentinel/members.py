"""Which processes belong to a supervised job: all that carry its mark among their variables.

A process group would not do. Ours is the child's too, so that the terminal treats both as one; and launchers
such as torchrun give each worker a session of its own. A variable is inherited through every fork, exec and
setsid, survives the death of parents, and can be read after a restart of the sentinel.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from sentinel.process import PROC, Process, boot_id, from_record

MARK = "SENTINEL_JOB"
"""The variable."""


def members(mark: str) -> list[Process]:
    """Every process of this user that carries `mark` and has not ended, in the order of pids."""
    wanted = f"{MARK}={mark}".encode()
    here, host, uid = boot_id(), os.uname().nodename, os.geteuid()
    found = []
    for pid in _pids():
        try:
            if wanted not in (PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                continue
            stat = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue  # of another user, or gone meanwhile
        record = {"pid": pid, "start_time": int(stat[19]), "boot_id": here, "host": host, "uid": uid}
        process = from_record(record)
        if stat[0] not in (b"Z", b"X") and process is not None and pid != os.getpid():
            found.append(process)
    return found


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
