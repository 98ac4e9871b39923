"""`sentinel replay`: judge recorded runs."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rules.source import Problem, RuleErrors
from sentinel.commands.options import Commands, config_option, pack_option, settings
from sentinel.config import Settings, load
from sentinel.errors import ConfigError

if TYPE_CHECKING:
    from sentinel.tally import Tally

INTERRUPTED = 3
"""The exit code after Ctrl-C: nothing was found out."""


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser(
        "replay",
        help="judge recorded runs: what would have fired, what would have been done",
        description="Judge recorded runs. Exit codes: 0 no critical or fatal rule fired, or with --compare "
        "nothing changes; 1 one did, or something changes; 3 a run could not be read.",
    )
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="event files, run folders or trees of them"
    )
    pack_option(parser)
    config_option(parser)
    parser.add_argument(
        "--compare",
        type=Path,
        nargs=2,
        metavar=("A.toml", "B.toml"),
        help="what the rules of B would change against those of A, in place of -c and --pack",
    )
    spread = parser.add_mutually_exclusive_group()
    spread.add_argument(
        "--jobs",
        type=_count,
        metavar="N",
        help="processes; 1 is this one alone. Default: one a core, fewer where there is little to read",
    )
    spread.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="judge on a Ray cluster: auto, host:port or ray://host:port; every node sees the runs by the "
        "same paths",
    )
    parser.add_argument(
        "--approve",
        choices=("all", "none"),
        help="answer at once whatever people would be asked; without it nobody answers, and the ladder's "
        "default follows",
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
    """Judge every run below the paths; 1 if a critical or fatal rule fired, or if anything changes."""
    from sentinel.backtest import backtest, cores, fitting_jobs
    from sentinel.backtest_ray import backtest_on_ray
    from sentinel.replay import find
    from sentinel.report import print_tally, progress_bar
    from sentinel.tally import tally
    from sentinel.tally_json import tally_as_json

    rules = [dataclasses.replace(one, approval=options.approve) for one in _rules(options)]
    recordings = find(options.paths)
    size = len(rules) * sum(recording.size for recording in recordings)
    try:
        with progress_bar(size, sys.stderr) as progress:
            if options.ray:
                outcomes = backtest_on_ray(options.ray, recordings, rules, progress)
            else:
                jobs = options.jobs or fitting_jobs(recordings, cores())
                outcomes = backtest(recordings, rules, jobs, progress)
    except KeyboardInterrupt:
        print(f"sentinel: interrupted; {len(recordings)} runs were not judged to the end", file=sys.stderr)
        return INTERRUPTED
    tallies = [tally([of_run[n] for of_run in outcomes], one) for n, one in enumerate(rules)]
    if options.compare:
        return _compare(options, tallies[0], tallies[1])
    (found,) = tallies
    if options.json:
        for line in tally_as_json(found):
            print(json.dumps(line, allow_nan=False))
    else:
        print_tally(found, sys.stdout, verbose=options.verbose)
    return found.exit_code


def _rules(options: argparse.Namespace) -> list[Settings]:
    """Load one set of rules, or the two that are compared; what is wrong with either is told in one go."""
    if not options.compare:
        return [settings(options.config, options.pack)]
    if options.config or options.pack:
        raise ConfigError("--compare names both sets of rules; leave out -c and --pack; nothing was judged")
    loaded: list[Settings] = []
    problems: list[Problem] = []
    for path in options.compare:
        try:
            loaded.append(load(path))
        except RuleErrors as error:
            problems += error.problems
    if problems:
        raise RuleErrors(problems)
    return loaded


def _compare(options: argparse.Namespace, a: Tally, b: Tally) -> int:
    from sentinel.comparison import compare, comparison_as_json
    from sentinel.comparison_report import print_comparison

    found = compare(a, b)
    if options.json:
        for line in comparison_as_json(found):
            print(json.dumps(line, allow_nan=False))
    else:
        before, after = options.compare
        print_comparison(found, (str(before), str(after)), sys.stdout)
    return found.exit_code
