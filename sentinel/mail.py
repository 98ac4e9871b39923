"""Messages between the journal and the outbox: a row before it is sent, and a row until it has arrived."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from notifier.base import Standing
from notifier.message import Fact, Message, as_story, so_far
from sentinel.grouping import Policy, Reason
from sentinel.groups import Groups
from sentinel.journal import Journal
from sentinel.outbox import Delivered, Failed, Outbox, Postponed, Result, Row
from sentinel.requests import Ack
from sentinel.silences import Outcome, Silences
from sentinel.story import notice

_ADDED = 8  # messages of a story whose facts its first one is joined with


class Mail:
    """Queues messages in the journal, hands them to the outbox after the commit, and writes down what became
    of them.
    """

    def __init__(
        self,
        journal: Journal,
        outbox: Outbox,
        route: Callable[[Message], Sequence[str]],
        root: str = ".",
        policies: Mapping[str, Policy] | None = None,
        labels: Callable[[str, str], Mapping[str, str]] = lambda _run, _rule: {},
    ) -> None:
        """Take up every message that has not arrived yet, those of a channel that was dead included.

        Args:
            journal: holds the rows.
            outbox: delivers them.
            route: names the channels for a message.
            root: what people call the run that is the log directory itself.
            policies: how each channel is told; one without a policy is told everything at once.
            labels: of a run and a rule.
        """
        self._labels = labels
        self.groups = Groups(journal, policies or {}, self._send, root)
        self._journal = journal
        self._outbox = outbox
        self._route = route
        self._root = root
        self._dead: set[str] = set()
        self._unplotted: set[str] = set()
        self._ready: list[Row] = [
            self._row(row["id"], row["channel"], Message.from_json(row["body"]))
            for row in journal.rows(
                "SELECT id, channel, body FROM messages WHERE state IN ('queued', 'dead') ORDER BY id"
            )
        ]

    def post(self, message: Message, now: float, *, everywhere: bool = False) -> None:
        """Queue a message on its channels; only inside a transaction. A key that was queued before is not
        queued again.

        Args:
            message: what to tell. now: wall time.
            everywhere: on every channel that tells anything at all, however mild the message is.
        """
        if message.run == ".":
            message = replace(message, run=self._root)
        labels = self._labels(message.run, message.rule)
        if labels:
            message = replace(message, labels={**labels, **message.labels})
        for channel in self._route(replace(message, severity="fatal") if everywhere else message):
            if everywhere:
                self.groups.queue(channel, message, Reason.NOTICE, now)
            else:
                self.groups.post(channel, message, now)

    def _send(self, number: int, channel: str, message: Message) -> None:
        self._ready.append(self._row(number, channel, message))

    def look(self, now: float, going: Callable[[], Iterable[str]], *, minute: bool = False) -> None:
        """Record what became of messages, and tell what is due; at the end of a tick's transaction.

        Args:
            now: wall time. going: asked for the names of the stories that still go on.
            minute: a minute has passed since this was last true: repeat what goes on.
        """
        self.record(now)
        self.groups.flush(now, going)
        if minute:
            self.groups.look(now, going())

    @property
    def has_work(self) -> bool:
        """Whether there is something to record or to submit."""
        return bool(self._ready) or self._outbox.has_results

    def is_due(self, now: float) -> bool:
        """Whether something that waited is to be told."""
        return self.groups.is_due(now)

    def record(self, now: float) -> None:
        """Write down the results that have come in; only inside a transaction."""
        for result in self._outbox.collect():
            self._settle(result, now)

    def submit(self) -> None:
        """Hand over what was queued; only after the commit: nothing is told that could be forgotten."""
        ready, self._ready = self._ready, []
        self._outbox.submit(ready)

    @property
    def repeating(self) -> tuple[str, ...]:
        """The channels that have to be told again and again what goes on."""
        return self._outbox.repeating

    @property
    def silences(self) -> Silences:
        """The silences and acknowledgements."""
        return self.groups.silences

    def ack(self, asked: Ack, runs: Iterable[str], now: float) -> Outcome:
        """Note who has an alert in hand, and say so in its thread; only inside a transaction."""
        outcome = self.silences.ack(asked, runs, now)
        if outcome.state == "done":
            for message in self._in_hand(asked, now):
                self.post(message, now)
        return outcome

    def _in_hand(self, asked: Ack, now: float) -> list[Message]:
        going = self.silences.going(asked.run)
        thread = f"{asked.run}/{asked.rule}#{going[asked.run, asked.rule]}"
        rows = self._journal.rows("SELECT body FROM messages WHERE thread = ? ORDER BY id LIMIT 1", thread)
        if not rows:
            return []  # it was never told
        first = Message.from_json(rows[0]["body"])
        said = f"{asked.by} has it in hand" + (f": {asked.why}" if asked.why else "")
        body = replace(
            first,
            key=f"{thread}/ack/{now:.3f}",
            kind="update",
            state=f"firing, {asked.by} has it",
            happened=said,
            facts=(Fact("in hand", said),),
            advice="",
            commands=(),
            plot=None,
            wall_time=now,
        )
        return [body]

    def stand(self, threads: Iterable[str], now: float) -> None:
        """Have every story that goes on said again where that is needed; only outside a transaction.

        Args:
            threads: names of the stories; those that a channel was never told are left out there, and so are
                those that are silenced.
            now: wall time.
        """
        if not self.repeating:
            return
        wanted = list(threads)
        for channel in self.repeating:
            found = (self._standing(channel, thread, now) for thread in wanted)
            self._outbox.stand(channel, [story for story in found if story is not None])

    def _standing(self, channel: str, thread: str, now: float) -> Standing | None:
        rows = self._journal.rows(
            "SELECT ref, body FROM messages WHERE channel = ? AND thread = ? AND state = 'sent' ORDER BY id",
            channel,
            thread,
        )
        if not rows:
            return None
        first, latest = (Message.from_json(rows[at]["body"]) for at in (0, -1))
        if latest.kind == "closed":
            return None
        if first.run and self.silences.over(first.run, first.rule, now) is not None:
            return None
        return Standing(rows[0]["ref"], as_story(first, latest) if len(rows) > 1 else first)

    def health(self) -> dict[str, dict[str, str]]:
        """Say how each channel is: ok, retrying, hung or dead, and why."""
        found = self._outbox.health()
        return {name: {"state": channel.state, "reason": channel.reason} for name, channel in found.items()}

    def threads(self, run: str) -> set[str]:
        """Return the threads of a run that have a first message."""
        rows = self._journal.rows(
            "SELECT DISTINCT thread FROM messages WHERE substr(thread, 1, ?) = ?", len(run) + 1, f"{run}/"
        )
        return {row["thread"] for row in rows}

    def _row(self, row_id: int, channel: str, message: Message) -> Row:
        """Join a message with the one that opened its thread on this channel, if that has arrived; with what
        the latest ones since have added to it, so that a restart forgets nothing that the first one shows.
        """
        told = "FROM messages WHERE channel = ? AND thread = ? AND id < ? AND state = 'sent' ORDER BY id"
        which = (channel, message.thread, row_id)
        opened = self._journal.rows(f"SELECT ref, body {told} LIMIT 1", *which)
        if not opened:
            return Row(row_id, channel, message)
        latest = self._journal.rows(f"SELECT body {told} DESC LIMIT {_ADDED}", *which)
        first = Message.from_json(opened[0]["body"])
        for row in reversed(latest):
            first = so_far(first, Message.from_json(row["body"]))
        return Row(row_id, channel, message, opened[0]["ref"], first)

    def _settle(self, result: Result, now: float) -> None:
        match result.outcome:
            case Delivered(ref=ref, note=note, no_plot=no_plot):
                if no_plot and result.channel not in self._unplotted:
                    self._unplotted.add(result.channel)
                    self._say_unplotted(result.channel, no_plot, now)
                self._journal.change(
                    "UPDATE messages SET state = 'sent', ref = ?, settled = ?, reason = ?, "
                    "attempts = attempts + 1 WHERE id = ?",
                    ref,
                    now,
                    note or (no_plot and f"no plot: {no_plot}"),
                    result.row_id,
                )
            case Postponed(reason=reason, attempts=attempts):
                self._journal.change(
                    "UPDATE messages SET reason = ?, attempts = ? WHERE id = ?",
                    reason,
                    attempts,
                    result.row_id,
                )
            case Failed(reason=reason, channel_dead=dead):
                self._journal.change(
                    "UPDATE messages SET state = ?, settled = ?, reason = ? WHERE id = ?",
                    "dead" if dead else "failed",
                    now,
                    reason,
                    result.row_id,
                )
                if dead and result.channel not in self._dead:
                    self._dead.add(result.channel)
                    self._say_dead(result.channel, reason, now)

    def _say_unplotted(self, channel: str, reason: str, now: float) -> None:
        """Say once, as mildly as can be, that a channel shows no plots."""
        advice = "Its texts arrive as ever. `sentinel notify --test` tries it again."
        title = f"channel {channel} gets no plots"
        self.post(notice("", f"plots-{channel}", "info", title, f"{reason}.", now, advice), now)

    def _say_dead(self, channel: str, reason: str, now: float) -> None:
        message = notice(
            "",
            f"channel-{channel}",
            "warning",
            f"channel {channel} is dead",
            f"messages do not pass through {channel}: {reason}",
            now,
            "Put it right and start the sentinel again; `sentinel status` counts what was not delivered.",
        )
        self.post(message, now)
