"""`sentinel notify --test`: every kind of message, sent for real on a channel, or only shown.

A channel that was never tried fails on the night it is needed. What is sent here takes the whole way that a
real message takes but for the outbox: one attempt each, and what went wrong is said at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from notifier import webhook
from notifier.base import DeliveryError, Notifier
from notifier.format import blocks, plain
from notifier.message import Message, as_story, facts
from sentinel.channel_tables import Channel, SlackTable, WebhookTable

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = "sentinel-test"
"""The run that the messages are about; there is none."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one message. `reason` is "" where it was delivered."""

    channel: str
    kind: str
    reason: str = ""


def samples(channel: str, severity: str, now: float) -> tuple[Message, ...]:
    """Return a story's beginning, a change, its end, and a notice.

    Args:
        channel: whose test it is. severity: of all of them.
        now: seconds since the epoch; makes their keys new, so that who remembers keys takes them too.
    """
    opened = Message(
        key=f"test/{channel}/{now:.3f}/opened",
        thread=f"test/{channel}/{now:.3f}",
        kind="opened",
        severity=severity,
        run=RUN,
        rule="test/channel",
        title=f"test of the channel {channel}",
        state="firing",
        happened="Nothing is wrong: `sentinel notify --test` sends this, to see whether messages arrive.",
        facts=facts([("step", "1300"), ("since step", "1200"), ("value", "56.1 (limit 50)")]),
        advice="nothing; a change and the end of this story follow at once",
        wall_time=now,
    )
    later = partial(replace, opened, advice="")
    return (
        opened,
        later(
            key=f"{opened.thread}/update",
            kind="update",
            state="rolled back",
            happened="rollback to 00-00001000 (step 1000), as a change of the story would be told.",
            facts=facts([("asked", "rollback to 00-00001000 (step 1000)")]),
        ),
        later(
            key=f"{opened.thread}/closed",
            kind="closed",
            state="resolved",
            happened="The story is closed.",
            facts=facts([("step", "1900")]),
        ),
        later(
            key=f"{opened.thread}/notice",
            thread=f"{opened.thread}/notice",
            kind="notice",
            rule="",
            title=f"test of the channel {channel}: a notice",
            state="",
            happened="What belongs to no alert is told like this. The test is over.",
            facts=(),
        ),
    )


def rehearse(name: str, notifier: Notifier, messages: tuple[Message, ...]) -> Iterator[Attempt]:
    """Send messages as the outbox would, replies and edits among them; the first that fails is the last.

    Args:
        name: the channel's. messages: what `samples` returned.
    """
    first, ref = messages[0], None
    for message in messages:
        story = message.thread == first.thread
        reason = ""
        try:
            sent = notifier.send(message, ref if story else None)
            if story and ref is not None:
                notifier.edit(ref, as_story(first, message))
            ref = ref or sent
        except DeliveryError as error:
            reason = error.reason
        except Exception as error:  # noqa: BLE001  a stranger's notifier; the text may hold a secret, so only its type
            reason = f"the notifier has a bug: it raised {type(error).__name__}"
        yield Attempt(name, message.kind, reason)
        if reason:
            return


def shown(table: Channel, message: Message) -> str:
    """Return what a channel would be sent: JSON where it is sent JSON of a documented form, else text."""
    renderers: dict[type[Channel], Callable[[Message], object]] = {
        WebhookTable: webhook.body_of,
        SlackTable: lambda message: {"blocks": blocks(message)},
    }
    render = renderers.get(type(table))
    if render is None:
        return plain(message)
    return json.dumps(render(message), indent=2, ensure_ascii=False)
