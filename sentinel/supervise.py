"""`sentinel run -- CMD`: the processes that the sentinel has started, and the signals meant for them.

A child keeps our terminal, our standard streams (no pipe that could fill up and stop it) and our process
group, so the terminal treats both as one: Ctrl-C and Ctrl-Z reach each of them once, from the kernel. It is
not tied to our life: if the sentinel is killed, training goes on. Nothing here waits and nothing here
decides; what is to be started, ended or started again is `sentinel.job`'s.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from sentinel import launch
from sentinel.errors import ConfigError
from sentinel.exit_codes import Held
from sentinel.interrupts import Interrupts, held
from sentinel.members import MARK, members
from sentinel.process import Process, liveness, send

FORWARDED = (signal.SIGINT, signal.SIGTERM)
HANDLED = (signal.SIGTERM, signal.SIGHUP)


class Processes:
    """Children of this process, and the one that is the job now.

    Attributes:
        current: the job's main process; None while there is none. mark: what its whole family carries.
        exits: exit codes of those that have ended, by pid, where they are known.
        started: pids by the number of the life.
        asked_to_stop: the signal by which a person or a scheduler asked the job to end.
    """

    def __init__(self) -> None:
        self.current: Process | None = None
        self.mark = ""
        self.exits: dict[int, int] = {}
        self.started: dict[int, int] = {}
        self.asked_to_stop: signal.Signals | None = None
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._adopted = Held()

    def start(self, command: Sequence[str], *, claim: Path, mark: str, folder: Path) -> int:
        """Start a command behind its claim (see `sentinel.launch`), and return its pid.

        Raises:
            OSError: no process could be made.
        """
        claim.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        launcher = [sys.executable, "-I", "-S", launch.__file__, str(claim.absolute()), *command]
        child = subprocess.Popen(launcher, cwd=folder, env={**os.environ, MARK: mark})
        self._children[child.pid] = child
        return child.pid

    def adopt(self, process: Process) -> None:
        """Learn how a process ends that an earlier sentinel started; nothing for a child of ours."""
        if process.pid not in self._children:
            self._adopted.hold(process)

    def reap(self) -> None:
        """Take note of those that have ended. Never waits."""
        for pid, told in self._adopted.ended().items():
            self.exits[pid] = exit_code(os.waitstatus_to_exitcode(told))
        for pid, child in list(self._children.items()):
            status = child.poll()
            if status is not None:
                self.exits[pid] = exit_code(status)
                del self._children[pid]

    def lives(self, process: Process) -> bool:
        """Whether a process of the job goes on; one whose exit code is known does not."""
        return process.pid not in self.exits and not liveness(process).ended

    def pass_on(self, signum: signal.Signals, *, by_terminal: bool = False) -> None:
        """Hand a signal to the job, unless it has had it from the terminal; with its main process gone, to
        what that has left behind.

        Args:
            signum: which. by_terminal: the terminal sent it, to every process of its foreground group.
        """
        process = self.current
        if process is None:
            return
        self.reap()
        if not self.lives(process):
            for each in members(self.mark):
                send(each, signum)
        elif not (by_terminal and _in_our_group(process)):
            send(process, signum)


class Forwarding:
    """While used as a context manager: the signals to this process are the job's.

    A handler only notes the signal and wakes the loop; `poll` passes it on. SIGINT is waited for instead, so
    that a Ctrl-C can be told from a `kill -INT`; in a process of several threads, enter
    `sentinel.interrupts.held` before they are started. A SIGHUP asks for the rules to be
    read anew, as without a child; that of a terminal which was closed is an end. Where SIGHUP is ignored
    (nohup) it stays so.
    """

    def __init__(self, processes: Processes, wake: Callable[[], object]) -> None:
        self._processes = processes
        self._wake = wake
        self._queued: deque[tuple[signal.Signals, bool]] = deque()  # append and popleft are atomic
        self._held = ExitStack()
        self._before: dict[signal.Signals, signal._HANDLER] = {}
        self._had_terminal = _has_terminal()
        self._reload = False

    def poll(self) -> None:
        """Pass on what has come, and take note of what has ended. Never waits."""
        while self._queued:
            signum, by_terminal = self._queued.popleft()
            self._processes.pass_on(signum, by_terminal=by_terminal)
        self._processes.reap()

    def take_reload(self) -> bool:
        """Say once that the rules are to be read anew."""
        asked, self._reload = self._reload, False
        return asked

    def __enter__(self) -> Self:
        self._held.enter_context(held())
        interrupts = Interrupts(partial(self._ask, signal.SIGINT))
        interrupts.start()
        self._held.callback(interrupts.stop)
        for signum in HANDLED:
            if signum is signal.SIGHUP and signal.getsignal(signum) is signal.SIG_IGN:
                continue
            self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()
        self._held.close()

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        if signum == signal.SIGTERM:
            self._ask(signal.SIGTERM, by_terminal=False)
        elif self._had_terminal and not _has_terminal():
            # The kernel tells the session's leader alone, which is a shell that tells its jobs, or ourselves.
            self._ask(signal.SIGHUP, by_terminal=os.getsid(0) != os.getpid())
        else:
            self._reload = True
            self._wake()

    def _ask(self, signum: signal.Signals, by_terminal: bool) -> None:  # noqa: FBT001  as `Interrupts` calls it
        """Note that the end of the job was asked for; called in a handler or in a thread."""
        self._processes.asked_to_stop = signum
        self._queued.append((signum, by_terminal))
        self._wake()


def check_command(command: Sequence[str]) -> None:
    """See to it that a command can be started at all, before anything is.

    Raises:
        ConfigError: its program is not there or may not be run.
    """
    if shutil.which(command[0]) is None:
        there = Path(command[0]).exists()
        why = "it is no program that you may run" if there else "no such file on the PATH"
        raise ConfigError(f"cannot start {command[0]!r}: {why}; nothing is being trained")


def exit_code(status: int) -> int:
    """The shell's way of telling a status: the child's own code, or 128 + n when signal n ended it."""
    return 128 - status if status < 0 else status


def _in_our_group(process: Process) -> bool:
    """Whether what a terminal sends to our group reaches the job anyway.

    Passed on as well it would count twice, and many jobs take a second one for "at once, without a
    checkpoint".
    """
    try:
        return os.getpgid(process.pid) == os.getpgrp()
    except OSError:
        return False


def _has_terminal() -> bool:
    """Whether there is a terminal behind us, whatever our streams are."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
