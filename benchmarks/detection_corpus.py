"""Recorded runs with labels: what a critical rule says of each, and how far ahead of actor Q passing 50.

Judged by the replay, so by the same tail, rules and ladders as live. `labels.csv` in the corpus names each
run's label and how sure it is; what is less sure than `SURE` is left out. The runs of one repository are one
cluster: they share code, and mostly the fault.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.detection_runs import THRESHOLD
from rules.alert import AlertState
from sentinel.config import load
from sentinel.judge import GRAVE
from sentinel.replay import Outcome, replay_paths

SURE = 0.7
EXPLOSION, HEALTHY = "q_explosion", "healthy"
PACKS = ("generic", "td3")
"""What the runs are judged by; TD3's rules stay silent where a run logs none of their metrics."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded run.

    Attributes:
        run, project, label: from labels.csv. points: scalars judged.
        rule: the first critical rule to fire, "" if none. step, wall: when, on its series' own axis.
        passed_step, passed_wall: when actor Q was first seen above 50, if it was.
        fired: how often a rule fired, by severity.
    """

    run: str
    project: str
    label: str
    points: int
    rule: str
    step: int | None
    wall: float | None
    passed_step: int | None
    passed_wall: float | None
    fired: dict[str, int]

    @property
    def steps_ahead(self) -> int | None:
        """Env steps by which the alarm came before actor Q passed 50; negative where after."""
        return None if self.step is None or self.passed_step is None else self.passed_step - self.step

    @property
    def seconds_ahead(self) -> float | None:
        """The same in seconds of wall time."""
        return None if self.wall is None or self.passed_wall is None else self.passed_wall - self.wall


def labelled(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (run, project, label) of the runs whose label is sure, explosions and healthy ones.

    Raises:
        OSError: the folder holds no labels.csv.
    """
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if float(row["confidence"] or 0) >= SURE and row["label"] in (EXPLOSION, HEALTHY):
                yield row["run"], row["source_repo"], row["label"]


def judge_corpus(folder: Path, packs: Sequence[str] = PACKS) -> list[Recorded]:
    """Replay every labelled run of a corpus.

    Raises:
        OSError: the folder holds no labels.csv.
    """
    settings = load(None, packs)
    found = []
    for run, project, label in labelled(folder):
        (outcome,) = replay_paths([folder / run], settings)
        found.append(_recorded(run, project, label, outcome))
    return found


def _recorded(run: str, project: str, label: str, outcome: Outcome) -> Recorded:
    fired: dict[str, int] = {}
    grave: tuple[str, int, float] | None = None
    passed: tuple[int, float] | None = None
    for step in outcome.steps:
        moved = step.observation.transition
        if moved is None or moved.after is not AlertState.FIRING:
            continue
        key, severity = step.observation.key, step.observation.rule.severity
        fired[severity] = fired.get(severity, 0) + 1
        if key == THRESHOLD and passed is None:
            passed = moved.at.step, moved.at.wall_time
        if severity in GRAVE and (grave is None or moved.at.wall_time < grave[2]):
            grave = key, moved.at.step, moved.at.wall_time
    key, at, wall = grave or ("", None, None)
    passed_step, passed_wall = passed or (None, None)
    return Recorded(run, project, label, outcome.points, key, at, wall, passed_step, passed_wall, fired)
