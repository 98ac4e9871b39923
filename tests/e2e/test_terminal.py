"""`sentinel run -- CMD` at a terminal that is closed, and a SIGINT that did not come from one."""

from __future__ import annotations

import os
import pty
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.scene import ROOT, Scene, until
from tests.e2e.test_supervised import Terminal, command, mine, terminal

__all__ = ["terminal"]  # a fixture: importing it is using it

NOTES = """
import os, signal, sys, time
def note(signum, frame):
    with open(sys.argv[1], "a") as file:
        file.write(signal.Signals(signum).name + " ")
    if signum in (signal.SIGHUP, signal.SIGTERM):
        sys.exit(7)
for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    signal.signal(signum, note)
print("ready", flush=True)
while True:
    time.sleep(0.02)
"""


def notes(scene: Scene) -> list[str]:
    """The signals that the job was told, in their order."""
    path = scene.folder / "noted"
    return path.read_text().split() if path.exists() else []


def listening(scene: Scene, terminal: Callable[..., Terminal]) -> Terminal:
    seen = terminal(sys.executable, "-c", NOTES, str(scene.folder / "noted"))
    until(lambda: "ready" in seen.read(), "the job listens")
    until(lambda: scene.rows("SELECT 1 FROM lives WHERE state = 'running'"), "it is watched")
    return seen


def test_an_interrupt_to_the_sentinel_alone_is_the_jobs(
    scene: Scene, terminal: Callable[..., Terminal]
) -> None:
    """`kill -INT` of the sentinel, in a terminal's foreground: the job is told, once; Ctrl-C too, once."""
    seen = listening(scene, terminal)
    os.kill(seen.pid, signal.SIGINT)
    until(lambda: notes(scene) == ["SIGINT"], "the job is told")
    seen.press(b"\x03")
    until(lambda: len(notes(scene)) == 2, "the terminal tells it")
    time.sleep(0.7)  # what was passed on besides would have come by now
    assert notes(scene) == ["SIGINT", "SIGINT"]
    os.kill(seen.pid, signal.SIGTERM)
    assert seen.wait() == 7
    assert notes(scene) == ["SIGINT", "SIGINT", "SIGTERM"]


def test_a_terminal_that_is_closed_ends_both(scene: Scene) -> None:
    """The sentinel is what the terminal was opened for (ssh -t, xterm -e): the kernel tells it alone."""
    seen = Terminal(scene, sys.executable, "-c", NOTES, str(scene.folder / "noted"))
    closed(scene, seen.pid, seen.master)
    assert notes(scene) == ["SIGHUP"]


@pytest.mark.slow
def test_a_terminal_that_is_closed_over_a_shell_ends_both(scene: Scene) -> None:
    """The shell is told, and with it the whole foreground group; the sentinel does not tell it besides."""
    ours = command(scene, sys.executable, "-c", NOTES, str(scene.folder / "noted"))
    pid, master = pty.fork()
    if not pid:
        os.chdir(ROOT)
        line = ["/bin/sh", "-c", '"$@"; true', "sh", sys.executable, *ours]
        os.execve("/bin/sh", line, scene.environment)  # noqa: S606  the shell is what is meant
    closed(scene, pid, master)
    assert notes(scene) == ["SIGHUP"]


def closed(scene: Scene, pid: int, master: int) -> None:
    """Close a terminal once the job listens, and see everything end."""
    read = b""
    while b"ready" not in read:
        try:
            read += os.read(master, 4096)
        except OSError:  # nobody is left at the terminal
            pytest.fail(read.decode())
    until(lambda: scene.rows("SELECT 1 FROM lives WHERE state = 'running'"), "it is watched")
    sentinel = int((scene.state / "lock").read_text().split()[0]) if (scene.state / "lock").exists() else pid
    os.close(master)
    try:
        os.waitpid(pid, 0)
        until(lambda: not Path(f"/proc/{sentinel}").exists(), "the sentinel has ended")
        assert not mine(scene)
        rows = scene.rows("SELECT state, code FROM lives")
        assert [(row["state"], row["code"]) for row in rows] == [("ended", 7)], "and knows how the job ended"
    finally:
        for process in mine(scene):
            os.kill(process, signal.SIGKILL)
