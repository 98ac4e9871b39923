"""`sentinel explain`: why a rule fired in a recorded run, or why it did not."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.commands.options import Commands, config_option, pack_option, settings
from sentinel.errors import CommandError

if TYPE_CHECKING:
    from notifier.plot import Plot


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
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw its series into FILE, a PNG; needs matplotlib"
    )
    pack_option(parser)
    config_option(parser)
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.set_defaults(function=explain)


def explain(options: argparse.Namespace) -> int:
    """Print what there is to say; 0 whether it fired or not.

    Raises:
        CommandError: a plot was asked for and cannot be drawn or written; what there is to say was printed.
    """
    from sentinel.explain import explain_rule, plot_rule, print_explanation

    chosen = settings(options.config, options.pack)
    told = explain_rule(options.rule, options.run, chosen, options.at)
    print_explanation(told, sys.stdout, as_json_lines=options.json)
    if options.plot is not None:
        _write(options.plot, plot_rule(told, options.run, chosen))
    return 0


def _write(path: Path, plot: Plot | None) -> None:
    from notifier import picture

    if plot is None:
        raise CommandError("nothing that this rule names was logged; there is nothing to draw")
    if not picture.available():
        raise CommandError(f"{picture.LACKING}; nothing was drawn")
    try:
        path.write_bytes(picture.render(plot))
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}; the plot was not written") from None
