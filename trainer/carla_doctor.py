"""`python -m trainer doctor --carla`: whether a CARLA server is fit to be trained on, as a table.

The one fact to hold: the checks run in a child (driving/carla_checks.py), each with a deadline, since a
client may hang or abort; what ends it is the finding of the check that was under way.
"""

from __future__ import annotations

import argparse
import json
import selectors
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from trainer.config import Config
from trainer.driving import carla_world

FIT, UNFIT, USAGE = 0, 1, 2
"""Exit codes."""

DEADLINE = 240.0
"""s for one check: a map may have to be loaded."""


@dataclass(frozen=True)
class Finding:
    """One check: its name, whether it passed, and what was found."""

    check: str
    passed: bool
    found: str


def main(arguments: Sequence[str]) -> int:
    """Check a server and print a table: 0 it is fit, 1 it is not, 2 nothing could be checked."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer doctor",
        description="Whether a CARLA server does what --env carla relies on. It must be nobody else's "
        "meanwhile: the map is loaded, cars are spawned and driven into one another.",
        epilog="exit codes: 0 fit, 1 a check failed, 2 no client is installed, or flags that do not fit",
    )
    parser.add_argument("--carla", action="store_true", required=True, help="check a CARLA server")
    helps = {option.name: (option.default, option.metadata["help"]) for option in fields(Config)}
    for name in ("carla_host", "carla_port", "tm_port", "town", "carla_timeout"):
        default, explanation = helps[name]
        flags = dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}"))
        parser.add_argument(
            *flags, dest=name, type=type(default), default=default, help=f"{explanation} (default {default})"
        )
    asked = parser.parse_args(arguments)
    if words := carla_world.missing():
        print(f"trainer: {words}", file=sys.stderr)
        return USAGE
    print(f"CARLA at {asked.carla_host}:{asked.carla_port}, town {asked.town}")
    task = {"host": asked.carla_host, "port": asked.carla_port, "tm_port": asked.tm_port}
    task |= {"town": asked.town, "timeout": asked.carla_timeout}
    command = [sys.executable, "-m", "trainer.driving.carla_checks"]
    passed = []
    for finding in examine([*command, json.dumps(task)]):
        passed.append(finding.passed)
        print(f"{'ok  ' if finding.passed else 'FAIL'}  {finding.check}: {finding.found}", flush=True)
    print(f"{sum(passed)} of {len(passed)} checks passed")
    return FIT if passed and all(passed) else UNFIT


def examine(command: Sequence[str], deadline: float = DEADLINE) -> Iterator[Finding]:
    """Run the checks' process and yield each finding; its end in mid-check is the last one."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    check = "starts"
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(deadline):
                    yield Finding(check, passed=False, found=f"no end within {deadline:g} s")
                    return
                line = process.stdout.readline()
                if not line:
                    break
                told = json.loads(line)
                if "begins" in told:
                    check = told["begins"]
                else:
                    passed = "passes" in told
                    yield Finding(check, passed=passed, found=told["passes" if passed else "fails"])
                    check = ""
        code = process.wait(10.0)
        if code:
            what = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            yield Finding(check or "ends", passed=False, found=f"the client's process ended {what}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
