"""Gates as a person reads them: the verdict, why, and one line a requirement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.text import Text

from rules.findings import numbers
from rules.gate import Outcome
from sentinel.gates import GateReport
from sentinel.terminal import console_on

COLOURS = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}


def print_reports(reports: Sequence[GateReport], out: TextIO) -> None:
    """Print every run and its gates."""
    console = console_on(out)
    for report in reports:
        for line in _lines(report):
            console.print(line)


def _lines(report: GateReport) -> Iterator[Text]:
    yield Text.assemble((report.run, "bold"), f": {report.points} points")
    for hurt in report.hurt:
        yield Text(f"  blind: {hurt.path} at byte {hurt.offset} for {hurt.length} bytes: {hurt.reason}")
    for outcome in report.outcomes:
        yield Text.assemble(
            "  ", (outcome.verdict, COLOURS[outcome.verdict]), "  ", (outcome.gate.name, "bold"),
            f", judged at {outcome.gate.at}: {outcome.reason}",
        )  # fmt: skip
        yield from _details(outcome)


def _details(outcome: Outcome) -> Iterator[Text]:
    for fired in outcome.forbidden:
        said = "" if fired.value is None else f"  {numbers(fired.value, fired.limit)}"
        yield Text(f"    fired    {fired.key} ({fired.severity}) at step {fired.at.run_step}{said}")
    for name, verdict in outcome.needs.items():
        yield Text(f"    needs    {name}: {verdict}")
    width = max((len(finding.text) for finding in outcome.findings), default=0)
    for finding in outcome.findings:
        answer = {True: "holds", False: "False", None: "unknown"}[finding.answer]
        if finding.answer is False and not finding.fails:
            answer = "open"
        yield Text(f"    {answer:<8} {finding.text:<{min(width, 72)}}  {finding.reason}")
