"""The outbox with real threads: nothing that a notifier does holds up a tick."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from notifier.base import Permanent, Transient
from notifier.contract import sample
from notifier.message import Message
from notifier.slack import SlackNotifier
from sentinel import outbox as module
from sentinel.outbox import Delivered, Failed, Outbox, Postponed, Result, Row
from tests.slack_stub import CHANNEL_ID, SlackStub, rate_limit, refusal, slack

__all__ = ["slack"]  # a fixture: importing it is using it


class Memory:
    """A channel that keeps what it is told, after doing `before`."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.told: list[str] = []
        self.edited: list[str] = []
        self.before = before

    def send(self, message: Message, thread_ref: str | None) -> str:
        self.before()
        self.told.append(message.key)
        return f"ref-{message.key}"

    def edit(self, first_ref: str, message: Message) -> None:
        self.edited.append(first_ref)


def row(number: int, channel: str = "memory", thread: str = "", kind: str = "opened") -> Row:
    return Row(number, channel, replace(sample(kind), key=f"k{number}", thread=thread or f"t{number}"))


def collect(outbox: Outbox, count: int) -> list[Result]:
    """Poll as ticks do, until `count` results are there."""
    found: list[Result] = []
    deadline = time.monotonic() + 10
    while len(found) < count and time.monotonic() < deadline:
        found += outbox.collect()
        time.sleep(0.001)
    assert len(found) == count, f"{found}, {outbox.health()}"
    return found


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Something to hang on; opened when the test ends, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()


def test_a_row_goes_out_and_its_result_comes_back() -> None:
    """The thinnest path."""
    memory = Memory()
    outbox = Outbox({"memory": memory}, time.monotonic)
    outbox.submit([row(1)])
    assert collect(outbox, 1) == [Result(1, "memory", Delivered("ref-k1"))]
    assert memory.told == ["k1"]
    assert outbox.collect() == []
    outbox.close()


def test_a_channel_that_hangs_holds_up_neither_the_tick_nor_the_others(gate: threading.Event) -> None:
    """Slack's socket may stay open for ever; the console still speaks and submit returns at once."""
    console = Memory()
    outbox = Outbox({"slack": Memory(before=lambda: assert_opens(gate)), "console": console}, time.monotonic)
    began = time.monotonic()
    for number in range(200):
        outbox.submit([row(number, "slack"), row(1000 + number, "console")])
        outbox.health()
    assert time.monotonic() - began < 1.0
    results = collect(outbox, 200)
    assert {result.channel for result in results} == {"console"}
    assert outbox.health()["slack"].queued == 200
    outbox.close()


def assert_opens(gate: threading.Event) -> None:
    assert gate.wait(30)


def test_a_call_without_an_end_is_reported_as_hung(gate: threading.Event) -> None:
    """A channel that neither fails nor answers must not look healthy."""
    now = [0.0]
    outbox = Outbox({"slack": Memory(before=lambda: assert_opens(gate))}, lambda: now[0])
    outbox.submit([row(1, "slack")])
    deadline = time.monotonic() + 10
    while outbox._workers["slack"]._calling_since is None and time.monotonic() < deadline:
        time.sleep(0.001)
    now[0] = module.HUNG_AFTER + 1
    health = outbox.health()["slack"]
    assert (health.state, health.reason, health.queued) == ("hung", "no answer for 61 s", 1)
    outbox.close()


def test_a_transient_failure_is_reported_and_tried_again() -> None:
    """The journal can show that it waits; nobody has to submit it again."""
    errors = [Transient("down", 0.0)]

    def before() -> None:
        if errors:
            raise errors.pop()

    outbox = Outbox({"memory": Memory(before)}, time.monotonic, jitter=lambda: 0.0)
    outbox.submit([row(1)])
    first, last = collect(outbox, 2)
    assert isinstance(first.outcome, Postponed)
    assert (first.outcome.reason, first.outcome.attempts) == ("down", 1)
    assert last.outcome == Delivered("ref-k1")
    outbox.close()


