"""Messages: a row before they are sent, and a row until they have arrived."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from notifier.message import Message, facts
from sentinel.journal import Journal
from sentinel.mail import Mail
from sentinel.outbox import Delivered, Failed, Postponed, Result, Row
from tests.sentinel.event_files import T0


class Box:
    """An outbox that holds what it gets until the test says what became of it."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.results: list[Result] = []

    def submit(self, rows: list[Row]) -> None:
        self.rows += rows

    def collect(self) -> list[Result]:
        taken, self.results = self.results, []
        return taken


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "j")
    yield journal
    journal.close()


def mail(journal: Journal, box: Any) -> Mail:
    return Mail(journal, box, lambda _m: ("slack", "console"))


def message(key: str, thread: str = "a/r#1", kind: str = "update") -> Message:
    return Message(
        key=key,
        thread=thread,
        kind=kind,
        severity="warning",
        run="a",
        rule="r",
        title="t",
        happened="h",
        wall_time=T0,
    )


def states(journal: Journal) -> list[str]:
    return [row["state"] for row in journal.rows("SELECT state FROM messages ORDER BY id")]


def test_a_message_is_a_row_before_it_is_sent(journal: Journal) -> None:
    """A crash between the commit and the delivery loses nothing: the next start sends it."""
    box = Box()
    post = mail(journal, box)
    with journal.transaction():
        post.post(message("m1"), T0)
    assert states(journal) == ["queued", "queued"]
    assert box.rows == []
    again = Box()
    mail(journal, again).submit()
    assert [(row.channel, row.message.key) for row in again.rows] == [("slack", "m1"), ("console", "m1")]


def test_a_rolled_back_tick_queues_nothing_for_good(journal: Journal) -> None:
    """The key is free again, too."""

    def fail() -> None:
        with journal.transaction():
            mail(journal, Box()).post(message("m1"), T0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert states(journal) == []


def test_the_same_key_is_queued_once(journal: Journal) -> None:
    """A tick that is judged again after a restart tells nothing twice."""
    post = mail(journal, Box())
    for _ in range(2):
        with journal.transaction():
            post.post(message("m1"), T0)
    assert len(states(journal)) == 2


def test_what_became_of_it_is_written_down_and_what_was_dead_is_tried_at_the_next_start(
    journal: Journal,
) -> None:
    """A channel that a person has put right gets what it missed; what failed does not come again."""
    box = Box()
    post = mail(journal, box)
    with journal.transaction():
        for key in ("m1", "m2", "m3"):
            post.post(message(key), T0)
    post.submit()
    ids = {(r.message.key, r.channel): r.id for r in box.rows}
    box.results = [
        Result(ids["m1", "slack"], "slack", Delivered("ts-1")),
        Result(ids["m2", "slack"], "slack", Failed("no_text", channel_dead=False)),
        Result(ids["m3", "slack"], "slack", Failed("invalid_auth", channel_dead=True)),
        Result(ids["m1", "console"], "console", Postponed(5.0, "busy", 2)),
    ]
    with journal.transaction():
        post.record(T0 + 1)
    found = {(r["key"], r["channel"]): r["state"] for r in journal.rows("SELECT * FROM messages")}
    assert found["m1", "slack"] == "sent"
    assert found["m2", "slack"] == "failed"
    assert found["m3", "slack"] == "dead"
    again = Box()
    mail(journal, again).submit()
    keys = [(r.message.key, r.channel) for r in again.rows]
    assert ("m3", "slack") in keys
    assert ("m1", "console") in keys
    assert ("m1", "slack") not in keys
    assert ("m2", "slack") not in keys
    assert any("channel slack is dead" in r.message.title for r in again.rows)


def test_a_reply_knows_the_message_that_opened_its_thread_on_its_channel(journal: Journal) -> None:
    """After a restart too, since the reference is in the journal."""
    box = Box()
    post = mail(journal, box)
    with journal.transaction():
        post.post(message("m1", kind="opened"), T0)
    post.submit()
    box.results = [Result(r.id, r.channel, Delivered(f"ref-{r.channel}")) for r in box.rows]
    with journal.transaction():
        post.record(T0)
    again = Box()
    post = mail(journal, again)
    assert post.threads("a") == {"a/r#1"}
    with journal.transaction():
        post.post(message("m2"), T0)
        post.post(message("m3", thread="a/r#2"), T0)
    post.submit()
    refs = {(r.message.key, r.channel): r.thread_ref for r in again.rows}
    assert refs["m2", "slack"] == "ref-slack"
    assert refs["m2", "console"] == "ref-console"
    assert refs["m3", "slack"] is None


def test_the_log_directory_as_a_run_is_called_by_its_name(journal: Journal) -> None:
    """Nobody knows which run "." is; routes see the name too."""
    routed = []
    post = Mail(journal, Box(), lambda m: (routed.append(m.run), ["slack"])[1], "seed47")  # type: ignore[arg-type]  # a fake outbox
    with journal.transaction():
        post.post(replace(message("k"), run="."), T0)
    (row,) = journal.rows("SELECT body FROM messages")
    assert Message.from_json(row["body"]).run == "seed47"
    assert routed == ["seed47"]


def test_a_channel_without_plots_is_said_once(journal: Journal) -> None:
    """The text has arrived, and is not told again; why there is no picture is told one time."""
    box = Box()
    post = mail(journal, box)
    with journal.transaction():
        post.post(message("m1"), T0)
        post.post(message("m2", "a/r#2"), T0)
    post.submit()
    ids = {(row.message.key, row.channel): row.id for row in box.rows}
    box.results = [
        Result(ids[key, "slack"], "slack", Delivered("C:1", no_plot="missing_scope")) for key in ("m1", "m2")
    ]
    with journal.transaction():
        post.record(T0 + 1)
    post.submit()
    told = [row for row in box.rows if "gets no plots" in row.message.title]
    assert [(row.channel, row.message.happened) for row in told] == [
        ("slack", "missing_scope."),
        ("console", "missing_scope."),
    ]
    reasons = journal.rows("SELECT reason FROM messages WHERE state = 'sent'")
    assert [row["reason"] for row in reasons] == ["no plot: missing_scope"] * 2


def test_what_was_done_is_still_in_the_first_message_after_a_restart(journal: Journal) -> None:
    """The cost of a rollback was told by a sentinel that is no more; the story is closed by another."""
    box = Box()
    post = mail(journal, box)
    with journal.transaction():
        post.post(message("m1", kind="opened"), T0)
        post.post(replace(message("m2"), facts=facts([("cost", "500 steps")])), T0)
    post.submit()
    box.results = [Result(row.id, row.channel, Delivered(f"C:{row.id}")) for row in box.rows]
    with journal.transaction():
        post.record(T0 + 1)
    again = Box()
    post = mail(journal, again)
    with journal.transaction():
        post.post(message("m3", kind="closed"), T0 + 2)
    post.submit()
    first = again.rows[-1].first
    assert first is not None
    assert (first.key, dict(first.facts)) == ("m1", {"cost": "500 steps"})
