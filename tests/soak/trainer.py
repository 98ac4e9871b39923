"""One simulated training job: a loss that is a function of the step, a real guard, real event files.

The loss is 1. From the step at which the job falls sick it doubles with every point, as long as the learning
rate is not low enough. What a command does is counted in memory, beside any file: a command that took effect
twice is seen here whatever the files say.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter

from sentinel.guard import Command, Guard, Parameter
from tests.fakes import FakeClock
from tests.soak.kernel import Kernel, Simulated

TAG = "train/loss"
KEEP = 8  # checkpoints
LATE = 60.0  # seconds; a replay takes a point to have come when it is dated

Manner = Literal["obeys", "refuses", "fails", "dies before", "dies after", "dozes"]
"""How a job takes its next command: dies before or after the work and never answers, or does not look."""


class Gone(Exception):  # noqa: N818  no error: a process has ended
    """The job's process has ended in the middle of what it did."""


class EventFile:
    """An event file written at once, by whoever asks."""

    def __init__(self, path: Path, wall: float) -> None:
        self.path = path
        self._file = path.open("ab")
        self._records = RecordWriter(self._file)
        self.write(Event(wall_time=wall, file_version="brain.Event:2"))

    def write(self, event: Event) -> None:
        """Append an event."""
        self._records.write(event.SerializeToString())
        self._file.flush()

    def tear(self, event: Event) -> Callable[[], None]:
        """Append the first half of an event; returns what appends the rest."""
        start = self._file.tell()
        self._records.write(event.SerializeToString())
        self._file.flush()
        whole = self.path.read_bytes()[start:]
        half = len(whole) // 2
        os.truncate(self.path, start + half)

        def rest() -> None:
            if not self._file.closed:
                self._file.write(whole[half:])
                self._file.flush()

        return rest

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


@dataclass
class Course:
    """What will become of a run.

    Attributes:
        pace: seconds between two points. every: points between two checkpoints. end: its last step.
        sick_at: the step at which it falls sick; None for never.
        cure: the learning rate that would have kept it well; 0 for none.
        manners: how it takes a command.
    """

    pace: float
    every: int
    end: int
    sick_at: int | None
    cure: float = 0.06
    manners: tuple[Manner, ...] = ("obeys",)


