"""A real, very small training job: it counts steps, obeys by appending a line, and may be killed anywhere.

    python guarded_job.py RUN_DIR [--die-at N] [--stop POINT]

--die-at N: SIGKILL itself at the N-th file operation in the control folder after registering; an audit hook
counts, so the guard runs as it is. --stop registered|accepted|executed|done: print the word there and hang.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

try:
    from guard import Guard, Parameter  # the file alone, as a foreign job has it
except ImportError:
    from sentinel.guard import Guard, Parameter

parser = argparse.ArgumentParser()
parser.add_argument("run_dir", type=Path)
parser.add_argument("--die-at", type=int, default=-1)
parser.add_argument("--stop", default="")
parser.add_argument("--steps", type=int, default=1_000_000)
parser.add_argument("--ignore", action="store_true")
arguments = parser.parse_args()
operations = 0


def die_at(event: str, details: tuple[object, ...]) -> None:
    global operations  # noqa: PLW0603 - an audit hook has no other place to count
    if event in ("open", "os.rename", "os.remove", "os.listdir", "os.scandir") and "control" in str(
        details[:2]
    ):
        operations += 1
        if operations == arguments.die_at:
            os.kill(os.getpid(), signal.SIGKILL)


def pause_at(point: str) -> None:
    if arguments.stop == point:
        print(point, flush=True)
        while True:
            signal.pause()


guard = Guard(arguments.run_dir, parameters=[Parameter.number("lr", 0.1, low=0, high=1)])
print("registered", flush=True)
pause_at("registered")
if arguments.die_at >= 0:
    sys.addaudithook(die_at)
for step in range(arguments.steps):
    guard.beat(step, "update")
    command = guard.poll()
    time.sleep(0.0005)
    if command is None or arguments.ignore:
        continue
    pause_at("accepted")
    with (arguments.run_dir / "effects").open("a") as effects:
        effects.write(f"{command.id} {command.verb} {dict(command.set)}\n")
    pause_at("executed")
    guard.acknowledge(command, "done", step=step)
    pause_at("done")
    print("obeyed", command.id, flush=True)
    if command.verb == "terminate":
        guard.finish("terminated")
        break
