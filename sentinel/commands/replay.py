"""`sentinel replay`: judge recorded runs."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sentinel.commands.options import Commands, config_option, pack_option, settings

INTERRUPTED = 3
"""The exit code after Ctrl-C: nothing was found out."""


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
    parser.add_argument(
        "--jobs",
        type=_count,
        metavar="N",
        help="processes; 1 is this one alone. Default: one a core, fewer where there is little to read",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="every change of every run, and a row for every rule"
    )
    parser.add_argument("--json", action="store_true", help="one object a line on standard output")
    parser.set_defaults(function=replay)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: at least one process is needed")
    return number


def replay(options: argparse.Namespace) -> int:
    """Judge every run below the paths; 1 if a critical or fatal rule fired."""
    from sentinel.backtest import backtest, cores, fitting_jobs
    from sentinel.replay import find
    from sentinel.report import print_tally, progress_bar
    from sentinel.tally import tally
    from sentinel.tally_json import tally_as_json

    rules = settings(options.config, options.pack)
    recordings = find(options.paths)
    jobs = options.jobs or fitting_jobs(recordings, cores())
    size = sum(recording.size for recording in recordings)
    try:
        with progress_bar(size, sys.stderr) as progress:
            outcomes = [found for (found,) in backtest(recordings, [rules], jobs, progress)]
    except KeyboardInterrupt:
        print(f"sentinel: interrupted; {len(recordings)} runs were not judged to the end", file=sys.stderr)
        return INTERRUPTED
    found = tally(outcomes, rules)
    if options.json:
        for line in tally_as_json(found):
            print(json.dumps(line, allow_nan=False))
    else:
        print_tally(found, sys.stdout, verbose=options.verbose)
    return found.exit_code
