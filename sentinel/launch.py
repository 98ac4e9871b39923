"""What stands between the sentinel and a command for a moment: claim the start, then become the command.

    python -I -S launch.py CLAIM PROGRAM ARGUMENT …

The claim is a file that can be made once. It holds who this process is and will still be after the exec, so a
sentinel that was killed right here finds out whether the command was started, and by which process; one that
is not there says that it never was. Whoever comes second, this file or a sentinel that has made the claim to
forbid the start, does nothing. Standard library only; the command gets the streams, the variables, the folder
and the signals that this process was given.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

NOT_FOUND, NOT_STARTED, CLAIMED = 127, 126, 125
"""Exit codes: as a shell has them for a command that is not there or cannot be run; another's claim."""


def claim(path: Path, content: dict[str, object]) -> bool:
    """Make the claim, whole or not at all; returns False where somebody else has made it.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return True


def main() -> int:
    """Claim, and become the command; returns only where that failed."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the sentinel holds it back: interrupts.py
    path, *command = sys.argv[1:]
    stat = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    me = {"pid": os.getpid(), "start_time": int(stat[19]), "boot_id": boot}
    if not claim(Path(path), {**me, "host": os.uname().nodename, "uid": os.geteuid()}):
        return CLAIMED
    for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores these, and a program would inherit that
        signal.signal(signal.Signals[name], signal.SIG_DFL)
    given = dict(pair.partition(b"=")[::2] for pair in _environment().split(b"\0") if pair)
    try:
        os.execvpe(command[0], command, given)  # noqa: S606  no shell is what is wanted
    except OSError as error:
        print(f"sentinel: cannot start {command[0]!r}: {error.strerror}", file=sys.stderr, flush=True)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_STARTED


def _environment() -> bytes:
    """The variables as they were given: Python itself adds one where the locale is C."""
    return Path("/proc/self/environ").read_bytes()


if __name__ == "__main__":
    sys.exit(main())
