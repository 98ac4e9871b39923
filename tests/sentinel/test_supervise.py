"""What is started runs as if nobody watched: streams, exit code, variables, and the signals meant for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sentinel import launch
from sentinel.errors import ConfigError
from sentinel.members import MARK, holders, identify, members
from sentinel.process import from_record
from sentinel.supervise import FORWARDED, HANDLED, Forwarding, Processes, check_command, exit_code
from tests.e2e.scene import until

SUPERVISOR = """
import sys, threading
from pathlib import Path
from sentinel.members import identify
from sentinel.supervise import Forwarding, Processes
wake = threading.Event()
family = Processes()
with Forwarding(family, wake.set) as signals:
    pid = family.start(sys.argv[2:], claim=Path(sys.argv[1]), mark="test", folder=Path.cwd())
    family.current, family.mark = identify(pid), "test"
    while pid not in family.exits:
        signals.poll()
        wake.wait(0.02)
        wake.clear()
sys.exit(family.exits[pid])
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


def started(family: Processes, folder: Path, *command: str, mark: str = "test") -> int:
    claim = folder / f"claim-{len(family.exits)}"
    pid = family.start(command, claim=claim, mark=mark, folder=folder)
    family.current, family.mark = identify(pid), mark
    return pid


def ended(family: Processes, pid: int, seconds: float = 20) -> int:
    deadline = time.monotonic() + seconds
    while pid not in family.exits:
        assert time.monotonic() < deadline, "the child has not ended"
        time.sleep(0.002)
        family.reap()
    return family.exits[pid]


@pytest.mark.parametrize(
    ("code", "shown"),
    [("raise SystemExit(0)", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_the_exit_code_is_the_childs(tmp_path: Path, code: str, shown: int) -> None:
    """Whoever starts `sentinel run -- CMD` from a script sees what CMD would have said."""
    family = Processes()
    assert ended(family, started(family, tmp_path, sys.executable, "-S", "-c", code)) == shown
    assert exit_code(-signal.SIGTERM) == 143


def test_the_command_gets_what_it_would_have_got_alone(tmp_path: Path) -> None:
    """Its arguments, its variables but for the mark, its folder, and no signal ignored besides."""
    show = "tr '\\0' '\\n' < /proc/self/environ; pwd; printf '%s\\n' \"$@\"; grep SigIgn /proc/$$/status"
    odd = ["a b", "$HOME; echo x", "--resume", "'"]
    environment = {**os.environ, "PYTHONPATH": str(Path(launch.__file__).parents[1]), "LC_ALL": "C"}
    alone = subprocess.run(
        ["sh", "-c", show, "x", *odd],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    program = (
        "import sys; from pathlib import Path; from sentinel.supervise import Processes\n"
        "family = Processes()\n"
        "pid = family.start(sys.argv[2:], claim=Path('claim'), mark='m.1', folder=Path(sys.argv[1]))\n"
        "while pid not in family.exits: family.reap()\n"
    )
    watched = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), "sh", "-c", show, "x", *odd],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    lines = watched.stdout.splitlines()
    lines.remove(f"{MARK}=m.1")
    assert lines == alone.stdout.splitlines()


@pytest.mark.parametrize("signum", FORWARDED)
def test_signals_reach_the_child_and_its_answer_is_ours(tmp_path: Path, signum: signal.Signals) -> None:
    """A scheduler's SIGTERM to the supervisor ends the training in its own way; no output is lost."""
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path / "claim"), sys.executable, "-S", "-c", CHILD],
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
    command = [sys.executable, "-S", "-c", code, str(tmp_path / "end")]
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path / "claim"), *command],
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


def test_nothing_waits_and_handlers_are_given_back(tmp_path: Path) -> None:
    """The tick goes on while the child runs, and a second Ctrl-C after the run is ours again."""
    before = [signal.getsignal(signum) for signum in HANDLED]
    wake = threading.Event()
    family = Processes()
    with Forwarding(family, wake.set) as signals:
        pid = started(family, tmp_path, sys.executable, "-S", "-c", "import signal; signal.pause()")
        signals.poll()
        assert pid not in family.exits
        os.kill(os.getpid(), signal.SIGTERM)
        assert wake.is_set()
        assert family.asked_to_stop is signal.SIGTERM
        signals.poll()
        assert ended(family, pid) == 143
        os.kill(os.getpid(), signal.SIGHUP)
        assert (signals.take_reload(), signals.take_reload()) == (True, False)
    assert [signal.getsignal(signum) for signum in HANDLED] == before


def test_a_start_happens_once(tmp_path: Path) -> None:
    """Who claims second starts nothing; the claim names the process that did."""
    made, claim = tmp_path / "made", tmp_path / "claim"
    family = Processes()
    command = ["sh", "-c", f"echo $$ >> {made}"]
    codes = []
    for _ in range(2):
        pid = family.start(command, claim=claim, mark="m", folder=tmp_path)
        codes.append(ended(family, pid))
    assert codes == [0, launch.CLAIMED]
    process = from_record(json.loads(claim.read_bytes()))
    assert process is not None
    assert made.read_text().split() == [str(process.pid)]


def test_a_family_is_known_by_its_mark_whatever_it_does(tmp_path: Path) -> None:
    """Grandchildren with a session of their own and a dead parent belong to it; a stranger does not."""
    family = Processes()
    program = f"setsid sleep 60 & sleep 60 > {tmp_path}/held & exit 3"
    stranger = subprocess.Popen(["sleep", "60"])
    pid = started(family, tmp_path, "sh", "-c", program, mark="t.7")
    try:
        assert ended(family, pid) == 3
        deadline = time.monotonic() + 10
        while len(left := members("t.7")) != 2:
            assert time.monotonic() < deadline
        assert stranger.pid not in {process.pid for process in left}
        while len(holders([tmp_path / "held"], members("t.7"))) != 1:  # the shell opens it after its fork
            assert time.monotonic() < deadline
        family.pass_on(signal.SIGTERM)  # its main process is gone: the signal is for who is left
        while members("t.7"):
            assert time.monotonic() < deadline + 10
    finally:
        stranger.kill()
        stranger.wait()
        for process in members("t.7"):
            os.kill(process.pid, signal.SIGKILL)


def test_a_member_between_two_programs_is_seen(tmp_path: Path) -> None:
    """In the middle of an exec it shows no variables; a signal that passed it over would be lost."""
    script = tmp_path / "again"
    script.write_text('[ "$1" -gt 0 ] && exec sh "$0" $(($1 - 1))\nexec sleep 60\n')
    command = ["sh", str(script), "100000"]
    process = subprocess.Popen(command, env={**os.environ, MARK: "exec.1"})
    try:
        until(lambda: members("exec.1"), "it has begun")
        assert all(members("exec.1") for _ in range(100))
    finally:
        process.kill()
        process.wait()


def test_a_command_that_cannot_be_started_is_said(tmp_path: Path) -> None:
    """The reason, and that nothing is being trained; later it has the shell's code."""
    with pytest.raises(ConfigError, match=r"cannot start 'no-such-program'.*nothing is being trained"):
        check_command(["no-such-program"])
    plain = tmp_path / "plain"
    plain.touch()
    with pytest.raises(ConfigError, match="no program that you may run"):
        check_command([str(plain)])
    family = Processes()
    assert ended(family, started(family, tmp_path, "no-such-program")) == launch.NOT_FOUND
