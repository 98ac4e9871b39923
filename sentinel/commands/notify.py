"""`sentinel notify`: try the channels before they are needed."""

# ruff: noqa: PLC0415  imported where it is used

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from notifier.format import neutral
from sentinel.clock import SystemClock
from sentinel.commands.options import Commands, config_option, settings
from sentinel.errors import ConfigError

if TYPE_CHECKING:
    from sentinel.channel_tables import Channel
    from sentinel.rehearsal import Attempt

_ALL = ""


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser(
        "notify",
        help="send a sample of every kind of message, to see whether they arrive",
        epilog="exit codes: 0 all were delivered, 1 one was not, 2 a channel is unknown or cannot be opened",
    )
    parser.add_argument(
        "--test", nargs="?", const=_ALL, metavar="CHANNEL", help="send the samples; default: on every channel"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    parser.add_argument("--json", action="store_true", help="one object a line on standard output")
    config_option(parser)
    parser.set_defaults(function=notify)


def notify(options: argparse.Namespace) -> int:
    """Send or show the samples; see the exit codes above.

    Raises:
        ConfigError: nothing was asked for, or of a channel that is not configured.
    """
    if options.test is None and not options.dry_run:
        raise ConfigError(
            "notify: say --test [CHANNEL] to send samples, or --dry-run to see them; nothing was sent"
        )
    known = settings(options.config).service.notify.channels
    asked = options.test or _ALL
    if asked and asked not in known:
        names = ", ".join(known) or "none"
        raise ConfigError(f"no channel {asked!r} is configured (there are: {names}); nothing was sent")
    if not known:
        raise ConfigError("no channel is configured; nothing was sent")
    chosen = {asked: known[asked]} if asked else known
    return _show(chosen, as_json=options.json) if options.dry_run else _send(chosen, as_json=options.json)


def _show(channels: dict[str, Channel], *, as_json: bool) -> int:
    from sentinel.rehearsal import samples, shown

    for name, table in channels.items():
        for message in samples(name, table.at_least, SystemClock().wall()):
            if as_json:
                line = {"channel": name, "kind": message.kind, "would_send": shown(table, message)}
                print(json.dumps(line))
            else:
                print(f"── {name}: {message.kind}\n{shown(table, message)}\n")
    return 0


def _send(channels: dict[str, Channel], *, as_json: bool) -> int:
    from notifier.base import Permanent
    from sentinel.channels import open_channel
    from sentinel.rehearsal import Attempt, rehearse, samples

    code = 0
    for name, table in channels.items():
        try:
            notifier = open_channel(table)
        except Permanent as error:
            _tell(Attempt(name, "", error.reason), as_json=as_json)
            code = ConfigError.exit_code
            continue
        for attempt in rehearse(name, notifier, samples(name, table.at_least, SystemClock().wall())):
            _tell(attempt, as_json=as_json)
            if attempt.reason:
                code = max(code, 1)
    return code


def _tell(attempt: Attempt, *, as_json: bool) -> None:
    if as_json:
        line = {"channel": attempt.channel, "kind": attempt.kind, "delivered": not attempt.reason}
        print(json.dumps({**line, "reason": attempt.reason}), flush=True)
        return
    what = attempt.kind or "not opened"
    said = f"not delivered: {attempt.reason}" if attempt.reason else "delivered"
    said = attempt.reason if not attempt.kind else said
    stream = sys.stderr if attempt.reason else sys.stdout
    print(neutral(f"{attempt.channel}: {what}: {said}"), file=stream, flush=True)
