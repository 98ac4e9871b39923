"""Write the golden event files of this folder again: `python tests/data/write.py` (needs torch).

They are kept as files because what other programs write is the thing to be read, and torch is slow to import.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from tensorboard.summary import Writer
from torch.utils.tensorboard import SummaryWriter

HERE = Path(__file__).parent
T0 = 1_700_000_000.25


def torch_writer(folder: str) -> None:
    """Simple values, tensors, many kinds of step, a histogram, a text, and two starts of a session."""
    with SummaryWriter(folder) as writer:
        for i, step in enumerate([0, 1, 127, 128, 16383, 16384, 2_100_000, -1, 2**62]):
            for tag in ("train/loss", "debug/actor_q_mean"):
                writer.add_scalar(tag, i + len(tag) / 7, step, walltime=T0 + i)
        for i, value in enumerate([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, 3e38]):
            writer.add_scalar("odd", value, 200 + i, walltime=T0 + 10 + i)
        for i in range(6):
            writer.add_scalar("new/style", 0.5 * i, 126 + i, walltime=T0 + 20 + i, new_style=True)
            writer.add_scalar(
                "new/double", 0.1 * i, 126 + i, walltime=T0 + 20 + i, new_style=True, double_precision=True
            )
        writer.add_histogram("weights", np.linspace(-1, 1, 50), 3, walltime=T0 + 30, bins="sqrt")
        writer.add_text("note", "not a number", 3, walltime=T0 + 31)
        writer.add_image("frame", np.zeros((3, 2, 2), dtype=np.uint8), 3, walltime=T0 + 32)
    with SummaryWriter(folder, purge_step=128, filename_suffix=".purged") as writer:
        writer.add_scalar("train/loss", 0.25, 128, walltime=T0 + 40)
        writer.add_scalar("train/loss", 0.125, 129, walltime=T0 + 41)


def tensorboard_writer(folder: str) -> None:
    """TensorBoard's own writer: every scalar a tensor with metadata."""
    writer = Writer(folder)
    for step in range(12):
        writer.add_scalar("loss", np.float32(1 / (step + 1)), step, wall_time=T0 + step)
        writer.add_scalar("learning rate", np.float32(1e-3), step, wall_time=T0 + step)
    writer.close()


def main() -> None:
    """Write both, under names that do not change."""
    for name, write in (("torch", torch_writer), ("tensorboard", tensorboard_writer)):
        with tempfile.TemporaryDirectory() as folder:
            write(folder)
            for path in sorted(Path(folder).iterdir(), key=os.path.getmtime):
                suffix = ".purged" if path.name.endswith(".purged") else ""
                shutil.copyfile(path, HERE / f"events.out.tfevents.1700000000.{name}{suffix}")


if __name__ == "__main__":
    main()
