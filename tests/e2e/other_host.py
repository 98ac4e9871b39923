"""A program on what looks like another host, to itself and to whoever reads what it writes.

    python -m tests.e2e.other_host MODULE ARGUMENT…

It has a host name and a boot of its own, by namespaces that end with it. Root only; its process is still one
of this machine, so a signal that should not have been sent would reach it.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import socket
import sys
import tempfile

NAME = "far-host"
_NEWNS, _NEWUTS, _BIND, _PRIVATE = 0x00020000, 0x04000000, 4096, 1 << 18 | 1 << 14
_BOOT = b"/proc/sys/kernel/random/boot_id"


def move() -> None:
    """Become a process of another host.

    Raises:
        OSError: this machine does not allow it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.NamedTemporaryFile() as boot:
        boot.write(b"00000000-0000-4000-8000-00000000f0f0\n")
        boot.flush()
        for failed in (
            libc.unshare(_NEWNS | _NEWUTS),
            libc.mount(b"none", b"/", None, _PRIVATE, None),
            libc.mount(os.fsencode(boot.name), _BOOT, None, _BIND, None),
        ):
            if failed:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    socket.sethostname(NAME)


if __name__ == "__main__":
    move()
    module, sys.argv = sys.argv[1], sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=False)
