"""Five seeds of the incident: with the sentinel, without, with the report's remedies; and five healthy ones.

    python -m benchmarks.seeds                    every group, five seeds: a quarter of an hour on two cores
    python -m benchmarks.seeds --seeds 2 --groups saved healthy

Trainings and the sentinel are separate processes. Exit code 1 if a saved run did not end healthy, if an
incident left alone did not explode, or if a healthy run was touched; the report's remedies are expected to
fail, and are only shown.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.trainings import Story, read_story, start_sentinel, start_trainer, stop
from sentinel.status import read_status

ROOT = Path(__file__).parents[1]
STEPS = 6000
SANE_Q = 50.0
ENOUGH = 0.8
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Group:
    """One row of the comparison: which preset, under which configuration of the sentinel (None: alone)."""

    title: str
    preset: str
    config: str | None


GROUPS = {
    "alone": Group("incident, left alone", "incident", None),
    "saved": Group("incident, sentinel in act mode", "incident", "sentinel.toml"),
    "report": Group(
        "incident, sentinel with the report's remedies", "incident", "benchmarks/report_remedies.toml"
    ),
    "healthy": Group("healthy, sentinel in act mode", "healthy", "sentinel.toml"),
}


def run_group(
    group: Group, seeds: Sequence[int], steps: int, folder: Path, progress: Progress
) -> dict[int, tuple[Story, dict[str, Any] | None]]:
    """Train every seed of a group, two at a time, under one sentinel if the group has one."""
    logdir, state = folder / "runs", folder / "state"
    logdir.mkdir(parents=True)
    sentinel = None
    if group.config is not None:
        sentinel = start_sentinel(logdir, state, ROOT / group.config, "--act", log=folder / "sentinel.log")
    task = progress.add_task(group.title, total=len(seeds))
    waiting, going = list(seeds), {}
    while waiting or going:
        while waiting and len(going) < AT_ONCE:
            seed = waiting.pop(0)
            flags = ("--preset", group.preset, "--observation", "state", "--npcs", "0", "--eval_freq", "0")
            going[seed] = start_trainer(
                logdir / f"s{seed}", *flags, "--seed", str(seed), "--max_timesteps", str(steps)
            )
        for seed, process in list(going.items()):
            if process.poll() is not None:
                del going[seed]
                progress.advance(task)
        time.sleep(0.2)
    statuses: dict[str, dict[str, Any]] = {}
    if sentinel is not None:
        time.sleep(3.0)  # the last points are judged, the last messages leave
        stop(sentinel)
        statuses = {run["run"]: run for run in read_status(logdir, state)["runs"]}
    return {seed: (read_story(logdir / f"s{seed}"), statuses.get(f"s{seed}")) for seed in seeds}


def table_of(group: Group, results: dict[int, tuple[Story, dict[str, Any] | None]]) -> Table:
    """Lay one group out, a row a seed."""
    table = Table(title=group.title)
    for column in (
        "seed",
        "Q > 50 at",
        "max Q",
        "rolled back to",
        "max Q since",
        "last length",
        "last return",
        "ended at",
    ):
        table.add_column(column, justify="right")
    table.add_column("commands")
    for seed, (story, status) in results.items():
        commands = status["commands"] if status else []
        targets = [
            str(c["checkpoint_step"]) for c in commands if c["verb"] == "rollback" and c["state"] == "done"
        ]
        first = story.first_above(SANE_Q)
        table.add_row(
            str(seed),
            "never" if first is None else str(first),
            f"{story.worst_q:.1f}",
            ", ".join(targets) or "-",
            f"{story.worst_q_since_rollback:.1f}",
            f"{story.last_length:.0f}",
            f"{story.last_reward:.0f}",
            str(story.last_step),
            ", ".join(f"{n} {what}" for what, n in Counter(c["verb"] for c in commands).items()) or "-",
        )
    return table


def verdicts(results: dict[str, dict[int, tuple[Story, dict[str, Any] | None]]]) -> list[tuple[bool, str]]:
    """Hold the results against what is claimed."""
    found: list[tuple[bool, str]] = []
    healthy = [story.last_length for story, _ in results.get("healthy", {}).values()]
    if "alone" in results:
        exploded = [story.first_above(SANE_Q) is not None for story, _ in results["alone"].values()]
        found.append((all(exploded), f"left alone, {sum(exploded)} of {len(exploded)} exploded"))
    if "saved" in results and healthy:
        bar = ENOUGH * fmean(healthy)
        saved = [
            bool(story.starts) and story.worst_q_since_rollback < SANE_Q and story.last_length >= bar
            for story, _ in results["saved"].values()
        ]
        found.append(
            (
                all(saved),
                f"with the sentinel, {sum(saved)} of {len(saved)} end healthy (last ten >= {bar:.0f} steps)",
            )
        )
    if "report" in results and healthy:
        bar = ENOUGH * fmean(healthy)
        cured = [
            story.worst_q_since_rollback < SANE_Q and story.last_length >= bar
            for story, _ in results["report"].values()
        ]
        found.append(
            (True, f"with the report's remedies, {sum(cured)} of {len(cured)} end healthy (expected: none)")
        )
    if "healthy" in results:
        touched = [s for _, status in results["healthy"].values() if status for s in status["commands"]]
        fired = [status["fired"] for _, status in results["healthy"].values() if status]
        grave = sum(counts.get("critical", 0) + counts.get("fatal", 0) for counts in fired)
        acted = [c for c in touched if c["verb"] != "checkpoint"]
        sentence = (
            f"healthy runs: {grave} critical alarms, {len(acted)} rollbacks or ends, {len(touched)} commands"
        )
        found.append((not grave and not acted, sentence))
    return found


def main() -> int:
    """Run the chosen groups and print one table each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--keep", type=Path, help="folder for runs and states; default: a temporary one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    console = Console(stderr=options.json, width=None if sys.stdout.isatty() else 120)
    results = {}
    with tempfile.TemporaryDirectory() as temporary, Progress(console=console) as progress:
        base = options.keep or Path(temporary)
        for name in options.groups:
            seeds = range(options.first, options.first + options.seeds)
            results[name] = run_group(GROUPS[name], seeds, options.steps, base / name, progress)
    for name, found in results.items():
        console.print(table_of(GROUPS[name], found))
    judged = verdicts(results)
    for good, sentence in judged:
        console.print(f"[{'green' if good else 'red'}]{'ok  ' if good else 'FAIL'}[/] {sentence}")
    if options.json:
        print(json.dumps([{"good": good, "what": sentence} for good, sentence in judged]))
    return 0 if all(good for good, _ in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
