"""`sentinel systemd`: a unit file for this sentinel, to standard output."""

# ruff: noqa: PLC0415  imported where it is used

from __future__ import annotations

import argparse
from pathlib import Path

from sentinel.commands.options import Commands, config_option


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser("systemd", help="print a systemd unit file (Type=notify, with a watchdog)")
    parser.add_argument("logdir", type=Path, nargs="?", help="folder of runs, as for `sentinel run`")
    config_option(parser)
    parser.add_argument("--act", action="store_true", help="as for `sentinel run`")
    parser.add_argument("--state", type=Path, help="as for `sentinel run`")
    parser.set_defaults(function=systemd)


def systemd(options: argparse.Namespace) -> int:
    """Print the unit file; nothing is installed."""
    from sentinel.systemd import unit

    arguments = ["--act"] if options.act else []
    if options.config is not None:
        arguments += ["--config", str(options.config.absolute())]
    if options.state is not None:
        arguments += ["--state", str(options.state.absolute())]
    if options.logdir is not None:
        arguments.append(str(options.logdir.absolute()))
    print(unit(arguments, Path.cwd()), end="")
    return 0
