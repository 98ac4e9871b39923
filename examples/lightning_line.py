"""A Lightning Trainer under the sentinel: sick from step 200 on, taken back, cured by half the rate.

    sentinel run --act runs -- python -m examples.lightning_line runs/lightning

The fault is that of examples/huggingface_line.py.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from sentinel.adapters.lightning import SentinelCallback


class Line(pl.LightningModule):
    """y = w x, with inputs four times as large from step 200 on."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.pause = pause

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:  # noqa: ARG002 - Lightning passes it
        """The loss."""
        time.sleep(self.pause)
        x = batch[0] * (4 if self.global_step >= 200 else 1)
        loss = ((self.layer(x) - 3 * x) ** 2).mean()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        """Plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main() -> int:
    """Train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--pause", type=float, default=0.01, help="seconds a step (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sentinel = SentinelCallback(every=50)
    trainer = pl.Trainer(
        max_steps=options.steps,
        callbacks=[sentinel],
        # The writer holds points back for two minutes; the sentinel sees what is on the disk.
        logger=TensorBoardLogger(str(options.run.parent), name="", version=options.run.name, flush_secs=1),
        log_every_n_steps=1,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    model = Line(options.pause)
    data = torch.utils.data.TensorDataset(torch.randn(64 * 50, 1))
    sentinel.fit(trainer, model, torch.utils.data.DataLoader(data, batch_size=64))
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    print(f"{options.run}: step {trainer.global_step}, rate {rate:g}, weight {model.layer.weight.item():.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
