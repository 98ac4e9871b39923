"""`sentinel check`: read the configuration and every rule; change nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from notifier.format import neutral
from rules.memory import TAG_BYTES, memory
from sentinel.commands.options import Commands
from sentinel.config import Settings, load


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser("check", help="read sentinel.toml and every rule; change nothing")
    parser.add_argument("config", type=Path, nargs="?", help="default: sentinel.toml")
    parser.set_defaults(function=check)


def check(options: argparse.Namespace) -> int:
    """Print what the configuration holds; its problems are raised."""
    path: Path = options.config or Path("sentinel.toml")
    settings = load(path)
    rules = [rule for rule in settings.rules.rules if rule.enabled]
    grave = sum(rule.severity in ("critical", "fatal") for rule in rules)
    fine = (
        f"{path}: fine. {len(rules)} rules ({grave} critical or fatal), "
        f"{len(settings.rules.metrics)} metrics, "
        f"{len(settings.rules.ladders)} ladders; mode {settings.mode}"
    )
    print(neutral(fine))
    print(f"  {_memory(settings)}")
    for line in _approvals(settings):
        print(neutral(f"  {line}"))
    return 0


def _approvals(settings: Settings) -> Iterator[str]:
    """Say who can answer what is asked before it is done."""
    ladders = settings.rules.ladders
    asking = [name for name, spec in ladders.items() if any(rung.approve for rung in spec.rungs)]
    slack = settings.service.notify.slack
    if slack is not None and slack.enabled and slack.listens and not slack.approvers:
        yield "[notify.slack] has no approvers: nobody can answer a question there"
    if not asking:
        return
    can = len(slack.approvers) if slack is not None and slack.enabled else 0
    there = f", and {can} people by buttons in Slack" if can else ""
    yield f"asked before it is done: {', '.join(asking)}; `sentinel approve` answers{there}"


def _memory(settings: Settings) -> str:
    held = memory(settings.program.rules, settings.program.metrics)
    per_tag = sum(points.usual for points in held.per_tag.values())
    return (
        f"memory of a run: windows of {held.points.usual:,} points where each step logs one, at most "
        f"{held.points.most:,} ({held.bytes() / 1e6:.0f} MB); for each tag {TAG_BYTES / 1e3:.0f} KB, and "
        f"{per_tag:,} points where every rule with `each` watches it"
    )
