"""`sentinel rules`: list rules, and explain them."""

# ruff: noqa: PLC0415  imported where it is used: rich and the rule language cost a tenth of a second

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sentinel.commands.options import Commands, config_option


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser(
        "rules",
        help="list the rules, or explain those that are named",
        description="Without NAME: one line a rule. With NAME: its condition, parameters, metrics, what it "
        "means, what to try, and what is done rung by rung. The rules are those of the configuration, or of "
        "all shipped packs where there is none.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="td3/actor_q_high, or actor_q_high in whatever pack"
    )
    parser.add_argument(
        "--pack",
        action="append",
        default=[],
        metavar="PACK",
        help="the rules of this pack, whatever is configured; repeatable",
    )
    config_option(parser)
    parser.add_argument("--json", action="store_true", help="a list of objects on standard output")
    parser.set_defaults(function=rules)


def rules(options: argparse.Namespace) -> int:
    """Print the list or the explanations; 2 where a name fits nothing."""
    from sentinel.config import load
    from sentinel.rule_list import as_json, chosen, of_packs, of_settings, print_explained, print_list

    config: Path | None = options.config
    if config is None and not options.pack and Path("sentinel.toml").is_file():
        config = Path("sentinel.toml")
    found = of_settings(load(config)) if config is not None and not options.pack else of_packs(options.pack)
    if options.names:
        found = chosen(options.names, found)
    if options.json:
        print(as_json(found))
    elif options.names:
        print_explained(found, sys.stdout)
    else:
        print_list(found, sys.stdout)
    return 0
