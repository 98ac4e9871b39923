"""Lightning: a callback that beats, checkpoints, rolls back and ends.

    sentinel = SentinelCallback(every=500)
    trainer = Trainer(callbacks=[sentinel], ...)
    sentinel.fit(trainer, model, loader)        # in place of trainer.fit(model, loader)

A rollback ends the fit loop at a batch boundary and fits again from the checkpoint, in the same process, by
Lightning's own `ckpt_path`. Who keeps calling `trainer.fit()` gets checkpoint and terminate.
"""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from sentinel.adapters import folder, rates
from sentinel.guard import VERBS, Command, Guard, Parameter, Value

DOORBELL = signal.SIGUSR2


class SentinelCallback(Callback):
    """Lets the sentinel act on a Trainer.

    Args:
        run_dir: folder of the event files. Default: `log_dir` of the Trainer's TensorBoardLogger.
        every: global steps between two checkpoints; 0 for none but those that are asked for.
        keep: how many stay, beside the first.

    The parameter `learning_rate` is the first group's of the first optimiser; a change scales all groups of
    all optimisers alike.
    """

    def __init__(self, run_dir: str | Path | None = None, *, every: int = 1000, keep: int = 20) -> None:
        self._run_dir, self._every, self._keep = run_dir, every, keep
        self._guard: Any = None
        self._returns = False  # fit() of this class is the caller, so that a rollback has somewhere to go
        self._back: tuple[Command, folder.Saved] | None = None
        self._ended = False
        self._values: dict[str, Value] = {}
        self._next_save = 0
        self._ring: Any = None
        self._least: tuple[Any, Any] | None = (
            None  # min_epochs and min_steps, while a rollback overrules them
        )

    def fit(self, trainer: Any, *arguments: Any, **options: Any) -> None:
        """Fit as `trainer.fit` does, and again after every rollback."""
        self._returns = True
        with contextlib.suppress(ValueError):  # outside the main thread there is no doorbell
            if signal.getsignal(DOORBELL) == signal.SIG_DFL:
                signal.signal(DOORBELL, signal.SIG_IGN)  # what Lightning restores after a fit must not kill
        trainer.fit(*arguments, **options)
        while self._back is not None:
            command, saved = self._back
            self._purge_events(trainer, saved.step)
            path = next(saved.path.glob("*.ckpt"))
            try:
                trainer.fit(*arguments, **{**options, "ckpt_path": path})
            except BaseException as error:
                if self._back is not None:  # it did not come as far as on_train_start
                    self._guard.acknowledge(command, "failed", reason=f"{type(error).__name__}: {error}")
                raise

    # ── what Lightning calls ──

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Register; after a rollback, set the remedy's values over what the checkpoint has brought back."""
        if self._guard is None:
            self._register(trainer)
            self._ring = signal.getsignal(DOORBELL)
        else:
            with contextlib.suppress(ValueError):
                signal.signal(
                    DOORBELL, self._ring
                )  # Lightning has taken it down with the end of the last fit
        if self._back is None:
            self._save(trainer)
            return
        (command, saved), self._back = self._back, None
        if self._least is not None:
            trainer.fit_loop.min_epochs, trainer.fit_loop.epoch_loop.min_steps = self._least
        values = {**saved.values, **command.set}
        was, rate = float(saved.values["learning_rate"]), float(values["learning_rate"])
        if was != rate:
            schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
            rates.scale(trainer.optimizers, schedulers, rate / was)
        if "gradient_clip_val" in values:
            trainer.gradient_clip_val = values["gradient_clip_val"]
        self._values = values
        for name, value in values.items():
            self._guard.set_value(name, value)
        self._next_save = saved.step + self._every
        self._guard.beat(saved.step, "start")
        self._guard.begin_attempt()
        self._guard.acknowledge(command, "done", **_named(saved))

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Beat, checkpoint, and obey."""
        step = trainer.global_step
        self._guard.beat(step)
        if self._every and step >= self._next_save:
            self._save(trainer)
        command = self._guard.poll() if self._back is None and not self._ended else None
        if command is None:
            return
        if command.verb == "rollback":
            self._leave(trainer, command)
            return
        saved, problem = self._save(trainer)
        if saved is None:
            self._guard.acknowledge(command, "failed", step=step, reason=problem)
        else:
            self._guard.acknowledge(command, "done", **_named(saved))
        if command.verb == "terminate":
            self._ended = True
            self._stop(trainer)

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        """An evaluation has its own patience."""
        if self._guard is not None:
            self._guard.beat(trainer.global_step, "evaluate")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Say how it ended, unless it goes on from a checkpoint."""
        if self._back is None and self._guard is not None:
            self._guard.finish("terminated" if self._ended else "finished")
            self._guard, self._ended = None, False  # a further fit is a further attempt

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """Say that it failed."""
        if self._guard is not None:
            self._guard.finish("failed")

    # ── the parts ──

    def _register(self, trainer: Any) -> None:
        logger = next((one for one in trainer.loggers if isinstance(one, TensorBoardLogger)), None)
        run = Path(self._run_dir or (logger.log_dir if logger else trainer.default_root_dir)).absolute()
        self._checkpoints = run / "checkpoints"
        group = trainer.optimizers[0].param_groups[0]
        rate = float(group.get("initial_lr", group["lr"]))
        declared = [Parameter.number("learning_rate", rate, low=0.0, high=max(1.0, rate))]
        if isinstance(trainer.gradient_clip_val, (int, float)):
            clip = float(trainer.gradient_clip_val)
            declared.append(Parameter.number("gradient_clip_val", clip, low=0.0, high=max(1e6, clip)))
        self._values = {parameter.name: parameter.value for parameter in declared}
        make: Any = Guard
        if trainer.world_size > 1:
            from sentinel.adapters.ddp import RankedGuard  # noqa: PLC0415 - one process needs no group

            make = RankedGuard
        verbs = VERBS if self._returns else ("checkpoint", "terminate")
        self._guard = make(run, parameters=declared, checkpoints=self._checkpoints, verbs=verbs)

    def _save(self, trainer: Any) -> tuple[folder.Saved | None, str]:
        """Have Lightning save, which takes all ranks; then write the manifest. Returns what, or why not."""
        step = trainer.global_step
        self._next_save = step + self._every
        path = self._checkpoints / f"{self._guard.attempt:02d}-{step:08d}"
        self._guard.beat(step, "checkpoint")
        saved, problem = folder.Saved(path, step, self._guard.attempt, dict(self._values)), ""
        try:
            if not (path / folder.MANIFEST).exists():
                trainer.save_checkpoint(path / f"epoch={trainer.current_epoch}-step={step}.ckpt")
                if trainer.is_global_zero:
                    folder.seal(path, step, self._guard.attempt, self._values)
                    folder.prune(self._checkpoints, self._keep)
        except OSError as error:  # a full disk costs a checkpoint and not the training
            problem = f"{path.name}: {error}"
        return (None if problem else saved), problem

    def _leave(self, trainer: Any, command: Command) -> None:
        """Make sure of the checkpoint, then end the loop; fit() begins it anew."""
        problem = ""
        try:
            saved = folder.find(self._checkpoints, command)
            if not list(saved.path.glob("*.ckpt")):
                problem = f"{saved.path.name} holds no checkpoint of Lightning"
        except (OSError, ValueError) as error:
            problem = str(error)
        if hasattr(self._guard, "agree"):
            problem = self._guard.agree(problem)
        if problem:
            self._guard.acknowledge(command, "refused", step=trainer.global_step, reason=problem)
            return
        self._back = (command, saved)
        self._stop(trainer)

    def _purge_events(self, trainer: Any, step: int) -> None:
        """Begin the next event file with the word that later steps are void."""
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                logger.experiment.close()
                logger._kwargs["purge_step"] = step + 1
                logger._experiment = None

    def _stop(self, trainer: Any) -> None:
        """End the fit loop at this batch, a `min_steps` or `min_epochs` notwithstanding."""
        loop = trainer.fit_loop
        self._least = (loop.min_epochs, loop.epoch_loop.min_steps)
        loop.min_epochs = loop.epoch_loop.min_steps = None
        trainer.should_stop = True


def _named(saved: folder.Saved) -> dict[str, Any]:
    return {"step": saved.step, "checkpoint": saved.path.name, "checkpoint_step": saved.step}
