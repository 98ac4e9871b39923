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
    parser.set_defaults(function=test)


def test(options: argparse.Namespace) -> int:
    """Run every case; 1 if one failed."""
    from sentinel.clock import SystemClock
    from sentinel.scenarios import run_scenarios

    return run_scenarios(options.paths, sys.stdout, SystemClock())
