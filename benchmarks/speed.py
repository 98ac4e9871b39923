"""Milliseconds of CPU that a training step takes, whole loop, against Stable-Baselines3's TD3.

The one fact to hold: both have networks of 256-256 and batches of 256 and take turns, each run in a process
of its own on one thread, and learning steps alone are timed; a busy machine moves the milliseconds, much less
the ratio.

    python -m benchmarks.speed                          Pendulum-v1 and HalfCheetah-v5, five rounds
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trainer import config
from trainer.loop import Action, Trainer

WARMUP, STEPS = 300, 2300
GOALS = {"ours": 1.3, "ours, bf16": 1.6}
"""How much faster than SB3 each is to be."""


class Timed(Trainer):
    """Notes when learning begins."""

    began = 0.0

    def _collect(self, action: Action) -> bool:
        if self.step == WARMUP:
            self.began = time.process_time()
        return super()._collect(action)


def ours(task: str, *, bf16: bool) -> float:
    """Train in this process; return milliseconds of CPU a learning step, acting and logging included."""
    with tempfile.TemporaryDirectory() as folder:
        asked = {"env": task, "preset": "paper", "max_timesteps": STEPS, "start_timesteps": WARMUP}
        asked |= {"eval_freq": 0, "checkpoint_interval": 10 * STEPS, "logdir": str(Path(folder) / "run")}
        trainer = Timed(config.build(asked | {"bf16": bf16, "log_interval": 500}), say=lambda _: None)
        trainer.run()
        return 1000 * (time.process_time() - trainer.began) / (STEPS - WARMUP)


def measure(who: str, task: str) -> float:
    """Have one run made by a process of its own."""
    module = "benchmarks.speed_sb3" if who == "sb3" else "benchmarks.speed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", module, "--one", who, task]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def main() -> int:
    """Measure and print a table; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description="Milliseconds of CPU a training step, against SB3.")
    parser.add_argument("--tasks", nargs="+", default=["Pendulum-v1", "HalfCheetah-v5"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("WHO", "TASK"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(ours(asked.one[1], bf16="bf16" in asked.one[0]))
        return 0
    missed = False
    print("| task | who | ms a step, median | times as fast as SB3 | goal |\n|---|---|---|---|---|")
    for task in asked.tasks:
        rounds = [{who: measure(who, task) for who in ("sb3", *GOALS)} for _ in range(asked.rounds)]
        print(f"| {task} | SB3 | {statistics.median(found['sb3'] for found in rounds):.2f} | 1 | |")
        for who, goal in GOALS.items():
            ratio = statistics.median(found["sb3"] / found[who] for found in rounds)
            took = statistics.median(found[who] for found in rounds)
            print(f"| {task} | {who} | {took:.2f} | {ratio:.2f} | {goal} |")
            missed |= ratio < goal
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