@dataclass
class Trainer:
    """The run, over all of its processes.

    Attributes:
        folder, course: of it. effects: how often each command's work was begun.
        sick_points: points of the present sickness. calm_points: those since the world was last disturbed.
        onset: the first step of it. points: logged points in all.
        stirred: what was done to it that makes a replay of its files another story; "" for nothing.
        unmarked: its last start is not in its event files.
        done: (id, verb, step) of each command that took effect.
    """

    folder: Path
    course: Course
    clock: FakeClock
    kernel: Kernel
    chance: random.Random
    name: str
    step: int = 0
    lr: float = 0.1
    next_at: float = 0.0
    paused: bool = False
    finished: str = ""
    stirred: str = ""
    calm_points: int = 0
    unmarked: bool = False
    points: int = 0
    sick_points: int = 0
    ever_sick: bool = False
    onset: int | None = None
    effects: Counter[int] = field(default_factory=Counter)
    done: list[tuple[int, str, int]] = field(default_factory=list)
    files: int = 0
    process: Simulated | None = None
    guard: Guard = field(init=False)
    file: EventFile = field(init=False)
    _rest: Callable[[], None] | None = None
    _torn: float = 0.0  # wall time at which an event was left half written

    @property
    def alive(self) -> bool:
        """Whether it has a process."""
        return self.process is not None

    @property
    def sick(self) -> bool:
        """Whether the loss has left its range."""
        course = self.course
        return course.sick_at is not None and self.step >= course.sick_at and self.lr > course.cure

    def start(self, *, lower: bool = True, marked: bool = True) -> None:
        """Begin a process: from the newest whole checkpoint, or from scratch.

        Args:
            lower: go on from a checkpoint; else from the first step. marked: say so in the event file.
        """
        again = (self.folder / "control" / "trainer.json").exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = self.kernel.spawn()
        self.process.on_end = lambda _signum: self.die()
        self._resume(lower=lower)
        parameters = [Parameter.number("lr", self.lr, low=1e-6, high=1.0)]
        with self.kernel.inside(self.process):
            self.guard = Guard(
                self.folder, parameters=parameters, clock=self.clock.monotonic, wall=self.clock.wall
            )
        self._open(marked=again and marked)
        if not again:
            self._save()
        self.next_at = self.clock.since_boot + self.course.pace

    def _resume(self, *, lower: bool) -> None:
        self.step, self.lr = 0, 0.1
        for path in reversed(self._kept() if lower else []):
            with contextlib.suppress(OSError, ValueError, KeyError):
                state = json.loads((path / "state.json").read_bytes())
                self.step, self.lr = int(state["step"]), float(state["lr"])
                return

    def _kept(self) -> list[Path]:
        root = self.folder / "checkpoints"
        found = [p for p in root.iterdir() if not p.name.startswith(".")] if root.is_dir() else []
        return sorted(found, key=lambda p: (int(p.name[:2]), p.name))

    def _open(self, *, marked: bool) -> None:
        self._rest = None
        if self.files:
            self.file.close()
        self.files += 1
        stamp = int(self.clock.now)
        self.file = EventFile(
            self.folder / f"events.out.tfevents.{stamp}.soak.{self.files}", self.clock.wall()
        )
        if marked:
            start = SessionLog(status=SessionLog.START)
            self.file.write(Event(wall_time=self.clock.wall(), step=self.step + 1, session_log=start))

    @contextlib.contextmanager
    def _being(self) -> Iterator[None]:
        """Be this process: the guard works for the pid that it was made in, and for no fork of it."""
        assert self.process is not None
        real, pid = os.getpid, self.process.pid
        os.getpid = lambda: pid
        try:
            yield
        finally:
            os.getpid = real

    def train(self) -> None:
        """One point: log it, save now and then, obey."""
        assert self.process is not None
        self.next_at += self.course.pace
        with self._being(), contextlib.suppress(Gone):
            self.step += 1
            self.guard.beat(self.step, "update")
            self._log()
            if self.step % self.course.every == 0:
                self._save()
            command = self.guard.poll()
            if command is not None:
                self._obey(command)
            if self.step >= self.course.end and not self.finished:
                self._finish("finished")

    def _log(self) -> None:
        value = 1.0
        if self.sick:
            if not self.sick_points:
                self.onset = self.step
            self.ever_sick = True
            self.sick_points += 1
            self.calm_points += 1
            value = float(2.0 ** min(4 + self.sick_points, 60))
        else:
            self.sick_points = self.calm_points = 0
        event = Event(wall_time=self.clock.wall(), step=self.step)
        event.summary.value.add(tag=TAG, simple_value=value)
        event.summary.value.add(tag="train/lr", simple_value=self.lr)
        if self._rest is not None:
            self._rest()
            self._rest = None
            if self.clock.wall() - self._torn > LATE:
                self.stirred = self.stirred or "half a point was late"
        if self.chance.random() < 0.02:
            self._rest, self._torn = self.file.tear(event), self.clock.wall()
        else:
            self.file.write(event)
        self.points += 1

    def _obey(self, command: Command) -> None:
        manner = self.chance.choice(self.course.manners)
        if manner == "refuses":
            self.guard.acknowledge(command, "refused", step=self.step, reason="not now")
            return
        if manner == "dozes":  # accepted, and then nothing for longer than anybody waits
            self.next_at += 1200.0
            return
        if manner == "dies before":
            self.die()
            raise Gone
        self.effects[command.id] += 1
        self.done.append((command.id, command.verb, self.step))
        if command.verb == "rollback" and not self._roll_back(command):
            return
        name = self._save() if command.verb != "rollback" else str(command.to_checkpoint)
        if manner == "dies after":
            self.die()
            raise Gone
        status = "failed" if manner == "fails" else "done"
        self.guard.acknowledge(command, status, step=self.step, checkpoint=name, checkpoint_step=self.step)
        if command.verb == "terminate":
            self._finish("terminated")

    def _roll_back(self, command: Command) -> bool:
        path = self.folder / "checkpoints" / str(command.to_checkpoint) / "state.json"
        try:
            state = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            reason = f"{path.parent.name}: {type(error).__name__}"
            self.guard.acknowledge(command, "refused", step=self.step, reason=reason)
            return False
        self.step, self.lr = int(state["step"]), float(state["lr"])
        self.lr = float(command.set.get("lr", self.lr))
        self.sick_points = 0
        self.guard.begin_attempt()
        self._open(marked=True)
        return True

    def _finish(self, outcome: str) -> None:
        self.finished = outcome
        self.file.close()
        self.guard.finish(outcome)
        self._leave()
        raise Gone

    def die(self) -> None:
        """End without a word."""
        self.file.close()
        self.sick_points = 0
        self._leave()

    def _leave(self) -> None:
        if self.process is not None:
            self.kernel.end(self.process)
            self.process = None

    def _save(self) -> str:
        name = f"{self.guard.attempt:02d}-{self.step:08d}"
        root = self.folder / "checkpoints"
        if (root / name).exists():
            return name
        unfinished = root / f".tmp-{name}"
        unfinished.mkdir(parents=True, exist_ok=True)
        state = json.dumps({"step": self.step, "lr": self.lr}).encode()
        (unfinished / "state.json").write_bytes(state)
        entry = {"bytes": len(state), "sha256": hashlib.sha256(state).hexdigest()}
        manifest = {
            "version": 1,
            "step": self.step,
            "attempt": self.guard.attempt,
            "wall_time": self.clock.wall(),
        }
        (unfinished / "manifest.json").write_text(json.dumps({**manifest, "files": {"state.json": entry}}))
        unfinished.rename(root / name)
        for path in self._kept()[:-KEEP]:
            for part in path.iterdir():
                part.unlink()
            path.rmdir()
        return name

    def rotate(self) -> None:
        """Go on in a new event file."""
        if self._rest is not None:
            self._rest()
        self._open(marked=False)
