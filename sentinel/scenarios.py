"""Scenario files as `sentinel test` and a user's CI run them: the rules' own tests. Nothing is watched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rules import scenario
from rules.source import Problem, RuleErrors
from sentinel.errors import ConfigError


def run_scenarios(paths: Sequence[Path], out: TextIO) -> int:
    """Run every case of every file; folders stand for the `*.toml` in them.

    Args:
        paths: scenario files, or folders of them.
        out: where failures and the count are told.

    Returns:
        0 if all passed, 1 if one failed.

    Raises:
        ConfigError: a file cannot be read, or there is none.
        RuleErrors: with every problem of every file; then nothing was run.
    """
    loaded: list[scenario.Scenario] = []
    problems: list[Problem] = []
    for path in _files(paths):
        try:
            loaded.append(_load(path))
        except RuleErrors as error:
            problems += error.problems
    if problems:
        raise RuleErrors(problems)
    failures = [failure for each in loaded for failure in each.report()]
    for failure in failures:
        print(failure, file=out)
    cases = sum(len(each.cases) for each in loaded)
    print(f"{cases} tests in {len(loaded)} files: {len(failures) or 'no'} failures", file=out)
    return 1 if failures else 0


def _load(path: Path) -> scenario.Scenario:
    return scenario.load(_text(path), str(path), lambda name: _text(path.parent / name))


def _files(paths: Sequence[Path]) -> list[Path]:
    found = [file for path in paths for file in (sorted(path.glob("*.toml")) if path.is_dir() else [path])]
    if not found:
        raise ConfigError(f"{', '.join(map(str, paths))}: no scenario file (*.toml); nothing was tested")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; nothing was tested") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; nothing was tested") from error
