"""How well the shipped rules find what they are for, and how often they cry wolf.

Generated runs of held-out seeds go through every pack that fits them, and labelled recorded runs, where there
are any, through the replay. Rules are tuned on seeds 0-19 and on the recorded runs; seeds 1000-1059 are for
measuring only, so a rule is never changed because of what is printed here.

    python -m benchmarks.detection [--corpus DIR] [--quick] [--json] [--seeds 1000-1059] [--jobs 2]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks import detection_tables as tables
from benchmarks.detection_corpus import EXPLOSION, HEALTHY, Recorded, judge_corpus
from benchmarks.detection_runs import Found, Task, judge
from benchmarks.detection_tables import Claim, Table
from rules.generators import FAMILIES, Setting

CADENCES = (1, 10, 100)
HELD_OUT = "1000-1059"
FAULT_SEEDS = 20
WANDERS = ("reward",)
"""Where a critical alarm is known to be false: a return that wanders looks like one that was lost."""
NEEDED = 1_000_000
"""Healthy points in which no critical alarm is to be seen."""

VALUE_POINTS, OTHER_POINTS = 1860, 500
LENGTHS = {
    "incident_a": (1201, 0.0),
    "incident_b": (1201, 0.0),
    "actor_leads": (240, 0.3),
    "critic_follows": (240, 0.3),
    "critic_loss_diverges": (160, 0.5),
    "gradient_vanishes": (160, 0.5),
    "gradient_explodes": (200, 0.7),
    "nan_once": (60, 0.5),
    "inf_once": (60, 0.5),
    "nan_forever": (60, 0.5),
    "frozen": (160, 0.5),
    "slowdown": (320, 0.75),
    "hang": (120, 0.5),
    "loss_ramps_up": (480, 0.35),
}
"""Points of a faulty run, and the share of it before the fault: enough for the windows of its rules."""
OF_AREA = {"log": (160, 0.3), "episodes": (120, 0.5), "loss": (300, 0.5), "policy": (240, 0.4)}

FIRST_ALARM = {"incident_a": 1300, "incident_b": 1300}
LATE, LATEST = 2, 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 where all that was asked is reached, 1 where not, 2 if it could not be asked."""
    options = _options(arguments)
    try:
        seeds = _seeds(options.seeds)
        recorded = judge_corpus(options.corpus) if options.corpus else None
    except (ValueError, OSError) as error:
        print(f"detection: {error}", file=sys.stderr)
        return 2
    tasks = [*healthy_tasks(seeds, quick=options.quick), *fault_tasks(seeds, quick=options.quick)]
    found = list(_judged(tasks, options.jobs))
    claims = list(judge_claims(found, recorded))
    shown = _tables(found, recorded, claims)
    if options.json:
        print(_as_json(found, recorded, claims))
    else:
        for table in shown:
            tables.show(table)
    if options.write:
        tables.write(options.write, "detection", shown)
    return 1 if any(claim.holds is False for claim in claims) else 0


