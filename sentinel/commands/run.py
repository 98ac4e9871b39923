"""`sentinel run`: watch runs as they train."""

# ruff: noqa: PLC0415  imported where it is used: event files cost half a second

from __future__ import annotations

import argparse
from pathlib import Path

from sentinel.clock import AwakeClock, SystemClock
from sentinel.commands.options import Commands, config_option, settings


def add(commands: Commands) -> None:
    """Say how the command is called."""
    parser = commands.add_parser(
        "run", help="watch runs as they train, beside a job or starting it (-- CMD …)"
    )
    parser.add_argument(
        "logdir", type=Path, nargs="?", help="folder of runs; default: [run] logdir, else runs"
    )
    config_option(parser)
    parser.add_argument(
        "--act", action="store_true", help="send commands to the trainer; without it they are only told"
    )
    parser.add_argument(
        "--gate",
        action="append",
        default=[],
        metavar="NAME",
        help="hold the runs against a gate, or several (a,b); with --act a failed one ends the training",
    )
    parser.add_argument("--state", type=Path, help="folder of the sentinel's memory; default: [state] folder")
    parser.add_argument(
        "--pid",
        action="append",
        default=[],
        metavar="[RUN=]PID",
        help="the process that trains a run, where neither guard nor event file tells; repeatable",
    )
    parser.set_defaults(function=run)


def run(options: argparse.Namespace) -> int:
    """Watch until told to stop, or until the child has ended."""
    from sentinel.attachment import named_processes
    from sentinel.gate_watch import GatePlan
    from sentinel.service import serve
    from sentinel.watcher import Plan

    named = named_processes(options.pid)

    def read() -> Plan:
        chosen = settings(options.config)
        act = options.act or chosen.mode == "act"
        return Plan(chosen, act, GatePlan.of(chosen, options.gate), named)

    plan = read()
    return serve(
        plan,
        options.logdir or plan.settings.logdir,
        state=options.state or plan.settings.state_folder,
        child=options.child,
        clock=AwakeClock(SystemClock()),
        reload=read,
    )
