"""What one channel sends next, and when. Pure: rows and outcomes in, jobs and results out, `now` an argument.

Three things pull against each other here. A story's messages must arrive in order, so a reply waits until the
first message has a reference. A flood of warnings must not starve a critical alarm, so the gravest story that
is ready goes first. And a message that always fails must not hold up the others, so whoever failed goes to
the back until the channel has worked again, and who fails on a channel that works waits alone.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, TypeVar

from notifier.base import DeliveryError, Permanent, Transient
from notifier.message import SEVERITIES, Message, as_story, so_far

FIRST_DELAY = 1.0
"""Seconds before the first retry; doubled with each further failure."""

MAX_DELAY = 300.0
"""Seconds; the longest that our own back-off waits. What the other side asks for may be longer."""

FRESH_DELAY = 10.0
"""Seconds after a failure at which a message not yet tried may go, however long the others still wait."""

MOST_DRAWN = 3
"""Attempts to deliver a plot; its text is there already, and the story's next message waits behind it."""

LONGEST_DRAWN = 30.0
"""Seconds that a plot may wait for another attempt; one that would have to wait longer is left out."""

_V = TypeVar("_V")

_MEMORY = 4096  # stories and keys remembered for a channel; the journal remembers all of them


@dataclass(frozen=True, slots=True)
class Row:
    """One message for one channel, as the journal holds it.

    Attributes:
        id: the journal's row id; results carry it.
        channel: name of the channel.
        message: what to tell.
        thread_ref: reference of the story's first message on this channel, if that was delivered already.
        first: the story's first message, so that it can be edited; None if not known or if this is it.
    """

    id: int
    channel: str
    message: Message
    thread_ref: str | None = None
    first: Message | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """The message has arrived. `note` says what went wrong beside it, such as an edit that was refused;
    `no_plot` why the plot did not arrive with it.
    """

    ref: str
    note: str = ""
    no_plot: str = ""


@dataclass(frozen=True, slots=True)
class Postponed:
    """It did not arrive yet; the outbox keeps it and tries again at `retry_at` (monotonic seconds)."""

    retry_at: float
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Failed:
    """It will never arrive here. `channel_dead`: nothing will, until a person changes something."""

    reason: str
    channel_dead: bool


