"""Records the runs that `benchmarks.indicators` judges: three algorithms, healthy and sabotaged.

    python -m benchmarks.indicator_runs                   all that is not there yet (an hour of one core)
    python -m benchmarks.indicator_runs --only leak-s0    those whose name holds one of the words

Every run is a process of its own on one thread, and writes the event files that it would write in earnest. It
is recorded under a name of its own and gets its own folder when it is whole, so that a stop loses one run.
No seed, task or implementation here was one on which the indicators were chosen: that was our own trainer in
its driving world with other seeds. What each sabotage does: `benchmarks.indicator_sb3`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

OUT = Path("runs/indicators")
PENDULUM, CHEETAH, DRIVING = "Pendulum-v1", "HalfCheetah-v5", "driving"
STEPS = {"td3": 3000, "ddpg": 3000, "sac": 2500}
INCIDENT_STEPS = 4000
OTHERS = ("MountainCarContinuous-v0", "InvertedPendulum-v5", "Reacher-v5", "Hopper-v5")
"""Tasks for healthy runs alone: a sparse reward, steep values, short episodes, falls."""
SEEDS = (0, 1)
INCIDENT_SEEDS = (6, 7, 8)
HEALTHY = ("stock", "encoders")
KINDS = {
    "td3": (*HEALTHY, "leak", "unbounded", "hot"),
    "ddpg": (*HEALTHY, "leak", "unbounded", "hot"),
    "sac": (*HEALTHY, "leak", "hot"),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the plan; `who` is sb3 or ours, `kind` stock, encoders, or a sabotage."""

    who: str
    algorithm: str
    task: str
    kind: str
    seed: int

    @property
    def name(self) -> str:
        """The run's folder."""
        return f"{self.who}-{self.algorithm}-{self.task}-{self.kind}-s{self.seed}"

    @property
    def healthy(self) -> bool:
        """Whether nothing was done to it."""
        return self.kind in HEALTHY


def plan() -> Iterator[Run]:
    """Yield every run; the first seed's first, so that what is stopped half way is still a comparison."""
    for seed in SEEDS:
        for task in (PENDULUM, CHEETAH):
            for algorithm, kinds in KINDS.items():
                for kind in kinds:
                    yield Run("sb3", algorithm, task, kind, seed)
            yield Run("ours", "td3", task, "stock", seed)
        yield Run("ours", "td3", DRIVING, "encoders", INCIDENT_SEEDS[seed])
        for driver in INCIDENT_SEEDS[2 * seed : 2 * seed + 2]:
            yield Run("ours", "td3", DRIVING, "leak", driver)
    for task in OTHERS:
        for algorithm in KINDS:
            for kind in HEALTHY:
                yield Run("sb3", algorithm, task, kind, SEEDS[0])


def command(run: Run, folder: Path) -> list[str]:
    """The command line that records it."""
    if run.who == "sb3":
        asked = [run.algorithm, run.task, run.kind, str(run.seed), str(STEPS[run.algorithm]), str(folder)]
        return [sys.executable, "-m", "benchmarks.indicator_sb3", *asked]
    flags = {"env": run.task, "seed": run.seed, "logdir": folder, "eval_freq": 0, "checkpoint_interval": 5000}
    if run.task == DRIVING:
        # The healthy ones have the incident's two encoders too: only the leak is missing.
        leaks = run.kind == "leak"
        flags |= {"preset": "incident", "max_timesteps": INCIDENT_STEPS} if leaks else {}
        more = [] if leaks else ["--no-shared_encoder"]
    else:
        flags |= {"batch_size": 100, "start_timesteps": 500, "max_timesteps": STEPS[run.algorithm]}
        more = []
    return [sys.executable, "-m", "trainer", *(f"--{name}={value}" for name, value in flags.items()), *more]


def record(run: Run, out: Path) -> bool:
    """Record one run unless it is there; return whether it was done now.

    Raises:
        SystemExit: its process failed.
    """
    if (out / run.name).exists():
        return False
    part = out / f".{run.name}.part"
    shutil.rmtree(part, ignore_errors=True)  # of a run that was broken off
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        command(run, part.absolute()), env=environment, stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise SystemExit(
            f"indicator_runs: {run.name} ended with {done.returncode}; see above. It is not kept."
        )
    part.replace(out / run.name)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Record what is asked for and not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, help=f"where runs are kept (default {OUT})")
    parser.add_argument("--only", nargs="+", default=[], help="words; of a run's name one must be part")
    options = parser.parse_args(arguments)
    os.nice(10)
    options.out.mkdir(parents=True, exist_ok=True)
    for run in plan():
        if not options.only or any(word in run.name for word in options.only):
            began = time.monotonic()
            if record(run, options.out):
                print(f"{run.name}: {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
