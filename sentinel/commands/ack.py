"""`sentinel ack`: say that somebody has an alert in hand, so that it is not told again and again."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import sys

from sentinel.clock import SystemClock
from sentinel.commands.options import Commands, settings, user, wait_option, where, where_options


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser(
        "ack", help="say that somebody has an alert in hand; it is not repeated then"
    )
    parser.add_argument("run", help="the run's name, as `sentinel status` prints it")
    parser.add_argument("rule", help="the alert that fires, as `sentinel status` prints it")
    parser.add_argument("--why", default="", help="what is said with it in the alert's thread")
    parser.add_argument("--by", help="who has it; default: the user's name")
    wait_option(parser, "answer")
    where_options(parser)
    parser.set_defaults(function=ack)


def ack(options: argparse.Namespace) -> int:
    """Ask the running sentinel to note it."""
    from sentinel.inbox import Ack, ask

    chosen = settings(options.config)
    request = Ack(options.run, options.rule, options.by or user(), options.why)
    logdir, state = where(options, chosen)
    return ask(request, logdir, state, options.wait, SystemClock(), sys.stdout)
