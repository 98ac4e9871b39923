"""Hugging Face Trainer: a callback that beats, has the Trainer save, takes it back and ends it.

    sentinel = SentinelCallback(trainer)
    sentinel.train()                        # in place of trainer.train(); takes the same arguments

A rollback ends the Trainer's loop at a step boundary and starts it again from the checkpoint, in the same
process, by the Trainer's own `resume_from_checkpoint`: data order, schedule, optimiser and generators are as
they were. Who keeps calling `trainer.train()` gets checkpoint and terminate; a rollback is not offered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback

from sentinel.adapters import folder, rates
from sentinel.guard import VERBS, Command, Guard, Parameter, Value


class SentinelCallback(TrainerCallback):
    """Lets the sentinel act on a Trainer; adds itself to it.

    Args:
        trainer: the Trainer. Its `save_steps` say how often there is a way back, `save_total_limit` how far.
        run_dir: folder of the event files. Default: where the Trainer's TensorBoardCallback writes.
    """

    def __init__(self, trainer: Any, run_dir: str | Path | None = None) -> None:
        self._trainer, self._run_dir = trainer, run_dir
        self._guard: Any = None
        self._returns = False  # train() of this class is the caller, so that a rollback has somewhere to go
        self._saving: Command | None = None  # acknowledged once the Trainer has saved
        self._back: tuple[Command, folder.Saved] | None = None
        self._ended = False
        self._values: dict[str, Value] = {}
        trainer.add_callback(self)

    def train(self, **options: Any) -> Any:
        """Train as `trainer.train(**options)` does, and again after every rollback; return its last word."""
        self._returns = True
        result = self._trainer.train(**options)
        while self._back is not None:
            command, saved = self._back
            self._purge_events(saved.step)
            try:
                result = self._trainer.train(**{**options, "resume_from_checkpoint": str(saved.path)})
            except BaseException as error:
                if self._back is not None:  # it did not come as far as on_train_begin
                    self._guard.acknowledge(command, "failed", reason=f"{type(error).__name__}: {error}")
                raise
        return result

    # ── what the Trainer calls ──

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:  # noqa: ARG002
        """Register; after a rollback, set the remedy's values over what the checkpoint has brought back."""
        if self._guard is None:
            self._register(args, state)
        if self._back is None:
            return
        (command, saved), self._back = self._back, None
        values = {**saved.values, **command.set}
        was, rate = float(saved.values["learning_rate"]), float(values["learning_rate"])
        if was != rate:
            rates.scale([parts["optimizer"]], [parts["lr_scheduler"]], rate / was)
        args.max_grad_norm = values["max_grad_norm"]
        self._values = values
        for name, value in values.items():
            self._guard.set_value(name, value)
        self._guard.beat(state.global_step, "start")
        self._guard.begin_attempt()
        self._guard.acknowledge(command, "done", **_named(saved))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Beat, and obey."""
        self._guard.beat(state.global_step)
        command = self._guard.poll() if self._saving is None else None
        if command is None:
            return
        if command.verb == "rollback":
            self._leave(command, state, control)
            return
        self._saving, control.should_save = command, True
        if command.verb == "terminate":
            self._ended = control.should_training_stop = True

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """An evaluation has its own patience."""
        if self._guard is not None:
            self._guard.beat(state.global_step, "evaluate")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Write the manifest beside what the Trainer has saved."""
        command, self._saving = self._saving, None
        path = Path(args.output_dir).absolute() / f"checkpoint-{state.global_step}"
        self._guard.beat(state.global_step, "checkpoint")
        problem = ""
        try:
            if state.is_world_process_zero:
                folder.seal(path, state.global_step, self._guard.attempt, self._values)
        except OSError as error:
            problem = f"{path.name}: {error}"
        if command is not None:
            status = "failed" if problem else "done"
            saved = folder.Saved(path, state.global_step, self._guard.attempt)
            self._guard.acknowledge(command, status, reason=problem, **({} if problem else _named(saved)))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Say how it ended, unless it goes on from a checkpoint."""
        if self._back is None and self._guard is not None:
            self._guard.finish("terminated" if self._ended else "finished")
            self._guard, self._ended = None, False  # a further train() is a further attempt

    # ── the parts ──

    def _register(self, args: Any, state: Any) -> None:
        run = self._run_dir or next((c.logging_dir for c in self._boards()), None) or args.output_dir
        rate, norm = float(args.learning_rate), float(args.max_grad_norm)
        self._values = {"learning_rate": rate, "max_grad_norm": norm}
        make: Any = Guard
        if args.world_size > 1:
            from sentinel.adapters.ddp import RankedGuard  # noqa: PLC0415 - one process needs no group

            make = RankedGuard
        self._guard = make(
            run,
            parameters=[
                Parameter.number("learning_rate", rate, low=0.0, high=max(1.0, rate)),
                Parameter.number("max_grad_norm", norm, low=0.0, high=max(1e6, norm)),
            ],
            checkpoints=Path(args.output_dir).absolute(),
            verbs=VERBS if self._returns else ("checkpoint", "terminate"),
        )
        self._guard.beat(state.global_step, "start")

    def _leave(self, command: Command, state: Any, control: Any) -> None:
        """Make sure of the checkpoint, then end the loop; train() begins it anew."""
        problem = ""
        try:
            saved = folder.find(Path(self._trainer.args.output_dir).absolute(), command)
            if not (saved.path / "trainer_state.json").exists() or not saved.values:
                problem = f"{saved.path.name} holds no trainer state of ours"
        except (OSError, ValueError) as error:
            problem = str(error)
        if hasattr(self._guard, "agree"):
            problem = self._guard.agree(problem)
        if problem:
            self._guard.acknowledge(command, "refused", step=state.global_step, reason=problem)
            return
        self._back = (command, saved)
        control.should_training_stop = True

    def _boards(self) -> list[Any]:
        return [c for c in self._trainer.callback_handler.callbacks if isinstance(c, TensorBoardCallback)]

    def _purge_events(self, step: int) -> None:
        """Begin the next event file with the word that later steps are void."""
        for board in self._boards():
            if board.logging_dir is not None and self._trainer.is_world_process_zero():
                board.tb_writer = board._SummaryWriter(log_dir=board.logging_dir, purge_step=step + 1)


def _named(saved: folder.Saved) -> dict[str, Any]:
    return {"step": saved.step, "checkpoint": saved.path.name, "checkpoint_step": saved.step}
