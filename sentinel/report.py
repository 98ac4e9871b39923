"""A replay as a person reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from rules.alert import AlertState
from sentinel.judge import GRAVE, Step
from sentinel.replay import Outcome
from sentinel.story import deeds


@contextmanager
def progress_bar(size: int, out: TextIO) -> Iterator[Callable[[int], None]]:
    """Show how much of so many bytes has been judged, on a terminal only; it leaves nothing behind."""
    console = Console(file=out)
    if not console.is_terminal:
        yield lambda _bytes: None
        return
    columns = (TextColumn("judging"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("judging", total=size)
        yield lambda done: bar.advance(task, done)


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
