"""`sentinel command`: ask a trainer for something through its running sentinel."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import sys

from sentinel.clock import SystemClock
from sentinel.commands.options import Commands, settings, wait_option, where, where_options
from sentinel.errors import CommandError


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser("command", help="ask a trainer for something through its running sentinel")
    parser.add_argument("run", help="the run's name, as `sentinel status` prints it")
    parser.add_argument("verb", choices=("checkpoint", "rollback", "terminate"))
    parser.add_argument(
        "--to", metavar="CHECKPOINT", help="rollback: name of the checkpoint; default: newest good one"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="rollback: a declared parameter; x0.3 scales",
    )
    parser.add_argument(
        "--reinit", action="append", default=[], metavar="PART", help="rollback: give PART fresh weights"
    )
    parser.add_argument(
        "--why", default="asked by hand", help="reason, kept in the journal and told to the trainer"
    )
    wait_option(parser, "outcome")
    where_options(parser)
    parser.set_defaults(function=command)


def command(options: argparse.Namespace) -> int:
    """Put the request into the sentinel's inbox and wait for what becomes of it."""
    from sentinel.inbox import Command, ask

    chosen = settings(options.config)
    changes = dict(_assignment(text) for text in options.set)
    if options.verb != "rollback" and (changes or options.to or options.reinit):
        raise CommandError(
            f"--to, --set and --reinit belong to a rollback, not to {options.verb}; nothing was asked"
        )
    request = Command(options.run, options.verb, options.to, changes, tuple(options.reinit), options.why)
    logdir, state = where(options, chosen)
    return ask(request, logdir, state, options.wait, SystemClock(), sys.stdout)


def _assignment(text: str) -> tuple[str, float | int | bool | str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CommandError(
            f"--set {text!r}: write NAME=VALUE, for example --set tau=0.005; nothing was asked"
        )
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value
