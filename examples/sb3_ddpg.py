"""A DDPG run of Stable-Baselines3 that diverges for real, and is caught, taken back and cured.

    sentinel run --act --config examples/sb3_ddpg.toml runs -- python -m examples.sb3_ddpg runs/pendulum

Pendulum with its target networks switched off (tau = 1): the critic is trained towards its own last word.
Rewards lie in [0, 1.63] and are discounted by 0.99, so nothing can be worth more than 163; 400 updates after
learning begins Q says 670. `td3/q_above_bound` sees it, and the remedy is tau = 0.005, as published.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium
import torch
from stable_baselines3 import DDPG
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.noise import NormalActionNoise

from sentinel.adapters.sb3 import SentinelCallback


class LogQ(BaseCallback):
    """What actor and critics say of replayed states: SB3 logs neither."""

    def _on_step(self) -> bool:
        if self.n_calls % 100 == 0 and self.model.replay_buffer.size() > 256:
            batch = self.model.replay_buffer.sample(256)
            with torch.no_grad():
                values = self.model.critic(batch.observations, batch.actions)
                own = self.model.critic(batch.observations, self.model.actor(batch.observations))
            for number, q in enumerate(values, start=1):
                self.logger.record(f"train/q{number}_value", q.mean().item())
                self.logger.record(f"debug/q{number}_max", q.max().item())
            self.logger.record("debug/actor_q_mean", own[0].mean().item())
            self.logger.dump(self.num_timesteps)
        return True


def main() -> int:
    """Train, sick from the beginning unless told otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--tau", type=float, default=1.0, help="1 means no target networks")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    # From [-16.3, 0] to [0, 1.63]: a Q above the bound is then a positive number that people can read.
    env = gymnasium.wrappers.TransformReward(gymnasium.make("Pendulum-v1"), lambda r: 0.1 * (r + 16.3))
    model = DDPG(
        "MlpPolicy",
        env,
        learning_rate=options.learning_rate,
        tau=options.tau,
        gamma=0.99,
        buffer_size=20_000,
        learning_starts=1000,
        batch_size=64,
        action_noise=NormalActionNoise([0.0], [0.1]),
        policy_kwargs={"net_arch": [64, 64]},
        seed=options.seed,
        device="cpu",
    )
    model.set_logger(configure(str(options.run), ["tensorboard"]))
    callbacks = [SentinelCallback(every=250), LogQ()]
    model.learn(options.steps, callback=callbacks, log_interval=1)
    print(f"{options.run}: step {model.num_timesteps}, tau {model.tau}, lr {model.learning_rate}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
