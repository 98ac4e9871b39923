"""`sentinel explain`: why a rule fired in a recorded run, or why it did not."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sentinel.commands.options import Commands, config_option, pack_option, settings


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser(
        "explain",
        help="why a rule fired in a recorded run, or why it did not",
        description="Take a rule apart in a recorded run: what its names are there, the value of every "
        "part of its condition at one step, how full its windows were, and its whole history in the run.",
    )
    parser.add_argument(
        "rule", metavar="RULE", help="td3/actor_q_high, actor_q_high, or one instance: rule[part]"
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run, or one event file")
    parser.add_argument(
        "--at",
        type=int,
        metavar="STEP",
        help="step on the rule's own axis; default: its first firing, else the run's end",
    )
    pack_option(parser)
    config_option(parser)
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.set_defaults(function=explain)


def explain(options: argparse.Namespace) -> int:
    """Print what there is to say; 0 whether it fired or not."""
    from sentinel.explain import explain_rule, print_explanation

    told = explain_rule(options.rule, options.run, settings(options.config, options.pack), options.at)
    print_explanation(told, sys.stdout, as_json_lines=options.json)
    return 0
