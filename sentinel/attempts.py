"""Attempts of one run: what happens to alerts and windows when the steps go back.

A new attempt keeps what was logged up to the step it begins at and abandons the rest; the windows are filled again from
the event files, which are the only copy of the points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rules.series import Sample
from sentinel.judge import Judge, Step
from sentinel.tail import Chunk, Interval, RunTail


@dataclass(frozen=True, slots=True)
class Rewind:
    """The beginning of an attempt after the first.

    Attributes:
        attempt: its number, from 1.
        to_step: run step it goes on from; steps behind it were abandoned.
        kept_until: wall time of the last sample that stays valid, in seconds.
        wall_time: when it began; samples between the two are void.
    """

    attempt: int
    to_step: int
    kept_until: float
    wall_time: float


class Attempts:
    """Feeds a judge chunk by chunk and turns it back where a session starts at an earlier step."""

    def __init__(
        self, judge: Judge, tail: RunTail, rewinds: Iterable[Rewind] = (), probes: Sequence[Sample] = ()
    ) -> None:
        self._judge = judge
        self._tail = tail
        self._probes = list(probes)
        self.rewinds = list(rewinds)

    def refill(self) -> None:
        """Warm the windows from what was read before this process began, without judging it again."""
        for source, samples in self._history(None):
            self._tail.learn(source, samples)
            self._judge.watch.warm(samples, source)

    def take(self, chunk: Chunk) -> list[Step]:
        """Judge one chunk, after beginning a new attempt if it opens with one."""
        steps: list[Step] = []
        if chunk.start is not None:
            steps += self._begin(chunk.start.step, chunk.start.wall_time)
        if chunk.samples:
            steps += self._judge.samples(chunk.samples, chunk.source)
        return steps

    def probe(self, samples: Sequence[Sample]) -> list[Step]:
        """Judge the sentinel's own measurements of a run."""
        self._probes += samples
        return self._judge.samples(samples, PROBES)

    def _begin(self, first_void_step: int, wall: float) -> list[Step]:
        watch = self._judge.watch
        steps = self._judge.flush()
        if watch.run_step < 0:
            return steps  # the first start: there is nothing to leave behind
        to_step = max(0, min(first_void_step - 1, watch.run_step))
        kept_until = wall if watch.run_step <= to_step else watch.wall_at(to_step) or 0.0
        self.rewinds.append(Rewind(len(self.rewinds) + 1, to_step, kept_until, wall))
        return steps + self._judge.rewind(to_step, wall, self._history(kept_until))

    def _history(self, until: float | None) -> Iterable[tuple[int, Sequence[Sample]]]:
        void: list[Interval] = [(r.kept_until, r.wall_time) for r in self.rewinds]
        yield from self._tail.history(void, until)
        probes = [s for s in self._probes if until is None or s[2] <= until]
        if probes:
            yield PROBES, probes


PROBES = -1
"""The source number of the sentinel's own measurements."""
