"""The supervised command runs as if nobody watched: its streams, its exit code, the signals meant for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sentinel.errors import ConfigError
from sentinel.supervise import FORWARDED, Child, exit_code

SUPERVISOR = """
import sys, threading
from sentinel.supervise import Child
wake = threading.Event()
with Child(sys.argv[1:], wake=wake.set) as child:
    while (code := child.poll()) is None:
        wake.wait(0.02)
        wake.clear()
sys.exit(code)
"""
CHILD = """
import signal, sys
def stop(signum, frame):
    print(signal.Signals(signum).name, flush=True)
    sys.exit(7)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
signal.pause()
"""


def ended(child: Child, seconds: float = 20) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        code = child.poll()
        if code is not None:
            return code
        time.sleep(0.002)
    raise AssertionError("the child has not ended")


@pytest.mark.parametrize(
    ("code", "shown"),
    [("raise SystemExit(0)", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_the_exit_code_is_the_childs(code: str, shown: int) -> None:
    """Whoever starts `sentinel run -- CMD` from a script sees what CMD would have said."""
    assert ended(Child([sys.executable, "-S", "-c", code])) == shown
    assert exit_code(-signal.SIGTERM) == 143


@pytest.mark.parametrize("signum", FORWARDED)
def test_signals_reach_the_child_and_its_answer_is_ours(signum: signal.Signals) -> None:
    """A scheduler's SIGTERM to the supervisor ends the training in its own way; no output is lost."""
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, sys.executable, "-S", "-c", CHILD],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # no terminal: it would deliver SIGINT to the child by itself
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signum)
    rest, _ = process.communicate(timeout=20)
    assert (rest, process.returncode) == (f"{signum.name}\n", 7)


def test_training_outlives_its_supervisor(tmp_path: Path) -> None:
    """SIGKILL to the sentinel leaves the child running, in its own words until its own end."""
    code = "import sys; print('ready', flush=True); sys.stdin.read(); open(sys.argv[1], 'w').close()"
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, sys.executable, "-S", "-c", code, str(tmp_path / "end")],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.wait(timeout=10)
    process.stdin.close()
    assert process.stdout.read() == ""  # the child holds the pipe until it ends
    process.stdout.close()
    assert (tmp_path / "end").exists()


def test_poll_does_not_wait_and_handlers_are_given_back() -> None:
    """The tick goes on while the child runs, and a second Ctrl-C after the run is ours again."""
    before = [signal.getsignal(signum) for signum in FORWARDED]
    wake = threading.Event()
    with Child([sys.executable, "-S", "-c", "import signal; signal.pause()"], wake=wake.set) as child:
        assert child.poll() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert wake.is_set()
        assert child.asked_to_stop is signal.SIGTERM
        assert ended(child) == 143
    assert [signal.getsignal(signum) for signum in FORWARDED] == before


def test_a_command_that_cannot_be_started_is_said(tmp_path: Path) -> None:
    """The reason, and that nothing is being trained."""
    with pytest.raises(ConfigError, match=r"cannot start 'no-such-program'.*nothing is being trained"):
        Child(["no-such-program"])
    with pytest.raises(ConfigError, match="after `--`"):
        Child([])
    with pytest.raises(ConfigError, match="cannot start"):
        Child([sys.executable], folder=tmp_path / "missing")
