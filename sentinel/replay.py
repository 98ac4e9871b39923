"""Judge recorded runs: the same tail, rules and ladders as live, with nothing sent and nothing remembered.

Where nothing is known of a trainer there is no catalogue of checkpoints either, so a rollback's target stays
null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rules.alert import AlertState
from rules.evaluate import Program
from sentinel.attempts import Attempts
from sentinel.config import Settings
from sentinel.control import announced
from sentinel.discover import CONTROL, scan
from sentinel.errors import RunGoneError
from sentinel.judge import GRAVE, Judge, Step
from sentinel.policy import Action, Book
from sentinel.story import deeds
from sentinel.tail import Hurt, RunTail


@dataclass(slots=True)
class Outcome:
    """What the rules said of one run."""

    run: str
    steps: list[Step] = field(default_factory=list)
    hurt: list[Hurt] = field(default_factory=list)
    points: int = 0
    tags: int = 0

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield one JSON-ready object per transition, and per rung taken while an alert stayed as it was."""
        for step in self.steps:
            yield step_as_json(self.run, step)


def step_as_json(run: str, step: Step) -> dict[str, Any]:
    """Render a judged step; `from` equals `to` where a rung was taken without a change of state."""
    alert, at, moved = step.observation.alert, step.observation.verdict.at, step.observation.transition
    onset = moved.onset if moved else alert.onset
    return {
        "run": run,
        "rule": step.observation.key,
        "from": (moved.before if moved else alert.state).value,
        "to": (moved.after if moved else alert.state).value,
        "step": at.step,
        "run_step": at.run_step,
        "onset_step": onset.step if onset else None,
        "onset_run_step": onset.run_step if onset else None,
        "wall_time": at.wall_time,
        "value": finite(moved.value if moved else alert.value),
        "limit": finite(moved.limit if moved else alert.limit),
        "severity": step.observation.rule.severity,
        "attempt": step.attempt,
        "reason": moved.reason if moved else "",
        "actions": [action_as_json(action) for action in step.actions],
    }


def action_as_json(action: Action) -> dict[str, Any]:
    """Render an action; `withheld` gives the reason where it was due and not taken."""
    body: dict[str, Any] = {"verb": action.verb}
    if action.verb == "rollback" and not action.withheld:
        body |= {
            "target": action.checkpoint,
            "target_step": action.to_step,
            "set": dict(action.set or {}),
            "reinit": list(action.reinit),
        }
    if action.withheld:
        body["withheld"] = action.reason
    return body


def finite(value: float | None) -> float | str | None:
    """Return a number as JSON can hold it. JSON has no NaN and no infinity: they are told in words."""
    return value if value is None or math.isfinite(value) else str(value)


def replay_paths(paths: Sequence[Path], settings: Settings) -> list[Outcome]:
    """Judge every run below the given paths.

    Raises:
        RunGoneError: a path holds no event file.
    """
    program, book = settings.program, settings.book
    outcomes = []
    for path in paths:
        if path.is_file():
            outcomes.append(_replay(path.resolve().parent.name, path.parent, [path], program, book))
            continue
        runs = scan(path) if path.is_dir() else {}
        if not runs:
            raise RunGoneError(
                f"{path}: no TensorBoard event file (events.out.tfevents.*) at or below it; "
                "nothing was judged"
            )
        outcomes += [
            _replay(_name(path, name), found.path, found.event_files, program, book)
            for name, found in runs.items()
        ]
    return outcomes


def _name(path: Path, run: str) -> str:
    return path.resolve().name if run == "." else f"{path.resolve().name}/{run}"


def _replay(run: str, folder: Path, files: Iterable[Path], program: Program, book: Book) -> Outcome:
    judge = Judge(program, book)
    tail = RunTail(folder)
    attempts = Attempts(judge, tail)
    for wall, step in announced(folder / CONTROL):
        attempts.announce(wall, step)
    outcome = Outcome(run)
    wanted = list(files)
    while True:
        chunks, hurt = tail.read(wanted)
        outcome.hurt += [h for h in hurt if h not in outcome.hurt]
        if not chunks and not tail.behind:
            break
        for chunk in chunks:
            outcome.points += len(chunk.samples)
            outcome.steps += attempts.take(chunk)
    outcome.steps += judge.flush()
    return outcome


def report(outcomes: Sequence[Outcome], out: TextIO) -> int:
    """Print what a person wants to know of a replay; returns 1 if a critical or fatal rule fired, else 0."""
    for outcome in outcomes:
        print(f"{outcome.run}: {outcome.points} points", file=out)
        for hurt in outcome.hurt:
            print(
                f"  blind: {hurt.path} at byte {hurt.offset} for {hurt.length} bytes: {hurt.reason}", file=out
            )
        told = False
        for step in outcome.steps:
            moved = step.observation.transition
            if moved is not None and moved.after is AlertState.PENDING and not step.actions:
                continue
            told = True
            print(f"  {_sentence(step)}", file=out)
        if not told:
            print("  quiet", file=out)
    return verdict(outcomes)


def verdict(outcomes: Sequence[Outcome]) -> int:
    """Return 1 if a critical or fatal rule fired in any run, else 0; however it is printed."""
    moves = ((step.observation.transition, step.observation.rule) for o in outcomes for step in o.steps)
    fired = (rule for moved, rule in moves if moved is not None and moved.after is AlertState.FIRING)
    return 1 if any(rule.severity in GRAVE for rule in fired) else 0


def _sentence(step: Step) -> str:
    alert, at, moved = step.observation.alert, step.observation.verdict.at, step.observation.transition
    value = "" if alert.value is None else f" value {alert.value:.6g}"
    limit = "" if alert.limit is None else f" limit {alert.limit:.6g}"
    onset = f", onset {alert.onset.step}" if alert.onset else ""
    change = f"{moved.before.value} -> {moved.after.value}" if moved else f"still {alert.state.value}"
    what = "; ".join(f"{name} {text}" for name, text in deeds(step.actions, "observe"))
    return (
        f"step {at.step:>7}  {step.observation.rule.severity:<8} {step.observation.key}: "
        f"{change},{value}{limit}{onset}" + (f"  [{what}]" if what else "")
    )
