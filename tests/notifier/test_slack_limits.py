"""Whole stories through a lane and the real notifier, against a Slack that keeps its own limits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier import picture
from notifier.base import DeliveryError
from notifier.contract import hostile, sample
from notifier.format import blocks
from notifier.message import KINDS, SEVERITIES, Message, facts
from notifier.slack import BURST, SPACING, SlackNotifier
from sentinel.delivery import Delivered, Failed, Job, Lane, Postponed, Result, Row
from tests.notifier.test_golden import told
from tests.slack_stub import MOST_TOGETHER, Rates, SlackStub, block_errors, block_texts, slack, units

__all__ = ["slack", "told"]  # fixtures: importing them is using them


@dataclass
class Flow:
    """One channel, driven on a clock that only its waits move."""

    stub: SlackStub
    now: float = 0.0
    results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.notifier = SlackNotifier(
            "#training", environ=self.stub.environ, base_url=self.stub.url, timeout=5
        )
        draws = picture.available()
        self.lane = Lane("slack", lambda: 0.0, draws=draws, spacing=SPACING, burst=BURST)

    def carry(self, messages: list[Message]) -> None:
        """Deliver all of it."""
        for number, message in enumerate(messages, start=len(self.results) + 1):
            self.lane.add(Row(number, "slack", message))
        while (job := self.lane.next(self.now)) is not None:
            if not isinstance(job, Job):
                self.now = job
                continue
            self.results += self.lane.settle(job, *self._call(job), self.now)

    def _call(self, job: Job) -> tuple[str | None, DeliveryError | None]:
        try:
            if job.verb == "send":
                return self.notifier.send(job.message, job.ref), None
            assert job.ref is not None
            (self.notifier.edit if job.verb == "edit" else self.notifier.attach)(job.ref, job.message)
        except DeliveryError as error:
            return None, error
        return None, None

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(type(result.outcome).__name__ for result in self.results)


def flood(many: int) -> list[Message]:
    """As many alerts at once, a tenth of them critical, and these not first."""
    return [
        replace(
            sample(severity="critical" if number % 10 == 9 else "warning"),
            key=f"k{number}",
            thread=f"t{number}",
            title=f"alert {number}",
        )
        for number in range(many)
    ]


def test_five_hundred_alerts_keep_slacks_pace_and_none_is_lost(slack: SlackStub) -> None:
    """No call is refused for its rate; the gravest are there first; it takes as long as Slack's pace does."""
    flow = Flow(slack)
    slack.rates = Rates(lambda: flow.now)
    messages = flood(500)
    flow.carry(messages)
    assert flow.outcomes == {"Delivered": 500}
    assert not [call for call in slack.calls if call.error]
    titles = [call.body["blocks"][0]["text"]["text"] for call in slack.sent()]
    assert sorted(titles) == sorted(message.title for message in messages)
    assert titles[:50] == [m.title for m in messages if m.severity == "critical"]
    assert flow.now == pytest.approx((500 - BURST) * SPACING)


def test_a_slack_that_allows_no_burst_is_waited_for(slack: SlackStub) -> None:
    """Who is told to stay away stays away as long; still nothing is lost, and nothing comes twice."""
    flow = Flow(slack)
    slack.rates = Rates(lambda: flow.now, burst=1)
    flow.carry(flood(60))
    assert {r.row_id for r in flow.results if isinstance(r.outcome, Delivered)} == set(range(1, 61))
    assert not [r for r in flow.results if isinstance(r.outcome, Failed)]
    assert len(slack.top()) == 60
    limited = [call for call in slack.calls if call.error]
    assert len(limited) == len([r for r in flow.results if isinstance(r.outcome, Postponed)])
    assert len(limited) <= BURST, "the first burst is all that is too much"


def test_fifty_stories_with_their_edits_keep_every_rate(slack: SlackStub) -> None:
    """A story is a message, replies and edits; each method has a limit of its own."""
    flow = Flow(slack)
    slack.rates = Rates(lambda: flow.now)
    opened = flood(50)
    flow.carry(opened)
    for kind in ("update", "update", "closed"):
        at = f"{kind}{len(flow.results)}"
        flow.carry([replace(m, key=f"{m.key}/{at}", kind=kind, state="recovered") for m in opened])
    assert flow.outcomes == {"Delivered": 200}
    assert not [call for call in slack.calls if call.error]
    assert all("recovered" in top["text"] for top in slack.top())
    assert [len(slack.thread(top["ts"])) for top in slack.top()] == [3] * 50


