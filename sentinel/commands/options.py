"""Options that several commands share, and the settings they lead to."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from sentinel.config import Settings, load

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def config_option(parser: argparse.ArgumentParser) -> None:
    """Let a command be given a configuration file."""
    parser.add_argument(
        "-c", "--config", type=Path, help="default: sentinel.toml if it is there, else the shipped packs"
    )


def pack_option(parser: argparse.ArgumentParser) -> None:
    """Let a command be given packs, in place of a configuration or on top of one."""
    parser.add_argument(
        "--pack", action="append", default=[], metavar="NAME", help="rules of a shipped pack; repeatable"
    )


def where_options(parser: argparse.ArgumentParser) -> None:
    """Let a command be told which sentinel it is about."""
    parser.add_argument(
        "--logdir", type=Path, help="folder of runs the sentinel watches; default: [run] logdir, else runs"
    )
    config_option(parser)
    parser.add_argument("--state", type=Path, help="folder of the sentinel's memory; default: [state] folder")


def where(options: argparse.Namespace, chosen: Settings) -> tuple[Path, Path | None]:
    """Return the folder of runs and that of the sentinel's memory: as said, else as configured."""
    return options.logdir or chosen.logdir, options.state or chosen.state_folder


def wait_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Let a command that asks the running sentinel wait longer, or shorter, for its `what`."""
    parser.add_argument(
        "--wait", type=float, default=60.0, metavar="SECONDS", help=f"how long to wait for the {what}"
    )


def user() -> str:
    """Name who asks."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "somebody"


def settings(config: Path | None, packs: Sequence[str] = ()) -> Settings:
    """Load the configuration a command was given, or the one that lies in the current folder.

    Raises:
        ConfigError: the file cannot be read.
        RuleErrors: something in it is wrong.
    """
    if config is None and not packs and Path("sentinel.toml").is_file():
        config = Path("sentinel.toml")
    return load(config, packs)
