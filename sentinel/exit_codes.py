"""How a process ended that is not our child: what a pidfd still knows when the process is gone.

The kernel tells an exit code to the parent alone, and an adopted job's parent was an earlier sentinel. But
since Linux 6.15 who holds a pidfd from before the end can ask it (PIDFD_GET_INFO with PIDFD_INFO_EXIT); where
nobody fetches the code of an ended process, it stands in /proc for its own user. Elsewhere it stays unknown.
"""

from __future__ import annotations

import fcntl
import os
import struct

from sentinel.process import PROC, Liveness, Process, liveness

# include/uapi/linux/pidfd.h: struct pidfd_info in its first size, and _IOWR(PIDFS_IOCTL_MAGIC, 11, …) of it
_INFO = struct.Struct("=QQ11Ii")
_GET_INFO = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11
_EXIT = 1 << 3


class Held:
    """Pidfds of processes whose end is to be understood, by pid."""

    def __init__(self) -> None:
        self._descriptors: dict[int, tuple[Process, int]] = {}

    def hold(self, process: Process) -> None:
        """Take hold of a live process; one that is held already, or cannot be, is left as it is."""
        if process.pid in self._descriptors:
            return
        try:
            descriptor = os.pidfd_open(process.pid)
        except OSError:
            return
        # It means one process for ever from here on: is it the right one?
        if liveness(process) is Liveness.ALIVE:
            self._descriptors[process.pid] = (process, descriptor)
        else:
            os.close(descriptor)

    def ended(self) -> dict[int, int]:
        """Let go of those that have ended; returns by pid, where it is known, the status as `wait` has it."""
        found = {}
        for pid, (process, descriptor) in list(self._descriptors.items()):
            alive = liveness(process)
            if not alive.ended:
                continue
            status = _in_proc(process) if alive is Liveness.ZOMBIE else status_of(descriptor)
            if status is not None:
                found[pid] = status
            if status is not None or alive is Liveness.GONE:
                os.close(descriptor)
                del self._descriptors[pid]
        return found


def status_of(descriptor: int) -> int | None:
    """The wait status of a process that is gone; None where this kernel does not tell."""
    info = bytearray(_INFO.pack(_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(descriptor, _GET_INFO, info)
    except OSError:
        return None
    mask, *_, status = _INFO.unpack(info)
    return int(status) if mask & _EXIT else None


def _in_proc(process: Process) -> int | None:
    """The wait status of a zombie: the last field of /proc/PID/stat, which reads 0 for another user."""
    try:
        fields = (PROC / str(process.pid) / "stat").read_bytes().rpartition(b")")[2].split()
        state, started, status = fields[0], int(fields[19]), int(fields[-1])
    except (OSError, ValueError, IndexError):
        return None
    if state != b"Z" or started != process.start_time or process.uid != os.geteuid():
        return None
    return status