def test_the_incidents_story_is_taken_as_it_is(slack: SlackStub, told: list[Message]) -> None:
    """One message in the channel, the rest in its thread, two pictures; and Slack refuses nothing of it."""
    flow = Flow(slack)
    slack.rates = Rates(lambda: flow.now)
    for message in told:
        flow.carry([message])
    assert slack.refused == []
    assert not [call for call in slack.calls if call.error]
    [top] = slack.top()
    assert len(slack.thread(top["ts"])) == len(told) - 1
    shown = str(top["blocks"])
    assert "🔴 critical · resolved" in shown
    assert "700 steps = 1 min 56 s of training" in shown, "what was done is still there at the end"
    assert "sentinel explain td3/actor_exploits_critic /data/runs/driving/seed047" in shown
    if picture.available():
        assert [file.thread for file in slack.files] == [top["ts"]] * 2
    assert slack.alive == []


def huge() -> list[Message]:
    """Everything at its longest, in signs that grow when they are escaped, count twice, or join."""
    made = []
    for number, sign in enumerate(("&", "<", "x", "\N{FIRE}", "`", "e\u0301", "\n", "\u202e", "$")):
        text = sign * 20_000
        message = Message(
            key=f"huge{number}",
            thread=f"huge{number}",
            kind="opened",
            severity="fatal",
            run=text,
            rule=text,
            title=text,
            state=text,
            happened=text,
            wall_time=1.7e9,
            facts=facts([(text, text)] * 100),
            advice=text,
            commands=(text,) * 50,
        )
        made += [message, replace(message, key=f"huge{number}/closed", kind="closed")]
    return made


def test_huge_and_hostile_stories_are_refused_nothing(slack: SlackStub) -> None:
    """Cut to what Slack takes, before it is sent: no message falls back to bare text."""
    flow = Flow(slack)
    messages = [
        replace(
            message, key=f"{number}/{message.key}", thread=f"{number}", commands=(message.run, message.title)
        )
        for number, message in enumerate(hostile())
    ]
    flow.carry([*huge(), *messages])
    assert slack.refused == []
    assert not [call for call in slack.calls if call.error]
    assert set(flow.outcomes) == {"Delivered"}
    assert slack.alive == []
    assert all(message["blocks"] for message in slack.messages.values())


TEXT = st.text(max_size=60) | st.text(st.sampled_from("&<>`*_~\n\t 0123🔥é\u202e"), max_size=4000)


@given(
    st.builds(
        Message,
        key=st.just("k"),
        thread=st.just("t"),
        kind=st.sampled_from(KINDS),
        severity=st.sampled_from(SEVERITIES),
        run=TEXT,
        rule=TEXT,
        title=TEXT,
        happened=TEXT,
        wall_time=st.floats(),
        state=TEXT,
        advice=TEXT,
        facts=st.lists(st.tuples(TEXT, TEXT), max_size=15).map(facts),
        commands=st.lists(TEXT, max_size=5).map(tuple),
    )
)
@settings(max_examples=60, deadline=None)
def test_any_message_keeps_slacks_limits(message: Message) -> None:
    """Every block by itself, and all of them together."""
    made = blocks(message)
    assert block_errors(made) == []
    assert sum(units(text["text"]) for block in made for text in block_texts(block)) <= MOST_TOGETHER


def test_the_stub_says_why_as_slack_does(slack: SlackStub) -> None:
    """A stub that takes everything would show nothing."""
    header = {"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}
    section = {"type": "section", "fields": [{"type": "mrkdwn", "text": ""}] * 11}
    assert block_errors([header, section]) == [
        "must be less than 151 characters [json-pointer:/blocks/0/text/text]",
        "no more than 10 items allowed [json-pointer:/blocks/1/fields]",
        *(f"must be more than 0 characters [json-pointer:/blocks/1/fields/{n}/text]" for n in range(11)),
    ]
    assert block_errors([{"type": "divider"}] * 51) == [
        "no more than 50 items allowed [json-pointer:/blocks]"
    ]
    rates = Rates(lambda: 0.0)
    assert [rates.wait("chat.postMessage") > 0 for _ in range(11)] == [False] * 10 + [True]
    assert [rates.wait("chat.update") > 0 for _ in range(51)] == [False] * 50 + [True]
