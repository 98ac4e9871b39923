"""Attempts of one run: what happens to alerts and windows when the steps go back.

A new attempt keeps what was logged up to the step it begins at and abandons the rest; the windows are filled
again from the event files, which are the only copy of the points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rules.series import Sample
from rules.watch import Judged
from sentinel.judge import Judge, Step
from sentinel.rewinds import Rewinds
from sentinel.tail import Chunk, Interval, RunTail, holds

PROBES_KEPT = 86400.0
"""Seconds for which our own measurements of a run are kept, in memory and in the journal: after a restart, or
where an attempt is left behind, windows over them go back no further.
"""


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
    """Feeds a judge chunk by chunk, and turns it back where a new attempt begins.

    An attempt begins where a file says so (SessionLog.START), or where its steps are seen to have gone back.
    """

    def __init__(
        self, judge: Judge, tail: RunTail, rewinds: Iterable[Rewind] = (), probes: Sequence[Sample] = ()
    ) -> None:
        self._judge = judge
        self._tail = tail
        self._probes = list(probes)
        self._any = False
        self._found = Rewinds()
        self._recent: list[tuple[int, int, Sequence[Sample]]] = []  # (number of the first, source, samples)
        self.rewinds = list(rewinds)

    def announce(self, wall_time: float, step: int | None) -> None:
        """Take the trainer's word that it has begun an attempt; see Rewinds.announce."""
        self._found.announce(wall_time, step)

    def refill(self) -> None:
        """Warm the windows from what was read before this process began, without judging it again."""
        watch = self._judge.watch
        began = self.rewinds[-1].kept_until if self.rewinds else float("-inf")
        noted = not self.rewinds
        void = self._void()
        curves = self._judge.curves
        for source, samples in self._again():
            if curves is not None and source != PROBES:
                curves.take(samples)  # what was voided too: a plot shows what was gone back from
            valid = [sample for sample in samples if holds(sample[2], void)]
            kept = 0
            if not noted:
                kept = next((i for i, sample in enumerate(valid) if sample[2] > began), len(valid))
                self._judge.warm(valid[:kept], source)
                if kept < len(valid):
                    watch.warmed()
                    noted = True
            self._judge.warm(valid[kept:], source)
        if not noted:
            watch.warmed()

    def take(self, chunk: Chunk) -> list[Step]:
        """Judge one chunk; where a new attempt begins in it, or is seen to have begun, begin that first."""
        steps: list[Step] = []
        if chunk.start is not None:
            steps += self._begin(chunk.start.step, chunk.start.wall_time)
            self._found.began(chunk.source, chunk.start.step, chunk.start.wall_time)
        done = 0
        number = self._found.seen
        for found in self._found.observe(chunk.source, chunk.samples):
            steps += self._judge_part(chunk.source, chunk.samples[done : found.index])
            done = found.index
            self._recent.append((number, chunk.source, chunk.samples[:done]))
            steps += self._begin(found.step, found.wall_time, since=found.first)
            self._recent.pop()
        steps += self._judge_part(chunk.source, chunk.samples[done:])
        self._remember(number, chunk)
        return steps

    def probe(self, samples: Sequence[Sample]) -> list[Step]:
        """Judge the sentinel's own measurements of a run."""
        self._probes += samples
        if samples and samples[-1][2] - self._probes[0][2] > 2 * PROBES_KEPT:
            self._probes = [probe for probe in self._probes if probe[2] >= samples[-1][2] - PROBES_KEPT]
        return self._judge.samples(samples, PROBES)

    def _judge_part(self, source: int, samples: Sequence[Sample]) -> list[Step]:
        if self.rewinds and samples and samples[0][2] < self.rewinds[-1].wall_time:
            # An older file's last points, written out late: they belong to what was left behind.
            void = self._void()
            samples = [sample for sample in samples if holds(sample[2], void)]
        if not samples:
            return []
        self._any = True
        return self._judge.samples(samples, source)

    def _begin(self, first_void_step: int, wall: float, since: int | None = None) -> list[Step]:
        """Begin an attempt.

        Args:
            first_void_step: what was logged at it and later is void. wall: when the attempt began.
            since: number of the attempt's first sample, where it was seen only later that it is one.
        """
        watch = self._judge.watch
        # A sentinel that was there has judged the silence before it; whoever reads of it later must too.
        steps = self._judge.silence(math.nextafter(wall, 0.0)) + self._judge.flush()
        if not self._any:
            return steps  # the first start: there is nothing to leave behind
        last_kept = first_void_step - 1
        to_step = max(0, min(last_kept, watch.run_step))
        kept_until = wall if watch.run_step <= last_kept else watch.wall_at(last_kept) or 0.0
        self.rewinds.append(Rewind(len(self.rewinds) + 1, to_step, kept_until, wall))
        steps += self._judge.rewind(to_step, wall, self._history(kept_until))
        if since is not None:
            void = self._void()
            for source, samples in self._since(since, wall):
                self._judge.warm([sample for sample in samples if holds(sample[2], void)], source)
            watch.resume(Judged())
        return steps

    def _remember(self, number: int, chunk: Chunk) -> None:
        """Keep what may turn out to belong to a new attempt, for as long as that is open."""
        suspected = self._found.suspected
        if suspected is None:
            self._recent.clear()
        elif chunk.samples:
            self._recent.append((number, chunk.source, chunk.samples))
            while (first := self._recent[0])[0] + len(first[2]) <= suspected:
                del self._recent[0]

    def _since(self, number: int, wall: float) -> Iterable[tuple[int, Sequence[Sample]]]:
        """Yield what was logged from a sample on that has been judged by the old attempt's windows."""
        for first, source, samples in self._recent:
            yield source, samples[max(number - first, 0) :]
        yield PROBES, [probe for probe in self._probes if probe[2] >= wall]

    def _void(self) -> list[Interval]:
        return [(rewind.kept_until, rewind.wall_time) for rewind in self.rewinds]

    def _again(self) -> Iterable[tuple[int, Sequence[Sample]]]:
        """Yield all that was ever read, cut where an attempt was seen to begin, and learn from it anew."""
        watch = self._judge.watch
        for chunk in self._tail.history():
            self._any = True
            if chunk.start is not None:
                self._found.began(chunk.source, chunk.start.step, chunk.start.wall_time)
            number, done = self._found.seen, 0
            for found in self._found.observe(chunk.source, chunk.samples):
                yield chunk.source, chunk.samples[done : found.index]
                watch.resume(Judged())
                done = found.index
            yield chunk.source, chunk.samples[done:]
            self._remember(number, chunk)
        if self._probes:
            yield PROBES, self._probes

    def _history(self, until: float) -> Iterable[tuple[int, Sequence[Sample]]]:
        """Yield what stays valid of all that was read, up to a wall time."""
        void = self._void()
        for chunk in self._tail.history():
            if kept := [sample for sample in chunk.samples if holds(sample[2], void, until)]:
                yield chunk.source, kept
        if probes := [sample for sample in self._probes if holds(sample[2], void, until)]:
            yield PROBES, probes


PROBES = -1
"""The source number of the sentinel's own measurements."""
