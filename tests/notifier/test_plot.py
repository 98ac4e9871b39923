"""Plots as data and as pictures: bounded, read back as written, drawn whatever they hold."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier import picture
from notifier.contract import sample
from notifier.message import Message
from notifier.numbers import duration, number
from notifier.plot import (
    MARKS,
    MOST_MARKS,
    MOST_POINTS,
    MOST_SERIES,
    Line,
    Mark,
    Plot,
    bounded,
    extremes,
    from_json,
    thinned,
)

needs_matplotlib = pytest.mark.skipif(not picture.available(), reason=picture.LACKING)

NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=32)
LINES = st.builds(
    Line,
    st.text(max_size=5),
    st.lists(
        st.lists(st.tuples(st.integers(0, 10**9).map(float), NUMBERS), max_size=5).map(tuple), max_size=3
    ).map(tuple),
    st.booleans(),
)
PLOTS = st.builds(
    Plot,
    title=st.text(max_size=5),
    subtitle=st.text(max_size=5),
    axis=st.text(max_size=5),
    lines=st.lists(LINES, max_size=5).map(tuple),
    limit=st.none() | NUMBERS,
    limit_label=st.text(max_size=5),
    marks=st.lists(
        st.builds(
            Mark,
            st.sampled_from(MARKS),
            st.integers(0, 10**9).map(float),
            st.text(max_size=5),
            st.none() | st.integers(0, 10**9).map(float),
        ),
        max_size=4,
    ).map(tuple),
)


def story() -> Plot:
    """The incident's own figures."""
    actor = tuple(zip(range(1100, 1701, 100), (2.34, 11.7, 28.7, 54.5, 104.5, 199.5, 349.1), strict=True))
    return Plot(
        "actor exploits critic",
        "driving/seed047",
        "step",
        (Line("debug/actor_q_mean", (actor,)), Line("train/q1_value", (((1100, 16.2), (1700, 10.9)),))),
        limit=50.0,
        limit_label="limit 50",
        marks=(Mark("onset", 1300, "began 1300"), Mark("rollback", 1700, "rolled back to 1100", 1100)),
    )


def test_a_plot_comes_back_from_the_journal_as_it_was() -> None:
    """It is in the message, and the message is in the journal."""
    message = sample()
    told = Message(**{name: getattr(message, name) for name in message.__slots__} | {"plot": story()})
    assert Message.from_json(told.to_json()) == told


def test_a_message_from_before_there_were_plots_is_read() -> None:
    """Rows of an older sentinel wait in the journal when a newer one starts."""
    body = json.loads(sample().to_json())
    del body["plot"], body["commands"]
    assert Message.from_json(json.dumps(body)) == sample()


@pytest.mark.parametrize("plot", [7, "x", {}, {"title": "t"}, {"lines": [1]}, []])
def test_what_is_no_plot_is_no_message(plot: object) -> None:
    """A damaged row is told as damaged, whatever is wrong in it."""
    body = json.loads(sample().to_json())
    with pytest.raises(ValueError, match="not a message"):
        Message.from_json(json.dumps({**body, "plot": plot}))


@given(PLOTS)
@settings(max_examples=50, deadline=None)
def test_any_plot_is_bounded_and_read_back(plot: Plot) -> None:
    """Once bounded it stays as it is; JSON that other readers take holds no NaN."""
    kept = bounded(plot)
    text = json.dumps(kept.as_json(), allow_nan=False)
    again = from_json(json.loads(text))
    assert json.dumps(again.as_json()) == text


def test_a_long_run_is_a_short_plot() -> None:
    """A row of the journal stays small however long the run, and however often it went back."""
    part = tuple((float(step), float(step % 977)) for step in range(10_000))
    marks = tuple(Mark("checkpoint", float(step), "x" * 500) for step in range(1000))
    plot = bounded(Plot("t" * 500, "s", "step", (Line("l" * 500, (part,) * 30),) * 9, marks=marks))
    assert len(plot.lines) == MOST_SERIES
    assert len(plot.marks) == MOST_MARKS
    assert all(sum(map(len, line.parts)) <= MOST_POINTS for line in plot.lines)
    assert len(json.dumps(plot.as_json())) < 40_000


