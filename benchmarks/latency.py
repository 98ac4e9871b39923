"""How fast the straight line is, and what it costs the training: three measurements with real processes.

    python -m benchmarks.latency                   about four minutes on two cores
    python -m benchmarks.latency --only line       breach to the handler in the job

A rule judges a tick when the point after it comes (or after two seconds without one), so the line is timed
from that point; from the breach itself it is one logging interval more. The overhead compares the same
training with and without a sentinel, interleaved, by wall time and by the processor time of the trainer
alone, since the sentinel has a core of its own on a machine that is worth training on.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles

from rich.console import Console
from rich.table import Table
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from benchmarks.trainings import start_sentinel, stop
from sentinel.guard import Guard
from sentinel.tail import RunTail
from sentinel.wakeup import Wakeup

RULES = """\
version = 1
mode = "act"
[metrics]
loss = ["train/loss"]
[[rule]]
name = "loss_high"
expr = "loss > 10"
severity = "critical"
ladder = "save"
[ladders.save]
rungs = [{ do = ["checkpoint"] }]
[limits]
max_actions_per_hour = 1000000
[notify.console]
enabled = false
"""
PACE = 0.05
STEPS = 3000
ROOT = Path(__file__).parents[1]


class Log:
    """An event file of one scalar."""

    def __init__(self, folder: Path) -> None:
        self._writer = EventFileWriter(str(folder))
        self.step = 0

    def add(self, value: float) -> float:
        """Log and flush a point; returns when that began, on the monotonic clock."""
        self.step += 1
        event = Event(wall_time=time.time(), step=self.step)
        event.summary.value.add(tag="train/loss", simple_value=value)
        began = time.monotonic()
        self._writer.add_event(event)
        self._writer.flush()
        return began

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def line(folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Time breaches in seconds, from the point that closes the tick: to the handler, and to poll()."""
    run = folder / "runs" / "a"
    run.mkdir(parents=True)
    config = folder / "sentinel.toml"
    config.write_text(RULES)
    guard = Guard(run)
    log = Log(run)
    rung: list[float] = []
    there = signal.getsignal(signal.SIGUSR2)
    assert callable(there)

    def handler(signum: int, frame: object) -> None:
        rung.append(time.monotonic())
        there(signum, frame)  # type: ignore[arg-type]  # the guard's own handler ignores the frame

    signal.signal(signal.SIGUSR2, handler)
    sentinel = start_sentinel(folder / "runs", folder / "state", config)
    to_handler, to_poll = [], []
    try:
        _wait((run / "control" / "sentinel.json").exists, log, guard)
        for _ in range(rounds):
            rung.clear()
            log.add(100.0)
            time.sleep(PACE)
            began = log.add(1.0)
            deadline = began + 10
            while (command := guard.poll()) is None and time.monotonic() < deadline:
                time.sleep(0.0002)
            if command is None or not rung:
                raise SystemExit("no command within ten seconds: the line is broken")
            to_handler.append(rung[0] - began)
            to_poll.append(time.monotonic() - began)
            guard.acknowledge(command, "done", step=log.step)
            _train(log, guard, 6)
    finally:
        stop(sentinel)
        guard.finish()
        log.close()
    return to_handler, to_poll


def _wait(ready: Callable[[], bool], log: Log, guard: Guard) -> None:
    deadline = time.monotonic() + 30
    while not ready() and time.monotonic() < deadline:
        _train(log, guard, 1)
    _train(log, guard, 20)


def _train(log: Log, guard: Guard, steps: int) -> None:
    """Healthy points at the pace, so that the alert resolves and what was asked is settled."""
    for _ in range(steps):
        log.add(1.0)
        guard.beat(log.step)
        guard.poll()
        time.sleep(PACE)


def parsed(folder: Path, rounds: int) -> list[float]:
    """Time points from their flush to the moment at which the tail has them as samples, in seconds."""
    run = folder / "a"
    run.mkdir(parents=True)
    log = Log(run)
    log.add(1.0)
    files = sorted(run.glob("*tfevents*"))
    wakeup, tail = Wakeup(folder), RunTail(run)
    seen: dict[int, float] = {}
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            wakeup.wait(0.5)
            for chunk in tail.read(files)[0]:
                seen.update((step, time.monotonic()) for _, step, _, _ in chunk.samples)

    reader = threading.Thread(target=read)
    reader.start()
    begun = {}
    for _ in range(rounds):
        time.sleep(PACE / 5)
        at = log.add(1.0)
        begun[log.step] = at
    time.sleep(1.0)
    over.set()
    wakeup.ring()
    reader.join()
    wakeup.close()
    log.close()
    return [seen[step] - at for step, at in begun.items() if step in seen]


def overhead(folder: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Train alternately with and without a sentinel; (wall, processor) seconds of each training."""
    found: dict[str, list[tuple[float, float]]] = {"alone": [], "watched": []}
    for number in range(rounds):
        order = ("alone", "watched") if number % 2 else ("watched", "alone")
        for how in order:
            here = folder / f"{number}-{how}"
            (here / "runs").mkdir(parents=True)
            sentinel = (
                start_sentinel(here / "runs", here / "state", ROOT / "sentinel.toml", "--act")
                if how == "watched"
                else None
            )
            try:
                found[how].append(_timed(here / "runs" / "a"))
            finally:
                if sentinel is not None:
                    stop(sentinel)
    return found


def _timed(run: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "trainer", "--logdir", str(run), "--max_timesteps", str(STEPS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, "--npcs", "0", "--eval_freq", "0"], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the training ended with {process.returncode}")
    return time.monotonic() - began, used.ru_utime + used.ru_stime


def _row(table: Table, what: str, seconds: Sequence[float]) -> None:
    cuts = quantiles(seconds, n=100)
    table.add_row(
        what,
        str(len(seconds)),
        *(f"{1000 * cut:.1f}" for cut in (cuts[49], cuts[98])),
        f"{1000 * max(seconds):.1f}",
    )


def main() -> int:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200, help="breaches, and ten times as many points")
    parser.add_argument("--trainings", type=int, default=4, help="pairs of trainings")
    parser.add_argument("--only", choices=("line", "overhead"))
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only != "overhead":
            table = Table("ms", "n", "p50", "p99", "max")
            _row(table, "flush to parsed", parsed(folder / "parsed", 10 * options.rounds))
            to_handler, to_poll = line(folder / "line", options.rounds)
            _row(table, "closing point to the handler in the job", to_handler)
            _row(table, "closing point to poll()", to_poll)
            console.print(table)
        if options.only != "line":
            _print_overhead(console, overhead(folder / "overhead", options.trainings))
    return 0


def _print_overhead(console: Console, found: dict[str, list[tuple[float, float]]]) -> None:
    table = Table(f"{STEPS} steps, seconds", "alone", "watched", "median of the pairs' ratios")
    for column, what in enumerate(("wall time", "processor time of the trainer")):
        alone, watched = ([times[column] for times in found[how]] for how in ("alone", "watched"))
        ratio = median(w / a for w, a in zip(watched, alone, strict=True)) - 1
        table.add_row(what, f"{median(alone):.2f}", f"{median(watched):.2f}", f"{ratio:+.1%}")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
