"""The notation says what it says; whatever else is written is refused, at once and in words."""

from __future__ import annotations

import math
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.notation import MAX_POINTS, MAX_SEEDS, expand, seeds, span


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("2.5 -1 +3 1e-6 .5", [2.5, -1, 3, 1e-6, 0.5]),
        ("1x3", [1, 1, 1, 1]),
        ("1x0", [1]),
        ("1+2x3", [1, 3, 5, 7]),
        ("1-2x3", [1, -1, -3, -5]),
        ("-2.5+.5x1", [-2.5, -2.0]),
        ("1e2-1e1x1", [100, 90]),
        ("1100+100x6", [1100, 1200, 1300, 1400, 1500, 1600, 1700]),
        ("1 _ 2 _x3 3", [1, None, 2, None, None, None, 3]),
        ("inf -inf", [math.inf, -math.inf]),
        ("1\n 2\t3", [1, 2, 3]),
    ],
)
def test_the_notation(text: str, values: list[float | None]) -> None:
    """`axn` is a and n more of it, as in promtool."""
    assert expand(text) == values


def test_nan_is_a_value() -> None:
    """It is what many rules are about."""
    assert math.isnan(expand("nan")[0] or 0.0)


@pytest.mark.parametrize(
    "text", ["one", "1x", "x3", "1+x3", "1x-1", "__", "_x", "1,2", "0x1F5", "1x3x3", "1e", "1x1e9", "1_0"]
)
def test_what_is_no_value_is_refused(text: str) -> None:
    """With examples of what is."""
    with pytest.raises(ValueError, match=r"no value|more than"):
        expand(text)


def test_a_series_cannot_fill_the_memory() -> None:
    """Neither by one word nor by many."""
    for text in ("1x99999999999999999999", "_x100001", "1x" + "9" * 10_000, " ".join(["1x60000"] * 2)):
        with pytest.raises(ValueError, match="more than 100000 points"):
            expand(text)


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, width=32)), max_size=30))
def test_any_series_can_be_written_down(values: list[float | None]) -> None:
    """One word a value is always enough."""
    assert expand(" ".join("_" if value is None else repr(value) for value in values)) == values


@given(st.text(alphabet="0123456789+-x_.einaf ", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never anything but values or a ValueError."""
    try:
        values = expand(text)
    except ValueError:
        return
    assert all(value is None or isinstance(value, float) for value in values)


# Whatever is written


@given(st.text(max_size=60))
def test_no_text_is_more_than_it_says(text: str) -> None:
    """Any text at all, in no time and in bounded memory."""
    for read in (expand, seeds, span):
        try:
            found = read(text)
        except ValueError:
            continue
        assert len(found) <= MAX_POINTS


WORDS = st.one_of(
    st.sampled_from(["nan", "inf", "-inf", "_", "+inf"]),
    st.integers(0, 10**9).map(lambda count: f"_x{count}"),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.builds("{}x{}".format, st.integers(-99, 99), st.integers(0, 10**9)),
    st.builds("{}{:+}x{}".format, st.integers(-99, 99), st.integers(-9, 9), st.integers(0, 10**30)),
)


@given(st.lists(WORDS, max_size=12))
def test_words_are_read_one_by_one(words: list[str]) -> None:
    """A series is its words' values, one after another, or it is too long."""
    try:
        together = expand(" ".join(words))
    except ValueError as error:
        assert "more than" in str(error)  # noqa: PT017  any other reason is a fault of this test's words
        return
    assert list(map(str, together)) == [str(value) for word in words for value in expand(word)]


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True)), max_size=40))
def test_what_is_written_in_runs_is_read_back(values: list[float | None]) -> None:
    """The short form of any series stands for the very series."""
    assert list(map(str, expand(shortest(values)))) == list(map(str, values))


def shortest(values: list[float | None]) -> str:
    """Write a series with one word for each run of equal values, where there is such a word."""
    words = []
    for text, group in groupby("_" if value is None else repr(value) for value in values):
        count = len(list(group))
        if text == "_":
            words.append(f"_x{count}")
        elif text in ("nan", "inf", "-inf", "-0.0"):
            words += [text] * count
        else:
            words.append(f"{text}x{count - 1}")
    return " ".join(words)


@given(st.integers(0, 10**6), st.integers(0, MAX_SEEDS - 1))
def test_a_range_of_seeds_is_every_one_of_them(first: int, more: int) -> None:
    """Both ends are meant."""
    assert seeds(f"{first}-{first + more}") == list(range(first, first + more + 1))
    assert span(f"{first}-{first + more}") == (first, first + more)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no seed"),
        ("3-1", "ends before it begins"),
        ("a", "no range"),
        ("-1", "no range"),
        ("0-1000", "more than 1000"),
        ("0-999 2000-2001", "more than 1000"),
    ],
)
def test_what_is_no_seed_is_refused(text: str, told: str) -> None:
    """Neither none nor too many."""
    with pytest.raises(ValueError, match=told):
        seeds(text)


def test_a_seed_counts_once() -> None:
    """However often it is written."""
    assert seeds("7 0-2 1-3") == [7, 0, 1, 2, 3]
