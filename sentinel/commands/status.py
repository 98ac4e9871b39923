"""`sentinel status`: runs, alerts, commands and messages as the journal has them."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import json
import sys

from sentinel.clock import SystemClock
from sentinel.commands.options import Commands, settings, where, where_options


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser("status", help="runs, alerts, commands and messages as the journal has them")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    where_options(parser)
    parser.set_defaults(function=status)


def status(options: argparse.Namespace) -> int:
    """Print what the journal holds; nothing is asked of the sentinel."""
    from sentinel.status import print_status, read_status

    chosen = settings(options.config)
    logdir, state = where(options, chosen)
    found = read_status(logdir, state, SystemClock().wall())
    if options.json:
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        print_status(found, sys.stdout)
    return 0
