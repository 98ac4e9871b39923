"""`sentinel run -- CMD`: start the training, pass signals on, and end with its exit code.

The child keeps our terminal, our standard streams (no pipe that could fill up and stop it) and our process
group. It is not tied to our life: if the sentinel is killed, training goes on. Nothing here waits, the
engine's tick calls `poll()`.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from sentinel.errors import ConfigError

FORWARDED = (signal.SIGINT, signal.SIGTERM)


class Child:
    """The supervised command.

    Used as a context manager it takes over SIGINT and SIGTERM: they are queued by the handler and passed on
    by the next `poll()`, and this process ends when the child has ended.

    Args:
        command: program and arguments, never a shell line.
        folder: working directory of the child; None for ours.
        environment: variables of the child; None for ours.
        wake: called by the signal handler, so that a waiting tick comes round at once; an Event's `set` will
        do.

    Raises:
        ConfigError: the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        wake: Callable[[], object] | None = None,
    ) -> None:
        if not command:
            raise ConfigError("nothing to run: give the training command after `--`")
        self.command = tuple(command)
        self._wake = wake
        self._queued: list[signal.Signals] = []
        self._before: dict[signal.Signals, signal._HANDLER] = {}
        self.asked_to_stop: signal.Signals | None = None
        try:
            self._popen = subprocess.Popen(self.command, cwd=folder, env=environment)
        except OSError as error:
            where = f" in {folder}" if folder is not None else ""
            raise ConfigError(
                f"cannot start {self.command[0]!r}{where}: {error.strerror}; nothing is being trained"
            ) from error

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._popen.pid

    def poll(self) -> int | None:
        """Pass queued signals on; return the exit code once the child has ended, else None. Never waits."""
        while self._queued:
            signum = self._queued.pop(0)
            if not (signum is signal.SIGINT and _terminal_tells_it()):
                self._popen.send_signal(signum)  # reaps first, so the pid is still the child's own
        status = self._popen.poll()
        return None if status is None else exit_code(status)

    def __enter__(self) -> Self:
        for signum in FORWARDED:
            self._before[signum] = signal.signal(signum, self._queue)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()

    def _queue(self, signum: int, _frame: FrameType | None) -> None:
        self.asked_to_stop = signal.Signals(signum)
        self._queued.append(self.asked_to_stop)
        if self._wake is not None:
            self._wake()


def exit_code(status: int) -> int:
    """The shell's way of telling a status: the child's own code, or 128 + n when signal n ended it."""
    return 128 - status if status < 0 else status


def _terminal_tells_it() -> bool:
    """Whether Ctrl-C reaches the child anyway: the terminal signals its whole foreground group.

    Passed on as well it would count twice, and many jobs take a second one for "at once, without a
    checkpoint".
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
