"""What goes on is told again where all can see it, and not only those who follow the thread."""

from __future__ import annotations

from dataclasses import replace

from notifier.contract import sample
from notifier.slack import SlackNotifier
from tests.slack_stub import SlackStub


def test_a_repeat_is_a_reply_that_is_shown_in_the_channel_too() -> None:
    """Other replies are not."""
    with SlackStub() as slack:
        notifier = SlackNotifier("#training", environ=slack.environ, base_url=slack.url)
        first = notifier.send(sample(), None)
        notifier.send(sample("update"), first)
        notifier.send(replace(sample("update"), key="again", again=True), first)
        shown = [call.body.get("reply_broadcast") for call in slack.sent() if "thread_ts" in call.body]
    assert shown == [False, True]
