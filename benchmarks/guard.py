"""What the guard costs a training loop: poll() and beat() with nothing to do, against an empty method call.

    python benchmarks/guard.py [--calls N]

The aim is poll() <= 100 ns, its looks at clock and folder included. Absolute times depend on the machine and
on what else it does, so three times an empty call passes too. Rounds are interleaved, the least counts.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import repeat
from pathlib import Path
from statistics import median

from sentinel.guard import Guard, Parameter

TARGET_NS, TARGET_RATIO = 100.0, 3.0


class Empty:
    """The least that a method call can cost."""

    def call(self) -> None:
        return None


def nanoseconds(call: Callable[[], object], calls: int) -> float:
    """Time per call, the loop's own cost included."""
    started = time.perf_counter_ns()
    for _ in repeat(None, calls):
        call()
    return (time.perf_counter_ns() - started) / calls


def ring_to_poll(guard: Guard, rounds: int) -> float:
    """Median microseconds from a signal to this process until the next poll() has looked into the folder."""
    took = []
    for _ in range(rounds):
        started = time.perf_counter_ns()
        os.kill(os.getpid(), signal.SIGUSR2)
        guard.poll()
        took.append((time.perf_counter_ns() - started) / 1000)
    return median(took)


def main() -> int:
    """Print the table; exit 1 where poll() costs more than it may."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000, help="calls a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, interleaved (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        guard = Guard(Path(folder), parameters=[Parameter.number("lr", 1e-3, low=0, high=1)])
        empty = Empty()
        calls: dict[str, Callable[[], object]] = {
            "empty call": empty.call,
            "poll()": guard.poll,
            "beat()": partial(guard.beat, 1, "update"),
        }
        least = dict.fromkeys(calls, float("inf"))
        for _ in range(arguments.rounds):
            for name, call in calls.items():
                least[name] = min(least[name], nanoseconds(call, arguments.calls))
        print(f"{'call':<12} {'ns':>7} {'x empty':>8}")
        for name, ns in least.items():
            print(f"{name:<12} {ns:7.1f} {ns / least['empty call']:8.2f}")
        print(f"ring to the look into the folder: {ring_to_poll(guard, 2000):.0f} us (median)")
        guard.finish()
    within = least["poll()"] <= max(TARGET_NS, TARGET_RATIO * least["empty call"])
    print(f"poll() {'is within' if within else 'exceeds'} {TARGET_NS:.0f} ns or {TARGET_RATIO:g} empty calls")
    return 0 if within else 1


if __name__ == "__main__":
    raise SystemExit(main())
