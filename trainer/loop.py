"""Act, store, update, log, obey: the training loop, and the only place where a command is carried out.

The one fact to hold: everything that the next step depends on is in `_state()`. A checkpoint is that, a
rollback and a resume are `_become()` of it, and whatever is added to the loop and matters must be added
there.

Why it exists: the loop reads top to bottom as one straight line (`run`), and between two steps it is at a
boundary where it may be saved, rewound or ended. Evaluation and warm-up poll too, so a command never waits
long.
"""

from __future__ import annotations

import dataclasses
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentinel.guard import Command
from trainer import checkpoint as checkpoints
from trainer import config as configuration
from trainer import envs, metrics
from trainer import simulator as simulators
from trainer.checkpoint import Checkpoint, CheckpointError
from trainer.config import Config, ConfigError
from trainer.driving.world import SimulatorFaultError
from trainer.ranks import Alone
from trainer.replay import DamagedReplayError, Journal, Replay, Segment
from trainer.simulator import Simulator
from trainer.td3 import TD3, Hyperparameters, Observation

Action = NDArray[np.float32]
"""float32 [action_dim] in [-1, 1]."""

WAIT = 0.2
"""s between two looks at the control folder while a simulator is away."""

EVER = 1 << 62
"""The last step of an attempt that still goes on."""


class RanksDifferError(RuntimeError):
    """The ranks of a run no longer hold the same networks."""


