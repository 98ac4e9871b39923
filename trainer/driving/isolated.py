"""A world in a child process of its own, with a deadline for every answer.

The one fact to hold: a simulator's client may hang, or abort its process where no Python can catch it; so
it lives in a child, and whatever goes wrong there is one thing here: a SimulatorFaultError, and a child that
is killed. A child is never mended and a call never repeated; `ready` starts a fresh one.

Calls and facts go through a socket pair, frames through memory that both map; neither has a name, so
nothing is left behind when either side is killed. The child dies with its parent (Linux says: with the
thread that started it). It is started anew, not forked: it imports neither torch nor whatever the parent's
main module is.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.driving.world import Facts, SimulatorFaultError, World

BACK_OFF = (0.5, 1.0, 2.0, 5.0, 10.0)
"""s between the end of one child and the start of the next, by the number of tries that failed in a row."""

LOST = 70
"""Exit code of a child that has noticed that its simulator's process is gone."""

PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that a process gets when its parent ends."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds after which a child that has not answered is killed."""

    start: float = 120.0
    reset: float = 60.0
    step: float = 30.0
    close: float = 15.0


class Isolated:
    """A world made by `make(**arguments)` in a child; see `World` and `RecoverableWorld`.

    The child is started by the first `ready` or `reset`, not before. Its ValueError is the caller's: what
    was asked for does not exist, and a new try would change nothing.

    Args:
        make: "package.module:function" that makes the world. arguments: of it, JSON types; asked for with
        the number of the try, from 0 on. dt: seconds a step, which the made world shall keep.
        image_size: height and width of the frames in pixels; None for a world without a camera.
        patience: s that a `reset` waits for a simulator that is away, where nobody calls `ready` before.
        now, pause: the monotonic clock and how to wait on it.
    """

    def __init__(
        self,
        make: str,
        arguments: Callable[[int], Mapping[str, Any]],
        *,
        dt: float,
        image_size: int | None = None,
        deadlines: Deadlines | None = None,
        patience: float = 300.0,
        now: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.dt = dt
        self.starts = 0
        """Children started so far."""
        self.trouble = "it has not been started yet"
        self._make, self._arguments = make, arguments
        self._shape = None if image_size is None else (image_size, image_size)
        self._deadlines = deadlines if deadlines is not None else Deadlines()
        self._patience = patience
        self._now, self._pause = now, pause
        self._failures = 0
        self._start_after = -float("inf")
        self._child: _Child | None = None
        self._started_at = 0.0
        self._up = False

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return None if self._child is None else self._child.process.pid

    def ready(self, within: float) -> bool:
        """See `RecoverableWorld`. A try that fails is followed by a pause that grows up to ten seconds."""
        until = self._now() + within
        while not self._up:
            try:
                if self._child is None:
                    self._begin(until)
                elif self._child.answered(max(0.0, min(until - self._now(), 0.5))):
                    self._child.answer()
                    self._up, self._failures, self.trouble = True, 0, ""
                elif self._now() - self._started_at > self._deadlines.start:
                    raise self._fault(f"it did not start within {self._deadlines.start:g} s")
            except SimulatorFaultError as error:
                self._drop(str(error))
            except ValueError:
                self._drop("what was asked for does not exist there")
                raise
            if not self._up and self._now() >= until:
                break
        return self._up

    def reset(self, seed: int) -> Facts:
        if not self._up and not self.ready(self._patience):
            raise SimulatorFaultError(f"the simulator stayed away for {self._patience:g} s: {self.trouble}")
        facts: Facts = self._call("reset", seed, deadline=self._deadlines.reset)
        return facts

    def step(self, steer: float, throttle: float) -> Facts:
        facts: Facts = self._call("step", steer, throttle, deadline=self._deadlines.step)
        return facts

    def frame(self) -> NDArray[np.uint8]:
        if self._shape is None:
            raise RuntimeError("this world was made without a camera; make it with image_size=84")
        if self._child is None or not self._up:
            raise SimulatorFaultError(f"the simulator is away: {self.trouble}")
        return self._child.frame(self._shape)

    def state_dict(self) -> dict[str, Any] | None:
        """Return the world's own; None also while there is none to ask."""
        try:
            state: dict[str, Any] | None = self._call("state_dict", deadline=self._deadlines.step)
        except SimulatorFaultError:  # whoever asks next is told; a checkpoint without a world is still one
            return None
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not self._up and not self.ready(self._patience):
            raise SimulatorFaultError(f"the simulator stayed away for {self._patience:g} s: {self.trouble}")
        self._call("load_state_dict", state, deadline=self._deadlines.reset)

    def close(self) -> None:
        """Let the child tidy up the simulator; one that does not do so in time is killed."""
        if self._up:
            # What cannot be tidied up is killed, and the next child clears up after it.
            with contextlib.suppress(SimulatorFaultError):
                self._call("close", deadline=self._deadlines.close)
        if self._child is not None:
            self._drop("it has been closed")

    def _begin(self, until: float) -> None:
        wait = self._start_after - self._now()
        if wait > 0:
            self._pause(max(0.0, min(wait, until - self._now())))
        if self._now() >= self._start_after:
            self._child = _Child(self._make, self._arguments(self.starts), self._shape)
            self._started_at = self._now()
            self.starts += 1

    def _call(self, name: str, *arguments: object, deadline: float) -> Any:
        """Ask the child and return its answer.

        Raises:
            SimulatorFaultError: it gave none in time, ended, or said so itself; it is killed by then.
        """
        if self._child is None or not self._up:
            raise SimulatorFaultError(f"the simulator is away: {self.trouble}")
        try:
            self._child.ask(name, arguments)
            if not self._child.answered(deadline):
                raise self._fault(f"no answer to {name} within {deadline:g} s")
            return self._child.answer()
        except SimulatorFaultError as error:
            self._drop(str(error))
            raise

    def _fault(self, text: str) -> SimulatorFaultError:
        return SimulatorFaultError(f"the simulator's client (pid {self.pid}) was killed: {text}")

    def _drop(self, why: str) -> None:
        """Kill the child, and do not start another before the pause is over."""
        if self._child is not None:
            self._child.kill()
        self._child, self._up, self.trouble = None, False, why
        self._start_after = self._now() + BACK_OFF[min(self._failures, len(BACK_OFF) - 1)]
        self._failures += 1


class _Child:
    """The parent's end of one child process."""

    def __init__(self, make: str, arguments: Mapping[str, Any], shape: tuple[int, int] | None) -> None:
        self._memory: mmap.mmap | None = None
        ours, theirs = socket.socketpair()
        passed = [theirs.fileno()]
        frames = -1
        if shape is not None:
            frames = os.memfd_create("frames")
            os.ftruncate(frames, shape[0] * shape[1])
            self._memory = mmap.mmap(frames, shape[0] * shape[1])
            passed.append(frames)
        task = {"make": make, "arguments": dict(arguments), "pipe": theirs.fileno(), "frames": frames}
        task |= {"path": sys.path, "parent": os.getpid()}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, json.dumps(task)], stdin=subprocess.DEVNULL, pass_fds=passed
            )
        finally:
            theirs.close()
            if frames >= 0:
                os.close(frames)
        self._pipe = Connection(ours.detach())

    def ask(self, name: str, arguments: tuple[object, ...]) -> None:
        try:
            self._pipe.send((name, arguments))
        except OSError:
            raise self._ended() from None

    def answered(self, within: float) -> bool:
        """Whether there is an answer, or an end."""
        return self._pipe.poll(within)

    def answer(self) -> Any:
        try:
            kind, value = self._pipe.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if kind == "fault":
            raise SimulatorFaultError(value)
        if kind == "refused":
            raise ValueError(value)
        return value

    def frame(self, shape: tuple[int, int]) -> NDArray[np.uint8]:
        assert self._memory is not None
        return np.frombuffer(self._memory, np.uint8).reshape(shape).copy()

    def kill(self) -> None:
        self._pipe.close()
        self.process.kill()
        self.process.wait()
        if self._memory is not None:
            self._memory.close()

    def _ended(self) -> SimulatorFaultError:
        """Say how the child ended; its end of the pipe is shut, so it is over or will be at once."""
        try:
            code = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return SimulatorFaultError("the simulator's client shut its end of the pipe")
        if code == LOST:
            return SimulatorFaultError("the connection to the simulator is lost: its process has ended")
        how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        return SimulatorFaultError(f"the simulator's client (pid {self.process.pid}) {how}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


# The parent's path comes first, so that the child finds the same packages whatever the parent was started as.
_BOOT = (
    "import json, sys; task = json.loads(sys.argv[1]); sys.path[:] = task['path']; "
    "from trainer.driving.isolated import serve; serve(task)"
)


def serve(task: Mapping[str, Any]) -> None:
    """Be the child: make the world, then answer calls until the parent has no more.

    It ends by os._exit: a client's own threads may abort while the interpreter is taken down.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != task["parent"]:
        os._exit(0)  # the parent ended before we asked to be told
    # Ctrl-C reaches the whole group: the parent decides, and still needs the world to end its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = Connection(task["pipe"])
    frames = None
    if task["frames"] >= 0:
        frames = np.frombuffer(mmap.mmap(task["frames"], 0), np.uint8)
    module, _, name = task["make"].partition(":")
    world: World | None = None
    try:
        world = getattr(importlib.import_module(module), name)(**task["arguments"])
        pipe.send(("ok", None))
        _answer_calls(world, pipe, frames)
    except SimulatorFaultError as error:
        pipe.send(("fault", str(error)))
    except (ValueError, ImportError) as error:
        pipe.send(("refused" if world is None else "fault", str(error)))
    except Exception as error:  # noqa: BLE001  # whatever it is, the parent is told, and this process ends
        traceback.print_exc()  # before the answer, after which we are killed
        pipe.send(("fault", f"{type(error).__name__}: {error}"))
        os._exit(1)
    os._exit(0)


def _answer_calls(world: World, pipe: Connection, frames: NDArray[np.uint8] | None) -> None:
    while True:
        try:
            name, arguments = pipe.recv()
        except (EOFError, ConnectionError):
            world.close()
            return
        value = getattr(world, name)(*arguments)
        if frames is not None and name in {"reset", "step", "load_state_dict"}:
            frames[:] = world.frame().ravel()  # before the answer: who has it may look
        pipe.send(("ok", value))
        if name == "close":
            return
