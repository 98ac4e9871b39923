"""Attempts of one run: what happens to alerts and windows when the steps go back.

A new attempt keeps what was logged up to the step it begins at and abandons the rest; the windows are filled
again from the event files, which are the only copy of the points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rules.series import Sample
from sentinel.judge import Judge, Step
from sentinel.tail import Chunk, Interval, RunTail, holds


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
        self._any = False
        self.rewinds = list(rewinds)

    def refill(self) -> None:
        """Warm the windows from what was read before this process began, without judging it again."""
        watch = self._judge.watch
        began = self.rewinds[-1].kept_until if self.rewinds else float("-inf")
        noted = not self.rewinds
        for source, samples in self._history(None):
            self._any = True
            self._tail.learn(source, samples)
            kept = 0
            if not noted:
                kept = next((i for i, sample in enumerate(samples) if sample[2] > began), len(samples))
                watch.warm(samples[:kept], source)
                if kept < len(samples):
                    watch.warmed()
                    noted = True
            watch.warm(samples[kept:], source)
        if not noted:
            watch.warmed()

    def take(self, chunk: Chunk) -> list[Step]:
        """Judge one chunk, after beginning a new attempt if it opens with one."""
        steps: list[Step] = []
        if chunk.start is not None:
            steps += self._begin(chunk.start.step, chunk.start.wall_time)
        samples = chunk.samples
        if self.rewinds and samples and samples[0][2] < self.rewinds[-1].wall_time:
            # An older file's last points, written out late: they belong to what was left behind.
            void = self._void()
            samples = [sample for sample in samples if holds(sample[2], void)]
        if samples:
            self._any = True
            steps += self._judge.samples(samples, chunk.source)
        return steps

    def probe(self, samples: Sequence[Sample]) -> list[Step]:
        """Judge the sentinel's own measurements of a run."""
        self._probes += samples
        return self._judge.samples(samples, PROBES)

    def _begin(self, first_void_step: int, wall: float) -> list[Step]:
        watch = self._judge.watch
        steps = self._judge.flush()
        if not self._any:
            return steps  # the first start: there is nothing to leave behind
        last_kept = first_void_step - 1
        to_step = max(0, min(last_kept, watch.run_step))
        kept_until = wall if watch.run_step <= last_kept else watch.wall_at(last_kept) or 0.0
        self.rewinds.append(Rewind(len(self.rewinds) + 1, to_step, kept_until, wall))
        return steps + self._judge.rewind(to_step, wall, self._history(kept_until))

    def _void(self) -> list[Interval]:
        return [(rewind.kept_until, rewind.wall_time) for rewind in self.rewinds]

    def _history(self, until: float | None) -> Iterable[tuple[int, Sequence[Sample]]]:
        void = self._void()
        yield from self._tail.history(void, until)
        probes = [s for s in self._probes if holds(s[2], void, until)]
        if probes:
            yield PROBES, probes


PROBES = -1
"""The source number of the sentinel's own measurements."""
