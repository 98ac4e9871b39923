"""All that the next step of a training depends on: built, saved as a checkpoint, become again.

The one fact to hold: everything that matters is in `_state()`. A checkpoint is that, a rollback and a resume
are `_become()` of it, and whatever is added to the loop and matters must be added here.

Why it exists: the loop (loop.py) says what happens in which order; this says what it happens to.
"""

from __future__ import annotations

import dataclasses
import random
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer import checkpoint as checkpoints
from trainer import config as configuration
from trainer import envs, metrics
from trainer.checkpoint import Checkpoint, CheckpointError
from trainer.config import Config, ConfigError
from trainer.ranks import Alone
from trainer.replay import DamagedReplayError, Journal, Replay, Segment
from trainer.simulator import Simulator
from trainer.td3 import TD3, Hyperparameters

EVER = 1 << 62
"""The last step of an attempt that still goes on."""


class RanksDifferError(RuntimeError):
    """The ranks of a run no longer hold the same networks."""


class TrainingState(ABC):
    """The state of one run in its folder, with what saves and restores it.

    Args:
        config: the run; `resume` names the checkpoint to go on from.
        changes: hyperparameters that differ from that checkpoint's.
        reinit: parts that get fresh weights.
        say: where lines for people go.
        ranks: the processes of the run, of which this is one.

    Raises:
        ConfigError: the folder already holds a run, or the environment does not fit.
        CheckpointError: the checkpoint to resume from cannot be used.
    """

    def __init__(
        self,
        config: Config,
        *,
        changes: Mapping[str, Any] | None = None,
        reinit: Iterable[str] = (),
        say: Callable[[str], None] = print,
        ranks: Alone | None = None,
    ) -> None:
        self.config = config
        self.run_dir = config.run_dir
        self.ranks = ranks or Alone()
        self._say = say
        self.stop_signal: int | None = None
        """Set by a signal handler: the run ends at the next step boundary, after a checkpoint."""
        torch.set_num_threads(config.threads)
        seed = self.ranks.seed(config.seed)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # of environments that draw from the global generators
        self.rng = np.random.default_rng(seed)
        self.batch_size = self._share("batch_size", config.batch_size)
        self.env = self._make_env()
        self.simulator = Simulator(config.carla_patience, say) if envs.has_simulator(self.env) else None
        self.eval_env = self._make_env() if self.simulator is None else envs.beside(self.env)
        self.env.action_space.seed(seed)
        self._elsewhere: list[metrics.Scalars] = []
        """The last accounts of the other ranks' simulators."""
        self._between = self.simulator is not None
        """No episode is under way: the next one begins as soon as the simulator is there."""
        self._episode_seed: int | None = seed
        if self._between:  # the guard beats and polls while it starts, so the wait for it is the loop's
            self.observation = envs.unseen(self.env)
        else:
            self.observation = envs.see(self.env.reset(seed=seed)[0])
        vector_dim, frames, size = envs.dimensions(self.observation)
        action_dim = self.env.action_space.shape[0]  # type: ignore[index]  # a Box, envs.make has checked
        self.device = torch.device(config.device)
        self.agent = TD3(
            config.shape(vector_dim, action_dim, frames, size),
            config.hyperparameters(),
            self.device,
            bf16=config.bf16,
            average=self.ranks.average if self.ranks.count > 1 else None,
        )
        self.ranks.spread(self.agent.tensors())
        self.replay = Replay(
            self.ranks.share(config.replay_size),
            vector_dim=vector_dim,
            action_dim=action_dim,
            frames=frames,
            image_size=size,
            rng=self.rng,
        )
        self.replay.begin(self.observation)
        self.step = 0
        self.episode = metrics.Episode()
        self.reward_bound = 0.0
        self.journal = Journal(self.run_dir / "replay" / checkpoints.folder_of(self.ranks.number))
        self.outcome: str | None = None
        resumed = self._resume()
        self._change(changes or {}, reinit)
        declared = configuration.declaration(self.agent.parameters, shared=self.agent.shape.shared_encoder)
        self.guard = self.ranks.guard(self.run_dir, parameters=declared, reinit=self.agent.reinitialisable)
        self.lineage = [*(cut(resumed) if resumed else []), (self.guard.attempt, EVER)]
        log = metrics.Metrics if self.ranks.number == 0 else metrics.Unwritten
        self.metrics = log(self.run_dir, None if resumed is None else self.step + 1)
        self._logged_at = (self.step, time.perf_counter())
        self._save("start")

    def _change(self, changes: Mapping[str, Any], reinit: Iterable[str]) -> None:
        """Set hyperparameters and give parts fresh weights; whoever asked has checked names and bounds."""
        if changes:
            self.agent.apply(dataclasses.replace(self.agent.parameters, **changes))
        if newest := changes.get("skip_replay"):
            left_out = self.replay.skip(self.ranks.share(newest), keep=self.batch_size)
            self._say(f"step {self.step}: the newest {left_out} transitions are never drawn again")
        for part in reinit:
            self.agent.reinitialise(part)
        if reinit:
            self.ranks.spread(self.agent.tensors())

    # -- save --------------------------------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        return self.run_dir / "checkpoints"

    def _save(self, why: str) -> None:
        """Write a checkpoint of our own accord: a disk that refuses is told, and training goes on."""
        try:
            self._write(why)
        except OSError as error:
            print(f"trainer: no checkpoint of step {self.step}: {error}; training goes on", file=sys.stderr)

    def _write(self, why: str) -> str:
        """Every rank puts its rows on disk, then rank 0 writes the checkpoint of all.

        Raises:
            OSError: the disk of one of them would not take it.
        """
        self.guard.beat(self.step, "checkpoint")
        attempt = self.guard.attempt
        segments = self.ranks.together(lambda: self.journal.save(self.replay, attempt))
        self._agree_on_weights()
        parts = self.ranks.gather((self._part(), segments))
        name, needed = self.ranks.first(lambda: self._put_down(parts, attempt, why))
        if needed is not None:
            own = checkpoints.folder_of(self.ranks.number) or "."
            self.journal.prune({path.name for path in map(Path, needed) if str(path.parent) == own})
        return name

    def _put_down(
        self, parts: list[tuple[dict[str, Any], list[Segment]]], attempt: int, why: str
    ) -> tuple[str, set[str] | None]:
        """Write the checkpoint and delete old ones; its name, and the segments that are needed still."""
        part, segments = checkpoints.joined(parts)
        name = checkpoints.write(
            self._folder,
            attempt=attempt,
            step=self.step,
            wall_time=time.time(),
            state=self._shared() | part,
            segments=segments,
            replay_folder=self.run_dir / "replay",
            why=why,
        )
        doomed = checkpoints.to_delete(
            checkpoints.names(self._folder), self.lineage, keep=self.config.keep_checkpoints, spacing=1000
        )
        return name, checkpoints.prune(self._folder, doomed) if doomed else None

    def _agree_on_weights(self) -> None:
        """See that all ranks have learnt the same, bit for bit.

        Raises:
            RanksDifferError: they have not.
        """
        if self.ranks.count == 1:
            return
        digests = self.ranks.gather(checkpoints.digest(self.agent.state_dict()))
        numbers = ", ".join(str(number) for number, one in enumerate(digests) if one != digests[0])
        if numbers:
            raise RanksDifferError(
                f"step {self.step}: the networks of rank {numbers} are not those of rank 0; "
                "no checkpoint was written, and the run ends. Go on from the last one with --resume latest"
            )

    def _state(self) -> dict[str, Any]:
        """All of this rank: what is shared, and its part."""
        return self._shared() | self._part()

    def _shared(self) -> dict[str, Any]:
        return {
            "shape": dataclasses.asdict(self.agent.shape),
            "agent": self.agent.state_dict(),
            "parameters": dataclasses.asdict(self.agent.parameters),
            "step": self.step,
            "lineage": self.lineage,
        }

    def _part(self) -> dict[str, Any]:
        return {
            "replay": self.replay.state_dict(),
            "env": None if self._between else envs.snapshot(self.env),
            "observation": self.observation,
            "episode": dataclasses.asdict(self.episode),
            "reward_bound": self.reward_bound,
            "random": {
                "torch": torch.get_rng_state(),
                "numpy": np.random.get_state(legacy=False),
                "python": random.getstate(),
                "own": self.rng.bit_generator.state,
                "actions": self.env.action_space.np_random.bit_generator.state,
            },
        }

    # -- become ------------------------------------------------------------------------------------------

    def _read(self, name: str) -> Checkpoint:
        if checkpoints.parse_name(name) is None:
            raise CheckpointError(f"{name!r} is no checkpoint's name")
        return self._fitting(checkpoints.read(self._folder / name))

    def _fitting(self, whole: Checkpoint) -> Checkpoint:
        found = checkpoints.part_of(whole, self.ranks.number, self.ranks.count)
        shape = dataclasses.asdict(self.agent.shape)
        other = {k: v for k, v in found.state["shape"].items() if shape.get(k) != v}
        if other:
            raise CheckpointError(f"checkpoint {found.name} is of another architecture: {other}")
        if found.state["replay"]["capacity"] != self.replay.capacity:
            raise CheckpointError(f"checkpoint {found.name} is of another --replay_size")
        try:  # on the other environment, so that nothing of the run has changed when this fails
            if found.state["env"] is not None:
                envs.restore(self.eval_env, found.state["env"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"checkpoint {found.name} is of another environment: {error!r}") from error
        return found

    def _become(self, found: Checkpoint, *, own: bool, replay_folder: Path | None = None) -> None:
        """Take over a checkpoint's state whole; `own` when this process is the run that wrote it."""
        state = found.state
        attempt, step = found.attempt, found.step
        on_line = own and step <= dict(self.lineage).get(attempt, -1)
        if not (on_line and self.replay.rewind(state["replay"])):
            try:
                self.replay.load(state["replay"], found.segments, replay_folder or self.journal.folder)
            except DamagedReplayError as error:
                raise CheckpointError(f"checkpoint {found.name} cannot be used: {error}") from error
        foreign = replay_folder is not None and replay_folder.resolve() != self.journal.folder.resolve()
        self.journal.rewind([] if foreign else found.segments, 0 if foreign else self.replay.written)
        self.agent.load_state_dict(state["agent"])
        self.agent.apply(Hyperparameters(**state["parameters"]))
        self.observation = state["observation"]
        self.episode = metrics.Episode(**state["episode"])
        self.step, self.reward_bound = state["step"], state["reward_bound"]
        generators = state["random"]
        torch.set_rng_state(generators["torch"])
        np.random.set_state(generators["numpy"])
        random.setstate(generators["python"])
        self.rng.bit_generator.state = generators["own"]
        self.env.action_space.np_random.bit_generator.state = generators["actions"]
        self._go_on_in(state)

    @abstractmethod
    def _go_on_in(self, state: Mapping[str, Any]) -> None:
        """Go on in the episode of a checkpoint's state, or in a new one where that cannot be."""

    def _resume(self) -> Checkpoint | None:
        """Go on from the configured checkpoint; a new run needs a free folder."""
        path = self.ranks.first(self._claim_folder)
        if path is None:
            return None
        found = self.ranks.together(lambda: self._fitting(checkpoints.read(path)))
        replay_folder = path.resolve().parents[1] / "replay" / checkpoints.folder_of(self.ranks.number)
        self._become(found, own=False, replay_folder=replay_folder)
        self._say(f"resumed from {path.name} at step {self.step}")
        return found

    def _claim_folder(self) -> Path | None:
        """The checkpoint to go on from, if any. Writes config.json."""
        config, own = self.config, self.run_dir / "config.json"
        path = checkpoints.find(self._folder, config.resume) if config.resume else None
        foreign = path is not None and path.resolve().parent != self._folder.resolve()
        if (path is None or foreign) and (own.exists() or checkpoints.names(self._folder)):
            raise ConfigError(
                f"{self.run_dir} already holds a run: go on with --resume latest, or give another --logdir"
            )
        configuration.save(config, own)
        return path

    def _share(self, name: str, whole: int) -> int:
        """This rank's part of an option, which has to come out even."""
        if whole % self.ranks.count:
            raise ConfigError(f"--{name} {whole} cannot be shared out evenly over {self.ranks.count} ranks")
        return self.ranks.share(whole)

    def _make_env(self) -> envs.Env:
        try:
            return self.config.make_env(self.ranks.number)
        except ValueError as error:
            raise ConfigError(str(error)) from error


def cut(found: Checkpoint) -> list[tuple[int, int]]:
    """The line of a checkpoint: the attempts that led to it, each with the last step it contributed."""
    before = [(attempt, step) for attempt, step in found.state["lineage"] if attempt != found.attempt]
    return [*before, (found.attempt, found.step)]
