"""A backtest as a person reads it: changes, runs, rules, ladders, and what is recorded behind the actions.

A terminal gets colours, anything else the same columns as plain text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from textwrap import wrap
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from rules.alert import AlertState
from sentinel.judge import Step
from sentinel.replay import Outcome
from sentinel.story import deeds
from sentinel.tally import DEEDS, SEVERITIES, Behind, RuleTally, RungTally, RunTally, Tally
from sentinel.terminal import console_on

COLOURS = {"info": "blue", "warning": "yellow", "critical": "red", "fatal": "bold red"}

FEW = 3
"""Up to so many runs are told change by change."""

_HOUR = 3600.0
_WIDTH = 100  # of a list of names


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


def print_tally(found: Tally, out: TextIO, *, verbose: bool = False) -> None:
    """Print what a person wants to know of a backtest.

    Args:
        verbose: every change of every run, and a row for every rule.
    """
    console = console_on(out)
    if verbose or len(found.runs) <= FEW:
        for run in found.runs:
            for line in _changes(run.outcome):
                console.print(line)
        console.print()
    for table in (_runs(found.runs), _rules(found.rules, verbose=verbose)):
        for line in table:
            console.print(line)
        console.print()
    for line in (*_silent(found.rules, verbose=verbose), *_ladders(found.rungs), *_total(found)):
        console.print(line)


# -- one run, change by change -------------------------------------------------


def _changes(outcome: Outcome) -> Iterator[Text]:
    yield Text.assemble((outcome.run, "bold"), f": {outcome.points} points")
    for hurt in outcome.hurt:
        yield Text(f"  blind: {hurt.path} at byte {hurt.offset} for {hurt.length} bytes: {hurt.reason}")
    told = [step for step in outcome.steps if _worth_telling(step)]
    for step in told:
        yield _sentence(step)
    if not told:
        yield Text("  no alert changed" if outcome.points else "  no scalar was read")


def _worth_telling(step: Step) -> bool:
    moved = step.observation.transition
    return moved is None or moved.after is not AlertState.PENDING or bool(step.actions)


def _sentence(step: Step) -> Text:
    alert, at, moved = step.observation.alert, step.observation.verdict.at, step.observation.transition
    value = "" if alert.value is None else f" value {alert.value:.6g}"
    limit = "" if alert.limit is None else f" limit {alert.limit:.6g}"
    onset = f", onset {alert.onset.step}" if alert.onset else ""
    change = f"{moved.before.value} -> {moved.after.value}" if moved else f"still {alert.state.value}"
    what = "; ".join(f"{name} {text}" for name, text in deeds(step.actions, "observe"))
    severity = step.observation.rule.severity
    return Text.assemble(
        f"  step {at.step:>7}  ",
        (f"{severity:<8}", COLOURS[severity]),
        f" {step.observation.key}: {change},{value}{limit}{onset}",
        f"  [{what}]" if what else "",
    )


# -- tables --------------------------------------------------------------------


def columns(rows: Sequence[Sequence[Text]], numbers: Sequence[int] = ()) -> Iterator[Text]:
    """Align cells; the columns `numbers` to the right."""
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)] if rows else []
    for row in rows:
        line = Text()
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - cell.cell_len)
            line.append(space if index in numbers else "").append_text(cell)
            line.append("" if index in numbers else space).append("  ")
        line.rstrip()
        yield line


def heading(*names: str) -> list[Text]:
    """Make a table's first row."""
    return [Text(name, style="dim") for name in names]


def _runs(runs: Sequence[RunTally]) -> Iterator[Text]:
    rows = [heading("run", "points", "steps", "time", "verdict")]
    for run in runs:
        outcome = run.outcome
        lasted = "" if outcome.began is None else span((outcome.ended or 0.0) - outcome.began)
        numbers = (f"{outcome.points}", f"{outcome.last_step}", lasted)
        rows.append([Text(outcome.run), *map(Text, numbers), _verdict(run)])
    yield from columns(rows, numbers=(1, 2, 3))


def _verdict(run: RunTally) -> Text:
    answered = f"{run.judged} of {run.rules} rules had an answer"
    worst = run.worst
    if run.standing == "error":
        return Text(f"not read: {run.outcome.error}", style="bold magenta")
    if run.standing == "unjudged":
        why = "no rule had an answer" if run.outcome.points else "no scalar in its event files"
        return Text(f"not judged: {why}", style="magenta")
    blind = f"; blind in {count(len(run.outcome.hurt), 'place')}" if run.outcome.hurt else ""
    if worst is None:
        return Text.assemble(("quiet", "green"), f": {answered}{blind}")
    others = len({alarm.rule.name for alarm in run.alarms}) - 1
    return Text.assemble(
        (worst.rule.severity, COLOURS[worst.rule.severity]),
        f" {worst.key} at {worst.at.run_step}",
        f", and {count(others, 'rule')} more" if others else "",
        "" if run.behind is None else f"; {_behind(run.behind)}",
        blind,
    )


def _behind(behind: Behind) -> str:
    by = f"{behind.verb} at {behind.at.run_step}"
    end = "the alert lasted" if behind.lasted else "the alert ended by itself"
    return f"{by}, after it {behind.steps} steps, {span(behind.seconds)}, and {end}"


