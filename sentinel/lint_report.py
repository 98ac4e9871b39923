"""What `sentinel lint` prints: of one run every finding, of many how often each was made."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from textwrap import wrap
from typing import Any, TextIO, get_args

from notifier.format import neutral
from rules.lint_found import Code, Lint, listed
from sentinel.lint import LintedRun

_WIDTH = 110
_INDENT = 13


def print_runs(runs: Sequence[LintedRun], out: TextIO, *, verbose: bool, as_json: bool) -> None:
    """Print what was found: as JSON, of one run or with `verbose` in full, else as counts."""
    if as_json:
        print(json.dumps({"runs": [_run_as_json(run) for run in runs]}, indent=2), file=out)
        return
    lines = _counts(runs) if len(runs) > 1 and not verbose else _in_full(runs)
    for line in lines:
        print(neutral(line), file=out)


def _run_as_json(run: LintedRun) -> dict[str, Any]:
    return {
        "run": run.name,
        "finished": run.finished,
        "points": run.points,
        "rules": run.rules,
        "unread": run.unread,
        "lints": [
            {
                "code": lint.code,
                "severity": lint.severity,
                "rules": list(lint.rules),
                "metric": lint.metric,
                "what": lint.what,
                "why": lint.why,
                "hint": lint.hint,
            }
            for lint in run.lints
        ],
    }


def _in_full(runs: Iterable[LintedRun]) -> Iterator[str]:
    for number, run in enumerate(runs):
        if number:
            yield ""
        yield _head(run)
        explained: set[str] = set()  # why a kind of finding matters is said once
        for title, group in groupby(_grouped(run.lints), key=_title):
            yield ""
            yield title
            for lint in group:
                yield from _told(lint, why=lint.code not in explained)
                explained.add(lint.code)


def _head(run: LintedRun) -> str:
    state = "ended" if run.finished else "still going"
    about = f"{run.name}: {plural(run.rules, 'rule')}, {plural(run.points, 'point')}, {state}"
    unread = f"; {plural(run.unread, 'stretch', 'es')} of its files could not be read" if run.unread else ""
    grades = Counter(lint.severity for lint in run.lints)
    said = [plural(grades["warning"], "warning")] if grades["warning"] else []
    said += [plural(grades["info"], "note")] if grades["info"] else []
    return f"{about}{unread}: {' and '.join(said) or 'nothing to say'}"


def _grouped(lints: Sequence[Lint]) -> list[Lint]:
    """Bring together what is about the same rules, each group at the place of its first."""
    first: dict[str, int] = {}
    for at, lint in enumerate(lints):
        first.setdefault(_title(lint), at)
    return sorted(lints, key=lambda lint: first[_title(lint)])


def _title(lint: Lint) -> str:
    return lint.metric if lint.code == "pack" else listed(lint.rules, 4) or lint.metric


def _told(lint: Lint, *, why: bool) -> Iterator[str]:
    mark = "!" if lint.severity == "warning" else " "
    said = [lint.what, *([f"why: {lint.why}"] if why else []), f"try: {lint.hint}"]
    for at, text in enumerate(said):
        for number, line in enumerate(wrap(text, _WIDTH - _INDENT)):
            begin = f"{mark} {lint.code}" if at == number == 0 else ""
            yield f"{begin:<{_INDENT}}{line}"


def _counts(runs: Sequence[LintedRun]) -> Iterator[str]:
    found: dict[tuple[str, Code], Counter[str]] = defaultdict(Counter)
    touched: dict[tuple[str, Code], int] = Counter()
    for run in runs:
        for kind in {(lint.severity, lint.code) for lint in run.lints}:
            touched[kind] += 1
        for lint in run.lints:
            found[lint.severity, lint.code][lint.metric or _title(lint)] += 1
    clean = sum(not run.lints for run in runs)
    yield f"{plural(len(runs), 'run')}, {clean} of them with nothing to say; -v shows every finding"
    for code in get_args(Code):
        for severity in ("warning", "info"):
            subjects = found.get((severity, code))
            if subjects:
                most = [f"{subject} ({count})" for subject, count in subjects.most_common()]
                where = f"in {plural(touched[severity, code], 'run')}"
                yield f"  {severity:<8} {code:<11} {where:<12} {listed(most)}"


def plural(count: int, noun: str, ending: str = "s") -> str:
    """Count things: 1 run, 2,000 runs."""
    return f"{count:,} {noun}{'' if count == 1 else ending}"
