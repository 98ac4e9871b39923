"""What rescues a dying run: each remedy from the same checkpoints of the incident, without a sentinel.

    python -m benchmarks.rescue                                  the whole table (an hour on one core)
    python -m benchmarks.rescue --seeds 2 --targets 1200 --remedies none q_features
    python -m benchmarks.rescue_plot docs/remedies.png           draws what was found

The incident preset runs once per seed; every remedy then goes on from its checkpoint at each target step, in
a run of its own. A run is saved when actor Q mean stays below 50 at every logged step after the target and
the mean length of its last 10 episodes reaches 80 % of the healthy preset's on the same seed. What a run
logged is kept in `--out`, and a run that is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from trainer import config
from trainer.loop import Trainer
from trainer.metrics import Metrics

EXPLODED, NEAR_HEALTHY = 50.0, 0.8
OUT = Path("runs/rescue")


@dataclass(frozen=True)
class Remedy:
    """What is changed at the target checkpoint."""

    name: str
    says: str
    set: Mapping[str, Any] = field(default_factory=dict)
    reinit: tuple[str, ...] = ()


FIX = {"q_features": "critic", "tau": 0.005}
SHIPPED = FIX | {"preactivation_penalty": 0.03}
BOTH = ("actor", "actor_encoder")
REMEDIES = (
    Remedy("none", "nothing: a plain restart"),
    Remedy("clamp", "report 1: Q clamped at ±100", {"q_clamp": 100.0}),
    Remedy("noise", "report 2: target noise .1, clip .3", {"policy_noise": 0.1, "noise_clip": 0.3}),
    Remedy("batch_norm", "report 3: batch norm in the critics", {"critic_batch_norm": True}),
    Remedy("min_weight", "report 4: .75 min + .25 max", {"min_weight": 0.75}),
    Remedy("encoder_lr", "report 5: actor's encoder lr x 0.1", {"actor_encoder_lr": 1e-4}),
    Remedy("tau", "report 6: tau .005", {"tau": 0.005}),
    Remedy(
        "phase_1",
        "report's phase 1: 1, 2 and 5",
        {"q_clamp": 100.0, "policy_noise": 0.1, "noise_clip": 0.3, "actor_encoder_lr": 1e-4},
    ),
    Remedy(
        "all_rates",
        "all rates x 0.1 and clamp",
        {
            "q_clamp": 100.0,
            "actor_lr": 3e-5,
            "critic_lr": 1e-4,
            "actor_encoder_lr": 1e-4,
            "critic_encoder_lr": 1e-4,
        },
    ),
    Remedy("q_features", "q_features = critic, tau .005", FIX),
    Remedy("reinit", "q_features = critic, tau .005, fresh actor and encoder", FIX, BOTH),
    Remedy("skip", "the newest 200 transitions left out", {"skip_replay": 200}),
    Remedy("fix_and_skip", "q_features = critic, tau .005, and that", FIX | {"skip_replay": 200}),
    Remedy("shipped", "this repository's: the fix, and a penalty on saturation", SHIPPED),
    Remedy("shipped_reinit", "this repository's, fresh actor and encoder", SHIPPED, BOTH),
)


@dataclass(frozen=True)
class Logged:
    """What a run logged.

    Attributes:
        actor_q: step -> actor Q mean. episodes: (step at its end, length, return) of each.
    """

    actor_q: dict[int, float]
    episodes: list[tuple[int, float, float]]

    @property
    def first_exploded(self) -> int | None:
        """The first step with actor Q mean above 50."""
        return next((step for step, q in sorted(self.actor_q.items()) if q > EXPLODED), None)

    @property
    def highest(self) -> float:
        """The highest actor Q mean."""
        return max(self.actor_q.values())

    @property
    def length(self) -> float:
        """Mean length of the last 10 episodes."""
        return statistics.fmean(length for _, length, _ in self.episodes[-10:])

    @property
    def earned(self) -> float:
        """Mean return of the last 10 episodes."""
        return statistics.fmean(earned for _, _, earned in self.episodes[-10:])

    @classmethod
    def read(cls, path: Path) -> Logged:
        """Read what `write` wrote."""
        body = json.loads(path.read_text(encoding="utf-8"))
        episodes = [(int(step), length, earned) for step, length, earned in body["episodes"]]
        return cls({int(step): q for step, q in body["actor_q"]}, episodes)

    def write(self, path: Path) -> None:
        """Keep it; a file that is there is whole."""
        body = {"actor_q": sorted(self.actor_q.items()), "episodes": self.episodes}
        part = path.with_suffix(".part")
        part.write_text(json.dumps(body), encoding="utf-8")
        part.replace(path)


class Recorder(Metrics):
    """Keeps what is logged instead of writing it."""

    def __init__(self) -> None:
        self.logged = Logged({}, [])

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Keep episodes and actor Q."""
        if "train/episode_length" in scalars:
            episode = step, scalars["train/episode_length"], scalars["train/episode_reward"]
            self.logged.episodes.append(episode)
        if "debug/actor_q_mean" in scalars:
            self.logged.actor_q[step] = scalars["debug/actor_q_mean"]

    def close(self) -> None:
        """Nothing is open."""


