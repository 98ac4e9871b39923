"""`sentinel silence`: tell nobody of some alerts for a while, list what is silent, end it early."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import json
import math
import sys
from datetime import datetime, timedelta
from pathlib import Path

from notifier.format import neutral, utc
from sentinel.clock import SystemClock
from sentinel.commands.options import Commands, settings, user, wait_option, where, where_options
from sentinel.errors import ConfigError, RunGoneError


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser(
        "silence",
        help="tell nobody of some alerts for a while; they are judged and recorded all the same",
        epilog="what is silent at its end and still fires is told then; ladders go on unless --actions",
    )
    parser.add_argument("run", nargs="?", help="the run's name, or a glob over names: 'prod/*'")
    parser.add_argument("rule", nargs="?", default="*", help="the rule's name, or a glob; default: all")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--for", dest="length", metavar="TIME", help="for how long: 30m, 2h, 1d")
    end.add_argument("--until", metavar="WHEN", help="until 18:30, or 2026-11-24T08:00; local time")
    parser.add_argument("--why", help="reason, shown wherever the silence is")
    parser.add_argument("--by", help="who asks; default: the user's name")
    parser.add_argument("--actions", action="store_true", help="let the ladders of these alerts rest too")
    parser.add_argument("--list", action="store_true", help="list the silences in force, and ask nothing")
    parser.add_argument("--json", action="store_true", help="with --list: one object on standard output")
    parser.add_argument("--expire", type=int, metavar="ID", help="end the silence of this number now")
    wait_option(parser, "answer")
    where_options(parser)
    parser.set_defaults(function=silence)


def silence(options: argparse.Namespace) -> int:
    """Ask the running sentinel, or list what it has.

    Raises:
        ConfigError: what was asked makes no sense; nothing was done.
    """
    from sentinel.inbox import Expire, Request, Silence, ask

    chosen = settings(options.config)
    logdir, state = where(options, chosen)
    clock = SystemClock()
    if options.list:
        return _list(logdir, state, clock.wall(), as_json=options.json)
    who = options.by or user()
    request: Request
    if options.expire is not None:
        request = Expire(options.expire, who)
    else:
        if not options.run:
            raise ConfigError("silence: name a run, or --list, or --expire ID; nothing was done")
        if not options.why or not options.why.strip():
            raise ConfigError("silence: say --why; who is not told wants to know that; nothing was done")
        ends = _ends(options.length, options.until, clock.wall())
        request = Silence(options.run, ends, who, options.why, options.rule, options.actions)
    return ask(request, logdir, state, options.wait, clock, sys.stdout)


def _ends(length: str | None, until: str | None, now: float) -> float:
    from rules.schema import Span

    if until is not None:
        return _moment(until, now)
    try:
        span = Span.parse(length)
    except ValueError:
        span = None
    if span is None or span.unit != "seconds" or not 0 < span.amount < math.inf:
        raise ConfigError(
            f"silence: say for how long, --for 30m or 2h, or --until 18:30; not {length!r}. Nothing was done"
        )
    return now + span.amount


def _moment(text: str, now: float) -> float:
    """Read a local time, `18:30` being the next one."""
    today = datetime.fromtimestamp(now)  # noqa: DTZ006  the user's own clock on the wall
    try:
        if "T" not in text and "-" not in text:
            clock = datetime.strptime(text, "%H:%M")  # noqa: DTZ007  as above
            at = today.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
            return (at if at > today else at + timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        pass  # raised below, so that nothing hangs on it
    raise ConfigError(f"silence: --until {text!r}: write 18:30 or 2026-11-24T08:00; nothing was done")


def _list(logdir: Path, state: Path | None, now: float, *, as_json: bool) -> int:
    from contextlib import closing
    from dataclasses import asdict

    from sentinel.journal import Journal
    from sentinel.silences import Silences
    from sentinel.state import JOURNAL, state_folder

    path = state_folder(logdir, state) / JOURNAL
    if not path.is_file():
        raise RunGoneError(f"{logdir}: no sentinel has watched it (no {path})")
    with closing(Journal(path, read_only=True)) as journal:
        found = Silences(journal).active(now)
    if as_json:
        print(json.dumps({"silences": [asdict(each) for each in found]}, indent=2))
        return 0
    for each in found:
        actions = ", its ladders rest" if each.actions else ""
        line = f"{each.id}  {each.run} {each.rule}  until {utc(each.ends)}{actions}  {each.who}: {each.why}"
        print(neutral(line))
    if not found:
        print("nothing is silent")
    return 0
