"""Once found, a run's process stays that process; a pid that changed hands names nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sentinel.attachment import Attached, Named, attach, named_processes
from sentinel.errors import ConfigError
from sentinel.holders import Held
from sentinel.process import Liveness, Process, identify, liveness, send

A = Process(100, 1, "boot", "host", 7)
B = Process(200, 2, "boot", "host", 7)
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
WAIT = """
import signal
signal.signal(signal.SIGUSR1, lambda *_: None)
print(1, flush=True)
while True: signal.pause()
"""


def nobody() -> Held:
    return Held()


def found(process: Process) -> Callable[[], Held]:
    return lambda: Held(process)


def living(_process: Process | None) -> Liveness:
    return Liveness.ALIVE


def gone(_process: Process | None) -> Liveness:
    return Liveness.GONE


@pytest.fixture
def start() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a process that catches SIGUSR1."""
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-S", "-c", WAIT], stdout=subprocess.PIPE)
        started.append(child)
        assert child.stdout is not None
        child.stdout.readline()
        return child

    yield begin
    for child in started:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_the_writer_is_taken_and_kept() -> None:
    """It stays the trainer while nothing is held (between two files), and after its end."""
    first = attach(Attached(), None, found(A), owner=None, alive=living)
    assert first == Attached(A, "holder")
    assert attach(first, None, nobody, owner=None, alive=living) == first
    assert attach(first, None, nobody, owner=None, alive=gone) == first


def test_a_second_writer_beside_a_living_one_leaves_nobody() -> None:
    """Which of them obeys cannot be seen; once the first has ended, the second is the trainer."""
    first = Attached(A, "holder")
    both = attach(first, None, found(B), owner=None, alive=living)
    assert both.process is None
    assert "100" in both.why_not
    assert "200" in both.why_not
    assert attach(first, None, found(B), owner=None, alive=gone) == Attached(B, "holder")


def test_who_is_named_comes_before_who_writes() -> None:
    """A logger may hold the file of a job that is another process."""
    assert attach(Attached(B, "holder"), A, found(B), owner=7, alive=living) == Attached(A, "pid")


def test_another_user_than_the_files_owner_is_not_attached() -> None:
    """Also where a person names it, and also by root."""
    attached = attach(Attached(), A, nobody, owner=8, alive=living)
    assert attached.process is None
    assert "user 7" in attached.why_not


def test_a_named_pid_that_changed_hands_between_two_sentinels_names_nobody() -> None:
    """The unit file still says --pid 100, the job has ended, and the kernel has given 100 to a stranger."""
    stranger = replace(A, start_time=99)
    kept = attach(Attached(A, "pid"), stranger, nobody, owner=7, alive=gone)
    assert kept.process == A, "the one that ended, so that its end is seen"
    assert "another process" in kept.why_not
    again = attach(Attached(A, "pid"), stranger, found(stranger), owner=7, alive=gone)
    assert again == Attached(stranger, "pid"), "it writes this run: the job, started again"


def test_what_was_found_is_remembered() -> None:
    """A restart of the sentinel knows the same process, and what makes no sense is nobody."""
    assert Attached.from_record(Attached(A, "pid").to_record()) == Attached(A, "pid")
    assert Attached.from_record({}) == Attached()
    assert Attached.from_record({"pid": 1, "how": "pid"}) == Attached()


@pytest.mark.parametrize("options", [["x"], ["a="], ["a=-5"], ["0"], ["1"], ["4000000"], ["a=²"]])
def test_a_pid_that_is_none_is_refused_at_the_start(options: list[str]) -> None:
    """Nothing is started by a typo; 0 and 1 are a group and init."""
    with pytest.raises(ConfigError, match="nothing was started"):
        named_processes(options)


def test_pids_are_named_by_run() -> None:
    """Who it is, is fixed now: the start time is that of this moment."""
    me = os.getpid()
    assert named_processes([f"a={me}", f"b=x={me}"]) == {"a": identify(me), "b=x": identify(me)}
    with pytest.raises(ConfigError, match="named before"):
        named_processes([f"a={me}", f"a={me}"])


def test_a_pid_without_a_run_belongs_to_the_only_live_one() -> None:
    """With several it is given to none, which is said once; a run that had it before has it again."""
    known = Named({"": A})
    assert known.settle({}) == ""
    assert "a, b" in known.settle({"a": None, "b": None})
    assert known.settle({"a": None, "b": None}) == ""
    assert known.settle({"a": None}) == ""
    assert (known.of("a"), known.of("b")) == (A, None)
    resumed = Named({"": A})
    assert resumed.settle({"a": B, "b": A}) == ""
    assert resumed.of("b") == A


def reuse(pid: int, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes] | None:
    """Start a process that gets a given pid; None where this machine does not let us choose."""
    for _ in range(50):
        try:
            LAST_PID.write_text(str(pid - 1))
        except OSError:
            return None
        child = start()
        if child.pid == pid:
            return child
    return None


def test_a_pid_that_was_handed_out_again_is_never_signalled(
    start: Callable[[], subprocess.Popen[bytes]],
) -> None:
    """For real: the recorded process ends, and the kernel gives its very pid to another that would obey."""
    job = start()
    recorded = identify(job.pid)
    assert recorded is not None
    assert send(recorded, signal.SIGUSR1, only_if_caught=True) == ""
    job.kill()
    job.wait()
    stranger = reuse(job.pid, start)
    if stranger is None:  # no right to choose a pid: a living process under a record of another start time
        stranger = start()
        recorded = replace(recorded, pid=stranger.pid)
    assert stranger.pid == recorded.pid
    assert liveness(recorded) is Liveness.GONE
    for signum in (signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL):
        assert "not sent" in send(recorded, signum)
    assert stranger.poll() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may signal other users' processes at all")
def test_a_process_that_became_another_users_is_not_signalled() -> None:
    """Same pid, same start time, other user: what was recorded is not what is there."""
    script = "import os, signal; os.setuid(65534); print(1, flush=True)\nwhile 1: signal.pause()"
    child = subprocess.Popen([sys.executable, "-S", "-c", script], stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        child.stdout.readline()
        now = identify(child.pid)
        assert now is not None
        assert now.uid == 65534
        assert "another user" in send(replace(now, uid=0), signal.SIGKILL)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
