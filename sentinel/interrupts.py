"""Ctrl-C, told from a SIGINT that somebody sent: the kernel says which it was, to whoever waits for it.

A terminal's Ctrl-C reaches its whole foreground group by itself, a `kill -INT` only whom it names. A handler
cannot tell them apart (Python hands it the number alone), but `sigwaitinfo` can. For that the signal has to
be held back in every thread, so `held` begins before any is started; the mask is inherited by what is
started, and `sentinel.launch` gives it back.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_MINE = {signal.SIGINT}

_BY_THE_KERNEL = 0x80
"""SI_KERNEL of <asm-generic/siginfo.h>: a terminal's signals have this code, those of processes do not."""


@contextmanager
def held() -> Iterator[None]:
    """Hold SIGINT back in this thread and in all that are started within; `Interrupts` takes it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _MINE)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Interrupts:
    """Waits for SIGINT in a thread of its own, from `start` to `stop`.

    Args:
        note: called in that thread for each one; True: the terminal sent it, to its whole foreground group.
    """

    def __init__(self, note: Callable[[bool], object]) -> None:
        self._note = note
        self._stopped = False
        self._thread = threading.Thread(target=self._listen, name="interrupts", daemon=True)

    def start(self) -> None:
        """Begin; SIGINT is `held` by then."""
        self._thread.start()

    def stop(self) -> None:
        """End; a SIGINT that comes later stays pending until it is no longer held."""
        self._stopped = True
        if self._thread.ident is not None:
            signal.pthread_kill(self._thread.ident, signal.SIGINT)  # to that thread alone: it ends its wait
        self._thread.join()

    def _listen(self) -> None:
        while True:
            found = signal.sigwaitinfo(_MINE)
            if self._stopped and found.si_pid == os.getpid():
                return
            self._note(found.si_code == _BY_THE_KERNEL)
