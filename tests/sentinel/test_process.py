"""A process is pid, start time and boot; a signal reaches that process or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sentinel import process as process_module
from sentinel.process import Liveness, Process, catches, from_record, liveness, myself, resident_bytes, send

CATCHING = "import signal; signal.signal(signal.SIGUSR2, lambda *_: print('rung', flush=True))"
PLAIN = "pass"
WAITING = "{0}; print('ready', flush=True)\nwhile True: signal.pause()"


def start(setup: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", f"import signal; {WAITING.format(setup)}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.fixture
def child() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def begin(setup: str) -> subprocess.Popen[str]:
        started.append(start(setup))
        return started[-1]

    yield begin
    for one in started:
        one.kill()
        one.wait(timeout=10)
        if one.stdout:
            one.stdout.close()


def identity(pid: int) -> Process:
    ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    return replace(myself(), pid=pid, start_time=ticks)


def until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.002)
    return condition()


def test_a_process_is_alive_then_a_zombie_then_gone(child: Callable[[str], subprocess.Popen[str]]) -> None:
    """Ended and not yet waited for is not alive: a zombie trains nothing."""
    job = child(PLAIN)
    trainer = identity(job.pid)
    assert liveness(trainer) is Liveness.ALIVE
    os.kill(job.pid, signal.SIGKILL)
    assert until(lambda: liveness(trainer) is Liveness.ZOMBIE)
    assert liveness(trainer).ended
    job.wait(timeout=10)
    assert liveness(trainer) is Liveness.GONE


def test_a_reused_pid_is_another_process(child: Callable[[str], subprocess.Popen[str]]) -> None:
    """The number is the same, the start time is not: it counts as gone and gets no signal of any kind."""
    job = child(CATCHING)
    earlier = replace(identity(job.pid), start_time=identity(job.pid).start_time - 1)
    assert liveness(earlier) is Liveness.GONE
    for signum in (signal.SIGUSR2, signal.SIGTERM, signal.SIGKILL):
        assert "not sent" in send(earlier, signum)
    assert send(identity(job.pid), signal.SIGUSR2) == ""
    assert job.stdout is not None
    assert job.stdout.readline() == "rung\n"
    assert job.poll() is None


def test_a_pid_reused_between_the_look_and_the_signal_is_not_touched(
    child: Callable[[str], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start time is read again once the pidfd is held: from then on it can mean no other process."""
    job = child(PLAIN)
    trainer = identity(job.pid)
    opened = os.pidfd_open

    def reused(pid: int) -> int:
        monkeypatch.setattr(process_module, "_stat", lambda _pid: ("R", trainer.start_time + 5))
        return opened(pid)

    monkeypatch.setattr(os, "pidfd_open", reused)
    assert "belongs to another process" in send(trainer, signal.SIGKILL)
    monkeypatch.undo()
    assert liveness(trainer) is Liveness.ALIVE


def test_the_doorbell_is_not_rung_where_it_would_kill(child: Callable[[str], subprocess.Popen[str]]) -> None:
    """SIGUSR2's default is to kill; a process without a handler keeps its life."""
    job = child(PLAIN)
    trainer = identity(job.pid)
    assert not catches(job.pid, signal.SIGUSR2)
    assert "no handler" in send(trainer, signal.SIGUSR2, only_if_caught=True)
    assert liveness(trainer) is Liveness.ALIVE
    other = child(CATCHING)
    assert catches(other.pid, signal.SIGUSR2)
    assert not catches(other.pid, signal.SIGUSR1)
    assert send(identity(other.pid), signal.SIGUSR2, only_if_caught=True) == ""


def test_a_stopped_process_can_be_ended(child: Callable[[str], subprocess.Popen[str]]) -> None:
    """SIGTERM waits for SIGCONT: a stopped job is alive until both have come."""
    job = child(PLAIN)
    trainer = identity(job.pid)
    assert send(trainer, signal.SIGSTOP) == ""
    assert send(trainer, signal.SIGTERM) == ""
    assert liveness(trainer) is Liveness.ALIVE
    assert send(trainer, signal.SIGCONT) == ""
    assert job.wait(timeout=10) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({"boot_id": "an earlier boot"}, Liveness.GONE),
        ({"boot_id": "an earlier boot", "host": "far-away"}, Liveness.OTHER_HOST),
        ({"host": "a container on this kernel"}, Liveness.OTHER_HOST),
        ({"pid_namespace": "pid:[1]"}, Liveness.OTHER_HOST),
    ],
)
def test_another_boot_or_host_is_never_signalled(changes: dict[str, Any], known: Liveness) -> None:
    """A reboot has ended everything; of another host nothing is known; the same pid here is a stranger."""
    stranger = replace(myself(), **changes)
    assert liveness(stranger) is known
    assert f"the process is {known}" in send(stranger, signal.SIGKILL)


@pytest.mark.parametrize(
    "record",
    [
        None,
        {},
        {"pid": "1"},
        {"pid": 0, "start_time": 1, "boot_id": "b"},
        {"pid": -5, "start_time": 1, "boot_id": "b"},
        {"pid": 1, "start_time": 1, "boot_id": "b"},
        {"pid": True, "start_time": 1, "boot_id": "b"},
        {"pid": 77, "start_time": None, "boot_id": "b"},
    ],
)
def test_a_record_that_names_no_process_names_nobody(record: dict[str, object] | None) -> None:
    """Zero and negative pids are whole groups, and a start time that is missing cannot be compared."""
    assert from_record(record) is None
    assert liveness(from_record(record)) is Liveness.UNKNOWN
    assert "not sent" in send(None, signal.SIGKILL)


def test_memory_is_that_of_the_process_itself(child: Callable[[str], subprocess.Popen[str]]) -> None:
    """Bytes, and nothing at all for a process that is not there."""
    size = resident_bytes(identity(child(PLAIN).pid))
    assert size is not None
    assert 1_000_000 < size < 1_000_000_000
    assert resident_bytes(replace(myself(), start_time=1)) is None
