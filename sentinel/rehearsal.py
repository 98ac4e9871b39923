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
from notifier.base import DeliveryError, Illustrating, Notifier
from notifier.format import blocks, plain
from notifier.message import Message, as_story, facts
from notifier.plot import Line, Mark, Plot
from sentinel.channel_tables import Channel, SlackTable, WebhookTable

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = "sentinel-test"
"""The run that the messages are about; there is none."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one message: `reason` is "" where it was delivered, `no_plot` where its plot was too."""

    channel: str
    kind: str
    reason: str = ""
    no_plot: str = ""


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
        plot=Plot(
            f"test of the channel {channel}",
            RUN,
            "step",
            (Line("debug/actor_q_mean", (((1000, 2.3), (1100, 2.9), (1200, 11.7), (1300, 56.1)),)),),
            limit=50.0,
            limit_label="limit 50",
            marks=(Mark("onset", 1200, "began at 1200"), Mark("checkpoint", 1000, "00-00001000")),
        ),
    )
    later = partial(replace, opened, advice="", plot=None)
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
        reason = no_plot = ""
        try:
            sent = notifier.send(message, ref if story else None)
            if story and ref is not None:
                notifier.edit(ref, as_story(first, message))
            ref = ref or sent
            if message.plot is not None and isinstance(notifier, Illustrating):
                no_plot = _attached(notifier, ref, message)
        except DeliveryError as error:
            reason = error.reason
        except Exception as error:  # noqa: BLE001  a stranger's notifier; the text may hold a secret, so only its type
            reason = f"the notifier has a bug: it raised {type(error).__name__}"
        yield Attempt(name, message.kind, reason, no_plot)
        if reason:
            return


def _attached(notifier: Illustrating, ref: str, message: Message) -> str:
    try:
        notifier.attach(ref, message)
    except DeliveryError as error:
        return error.reason
    return ""


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
