"""`sentinel gate`: hold recorded runs against gates."""

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
        "gate",
        help="whether recorded runs have shown what they were to show: pass, fail or inconclusive",
        description="Hold runs against the gates of the rule files. Exit codes: 0 every gate passed, 1 one "
        "failed, 3 none failed and one is inconclusive; unknown is never a pass.",
    )
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="event files, run folders or trees of them"
    )
    parser.add_argument(
        "--gate", action="append", default=[], metavar="NAME", help="a gate, or several (a,b); repeatable"
    )
    parser.add_argument("--all", action="store_true", help="every gate that the rules have")
    pack_option(parser)
    config_option(parser)
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.set_defaults(function=gate)


def gate(options: argparse.Namespace) -> int:
    """Judge every run below the paths."""
    from sentinel.gate_report import print_reports
    from sentinel.gates import chosen_gates, exit_code, judge_paths, reports_as_json

    chosen = settings(options.config, options.pack)
    names = chosen_gates(chosen, options.gate, everything=options.all)
    reports = judge_paths(options.paths, chosen, names)
    if options.json:
        print(json.dumps(reports_as_json(reports), allow_nan=False, indent=2))
    else:
        print_reports(reports, sys.stdout)
    return exit_code(report.verdict for report in reports)
