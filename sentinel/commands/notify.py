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
    from sentinel.config import Settings
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
    parser.add_argument(
        "--route",
        nargs=3,
        metavar=("RUN", "RULE", "SEVERITY"),
        help="print which channels would be told, and why not the others",
    )
    parser.add_argument("--json", action="store_true", help="one object a line on standard output")
    config_option(parser)
    parser.set_defaults(function=notify)


def notify(options: argparse.Namespace) -> int:
    """Send or show the samples; see the exit codes above.

    Raises:
        ConfigError: nothing was asked for, or of a channel that is not configured.
    """
    if options.route is not None:
        return _route(settings(options.config), *options.route, as_json=options.json)
    if options.test is None and not options.dry_run:
        raise ConfigError(
            "notify: say --test [CHANNEL] to send samples, --dry-run to see them, or --route RUN RULE "
            "SEVERITY; nothing was sent"
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


def _route(chosen: Settings, run: str, rule: str, severity: str, *, as_json: bool) -> int:
    from notifier.message import SEVERITIES, Message
    from notifier.route import why_not

    if severity not in SEVERITIES:
        raise ConfigError(f"notify: {severity!r} is none of {', '.join(SEVERITIES)}; nothing was looked up")
    labels = chosen.labels(run, rule)
    message = Message("route", "route", "opened", severity, run, rule, rule, "", 0.0, labels=labels)
    if not as_json:
        named = ", ".join(f"{name}={value}" for name, value in sorted(labels.items())) or "none"
        print(neutral(f"{severity} {run} {rule}; labels: {named}"))
    for route in chosen.routes:
        reason = why_not(route, message)
        if as_json:
            print(
                json.dumps({"channel": route.channel, "told": not reason, "reason": reason, "labels": labels})
            )
        else:
            print(neutral(f"{route.channel}: {f'not told: {reason}' if reason else 'told'}"))
    return 0


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
        print(json.dumps({**line, "reason": attempt.reason, "no_plot": attempt.no_plot}), flush=True)
        return
    what = attempt.kind or "not opened"
    said = f"not delivered: {attempt.reason}" if attempt.reason else "delivered"
    said = attempt.reason if not attempt.kind else said
    said += f"; without its plot: {attempt.no_plot}" if attempt.no_plot else ""
    stream = sys.stderr if attempt.reason else sys.stdout
    print(neutral(f"{attempt.channel}: {what}: {said}"), file=stream, flush=True)
