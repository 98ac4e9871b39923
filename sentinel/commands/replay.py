"""`sentinel replay`: judge recorded runs."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sentinel.commands.options import Commands, config_option, pack_option, settings


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser(
        "replay", help="judge recorded runs: what would have fired, what would have been done"
    )
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="event files, run folders or trees of them"
    )
    pack_option(parser)
    config_option(parser)
    parser.add_argument("--json", action="store_true", help="one object a transition on standard output")
    parser.set_defaults(function=replay)


def replay(options: argparse.Namespace) -> int:
    """Judge every run below the paths; 1 if a critical or fatal rule fired."""
    from sentinel.replay import replay_paths, report, verdict

    outcomes = replay_paths(options.paths, settings(options.config, options.pack))
    if options.json:
        for outcome in outcomes:
            for line in outcome.lines():
                print(json.dumps(line, allow_nan=False))
        return verdict(outcomes)
    return report(outcomes, sys.stdout)
