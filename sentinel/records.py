"""TFRecord framing: turn a growing file into whole records, and say why not when it cannot.

An event file is read while another process appends to it. A cut-off last record is therefore the normal end
of every read, not an error; a record whose checksum is wrong is damage, and must be told. TensorBoard's own
Python loader treats both alike and then waits for ever, so this file exists.

A record is: length (u64), masked crc32c of those 8 bytes (u32), data, masked crc32c of the data (u32),
little-endian.
Source: tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import google_crc32c

crc32c: Callable[[bytes], int] = google_crc32c.value
"""crc32c of some bytes, not masked."""

crc32c_extend: Callable[[int, bytes], int] = google_crc32c.extend
"""crc32c of what a crc32c stands for and some more bytes, for what is too long to hold at once."""

HEADER_BYTES = 12
FOOTER_BYTES = 4
FRAME_BYTES = HEADER_BYTES + FOOTER_BYTES

MAX_DATA_BYTES = 0x7FFFFFFF
"""No protobuf message is longer than this, so a longer length is damage even where its checksum is right."""

WRONG_DATA = "the checksum of a record's data does not match"

_HEADER = struct.Struct("<QI")
_U32 = struct.Struct("<I")
_NOT_ZERO = re.compile(rb"[^\0]")


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of an event file that hold no readable record.

    Attributes:
        offset: where they begin, in bytes from the start of the file.
        length: how many bytes were lost.
        reason: what was wrong with the first of them, in words.
        at: how many samples of the same batch lie before them.
    """

    offset: int
    length: int
    reason: str
    at: int = field(default=0, compare=False)


class Record(NamedTuple):
    """A whole record with right checksums: its data is `buffer[start:stop]`, the next is at `end`."""

    start: int
    stop: int
    end: int


@dataclass(frozen=True, slots=True)
class Truncated:
    """The buffer ends before the record does: the normal end of a file that is being written to.

    Attributes:
        length: bytes the whole record takes, frame included; None while not even its header is there.
    """

    length: int | None


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A checksum is wrong, or a length cannot be.

    Attributes:
        reason: which, in words.
        checksum_at: position of the checksum that did not match.
    """

    reason: str
    checksum_at: int


def masked(crc: int) -> int:
    """Return the crc32c as TFRecord stores it: rotated right by 15 bits, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def data_length(buffer: bytes, position: int) -> int | None:
    """Return the data length that the header at `position` states, None where there is no valid header.

    The caller makes sure that 12 bytes are there.
    """
    length, stored = _HEADER.unpack_from(buffer, position)
    if length > MAX_DATA_BYTES or masked(crc32c(buffer[position : position + 8])) != stored:
        return None
    return int(length)


def read_record(buffer: bytes, position: int) -> Record | Truncated | Corrupt:
    """Read the record at `position`; never raises, never looks beyond the buffer."""
    if len(buffer) - position < HEADER_BYTES:
        return Truncated(None)
    length = data_length(buffer, position)
    if length is None:
        stated = _HEADER.unpack_from(buffer, position)[0]
        if stated > MAX_DATA_BYTES:
            return Corrupt(f"a length of {stated} bytes, more than any event has", position + 8)
        return Corrupt("the checksum of a record's length does not match", position + 8)
    start = position + HEADER_BYTES
    stop = start + length
    if stop + FOOTER_BYTES > len(buffer):
        return Truncated(length + FRAME_BYTES)
    if masked(crc32c(buffer[start:stop])) != _U32.unpack_from(buffer, stop)[0]:
        return Corrupt(WRONG_DATA, stop)
    return Record(start, stop, stop + FOOTER_BYTES)


def unwritten(buffer: bytes, corrupt: Corrupt) -> bool:
    """Say whether a record may be on its way rather than damaged; `buffer` reaches the end of the file.

    On network file systems and after some crashes a file's length is seen before its bytes, which read as
    zeros until then. So: the checksum that failed and everything after it is zero.
    """
    return _NOT_ZERO.search(buffer, corrupt.checksum_at) is None


def resynchronise(buffer: bytes, position: int) -> tuple[int, bool]:
    """Look for the next valid header at or after `position`.

    Returns:
        (p, True) where p is the first position of a header whose checksum matches, or (p, False) where there
        is none: no record begins before p, and from p on too few bytes are left to tell.

    Source of the speed: a length below 2^31 has four zero bytes at its end and is not zero itself, so only
    the (at most four) positions in front of a run of zeros can begin a header.
    """
    last = len(buffer) - HEADER_BYTES
    undecided = max(position, last + 1)
    while position <= last:
        zeros = buffer.find(b"\0\0\0\0", position + 4)
        if zeros < 0:
            break
        run_ends = _NOT_ZERO.search(buffer, zeros + 4)
        behind = run_ends.start() if run_ends else len(buffer)
        for start in range(zeros - 4, min(zeros, behind - 7, last + 1)):
            if buffer[start : start + 4] != b"\0\0\0\0" and data_length(buffer, start) is not None:
                return start, True
        position = behind - 7
    return undecided, False
