"""How a process ended that is no child of ours, and that another with its pid is never taken for it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sentinel.exit_codes import Held, status_of
from sentinel.process import Liveness, Process, identify, liveness


def kernel_tells() -> bool:
    """Whether this kernel tells a pidfd's holder how its process ended."""
    child = subprocess.Popen(["true"])
    descriptor = os.pidfd_open(child.pid)
    child.wait()
    try:
        return status_of(descriptor) == 0
    finally:
        os.close(descriptor)


needs_kernel = pytest.mark.skipif(not kernel_tells(), reason="the kernel is older than Linux 6.15")


def orphan(program: str) -> Process:
    """Start a process whose parent has ended: init, or whoever stands in for it, fetches its code."""
    said = subprocess.run(
        ["sh", "-c", f"sh -c '{program}' > /dev/null 2>&1 & echo $!"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = identify(int(said.stdout))
    assert found is not None
    return found


def until(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@needs_kernel
@pytest.mark.parametrize(("program", "code"), [("true", 0), ("exit 7", 7), ("kill -9 $$", -9)])
def test_an_orphans_end_is_known_to_who_held_it(tmp_path: Path, program: str, code: int) -> None:
    """Its own code, or the signal that ended it; once."""
    process = orphan(f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; {program}")
    held, found = Held(), {}
    held.hold(process)
    assert held.ended() == {}
    (tmp_path / "go").touch()

    def over() -> bool:
        found.update(held.ended())
        return bool(found)

    until(over)
    assert {pid: os.waitstatus_to_exitcode(status) for pid, status in found.items()} == {process.pid: code}
    assert held.ended() == {}


def test_a_zombies_end_stands_in_proc() -> None:
    """Nobody has fetched its code, and nobody may for long: a container without an init."""
    child = subprocess.Popen(["sh", "-c", "read line; exit 3"], stdin=subprocess.PIPE)
    assert child.stdin is not None
    process = identify(child.pid)
    assert process is not None
    held = Held()
    held.hold(process)
    child.stdin.close()
    until(lambda: liveness(process) is Liveness.ZOMBIE)
    assert held.ended() == {child.pid: 3 << 8}
    assert child.wait() == 3


def test_a_successor_of_the_pid_is_not_held() -> None:
    """What has another start time is another process."""
    child = subprocess.Popen(["sleep", "60"])
    process = identify(child.pid)
    assert process is not None
    held = Held()
    held.hold(replace(process, start_time=process.start_time - 1))
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert held.ended() == {}


def test_what_is_no_pidfd_tells_nothing() -> None:
    """As a kernel that does not know the question."""
    with open(os.devnull, "rb") as file:  # noqa: PTH123  a descriptor is what is wanted
        assert status_of(file.fileno()) is None
