"""The notifier threads: messages go in, results come out, and neither waits for the network.

Each channel has a worker of its own, so a Slack that hangs delays neither a tick nor the console. The workers
know nothing of the journal: the main thread submits rows, collects results, and writes down what became of
them. A row is told at least once; twice only if the sentinel dies between a delivery and the tick that writes
it down.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from notifier.base import DeliveryError, Illustrating, Notifier, Paced, Permanent, Repeating, Standing
from sentinel.delivery import Delivered, Failed, Job, Lane, Postponed, Result, Row

__all__ = ["ChannelHealth", "Delivered", "Failed", "Outbox", "Postponed", "Result", "Row"]

HUNG_AFTER = 60.0
"""Seconds in one call after which a channel is said to hang; a notifier's own timeouts are shorter."""


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """How a channel is.

    Attributes:
        state: ok; retrying after transient failures; hung in a call; dead until a person changes something.
        reason: in words; "" when ok.
        queued: rows waiting.
    """

    state: Literal["ok", "retrying", "hung", "dead"]
    reason: str
    queued: int


class Outbox:
    """Delivers rows on their channels. `submit`, `collect` and `health` never wait for a notifier."""

    def __init__(
        self,
        channels: Mapping[str, Notifier],
        monotonic: Callable[[], float],
        *,
        jitter: Callable[[], float] = random.random,
        wake: Callable[[], None] | None = None,
    ) -> None:
        """Start one worker a channel.

        Args:
            channels: notifiers by the names that rows use.
            monotonic: seconds from any origin, as `Clock.monotonic`.
            jitter: returns a number in [0, 1).
            wake: called by a worker when a result is there to collect; must not block.
        """
        self._results: deque[Result] = deque()  # append and popleft of a deque are atomic
        self._monotonic = monotonic
        self._wake = wake
        self._workers = {
            name: _Worker(_lane(name, jitter, notifier), notifier, monotonic, self._report)
            for name, notifier in channels.items()
        }

    def submit(self, rows: Iterable[Row]) -> None:
        """Queue rows. One that waits already is ignored, so a tick may submit all unsettled rows anew."""
        for row in rows:
            worker = self._workers.get(row.channel)
            if worker is None:
                known = ", ".join(sorted(self._workers)) or "none"
                reason = f"there is no channel {row.channel!r} (configured: {known})"
                self._report([Result(row.id, row.channel, Failed(reason, channel_dead=True))])
            else:
                worker.add(row)

    @property
    def repeating(self) -> tuple[str, ...]:
        """The channels that have to be told again and again what goes on."""
        return tuple(name for name, worker in self._workers.items() if worker.repeats)

    def stand(self, channel: str, stories: Sequence[Standing]) -> None:
        """Have a channel told what goes on, when it comes to it; a later call replaces one still waiting."""
        self._workers[channel].stand(stories)

    @property
    def has_results(self) -> bool:
        """Whether results have come in since they were last collected."""
        return bool(self._results)

    def collect(self) -> list[Result]:
        """Take the results that have come in since the last call, oldest first."""
        taken: list[Result] = []
        while self._results:
            taken.append(self._results.popleft())
        return taken

    def health(self) -> dict[str, ChannelHealth]:
        """Say how each channel is."""
        return {name: worker.health() for name, worker in self._workers.items()}

    def drain(self, seconds: float) -> bool:
        """Wait until nothing is queued, at most `seconds`; for the end of a process, never in a tick.

        Returns:
            True if nothing is left waiting. Results still have to be collected.
        """
        deadline = self._monotonic() + seconds
        late = [worker for worker in self._workers.values() if not worker.wait_until_idle(deadline)]
        return not late

    def close(self) -> None:
        """Tell the workers to stop after the call they are in; waits for none of them."""
        for worker in self._workers.values():
            worker.stop()

    def _report(self, results: Iterable[Result]) -> None:
        before = len(self._results)
        self._results.extend(results)
        if self._wake is not None and len(self._results) > before:
            self._wake()


def _lane(name: str, jitter: Callable[[], float], notifier: Notifier) -> Lane:
    lane = Lane(name, jitter, draws=isinstance(notifier, Illustrating))
    if isinstance(notifier, Paced):
        lane.spacing, lane.burst = notifier.spacing, notifier.burst
    return lane


