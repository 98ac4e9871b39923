"""Keras 3: a callback that beats, checkpoints, rolls back and ends; on any backend, tested on torch.

    sentinel = SentinelCallback("runs/a", every=500)
    sentinel.fit(model, x, y, epochs=20)        # in place of model.fit(x, y, epochs=20)

A rollback ends the fit at a batch boundary, loads weights and optimiser into the same model, and fits again
from the checkpoint's epoch: between two fits no backend holds state of its own. Who keeps calling
`model.fit()` gets checkpoint and terminate.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras import callbacks

from sentinel.adapters import folder
from sentinel.guard import VERBS, Command, Guard, Parameter, Value

MODEL, POSITION = "model.keras", "position.json"


class SentinelCallback(callbacks.Callback):
    """Lets the sentinel act on a Keras model.

    Args:
        run_dir: folder of the run's event files.
        every: batches between two checkpoints; 0 for none but those that are asked for.
        keep: how many stay, beside the first.
        on_rollback: called with the step gone back to, to begin a new event file there.

    The step is the number of batches trained, `optimizer.iterations` at the start of a fit and counted from
    there. A learning rate that is a schedule's cannot be set, and is not declared.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        every: int = 1000,
        keep: int = 20,
        on_rollback: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        self._run, self._every, self._keep = Path(run_dir).absolute(), every, keep
        self._on_rollback = on_rollback
        self._guard: Guard | None = None
        self._returns = False  # fit() of this class is the caller, so that a rollback has somewhere to go
        self._back: tuple[Command, folder.Saved] | None = None
        self._ended = False
        self._step = self._epoch = self._next_save = 0
        self._batch = -1

    def fit(self, model: Any, *arguments: Any, **options: Any) -> Any:
        """Fit as `model.fit` does, and again after every rollback; return the last history."""
        self._returns = True
        others = [one for one in options.pop("callbacks", None) or [] if one is not self]
        options["callbacks"] = [*others, self]
        self._epoch = options.get("initial_epoch", 0)
        history = model.fit(*arguments, **options)
        while self._back is not None:
            (command, saved), self._back = self._back, None
            if self._roll_back(model, command, saved):
                options["initial_epoch"] = json.loads((saved.path / POSITION).read_bytes())["epoch"]
            else:
                options["initial_epoch"] = self._epoch
            history = model.fit(*arguments, **options)
        return history

    # ── what Keras calls ──

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Register, and keep a way back to the very beginning."""
        self._step = int(self.model.optimizer.iterations)
        if self._guard is not None:
            return
        rate = self._rate()
        declared = (
            [] if rate is None else [Parameter.number("learning_rate", rate, low=0.0, high=max(1.0, rate))]
        )
        verbs = VERBS if self._returns else ("checkpoint", "terminate")
        self._guard = Guard(self._run, parameters=declared, verbs=verbs)
        self._save()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Know where a fit would begin again."""
        self._epoch, self._batch = epoch, -1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Beat, checkpoint, and obey."""
        if self._guard is None:
            return
        self._step += batch - self._batch  # more than one with steps_per_execution
        self._batch = batch
        self._guard.beat(self._step)
        if self._every and self._step >= self._next_save:
            self._save()
        command = self._guard.poll() if self._back is None and not self._ended else None
        if command is None:
            return
        if command.verb == "rollback":
            self._leave(command)
            return
        saved, problem = self._save()
        if saved is None:
            self._guard.acknowledge(command, "failed", step=self._step, reason=problem)
        else:
            self._guard.acknowledge(command, "done", **_named(saved))
        if command.verb == "terminate":
            self._ended = self.model.stop_training = True

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """An evaluation has its own patience."""
        if self._guard is not None:
            self._guard.beat(self._step, "evaluate")

    def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
        """Say how it ended, unless it goes on from a checkpoint."""
        if self._back is None and self._guard is not None:
            self._guard.finish("terminated" if self._ended else "finished")
            self._guard, self._ended = None, False  # a further fit is a further attempt

    # ── the parts ──

    def _rate(self) -> float | None:
        """The learning rate, or None where a schedule owns it."""
        optimizer = self.model.optimizer
        return float(optimizer.learning_rate) if hasattr(optimizer._learning_rate, "assign") else None

    def _save(self) -> tuple[folder.Saved | None, str]:
        """Write a checkpoint; return it, or why there is none."""
        assert self._guard is not None
        self._next_save = self._step + self._every
        rate = self._rate()
        values: dict[str, Value] = {} if rate is None else {"learning_rate": rate}
        if rate is not None:
            self._guard.set_value("learning_rate", rate)  # ReduceLROnPlateau and the like
        self._guard.beat(self._step, "checkpoint")
        checkpoints, attempt = self._run / "checkpoints", self._guard.attempt
        try:
            return folder.write(checkpoints, self._step, attempt, self._fill, values, self._keep), ""
        except Exception as error:  # noqa: BLE001 - whatever a library's save or the disk does, training goes on
            return None, f"{type(error).__name__}: {error}"

    def _fill(self, path: Path) -> None:
        self.model.save(path / MODEL)
        steps = (self.params or {}).get("steps")
        epoch = self._epoch + bool(steps and self._batch + 1 >= steps)  # of a whole epoch, the next one
        (path / POSITION).write_text(json.dumps({"epoch": epoch, "step": self._step}), encoding="utf-8")

    def _leave(self, command: Command) -> None:
        """Make sure of the checkpoint, then end the fit; fit() of this class begins it anew."""
        assert self._guard is not None
        try:
            saved = folder.find(self._run / "checkpoints", command)
        except (OSError, ValueError) as error:
            self._guard.acknowledge(command, "refused", step=self._step, reason=str(error))
            return
        self._back = (command, saved)
        self.model.stop_training = True

    def _roll_back(self, model: Any, command: Command, saved: folder.Saved) -> bool:
        """Load what was saved, then the remedy; False, and acknowledged as failed, where that went wrong."""
        assert self._guard is not None
        values = {**saved.values, **command.set}
        try:
            model.load_weights(saved.path / MODEL)  # the optimiser's variables too
            if "learning_rate" in values:
                model.optimizer.learning_rate = values["learning_rate"]
            if self._on_rollback is not None:
                self._on_rollback(saved.step)
        except Exception as error:  # noqa: BLE001 - training goes on, as it is
            self._guard.acknowledge(command, "failed", reason=f"{type(error).__name__}: {error}")
            return False
        for name, value in values.items():
            self._guard.set_value(name, value)
        self._next_save = saved.step + self._every
        self._guard.beat(saved.step, "start")
        self._guard.begin_attempt()
        self._guard.acknowledge(command, "done", **_named(saved))
        return True


def _named(saved: folder.Saved) -> dict[str, Any]:
    return {"step": saved.step, "checkpoint": saved.path.name, "checkpoint_step": saved.step}
