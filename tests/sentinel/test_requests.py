"""Requests: each kind comes back from its file as it was, and what cannot be right is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.inbox import Ack, Answer, Command, Expire, Request, Silence, drop, pending
from sentinel.requests import from_body, to_body
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import Scene
from tests.sentinel.test_engine import curve

ALL: list[Request] = [
    Command("a", "rollback", "00-1", {"lr": "x0.1"}, ("actor",), "by hand"),
    Silence("prod/*", T0 + 60, "ann", "moving the disks", "td3/*", actions=True),
    Expire(3, "ann"),
    Ack("a", "q_high", "ann", "looking"),
    Answer(7, "act", "ann", "yes"),
]


@pytest.mark.parametrize("request_", ALL, ids=lambda each: each.kind)
def test_what_is_dropped_is_read_as_it_was(tmp_path: Path, request_: Request) -> None:
    """A file holds all of a request, its kind included."""
    name = drop(request_, tmp_path)
    assert pending(tmp_path) == [(name, request_)]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"kind": "silencio"}, "the kinds are command, silence, expire, ack, answer"),
        ({"kind": ["ack"]}, "the kinds are"),
        ({"kind": "ack", "run": "a", "rule": "", "by": "ann"}, "rule: a text that says something"),
        ({"kind": "ack", "run": "a", "rule": "r", "by": "ann", "why": 3}, "why is text"),
        ({"kind": "silence", "run": "a", "ends": "soon", "by": "ann", "why": "w"}, "ends is a time"),
        ({"kind": "silence", "run": "a", "ends": True, "by": "ann", "why": "w"}, "ends is a time"),
        ({"kind": "silence", "run": "a", "ends": 1e999, "by": "ann", "why": "w"}, "ends is a time"),
        ({"kind": "silence", "run": "a", "ends": 1, "by": "b", "why": "w", "actions": 1}, "actions is true"),
        ({"kind": "expire", "silence": "3", "by": "ann"}, "silence: the number"),
        ({"kind": "answer", "question": 0, "choice": "act", "by": "ann"}, "question: the number"),
        ({"kind": "answer", "question": 1, "choice": None, "by": "ann"}, "the answers are"),
        ({"kind": "command", "run": "a", "verb": "dance"}, "the verbs are"),
        ({"kind": "command", "run": "a", "verb": "rollback", "set": [1]}, "set is a table"),
        ({"kind": "ack", "run": "a", "rule": "r", "by": "ann", "urgent": 1}, "'urgent' is no part of a ack"),
        ({"kind": "ack"}, "TypeError"),
        ([], "it is no table"),
    ],
)
def test_what_cannot_be_right_is_refused_in_words(body: Any, words: str) -> None:
    """Whoever wrote it learns what is wrong."""
    found = from_body(body)
    assert isinstance(found, str)
    assert words in found


def test_a_file_of_an_older_version_is_a_command() -> None:
    """It names no kind."""
    assert from_body({"run": "a", "verb": "checkpoint"}) == Command("a", "checkpoint")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["run", "rule", "verb", "by", "why", "ends", "silence", "question", "choice", "set", "reinit", "actions"]
)


@given(st.sampled_from(["command", "silence", "expire", "ack", "answer"]), st.dictionaries(NAMES, JSON))
def test_no_file_is_an_error_and_what_is_taken_is_right(kind: str, body: dict[str, Any]) -> None:
    """Anything that JSON can hold is a request, or a reason."""
    found = from_body({"kind": kind, **body})
    assert isinstance(found, str) or (found.kind == kind and found.wrong() == "")
    if not isinstance(found, str):
        json.dumps(to_body(found))


def test_each_kind_is_answered_once_and_in_words(tmp_path: Path) -> None:
    """Also where its file stays, as after a power cut between the commit and its removal."""
    scene = Scene(tmp_path, FakeClock(T0))
    scene.log(curve([1]))
    scene.tick(1.1)
    now = scene.clock.now
    for request in (
        Silence("a", now + 60, "ann", "w"),
        Expire(1, "bob"),
        Ack("a", "nothing", "ann"),
        Answer(7, "act", "b"),
    ):
        name = drop(request, scene.state)
        kept = (scene.state / "inbox" / name).read_bytes()
        scene.tick(0.1)
        (scene.state / "inbox" / name).write_bytes(kept)
        scene.tick(0.1)
    found = [(r["state"], r["outcome"]) for r in scene.journal.rows("SELECT * FROM requests ORDER BY rowid")]
    assert [state for state, _ in found] == ["done", "done", "refused", "refused"]
    assert [
        words in text
        for words, (_, text) in zip(
            ("silence 1", "has ended", "no alert", "no question 7"), found, strict=True
        )
    ] == [True] * 4
    assert len(scene.journal.rows("SELECT * FROM silences")) == 1
