"""`sentinel lint`: what keeps rules from working in recorded runs."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sentinel.commands.options import Commands, config_option, pack_option, settings


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser(
        "lint",
        help="what keeps rules from working in recorded runs",
        description="Judge recorded runs and say what keeps rules from working there: names that nothing "
        "stands for, windows that never fill, steps on the wrong axis, rules that never had an answer.",
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folder of a run or of many, or one event file"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="every finding, also of many runs; default: counts"
    )
    pack_option(parser)
    config_option(parser)
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.set_defaults(function=lint)


def lint(options: argparse.Namespace) -> int:
    """Print what was found; 1 if there was more than information."""
    from sentinel.clock import SystemClock
    from sentinel.lint import lint_runs
    from sentinel.lint_report import print_runs

    loaded = settings(options.config, options.pack)
    found = list(lint_runs(options.runs, loaded, SystemClock().wall()))
    print_runs(found, sys.stdout, verbose=options.verbose, as_json=options.json)
    return 0 if all(run.clean for run in found) else 1
