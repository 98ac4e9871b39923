"""A training that knows nothing of the sentinel: it logs, it checkpoints, it can go on from a checkpoint.

    sentinel run --act -c examples/resume/sentinel.toml runs -- python examples/resume/train.py runs/plain

The "model" is one weight, pulled towards 0 by gradient descent on w^4 / 4. Batch 60 is a bad one, and always
will be: with lr = 0.5 the weight leaves the valley and the loss is soon infinite; with less it passes.
Nothing here imports the sentinel. docs/supervise.md goes through it.
"""

from __future__ import annotations

import argparse
import json
import time
import zipfile
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

BAD_BATCH = 60


def main() -> int:
    """Train to the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--resume", type=Path, help="a checkpoint to go on from")
    parser.add_argument("--lr", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds that a step takes")
    options = parser.parse_args()
    step, weight = load(options.resume) if options.resume else (0, 1.0)
    writer = EventFileWriter(str(options.run))
    print(f"training from step {step} with lr {options.lr:g}", flush=True)
    while step < options.steps:
        pushed = weight + (2.5 if step == BAD_BATCH else 0.0)
        cube = pushed * pushed * pushed  # products, because `**` raises where a framework gives infinity
        weight = pushed - options.lr * cube
        step += 1
        summary = Summary(
            value=[Summary.Value(tag="train/loss", simple_value=weight * weight * weight * weight / 4)]
        )
        writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        writer.flush()
        if step % 10 == 0:
            save(options.run / "checkpoints", step, weight)
        time.sleep(options.pause)
    writer.close()
    print(f"finished at step {step} with weight {weight:.3g}", flush=True)
    return 0


def save(folder: Path, step: int, weight: float) -> None:
    """Write a checkpoint beside its place, then move it there."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "unfinished"
    with zipfile.ZipFile(unfinished, "w") as archive:
        archive.writestr("state.json", json.dumps({"step": step, "weight": repr(weight)}))
    unfinished.replace(folder / f"rl_model_{step}_steps.zip")


def load(path: Path) -> tuple[int, float]:
    """Read a checkpoint back."""
    with zipfile.ZipFile(path) as archive:
        state = json.loads(archive.read("state.json"))
    return state["step"], float(state["weight"])


if __name__ == "__main__":
    raise SystemExit(main())
