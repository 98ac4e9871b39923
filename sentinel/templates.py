"""Scalar records at speed: learn where a record's numbers lie, then read them with `struct`, not protobuf.

The scalars of one series differ in wall time, step, value and checksum only; every other byte is constant.
A template is those constant bytes. It is learned from the general parser and proved by it (a changed record
must parse to the changed sample), so a record that fits one means what the general parser would say it means.
This file exists because reading a long history would otherwise be spent in parsing.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from rules.series import Sample
from sentinel.records import FRAME_BYTES, HEADER_BYTES, crc32c, masked

Parse: TypeAlias = Callable[[bytes], Sequence[Sample]]
"""The general parser: every sample of an event's bytes; none where the bytes are no event."""

_KEY_BYTES = HEADER_BYTES + 1  # a record's header and the tag byte of its wall time: which shapes it can have
_WALL_TIME, _STEP = (
    0x09,
    0x10,
)  # protobuf tag bytes; the wall time fills bytes 1-8, the step follows if it is not 0
_STEP_AT = 9
_FORMATS = ("f", "d", "e")
_MAX_DATA = 1024
_MAX_SHAPES = 16  # for one length of record
_MAX_NAMES = 20_000  # series whose names never end (one per episode, say) must not fill the memory
_MAX_FAILURES = 8


class _Shape(NamedTuple):
    """Where the numbers lie in records of one length, and which constant bytes belong to which tag.

    Attributes:
        unpack: gives wall time, step field, the constant bytes up to the value, the value, the constant bytes
            behind it, the stored checksum, and the key of the record that follows.
        names: tag by the constant bytes up to the value.
        rest: the constant bytes behind the value.
    """

    data_bytes: int
    unpack: Callable[[bytes, int], tuple[Any, ...]]
    names: dict[bytes, str]
    rest: bytes
    layout: str


class _Place(NamedTuple):
    """Where a record's value may lie: step field of so many bytes, struct format, offset in the data."""

    step_bytes: int
    form: str
    offset: int


class _Silent(NamedTuple):
    """Records of one length that hold no sample: images, histograms.

    Attributes:
        begin, end: which bytes of the data tell; they follow the step.
        prefixes: what those bytes may be.
    """

    data_bytes: int
    begin: int
    end: int
    prefixes: set[bytes]

    def fits(self, buffer: bytes, at: int) -> bool:
        """Say whether the record whose data begin at `at` is whole, undamaged and of this kind."""
        if buffer[at + self.begin : at + self.end] not in self.prefixes:
            return False
        try:
            _step(buffer[at + _STEP_AT : at + self.begin])
        except ValueError:
            return False
        stop = at + self.data_bytes
        return masked(crc32c(buffer[at:stop])).to_bytes(4, "little") == buffer[stop : stop + 4]


