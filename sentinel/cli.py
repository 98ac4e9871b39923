"""The `sentinel` command: one function a subcommand, one place that prints errors.

Exit codes, everywhere: 0 fine, 1 found or failed, 2 usage or configuration, 3 inconclusive, 4 state, 5 the
run is gone.
"""

# ruff: noqa: PLC0415  a command imports what it needs and no more: event files cost half a second

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from rules.source import RuleErrors
from sentinel.clock import SystemClock
from sentinel.config import Settings, load
from sentinel.errors import CommandError, ConfigError, SentinelError

_EPILOG = """\
exit codes: 0 fine, 1 found or failed, 2 usage or configuration, 3 inconclusive, 4 state, 5 the run is gone

first steps:
  sentinel replay runs/old                what the rules would have said of a recorded run; changes nothing
  sentinel run runs                       watch every run below runs/, tell, and touch nothing (mode observe)
  sentinel run --act runs                 the same, and ask the trainer to checkpoint, roll back or end
  sentinel run --act runs -- python -m trainer --logdir runs/a     start the job and watch it
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are printed here and nowhere else."""
    parser = _parser()
    arguments, child = _split(sys.argv[1:] if argv is None else list(argv))
    options = parser.parse_args(arguments)
    options.child = child
    if child and options.command != "run":
        parser.error("only `sentinel run` takes a command after --")
    try:
        act: Callable[[argparse.Namespace], int] = options.function
        return act(options)
    except RuleErrors as error:
        for problem in error.problems:
            print(problem.render(), file=sys.stderr)
        count = len(error.problems)
        print(
            f"sentinel: {count} problem{'s' if count > 1 else ''}; nothing was started or changed",
            file=sys.stderr,
        )
        return ConfigError.exit_code
    except SentinelError as error:
        print(f"sentinel: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def entry_point() -> None:
    """Be the console script."""
    sys.exit(main())


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part our own arguments from the child's, which begin after the first `--`."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sentinel",
        description="Watch training runs by their metrics; checkpoint, roll back or end them by rule.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sentinel {version('training-sentinel')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="watch runs as they train, beside a job or starting it (-- CMD …)")
    run.add_argument("logdir", type=Path, nargs="?", help="folder of runs; default: [run] logdir, else runs")
    _config_option(run)
    run.add_argument(
        "--act", action="store_true", help="send commands to the trainer; without it they are only told"
    )
    run.add_argument("--state", type=Path, help="folder of the sentinel's memory; default: [state] folder")
    run.set_defaults(function=_run)

    check = commands.add_parser("check", help="read sentinel.toml and every rule; change nothing")
    check.add_argument("config", type=Path, nargs="?", help="default: sentinel.toml")
    check.set_defaults(function=_check)

    replay = commands.add_parser(
        "replay", help="judge recorded runs: what would have fired, what would have been done"
    )
    replay.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="event files, run folders or trees of them"
    )
    replay.add_argument(
        "--pack", action="append", default=[], metavar="NAME", help="rules of a shipped pack; repeatable"
    )
    _config_option(replay)
    replay.add_argument("--json", action="store_true", help="one object a transition on standard output")
    replay.set_defaults(function=_replay)

    test = commands.add_parser("test", help="run scenario files: the rules' own tests; watch nothing")
    test.add_argument("paths", type=Path, nargs="+", metavar="FILE", help="scenario files or folders of them")
    test.set_defaults(function=_test)

    command = commands.add_parser("command", help="ask a trainer for something through its running sentinel")
    command.add_argument("run", help="the run's name, as `sentinel status` prints it")
    command.add_argument("verb", choices=("checkpoint", "rollback", "terminate"))
    command.add_argument(
        "--to", metavar="CHECKPOINT", help="rollback: name of the checkpoint; default: newest good one"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="rollback: a declared parameter; x0.3 scales",
    )
    command.add_argument(
        "--reinit", action="append", default=[], metavar="PART", help="rollback: give PART fresh weights"
    )
    command.add_argument(
        "--why", default="asked by hand", help="reason, kept in the journal and told to the trainer"
    )
    command.add_argument(
        "--wait", type=float, default=60.0, metavar="SECONDS", help="how long to wait for the outcome"
    )
    _where(command)
    command.set_defaults(function=_command)

    status = commands.add_parser("status", help="runs, alerts, commands and messages as the journal has them")
    status.add_argument("--json", action="store_true", help="one object on standard output")
    _where(status)
    status.set_defaults(function=_status)
    return parser


def _config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", type=Path, help="default: sentinel.toml if it is there, else the shipped packs"
    )


def _where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--logdir", type=Path, help="folder of runs the sentinel watches; default: [run] logdir, else runs"
    )
    _config_option(parser)
    parser.add_argument("--state", type=Path, help="folder of the sentinel's memory; default: [state] folder")


def _settings(config: Path | None, packs: Sequence[str] = ()) -> Settings:
    if config is None and not packs and Path("sentinel.toml").is_file():
        config = Path("sentinel.toml")
    return load(config, packs)


def _check(options: argparse.Namespace) -> int:
    path: Path = options.config or Path("sentinel.toml")
    settings = load(path)
    rules = [rule for rule in settings.rules.rules if rule.enabled]
    grave = sum(rule.severity in ("critical", "fatal") for rule in rules)
    print(
        f"{path}: fine. {len(rules)} rules ({grave} critical or fatal), "
        f"{len(settings.rules.metrics)} metrics, "
        f"{len(settings.rules.ladders)} ladders; mode {settings.mode}"
    )
    return 0


def _test(options: argparse.Namespace) -> int:
    from sentinel.scenarios import run_scenarios

    return run_scenarios(options.paths, sys.stdout)


def _replay(options: argparse.Namespace) -> int:
    from sentinel.replay import replay_paths, report, verdict

    settings = _settings(options.config, options.pack)
    outcomes = replay_paths(options.paths, settings)
    if options.json:
        for outcome in outcomes:
            for line in outcome.lines():
                print(json.dumps(line, allow_nan=False))
        return verdict(outcomes)
    return report(outcomes, sys.stdout)


def _run(options: argparse.Namespace) -> int:
    from sentinel.service import serve

    settings = _settings(options.config)
    return serve(
        settings,
        options.logdir or settings.logdir,
        state=options.state or settings.state_folder,
        act=options.act or settings.mode == "act",
        child=options.child,
        clock=SystemClock(),
    )


def _command(options: argparse.Namespace) -> int:
    from sentinel.inbox import Request, ask

    settings = _settings(options.config)
    changes = dict(_assignment(text) for text in options.set)
    if options.verb != "rollback" and (changes or options.to or options.reinit):
        raise CommandError(
            f"--to, --set and --reinit belong to a rollback, not to {options.verb}; nothing was asked"
        )
    request = Request(options.run, options.verb, options.to, changes, tuple(options.reinit), options.why)
    logdir = options.logdir or settings.logdir
    return ask(
        request, logdir, options.state or settings.state_folder, options.wait, SystemClock(), sys.stdout
    )


def _assignment(text: str) -> tuple[str, float | int | bool | str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CommandError(
            f"--set {text!r}: write NAME=VALUE, for example --set tau=0.005; nothing was asked"
        )
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _status(options: argparse.Namespace) -> int:
    from sentinel.status import print_status, read_status

    settings = _settings(options.config)
    status = read_status(options.logdir or settings.logdir, options.state or settings.state_folder)
    if options.json:
        print(json.dumps(status, indent=2, allow_nan=False))
    else:
        print_status(status, sys.stdout)
    return 0