def _rules(rules: Sequence[RuleTally], *, verbose: bool) -> Iterator[Text]:
    shown = [rule for rule in rules if rule.touched or (verbose and rule.judged)]
    shown.sort(key=lambda rule: (-SEVERITIES.index(rule.rule.severity), -rule.touched))
    if not shown:
        return
    rows = [heading("rule", "severity", "runs", "alarms", "per 1e6", "first", "earliest", "would have done")]
    for rule in shown:
        earliest, per_million = rule.earliest, rule.per_million
        rows.append(
            [
                Text(rule.rule.name),
                Text(rule.rule.severity, style=COLOURS[rule.rule.severity]),
                Text(f"{rule.touched}/{rule.judged}"),
                Text(f"{rule.alarms}"),
                Text("" if per_million is None else f"{per_million:.1f}"),
                Text("" if rule.median_step is None else f"{rule.median_step:.0f}"),
                Text("" if earliest is None else f"{earliest.at.run_step} in {earliest.run}"),
                Text(_deeds(rule)),
            ]
        )
    yield from columns(rows, numbers=(2, 3, 4, 5))


def _deeds(rule: RuleTally) -> str:
    parts = []
    for verb in DEEDS:
        done, withheld = rule.deeds[verb], rule.withheld[verb]
        if done or withheld:
            parts.append(f"{verb} {done}" + (f" (withheld {withheld})" if withheld else ""))
    return ", ".join(parts)


def _silent(rules: Sequence[RuleTally], *, verbose: bool) -> Iterator[Text]:
    """Tell quiet rules from those that saw nothing."""
    quiet = [f"{rule.rule.name} ({rule.judged})" for rule in rules if rule.judged and not rule.touched]
    if quiet and not verbose:
        yield from _listed("quiet in every run in which they had an answer (so many)", quiet)
    blind = [rule for rule in rules if not rule.judged]
    if blind and not verbose:
        yield from _listed("without an answer in any run", [rule.rule.name for rule in blind])
    if blind and verbose:
        yield Text("without an answer in any run", style="dim")
        reasons = [rule.reasons.most_common(1) for rule in blind]
        rows = [
            [Text(f"  {rule.rule.name}"), Text(why[0][0] if why else "no run could be read")]
            for rule, why in zip(blind, reasons, strict=True)
        ]
        yield from columns(rows)
        yield Text()


def _listed(title: str, names: Sequence[str]) -> Iterator[Text]:
    yield Text(title, style="dim")
    for line in wrap(", ".join(names), _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield Text(f"  {line}")
    yield Text()


def _ladders(rungs: Sequence[RungTally]) -> Iterator[Text]:
    climbed = {rung.ladder for rung in rungs if rung.times or rung.withheld}
    rows = [heading("ladder", "rung", "would", "runs", "times", "first", "")]
    for rung in rungs:
        if rung.ladder in climbed:
            first = f"{median(rung.first):.0f}" if rung.first else ""
            cells = (rung.ladder, f"{rung.rung + 1}", rung.verb, f"{rung.runs}", f"{rung.times}", first)
            rows.append([*map(Text, cells), Text(_rung_notes(rung))])
    if climbed:
        yield from columns(rows, numbers=(1, 3, 4, 5))
        yield Text()


def _rung_notes(rung: RungTally) -> str:
    notes = []
    if rung.verb == "rollback" and rung.times:
        notes.append(f"target known {rung.targets} of {rung.times} times")
    notes += [f"withheld in {count(runs, 'run')}: {why}" for why, runs in rung.withheld.most_common(2)]
    if len(rung.withheld) > 2:
        notes.append(f"and for {len(rung.withheld) - 2} other reasons")
    return "; ".join(notes)


# -- in all --------------------------------------------------------------------


def _total(found: Tally) -> Iterator[Text]:
    standings = [run.standing for run in found.runs]
    parts = [f"{standings.count('fired')} with an alarm", f"{standings.count('quiet')} quiet"]
    unjudged = [run for run in found.runs if run.standing == "unjudged"]
    if blind := sum(run.outcome.points > 0 for run in unjudged):
        parts.append(f"{blind} that no rule had an answer for")
    if empty := sum(run.outcome.points == 0 for run in unjudged):
        parts.append(f"{empty} without a scalar")
    if errors := standings.count("error"):
        parts.append(f"{errors} that could not be read")
    points = sum(run.outcome.points for run in found.runs)
    yield Text(f"{count(len(found.runs), 'run')}, {points} points: {', '.join(parts)}")
    acted = [run.behind for run in found.runs if run.behind is not None]
    if not acted:
        return
    lasting = [one for one in acted if one.lasted]
    over = [one for one in acted if not one.lasted]
    yield Text(f"recorded after the first rollback or end: {added_up(acted)}")
    if lasting:
        yield Text(
            f"  the alert lasted to the end of the record: {added_up(lasting)}; "
            "acting could have saved so much at most"
        )
    if over:
        yield Text(
            f"  the alert ended by itself: {added_up(over)}; acting would have set back runs that got well"
        )
    yield Text(
        "  behind a run's first rollback the record is of another history than the rollback would have made",
        style="dim",
    )


def added_up(behind: Sequence[Behind]) -> str:
    """Say how much is recorded behind actions, over several runs."""
    steps, seconds = sum(one.steps for one in behind), sum(one.seconds for one in behind)
    return f"{count(len(behind), 'run')}, {steps} steps, {span(seconds)}"


def span(seconds: float) -> str:
    """Say how long that is: `85 s`, `12.5 min`, `3.2 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.1f} h"


def count(number: int, what: str) -> str:
    """Say how many there are of what."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