def test_a_dead_channel_is_told_with_its_reason() -> None:
    """Main tells it on another channel and in the status."""

    def before() -> None:
        raise Permanent("invalid_auth; put a valid bot token into SLACK_BOT_TOKEN", channel_dead=True)

    outbox = Outbox({"slack": Memory(before)}, time.monotonic)
    outbox.submit([row(1, "slack")])
    [result] = collect(outbox, 1)
    assert isinstance(result.outcome, Failed)
    assert result.outcome.channel_dead
    assert outbox.health()["slack"].state == "dead"
    outbox.submit([row(2, "slack")])
    [result] = collect(outbox, 1)
    assert result == Result(2, "slack", Failed(outbox.health()["slack"].reason, channel_dead=True))
    outbox.close()


@pytest.mark.parametrize("bug", [ZeroDivisionError("xoxb-secret"), SystemExit(1)])
def test_a_bug_in_a_notifier_is_told_and_does_not_end_its_thread(bug: BaseException) -> None:
    """Its text is kept back, since it may hold a secret; the next message goes out."""
    bugs = [bug]

    def before() -> None:
        if bugs:
            raise bugs.pop()

    outbox = Outbox({"memory": Memory(before)}, time.monotonic)
    outbox.submit([row(1)])
    [result] = collect(outbox, 1)
    reason = f"the notifier has a bug: it raised {type(bug).__name__}"
    assert result == Result(1, "memory", Failed(reason, channel_dead=False))
    outbox.submit([row(2)])
    assert collect(outbox, 1)[0].outcome == Delivered("ref-k2")
    outbox.close()


def test_a_row_for_a_channel_that_is_not_there_fails_at_once() -> None:
    """The configuration changed between two starts; the row must not wait for ever."""
    outbox = Outbox({"console": Memory()}, time.monotonic)
    outbox.submit([row(1, "slack")])
    reason = "there is no channel 'slack' (configured: console)"
    assert outbox.collect() == [Result(1, "slack", Failed(reason, channel_dead=True))]
    outbox.close()


def test_drain_waits_for_what_can_be_delivered_and_not_longer(gate: threading.Event) -> None:
    """At the end of a process the last words get out, and a hung channel does not keep it from ending."""
    outbox = Outbox({"good": Memory(), "hung": Memory(before=lambda: assert_opens(gate))}, time.monotonic)
    outbox.submit([row(n, "good") for n in range(20)])
    assert outbox.drain(10)
    assert len(outbox.collect()) == 20
    outbox.submit([row(100, "hung"), row(101, "good")])
    began = time.monotonic()
    assert not outbox.drain(0.05)
    assert time.monotonic() - began < 2
    assert [result.row_id for result in outbox.collect()] == [101]
    outbox.close()


def test_a_result_wakes_the_main_thread() -> None:
    """So that a tick can note a delivery before its interval is over."""
    woken = threading.Event()
    outbox = Outbox({"memory": Memory()}, time.monotonic, wake=woken.set)
    outbox.submit([row(1)])
    assert woken.wait(10)
    assert len(outbox.collect()) == 1
    outbox.close()


def test_a_closed_outbox_ends_its_threads() -> None:
    """And is not called dead for it."""
    outbox = Outbox({"memory": Memory()}, time.monotonic)
    worker = outbox._workers["memory"]
    outbox.close()
    worker._thread.join(10)
    assert not worker._thread.is_alive()
    assert outbox.health()["memory"].state == "ok"


def test_a_story_goes_to_slack_through_a_rate_limit_in_order(slack: SlackStub) -> None:
    """The whole path: rows, worker, slack_sdk, HTTP; one message edited, two replies, nothing doubled."""
    notifier = SlackNotifier("#training", environ=slack.environ, base_url=slack.url, timeout=2)
    slack.script(rate_limit(0.01), refusal("internal_error"))
    outbox = Outbox({"slack": notifier}, time.monotonic, jitter=lambda: 0.0)
    outbox.submit(
        row(n, "slack", "story", kind) for n, kind in enumerate(("opened", "update", "closed"), start=1)
    )
    results = collect(outbox, 5)
    assert [r.row_id for r in results if isinstance(r.outcome, Postponed)] == [1, 1]
    assert [r.row_id for r in results if isinstance(r.outcome, Delivered)] == [1, 2, 3]
    [top] = slack.top()
    assert "recovered" in top["text"]
    assert len(slack.thread(top["ts"])) == 2
    assert len(slack.sent("chat.update")) == 1
    assert results[-1].outcome.ref.startswith(f"{CHANNEL_ID}:")  # type: ignore[union-attr]  # a Delivered, as said above
    outbox.close()
