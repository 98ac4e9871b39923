"""Channels that remember what they were told, and the outbox with its real threads, a step at a time.

The threads are the sentinel's own. What is stepped is when they may go on: a channel answers only while its
turn is open, so that the same seed gives the same order of deliveries whatever the machine does.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

from notifier.base import Notifier, Permanent, Transient
from notifier.message import Message
from sentinel.outbox import Outbox, Row

Mood = Literal["ok", "down", "limited", "hung", "picky", "revoked"]
"""picky: one message in three is refused for good; revoked: the channel is dead until the next start."""

LONGEST = 30.0
"""Real seconds after which a thread that does not come to rest is an error."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What arrived: the message, in which thread, told by which life of the sentinel; `edited`: the thread's
    first message already said it.
    """

    key: str
    ref: str
    thread_ref: str | None
    life: int
    edited: bool


@dataclass
class World:
    """What is at the other end, for as long as the soak lasts.

    Attributes:
        moods: how each channel is. delivered: what has arrived. refused: keys that never will.
        edited: channels and keys of what a thread's first message has been made to say.
    """

    random: random.Random
    moods: dict[str, Mood] = field(default_factory=dict)
    delivered: dict[str, list[Delivery]] = field(default_factory=dict)
    refused: dict[str, set[str]] = field(default_factory=dict)
    edited: set[tuple[str, str]] = field(default_factory=set)
    number: int = 0


class Channel:
    """One life's connection to a channel."""

    def __init__(self, name: str, world: World, life: int) -> None:
        self.name = name
        self.turn = threading.Event()
        self.severed = False
        self._world = world
        self._life = life

    def send(self, message: Message, thread_ref: str | None) -> str:
        """Deliver, or fail as the channel's mood has it."""
        self._answer(message)
        self._world.number += 1
        ref = f"{self.name}/{self._world.number}"
        edited = (self.name, message.key) in self._world.edited
        found = Delivery(message.key, ref, thread_ref, self._life, edited)
        self._world.delivered.setdefault(self.name, []).append(found)
        return ref

    def edit(self, first_ref: str, message: Message) -> None:
        """The first message of a thread says how things stand."""
        self._answer(None)
        self._world.edited.add((self.name, message.key))

    def _answer(self, message: Message | None) -> None:
        self.turn.wait()
        if self.severed:
            raise Transient("the process is gone")
        mood = self._world.moods.get(self.name, "ok")
        if mood in ("down", "hung"):
            raise Transient("no connection")
        if mood == "limited" and self._world.random.random() < 0.7:
            raise Transient("rate limited", retry_after=self._world.random.choice([1.0, 30.0, 600.0]))
        if mood == "revoked":
            raise Permanent("token revoked", channel_dead=True)
        if mood == "picky" and message is not None and self._world.random.random() < 0.3:
            self._world.refused.setdefault(self.name, set()).add(message.key)
            raise Permanent("invalid message")


class SteppedOutbox(Outbox):
    """The outbox, whose threads come to rest before the clock moves."""

    def __init__(
        self,
        channels: Mapping[str, Notifier],
        monotonic: Callable[[], float],
        *,
        jitter: Callable[[], float],
        moods: Mapping[str, Mood],
        wake: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(channels, monotonic, jitter=jitter, wake=wake)
        self._moods = moods
        self._channels = channels
        self._now = monotonic

    def submit(self, rows: Iterable[Row]) -> None:
        """Queue all rows before a thread looks at the first."""
        with ExitStack() as held:
            for worker in self._workers.values():
                held.enter_context(worker._changed)
            super().submit(rows)

    def pump(self) -> None:
        """Let each channel in turn do whatever it can do now."""
        for name, worker in self._workers.items():
            channel: Any = self._channels[name]
            hung = self._moods.get(name) == "hung"
            if not hung:
                channel.turn.set()
            deadline = time.monotonic() + LONGEST
            with worker._changed:
                worker._changed.notify_all()
                while not self._at_rest(worker, hung=hung):
                    worker._changed.wait(0.002)  # that a call begins is announced by nobody
                    if time.monotonic() > deadline:
                        raise AssertionError(f"the thread of channel {name} does not come to rest")
            if not hung:
                channel.turn.clear()

    def _at_rest(self, worker: Any, *, hung: bool) -> bool:
        if worker._calling_since is not None:
            return hung
        lane, now = worker._lane, self._now()
        if not worker._thread.is_alive():
            return True
        return lane._busy is None and not any(
            lane._ready_at(queue[0]) <= now for queue in lane._threads.values()
        )

    def sever(self) -> None:
        """End the threads as the end of their process would: what is under way never arrives."""
        self.close()
        for name, worker in self._workers.items():
            channel: Any = self._channels[name]
            channel.severed = True
            channel.turn.set()
            worker._thread.join(LONGEST)
            assert not worker._thread.is_alive(), f"the thread of channel {name} outlives its process"
