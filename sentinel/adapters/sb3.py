"""Stable-Baselines3: one callback that beats, checkpoints, rolls back and ends.

    model.learn(100_000, callback=SentinelCallback(every=1000))

A rollback happens at the start of a rollout and not within one: there SB3 holds no half-collected experience,
and the environment can be reset. It changes the model in place, so `learn()` goes on as if it had never been
further. Whatever goes wrong is acknowledged as refused or failed; nothing is raised into training.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat
from stable_baselines3.common.save_util import load_from_zip_file

from sentinel.adapters import folder
from sentinel.guard import Command, Guard, Parameter, Value

NUMBERS = {  # attributes that SB3 reads anew at every update: low, high, whole
    "tau": (0.0, 1.0, False),
    "target_policy_noise": (0.0, 10.0, False),
    "target_noise_clip": (0.0, 10.0, False),
    "policy_delay": (1, 1000, True),
    "gradient_steps": (-1, 10_000, True),
    "target_update_interval": (1, 10_000_000, True),
    "max_grad_norm": (0.0, 1e6, False),
    "vf_coef": (0.0, 1e3, False),
    "n_epochs": (1, 1000, True),
}
COUNTERS = (  # what the next step depends on beside weights, optimisers and replay
    "num_timesteps",
    "_n_updates",
    "_episode_num",
    "_n_calls",
    "exploration_rate",
    "_current_progress_remaining",
    "ep_info_buffer",
    "ep_success_buffer",
    "action_noise",
)


class SentinelCallback(BaseCallback):
    """Lets the sentinel act on an SB3 model.

    Args:
        run_dir: folder of the run's event files. Default: where the model's logger writes.
        every: timesteps between two checkpoints; 0 for none but those that are asked for.
        keep: how many stay, beside the first.
        replay_buffer: save and restore it too. It is pickled whole, so its `buffer_size` is what it costs.
        parameters: further live parameters; each one's name is an attribute of the model.

    Raises:
        ValueError: at the start of training: no `run_dir`, and the model has no log folder either.
    """

    def __init__(
        self,
        run_dir: str | Path | None = None,
        *,
        every: int = 10_000,
        keep: int = 20,
        replay_buffer: bool = True,
        parameters: tuple[Parameter, ...] = (),
    ) -> None:
        super().__init__()
        self._run_dir, self._every, self._keep = run_dir, every, keep
        self._replay_buffer, self._further = replay_buffer, parameters
        self._guard: Guard | None = None
        self._rollback: Command | None = None  # accepted; carried out when the next rollout starts
        self._stopped = False
        self._next_save = 0

    def _on_training_start(self) -> None:
        run = self._run_dir or self.model.logger.get_dir()
        if run is None:
            raise ValueError("SentinelCallback: give run_dir=, or the model a tensorboard_log=")
        self._checkpoints = Path(run).absolute() / "checkpoints"
        self._schedule, self._factor = self.model.lr_schedule, 1.0
        present: dict[str, Any] = {name: getattr(self.model, name, None) for name in NUMBERS}
        declared = [
            Parameter.number(name, present[name], low=low, high=high, integer=whole)
            for name, (low, high, whole) in NUMBERS.items()
            if type(present[name]) in (int, float) and low <= present[name] <= high
        ]
        declared.append(Parameter.number("learning_rate", self._rate(), low=0.0, high=max(1.0, self._rate())))
        names = {parameter.name for parameter in self._further}
        declared = [p for p in declared if p.name not in names] + list(self._further)
        self._names = tuple(parameter.name for parameter in declared)
        self._guard = Guard(run, parameters=declared)
        self._save()

    def _on_rollout_start(self) -> None:
        if self._guard is None:
            return
        if self._rollback is not None:
            command, self._rollback = self._rollback, None
            self._safely(command, lambda: self._roll_back(command))
        self._guard.set_value("learning_rate", self._rate())
        if self._every and self.model.num_timesteps >= self._next_save:
            self._guard.beat(self.model.num_timesteps, "checkpoint")
            self._save()

    def _on_step(self) -> bool:
        if self._guard is None:
            return True
        self._guard.beat(self.num_timesteps, "collect")
        command = self._guard.poll() if self._rollback is None else None
        if command is None:
            return True
        if command.verb == "rollback":
            self._rollback = command
        else:
            self._safely(command, lambda: self._checkpoint(command))
            self._stopped = command.verb == "terminate"
        return not self._stopped

    def _on_training_end(self) -> None:
        if self._guard is None:
            return
        if self._rollback is not None:
            reason = "training ended before the next rollout"
            self._guard.acknowledge(self._rollback, "refused", step=self.model.num_timesteps, reason=reason)
        self._guard.finish("terminated" if self._stopped else "finished")

    def _safely(self, command: Command, work: Callable[[], None]) -> None:
        assert self._guard is not None
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever a library's load or the disk does, training goes on
            why = f"{type(error).__name__}: {error}"
            self._guard.acknowledge(command, "failed", step=self.model.num_timesteps, reason=why)

    # ── checkpoints ──

    def _checkpoint(self, command: Command) -> None:
        assert self._guard is not None
        saved = folder.write(*self._what())
        self._guard.acknowledge(
            command, "done", step=saved.step, checkpoint=saved.path.name, checkpoint_step=saved.step
        )

    def _save(self) -> None:
        self._next_save = self.model.num_timesteps + self._every
        try:
            folder.write(*self._what())
        except Exception as error:  # noqa: BLE001 - a full disk costs a checkpoint and not the training
            self.logger.warn(f"sentinel: no checkpoint at step {self.model.num_timesteps}: {error}")

    def _what(self) -> tuple[Path, int, int, Callable[[Path], None], dict[str, Value], int]:
        assert self._guard is not None
        values: dict[str, Value] = {
            name: getattr(self.model, name) for name in self._names if name in NUMBERS
        }
        values.update({parameter.name: getattr(self.model, parameter.name) for parameter in self._further})
        values.setdefault("learning_rate", self._rate())
        return (
            self._checkpoints,
            self.model.num_timesteps,
            self._guard.attempt,
            self._fill,
            values,
            self._keep,
        )

    def _fill(self, path: Path) -> None:
        """Write the files of SB3's CheckpointCallback, by its names."""
        step = self.model.num_timesteps
        self.model.save(path / f"rl_model_{step}_steps.zip")
        if self._has_replay():
            self.model.save_replay_buffer(path / f"rl_model_replay_buffer_{step}_steps.pkl")
        if (normalizer := self.model.get_vec_normalize_env()) is not None:
            normalizer.save(path / f"rl_model_vecnormalize_{step}_steps.pkl")

    def _has_replay(self) -> bool:
        return self._replay_buffer and getattr(self.model, "replay_buffer", None) is not None

    # ── going back ──

    def _roll_back(self, command: Command) -> None:
        assert self._guard is not None
        try:
            saved = folder.find(self._checkpoints, command)
            data, weights, variables = load_from_zip_file(
                saved.path / f"rl_model_{saved.step}_steps.zip", device=self.model.device
            )
            pickles = {
                kind: pickle.loads(path.read_bytes())  # noqa: S301 - its digest is that of what we wrote
                for kind in ("replay_buffer", "vecnormalize")
                if (path := saved.path / f"rl_model_{kind}_{saved.step}_steps.pkl").exists()
            }
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, nothing has been changed yet
            self._guard.acknowledge(command, "refused", step=self.model.num_timesteps, reason=str(error))
            return
        self.model.set_parameters(weights, exact_match=True, device=self.model.device)
        for name, value in (variables or {}).items():  # SAC's entropy coefficient
            if value is not None:
                getattr(self.model, name).data = value.data
        for name in COUNTERS:
            if name in (data or {}):
                setattr(self.model, name, data[name])
        self._restore(pickles)
        values = {**saved.values, **command.set}
        for name, value in values.items():
            if name in self._names:
                self._set(name, value)
                self._guard.set_value(name, value)
        self._purge_events(saved.step)
        self._next_save = saved.step + self._every
        self._guard.beat(saved.step, "start")
        self._guard.begin_attempt()
        self._guard.acknowledge(
            command, "done", step=saved.step, checkpoint=saved.path.name, checkpoint_step=saved.step
        )

    def _restore(self, pickles: Mapping[str, Any]) -> None:
        """Replay and normalisation in place, since the rollout at hand holds them; then a new episode."""
        model = self.model
        if "replay_buffer" in pickles and self._has_replay():
            model.replay_buffer.__dict__.update(
                {k: v for k, v in vars(pickles["replay_buffer"]).items() if k not in ("device", "env")}
            )
        normalizer = model.get_vec_normalize_env()
        if normalizer is not None and "vecnormalize" in pickles:
            for name in ("obs_rms", "ret_rms"):
                setattr(normalizer, name, getattr(pickles["vecnormalize"], name))
        model._last_obs = model.env.reset()
        model._last_episode_starts = model._last_episode_starts | True
        if normalizer is not None:
            model._last_original_obs = normalizer.get_original_obs()

    def _purge_events(self, step: int) -> None:
        """Begin event files that tell TensorBoard which steps are void."""
        for output in self.model.logger.output_formats:
            if isinstance(output, TensorBoardOutputFormat):
                output.writer.close()
                output.writer = type(output.writer)(log_dir=output.writer.log_dir, purge_step=step + 1)

    # ── live parameters ──

    def _rate(self) -> float:
        return float(self.model.lr_schedule(getattr(self.model, "_current_progress_remaining", 1.0)))

    def _set(self, name: str, value: Value) -> None:
        if name != "learning_rate" or "learning_rate" not in vars(self.model):
            setattr(self.model, name, value)
            return
        model, schedule = self.model, self._schedule
        if not callable(model.learning_rate):
            model.learning_rate = value
            model._setup_lr_schedule()
            return
        plain = float(schedule(model._current_progress_remaining))
        factor = float(value) / plain if plain else 1.0
        model.lr_schedule = lambda remaining: factor * schedule(remaining)
