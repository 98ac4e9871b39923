"""A Hugging Face or Lightning Trainer of two gloo ranks, for test_ranked_trainers.py to ask things of.

torchrun --nproc-per-node 2 -m tests.adapters.ranked_trainer huggingface|lightning RUN
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

STEPS = 3000
PAUSE = 0.01


def huggingface(run: Path) -> tuple[int, float, float]:
    """Train; return step, rate and weight."""
    import transformers

    from sentinel.adapters.huggingface import SentinelCallback

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            time.sleep(PAUSE)
            found = self.layer(x)
            return {"loss": ((found - labels) ** 2).mean(), "logits": found}

    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run)
    arguments = transformers.TrainingArguments(
        output_dir=str(run / "trainer"),
        max_steps=STEPS,
        learning_rate=0.01,
        lr_scheduler_type="constant",
        save_steps=20,
        logging_steps=1,
        report_to=["tensorboard"],
        disable_tqdm=True,
        use_cpu=True,
        ddp_backend="gloo",
    )
    data = [{"x": x, "labels": 3 * x} for x in torch.linspace(-1, 1, 640).reshape(-1, 1)]
    trainer = transformers.Trainer(Line(), arguments, train_dataset=data)
    result = SentinelCallback(trainer).train()
    return result.global_step, trainer.optimizer.param_groups[0]["lr"], trainer.model.layer.weight.item()


def lightning(run: Path) -> tuple[int, float, float]:
    """Train; return step, rate and weight."""
    import lightning.pytorch as pl
    from lightning.pytorch.loggers import TensorBoardLogger

    from sentinel.adapters.lightning import SentinelCallback

    class Line(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            time.sleep(PAUSE)
            loss = ((self.layer(batch[0]) - 3 * batch[0]) ** 2).mean()
            self.log("train/loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    sentinel, model = SentinelCallback(every=20), Line()
    trainer = pl.Trainer(
        max_steps=STEPS,
        callbacks=[sentinel],
        logger=TensorBoardLogger(str(run.parent), name="", version=run.name, flush_secs=1),
        accelerator="cpu",
        devices=2,
        strategy=pl.strategies.DDPStrategy(process_group_backend="gloo"),
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    data = torch.utils.data.TensorDataset(torch.linspace(-1, 1, 640).reshape(-1, 1))
    sentinel.fit(trainer, model, torch.utils.data.DataLoader(data, batch_size=8))
    return trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"], model.layer.weight.item()


if __name__ == "__main__":
    torch.set_num_threads(1)
    step, rate, weight = {"huggingface": huggingface, "lightning": lightning}[sys.argv[1]](Path(sys.argv[2]))
    sys.stdout.write(f"rank: step {step}, rate {rate:g}, weight {weight!r}\n")
