"""From a message to Slack: an outage of an hour, and a flood within Slack's rate limits, on a fake clock.

Journal, mail, lane, notifier and HTTP are the real ones; what is not there are threads and time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from notifier.base import DeliveryError
from notifier.slack import SlackNotifier
from sentinel.delivery import Job, Lane, Result, Row
from sentinel.grouping import Policy
from sentinel.journal import Journal
from sentinel.mail import Mail
from tests.sentinel.event_files import T0
from tests.sentinel.test_groups import closed, opened
from tests.slack_stub import Rates, Reply, SlackStub


class Wire:
    """An outbox with one channel and no thread: it calls when it is told to."""

    repeating = ()

    def __init__(self, notifier: SlackNotifier) -> None:
        self._lane = Lane("slack", lambda: 0.0, spacing=notifier.spacing, burst=notifier.burst)
        self._notifier = notifier
        self._results: list[Result] = []

    def submit(self, rows: Iterable[Row]) -> None:
        found = [self._lane.add(row) for row in rows]
        self._results += [result for result in found if result is not None]

    def collect(self) -> list[Result]:
        taken, self._results = self._results, []
        return taken

    def pump(self, now: float) -> None:
        """Make every call that may be made now."""
        while isinstance(job := self._lane.next(now), Job):
            ref: str | None = None
            error: DeliveryError | None = None
            try:
                if job.verb == "send":
                    ref = self._notifier.send(job.message, job.ref)
                else:
                    assert job.ref is not None
                    self._notifier.edit(job.ref, job.message)
            except DeliveryError as failed:
                error = failed
            self._results += self._lane.settle(job, ref, error, now)


class Night:
    """One sentinel's mail through a Slack that keeps its limits."""

    def __init__(self, path: Path, slack: SlackStub, policy: Policy) -> None:
        self.slack, self.now, self.policy, self.path = slack, T0, policy, path
        self.down = False
        slack.rates = Rates(lambda: self.now)
        self.journal = Journal(path)
        self.start()

    def start(self) -> None:
        """Begin as a new process does."""
        self.journal.close()
        self.journal = Journal(self.path)
        self.wire = Wire(SlackNotifier("#training", environ=self.slack.environ, base_url=self.slack.url))
        outbox: Any = self.wire
        self.mail = Mail(self.journal, outbox, lambda _m: ("slack",), policies={"slack": self.policy})

    def second(self, *messages: Any, seconds: float = 1.0) -> None:
        """Let a second pass: a tick, and what the channel's thread would do."""
        self.now += seconds
        with self.journal.transaction():
            for message in messages:
                self.mail.post(message, self.now)
            self.mail.look(self.now, list)
        self.mail.submit()
        if self.down:
            self.slack.script(Reply(status=503))
        self.wire.pump(self.now)
        if self.down:
            self.slack._script.clear()

    def texts(self) -> list[str]:
        return [call.body["text"] for call in self.slack.sent()]


@pytest.fixture
def slack() -> Iterator[SlackStub]:
    with SlackStub() as stub:
        yield stub


def test_slack_down_for_an_hour_loses_nothing_and_tells_nothing_twice(
    tmp_path: Path, slack: SlackStub
) -> None:
    """A restart in the middle included; each story's end comes after its beginning."""
    night = Night(tmp_path / "j", slack, Policy())
    night.down = True
    stories = [opened(f"run{n}", f"rule{n}", "critical") for n in range(12)]
    for minute in range(60):
        night.second(*stories[minute // 5 : minute // 5 + 1] if minute % 5 == 0 else (), seconds=60.0)
        if minute == 30:
            night.start()
    assert night.texts() == []
    night.second(*(closed(story) for story in stories[:6]))
    night.down = False
    for _ in range(120):
        night.second(seconds=5.0)
    told = night.texts()
    assert len(told) == len(set(told)) == 18
    for n in range(6):
        (begin,) = [i for i, text in enumerate(told) if f"run{n} " in text and "is too high" in text]
        (end,) = [i for i, text in enumerate(told) if f"run{n} " in text and "clear" in text]
        assert begin < end
    with night.journal.transaction():
        night.mail.record(night.now)
    assert {row["state"] for row in night.journal.rows("SELECT state FROM messages")} == {"sent"}


@pytest.mark.parametrize("budget", [{"warning": (20, 3600.0)}, {}], ids=["with budget", "without"])
def test_a_warning_that_flaps_delays_no_critical(
    slack: SlackStub, budget: dict[str, tuple[int, float]]
) -> None:
    """A thousand changes in a thousand seconds; a critical is in Slack within seconds."""
    night = Night(Path(":memory:"), slack, Policy(budget=budget))
    asked: dict[str, float] = {}
    seen: dict[str, float] = {}
    for n in range(500):
        flap = opened("a", "flap", number=n + 1)
        grave = [opened(f"c{n}", f"boom{n}", "critical")] if n % 100 == 99 else []
        asked.update({each.rule: night.now for each in grave})
        night.second(flap, closed(flap), *grave, seconds=2.0)
        for rule in asked.keys() - seen.keys():
            if any(rule in text for text in night.texts()[-30:]):
                seen[rule] = night.now
    assert seen.keys() == asked.keys()
    assert max(seen[rule] - asked[rule] for rule in asked) <= 8.0
    held = night.journal.rows("SELECT count(*) AS n FROM messages WHERE state = 'held'")[0]["n"]
    assert held == (480 if budget else 0)
    assert not any(call.error == "ratelimited" for call in slack.calls) or not budget


def test_a_story_that_waits_is_told_after_a_kill(tmp_path: Path, slack: SlackStub) -> None:
    """Two kills: while it waits for its group, and after it was handed over."""
    night = Night(tmp_path / "j", slack, Policy(wait=30.0))
    night.second(opened("a", "r1"), opened("a", "r2"))
    night.start()
    night.down = True
    night.second(seconds=31.0)
    night.start()
    night.down = False
    for _ in range(20):
        night.second(seconds=20.0)
    (text,) = night.texts()
    assert "2 alerts at once" in text
