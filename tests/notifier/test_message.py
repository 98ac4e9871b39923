"""A message survives the journal, and its parts are checked where it is made."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.contract import hostile, sample
from notifier.message import KINDS, SEVERITIES, Fact, Message, as_story, facts

text = st.text(st.characters(codec=None))
messages = st.builds(
    Message,
    key=text.filter(bool),
    thread=text.filter(bool),
    kind=st.sampled_from(KINDS),
    severity=st.sampled_from(SEVERITIES),
    run=text,
    rule=text,
    title=text,
    happened=text,
    wall_time=st.floats(allow_nan=False),
    state=text,
    facts=st.lists(st.tuples(text, text), max_size=4).map(facts),
    advice=text,
)


@given(messages)
def test_a_message_comes_back_from_the_journal_as_it_went_in(message: Message) -> None:
    """What was decided before a crash is told after it, to the letter."""
    assert Message.from_json(message.to_json()) == message


@pytest.mark.parametrize("message", list(hostile()), ids=lambda message: message.key)
def test_a_hostile_message_comes_back_too(message: Message) -> None:
    """Lone surrogates, control characters and infinite times are data."""
    assert Message.from_json(message.to_json()) == message


@pytest.mark.parametrize("broken", ["", "[]", "{}", '{"key": 1', '{"key":"a","surprise":1}', "null"])
def test_what_is_no_message_is_refused(broken: str) -> None:
    """A damaged row is an error that a caller can name, not half a message."""
    with pytest.raises(ValueError, match=r"."):
        Message.from_json(broken)


def test_a_misspelt_severity_is_refused() -> None:
    """It would take no route, and nobody would be told."""
    with pytest.raises(ValueError, match="'severe', not one of info, warning, critical, fatal"):
        replace(sample(), severity="severe")


def test_a_story_keeps_its_beginning_and_shows_where_it_stands() -> None:
    """The top message says why it was opened and what is true now; facts of both are there once."""
    first = replace(sample(), facts=facts([("since step", "1 200"), ("done", "checkpoint asked for")]))
    latest = replace(
        sample("closed"),
        happened="episode length 80, 1.5x 40",
        facts=facts([("done", "rolled back to step 1 000"), ("cost", "300 steps")]),
        advice="",
    )
    story = as_story(first, latest)
    assert (story.happened, story.state, story.kind) == (first.happened, "recovered", "closed")
    assert story.facts == (
        Fact("since step", "1 200"),
        Fact("done", "rolled back to step 1 000"),
        Fact("cost", "300 steps"),
    )
    assert story.advice == first.advice
