"""Who the trainer is, whether it lives, and how to signal it and nobody else.

A pid is a number that the kernel hands out again. A process is known here by pid, start time and boot; it is
signalled through a pidfd that was opened before its start time was read, so that the wrong process is never
touched. A signal whose default is to kill is not sent to a process that has no handler for it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

PROC = Path("/proc")


class Liveness(StrEnum):
    """What is known of a process. Only GONE and ZOMBIE say that it will never do anything again."""

    ALIVE = "alive"
    GONE = "gone"
    ZOMBIE = "zombie"  # ended, and not yet waited for by its parent
    OTHER_HOST = "other host"  # it may be well; from here nobody can tell
    UNKNOWN = "unknown"  # nobody has registered, or the record cannot be understood

    @property
    def ended(self) -> bool:
        """Whether it is certain that the process does nothing any more."""
        return self in (Liveness.GONE, Liveness.ZOMBIE)


@dataclass(frozen=True, slots=True)
class Process:
    """One process of one boot of one host.

    Attributes:
        pid: its number in this pid namespace.
        start_time: field 22 of /proc/PID/stat, in clock ticks since boot.
        boot_id: /proc/sys/kernel/random/boot_id of the boot it runs in.
        host: node name.
        uid: its effective user.
        pid_namespace: in which its pid counts, as /proc/self/ns/pid names it; empty where nobody has said.
    """

    pid: int
    start_time: int
    boot_id: str
    host: str
    uid: int
    pid_namespace: str = field(default="", compare=False)  # one process, however it was found


def myself() -> Process:
    """This process, for sentinel.json."""
    pid = os.getpid()
    found = _stat(pid)
    start = found[1] if found else 0
    return Process(pid, start, boot_id(), os.uname().nodename, os.geteuid(), pid_namespace())


def from_record(record: Mapping[str, Any] | None) -> Process | None:
    """Read the process out of trainer.json or sentinel.json; None where a field is missing or wrong."""
    if record is None:
        return None
    pid, start_time, boot = record.get("pid"), record.get("start_time"), record.get("boot_id")
    if type(pid) is not int or type(start_time) is not int or not isinstance(boot, str) or pid <= 1:
        return None  # pid 0 and negative ones name groups, 1 is init
    uid = record.get("uid")
    host, namespace = (str(record.get(name) or "") for name in ("host", "pid_namespace"))
    return Process(pid, start_time, boot, host, uid if type(uid) is int else -1, namespace)


def liveness(process: Process | None) -> Liveness:
    """Say whether `process` itself still runs; a successor of its pid counts as gone."""
    if process is None:
        return Liveness.UNKNOWN
    if process.boot_id != boot_id():
        # The same host after a reboot has ended it; another host is out of sight.
        return Liveness.GONE if process.host == os.uname().nodename else Liveness.OTHER_HOST
    if process.host and process.host != os.uname().nodename:
        return Liveness.OTHER_HOST  # a container on this machine: one kernel, other pids
    if process.pid_namespace not in ("", pid_namespace()):
        return Liveness.OTHER_HOST  # another container of this pod: one name, other pids
    found = _stat(process.pid)
    if found is None or found[1] != process.start_time:
        return Liveness.GONE
    return Liveness.ZOMBIE if found[0] in "ZX" else Liveness.ALIVE


def send(process: Process | None, signum: signal.Signals, *, only_if_caught: bool = False) -> str:
    """Send a signal to `process`, if it is alive and itself.

    Args:
        process: whom.
        signum: what.
        only_if_caught: send it only where the process has installed a handler for it (SigCgt of
            /proc/PID/status): the doorbell's default action is to kill.

    Returns:
        An empty string when the signal was delivered to the kernel, else the reason why it was not sent.
    """
    alive = liveness(process)
    if process is None or alive is not Liveness.ALIVE:
        return f"{signum.name} not sent: the process is {alive}"
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError as error:
        return f"{signum.name} not sent to process {process.pid}: {error.strerror}"
    try:
        # From here on the descriptor means one process for ever; now make sure that it is the right one.
        found = _stat(process.pid)
        if found is None or found[1] != process.start_time:
            return f"{signum.name} not sent: pid {process.pid} belongs to another process now"
        if process.uid >= 0 and effective_uid(process.pid) != process.uid:
            return f"{signum.name} not sent: process {process.pid} acts as another user than the one recorded"
        if only_if_caught and not catches(process.pid, signum):
            return f"{signum.name} not sent: process {process.pid} has no handler for it, it would be killed"
        signal.pidfd_send_signal(descriptor, signum)
    except OSError as error:
        return f"{signum.name} not sent to process {process.pid}: {error.strerror}"
    finally:
        os.close(descriptor)
    return ""


def catches(pid: int, signum: signal.Signals) -> bool:
    """Whether process `pid` has a handler for `signum`; False when that cannot be read."""
    mask = _status(pid, "SigCgt")
    try:
        return bool(int(mask, 16) >> (signum - 1) & 1)
    except ValueError:
        return False


def resident_bytes(process: Process) -> int | None:
    """Resident memory of a live process, in bytes; None where it is not alive or not visible."""
    if liveness(process) is not Liveness.ALIVE:
        return None
    size = _status(process.pid, "VmRSS").split()
    return int(size[0]) * 1024 if size else None


def identify(pid: int) -> Process | None:
    """Say who has a pid now; None where nobody has, or where it is init's or a group's."""
    started, uid = start_time(pid) if pid > 1 else None, effective_uid(pid)
    if started is None or uid is None or start_time(pid) != started:
        return None
    return Process(pid, started, boot_id(), os.uname().nodename, uid)


def start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat, in clock ticks since boot; None where there is no such process."""
    found = _stat(pid)
    return found[1] if found else None


def parent(pid: int) -> int | None:
    """The pid of a process's parent; None where there is no such process."""
    ppid = _status(pid, "PPid")
    return int(ppid) if ppid.isdecimal() else None


def effective_uid(pid: int) -> int | None:
    """The user that a process acts as; None where there is no such process."""
    uids = _status(pid, "Uid").split()
    return int(uids[1]) if len(uids) > 1 and uids[1].isdecimal() else None


def command_name(pid: int) -> str:
    """What a process is called by, for people; printable, and at most 80 characters."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    text = " ".join(word.decode("utf-8", "replace") for word in words)
    return "".join(c if c.isprintable() else "?" for c in text)[:80]


def signals_caught(pid: int) -> list[str]:
    """Names of the signals that a process has a handler for, in the order of their numbers."""
    return [signum.name for signum in sorted(signal.Signals) if catches(pid, signum)]


def boot_id() -> str:
    """Name this boot of this machine."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def pid_namespace() -> str:
    """Name the namespace in which pids count here, `pid:[4026531836]`; empty where it cannot be read."""
    try:
        return str((PROC / "self/ns/pid").readlink())
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a pid, None when there is no such process."""
    try:
        # The name in brackets may itself hold brackets and blanks: count from the last one.
        fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode("ascii"), int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _status(pid: int, key: str) -> str:
    try:
        lines = (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{key}:")), "")
