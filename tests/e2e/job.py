"""A small real training job: one loss that is a function of the step, checkpoints, and a guard that it obeys.

    python -m tests.e2e.job RUN_DIR [--diverge-at N] [--end N] [--pace SECONDS] [--every N] …

The loss leaves 1 at step --diverge-at and doubles from there, unless lr has been lowered; so a rollback
without a remedy would not help. A job that has diverged does not end before it was brought back. Each command
that is carried out is one line in RUN_DIR/effects: a command that took effect twice would be two.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from sentinel.guard import Command, Guard, Parameter

TAG = "train/loss"
HEALTHY_LR = 0.06
LONGEST = 600.0  # seconds after which a job that nobody brings back gives up


class Writer(Protocol):
    """What the job needs of an event file."""

    def add_event(self, event: Event) -> None:
        """Append an event."""

    def flush(self) -> None:
        """Let readers see it."""

    def close(self) -> None:
        """Let the file go."""


def loss_at(step: int, lr: float, diverge_at: int | None) -> float:
    """The loss that this job would compute: 1, or from the divergence on 16, 32, 64, …"""
    if diverge_at is None or step < diverge_at or lr < HEALTHY_LR:
        return 1.0
    return float(2.0 ** min(4 + step - diverge_at, 60))


@dataclass
class Job:
    """The state of a training, and one step of it at a time."""

    folder: Path
    diverge_at: int | None
    every: int
    open_writer: Callable[[Path], Writer]
    wall: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    lr: float = 0.1
    step: int = 0
    ended: bool = False
    writer: Writer = field(init=False)
    guard: Guard = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        parameters = [Parameter.number("lr", self.lr, low=0.001, high=1.0)]
        self.guard = Guard(self.folder, parameters=parameters, clock=self.clock, wall=self.wall)
        self.writer = self.open_writer(self.folder)
        self.save()

    @property
    def healthy(self) -> bool:
        """Whether nothing has to be done for this job."""
        return loss_at(self.step, self.lr, self.diverge_at) == 1.0

    def train(self) -> None:
        """One step: compute, log, save, obey."""
        self.step += 1
        self.guard.beat(self.step, "update")
        self.log(loss_at(self.step, self.lr, self.diverge_at))
        if self.step % self.every == 0:
            self.save()
        command = self.guard.poll()
        if command is not None:
            self.obey(command)

    def log(self, value: float) -> None:
        """Write one point and flush, as our own trainer does."""
        event = Event(wall_time=self.wall(), step=self.step)
        event.summary.value.add(tag=TAG, simple_value=value)
        self.writer.add_event(event)
        self.writer.flush()

    def obey(self, command: Command) -> None:
        """Carry out a command, and leave a line that says so."""
        with (self.folder / "effects").open("a", encoding="utf-8") as effects:
            effects.write(f"{command.id} {command.verb} {command.to_checkpoint}\n")
        if command.verb == "rollback":
            self._roll_back(command)
            return
        name = self.save()
        self.guard.acknowledge(command, "done", step=self.step, checkpoint=name, checkpoint_step=self.step)
        if command.verb == "terminate":
            self.ended = True
            self.guard.finish("terminated")

    def _roll_back(self, command: Command) -> None:
        folder = self.folder / "checkpoints" / str(command.to_checkpoint)
        try:
            state = json.loads((folder / "state.json").read_bytes())
        except OSError as error:
            self.guard.acknowledge(
                command, "refused", step=self.step, reason=f"{folder.name}: {error.strerror}"
            )
            return
        self.step, self.lr = state["step"], state["lr"]
        self.lr = float(command.set.get("lr", self.lr))
        self.guard.begin_attempt()
        self.writer.close()
        self.writer = self.open_writer(self.folder)
        start = SessionLog(status=SessionLog.START)
        self.writer.add_event(Event(wall_time=self.wall(), step=self.step + 1, session_log=start))
        self.writer.flush()
        self.guard.acknowledge(
            command, "done", step=self.step, checkpoint=folder.name, checkpoint_step=self.step
        )

    def save(self) -> str:
        """Write a checkpoint: everything beside its place, then one rename."""
        name = f"{self.guard.attempt:02d}-{self.step:08d}"
        root = self.folder / "checkpoints"
        unfinished = root / f".tmp-{name}"
        unfinished.mkdir(parents=True, exist_ok=True)
        state = json.dumps({"step": self.step, "lr": self.lr}).encode()
        (unfinished / "state.json").write_bytes(state)
        entry = {"bytes": len(state), "sha256": hashlib.sha256(state).hexdigest()}
        manifest = {"version": 1, "step": self.step, "attempt": self.guard.attempt, "wall_time": self.wall()}
        (unfinished / "manifest.json").write_text(json.dumps({**manifest, "files": {"state.json": entry}}))
        if not (root / name).exists():
            unfinished.rename(root / name)
        return name


def main() -> None:
    """Train to the end at a given pace."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--diverge-at", type=int)
    parser.add_argument("--end", type=int, default=100)
    parser.add_argument("--raise-at", type=int, help="die there of an error that nobody catches")
    parser.add_argument("--pace", type=float, default=0.02)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.1, help="0.8 is cured by no two halvings")
    parser.add_argument("--guard-haste", type=float, default=1.0, help="how fast the guard's own clock runs")
    parser.add_argument(
        "--clock-ahead", type=float, default=0.0, help="by how much the host's clock is ahead"
    )
    parser.add_argument("--hold", action="store_true", help="at the end, wait for the file RUN_DIR/go")
    options = parser.parse_args()
    job = Job(
        options.folder,
        options.diverge_at,
        options.every,
        lambda folder: EventFileWriter(str(folder)),
        wall=lambda: time.time() + options.clock_ahead,
        lr=options.lr,
        clock=lambda: time.monotonic() * options.guard_haste,
    )
    print(f"job {os.getpid()} trains", flush=True)
    deadline = time.monotonic() + LONGEST
    while not job.ended and time.monotonic() < deadline:
        if (
            job.step >= options.end
            and job.healthy
            and not (options.hold and not (options.folder / "go").exists())
        ):
            break
        job.train()
        if job.step == options.raise_at:
            raise MemoryError("out of memory: tried to allocate 2 GiB")
        time.sleep(options.pace)
    job.writer.close()
    job.guard.finish("finished")
    print(f"job ends at step {job.step}", flush=True)


if __name__ == "__main__":
    main()
