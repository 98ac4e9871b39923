"""The server and its real client as processes of a test.

The one fact to hold: the real client aborts its whole process when a server dies under a TrafficManager, so
a test never imports carla: what it does with the client runs in a child process with a deadline.
"""

from __future__ import annotations

import importlib.util
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ANSWER_DEADLINE, END_DEADLINE = 30.0, 10.0
"""s for the server to say that it is ready or armed, and for a process to end once it is killed."""

CHILD = """\
import importlib, json, os, sys
module, name, port, arguments = json.loads(sys.argv[1])
result = getattr(importlib.import_module(module), name)(port, *arguments)
print("result " + json.dumps(result), flush=True)
os._exit(0)
"""
"""The client library aborts about every second time (7 of 16 here) while Python takes itself down with
a TrafficManager alive, also after its shut_down(). Nothing is left to lose by then: a child ends at once."""


def free_port() -> int:
    """Return a port that is free together with the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return int(port)


class CarlaServer:
    """A server process that can be started, killed and started again on the same port.

    Args:
        port: its RPC port; streams use the next one.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, faults: str = "", *, map_name: str = "Road0", wait: bool = True) -> None:
        """Start it, and wait until it listens unless told otherwise. Faults are as in `--faults`.

        Raises:
            RuntimeError: it runs already, or did not come up; what it said is in the message.
        """
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError(f"the server on port {self.port} runs already")
        command = [sys.executable, "-m", "tests.carla_server", "--port", str(self.port), "--map", map_name]
        command += ["--faults", faults, "--watch-stdin"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait for the server's word that it listens.

        Raises:
            RuntimeError: it did not come, or the process ended.
        """
        self._expect(b"ready ")

    def fault(self, faults: str) -> None:
        """Give the running server other faults, as in `--faults`; ticks are counted from here.

        Raises:
            RuntimeError: it did not take them.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(faults.encode() + b"\n")
        self._process.stdin.flush()
        self._expect(b"armed")

    def _expect(self, beginning: bytes) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            word = self._process.stdout.readline() if selector.select(ANSWER_DEADLINE) else b""
        if not word.startswith(beginning):
            self.kill()
            raise RuntimeError(f"the server on port {self.port} should say {beginning!r}, said {word!r}")

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def alive(self) -> bool:
        """Return whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> int:
        """Wait for the process to end by itself and return its exit status."""
        assert self._process is not None
        return self._process.wait(END_DEADLINE)

    def stop(self) -> None:
        """Stop it by SIGSTOP: its ports stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a stopped server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it by SIGKILL, if it runs."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(END_DEADLINE)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process = None

    def restart(self, faults: str = "") -> None:
        """Kill it and start it on the same port, with an empty world."""
        self.kill()
        self.start(faults)


@dataclass(frozen=True)
class Outcome:
    """How a child process with the real client ended: its exit status, negative for a signal."""

    status: int
    result: Any
    output: str


def with_client(
    work: Callable[..., object], port: int, *arguments: object, deadline: float = 40.0
) -> Outcome:
    """Run `work(port, *arguments)` in a process of its own and return how it ended.

    Args:
        work: a function at the top of a module; what it returns must be JSON. deadline: s.

    Raises:
        subprocess.TimeoutExpired: it did not end in time and was killed.
    """
    call = json.dumps([work.__module__, work.__name__, port, arguments])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, call],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=deadline,
        check=False,
    )
    output = done.stdout + done.stderr
    results = [line for line in done.stdout.splitlines() if line.startswith("result ")]
    return Outcome(done.returncode, json.loads(results[-1][7:]) if results else None, output)


def result_of(work: Callable[..., object], port: int, *arguments: object) -> Any:  # JSON
    """Run `work` as `with_client` does and return its result; its process must end well."""
    outcome = with_client(work, port, *arguments)
    assert outcome.status == 0, (outcome.status, outcome.output)
    return outcome.result


def why_not() -> str:
    """Return why the real client cannot be used here; nothing where it can."""
    for module in ("carla", "msgpack"):
        if importlib.util.find_spec(module) is None:
            return (
                f"no {module} here: pip install 'carla==0.9.16' msgpack (wheels: Python 3.10-3.12 on x86-64)"
            )
    return ""


@contextmanager
def running(faults: str = "", map_name: str = "Road0") -> Iterator[CarlaServer]:
    """A server for a while, killed after it; the test is skipped where the real client is missing."""
    if reason := why_not():
        pytest.skip(reason)
    server = CarlaServer(free_port())
    server.start(faults, map_name=map_name)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def carla_server() -> Iterator[CarlaServer]:
    """A protocol server on a free port, without faults; `restart(faults)` gives it some."""
    with running() as server:
        yield server
