"""One run of Stable-Baselines3's TD3 with the networks, rates and noise of our preset `paper`.

`python -m benchmarks.learning_sb3 TASK SEED STEPS WARMUP EVERY` prints the evaluations as JSON.
"""

from __future__ import annotations

import json
import sys

import gymnasium
import numpy as np
import torch
from stable_baselines3 import TD3
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise

from benchmarks.learning import EVAL_EPISODES


def train(task: str, seed: int, steps: int, warmup: int, every: int) -> list[tuple[int, float]]:
    """Train; return (step, mean return of ten episodes) of every evaluation."""
    torch.set_num_threads(1)
    env, eval_env = gymnasium.make(task), Monitor(gymnasium.make(task))
    size = env.action_space.shape
    assert size is not None
    model = TD3(
        "MlpPolicy",
        env,
        learning_rate=1e-3,
        buffer_size=steps,
        learning_starts=warmup,
        batch_size=256,
        train_freq=(1, "step"),
        gradient_steps=1,
        action_noise=NormalActionNoise(np.zeros(size), np.full(size, 0.1)),
        policy_kwargs={"net_arch": [256, 256]},
        seed=seed,
        device="cpu",
    )
    scores = []
    for number in range(steps // every):
        model.learn(every, reset_num_timesteps=number == 0)
        eval_env.reset(seed=seed + 10_000)
        mean, _ = evaluate_policy(model, eval_env, EVAL_EPISODES, warn=False)
        scores.append((model.num_timesteps, float(np.mean(mean))))
    return scores


if __name__ == "__main__":
    _, name, *numbers = sys.argv
    print(json.dumps(train(name, *map(int, numbers))))
