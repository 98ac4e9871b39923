"""What `sentinel test` prints: every failure with its place and its timeline, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from rules.source import RuleErrors, nearest
from sentinel.clock import Clock
from sentinel.errors import ConfigError
from sentinel.junit import problems_xml, results_xml, write
from sentinel.scenarios import Result, Test, Told, load_tests, run_test
from sentinel.terminal import console_on
from sentinel.timeline import Line, timeline

_INDENT = "    "


def run_scenarios(
    paths: Sequence[Path],
    out: TextIO,
    clock: Clock,
    *,
    pattern: str | None = None,
    verbose: bool = False,
    as_json_lines: bool = False,
    junit: Path | None = None,
    errors: TextIO | None = None,
) -> int:
    """Run the cases of scenario files and tell what failed.

    Args:
        paths: scenario files, or folders of them. out: where it is told. clock: for how long it takes.
        pattern: only cases whose `file: name` holds this text, or matches it where it has a * or ?.
        verbose: every case is told, not only those that failed.
        as_json_lines: one object a case. junit: a file for JUnit XML.
        errors: where a terminal shows how far it is; None: nowhere.

    Returns:
        0 if all passed, 1 if one failed.

    Raises:
        ConfigError: a file cannot be read or written, there is none, or no case matches.
        RuleErrors: with every problem of every file; then nothing was run.
    """
    try:
        tests = _chosen(load_tests(paths), pattern)
    except RuleErrors as error:
        if junit is not None:
            write(junit, problems_xml(error.problems))
        raise
    results = _run(tests, clock, errors)
    if junit is not None:
        write(junit, results_xml(results, lambda result, told: "\n".join(_plain(result.test, told))))
    if as_json_lines:
        for result in results:
            print(json.dumps(_object(result), allow_nan=False), file=out)
    else:
        _print(results, console_on(out), verbose=verbose)
    return 1 if any(result.failures for result in results) else 0


def _chosen(tests: Sequence[Test], pattern: str | None) -> list[Test]:
    if pattern is None:
        return list(tests)
    lowered = pattern.lower()
    wild = any(sign in pattern for sign in "*?")
    chosen = [
        test
        for test in tests
        if lowered in (name := _name(test).lower()) or (wild and fnmatchcase(name, f"*{lowered}*"))
    ]
    if not chosen:
        hint = nearest(pattern, [test.case.name for test in tests])
        raise ConfigError(f"no test matches -k {pattern!r}; {hint}; nothing was tested")
    return chosen


def _name(test: Test) -> str:
    return f"{test.file}: {test.case.name}"


def _run(tests: Sequence[Test], clock: Clock, errors: TextIO | None) -> list[Result]:
    """Run all; a terminal is shown how far it is, by runs of cases since one may have many seeds."""
    if errors is None or not errors.isatty():
        return [run_test(test, clock.monotonic) for test in tests]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=errors), transient=True) as progress:
        task = progress.add_task("testing", total=sum(test.runs for test in tests))
        advance: Callable[[], None] = lambda: progress.advance(task)  # noqa: E731  a name for one call
        return [run_test(test, clock.monotonic, advance) for test in tests]


def _print(results: Sequence[Result], console: Console, *, verbose: bool) -> None:
    for result in results:
        if verbose:
            word, style = ("FAILED", "bold red") if result.failures else ("passed", "green")
            console.print(Text(word, style), f" {result.seconds:8.3f} s  ", _name(result.test), sep="")
        for told in result.failures:
            _print_failure(result.test, told, console)
    failed = sum(bool(result.failures) for result in results)
    count = sum(len(result.failures) for result in results)
    files = len({result.test.file for result in results})
    summary = f"{len(results)} tests in {files} files: {count or 'no'} failures"
    if count > failed > 0:
        summary += f" in {failed} tests"
    console.print(Text(summary, "bold red" if failed else "green"))


def _print_failure(test: Test, told: Told, console: Console) -> None:
    place = Text(f"{told.where}: ", "bold")
    console.print(Text.assemble(place, f"{test.case.name!r}: ", (told.sentence(), "red")))
    for line in timeline(test, told):
        console.print(Text(_INDENT + line.text, "bold yellow" if line.is_mark else ""))
    console.print()


def _plain(test: Test, told: Told) -> list[str]:
    lines: Sequence[Line] = timeline(test, told)
    return [f"{told.where}: {told.sentence()}", *(_INDENT + line.text for line in lines)]


def _object(result: Result) -> dict[str, Any]:
    test = result.test
    return {
        "file": test.file,
        "test": test.case.name,
        "where": test.where(),
        "passed": not result.failures,
        "seconds": round(result.seconds, 6),
        "failures": [
            {
                "where": told.where,
                "what": told.failure.what,
                "rule": told.failure.rule or None,
                "runs": list(told.runs),
                "expected_steps": list(told.failure.expected),
                "steps": list(told.failure.came),
                "timeline": [line.text for line in timeline(test, told)],
            }
            for told in result.failures
        ],
    }