class Templates:
    """What has been learned about the records of one writer.

    Attributes:
        known: how many templates there are.
    """

    def __init__(self, parse: Parse) -> None:
        self._parse = parse
        self._active: dict[bytes, _Shape] = {}
        self._shapes: dict[bytes, list[_Shape]] = {}
        self._failures: dict[bytes, int] = {}
        self._silent: dict[bytes, _Silent] = {}
        self.known = 0

    def take(self, buffer: bytes, position: int, samples: list[Sample]) -> int:
        """Read records from `position` on while they fit; return where the first that does not begins.

        Nothing is said about that one: it may be new, unusual, damaged, or the last of the buffer.
        """
        at = position + HEADER_BYTES
        while True:
            at = self._run(buffer, at, samples)
            key = buffer[at - HEADER_BYTES : at + 1]
            silent = self._silent.get(key)
            if silent is not None and silent.fits(buffer, at):
                at += silent.data_bytes + FRAME_BYTES
                continue
            fits = self._fitting(key, buffer, at)
            if fits is None or fits is self._active[key]:
                return at - HEADER_BYTES
            self._active[key] = fits

    def _run(self, buffer: bytes, at: int, samples: list[Sample]) -> int:
        """The loop that a million records a second go through; `at` is where the data of a record begin."""
        active, append, checksum = self._active, samples.append, crc32c
        known, step = None, 0
        key = buffer[at - HEADER_BYTES : at + 1]
        try:
            while True:
                length, unpack, names, rest, _ = active[key]
                wall, stepped, constant, value, behind, stored, key = unpack(buffer, at)
                tag = names[constant]
                stop = at + length
                # Rotated right by 15 bits, plus TFRecord's constant: records.masked() without the call.
                crc = (checksum(buffer[at:stop]) * 0x100000001 >> 15) + 0xA282EAD8 & 0xFFFFFFFF
                if crc != stored or behind != rest:
                    break
                if stepped != known:
                    step, known = _step(stepped), stepped
                append((tag, step, wall, value))
                at = stop + FRAME_BYTES
        except (
            KeyError,
            ValueError,
            struct.error,
        ):  # another series, another shape, or the end of the buffer
            pass
        return at

    def _fitting(self, key: bytes, buffer: bytes, at: int) -> _Shape | None:
        """Return the known shape that the record at `at` fits, checksum apart."""
        for shape in self._shapes.get(key, ()):
            try:
                _, stepped, constant, _, behind, _, _ = shape.unpack(buffer, at)
                if constant in shape.names and behind == shape.rest:
                    _step(stepped)
                    return shape
            except ValueError:  # the step is longer or shorter in this record
                continue
            except struct.error:
                return None
        return None

    def learn(self, header: bytes, data: bytes, sample: Sample) -> None:
        """Learn from a record that the general parser found to hold exactly this sample.

        Args:
            header: the 12 bytes in front of the data, checksum verified.
            data: the record's data, checksum verified.
            sample: what the general parser made of them.
        """
        key = header + data[:1]
        failures = self._failures.get(key, 0)
        if len(data) > _MAX_DATA or failures >= _MAX_FAILURES or self.known >= _MAX_NAMES:
            return
        step_bytes = _step_bytes(data)
        if data[0] == _WALL_TIME and step_bytes is not None:
            for place in _places(data, step_bytes, sample[3]):
                if self._proves(data, place, sample[0]):
                    self._add(key, data, place, sample[0])
                    return
        self._failures[key] = failures + 1

    def learn_silent(self, header: bytes, data: bytes, prefix_bytes: int) -> None:
        """Learn from a record that the general parser found to hold no sample by its first bytes alone.

        Args:
            header: the 12 bytes in front of the data, checksum verified.
            data: the record's data, or their beginning.
            prefix_bytes: how many bytes it took to know.
        """
        step_bytes = _step_bytes(data)
        if step_bytes is None or self.known >= _MAX_NAMES:
            return
        key, begin = header + data[:1], _STEP_AT + step_bytes
        silent = self._silent.get(key)
        if silent is None or (silent.begin, silent.end) != (begin, prefix_bytes):
            length = int.from_bytes(header[:8], "little")
            silent = self._silent[key] = _Silent(length, begin, prefix_bytes, set())
        silent.prefixes.add(data[begin:prefix_bytes])
        self.known += 1

    def _proves(self, data: bytes, place: _Place, tag: str) -> bool:
        """Say whether a change of wall time, step and value in these places changes the sample, no more."""
        step_bytes, form, offset = place
        changed = bytearray(data)
        struct.pack_into("<d", changed, 1, 1234.5)
        if step_bytes:
            changed[_STEP_AT + 1] ^= 1
        step = _step(bytes(changed[_STEP_AT : _STEP_AT + step_bytes]))
        for value in (0.5, 0.25):  # two, since one of them may be there already
            struct.pack_into(f"<{form}", changed, offset, value)
            if list(self._parse(bytes(changed))) != [(tag, step, 1234.5, value)]:
                return False
        return True

    def _add(self, key: bytes, data: bytes, place: _Place, tag: str) -> None:
        step_bytes, form, offset = place
        begin, behind = _STEP_AT + step_bytes, offset + struct.calcsize(f"<{form}")
        layout = f"<xd{step_bytes}s{offset - begin}s{form}{len(data) - behind}sI{_KEY_BYTES}s"
        constant, rest = data[begin:offset], data[behind:]
        shapes = self._shapes.setdefault(key, [])
        shape = next((s for s in shapes if s.layout == layout and s.rest == rest), None)
        if shape is None:
            if len(shapes) >= _MAX_SHAPES:
                return
            shape = _Shape(len(data), struct.Struct(layout).unpack_from, {}, rest, layout)
            shapes.append(shape)
        shape.names[constant] = tag
        self._active[key] = shape
        self.known += 1


def _places(data: bytes, step_bytes: int, value: float) -> Iterator[_Place]:
    """Yield each place behind the step whose bytes read as `value`."""
    for form in _FORMATS:
        try:
            pattern = struct.pack(f"<{form}", value)
        except OverflowError:
            continue
        if struct.unpack(f"<{form}", pattern)[0] != value and not math.isnan(value):
            continue
        offset = data.find(pattern, _STEP_AT + step_bytes)
        while offset >= 0:
            yield _Place(step_bytes, form, offset)
            offset = data.find(pattern, offset + 1)


def _step_bytes(data: bytes) -> int | None:
    """Return the length of the step field, 0 where it is left out; None: no event begins like this."""
    if len(data) <= _STEP_AT:
        return None
    if data[_STEP_AT] != _STEP:
        return 0
    end = next((i for i in range(_STEP_AT + 1, len(data)) if data[i] < 0x80), None)
    return None if end is None else end + 1 - _STEP_AT


def _step(field: bytes) -> int:
    """Decode a step field, tag byte and varint; an empty one is step 0.

    Raises:
        ValueError: the bytes are not exactly one step field.
    """
    if not field:
        return 0
    if field[0] != _STEP or not 2 <= len(field) <= 11 or field[-1] >= 0x80:
        raise ValueError("not a step field")
    step = field[-1]
    for byte in field[-2:0:-1]:
        if byte < 0x80:
            raise ValueError("the step ends before its field does")
        step = step << 7 | byte & 0x7F
    step &= 0xFFFFFFFFFFFFFFFF
    return step - (1 << 64) if step >> 63 else step