class Trainer:
    """One run in its folder.

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
        self.lineage = [*(_cut(resumed) if resumed else []), (self.guard.attempt, EVER)]
        log = metrics.Metrics if self.ranks.number == 0 else metrics.Unwritten
        self.metrics = log(self.run_dir, None if resumed is None else self.step + 1)
        self._logged_at = (self.step, time.perf_counter())
        self._save("start")

    # -- the line ----------------------------------------------------------------------------------

    def run(self) -> str:
        """Train to the end, and return how it ended: finished or terminated."""
        config = self.config
        try:
            while self.outcome is None and self.step < config.max_timesteps:
                if not self._ready():
                    continue
                learning = self.step >= config.start_timesteps
                self.guard.beat(self.step, "update" if learning else "collect")
                if not self._advance(learning):
                    continue
                if learning and self.step % config.steps_per_update == 0:
                    self.agent.update(self.replay.sample(self.batch_size, self.device))
                if self.step % config.log_interval == 0:
                    self._log()
                if self.step % config.checkpoint_interval == 0:
                    self._save("interval")
                if config.eval_freq and self.step % config.eval_freq == 0:
                    self._evaluate()
                self._obey()
            if self.outcome is None:
                self.outcome = "finished"
                self._save("end")
        except BaseException:
            self.guard.finish("failed")
            raise
        finally:
            self.metrics.close()
            if self.simulator is not None:
                self.env.close()
        self.guard.finish(self.outcome)
        return self.outcome

    # -- act and store -----------------------------------------------------------------------------

    def _ready(self) -> bool:
        """Whether a step can be made."""
        return self.simulator is None or self._all_are_there(self.simulator)

    def _advance(self, learning: bool) -> bool:  # noqa: FBT001 - the policy's action, or a random one
        """Make one step; False when it never happened."""
        return self._collect(self._explore() if learning else self._random_action())

    def _random_action(self) -> Action:
        action: Action = self.env.action_space.sample()
        return envs.from_env(action, self.env.action_space)

    def _explore(self) -> Action:
        action = self._policy(self.observation)
        noise = self.rng.normal(0.0, self.config.expl_noise, size=action.shape)
        noisy: Action = np.clip(action + noise, -1.0, 1.0).astype(np.float32)
        return noisy

    def _policy(self, observation: envs.Seen) -> Action:
        seen: Observation = {
            name: torch.as_tensor(v, device=self.device)[None] for name, v in observation.items()
        }
        action: Action = self.agent.act(seen).cpu().numpy()
        return action

    def _collect(self, action: Action) -> bool:
        """One environment step, stored; the end of an episode is logged and the next one begun.

        False when the simulator failed under it, on all ranks: then it never happened.
        """
        began = time.perf_counter()
        after, reward, terminated, truncated, info = self.env.step(envs.to_env(action, self.env.action_space))
        if self.simulator is not None:
            fault = info.get("simulator_fault")
            counts = self.ranks.any(fault is None)
            if fault is not None:
                self._suffer(self.simulator, fault)
                self.step += counts  # the other ranks' step is ours too
                return counts
            self.simulator.stepped(time.perf_counter() - began)
        reward, after, ended = float(reward), envs.see(after), bool(terminated or truncated)
        self.replay.add(action, reward, after, terminated=bool(terminated), ended=ended)
        self.step += 1
        self.episode.add(reward, info)
        self.reward_bound = max(self.reward_bound, abs(reward))
        self.observation = after
        if ended:
            self.metrics.log(self.episode.scalars(), self.step)
            self._begin_episode()
        return True

    def _begin_episode(self) -> None:
        try:
            self.observation = envs.see(self.env.reset()[0])
        except SimulatorFaultError as fault:
            assert self.simulator is not None
            self._suffer(self.simulator, str(fault))
        self.replay.begin(self.observation)
        self.episode = metrics.Episode()

    def _suffer(self, simulator: Simulator, reason: str) -> None:
        """Count a fault; the row that waits for its answer is left out when the next episode begins."""
        simulator.failed(reason)
        self._between = True
        self.metrics.log(simulator.scalars(), self.step)

    def _all_are_there(self, simulator: Simulator) -> bool:
        """Whether every rank is in an episode; all wait for one whose simulator is away, or give up."""
        if self.ranks.all(not self._between or self._begin_waiting_episode(simulator)):
            return True
        self.guard.beat(self.step, "start")
        if self.ranks.any(simulator.given_up):
            self._save("end")
            if simulator.given_up:
                simulator.gives_up(envs.trouble(self.env))
            self.outcome = "failed"
        else:
            self._obey()
        return False

    def _begin_waiting_episode(self, simulator: Simulator) -> bool:
        """Begin the episode that waits for the simulator; False while that is away, or is given up."""
        self.guard.beat(self.step, "start")
        if simulator.given_up:
            return False
        if not envs.ready(self.env, WAIT):
            if simulator.waits(envs.trouble(self.env)):
                self.metrics.log(simulator.scalars(), self.step)
            return False
        try:
            seen = envs.see(self.env.reset(seed=self._episode_seed)[0])
        except SimulatorFaultError as fault:
            self._suffer(simulator, str(fault))
            return False
        self._between, self._episode_seed = False, None
        simulator.is_back()
        self.metrics.log(simulator.scalars(), self.step)
        self.replay.abandon()
        self.observation, self.episode = seen, metrics.Episode()
        self.replay.begin(self.observation)
        return True

    # -- log ---------------------------------------------------------------------------------------

    def _log(self) -> None:
        images = self.agent.shape.encoder == "cnn"
        scalars = metrics.of_agent(self.agent, images=images, reward_bound=self.reward_bound)
        (step, then), now = self._logged_at, time.perf_counter()
        if self.step > step:
            scalars["time/steps_per_second"] = (self.step - step) / (now - then)
        self._logged_at = (self.step, now)
        self.metrics.log(scalars | self._of_the_world(), self.step)

    def _of_the_world(self) -> metrics.Scalars:
        """What is logged of where the steps come from."""
        if self.simulator is None:
            return {}
        return simulators.together(self.ranks.gather(self.simulator.scalars()))

    def _evaluate(self) -> None:
        """Rank 0 evaluates; all ranks obey meanwhile. Given up when a command moves the run."""
        steps = self._evaluation() if self.ranks.number == 0 else iter(())
        while self.ranks.any(next(steps, None) is not None):
            if self._obey():
                return

    def _evaluation(self) -> Iterator[int]:
        """Episodes without exploration noise, always the same ones; yields after each step of them.

        Where there is one simulator, the training episode is cut short for them, and its sums not logged.
        """
        returns, lengths = [], []
        self._between = self.simulator is not None
        for number in range(self.config.eval_episodes):
            try:
                observation = envs.see(self.eval_env.reset(seed=self.config.seed + 10_000 + number)[0])
            except SimulatorFaultError as fault:
                assert self.simulator is not None
                self._suffer(self.simulator, str(fault))
                return
            total, length, ended = 0.0, 0, False
            while not ended:
                self.guard.beat(self.step, "evaluate")
                action = envs.to_env(self._policy(observation), self.env.action_space)
                after, reward, terminated, truncated, info = self.eval_env.step(action)
                if self.simulator is not None and "simulator_fault" in info:
                    self._suffer(self.simulator, info["simulator_fault"])
                    return
                observation, total, length = envs.see(after), total + float(reward), length + 1
                ended = bool(terminated or truncated)
                yield length
            returns.append(total)
            lengths.append(length)
        self._tell_scores(returns, lengths)

    def _tell_scores(self, returns: list[float], lengths: list[int]) -> None:
        scores = metrics.of_evaluation(returns, lengths)
        self.metrics.log(scores, self.step)
        self._say(
            f"step {self.step}: evaluation: return {scores['eval/mean_reward']:.1f}, "
            f"length {scores['eval/mean_length']:.0f}"
        )

    # -- obey --------------------------------------------------------------------------------------

    def _obey(self) -> bool:
        """Carry out what has been asked for; True when the run is then no longer where it was."""
        if self.ranks.any(self.stop_signal is not None) and self.outcome is None:
            self._save("end")
            self.outcome = "terminated"
            return True
        command = self.guard.poll()
        if command is None:
            return False
        self._say(
            f"step {self.step}: command {command.id}: {command.verb}: {command.reason or 'no reason given'}"
        )
        match command.verb:
            case "rollback":
                return self._obey_rollback(command)
            case "terminate":
                self._acknowledge_save(command)
                self.outcome = "terminated"
                return True
            case _:
                self._acknowledge_save(command)
                return False

    def _acknowledge_save(self, command: Command) -> None:
        try:
            name = self._write("end" if command.verb == "terminate" else "command")
        except OSError as error:
            reason = f"the checkpoint could not be written: {error}"
            # An end without a checkpoint is still the end that was asked for.
            status = "done" if command.verb == "terminate" else "failed"
            self.guard.acknowledge(command, status, step=self.step, reason=reason)
            return
        self._change(command.set, command.reinit)
        self.guard.acknowledge(command, "done", step=self.step, checkpoint=name, checkpoint_step=self.step)

    def _obey_rollback(self, command: Command) -> bool:
        """Become the checkpoint, with the remedy; refused, and the run as it was, where it cannot be used."""
        try:
            target = self.ranks.first(lambda: self._target(command))
            found = self.ranks.together(lambda: self._read(target))
        except CheckpointError as error:
            self._say(f"step {self.step}: command {command.id} refused: {error}")
            self.guard.acknowledge(command, "refused", step=self.step, reason=str(error))
            return False
        came_from = self.step
        self._become(found, own=True)
        for name, value in dataclasses.asdict(self.agent.parameters).items():
            self.guard.set_value(name, value)
        self._change(command.set, command.reinit)
        self.guard.beat(self.step, "start")
        self.lineage = [*_cut(found), (self.guard.begin_attempt(), EVER)]
        self.metrics.begin_attempt(self.step + 1)
        self._logged_at = (self.step, time.perf_counter())
        self._save("start")
        self.guard.acknowledge(
            command, "done", step=self.step, checkpoint=found.name, checkpoint_step=found.step
        )
        remedy = ", ".join(
            [f"{k} = {v}" for k, v in command.set.items()] + [f"fresh {p}" for p in command.reinit]
        )
        self._say(f"step {came_from}: rolled back to {found.name}; {remedy or 'no remedy'}")
        return True

    def _target(self, command: Command) -> str:
        """The checkpoint that a rollback asks for: by name, or the newest of this line up to a step."""
        if command.to_checkpoint is not None:
            return command.to_checkpoint
        if command.to_step is None:
            raise CheckpointError("the command names neither a checkpoint nor a step")
        last_of = dict(self.lineage)
        for name in reversed(checkpoints.names(self._folder)):
            attempt, step = checkpoints.parse_name(name) or (0, EVER)
            if step <= min(command.to_step, last_of.get(attempt, -1)):
                return name
        raise CheckpointError(f"there is no checkpoint at or before step {command.to_step}")

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

    # -- save and become ---------------------------------------------------------------------------

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

    def _go_on_in(self, state: Mapping[str, Any]) -> None:
        """Go on in the episode of a checkpoint's state, or in a new one where that cannot be."""
        if state["env"] is not None:
            envs.restore(self.env, state["env"])
            return
        env, seed = self.config.env, int(self.rng.integers(1 << 31))
        print(f"trainer: {env} cannot be saved in mid-episode; a new episode begins", file=sys.stderr)
        if self.simulator is not None:
            self._between, self._episode_seed = True, seed
            return
        self.env.reset(seed=seed)
        self.replay.abandon()
        self._begin_episode()

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


def _cut(found: Checkpoint) -> list[tuple[int, int]]:
    """The line of a checkpoint: the attempts that led to it, each with the last step it contributed."""
    before = [(attempt, step) for attempt, step in found.state["lineage"] if attempt != found.attempt]
    return [*before, (found.attempt, found.step)]
