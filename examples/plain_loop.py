"""The guard in a training loop of your own: the whole of it, with the standard library alone.

    sentinel run --act runs -- python -m examples.plain_loop runs/plain

The "model" is one weight, pulled towards 0 by gradient descent on w^4 / 4. Batch 200 is a bad one, and always
will be: with lr = 0.5 the weight leaves the valley, and a few steps later the loss is infinite. A rollback
alone would meet the same batch again; with half the lr it passes. The rule is `generic/nonfinite_loss`.

docs/guard.md goes through it. Only `open_log` knows TensorBoard; your own logger takes its place.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sentinel.guard import Command, Guard, Parameter

State = dict[str, Any]  # everything that the next step depends on: step, weight, lr
Log = Callable[[str, float, int], None]  # tag, value, step


def train(run: Path, steps: int, open_log: Callable[[], Log], pause: float = 0.0) -> str:
    """Train to the end, obeying; return how it ended."""
    state: State = {"step": 0, "weight": 1.0, "lr": 0.5}
    guard = Guard(run, parameters=[Parameter.number("lr", state["lr"], low=1e-6, high=1.0)])
    log = open_log()
    outcome = "finished"
    save(run, guard.attempt, state)  # there is a way back from the very beginning
    while state["step"] < steps and outcome == "finished":
        loss = update(state)
        log("train/loss", loss, state["step"])
        if state["step"] % 50 == 0:
            save(run, guard.attempt, state)
        time.sleep(pause)
        guard.beat(state["step"])
        command = guard.poll()  # None, nearly always
        if command is None:
            continue
        if command.verb == "rollback":
            state = roll_back(run, guard, command, state)
            log = open_log()  # a file that begins at an earlier step begins a new attempt
        else:
            name = save(run, guard.attempt, state)
            guard.acknowledge(command, "done", checkpoint=name, checkpoint_step=state["step"])
            outcome = "terminated" if command.verb == "terminate" else outcome
    guard.finish(outcome)
    return outcome


def update(state: State) -> float:
    """One step of gradient descent; products, because `**` raises where a real framework gives infinity."""
    weight = state["weight"] + (2.5 if state["step"] == 200 else 0.0)
    cube = weight * weight * weight
    state["weight"] = weight - state["lr"] * cube
    state["step"] += 1
    return float(cube * weight / 4)


def roll_back(run: Path, guard: Guard, command: Command, state: State) -> State:
    """Become the checkpoint asked for, with the remedy; refused, and nothing changed, where it is no use."""
    try:
        earlier = load(run / "checkpoints" / str(command.to_checkpoint))
    except (OSError, ValueError, KeyError) as error:
        guard.acknowledge(command, "refused", step=state["step"], reason=f"{command.to_checkpoint}: {error}")
        return state
    guard.set_value("lr", earlier["lr"])  # what the checkpoint brought back
    earlier.update(command.set)  # checked by the guard: declared, within bounds, absolute
    guard.beat(earlier["step"], "start")
    guard.begin_attempt()  # letters meant for the abandoned attempt are stale from here on
    guard.acknowledge(command, "done", checkpoint=command.to_checkpoint, checkpoint_step=earlier["step"])
    return earlier


def save(run: Path, attempt: int, state: State) -> str:
    """Write a checkpoint, there as a whole or not at all; return its name."""
    name = f"{attempt:02d}-{state['step']:08d}"
    folder, temporary = run / "checkpoints" / name, run / "checkpoints" / f".tmp-{name}"
    if not folder.exists():
        temporary.mkdir(parents=True, exist_ok=True)
        content = json.dumps(state).encode()
        write(temporary / "state.json", content)
        files = {"state.json": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
        manifest = {
            "version": 1,
            "step": state["step"],
            "attempt": attempt,
            "wall_time": time.time(),
            "files": files,
        }
        write(temporary / "manifest.json", json.dumps(manifest).encode())  # last
        temporary.rename(folder)
    return name


def load(folder: Path) -> State:
    """Read a checkpoint back, or raise; what is not as it was written is not loaded."""
    expected = json.loads((folder / "manifest.json").read_bytes())["files"]["state.json"]
    content = (folder / "state.json").read_bytes()
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise ValueError("state.json has other content than it was written with")
    state: State = json.loads(content)
    return state


def write(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def main() -> int:
    """Run the example."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument(
        "--pause", type=float, default=0.02, help="seconds that a step takes (default: %(default)s)"
    )
    options = parser.parse_args()
    print(f"{options.run}: {train(options.run, options.steps, lambda: open_log(options.run), options.pause)}")
    return 0


def open_log(run: Path) -> Log:
    """Begin an event file; `torch.utils.tensorboard.SummaryWriter(run).add_scalar` would do as well."""
    from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415 - the loop runs without it
    from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415 - the loop runs without it
    from tensorboard.summary.writer.event_file_writer import EventFileWriter  # noqa: PLC0415 - the loop runs without it

    writer = EventFileWriter(str(run))

    def log(tag: str, value: float, step: int) -> None:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        writer.flush()

    return log


if __name__ == "__main__":
    raise SystemExit(main())
