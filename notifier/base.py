"""What a channel is: two methods and two ways to fail.

A notifier makes one attempt and never sleeps or retries: when to try again is the outbox's business, because
only it knows what else is waiting. `notifier.contract` tests that an implementation keeps to this.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

from notifier.message import Message


class DeliveryError(Exception):
    """A message was not delivered. The reason is one line, fit for a person, and holds no secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Transient(DeliveryError):  # noqa: N818  reads as what it says of the delivery: transient or permanent
    """It may work later: the network, a rate limit, a server in trouble.

    Attributes:
        retry_after: seconds for which the other side asked us to stay away; None if it did not say.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Permanent(DeliveryError):  # noqa: N818  as above
    """It will not work however often it is tried.

    Attributes:
        channel_dead: no message can pass here until a person changes something: a revoked token, a missing
            channel. False where only this one message is refused.
    """

    def __init__(self, reason: str, *, channel_dead: bool = False) -> None:
        super().__init__(reason)
        self.channel_dead = channel_dead


class Notifier(Protocol):
    """A channel to people. Called from one thread of its own; each call ends within a known time."""

    def send(self, message: Message, thread_ref: str | None) -> str:
        """Deliver a message once.

        Args:
            message: what to tell.
            thread_ref: what `send` returned for the story's first message, or None if this is the first.

        Returns:
            A reference to the delivered message, text that outlives this process.

        Raises:
            Transient: it may work later.
            Permanent: it will not.
        """

    def edit(self, first_ref: str, message: Message) -> None:
        """Rewrite a story's first message; a channel that cannot do that does nothing.

        Args:
            first_ref: what `send` returned for it.
            message: the whole story as it now stands.

        Raises:
            Transient: it may work later.
            Permanent: it will not.
        """


class Standing(NamedTuple):
    """A story that goes on: what `send` returned for its first message, and the whole of it as it stands."""

    ref: str
    message: Message


@runtime_checkable
class Repeating(Protocol):
    """A notifier whose other side forgets, so what goes on is told again; beside Notifier's methods."""

    def stand(self, stories: Iterable[Standing]) -> None:
        """Say of every story that goes on that it does; who is left out has ended, or is no longer known.

        Called about once a minute, between messages, from the thread that calls the other methods.

        Raises:
            Transient: it may work later; the next call comes as if nothing had happened.
            Permanent: it will not.
        """


@runtime_checkable
class Illustrating(Protocol):
    """A notifier that shows pictures; beside Notifier's methods."""

    def attach(self, story_ref: str, message: Message) -> None:
        """Draw a message's plot and put it into its story; called after the message itself was delivered.

        Args:
            story_ref: what `send` returned for the story's first message.
            message: one with a plot.

        Raises:
            Transient: it may work later; it is tried again a few times, and then left.
            Permanent: it will not. The text has been delivered, so this kills no channel.
        """


@runtime_checkable
class Paced(Protocol):
    """A notifier whose other side counts the calls; beside Notifier's methods.

    Attributes:
        spacing: seconds between two calls in the long run. burst: calls that may come at once before that.
    """

    spacing: float
    burst: int
