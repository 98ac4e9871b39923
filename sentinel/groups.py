"""What a channel is told and when: silences, groups, budgets and repeats, between a message and its row.

The one fact to hold: everything here happens in the tick's transaction and ends in rows. A row that is
`queued` goes to the outbox after the commit; one that waits, or is silenced, held or untold, says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from notifier.format import utc
from notifier.message import SEVERITIES, Message
from notifier.numbers import duration
from sentinel import group_words as words
from sentinel.grouping import AT_ONCE, Group, Policy, Reason, Told, Waiting, batches, due, why_notify
from sentinel.journal import Journal
from sentinel.silences import Active, Silences
from sentinel.story_rows import State, StoryRow, StoryRows, acts, waiting

DIGEST_EVERY = 3600.0
"""Seconds between two messages about what a budget holds back, once there was a first."""


TOGETHER = 600.0
"""Seconds for which what happens to a run's process is one story."""


class Groups:
    """Decides about messages; only inside a transaction.

    Attributes:
        silences: which are in force.
    """

    def __init__(
        self,
        journal: Journal,
        policies: Mapping[str, Policy],
        send: Callable[[int, str, Message], None],
        root: str = ".",
    ) -> None:
        """Take up the rows.

        Args:
            journal: holds them. policies: by channel; a channel without one is told everything at once.
            send: takes the row's id, the channel and the message of what is to go to the outbox.
            root: what people call the run that is the log directory itself.
        """
        self.silences = Silences(journal, root)
        self._journal = journal
        self._rows = StoryRows(journal)
        self._policies = policies
        self._send = send
        self._next_due = self._rows.next_due()

    def post(self, channel: str, message: Message, now: float) -> None:
        """Take a message for a channel; what is not told at once is told by `flush`, or says why not."""
        if message.kind in ("opened", "notice"):
            self._open(channel, message, now)
        else:
            self._follow(channel, message, now)

    def is_due(self, now: float) -> bool:
        """Whether `flush` has something to do."""
        return (self._next_due is not None and self._next_due <= now) or self.silences.ended(now)

    def flush(self, now: float, going: Callable[[], Iterable[str]]) -> None:
        """Tell what is due; at the end of a tick, so that what came in one tick is one message.

        Args:
            now: wall time. going: asked for the names of the stories that still go on.
        """
        if self.silences.ended(now):
            self._end_silences(now, going)
        if self.is_due(now):
            self._flush(now)
            self._next_due = self._rows.next_due()

    def flush_all(self, now: float) -> None:
        """Tell what waits, due or not: nobody will be there to tell it later."""
        self._journal.change("UPDATE stories SET due = min(due, ?) WHERE state = 'waiting'", now)
        self._flush(now)

    def look(self, now: float, going: Iterable[str]) -> None:
        """Repeat what goes on, and tell what was held back; each minute."""
        on = set(going)
        for channel, policy in self._policies.items():
            if policy.budget:
                self._digest(channel, policy, now)
            if policy.repeat > 0:
                self._repeat(channel, policy, on, now)

    # ── a story begins ──

    def _open(self, channel: str, message: Message, now: float) -> None:
        policy = self._policies.get(channel, AT_ONCE)
        labels = {**message.labels, "run": message.run, "rule": message.rule, "severity": message.severity}
        story = waiting(message, policy.group(labels, message.thread))
        if policy.wait > 0 and not acts(message):
            past = self._rows.since(channel, now - max(policy.interval, policy.wait))
            story = replace(story, due=due(story, past, policy, now))
        else:
            story = replace(story, due=now)
        silence = self._silence(message, now)
        state: State = "silenced" if silence is not None else "waiting"
        reason = silence.words if silence is not None else ""
        if not self._rows.add(channel, message, state, Reason.NOTHING, now, reason=reason):
            return
        self._rows.begin(channel, message, story, state)
        if silence is not None or self._join(channel, message, now):
            return
        if policy.wait > 0:
            self._next_due = story.due if self._next_due is None else min(self._next_due, story.due)
        else:
            self._tell(channel, policy, [story], now)

    def _join(self, channel: str, message: Message, now: float) -> bool:
        """Say what belongs to a story that was just told in its thread: a crash, its exit code, its restart.

        What the thread has said already is no part of it but begins anew: a second crash is another story.
        """
        family = words.family(message)
        if not family or self._policies.get(channel, AT_ONCE).wait <= 0:
            return False
        for kin in reversed(self._rows.of_run(channel, message.run, now - TOGETHER)):
            top, beneath = self._rows.first(channel, kin.top), self._rows.beneath(channel, kin.top)
            firsts = [self._rows.first(channel, each.thread) for each in beneath]
            known = [first for first in firsts if first is not None]
            if top is None or not any(words.family(first) == family for first in known):
                continue
            if any(words.name(first) == words.name(message) for first in known):
                return False
            story = self._rows.find(channel, message.thread)
            assert story is not None, "it was added a moment ago"
            number = self._rows.messages(channel, message.thread, "waiting")[0][0]
            self._rows.settle([number], "grouped", Reason.UPDATE, f"told in {kin.top}")
            self._rows.move(story, "over" if message.kind == "notice" else "told", now=now, top=kin.top)
            fires = [each for each in self._rows.beneath(channel, kin.top) if each.rule]
            left = sum(each.state == "told" for each in fires)
            said = replace(message, key=f"{message.key}/in-thread", kind="update")
            why = Reason.NEW_ALERTS if message.kind == "opened" else Reason.UPDATE
            self.queue(channel, words.part(said, top, left, len(fires)), why, now, counted=True)
            return True
        return False

    def _silence(self, about: Message | StoryRow, now: float) -> Active | None:
        """Return what silences it; nothing silences what is about the sentinel itself."""
        return self.silences.over(about.run, about.rule, now) if about.run else None

    # ── a story goes on ──

    def _follow(self, channel: str, message: Message, now: float) -> None:
        story = self._rows.find(channel, message.thread)
        if story is None:  # it began before this channel was there, or before stories had rows
            self.queue(channel, message, Reason.UPDATE, now)
            return
        closing = message.kind == "closed"
        match story.state:
            case "told" | "over" if story.top:
                self._reply(story, message, now)
            case "waiting" if closing:
                ids = [number for number, _ in self._rows.messages(channel, message.thread, "waiting")]
                self._rows.settle(ids, "untold", Reason.NOTHING, "it had ended before its group was told")
                self._rows.add(channel, message, "untold", Reason.NOTHING, now)
            case "waiting" | "silenced" | "held":
                state = "untold" if closing else story.state
                self._rows.add(channel, message, state, Reason.NOTHING, now)
                if story.state == "waiting" and acts(message):
                    self._rows.hasten(story, now)
                    self._next_due = now
            case _:
                self._rows.add(channel, message, "untold", Reason.NOTHING, now)
        if closing:
            self._rows.move(story, "over" if story.top else "untold", now=now)

    def _reply(self, story: StoryRow, message: Message, now: float) -> None:
        """Say in its thread what has become of a story that was told; that it is over is always said."""
        channel, policy = story.channel, self._policies.get(story.channel, AT_ONCE)
        closing = message.kind == "closed"
        silence = None if closing else self._silence(message, now)
        if silence is not None:
            self._rows.add(channel, message, "silenced", Reason.NOTHING, now, reason=silence.words)
            return
        asks = message.ask is not None and message.ask.first
        if not closing and not asks and not self._within(channel, policy, message.severity, now):
            self._rows.add(
                channel, message, "held", Reason.NOTHING, now, reason="its channel's budget is used up"
            )
            return
        why = self._resolved(story, now) if closing else Reason.UPDATE
        beneath = self._rows.beneath(channel, story.top)
        top = self._rows.first(channel, story.top) if story.top != story.thread else None
        if top is not None:
            fires = [s for s in beneath if s.rule]
            left = [s for s in fires if s.state == "told" and not (closing and s.thread == story.thread)]
            message = words.part(message, top, len(left), len(fires))
        self.queue(channel, message, why, now, counted=not closing)

    def _resolved(self, story: StoryRow, now: float) -> Reason:
        """Say by which of Alertmanager's reasons the end of a story is told."""
        others = self._rows.told_in(story.channel, [story.group])
        told = frozenset(each.thread for each in others) | {story.thread}
        group = Group(told - {story.thread}, frozenset({story.thread}))
        return why_notify(group, Told(told, frozenset(), now), now, float("inf"))

    def queue(
        self, channel: str, message: Message, why: Reason, now: float, *, counted: bool = False
    ) -> None:
        """Tell a message at once, whatever its group; `counted` against the channel's budget."""
        number = self._rows.add(channel, message, "queued", why, now, counted=counted)
        if number:
            self._send(number, channel, message)

    # ── what waits is told ──

    def _flush(self, now: float) -> None:
        found: dict[str, list[StoryRow]] = {}
        for story in self._rows.those("waiting"):
            found.setdefault(story.channel, []).append(story)
        for channel, stories in found.items():
            policy = self._policies.get(channel, AT_ONCE)
            open_ = [story.waiting for story in stories if not self._now_silenced(story, now)]
            if policy.wait <= 0:  # it did wait, by the settings of before
                open_, policy = [replace(story, due=now) for story in open_], replace(policy, by=("...",))
            for batch in batches(open_, policy, now):
                self._tell(channel, policy, batch, now)

    def _now_silenced(self, story: StoryRow, now: float) -> bool:
        silence = self._silence(story, now)
        if silence is None:
            return False
        ids = [number for number, _ in self._rows.messages(story.channel, story.thread, "waiting")]
        self._rows.settle(ids, "silenced", Reason.NOTHING, silence.words)
        self._rows.move(story, "silenced", now=now)
        return True

    def _tell(self, channel: str, policy: Policy, batch: Sequence[Waiting], now: float) -> None:
        """Tell stories as one message, or hold them back."""
        kept = [(story, self._rows.messages(channel, story.thread, "waiting")) for story in batch]
        ids = [number for _, messages in kept for number, _ in messages]
        if not self._within(channel, policy, batch[0].severity, now):
            self._rows.settle(ids, "held", Reason.NOTHING, "its channel's budget is used up")
            self._move(channel, batch, "held", now)
            return
        why = self._why(channel, batch, kept[0][1][0][1], now)
        if len(batch) == 1:
            self._rows.settle(ids, "queued", why)
            self._rows.count(ids[0], now)
            self._move(channel, batch, "told", now, top=batch[0].thread)
            for number, message in kept[0][1]:
                self._send(number, channel, message)
            return
        members = [(messages[0][1], messages[-1][1]) for _, messages in kept]
        lead = members[0][0]
        thread = f"group/{now:.3f}/{lead.thread}"
        message = words.together(members, f"{lead.key}/and-{len(batch) - 1}", thread, now)
        self._rows.settle(ids, "grouped", why, f"told in {thread}")
        self._move(channel, batch, "told", now, top=thread)
        self.queue(channel, message, why, now, counted=True)

    def _move(
        self, channel: str, batch: Iterable[Waiting], state: State, now: float, *, top: str | None = None
    ) -> None:
        for each in batch:
            story = self._rows.find(channel, each.thread)
            assert story is not None, "it was there a moment ago"
            first = self._rows.first(channel, each.thread)
            ends = state == "told" and first is not None and first.kind == "notice"
            self._rows.move(story, "over" if ends else state, now=now, top=top)

    def _why(self, channel: str, batch: Sequence[Waiting], lead: Message, now: float) -> Reason:
        if lead.kind == "notice" and len(batch) == 1:
            return Reason.NOTICE
        told = self._rows.told_in(channel, {story.group for story in batch})
        firing = frozenset(story.thread for story in told)
        known = Told(firing, frozenset(), max(s.told or 0.0 for s in told)) if told else None
        return why_notify(Group(firing | {s.thread for s in batch}), known, now, float("inf"))

    def _within(self, channel: str, policy: Policy, severity: str, now: float) -> bool:
        """Whether a channel's budget has room for one more."""
        if severity not in policy.budget:
            return True
        count, seconds = policy.budget[severity]
        return self._rows.counted(channel, severity, now - seconds) < count

    # ── silences end ──

    def _end_silences(self, now: float, going: Callable[[], Iterable[str]]) -> None:
        """Tell what still goes on and is silenced no more, as Alertmanager does."""
        self.silences.note_ended(now)
        stories = [s for s in self._rows.those("silenced") if self.silences.over(s.run, s.rule, now) is None]
        on = set(going()) if stories else set()
        for story in stories:
            messages = self._rows.messages(story.channel, story.thread, "silenced")
            if story.thread not in on or not messages:
                continue
            self._rows.settle([number for number, _ in messages], "waiting", Reason.NOTHING)
            self._rows.move(story, "waiting", now=now)
            self._rows.hasten(story, now)
        self._next_due = self._rows.next_due()

    # ── each minute ──

    def _repeat(self, channel: str, policy: Policy, on: set[str], now: float) -> None:
        acked = self.silences.acked()
        tops: dict[str, list[StoryRow]] = {}
        for story in self._rows.those("told", channel):
            if story.thread in on and story.thread not in acked:
                tops.setdefault(story.top, []).append(story)
        for top, stories in tops.items():
            at = self._rows.visible(channel, top)
            loud = [s for s in stories if self.silences.over(s.run, s.rule, now) is None]
            if at is None or not loud:
                continue
            firing = frozenset(s.thread for s in loud)
            if (
                why_notify(Group(firing), Told(firing, frozenset(), at), now, policy.repeat)
                is not Reason.REPEAT
            ):
                continue
            first = self._rows.first(channel, top)
            severity = max((s.severity for s in loud), key=SEVERITIES.index)
            if first is None or not self._within(channel, policy, severity, now):
                continue
            opened = [self._rows.first(channel, s.thread) for s in loud]
            members = [message for message in opened if message is not None]
            message = words.again(members, first, f"{top}/again/{now:.3f}", duration(now - at), now)
            self.queue(channel, message, Reason.REPEAT, now, counted=True)

    def _digest(self, channel: str, policy: Policy, now: float) -> None:
        held = self._rows.held(channel)
        if not held:
            return
        since, last = held[0].queued, self._rows.last_digest(channel)
        if now < since + policy.interval or (last is not None and now < last + DIGEST_EVERY):
            return
        open_ = {story.thread: story for story in self._rows.those("held", channel)}
        firsts = [each.message for each in held if each.message.kind in ("opened", "notice")] or [
            held[0].message
        ]
        going = [m for m in firsts if m.thread in open_ and m.kind == "opened"]
        thread = f"held/{channel}/{now:.3f}"
        message = words.digest([each.message for each in held], going, thread, thread, utc(since), now)
        self._rows.settle([each.id for each in held], "grouped", Reason.DIGEST, f"told in {thread}")
        for name, story in open_.items():
            over = not any(m.thread == name for m in going)
            self._rows.move(story, "over" if over else "told", now=now, top=thread)
        self.queue(channel, message, Reason.DIGEST, now, counted=True)
