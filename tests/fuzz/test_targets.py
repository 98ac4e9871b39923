"""Whatever the bytes: nothing crashes, hangs or swells. The same targets that `make fuzz` runs for longer."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.functions import FUNCTIONS
from tests.fuzz.targets import (
    TARGETS,
    control_file,
    event_file,
    expression,
    records,
    rule,
    rule_file,
    template,
)
from tests.sentinel.event_files import header, record, scalar

ROOT = Path(__file__).parents[2]

PLAIN = """
a b x p.k l m['t/{c}'] step_any and or not if else True ( ) , < > == + - * / % ** 0 1 1e308 points=5 steps=100
points=100001 time='5m' time='9999999d' min_r2=0.8 mode='min' q=0.5 lambda . [ ] { } ' é 🚗
"""
WORDS = st.sampled_from([*FUNCTIONS, *PLAIN.split(), "9" * 400, "\\", "\n", "\t", "\0"])
SENTENCES = st.lists(WORDS, max_size=30).map(" ".join)

FILES = [
    *((ROOT / "rules" / "packs").glob("*.toml")),
    ROOT / "sentinel.toml",
]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_no_bytes_break_it(target: Callable[[bytes], None]) -> None:
    """Bytes that mean nothing at all."""

    @settings(deadline=2000, max_examples=60)
    @given(st.binary(max_size=200))
    def any_bytes(data: bytes) -> None:
        target(data)

    any_bytes()


@settings(deadline=2000, max_examples=300)
@given(SENTENCES)
def test_no_sentence_of_its_own_words_breaks_the_language(text: str) -> None:
    """Parsed, and evaluated where it means something."""
    expression(text.encode())
    rule(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000,
        "not " * 5000 + "a > 1",
        "-" * 5000 + "a > 1",
        "a > 1" + " or a > 1" * 5000,
        "9**9**9**9**9**9 > a",
        "a ** a ** a ** a > 1",
        "a > " + "9" * 5000,
        "mean(" * 30 + "a" + ", points=5)" * 30 + " > 1",
        "median(a, points=100000) > median(b, points=100000)",
        "a > 1e999",
        "m['" + "x" * 3000 + "'] > 1",
        "a > 0x" + "f" * 1000,
        "a" * 100_000,
        "a > 1 #" + "x" * 3000,
    ],
    ids=lambda text: text[:20],
)
def test_no_expression_hangs_or_exhausts(text: str) -> None:
    """The classics: deep brackets, towers of powers, endless chains, giant numbers."""
    expression(text.encode())
    rule(text.encode())


@settings(deadline=2000, max_examples=150)
@given(st.sampled_from(FILES), st.data())
def test_no_edit_of_a_shipped_file_breaks_the_loader(path: Path, data: st.DataObject) -> None:
    """A few bytes cut out, put in or doubled: problems or rules, nothing else."""
    text = path.read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, min(len(text), begin + 40)))
        text = text[:begin] + data.draw(st.binary(max_size=8)) + text[end:]
    rule_file(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "a=" * 5000,
        "[[rule]]\n" * 3000,
        "a = " + "[" * 5000,
        "a." * 3000 + "b = 1",
        "x = {" * 500,
        "[params]\nq = 1e999",
        "[params]\nq = " + "9" * 5000,
        "[[rule]]\nname='a'\nexpr='True'\nfor='" + "9" * 400 + "s'",
    ],
    ids=lambda text: text[:12],
)
def test_no_rule_file_hangs_or_exhausts(text: str) -> None:
    """Deep tables, thousands of rules, numbers beyond all bounds."""
    rule_file(text.encode())


@pytest.mark.parametrize(
    "length",
    [2**63, 2**63 - 1, 2**64 - 1, 2**31, 2**31 - 1, 2**32, 2**40],
    ids=lambda n: f"2^{n.bit_length()}",
)
def test_no_length_makes_the_reader_allocate_it(length: int) -> None:
    """A length field is a claim: with a right checksum or a wrong one, only what is there is read."""
    for head in (header(length), struct.pack("<Q", length) + b"\1\2\3\4"):
        for data in (head, head + b"x" * 100, scalar() + head + b"x" * 50 + scalar(step=2)):
            event_file(data)
            records(data)


@settings(deadline=2000, max_examples=60)
@given(
    st.lists(
        st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(record), st.just(scalar())), max_size=6
    )
)
def test_no_mixture_of_records_and_rubbish_breaks_the_reader(parts: list[bytes]) -> None:
    """Records with right checksums around protobufs that are none."""
    event_file(b"".join(parts))


FIELDS = ["{", "}", "{a", "a}", "{a:.3f}", "{a.__class__}", "{a[0]}", "{!r}", ":", "{run:>999999999}", "{0}"]


@settings(deadline=2000)
@given(st.lists(st.sampled_from(FIELDS), max_size=8))
def test_no_message_reaches_into_python(words: list[str]) -> None:
    """Attributes, indices, giant widths: refused or shown as they stand."""
    template("".join(words).encode())


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b"1" * 10_000, b'{"a":' * 20_000, b"NaN", b"\xed\xa0\x80", b'"\\ud800"'],
    ids=lambda content: repr(content[:8]),
)
def test_no_control_file_breaks_its_reader(content: bytes) -> None:
    """Deep nesting and huge numbers in JSON are errors of their own in Python."""
    control_file(content)
