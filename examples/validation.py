"""The incident report's validation runs: train so many steps, watched and held against the gates on the way.

    make validate-2k                                 or: python -m examples.validation 2000
    make validate-5k FLAGS="--seed 3"                what follows goes to the trainer
    make validate-2k FLAGS="--preset incident"       see one fail, and be ended where it fails

One sentinel starts the trainer, watches it, tells what it sees, and ends it as soon as a gate has failed.
Images of 48 x 48 and the small CNN unless told otherwise. Exit code: the gates'; 0 pass, 1 fail,
3 inconclusive.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
GATES = {2000: ["validation-2k"], 5000: ["validation-2k", "validation-5k"]}
GATES[10_000] = [*GATES[5000], "validation-10k", "training-1m"]
"""What a run of so many steps is held against; each gate needs those before it."""


def free_folder(logdir: Path, steps: int) -> Path:
    """Return the first of validation-2k, validation-2k-2, … that is not there: no run is written over."""
    name = f"validation-{steps // 1000}k"
    taken = {path.name for path in logdir.glob(f"{name}*")}
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return logdir / next(free for free in (name, *numbered) if free not in taken)


def main(arguments: list[str] | None = None) -> int:
    """Train, judge and say where the run lies."""
    parser = argparse.ArgumentParser(
        description="Train, watched, and hold the run against the report's gates."
    )
    parser.add_argument("steps", type=int, choices=sorted(GATES))
    parser.add_argument("--logdir", type=Path, default=Path("runs"), help="where the run goes (default runs)")
    asked, trainer = parser.parse_known_args(arguments)
    run = free_folder(asked.logdir, asked.steps)
    gates = ",".join(GATES[asked.steps])
    train = [sys.executable, "-m", "trainer", "--logdir", str(run), "--max_timesteps", str(asked.steps)]
    train += ["--observation", "image", "--image_size", "48", *trainer]
    sentinel = [sys.executable, "-m", "sentinel"]
    watch = [*sentinel, "run", "--act", "--gate", gates, "-c", str(ROOT / "sentinel.toml"), str(run)]
    code = subprocess.run([*watch, "--", *train], check=False).returncode
    print(f"\n{run}: {gates}")
    subprocess.run(
        [*sentinel, "gate", str(run), "--gate", gates, "-c", str(ROOT / "sentinel.toml")], check=False
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
