"""The framing of event files: what is whole, what cut off, what damaged, and where reading goes on."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.records import (
    Corrupt,
    Record,
    Truncated,
    masked,
    read_record,
    resynchronise,
    unwritten,
)
from tests.sentinel.event_files import header, record


def test_the_mask_is_the_one_of_the_format() -> None:
    """The masked crc32c of eight zero bytes, computed by TensorFlow's own writer (a record of length 0)."""
    assert masked(0x8C28B28A) == struct.unpack("<I", header(0)[8:])[0]


def test_every_cut_of_a_record_is_truncation() -> None:
    """No prefix of a record is mistaken for damage; once the header is there its length is told."""
    whole = record(b"some data")
    for cut in range(len(whole)):
        wanted = Truncated(len(whole)) if cut >= 12 else Truncated(None)
        assert read_record(whole[:cut], 0) == wanted
    assert read_record(whole, 0) == Record(12, 21, len(whole))


def test_every_flipped_bit_of_a_record_is_damage() -> None:
    """A crc finds each single-bit error, in length, data and both checksums."""
    whole = record(b"some data")
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        assert isinstance(read_record(bytes(flipped), 0), Corrupt), bit


@pytest.mark.parametrize("length", [2**31, 2**63, 2**64 - 1])
def test_an_impossible_length_is_damage_even_with_a_right_checksum(length: int) -> None:
    """A length of 2^63 must be neither awaited nor allocated."""
    found = read_record(header(length) + b"rest", 0)
    assert isinstance(found, Corrupt)
    assert str(length) in found.reason


def test_zeros_up_to_the_end_may_be_still_on_their_way() -> None:
    """A file's length can be seen before its bytes; then the checksum and all behind it read as zeros."""
    whole = record(b"some data")
    for tail, is_unwritten in ((bytes(40), True), (bytes(39) + b"\1", False)):
        found = read_record(tail, 0)
        assert isinstance(found, Corrupt)
        assert unwritten(tail, found) is is_unwritten
    torn = whole[:15] + bytes(len(whole) - 15 + 100)
    found = read_record(torn, 0)
    assert isinstance(found, Corrupt)
    assert unwritten(torn, found)


def naive(buffer: bytes, position: int) -> tuple[int, bool]:
    """Try every position in turn."""
    for start in range(position, len(buffer) - 11):
        length = struct.unpack_from("<Q", buffer, start)[0]
        if 0 < length < 2**31 and header(length) == buffer[start : start + 12]:
            return start, True
    return max(position, len(buffer) - 11), False


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=12),
            st.integers(1, 30).map(bytes),
            st.sampled_from([1, 60, 255, 256, 0x10000, 0x1000000, 0x7FFFFFFF, 2**31]).map(header),
        ),
        max_size=8,
    ).map(b"".join),
    st.integers(0, 20),
)
def test_the_search_for_a_header_finds_what_a_search_at_every_byte_finds(
    buffer: bytes, position: int
) -> None:
    """The search jumps from zero run to zero run; it must not jump over a header."""
    assert resynchronise(buffer, position) == naive(buffer, position)
