"""Read event files and compare with EventAccumulator: `python -m benchmarks.reading [--events N]`.

Both read the same files to the same end, every scalar as numbers, with checksums verified. They take turns,
each time in a process of its own, and CPU time is compared: ratios stay stable on a busy machine, where times
do not. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import google_crc32c
from tensorboard.compat.proto.event_pb2 import Event

TAGS = [f"group{i % 5}/metric_{i:02d}" for i in range(50)]
T0 = 1.7e9
GOALS = {"simple": 15.0, "tensor": 25.0, "mixed": 40.0}
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


READERS: dict[str, Callable[[Path], int]] = {"ours": read_ours, "tensorboard": read_tensorboard}


def memory_mb(field: str) -> float:
    """Return VmRSS or VmHWM of this process in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
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
    command = [sys.executable, "-m", "benchmarks.reading", "--child", reader, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(folder: Path, kind: str, count: int) -> bool:
    """Print one line of the table; say whether its goal was reached."""
    path = folder / f"events.out.tfevents.1700000000.{kind}"
    write(path, kind, count)
    ours = theirs = None
    for _ in range(ROUNDS):
        mine, other = measure("ours", path), measure("tensorboard", path)
        assert mine["samples"] == other["samples"], (mine, other)
        ours = mine if ours is None or mine["seconds"] < ours["seconds"] else ours
        theirs = other if theirs is None or other["seconds"] < theirs["seconds"] else theirs
    assert ours is not None
    assert theirs is not None
    ratio = theirs["seconds"] / ours["seconds"]
    reached = ratio >= GOALS[kind]
    rates = [count / found["seconds"] / 1e6 for found in (ours, theirs)]
    print(
        f"{kind:8} {path.stat().st_size / 1e6:7.1f} {rates[0]:10.3f} {rates[1]:12.3f} {ratio:7.1f}x "
        f"{GOALS[kind]:5.0f}x {ours['memory']:9.1f} {theirs['memory']:9.1f}  {'' if reached else 'MISSED'}"
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
        print("file          MB  ours M/s  tensorbd M/s   ratio   goal   ours MB   tbd MB")
        reached = [compare(folder, kind, arguments.events) for kind in GOALS]
        path = folder / "events.out.tfevents.1700000000.memory"
        write(path, "simple", arguments.memory_events)
        memory = measure("ours", path)["memory"]
    print(f"peak memory for {arguments.memory_events} events: {memory:.1f} MB, goal {MEMORY_GOAL_MB:.0f}")
    return 0 if all(reached) and memory < MEMORY_GOAL_MB else 1


if __name__ == "__main__":
    sys.exit(main())