@given(st.lists(st.tuples(st.integers(0, 10**6).map(float), NUMBERS), min_size=1), st.integers(4, 50))
def test_thinning_keeps_the_extremes(points: list[tuple[float, float]], most: int) -> None:
    """A spike of one point is what a plot is for; a NaN counts as the greatest."""
    kept = thinned(points, most)
    assert len(kept) <= max(most, 2)
    assert all(point in points for point in kept)
    inner = points[1:-1]
    if inner:
        highest = [value for _, value in kept if math.isnan(value)] or [max(value for _, value in kept)]
        wanted = [v for _, v in inner if math.isnan(v)] or [max(v for _, v in inner)]
        assert math.isnan(highest[0]) or highest[0] >= wanted[0]
    assert extremes(points)[0] in points


def size(png: bytes) -> tuple[int, ...]:
    """Width and height from a PNG's header."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


@needs_matplotlib
def test_a_plot_is_drawn() -> None:
    """As large as it says, and not so large that a phone waits for it."""
    png = picture.render(story())
    assert size(png) == (1200, 900)
    assert len(png) < 200_000


@needs_matplotlib
@pytest.mark.parametrize(
    "points",
    [
        ((0, 1.0),),
        ((0, math.nan), (1, math.inf)),
        ((0, 0.0), (10, 0.0)),
        ((0, -1e30), (5, 1e-30), (10, 1e30)),
        ((0, 1e300), (10, 1e-300)),
        ((10**15, 5.0), (10**15 + 1, 6.0)),
    ],
)
def test_hard_figures_are_drawn(points: tuple[tuple[float, float], ...]) -> None:
    """One point, no number at all, both signs over sixty decades: a picture all the same."""
    plot = Plot("t", "s", "step", (Line("x", (points,)),), limit=2.0, marks=(Mark("fired", 1, "seen"),))
    assert size(picture.render(plot)) == (1200, 900)


@needs_matplotlib
@pytest.mark.parametrize(
    "text", ["$\\frac{", "汉字 ✓ 🔥", "\x1b[31m\u202e", "a" * 500, "", "a/" * 90, "\ud800"]
)
def test_hostile_labels_are_drawn_as_they_stand(text: str) -> None:
    """No TeX, no missing glyph's warning, no escape; and nothing outside of the picture's size."""
    lines = (Line(text, (((0, 1.0), (9, 2.0)),)), Line(text, (((0, 3.0), (9, 2.0)),)))
    plot = Plot(text, text, text, lines, 1.5, text, (Mark("onset", 3, text), Mark("ended", 9, text)))
    assert size(picture.render(plot)) == (1200, 900)


def test_nothing_is_no_picture() -> None:
    """A plot without a point is refused, and no empty axes are sent to anybody."""
    if not picture.available():
        pytest.skip(picture.LACKING)
    with pytest.raises(ValueError, match="no points"):
        picture.render(Plot("t", "s", "step", (Line("x", ()),)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (1300, "1300"),
        (12500, "12\u202f500"),
        (1234567.8, "1\u202f234\u202f568"),
        (349.055, "349.1"),
        (0.000123456, "0.0001235"),
        (3.2e12, "3\u202f200\u202f000\u202f000\u202f000"),
        (3.25e20, "3.25e+20"),
        (math.nan, "NaN"),
        (-math.inf, "minus infinite"),
        (10**400, "beyond all bounds"),
    ],
)
def test_numbers_are_written_for_people(value: float, shown: str) -> None:
    """Four digits that count; groups of three from five digits on."""
    assert number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (4.25, "4.2 s"),
        (42, "42 s"),
        (112, "1 min 52 s"),
        (3600, "1 h"),
        (11100, "3 h 5 min"),
        (187200, "2 d 4 h"),
    ],
)
def test_durations_are_written_for_people(seconds: float, shown: str) -> None:
    """Two units at the most."""
    assert duration(seconds) == shown
