"""`sentinel run LOGDIR -- CMD`: the command's own exit code, output and signals, as if it stood alone."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.e2e.scene import ROOT, Scene, until

LOUD = """
import sys
for _ in range(300):
    sys.stdout.write("o" * 8191 + "\\n")
    sys.stderr.write("e" * 8191 + "\\n")
sys.exit(7)
"""
LISTENS = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
print("ready", flush=True)
try:
    while True:
        time.sleep(0.02)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(5)
"""


def run(scene: Scene, program: str) -> list[str]:
    """The command line of a sentinel that starts a Python program."""
    command = [
        "-m",
        "sentinel",
        "run",
        "-c",
        str(scene.config),
        "--state",
        str(scene.state),
        str(scene.logdir),
    ]
    return [sys.executable, *command, "--", sys.executable, "-c", program]


def test_exit_code_and_output_are_the_childs_own(scene: Scene) -> None:
    """Two megabytes on each stream come through whole and stop nobody; its failure is told."""
    done = subprocess.run(
        run(scene, LOUD), env=scene.environment, cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 7
    assert done.stdout == (b"o" * 8191 + b"\n") * 300
    assert done.stderr.count(b"e" * 8191 + b"\n") == 300
    told = json.dumps([call.body for call in scene.slack.sent()])
    assert "ended with exit code 7" in told


@pytest.mark.slow
def test_a_file_gets_what_it_would_have_got(scene: Scene) -> None:
    """Its standard output is the file itself: position, bytes and all, and nothing of ours."""
    program = "import os; os.write(1, b'\\x00\\xff'); print(os.lseek(1, 0, os.SEEK_CUR), os.fstat(1).st_ino)"
    path = scene.folder / "out"
    with path.open("wb") as out:
        done = subprocess.run(
            run(scene, program), env=scene.environment, cwd=ROOT, stdout=out, timeout=60, check=False
        )
    assert done.returncode == 0
    assert path.read_bytes() == b"\x00\xff2 %d\n" % path.stat().st_ino


@pytest.mark.parametrize(
    ("signum", "code", "says"),
    [
        (signal.SIGINT, 5, "interrupted"),
        pytest.param(signal.SIGTERM, 128 + 15, "ready", marks=pytest.mark.slow),
    ],
)
def test_a_signal_reaches_the_child(scene: Scene, signum: signal.Signals, code: int, says: str) -> None:
    """Ctrl-C and SIGTERM end the child in its own way; the sentinel ends with it, and by its code."""
    process = scene.start(*run(scene, LISTENS)[1:], log="both.log", start_new_session=True)
    until(lambda: "ready" in scene.said("both.log"), "the child listens")
    process.send_signal(signum)
    assert process.wait(30) == code
    assert says in scene.said("both.log")
    assert not scene.slack.sent(), "an end that was asked for is no failure"


def test_a_job_under_it_is_watched_to_its_last_point(scene: Scene) -> None:
    """The points and the end that a job writes last are judged before the sentinel ends."""
    child = [sys.executable, "-m", "tests.e2e.job", str(scene.logdir / "a")]
    command = [
        "-m",
        "sentinel",
        "run",
        "-c",
        str(scene.config),
        "--state",
        str(scene.state),
        str(scene.logdir),
    ]
    process = scene.start(
        *command, "--", *child, "--diverge-at", "35", "--end", "50", "--pace", "0.03", log="both.log"
    )
    assert process.wait(60) == 0, scene.said("both.log")
    assert [verb for _, verb, _ in scene.effects()] == ["checkpoint", "rollback"]
    assert scene.rows("SELECT phase, last_step FROM runs") == [{"phase": "finished", "last_step": 50}]
    assert not scene.rows("SELECT 1 FROM messages WHERE state != 'sent'")


@pytest.mark.slow
def test_a_state_that_is_lost_on_the_way_costs_the_child_nothing(scene: Scene) -> None:
    """A sentinel that cannot remember any more watches no more; the child's signals and code still pass."""
    process = scene.start(*run(scene, LISTENS)[1:], log="both.log", start_new_session=True)
    until(lambda: "ready" in scene.said("both.log"), "the child listens")
    until(lambda: scene.rows("SELECT 1 FROM meta WHERE name = 'last_tick'"), "it ticks")
    with closing(sqlite3.connect(scene.state / "journal.sqlite", isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")  # who holds the lock for longer than the sentinel waits
        until(lambda: "may not act" in scene.said("both.log"), "it says so")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 5
