"""What `sentinel doctor` found, as a person reads it: a line a run, then what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from rich.text import Text

from sentinel.doctor import Diagnosis, RunReport
from sentinel.terminal import console_on

_MARKS = {"problem": ("problem", "bold red"), "note": ("note", "dim")}


def print_diagnosis(found: Diagnosis, out: TextIO) -> None:
    """Print every live run, a count of the others, and the machine."""
    console = console_on(out)
    live = [run for run in found.runs if run.live]
    for run in live:
        for line in _lines(run):
            console.print(line)
    over = [run for run in found.runs if not run.live]
    if over:
        plural = "s" if len(over) > 1 else ""
        console.print(f"{len(over)} run{plural} over or silent for half an hour: nobody is looked for")
        for run in over:
            for finding in run.findings:
                console.print(Text.assemble(f"  {run.run}: ", _MARKS[finding.level], f"  {finding.text}"))
    console.print(Text("this machine", "bold"))
    if not found.machine:
        console.print("  nothing is in the way")
    for finding in found.machine:
        console.print(Text.assemble("  ", _MARKS[finding.level], f"  {finding.what}: {finding.text}"))


def _lines(run: RunReport) -> Iterator[Text]:
    who = f"process {run.pid} ({run.command or 'ended'}), " if run.pid is not None else ""
    how = {
        "guard": "by its guard",
        "job": "started by the sentinel",
        "holder": "it holds the event file",
        "pid": "named with --pid",
        "nobody": "nobody",
    }[run.how]
    yield Text.assemble((run.run, "bold"))
    yield Text(f"  attached     {who}{how}")
    for verb, way in run.verbs.items():
        yield Text(f"  {verb:<12} {way}")
    yield Text(f"  catches      {', '.join(run.caught) or 'no signal'}")
    newest = f", newest {run.newest}" if run.newest else ""
    yield Text(f"  checkpoints  {run.checkpoints} recognised, {run.verified} whole{newest}")
    yield Text(
        f"  event file   {'written in blocks' if run.buffered else 'written as it goes'}, clock {_clock(run)}"
    )
    for finding in run.findings:
        yield Text.assemble("  ", _MARKS[finding.level], f"  {finding.what}: {finding.text}")


def _clock(run: RunReport) -> str:
    return f"{run.skew:g} s ahead of ours" if run.skew > 1 else "as ours"
