"""Does TD3 learn here as in Stable-Baselines3? The same networks, rates, noise, budget and seeds for both.

Every run is a process of its own on one thread, scored by ten episodes without exploration in an environment
of its own, with seeds that no training uses. Finished runs are kept in `--out` and not done again, so a long
comparison may be stopped and gone on with. Speed is measured apart, by `benchmarks.speed`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.trainings import start_trainer
from sentinel.discover import scan
from sentinel.tail import RunTail

EVAL_EPISODES = 10
TASKS: dict[str, dict[str, int]] = {
    "Pendulum-v1": {"steps": 10_000, "warmup": 1_000, "every": 2_000},
    "HalfCheetah-v5": {"steps": 100_000, "warmup": 10_000, "every": 10_000},
}
"""Environment steps of a run, of random actions before learning, and between two evaluations."""


def ours(task: str, seed: int, folder: Path) -> list[tuple[int, float]]:
    """Train with `python -m trainer`, preset paper; return (step, mean return) of every evaluation."""
    plan = TASKS[task]
    run = folder / f"{task}-ours-s{seed}"
    flags = {
        "env": task,
        "preset": "paper",
        "seed": seed,
        "max_timesteps": plan["steps"],
        "start_timesteps": plan["warmup"],
        "eval_freq": plan["every"],
        "eval_episodes": EVAL_EPISODES,
        "checkpoint_interval": plan["every"],
        "keep_checkpoints": 1,
        "log_interval": 1_000,
        "critic_lr": 1e-3,
    }
    process = start_trainer(run, *(f"--{name}={value}" for name, value in flags.items()))
    if process.wait():
        raise SystemExit(f"learning: the trainer ended with {process.returncode}: {run}")
    samples = [
        sample
        for chunks, _ in RunTail(run).to_the_end(scan(run)["."].event_files)
        for chunk in chunks
        for sample in chunk.samples
    ]
    return [(step, value) for tag, step, _, value in samples if tag == "eval/mean_reward"]


def theirs(task: str, seed: int) -> list[tuple[int, float]]:
    """The same with Stable-Baselines3's TD3 in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "benchmarks.learning_sb3",
        task,
        str(seed),
        *map(str, TASKS[task].values()),
    ]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return [(int(step), float(value)) for step, value in found]


def table(results: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table in Markdown: the last evaluation and the best, of each seed."""
    yield "| task | who | last evaluation, each seed | mean | best, mean over seeds |"
    yield "|---|---|---|---|---|"
    for task in TASKS:
        for who in ("ours", "sb3"):
            runs = [found["scores"] for found in results if (found["task"], found["who"]) == (task, who)]
            if runs:
                last, best = [run[-1][1] for run in runs], [max(value for _, value in run) for run in runs]
                each = ", ".join(f"{value:.0f}" for value in last)
                yield f"| {task} | {who} | {each} | {fmean(last):.0f} | {fmean(best):.0f} |"


def main() -> int:
    """Run what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--who", nargs="+", default=["ours", "sb3"], choices=("ours", "sb3"))
    parser.add_argument("--out", type=Path, default=Path("runs/learning"), help="where results are kept")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for task in asked.tasks:
        for seed in asked.seeds:
            for who in asked.who:
                kept = asked.out / f"{task}-{who}-s{seed}.json"
                if not kept.exists():
                    print(f"{task}, {who}, seed {seed} ...", file=sys.stderr, flush=True)
                    scores = ours(task, seed, asked.out) if who == "ours" else theirs(task, seed)
                    kept.write_text(json.dumps({"task": task, "who": who, "seed": seed, "scores": scores}))
    for line in table([json.loads(path.read_text()) for path in sorted(asked.out.glob("*.json"))]):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
