"""What was found, as tables: for a terminal, for a page, and for a machine."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.detection_corpus import EXPLOSION, HEALTHY, Recorded
from benchmarks.detection_runs import Found
from benchmarks.detection_statistics import clustered, poisson, quantile, wilson
from rules.generators import FAMILIES

K = TypeVar("K")
V = TypeVar("V")

SEVERITIES = ("critical", "warning", "info")
WIDE = 180
WORDS = {1: "mild", 2: "middling", 3: "grave"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its title, column heads and rows; `note` says what must be known to read it."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that is to be reached; `holds` is None where this invocation could not tell."""

    what: str
    measured: str
    holds: bool | None


def markdown(table: Table) -> str:
    """Lay a table out for a page."""
    lines = [f"**{table.title}**", ""]
    lines.append("| " + " | ".join(table.head) + " |")
    lines.append("|" + "---|" * len(table.head))
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table.rows]
    return "\n".join([*lines, *(["", table.note] if table.note else []), ""])


def show(table: Table) -> None:
    """Print a table."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)  # a pipe has no width, and nothing of a cell may be lost there
    shown = RichTable(*table.head, title=table.title, caption=table.note, title_justify="left")
    for row in table.rows:
        shown.add_row(*(cell.replace("`", "") for cell in row))
    console.print(shown)


def write(page: Path, name: str, shown: Sequence[Table]) -> None:
    """Put tables between the markers `<!-- NAME: generated … -->` and `<!-- NAME: end -->` of a page."""
    begin, end = f"<!-- {name}: generated", f"<!-- {name}: end -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    assert found, f"{page} has no {begin!r}"
    head, _, rest = rest.partition("\n")
    _, found, after = rest.partition(end)
    assert found, f"{page} has no {end!r}"
    body = "\n".join(markdown(table) for table in shown)
    page.write_text(f"{before}{begin}{head}\n\n{body}\n{end}{after}", encoding="utf-8")


def claims_table(claims: Iterable[Claim]) -> Table:
    """Show what was to be reached beside what was measured."""
    words = {True: "yes", False: "NO", None: "not asked"}
    return Table(
        "What was to be reached",
        ("to reach", "measured", "reached"),
        [(claim.what, claim.measured, words[claim.holds]) for claim in claims],
    )


def healthy_table(found: Sequence[Found]) -> Table:
    """Show the alarms of healthy runs by family and severity."""
    rows: list[tuple[str, ...]] = []
    for name, runs in _by(found, lambda run: run.task.family).items():
        rows.append((f"`{name}`", str(len(runs)), f"{sum(r.points for r in runs):,}", *_counts(runs)))
    return Table(
        "Healthy generated runs: false alarms by family",
        ("family", "runs", "points", *SEVERITIES),
        rows,
        "Alarms of one rule within 20 points of each other count once.",
    )


def rates_table(found: Sequence[Found]) -> Table:
    """Show the false alarms by area and severity, with exact bounds."""
    rows: list[tuple[str, ...]] = []
    for area, runs in _by(found, lambda run: FAMILIES[run.task.family].area).items():
        points = sum(run.points for run in runs)
        for severity in SEVERITIES:
            count = _fired(runs, severity)
            hit = sum(any(alarm.severity == severity for alarm in run.alarms) for run in runs)
            rows.append(
                (
                    area,
                    severity,
                    f"{count} in {points:,}",
                    _rate(count, points / 1e6),
                    _rate(count, len(runs)),
                    _share(hit, len(runs)),
                )
            )
    return Table(
        "Healthy generated runs: rates of false alarms",
        ("area", "severity", "alarms in points", "per million points", "per run", "runs with one"),
        rows,
        "Rates with exact 95 % Poisson bounds (one-sided for none), shares with Wilson's intervals.",
    )


def recall_table(found: Sequence[Found]) -> Table:
    """Show how many runs of each fault were found, over all cadences."""
    rows: list[tuple[str, ...]] = []
    for name, runs in _by(found, lambda run: run.task.family).items():
        cells = []
        for severity in WORDS:
            of = [run for run in runs if run.task.setting.severity == severity]
            cells.append(_recall(of))
        early = sum(
            alarm.severity == "critical" and not alarm.key.startswith("generic/stalled")
            for run in runs
            for alarm in run.alarms[: run.before_onset]
        )
        severity_of = sorted({run.signal.severity for run in runs if run.signal is not None})
        rows.append((f"`{name}`", *cells, ", ".join(severity_of) or "-", str(early)))
    return Table(
        "Generated faults: found by a rule that names them",
        ("fault", *WORDS.values(), "severity of the alarm", "critical before onset"),
        rows,
        "Found / runs that live to see the harm, with Wilson's 95 % interval; all cadences together. "
        "A run that was found counts even if it ends before the harm.",
    )


def delay_table(found: Sequence[Found]) -> Table:
    """Show the time from the onset to the signal, and from there to the harm."""
    rows: list[tuple[str, ...]] = []
    for name, runs in _by(found, lambda run: run.task.family).items():
        for severity, word in WORDS.items():
            seen = [r for r in runs if r.signal is not None and r.task.setting.severity == severity]
            if not seen:
                continue
            ahead = [float(run.points_ahead) for run in seen if run.points_ahead is not None]
            over = [float(r.ahead_of_threshold) for r in seen if r.ahead_of_threshold is not None]
            rows.append(
                (
                    f"`{name}`",
                    word,
                    _spread([float(run.points_late) for run in seen]),
                    _spread([float(run.steps_late) for run in seen]),
                    _spread([run.seconds_late for run in seen]),
                    _spread(ahead),
                    _spread([run.seconds_ahead for run in seen if run.seconds_ahead is not None]),
                    _spread(over),
                )
            )
    return Table(
        "Generated faults: from onset to signal, and from signal to harm",
        (
            "fault",
            "severity",
            "points after onset",
            "steps after",
            "seconds after",
            "points before harm",
            "seconds before",
            "steps before actor Q passes 50",
        ),
        rows,
        "Median (5-95 %) over the runs that were found; negative: after the harm. Cadences 1, 10 and 100 "
        "together, which is why steps and seconds spread.",
    )


def cadence_table(found: Sequence[Found]) -> Table:
    """Show how the cadence of logging matters to the rules about values."""
    rows: list[tuple[str, ...]] = []
    of_value = [run for run in found if FAMILIES[run.task.family].area == "value"]
    for name, runs in _by(of_value, lambda run: run.task.family).items():
        for cadence, some in sorted(_by(runs, lambda run: run.task.setting.cadence).items()):
            late = [float(run.steps_late) for run in some if run.signal is not None]
            rows.append((f"`{name}`", str(cadence), _recall(some), _spread(late)))
    return Table(
        "Generated faults of values, by cadence",
        ("fault", "steps between points", "found", "steps after onset"),
        rows,
        "All severities together.",
    )


def explosions_table(recorded: Sequence[Recorded]) -> Table:
    """Show each recorded explosion."""
    rows: list[tuple[str, ...]] = [
        (
            run.run,
            f"`{run.rule}`" if run.rule else "none",
            _or_dash(run.step),
            _or_dash(run.passed_step),
            _or_dash(run.steps_ahead),
            "-" if run.seconds_ahead is None else f"{run.seconds_ahead:.0f}",
        )
        for run in recorded
        if run.label == EXPLOSION
    ]
    ahead: dict[str, list[float]] = defaultdict(list)
    for run in recorded:
        if run.label == EXPLOSION and run.seconds_ahead is not None:
            ahead[run.project].append(run.seconds_ahead)
    flat = [value for values in ahead.values() for value in values]
    low, high = clustered(ahead)
    note = (
        f"Median lead {quantile(flat, 0.5):.0f} s "
        f"(bootstrap over projects, then runs: {low:.0f} to {high:.0f} s), "
        f"from {len(ahead)} project{'s' * (len(ahead) != 1)}."
    )
    return Table(
        "Recorded explosions of Q: the first critical alarm, and actor Q passing 50",
        ("run", "first critical rule", "at step", "Q passes 50 at", "steps ahead", "seconds ahead"),
        rows,
        note,
    )


def recorded_healthy_table(recorded: Sequence[Recorded]) -> Table:
    """Show the alarms of recorded healthy runs by project."""
    healthy = [run for run in recorded if run.label == HEALTHY]
    rows: list[tuple[str, ...]] = []
    for project, runs in _by(healthy, lambda run: run.project).items():
        counts = [str(sum(run.fired.get(severity, 0) for run in runs)) for severity in SEVERITIES]
        rows.append((project, str(len(runs)), f"{sum(run.points for run in runs):,}", *counts))
    return Table("Recorded healthy runs: alarms by project", ("project", "runs", "points", *SEVERITIES), rows)


def _recall(runs: Sequence[Found]) -> str:
    counted = [run for run in runs if run.shown or run.signal is not None]
    return _share(sum(run.signal is not None for run in counted), len(counted)) if counted else "too short"


def _share(hits: int, of: int) -> str:
    low, high = wilson(hits, of)
    return f"{hits}/{of} ({100 * low:.0f}-{100 * high:.0f} %)"


def _rate(count: int, per: float) -> str:
    low, high = poisson(count)
    bounds = f"< {high / per:.3g}" if count == 0 else f"{low / per:.3g}-{high / per:.3g}"
    return f"{count / per:.3g} ({bounds})"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    middle, low, high = (quantile(values, share) for share in (0.5, 0.05, 0.95))
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"


def _counts(runs: Sequence[Found]) -> list[str]:
    return [str(_fired(runs, severity)) for severity in SEVERITIES]


def _fired(runs: Iterable[Found], severity: str) -> int:
    return sum(alarm.severity == severity for run in runs for alarm in run.alarms)


def _or_dash(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:,.0f}"


def _by(items: Iterable[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    found: dict[K, list[V]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found
