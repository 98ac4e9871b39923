"""A Hugging Face Trainer under the sentinel: sick from step 200 on, taken back, cured by half the rate.

    sentinel run --act runs -- python -m examples.huggingface_line runs/hf

The model is one line. From step 200 on its inputs are four times as large, which a learning rate of 0.1 does
not survive and half of it does; `generic/nonfinite_loss` sees it.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from sentinel.adapters.huggingface import SentinelCallback


class Line(torch.nn.Module):
    """y = w x; counts its steps, so that a rollback meets the fault again."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.pause = pause

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss, as the Trainer wants it."""
        time.sleep(self.pause)
        self.steps += 1
        scale = 4 if self.steps > 200 else 1
        found = self.layer(x * scale)
        return {"loss": ((found - labels * scale) ** 2).mean(), "logits": found}


def main() -> int:
    """Train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--pause", type=float, default=0.01, help="seconds a step (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(options.run)  # else runs/<date>_<host> in the output folder
    arguments = transformers.TrainingArguments(
        output_dir=str(options.run / "trainer"),
        max_steps=options.steps,
        per_device_train_batch_size=64,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        save_steps=50,
        logging_steps=1,
        logging_nan_inf_filter=False,  # else the Trainer logs older losses in place of an infinite one
        report_to=["tensorboard"],
        disable_tqdm=True,
        use_cpu=True,
    )
    data: list[dict[str, Any]] = [{"x": x, "labels": 3 * x} for x in torch.randn(6400, 1)]
    trainer = transformers.Trainer(Line(options.pause), arguments, train_dataset=data)
    result = SentinelCallback(trainer).train()
    rate, weight = trainer.optimizer.param_groups[0]["lr"], trainer.model.layer.weight.item()
    print(f"{options.run}: step {result.global_step}, rate {rate:g}, weight {weight:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
