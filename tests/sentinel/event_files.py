"""Event files for tests, framed and read independently of the code under test."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.util import tensor_util

from rules.series import Sample

DATA = Path(__file__).parents[1] / "data"
GOLDEN = sorted(DATA.glob("events.out.tfevents.*"))
T0 = 1_700_000_000.0


def checksum(data: bytes) -> bytes:
    """Return the masked crc32c, by the formula of the format's description."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def header(length: int) -> bytes:
    """Return a record's header with a right checksum."""
    stated = struct.pack("<Q", length)
    return stated + checksum(stated)


def record(data: bytes) -> bytes:
    """Return a whole record."""
    return header(len(data)) + data + checksum(data)


def scalar(tag: str = "loss", step: int = 1, value: float = 0.5, wall: float = T0) -> bytes:
    """Return the record of one simple value."""
    event = Event(wall_time=wall, step=step)
    event.summary.value.add(tag=tag, simple_value=value)
    return record(event.SerializeToString())


def frames(content: bytes) -> list[tuple[int, int]]:
    """Return (begin, end) of each record of an undamaged file."""
    found, at = [], 0
    while at < len(content):
        end = at + 16 + struct.unpack_from("<Q", content, at)[0]
        found.append((at, end))
        at = end
    return found


def samples_of(data: bytes) -> Iterator[Sample]:
    """Yield the scalars of one event by protobuf and TensorBoard's own tensor code."""
    event = Event.FromString(data)
    for value in event.summary.value:
        if value.WhichOneof("value") == "simple_value":
            yield value.tag, event.step, event.wall_time, value.simple_value
        elif value.WhichOneof("value") == "tensor" and value.metadata.plugin_data.plugin_name in (
            "",
            "scalars",
        ):
            array = tensor_util.make_ndarray(value.tensor)
            if array.size == 1 and array.dtype.kind in "fiub":
                yield value.tag, event.step, event.wall_time, float(array.item())


def expected(content: bytes) -> list[Sample]:
    """Return the scalars of an undamaged file."""
    return [s for begin, end in frames(content) for s in samples_of(content[begin + 12 : end - 4])]


def same(found: list[Sample], wanted: list[Sample]) -> bool:
    """Compare samples to the last bit; NaN equals NaN."""
    return [(t, s, w, struct.pack("<d", v)) for t, s, w, v in found] == [
        (t, s, w, struct.pack("<d", v)) for t, s, w, v in wanted
    ]