class _Worker:
    """One channel's thread. Its lock guards the lane and is never held during a call to the notifier."""

    def __init__(
        self,
        lane: Lane,
        notifier: Notifier,
        monotonic: Callable[[], float],
        report: Callable[[Iterable[Result]], None],
    ) -> None:
        self._lane = lane
        self._notifier = notifier
        self._monotonic = monotonic
        self._report = report
        self._changed = threading.Condition()
        self._calling_since: float | None = None
        self._standing: Sequence[Standing] | None = None
        self._trouble = ""  # with saying what goes on; "" where that works
        self._stopping = False
        # A daemon, because a call that hangs must not keep the sentinel from ending.
        self._thread = threading.Thread(target=self._work, name=f"notifier-{lane.name}", daemon=True)
        self._thread.start()

    def add(self, row: Row) -> None:
        with self._changed:
            result = self._lane.add(row)
            self._changed.notify_all()
        if result is not None:
            self._report([result])

    @property
    def repeats(self) -> bool:
        return isinstance(self._notifier, Repeating)

    def stand(self, stories: Sequence[Standing]) -> None:
        with self._changed:
            self._standing = stories
            self._changed.notify_all()

    def health(self) -> ChannelHealth:
        with self._changed:
            lane, since = self._lane, self._calling_since
            queued = len(lane)
            if lane.dead is not None:
                return ChannelHealth("dead", lane.dead, queued)
            if not self._thread.is_alive() and not self._stopping:
                return ChannelHealth("dead", "its thread has died; this is a bug in the sentinel", queued)
            if since is not None and self._monotonic() - since > HUNG_AFTER:
                return ChannelHealth("hung", f"no answer for {self._monotonic() - since:.0f} s", queued)
            trouble = lane.reason or self._trouble
            return ChannelHealth("retrying" if lane.failures or trouble else "ok", trouble, queued)

    def wait_until_idle(self, deadline: float) -> bool:
        with self._changed:
            while len(self._lane) and self._thread.is_alive() and (left := deadline - self._monotonic()) > 0:
                self._changed.wait(left)
            return not len(self._lane)

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (job := self._wait_for_job()) is not None:
            if not isinstance(job, Job):
                self._repeat(job)
                continue
            ref, error = self._call(job)
            with self._changed:
                self._calling_since = None
                results = self._lane.settle(job, ref, error, self._monotonic())
                # Reported under the lock, so that an empty lane means that its results can be collected.
                self._report(results)
                self._changed.notify_all()

    def _wait_for_job(self) -> Job | Sequence[Standing] | None:
        """Wait for a message that may go, or for stories to be said again between two; None at the end."""
        with self._changed:
            while not self._stopping:
                now = self._monotonic()
                standing, self._standing = self._standing, None
                if standing is not None and self._lane.dead is None:
                    self._calling_since = now
                    return standing
                job = self._lane.next(now)
                if isinstance(job, Job):
                    self._calling_since = now
                    return job
                self._changed.wait(None if job is None else max(0.0, job - now))
            return None

    def _repeat(self, stories: Sequence[Standing]) -> None:
        assert isinstance(self._notifier, Repeating), "only who repeats is asked to"
        trouble = ""
        try:
            self._notifier.stand(stories)
        except DeliveryError as error:
            trouble = error.reason
        except BaseException as error:  # noqa: BLE001  as in _call
            trouble = f"the notifier has a bug: it raised {type(error).__name__}"
        with self._changed:
            self._calling_since = None
            self._trouble = trouble

    def _call(self, job: Job) -> tuple[str | None, DeliveryError | None]:
        try:
            if job.verb == "send":
                return self._notifier.send(job.message, job.ref), None
            assert job.ref is not None, "an edit, and a plot, names its message"
            if job.verb == "edit":
                self._notifier.edit(job.ref, job.message)
            else:
                assert isinstance(self._notifier, Illustrating), "only who draws is asked to"
                self._notifier.attach(job.ref, job.message)
        except DeliveryError as error:
            return None, error
        except BaseException as error:  # noqa: BLE001  a stranger's notifier may raise anything; SystemExit too
            # Only its type: the text of a stranger's exception may hold a secret.
            return None, Permanent(f"the notifier has a bug: it raised {type(error).__name__}")
        return None, None