def train(asked: Mapping[str, Any], remedy: Remedy | None = None) -> Logged:
    """Train one run to its end and return what it logged."""
    remedy = remedy or REMEDIES[0]
    trainer = Trainer(config.build(asked), changes=remedy.set, reinit=remedy.reinit, say=lambda _: None)
    trainer.metrics.close()
    trainer.metrics = recorder = Recorder()
    trainer.run()
    return recorder.logged


def cell(runs: list[Logged], healthy: list[Logged]) -> str:
    """Saved of all; the highest actor Q, and length and return at the end (medians)."""
    saved = sum(
        run.first_exploded is None and run.length >= NEAR_HEALTHY * well.length
        for run, well in zip(runs, healthy, strict=True)
    )
    q = statistics.median(run.highest for run in runs)
    length = statistics.median(run.length for run in runs)
    earned = statistics.median(run.earned for run in runs)
    colour = "green" if saved == len(runs) else "red" if saved == 0 else "yellow"
    return f"[{colour}]{saved}/{len(runs)}[/]  Q {q:.0f}, length {length:.0f}, return {earned:.0f}"


def main() -> int:
    """Run the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 (default 5)")
    parser.add_argument("--steps", type=int, default=5000, help="length of every run (default 5000)")
    parser.add_argument("--targets", type=int, nargs="+", default=[1200, 1500], help="steps to go back to")
    parser.add_argument(
        "--remedies", nargs="+", default=[r.name for r in REMEDIES], choices=[r.name for r in REMEDIES]
    )
    parser.add_argument("--observation", choices=("state", "image"), default="state")
    parser.add_argument("--out", type=Path, default=OUT, help=f"where runs are kept (default {OUT})")
    arguments = parser.parse_args()
    targets = sorted(arguments.targets)
    remedies = [remedy for remedy in REMEDIES if remedy.name in arguments.remedies]
    common: dict[str, Any] = {"max_timesteps": arguments.steps, "eval_freq": 0}
    common["observation"] = arguments.observation
    console = Console()
    healthy: list[Logged] = []
    ill: list[Logged] = []
    rescued: dict[tuple[str, int], list[Logged]] = {}
    columns = (TextColumn("{task.description:42}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    folder = arguments.out / arguments.observation
    folder.mkdir(parents=True, exist_ok=True)
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        runs = progress.add_task("", total=arguments.seeds * (2 + len(remedies) * len(targets)))

        def one(name: str, asked: dict[str, Any], remedy: Remedy | None = None) -> Logged:
            progress.update(runs, description=name)
            kept = folder / f"{name}.json"
            if not kept.exists():
                shutil.rmtree(folder / name, ignore_errors=True)  # of a run that was broken off
                train(common | asked | {"logdir": str(folder / name)}, remedy).write(kept)
            progress.advance(runs)
            logged = Logged.read(kept)
            console.print(
                f"{name}: highest actor Q {logged.highest:.0f}, length {logged.length:.0f} at the end"
            )
            return logged

        for seed in range(arguments.seeds):
            healthy.append(one(f"s{seed}-healthy", {"seed": seed, "checkpoint_interval": arguments.steps}))
            asked = {"seed": seed, "preset": "incident", "keep_checkpoints": 1000}
            ill.append(one(f"s{seed}-incident", asked))
            source = folder / f"s{seed}-incident" / "checkpoints"
            for target in targets:
                for remedy in remedies:
                    more = {
                        "resume": str(source / f"00-{target:08d}"),
                        "checkpoint_interval": arguments.steps,
                    }
                    name = f"s{seed}-{remedy.name}-from-{target}"
                    rescued.setdefault((remedy.name, target), []).append(one(name, asked | more, remedy))
    console.print(table(remedies, targets, healthy, ill, rescued))
    return 0


def table(
    remedies: list[Remedy],
    targets: list[int],
    healthy: list[Logged],
    ill: list[Logged],
    rescued: dict[tuple[str, int], list[Logged]],
) -> Table:
    """One row a remedy, one column a target."""
    drawn = Table(
        title="saved of all; highest actor Q, last 10 episodes' length and return (medians over seeds)"
    )
    drawn.add_column("remedy")
    for target in targets:
        drawn.add_column(f"from step {target}")
    drawn.add_row("healthy preset, never ill", *[cell(healthy, healthy)] + [""] * (len(targets) - 1))
    past = ", ".join(str(run.first_exploded) for run in ill)
    drawn.add_row(
        f"incident, left alone (Q > 50 at {past})", *[cell(ill, healthy)] + [""] * (len(targets) - 1)
    )
    for remedy in remedies:
        drawn.add_row(remedy.says, *(cell(rescued[remedy.name, target], healthy) for target in targets))
    return drawn


if __name__ == "__main__":
    sys.exit(main())