Outcome: TypeAlias = Delivered | Postponed | Failed


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a row. A row has any number of Postponed results, then one Delivered or Failed."""

    row_id: int
    channel: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Job:
    """One call to a notifier: `send(message, ref)`, `edit(ref, message)` of a story's first message, or
    `attach(ref, message)` of the plot of a message that was sent.
    """

    row: Row
    verb: Literal["send", "edit", "attach"]
    message: Message
    ref: str | None


@dataclass(slots=True)
class _Entry:
    row: Row
    attempts: int = 0
    blame: int = 0  # failures while the channel worked for others: the message's own fault
    not_before: float = 0.0
    epoch: int = -1  # the lane's epoch at its last failure
    tries: int = 0  # failures in that epoch
    sent: str | None = None  # reference of the message itself, once only its edit is outstanding
    told: Delivered | None = None  # its outcome, once only its plot is outstanding
    drawn: int = 0  # attempts to deliver the plot


@dataclass(frozen=True, slots=True)
class _Story:
    ref: str
    first: Message | None


@dataclass(slots=True)
class Lane:
    """The queue of one channel. Not thread-safe: its owner holds a lock.

    Attributes:
        name: of the channel.
        jitter: returns a number in [0, 1); spreads retries, so that many sentinels do not return at once.
        failures: consecutive transient failures, of any message; 0 while the channel works.
        reason: the last failure in words; "" while the channel works.
        dead: why nothing can pass, or None.
        draws: the notifier takes plots.
        spacing, burst: seconds between two calls in the long run, and how many may come at once before that.
    """

    name: str
    jitter: Callable[[], float]
    failures: int = 0
    reason: str = ""
    dead: str | None = None
    draws: bool = False
    spacing: float = 0.0
    burst: int = 1
    _free_at: float = -math.inf  # when every call made so far will have had its time
    _epoch: int = 0  # counts the calls that worked
    _hold: float = 0.0  # the other side asked us to stay away until then
    _retry_from: float = 0.0  # when messages that failed may go again
    _fresh_from: float = 0.0  # when messages that have not been tried may go
    _threads: dict[str, deque[_Entry]] = field(default_factory=dict)
    _ids: set[int] = field(default_factory=set)
    _stories: OrderedDict[str, _Story] = field(default_factory=OrderedDict)
    _settled: OrderedDict[str, Delivered | Failed] = field(default_factory=OrderedDict)
    _busy: str | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, row: Row) -> Result | None:
        """Take a row in; one already waiting is left as it is.

        Returns:
            A result at once if the channel is dead or if this key was settled before, else None.
        """
        if row.id in self._ids:
            return None
        if self.dead is not None:
            return Result(row.id, self.name, Failed(self.dead, channel_dead=True))
        # Settled, but not yet written down by the main thread, which therefore submits it once more.
        settled = self._settled.get(row.message.key)
        if settled is not None:
            return Result(row.id, self.name, settled)
        self._ids.add(row.id)
        self._threads.setdefault(row.message.thread, deque()).append(_Entry(row))
        return None

    def next(self, now: float) -> Job | float | None:
        """Say what to send now.

        Args:
            now: monotonic seconds.

        Returns:
            The job to carry out, after which `settle` must be called; or when to ask again; or None while
            there is nothing to do.
        """
        if self._busy is not None or not self._threads:
            return None
        times = {thread: self._ready_at(queue[0]) for thread, queue in self._threads.items()}
        soonest = max(min(times.values()), self._free_at - (self.burst - 1) * self.spacing)
        if soonest > now:
            return soonest
        thread = min((thread for thread, time in times.items() if time <= now), key=self._rank)
        self._busy = thread
        self._free_at = max(self._free_at, now) + self.spacing
        return self._job(self._threads[thread][0])

    def _ready_at(self, entry: _Entry) -> float:
        turn = self._retry_from if self._tries(entry) else self._fresh_from
        return max(self._hold, entry.not_before, turn)

    def _tries(self, entry: _Entry) -> int:
        return entry.tries if entry.epoch == self._epoch else 0

    def _rank(self, thread: str) -> tuple[int, bool, int, int]:
        queue = self._threads[thread]
        gravest = max(SEVERITIES.index(entry.row.message.severity) for entry in queue)
        # All texts before any plot, unless the story's own next text waits behind it.
        may_wait = queue[0].told is not None and len(queue) == 1
        return self._tries(queue[0]), may_wait, -gravest, queue[0].row.id

    def _job(self, entry: _Entry) -> Job:
        row, story = entry.row, self._story(entry.row)
        if entry.told is not None:
            return Job(row, "attach", row.message, story.ref if story else entry.told.ref)
        if entry.sent is None:
            return Job(row, "send", row.message, story.ref if story else None)
        assert story is not None, "only a reply has an edit"
        top = as_story(story.first, row.message) if story.first else row.message
        return Job(row, "edit", top, story.ref)

    def _story(self, row: Row) -> _Story | None:
        known = self._stories.get(row.message.thread)
        if known is None and row.thread_ref is not None:
            known = _Story(row.thread_ref, row.first)
        if known is not None and known.first is None:
            known = replace(known, first=row.first)
        return known

    def settle(self, job: Job, ref: str | None, error: DeliveryError | None, now: float) -> list[Result]:
        """Note how a job ended.

        Args:
            job: what `next` returned.
            ref: the reference that `send` returned; None after an edit or an error.
            error: Transient or Permanent, or None on success.
            now: monotonic seconds, after the call.

        Returns:
            Results for the journal, none while an edit is outstanding.
        """
        thread = job.row.message.thread
        assert self._busy == thread, "settle answers the job that next gave"
        self._busy = None
        entry = self._threads[thread][0]
        if job.verb == "attach":
            return self._attached(entry, error, now)
        if isinstance(error, Transient):
            return [self._postpone(entry, error, now)]
        if isinstance(error, Permanent) and error.channel_dead:
            return list(self._die(error.reason))
        self.failures, self.reason = 0, ""
        self._epoch += 1
        self._hold = self._retry_from = self._fresh_from = 0.0
        if job.verb == "edit":
            assert entry.sent is not None, "an edit follows its message"
            note = f"the first message could not be edited: {error.reason}" if error else ""
            return self._then_draw(entry, Delivered(entry.sent, note))
        if error is not None:
            return [self._finish(entry, Failed(error.reason, channel_dead=False))]
        assert ref is not None, "a send without an error has a reference"
        return self._sent(entry, ref)

    def _sent(self, entry: _Entry, ref: str) -> list[Result]:
        thread, row = entry.row.message.thread, entry.row
        story = self._story(row)
        known = story or _Story(ref, row.message)
        if known.first is not None:  # what this message adds stays with the story, whatever comes after it
            known = replace(known, first=so_far(known.first, row.message))
        _remember(self._stories, thread, known)
        # Where another message of the story waits, its edit will say more, and Slack counts every call.
        if story is None or row.message.kind == "notice" or len(self._threads[thread]) > 1:
            return self._then_draw(entry, Delivered(ref))
        entry.sent, entry.attempts, entry.blame, entry.not_before = ref, 0, 0, 0.0
        return []

    def _then_draw(self, entry: _Entry, told: Delivered) -> list[Result]:
        """The text is there; the row is settled once its plot is too, or cannot be."""
        if not self.draws or entry.row.message.plot is None:
            return [self._finish(entry, told)]
        entry.told, entry.not_before, entry.blame = told, 0.0, 0
        return []

    def _attached(self, entry: _Entry, error: DeliveryError | None, now: float) -> list[Result]:
        """A plot that does not arrive delays its story a little, and no other; it never fails a message."""
        assert entry.told is not None, "a plot follows its message"
        if error is None:
            return [self._finish(entry, entry.told)]
        entry.drawn += 1
        if isinstance(error, Transient) and entry.drawn < MOST_DRAWN:
            wait = max(self._delay(entry.drawn), error.retry_after or 0.0)
            if wait <= LONGEST_DRAWN:
                entry.not_before = now + wait
                return []
        return [self._finish(entry, replace(entry.told, no_plot=error.reason))]

    def _postpone(self, entry: _Entry, error: Transient, now: float) -> Result:
        if not self.failures:  # the call before this one worked
            entry.blame += 1
            entry.not_before = now + self._delay(entry.blame)
        entry.attempts += 1
        entry.tries, entry.epoch = self._tries(entry) + 1, self._epoch
        self.failures += 1
        self.reason = error.reason
        delay = self._delay(self.failures)
        self._retry_from, self._fresh_from = now + delay, now + min(delay, FRESH_DELAY)
        if error.retry_after is not None:
            self._hold = now + error.retry_after + 0.5 * FIRST_DELAY * self.jitter()
        return Result(entry.row.id, self.name, Postponed(self._ready_at(entry), error.reason, entry.attempts))

    def _delay(self, failures: int) -> float:
        # Jitter only adds, up to half as long again, so that many sentinels do not come back together.
        return min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 30)) * (1.0 + 0.5 * self.jitter())

    def _finish(self, entry: _Entry, outcome: Delivered | Failed) -> Result:
        thread = entry.row.message.thread
        queue = self._threads[thread]
        queue.popleft()
        if not queue:
            del self._threads[thread]
        self._ids.discard(entry.row.id)
        _remember(self._settled, entry.row.message.key, outcome)
        return Result(entry.row.id, self.name, outcome)

    def _die(self, reason: str) -> Iterator[Result]:
        self.dead = self.reason = reason
        waiting = sorted((e for queue in self._threads.values() for e in queue), key=lambda e: e.row.id)
        self._threads.clear()
        self._ids.clear()
        for entry in waiting:
            done = entry.told
            if done is None and entry.sent:
                done = Delivered(entry.sent, f"the first message could not be edited: {reason}")
            yield Result(entry.row.id, self.name, done or Failed(reason, channel_dead=True))


def _remember(memory: OrderedDict[str, _V], key: str, value: _V) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > _MEMORY:
        memory.popitem(last=False)
