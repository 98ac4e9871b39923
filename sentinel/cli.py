"""The `sentinel` command: one function a subcommand, one place that prints errors.

Exit codes, everywhere: 0 fine, 1 found or failed, 2 usage or configuration, 3 inconclusive, 4 state, 5 the
run is gone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import NoReturn

from notifier.format import neutral
from rules.source import Problem, RuleErrors
from sentinel.commands import (
    ack,
    approve,
    check,
    doctor,
    explain,
    gate,
    init,
    lint,
    notify,
    replay,
    rules,
    run,
    schema,
    silence,
    status,
    systemd,
    test,
)
from sentinel.commands import command as command_
from sentinel.errors import ConfigError, SentinelError

_EPILOG = """\
exit codes: 0 fine, 1 found or failed, 2 usage or configuration, 3 inconclusive, 4 state, 5 the run is gone

first steps:
  sentinel init runs                      look at what is logged below runs/ and write a sentinel.toml for it
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
            print(_on_its_lines(problem).render(), file=sys.stderr)
        count = len(error.problems)
        print(
            f"sentinel: {count} problem{'s' if count > 1 else ''}; nothing was started or changed",
            file=sys.stderr,
        )
        return ConfigError.exit_code
    except SentinelError as error:
        print(neutral(f"sentinel: {error}"), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def entry_point() -> None:
    """Be the console script."""
    sys.exit(main())


def _on_its_lines(problem: Problem) -> Problem:
    """A problem whose parts act on no terminal and stay one line each, whatever they repeat of the file."""
    return replace(
        problem,
        where=neutral(problem.where),
        what=neutral(problem.what),
        hint=neutral(problem.hint),
        excerpt=neutral(problem.excerpt),
    )


class _Parser(argparse.ArgumentParser):
    """A parser whose errors repeat what was given, and by which nothing given acts on a terminal."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and end with 2."""
        super().error(neutral(message, lines=True))


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part our own arguments from the child's, which begin after the first `--`."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sentinel",
        description="Watch training runs by their metrics; checkpoint, roll back or end them by rule.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sentinel {version('training-sentinel')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    for command in (
        init,
        run,
        check,
        rules,
        schema,
        replay,
        explain,
        lint,
        gate,
        test,
        command_,
        silence,
        approve,
        ack,
        status,
        notify,
        doctor,
        systemd,
    ):
        command.add(commands)
    return parser