def healthy_tasks(seeds: Sequence[int], *, quick: bool) -> Iterator[Task]:
    """Yield the healthy runs: every family with every seed, a third of the seeds at each cadence."""
    for name, family in FAMILIES.items():
        if family.healthy:
            n = VALUE_POINTS if family.area == "value" else OTHER_POINTS
            for index, seed in enumerate(seeds[:6] if quick else seeds):
                yield Task(name, Setting(seed, n // 4 if quick else n, CADENCES[index % 3]))


def fault_tasks(seeds: Sequence[int], *, quick: bool) -> Iterator[Task]:
    """Yield the faulty runs: twenty seeds, three severities, three cadences."""
    for name, family in FAMILIES.items():
        if family.healthy:
            continue
        n, at = LENGTHS.get(name) or OF_AREA[family.area]
        for cadence in CADENCES[1:] if quick else CADENCES:
            for severity in tables.WORDS:
                for seed in seeds[:1] if quick else seeds[:FAULT_SEEDS]:
                    yield Task(name, Setting(seed, n, cadence, severity, at))


def judge_claims(found: Sequence[Found], recorded: Sequence[Recorded] | None) -> Iterator[Claim]:
    """Say of each thing that is to be reached whether it is."""
    healthy = [run for run in found if FAMILIES[run.task.family].healthy]
    value = [run for run in healthy if FAMILIES[run.task.family].area == "value"]
    points = sum(run.points for run in value)
    critical = sum(alarm.severity == "critical" for run in value for alarm in run.alarms)
    yield Claim(
        f"no critical alarm in {NEEDED:,} points of healthy value curves",
        f"{critical} in {points:,}",
        critical == 0 if critical or points >= NEEDED else None,
    )
    others = [run for run in healthy if FAMILIES[run.task.family].area not in ("value", *WANDERS)]
    critical = sum(alarm.severity == "critical" for run in others for alarm in run.alarms)
    points = sum(run.points for run in others)
    yield Claim("nor in healthy episodes, losses and PPO runs", f"{critical} in {points:,}", critical == 0)
    for name, step in FIRST_ALARM.items():
        signal = judge(Task(name, Setting(seed=0, n=7, cadence=100))).signal
        measured = "no alarm" if signal is None else f"step {signal.step}"
        late = signal is not None and abs(signal.step - step) <= 100
        yield Claim(f"{name}: the first critical alarm within a point of step {step}", measured, late)
    if recorded is None:
        yield Claim("recorded explosions and healthy runs", "no corpus was given", None)
        return
    yield from _recorded_claims(recorded)


def _recorded_claims(recorded: Sequence[Recorded]) -> Iterator[Claim]:
    exploded = [run for run in recorded if run.label == EXPLOSION]
    seen = sum(bool(run.rule) for run in exploded)
    what = "every recorded explosion is found by a critical rule"
    yield Claim(what, f"{seen} of {len(exploded)}", seen == len(exploded))
    late = [run for run in exploded if run.seconds_ahead is not None and run.seconds_ahead < 0]
    worst = max((-run.steps_ahead for run in late if run.steps_ahead is not None), default=0)
    yield Claim(
        f"all but {LATE} no later in wall time than actor Q passing 50, those within {LATEST} steps",
        f"{len(late)} later, by {worst} steps at most",
        len(late) <= LATE and worst <= LATEST,
    )
    healthy = [run for run in recorded if run.label == HEALTHY]
    critical = sum(bool(run.rule) for run in healthy)
    yield Claim("no critical alarm on a recorded healthy run", f"{critical} of {len(healthy)}", critical == 0)


def _judged(tasks: Sequence[Task], jobs: int) -> Iterator[Found]:
    console = Console(stderr=True)
    quiet = not console.is_terminal
    if jobs == 1:
        yield from track(map(judge, tasks), "judging", len(tasks), console=console, disable=quiet)
        return
    with ProcessPoolExecutor(jobs) as pool:
        found = pool.map(judge, tasks, chunksize=16)
        yield from track(found, "judging", len(tasks), console=console, disable=quiet)


def _tables(
    found: Sequence[Found], recorded: Sequence[Recorded] | None, claims: Sequence[Claim]
) -> list[Table]:
    healthy = [run for run in found if FAMILIES[run.task.family].healthy]
    sick = [run for run in found if not FAMILIES[run.task.family].healthy]
    of_corpus = (
        [tables.explosions_table(recorded), tables.recorded_healthy_table(recorded)] if recorded else []
    )
    return [
        tables.claims_table(claims),
        *of_corpus,
        tables.rates_table(healthy),
        tables.healthy_table(healthy),
        tables.recall_table(sick),
        tables.cadence_table(sick),
        tables.delay_table(sick),
    ]


def _as_json(found: Sequence[Found], recorded: Sequence[Recorded] | None, claims: Sequence[Claim]) -> str:
    return json.dumps(
        {
            "claims": [asdict(claim) for claim in claims],
            "runs": [asdict(run) for run in found],
            "recorded": [
                asdict(run) | {"steps_ahead": run.steps_ahead, "seconds_ahead": run.seconds_ahead}
                for run in recorded or ()
            ],
        }
    )


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    try:
        seeds = list(range(int(first), int(last or first) + 1))
    except ValueError:
        seeds = []
    if not seeds:
        raise ValueError(f"--seeds {text!r}: write two numbers, such as {HELD_OUT}")
    return seeds


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    known = os.environ.get("SENTINEL_CORPUS")
    parser.add_argument(
        "--corpus", type=Path, default=Path(known) if known else None, metavar="DIR",
        help="recorded runs with their labels.csv (default: $SENTINEL_CORPUS, else none)",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="fewer and shorter runs: what broke, not how well"
    )
    parser.add_argument("--json", action="store_true", help="print every run and every claim as one object")
    parser.add_argument("--seeds", default=HELD_OUT, help=f"of the generated runs (default: {HELD_OUT})")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between a page's markers")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
