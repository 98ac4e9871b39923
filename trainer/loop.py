"""Act, store, update, log, obey: the training loop, and the only place where a command is carried out.

The one fact to hold: everything that the next step depends on is in training_state.py, which saves it and
becomes it again; whatever is added to the loop and matters must be added there.

Why it exists: the loop reads top to bottom as one straight line (`run`), and between two steps it is at a
boundary where it may be saved, rewound or ended. Evaluation and warm-up poll too, so a command never waits
long.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentinel.guard import Command
from trainer import checkpoint as checkpoints
from trainer import envs, metrics
from trainer import simulator as simulators
from trainer.checkpoint import CheckpointError
from trainer.driving.world import SimulatorFaultError
from trainer.simulator import Simulator
from trainer.td3 import Observation
from trainer.training_state import EVER, TrainingState, cut

Action = NDArray[np.float32]
"""float32 [action_dim] in [-1, 1]."""

WAIT = 0.2
"""s between two looks at the control folder while a simulator is away."""


class Trainer(TrainingState):
    """One run in its folder, to be `run()`; arguments and errors are TrainingState's."""

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
        self._log_simulator(simulator)

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
                self._log_simulator(simulator)
            return False
        try:
            seen = envs.see(self.env.reset(seed=self._episode_seed)[0])
        except SimulatorFaultError as fault:
            self._suffer(simulator, str(fault))
            return False
        self._between, self._episode_seed = False, None
        simulator.is_back()
        self._log_simulator(simulator)
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
        accounts = self.ranks.gather(self.simulator.scalars())
        self._elsewhere = accounts[1:]
        return simulators.together(accounts)

    def _log_simulator(self, simulator: Simulator) -> None:
        """What it has cost by now; of the other ranks' what was known last, so that no count falls."""
        self.metrics.log(simulators.together([simulator.scalars(), *self._elsewhere]), self.step)

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
        self.lineage = [*cut(found), (self.guard.begin_attempt(), EVER)]
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

    # -- become --------------------------------------------------------------------------------------

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
