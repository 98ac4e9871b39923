"""Templates: faster than protobuf, and never of another opinion."""

from __future__ import annotations

import math
import struct

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.util import tensor_util

from rules.series import Sample
from sentinel.templates import Templates
from tests.sentinel.event_files import T0, expected, record, same, samples_of, scalar

steps = st.one_of(
    st.integers(0, 300), st.sampled_from([0, 127, 128, 16383, 16384, 2**21, 2**63 - 1, -1, -(2**63)])
)
tags = st.sampled_from(["a", "ab", "abc", "loss/x", "\x10\x01", "é", ""])
numbers = st.floats(width=32) | st.sampled_from([0.0, -0.0, 0.5, 0.25, 1.0])


def event(tag: str, step: int, wall: float, value: float, kind: str) -> bytes:
    made = Event(wall_time=wall, step=step)
    summary = made.summary.value.add(tag=tag)
    if kind == "simple":
        summary.simple_value = value
    else:
        dtype, content = kind.split()
        number = int(value) % 100 if dtype.startswith("int") and math.isfinite(value) else value
        number = 7 if dtype.startswith("int") and not math.isfinite(number) else number
        tensor = tensor_util.make_tensor_proto(number, dtype=dtype)
        if content == "content":
            array = tensor_util.make_ndarray(tensor)
            for name in ("float_val", "double_val", "half_val", "int_val", "int64_val"):
                tensor.ClearField(name)
            tensor.tensor_content = array.tobytes()
        summary.tensor.CopyFrom(tensor)
        summary.metadata.plugin_data.plugin_name = "scalars"
    return bytes(made.SerializeToString())


kinds = st.sampled_from(
    [
        "simple",
        "float32 val",
        "float32 content",
        "float64 val",
        "float64 content",
        "int32 val",
        "int64 content",
    ]
)
events = st.builds(event, tags, steps, st.sampled_from([0.0, 1.7e9, 1.7e9 + 0.1]), numbers, kinds)


def parse(data: bytes) -> list[Sample]:
    """Stand for the general parser."""
    try:
        return list(samples_of(data))
    except DecodeError:
        return []


def read(content: bytes, templates: Templates) -> tuple[list[Sample], int]:
    """Read an undamaged file; also return how many records the templates did not take."""
    samples: list[Sample] = []
    at = slow = 0
    while (at := templates.take(content, at, samples)) < len(content):
        end = at + 16 + struct.unpack_from("<Q", content, at)[0]
        data = content[at + 12 : end - 4]
        found = parse(data)
        samples += found
        slow += 1
        if len(found) == 1:
            templates.learn(content[at : at + 12], data, found[0])
        at = end
    return samples, slow


@settings(max_examples=150, deadline=None)
@given(st.lists(events, max_size=40), st.lists(st.integers(0, 39), max_size=40))
def test_templates_and_protobuf_agree_to_the_last_bit(datas: list[bytes], repeats: list[int]) -> None:
    """Whatever the mix of tags, step lengths, kinds and values, reading fast changes no sample."""
    content = b"".join(record(d) for d in datas)
    content += b"".join(record(datas[i % len(datas)]) for i in repeats if datas)

    samples, _ = read(content, Templates(parse))

    assert same(samples, expected(content))


def test_a_series_is_parsed_by_protobuf_once_for_each_length_of_its_step() -> None:
    """Speed is the purpose: only the first of each tag and step length is slow, and the buffer's last."""
    content = b"".join(
        scalar(tag, step, step / 7, T0 + step) for step in range(1000) for tag in ("a", "b", "loss")
    )
    samples, slow = read(content, Templates(parse))
    assert same(samples, expected(content))
    assert slow == 3 * 3 + 1


def test_names_that_change_places_keep_their_templates() -> None:
    """`ab` at step 1 and `a` at step 200 have records of equal length: taking turns, they stay fast."""
    content = b"".join(scalar("ab", 1, i) + scalar("a", 200, i) for i in range(500))
    samples, slow = read(content, Templates(parse))
    assert same(samples, expected(content))
    assert slow == 3


def test_a_flipped_bit_is_never_taken() -> None:
    """Templates verify checksums: a known record with any bit changed is left to the caller."""
    first, then, last = scalar(step=200), scalar(step=201, value=3.0), scalar(step=202)
    for bit in range(8 * len(then)):
        flipped = bytearray(first + then + last)
        flipped[len(first) + bit // 8] ^= 1 << bit % 8
        templates = Templates(parse)
        templates.learn(first[:12], first[12:-4], ("loss", 200, T0, 0.5))
        samples: list[Sample] = []
        assert templates.take(bytes(flipped), 0, samples) in (0, len(first)), bit
        assert len(samples) <= 1


def test_a_nan_teaches_too_and_memory_is_bounded() -> None:
    """A series that begins with NaN is learned from it; names without end are parsed and forgotten."""
    templates = Templates(parse)
    samples, slow = read(scalar(value=math.nan) + scalar(value=2.0) + scalar(value=3.0), templates)
    assert [s[3] for s in samples[1:]] == [2.0, 3.0]
    assert slow == 2
    content = b"".join(scalar(f"episode_{i:06d}/reward") for i in range(21_000))
    samples, slow = read(content, templates)
    assert slow == len(samples) == 21_000
    assert templates.known <= 20_000


def test_a_value_whose_bytes_stand_elsewhere_too_does_not_mislead() -> None:
    """A value that reads like its own tag: the place that was learned must be the value's."""
    (value,) = struct.unpack("<f", b"abcd")
    content = b"".join(scalar(tag, 5, value) for tag in ("abcd", "wxyz", "abcd", "wxyz", "abcd"))
    samples, _ = read(content, Templates(parse))
    assert same(samples, expected(content))


def test_what_follows_the_value_belongs_to_the_template() -> None:
    """The plugin's name stands behind a tensor's value: another plugin of equal length logs no scalars."""

    def tensor(plugin: str) -> bytes:
        made = Event.FromString(event("loss", 5, T0, 0.5, "float32 content"))
        made.summary.value[0].metadata.plugin_data.plugin_name = plugin
        return record(made.SerializeToString())

    content = tensor("scalars") * 3 + tensor("strange") + tensor("scalars") * 2
    samples, _ = read(content, Templates(parse))
    assert len(samples) == 5
