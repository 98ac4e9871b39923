"""Containers of one pod: a pid namespace that all of them share, a mount namespace for each.

    python -m tests.e2e.pod ARGUMENT… [-- ARGUMENT…]…
    python -m tests.e2e.pod --alone ARGUMENT…

Each group is the arguments of one Python. Process 1 of the namespace only starts them and reaps what ends, as
a pod's `pause` does; host name and boot are everyone's. A container that shares no process namespace has one
of its own, with the same host name and boot, in which its program is process 1: --alone. Root only; what is
left ends with process 1, and that with this one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_NEWNS, _NEWPID, _PRIVATE, _DEATH = 0x00020000, 0x20000000, 1 << 18 | 1 << 14, 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def check(failed: int) -> None:
    """Raise what a call of the C library has left.

    Raises:
        OSError: it failed.
    """
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def own_mounts() -> None:
    """Take a mount namespace, with the processes of the present pid namespace in /proc."""
    check(_LIBC.unshare(_NEWNS))
    check(_LIBC.mount(b"none", b"/", None, _PRIVATE, None))
    check(_LIBC.mount(b"proc", b"/proc", b"proc", 0, None))


def may() -> bool:
    """Whether this machine lets us make such namespaces."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(OSError):
            check(_LIBC.unshare(_NEWPID))
            inner = os.fork()
            if inner == 0:
                with contextlib.suppress(OSError):
                    own_mounts()
                    os._exit(0)
                os._exit(1)
            code = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
        os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def become(arguments: list[str]) -> None:
    """Become the container's program."""
    own_mounts()
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606  no shell is what is wanted


def pause(containers: list[list[str]]) -> None:
    """Be process 1: start each container, and reap until nothing is left."""
    own_mounts()
    for arguments in containers:
        if os.fork() == 0:
            become(arguments)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def groups(words: list[str]) -> list[list[str]]:
    """Split the command line at each `--`."""
    found: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            found.append([])
        else:
            found[-1].append(word)
    return found


if __name__ == "__main__":
    check(_LIBC.unshare(_NEWPID))
    first = os.fork()
    if first == 0:
        check(_LIBC.prctl(_DEATH, signal.SIGKILL, 0, 0, 0))
        if sys.argv[1] == "--alone":
            become(sys.argv[2:])
        pause(groups(sys.argv[1:]))
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
