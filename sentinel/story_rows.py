"""The stories of each channel as rows: waiting, told, silenced, held back, or over.

The one fact to hold: what waits for its group is a row, as what waits for the network is, so a sentinel that
is killed in between tells it at its next start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from notifier.message import Message
from sentinel.grouping import Reason, Sent, Waiting
from sentinel.journal import Journal

State = Literal["waiting", "told", "silenced", "held", "over", "untold"]
"""Of a story on a channel. `untold`: it ended before its turn came; `over`: it has ended."""


@dataclass(frozen=True, slots=True)
class StoryRow:
    """One story on one channel.

    Attributes:
        group: name of its group. rule: "" for a notice. kind: as `grouping.Waiting` has it.
        top: thread of the message that stands for it; "" until there is one.
        told: when that was handed to the channel, in seconds since the epoch.
    """

    channel: str
    thread: str
    group: str
    run: str
    rule: str
    kind: str
    severity: str
    state: State
    due: float
    top: str
    told: float | None

    @property
    def waiting(self) -> Waiting:
        """The part that grouping asks for."""
        return Waiting(self.thread, self.group, self.run, self.kind, self.severity, self.due)


class StoryRows:
    """Everything that writes is called inside a transaction."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def begin(self, channel: str, message: Message, story: Waiting, state: State) -> None:
        """Add a story that has opened."""
        self._journal.put(
            "stories",
            channel=channel,
            thread=message.thread,
            grp=story.group,
            run=story.run,
            rule=message.rule,
            kind=story.kind,
            severity=story.severity,
            state=state,
            due=story.due,
        )

    def find(self, channel: str, thread: str) -> StoryRow | None:
        """Return a story; None where a channel does not know it."""
        rows = self._journal.rows("SELECT * FROM stories WHERE channel = ? AND thread = ?", channel, thread)
        return _story(rows[0]) if rows else None

    def those(self, state: State, channel: str | None = None) -> list[StoryRow]:
        """Return the stories in a state, in the order in which they began."""
        rows = self._journal.rows(
            "SELECT * FROM stories WHERE state = ? AND channel = coalesce(?, channel) ORDER BY rowid",
            state,
            channel,
        )
        return [_story(row) for row in rows]

    def told_in(self, channel: str, groups: Iterable[str]) -> list[StoryRow]:
        """Return the stories of some groups that were told and go on."""
        found = []
        for group in groups:
            rows = self._journal.rows(
                "SELECT * FROM stories WHERE channel = ? AND grp = ? AND state = 'told'", channel, group
            )
            found += [_story(row) for row in rows]
        return found

    def beneath(self, channel: str, top: str) -> list[StoryRow]:
        """Return the stories that one message stands for."""
        rows = self._journal.rows(
            "SELECT * FROM stories WHERE channel = ? AND top = ? ORDER BY rowid", channel, top
        )
        return [_story(row) for row in rows]

    def of_run(self, channel: str, run: str, when: float) -> list[StoryRow]:
        """Return what has been told of a run since, in that order."""
        rows = self._journal.rows(
            "SELECT * FROM stories WHERE channel = ? AND told >= ? AND run = ? ORDER BY told, rowid",
            channel,
            when,
            run,
        )
        return [_story(row) for row in rows]

    def since(self, channel: str, when: float) -> list[Sent]:
        """Return what has been told since, for `grouping.due`."""
        rows = self._journal.rows(
            "SELECT * FROM stories WHERE channel = ? AND told >= ? ORDER BY told", channel, when
        )
        return [Sent(s.group, s.kind, s.severity, s.told or 0.0) for s in map(_story, rows)]

    def next_due(self) -> float | None:
        """Return when the next story that waits is to be told."""
        due: float | None = self._journal.rows("SELECT min(due) AS due FROM stories WHERE state = 'waiting'")[
            0
        ]["due"]
        return due

    def move(self, story: StoryRow, state: State, *, now: float, top: str | None = None) -> None:
        """Put a story into another state; with `top` it is told now by that thread's message."""
        told = now if top is not None else story.told
        ended = now if state in ("over", "untold") else None
        self._journal.change(
            "UPDATE stories SET state = ?, top = ?, told = ?, ended = ? WHERE channel = ? AND thread = ?",
            state,
            story.top if top is None else top,
            told,
            ended,
            story.channel,
            story.thread,
        )

    def hasten(self, story: StoryRow, due: float) -> None:
        """Let a story that waits be told earlier."""
        self._journal.change(
            "UPDATE stories SET due = min(due, ?) WHERE channel = ? AND thread = ?",
            due,
            story.channel,
            story.thread,
        )

    # ── the messages of a story ──

    def add(
        self,
        channel: str,
        message: Message,
        state: str,
        why: Reason,
        now: float,
        *,
        reason: str = "",
        counted: bool = False,
    ) -> int:
        """Add a message's row; returns its id, 0 where its key is there already."""
        return self._journal.add(
            "messages",
            key=message.key,
            channel=channel,
            thread=message.thread,
            body=message.to_json(),
            state=state,
            queued=now,
            why=why.value,
            severity=message.severity,
            counted=now if counted else None,
            reason=reason or None,
        )

    def messages(self, channel: str, thread: str, *states: str) -> list[tuple[int, Message]]:
        """Return a story's messages that are in one of these states, oldest first."""
        marks = ", ".join("?" * len(states))
        asked = "SELECT id, body FROM messages WHERE channel = ? AND thread = ? AND state"
        rows = self._journal.rows(
            f"{asked} IN ({marks}) ORDER BY id",
            channel,
            thread,
            *states,
        )
        return [(row["id"], Message.from_json(row["body"])) for row in rows]

    def first(self, channel: str, thread: str) -> Message | None:
        """Return the message that opened a story, or that stands for several, whatever became of it."""
        rows = self._journal.rows(
            "SELECT body FROM messages WHERE channel = ? AND thread = ? ORDER BY id LIMIT 1", channel, thread
        )
        return Message.from_json(rows[0]["body"]) if rows else None

    def settle(self, ids: Iterable[int], state: str, why: Reason, reason: str = "") -> None:
        """Put messages into another state."""
        for number in ids:
            self._journal.change(
                "UPDATE messages SET state = ?, why = ?, reason = ? WHERE id = ?",
                state,
                why.value,
                reason or None,
                number,
            )

    def count(self, number: int, now: float) -> None:
        """Let a message count against its channel's budget."""
        self._journal.change("UPDATE messages SET counted = ? WHERE id = ?", now, number)

    def counted(self, channel: str, severity: str, since: float) -> int:
        """Return how many messages of a severity have counted since."""
        rows = self._journal.rows(
            "SELECT count(*) AS n FROM messages WHERE channel = ? AND counted > ? AND severity = ? "
            "AND why != ?",
            channel,
            since,
            severity,
            Reason.DIGEST.value,
        )
        return int(rows[0]["n"])

    def held(self, channel: str) -> list[Held]:
        """Return what a channel's budget holds back and nobody was told of, oldest first."""
        rows = self._journal.rows(
            "SELECT id, queued, body FROM messages WHERE channel = ? AND state = 'held' ORDER BY id", channel
        )
        return [Held(row["id"], row["queued"], Message.from_json(row["body"])) for row in rows]

    def last_digest(self, channel: str) -> float | None:
        """Return when people were last told what was held back."""
        rows = self._journal.rows(
            "SELECT max(counted) AS at FROM messages WHERE channel = ? AND why = ?",
            channel,
            Reason.DIGEST.value,
        )
        at: float | None = rows[0]["at"]
        return at

    def visible(self, channel: str, top: str) -> float | None:
        """Return when a thread was last told where all can see it and that has arrived; None where something
        of it is still under way.
        """
        row = self._journal.rows(
            "SELECT max(CASE WHEN state = 'sent' AND why NOT IN (?, ?, ?) THEN settled END) AS at, "
            "sum(state = 'queued') AS waiting FROM messages WHERE channel = ? AND thread = ?",
            Reason.UPDATE.value,
            Reason.NEW_RESOLVED.value,
            Reason.ALL_RESOLVED.value,
            channel,
            top,
        )[0]
        return None if row["waiting"] else row["at"]


@dataclass(frozen=True, slots=True)
class Held:
    """A message that a budget holds back; `queued` in seconds since the epoch."""

    id: int
    queued: float
    message: Message


def waiting(message: Message, group: str) -> Waiting:
    """Return what grouping has to know of a message; `due` is not known yet."""
    kind = message.rule.partition("[")[0] or message.title
    return Waiting(message.thread, group, message.run, kind, message.severity, 0.0)


def acts(message: Message) -> bool:
    """Whether it tells of something asked of the trainer or of people, which nobody is to learn of later or
    never.
    """
    return message.ask is not None or any(fact.label == "asked" for fact in message.facts)


def _story(row: Any) -> StoryRow:
    return StoryRow(
        row["channel"],
        row["thread"],
        row["grp"],
        row["run"],
        row["rule"],
        row["kind"],
        row["severity"],
        row["state"],
        row["due"],
        row["top"],
        row["told"],
    )
