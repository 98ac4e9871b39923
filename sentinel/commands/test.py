"""`sentinel test`: run scenario files, the rules' own tests."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sentinel.commands.options import Commands


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser("test", help="run scenario files: the rules' own tests; watch nothing")
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="FILE", help="scenario files or folders of them"
    )
    parser.add_argument(
        "-k",
        dest="pattern",
        metavar="PATTERN",
        help="only tests whose `file: name` holds this; * and ? count",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="every test, not only those that failed")
    parser.add_argument("--json", action="store_true", help="one object a test on standard output")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML as well, for a CI server")
    parser.set_defaults(function=test)


def test(options: argparse.Namespace) -> int:
    """Run every case; 1 if one failed."""
    from sentinel.clock import SystemClock
    from sentinel.scenario_report import run_scenarios

    return run_scenarios(
        options.paths,
        sys.stdout,
        SystemClock(),
        pattern=options.pattern,
        verbose=options.verbose,
        as_json_lines=options.json,
        junit=options.junit,
        errors=sys.stderr,
    )
