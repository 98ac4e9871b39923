"""What many runs cost: processor time and memory of one sentinel beside 1, 100 and 1,000 run folders.

    python -m benchmarks.scale [--runs 1 100 1000] [--busy 20] [--seconds 30]

Real processes: `sentinel run` with the shipped rules on a folder of recorded runs. First nobody logs; then up
to --busy of the runs log ten tags once a second each. Processor time is the kernel's count for the sentinel
(user and system), in percent of one core; memory is what is resident.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from sentinel.journal import Journal
from sentinel.state import JOURNAL
from tests.sentinel.event_files import scalar

TAGS = tuple(f"train/{name}" for name in ("loss", "actor_loss", "critic_loss", "q_mean", "lr"))
TAGS += tuple(f"rollout/{name}" for name in ("ep_rew_mean", "ep_len_mean", "fps", "entropy", "kl"))
POINTS = 200
"""Points of each tag that a run has logged before: an hour ago, so it is over."""

SETTLE = 12.0
"""Seconds from the last run that was taken up to the first measurement: more than a slow round."""


def write_runs(logdir: Path, runs: int) -> list[Path]:
    """Write the runs; returns their event files."""
    files = []
    for run in range(runs):
        begin = time.time() - 7200
        data = b"".join(
            scalar(tag, step, 1.0 + step % 7, begin + step) for step in range(POINTS) for tag in TAGS
        )
        path = logdir / f"run-{run:04d}" / f"events.out.tfevents.{int(begin)}.bench.1"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        files.append(path)
    return files


def spent(pid: int) -> float:
    """Return the processor time a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Return what a process holds in memory, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def settle(process: subprocess.Popen[bytes], state: Path, runs: int, log: Path) -> None:
    """Wait until the sentinel has taken up every run, and then for some rounds more.

    Raises:
        RuntimeError: it has ended.
    """
    while known(state) < runs:
        time.sleep(0.5)
        if process.poll() is not None:
            raise RuntimeError(f"the sentinel ended with {process.returncode}: {log.read_text()[-2000:]}")
    time.sleep(SETTLE)


def known(state: Path) -> int:
    """Count the runs that the sentinel has read to their end."""
    if not (state / JOURNAL).exists():
        return 0
    with closing(Journal(state / JOURNAL, read_only=True)) as journal:
        if not journal.rows("SELECT 1 FROM sqlite_master WHERE name = 'requests'"):
            return 0
        return len(journal.rows("SELECT 1 FROM runs WHERE phase = 'past'"))


def over(pid: int, seconds: float, files: list[Path], step: int) -> float:
    """Let `files` grow once a second for a while; returns percent of one core."""
    before, began = spent(pid), time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        now = time.time()
        for path in files:
            with path.open("ab") as file:
                file.write(b"".join(scalar(tag, step, 1.0 + step % 7, now) for tag in TAGS))
        step += 1
        time.sleep(min(1.0, left))
    return 100 * (spent(pid) - before) / (time.monotonic() - began)


def measure(runs: int, busy: int, seconds: float) -> str:
    """Measure one number of runs; returns the table's row."""
    with tempfile.TemporaryDirectory() as folder:
        logdir, state = Path(folder, "runs"), Path(folder, "state")
        files = write_runs(logdir, runs)
        command = [sys.executable, "-m", "sentinel", "run", "--state", str(state), str(logdir)]
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            settle(process, state, runs, Path(folder, "log"))
            took, memory = spent(process.pid), resident(process.pid)
            idle = over(process.pid, seconds, [], 0)
            at_work = over(process.pid, seconds, files[:busy], POINTS)
            held = resident(process.pid)
        finally:
            process.terminate()
            process.wait()
    return (
        f"{runs:6d} {took:10.1f} {idle:10.2f} {min(busy, runs):6d} {at_work:10.2f} {memory:8.0f} {held:8.0f}"
    )


def main() -> None:
    """Print one row for each number of runs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--busy", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    print("  runs  start CPU s  idle %   busy     busy %  MB idle  MB busy")
    for runs in options.runs:
        print(measure(runs, options.busy, options.seconds), flush=True)


if __name__ == "__main__":
    main()
