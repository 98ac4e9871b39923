"""`sentinel approve`: answer what the sentinel asks before it acts, or list what it asks."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import json
import sys

from sentinel.clock import SystemClock
from sentinel.commands.options import Commands, settings, user, wait_option, where, where_options
from sentinel.errors import ConfigError


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser(
        "approve", help="answer what is asked before it is done; without ID, list it"
    )
    parser.add_argument("id", nargs="?", type=int, metavar="ID", help="the question's number")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--hold", dest="choice", action="store_const", const="hold", help="leave it undone in this episode"
    )
    instead.add_argument(
        "--terminate",
        dest="choice",
        action="store_const",
        const="terminate",
        help="end the run instead",
    )
    instead.add_argument(
        "--silence",
        dest="choice",
        action="store_const",
        const="silence",
        help="leave it undone, and be told nothing of this alert for two hours",
    )
    parser.add_argument("--why", default="", help="kept in the journal, and told in the alert's thread")
    parser.add_argument("--by", help="who answers; default: the user's name")
    parser.add_argument("--json", action="store_true", help="the list as one object on standard output")
    wait_option(parser, "answer")
    where_options(parser)
    parser.set_defaults(function=approve, choice="act")


def approve(options: argparse.Namespace) -> int:
    """Put the answer into the running sentinel's inbox; or print the open questions."""
    from sentinel.inbox import Answer, ask
    from sentinel.question_table import as_json, exists, print_questions, read_questions

    chosen = settings(options.config)
    logdir, state = where(options, chosen)
    if options.id is None:
        if options.choice != "act":
            raise ConfigError(f"--{options.choice} answers a question; write its ID before it")
        found = read_questions(logdir, state)
        if options.json:
            print(json.dumps(as_json(found), indent=2))
        else:
            print_questions(found, SystemClock().wall(), sys.stdout)
        return 0
    if not exists(logdir, state, options.id):
        raise ConfigError(
            f"there is no question {options.id}; nothing was done. `sentinel approve` lists the open ones"
        )
    request = Answer(options.id, options.choice, options.by or user(), options.why)
    return ask(request, logdir, state, options.wait, SystemClock(), sys.stdout)
