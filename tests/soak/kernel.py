"""Processes that are none: a folder like /proc, pids beyond any real one, and signals that reach an object.

The sentinel's own code for "who is the trainer, does it live, may it be signalled" runs unchanged against it.
Pids lie above the largest that Linux hands out, so that no real process can ever be meant.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import sentinel.guard
import sentinel.holders
import sentinel.process

FIRST_PID = 10_000_000
"""Linux ends at 4,194,304."""


@dataclass
class Simulated:
    """One process: its number, and what a signal does to it.

    Attributes:
        pid: of it. handlers: what it has installed. on_end: called when a signal has ended it.
    """

    pid: int
    handlers: dict[int, Callable[..., object]] = field(default_factory=dict)
    on_end: Callable[[signal.Signals], object] = int


class Kernel:
    """Every simulated process, and the folder in which the sentinel looks them up."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._next = FIRST_PID
        self.processes: dict[int, Simulated] = {}
        self._handles: dict[int, int] = {}
        self._open, self._send = os.pidfd_open, signal.pidfd_send_signal
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        (root / "sys/kernel/random").mkdir(parents=True)
        (root / "sys/kernel/random/boot_id").write_bytes(boot)
        own = root / str(os.getpid())
        own.mkdir()
        shutil.copy(f"/proc/{os.getpid()}/stat", own / "stat")
        shutil.copy(f"/proc/{os.getpid()}/status", own / "status")

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the sentinel see these processes and no others."""
        with ExitStack() as stack:
            for owner, name, stand_in in (
                (sentinel.process, "PROC", self.root),
                (sentinel.holders, "writers", dict),
                (sentinel.guard.Guard, "_say", lambda *_said: None),  # thousands of lines
                (os, "pidfd_open", self._pidfd_open),
                (signal, "pidfd_send_signal", self._pidfd_send_signal),
            ):
                stack.enter_context(mock.patch.object(owner, name, stand_in))
            yield

    def spawn(self) -> Simulated:
        """Begin a process."""
        found = Simulated(self._next)
        self._next += 1
        self.processes[found.pid] = found
        (self.root / str(found.pid)).mkdir()
        self._write(found, "S")
        return found

    @contextmanager
    def inside(self, process: Simulated) -> Iterator[None]:
        """What runs here takes itself for `process`: its pid, its start time, its handlers of signals."""

        def install(signum: int, handler: Callable[..., object]) -> None:
            process.handlers[signum] = handler
            self._write(process, "S")

        with (
            mock.patch.object(os, "getpid", return_value=process.pid),
            mock.patch.object(sentinel.guard, "_start_time", return_value=(process.pid, "S")),
            mock.patch.object(signal, "signal", install),
            mock.patch.object(signal, "getsignal", lambda s: process.handlers.get(s, signal.SIG_DFL)),
            mock.patch.object(atexit, "register"),  # thousands, for no exit
        ):
            yield

    def end(self, process: Simulated) -> None:
        """Let a process be gone."""
        if self.processes.pop(process.pid, None) is not None:
            shutil.rmtree(self.root / str(process.pid))

    def _write(self, process: Simulated, state: str) -> None:
        folder = self.root / str(process.pid)
        zeros = " ".join(["0"] * 18)
        caught = sum(1 << (signum - 1) for signum in process.handlers)
        uid = os.geteuid()
        status = f"Name:\tjob\nPPid:\t1\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nSigCgt:\t{caught:016x}\n"
        status += "VmRSS:\t1000 kB\n"
        (folder / "stat").write_text(f"{process.pid} (job) {state} {zeros} {process.pid} 0 0\n")
        (folder / "status").write_text(status)

    def _pidfd_open(self, pid: int, flags: int = 0) -> int:
        if pid < FIRST_PID:
            return self._open(pid, flags)
        if pid not in self.processes:
            raise ProcessLookupError(3, "No such process")
        handle = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._handles[handle] = pid
        return handle

    def _pidfd_send_signal(self, handle: int, signum: signal.Signals) -> None:
        pid = self._handles.pop(handle, None)
        if pid is None:
            raise AssertionError(f"{signum!r} was sent to a process that is none of the soak's")
        process = self.processes[pid]
        if signum in process.handlers:
            process.handlers[signum](signum, None)
        elif signum != signal.SIGCONT:
            process.on_end(signal.Signals(signum))
