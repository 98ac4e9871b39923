"""A Keras 3 model under the sentinel: sick from step 200 on, taken back, cured by half the rate.

    sentinel run --act runs -- env KERAS_BACKEND=torch python -m examples.keras_line runs/keras

The fault is that of examples/huggingface_line.py. Keras' own TensorBoard callback needs TensorFlow; `Log`
does the same with torch's writer.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from torch.utils.tensorboard import SummaryWriter

from sentinel.adapters.keras import SentinelCallback


class Log(keras.callbacks.Callback):
    """The loss of every batch as a scalar."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run, self.writer = run, SummaryWriter(str(run), flush_secs=1)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Log it at the optimiser's own step."""
        self.writer.add_scalar("train/loss", logs["loss"], int(self.model.optimizer.iterations))

    def begin_at(self, step: int) -> None:
        """Begin a new event file after a rollback; what was logged later is void."""
        self.writer.close()
        self.writer = SummaryWriter(str(self.run), purge_step=step + 1, flush_secs=1)


class Points(keras.utils.PyDataset):
    """50 batches an epoch of y = 3 x, with inputs four times as large from step 200 on."""

    def __init__(self, model: Any, pause: float) -> None:
        super().__init__()
        self.model, self.pause = model, pause
        self.random = np.random.default_rng(0)

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        time.sleep(self.pause)
        x = self.random.normal(size=(64, 1)).astype("float32")
        x *= 4 if int(self.model.optimizer.iterations) >= 200 else 1
        return x, 3 * x


def main() -> int:
    """Train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--pause", type=float, default=0.01, help="seconds a step (default: %(default)s)")
    options = parser.parse_args()
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    log = Log(options.run)
    sentinel = SentinelCallback(options.run, every=50, on_rollback=log.begin_at)
    sentinel.fit(model, Points(model, options.pause), epochs=options.epochs, callbacks=[log], verbose=0)
    step, rate = int(model.optimizer.iterations), float(model.optimizer.learning_rate)
    print(f"{options.run}: step {step}, rate {rate:g}, weight {float(model.get_weights()[0][0, 0]):.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
