"""`sentinel schema`: the JSON Schema by which an editor completes TOML, or a receiver checks a message."""

# ruff: noqa: PLC0415  imported where it is used

from __future__ import annotations

import argparse
import json

from sentinel.commands.options import Commands


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser(
        "schema",
        help="print the JSON Schema of sentinel.toml, rule files, rule tests or a webhook's body",
        epilog="Save it, and begin the TOML file with the line `#:schema ./sentinel.schema.json`.",
    )
    parser.add_argument(
        "kind",
        choices=("sentinel", "rules", "tests", "message"),
        nargs="?",
        default="sentinel",
        help="default: sentinel",
    )
    parser.set_defaults(function=schema)


def schema(options: argparse.Namespace) -> int:
    """Print the schema on standard output."""
    from notifier import webhook
    from sentinel.json_schema import rules_schema, scenario_schema, sentinel_schema

    made = {
        "sentinel": sentinel_schema,
        "rules": rules_schema,
        "tests": scenario_schema,
        "message": webhook.schema,
    }
    print(json.dumps(made[options.kind](), indent=2))
    return 0
