"""`sentinel doctor`: what can be reached of each run, and what of this machine is in the way."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sentinel.clock import SystemClock
from sentinel.commands.options import Commands, config_option, settings


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser(
        "doctor", help="who trains each run, what can be asked of them, what is in the way"
    )
    parser.add_argument(
        "logdir", type=Path, nargs="?", help="folder of runs; default: [run] logdir, else runs"
    )
    config_option(parser)
    parser.add_argument("--state", type=Path, help="folder of the sentinel's memory; default: [state] folder")
    parser.add_argument(
        "--pid", action="append", default=[], metavar="[RUN=]PID", help="as `sentinel run` would be given it"
    )
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.set_defaults(function=doctor)


def doctor(options: argparse.Namespace) -> int:
    """Look, print, and end with 1 where there is a problem; nothing is changed."""
    from sentinel.attachment import named_processes
    from sentinel.doctor import as_json, diagnose
    from sentinel.doctor_report import print_diagnosis

    chosen = settings(options.config)
    found = diagnose(
        options.logdir or chosen.logdir,
        options.state or chosen.state_folder,
        chosen,
        SystemClock(),
        named_processes(options.pid),
    )
    if options.json:
        print(json.dumps(as_json(found), indent=2, allow_nan=False))
    else:
        print_diagnosis(found, sys.stdout)
    return found.exit_code
