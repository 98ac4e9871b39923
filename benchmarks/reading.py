"""Read event files and compare with what others read them with: `python -m benchmarks.reading [--events N]`.

Rivals are TensorBoard's EventAccumulator, its Rust data server (rustboard; only its loading, and without
checksums, as it comes; ours verifies them) and tbparse, where it is installed. All read the same files to the
same end, every scalar as numbers. They take turns, each time in a process of its own, and CPU time is
compared: ratios stay stable on a busy machine, where times do not. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import google_crc32c
from tensorboard.compat.proto.event_pb2 import Event

TAGS = [f"group{i % 5}/metric_{i:02d}" for i in range(50)]
T0 = 1.7e9
GOALS = {"simple": 15.0, "tensor": 25.0, "mixed": 40.0}
"""Times the speed of EventAccumulator, by kind of file."""
RUSTBOARD_GOAL = 0.8
"""Times the speed of rustboard's loading, on simple scalars."""
MEMORY_GOAL_MB = 60.0
ROUNDS = 3


def framed(data: bytes) -> bytes:
    """Return a TFRecord."""

    def checksum(part: bytes) -> bytes:
        crc = google_crc32c.value(part)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + checksum(length) + data + checksum(data)


def events(kind: str, count: int, seed: int = 0) -> Iterator[Event]:
    """Yield `count` events, 50 tags a step; `mixed` has 10 histograms a step and an image of 8 KB too."""
    draw = random.Random(seed)
    made = 0
    step = 0
    while made < count:
        step += 1
        for tag in TAGS:
            event = Event(wall_time=T0 + made / 1000, step=step)
            value = event.summary.value.add(tag=tag)
            if kind == "tensor":
                value.tensor.dtype = 1
                value.tensor.tensor_shape.SetInParent()
                value.tensor.tensor_content = struct.pack("<f", draw.random())
                value.metadata.plugin_data.plugin_name = "scalars"
            else:
                value.simple_value = draw.random()
            made += 1
            yield event
        for i in range(11 if kind == "mixed" else 0):
            event = Event(wall_time=T0 + made / 1000, step=step)
            value = event.summary.value.add(tag=f"weights/{i}")
            if i == 10:
                value.image.encoded_image_string = draw.randbytes(8192)
            else:
                value.histo.num = 1000
                value.histo.bucket_limit.extend(i / 64 for i in range(64))
                value.histo.bucket.extend(draw.random() for _ in range(64))
            made += 1
            yield event


def write(path: Path, kind: str, count: int) -> None:
    """Write an event file."""
    with path.open("wb") as out:
        out.write(framed(Event(wall_time=T0, file_version="brain.Event:2").SerializeToString()))
        for event in events(kind, count):
            out.write(framed(event.SerializeToString()))


def read_ours(path: Path) -> int:
    """Read by EventFile; return the number of samples."""
    from sentinel.events import EventFile  # noqa: PLC0415  a child loads only the reader it measures

    file = EventFile(path)
    samples = 0
    while True:
        batch = file.read()
        samples += len(batch.samples)
        assert not batch.damage
        if not batch.more:
            return samples


def read_tensorboard(path: Path) -> int:
    """Read by EventAccumulator, keeping every scalar, as a watchdog would have to; return their number."""
    from tensorboard.backend.event_processing.event_accumulator import (  # noqa: PLC0415  as above
        EventAccumulator,
    )
    from tensorboard.util.tensor_util import make_ndarray  # noqa: PLC0415  as above

    accumulator = EventAccumulator(str(path), {"scalars": 0, "tensors": 0, "histograms": 1, "images": 1})
    accumulator.Reload()
    tags = accumulator.Tags()
    samples = [
        (tag, e.step, e.wall_time, e.value) for tag in tags["scalars"] for e in accumulator.Scalars(tag)
    ]
    for tag in tags["tensors"]:
        samples += [
            (tag, e.step, e.wall_time, make_ndarray(e.tensor_proto).item()) for e in accumulator.Tensors(tag)
        ]
    return len(samples)


def read_tbparse(path: Path) -> int:
    """Read by tbparse into its data frame; return the number of rows."""
    from tbparse import SummaryReader  # noqa: PLC0415  as above

    reader = SummaryReader(str(path), event_types={"scalars", "tensors"})
    return len(reader.scalars) + len(reader.tensors)


