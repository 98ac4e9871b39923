"""`sentinel init`: look at a folder of runs and write the sentinel.toml to begin with."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from notifier.format import neutral
from sentinel.commands.options import Commands
from sentinel.errors import ConfigError


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser(
        "init",
        help="look at a folder of runs and write a commented sentinel.toml for it",
        description="Recognise framework and algorithm by the tags that are logged, and write a "
        "sentinel.toml with the packs that apply; rules that cannot work are listed with the tags that would "
        "enable them.",
    )
    parser.add_argument("logdir", type=Path, help="folder of runs, with event files somewhere below it")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("sentinel.toml"), help="default: sentinel.toml; - prints it"
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.set_defaults(function=init)


def init(options: argparse.Namespace) -> int:
    """Write the file; one that is there is left alone.

    Raises:
        ConfigError: the file is there, or cannot be written.
        RunGoneError: there is no event file below the folder.
    """
    from sentinel.starter import compose, survey

    output: Path = options.output
    if str(output) != "-" and output.exists() and not options.force:
        raise ConfigError(
            f"{output} is there already, and was left as it is; --force replaces it, -o - prints"
        )
    found = survey(options.logdir)
    text = compose(found)
    if str(output) == "-":
        print(text, end="")
        return 0
    _write(output, text)
    runs = f"{len(found.runs)} run{'' if len(found.runs) == 1 else 's'}"
    included = ", ".join(f"pack:{pack}" for pack in found.packs)
    print(neutral(f"{output}: written for {runs}, with {included}."))
    configured = "" if output == Path("sentinel.toml") else f" -c {output}"
    checked = f" {output}" if configured else ""
    print(neutral(f"Next: sentinel check{checked}"), file=sys.stderr)
    print(neutral(f"      sentinel replay{configured} {options.logdir}"), file=sys.stderr)
    return 0


def _write(path: Path, text: str) -> None:
    """Write it whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"{path}: {error.strerror}; nothing was written") from error
