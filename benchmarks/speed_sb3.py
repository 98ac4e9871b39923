"""One timed run of SB3's TD3, for `benchmarks.speed`: `--one sb3 TASK` prints milliseconds of CPU a step."""

from __future__ import annotations

import sys
import time

import gymnasium
import numpy as np
import torch
from stable_baselines3 import TD3
from stable_baselines3.common.noise import NormalActionNoise

from benchmarks.speed import STEPS, WARMUP


def sb3(task: str) -> float:
    """Train in this process; return milliseconds of CPU a learning step."""
    torch.set_num_threads(1)
    env = gymnasium.make(task)
    size = env.action_space.shape
    assert size is not None
    model = TD3(
        "MlpPolicy",
        env,
        learning_starts=WARMUP,
        batch_size=256,
        train_freq=(1, "step"),
        gradient_steps=1,
        action_noise=NormalActionNoise(np.zeros(size), np.full(size, 0.1)),
        policy_kwargs={"net_arch": [256, 256]},
        device="cpu",
    )
    model.learn(WARMUP)
    began = time.process_time()
    model.learn(STEPS - WARMUP, reset_num_timesteps=False)
    return 1000 * (time.process_time() - began) / (STEPS - WARMUP)


if __name__ == "__main__":
    print(sb3(sys.argv[-1]))