READERS: dict[str, Callable[[Path], int]] = {
    "ours": read_ours,
    "EventAccumulator": read_tensorboard,
    "tbparse": read_tbparse,
}
RUSTBOARD = "rustboard (no crc)"


def memory_mb(field: str, pid: int | str = "self") -> float:
    """Return VmRSS or VmHWM of a process in MB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measure_here(reader: str, path: Path) -> None:
    """Read once in this process, and print what it took as JSON."""
    warm = path.with_name("warm")
    write(warm, "simple", 100)
    READERS[reader](warm)  # imports and first-time costs are the idle process, not the reading
    idle = memory_mb("VmRSS")
    began = time.process_time()
    samples = READERS[reader](path)
    seconds = time.process_time() - began
    print(json.dumps({"seconds": seconds, "samples": samples, "memory": memory_mb("VmHWM") - idle}))


def measure(reader: str, path: Path) -> dict[str, float]:
    """Read once in a process of its own: CPU seconds, samples, peak memory in MB above idle."""
    if reader == RUSTBOARD:
        return measure_rustboard(path)
    command = [sys.executable, "-m", "benchmarks.reading", "--child", reader, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_rustboard(path: Path) -> dict[str, float]:
    """Let TensorBoard's data server load the file's folder once; its samples are not counted by it."""
    from tensorboard_data_server import server_binary  # noqa: PLC0415  only here

    options = ["--reload", "once", "--port", "0", "--samples-per-plugin", "scalars=all", "-v"]
    command = [server_binary(), "--logdir", str(path.parent), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        for line in server.stderr:
            if "Finished load cycle" in line:
                break
        fields = Path(f"/proc/{server.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        memory = memory_mb("VmHWM", server.pid)
        server.terminate()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return {"seconds": seconds, "samples": math.nan, "memory": memory}


def rivals() -> list[str]:
    """Name the readers that are there to be compared with."""
    return ["EventAccumulator", RUSTBOARD, *(["tbparse"] if find_spec("tbparse") else [])]


def compare(folder: Path, kind: str, count: int) -> bool:
    """Print the table of one kind of file; say whether its goals were reached."""
    path = folder / kind / f"events.out.tfevents.1700000000.{kind}"
    path.parent.mkdir()
    write(path, kind, count)
    readers = ["ours", *rivals()]
    best: dict[str, dict[str, float]] = {}
    for _ in range(ROUNDS):
        for reader in readers:
            found = measure(reader, path)
            if reader not in best or found["seconds"] < best[reader]["seconds"]:
                best[reader] = found
    assert best["ours"]["samples"] == best["EventAccumulator"]["samples"], best
    goals = {"EventAccumulator": GOALS[kind]} | ({RUSTBOARD: RUSTBOARD_GOAL} if kind == "simple" else {})
    reached = True
    for reader in readers:
        found = best[reader]
        ratio = found["seconds"] / best["ours"]["seconds"]
        goal = goals.get(reader)
        missed = goal is not None and ratio < goal
        reached = reached and not missed
        told = "" if goal is None else f"goal {goal:g}x{'  MISSED' if missed else ''}"
        print(
            f"{kind:7} {path.stat().st_size / 1e6:6.1f}  {reader:18} {count / found['seconds'] / 1e6:8.3f} "
            f"{ratio:8.2f}x {found['memory']:8.1f}  {told}"
        )
    path.unlink()
    return reached


def main() -> int:
    """Print the table; 0 where every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=200_000, help="events of each file (default 200000)")
    parser.add_argument("--memory-events", type=int, default=1_000_000, help="events to measure memory by")
    parser.add_argument("--child", nargs=2, metavar=("READER", "PATH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure_here(arguments.child[0], Path(arguments.child[1]))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{'file':7} {'MB':>6}  {'reader':18} {'M/s CPU':>8} {'ours is':>9} {'peak MB':>8}")
        reached = [compare(folder, kind, arguments.events) for kind in GOALS]
        path = folder / "events.out.tfevents.1700000000.memory"
        write(path, "simple", arguments.memory_events)
        memory = measure("ours", path)["memory"]
    print(f"peak memory for {arguments.memory_events} events: {memory:.1f} MB, goal {MEMORY_GOAL_MB:.0f}")
    return 0 if all(reached) and memory < MEMORY_GOAL_MB else 1


if __name__ == "__main__":
    sys.exit(main())
