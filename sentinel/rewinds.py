"""Where the steps of a run went back for good, told from its samples alone.

A job that goes back to a checkpoint without SessionLog.START shows it only by its steps, and so do many
healthy files: one tag written by several workers, a logger that counts batches anew in every epoch, two
files that share tags. A step back is therefore only suspected here. It counts once it has lasted, and is
forgotten when the run is seen to go on where it was. The criterion and what it finds in real files:
docs/decisions/0005.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rules.series import Sample

STEADY = 8
"""Advances without a step back after which a series is trusted to go forward."""

LEAST_PROOF, MOST_PROOF = 5, 32
"""Advances that a series must make after its step back: a quarter of those it lost, within these bounds."""

LEAST_SILENCE = 120.0
"""Seconds. Writers hold points back for so long (flush_secs of torch, tensorboardX and TensorFlow 1), so a
file that has been silent for less may yet be written to.
"""

MOST_SILENCE = 1800.0
"""Seconds after which a file is silent whatever its rhythm was, or where it never showed one."""

_RHYTHM = 3  # advances of a file from which on its longest pause says something
_TOLERANCE = 60.0  # seconds between an announcement and the first sample that bears it out


@dataclass(frozen=True, slots=True)
class Found:
    """The steps have gone back.

    Attributes:
        index: the sample that settled it, counted in the call; those before it were observed already.
        first: number of the first sample of the new attempt, among all that were ever observed.
        step: first void step; what was logged at it and later, before `wall_time`, is void.
        wall_time: when the new attempt's first sample was logged.
    """

    index: int
    first: int
    step: int
    wall_time: float


@dataclass(slots=True)
class _Series:
    first: int
    last: int
    advances: int = 0
    steady: int = 0  # advances since its last step back


@dataclass(slots=True)
class _Suspicion:
    """A step back that may be a new attempt.

    Attributes:
        top: the greatest step of the file before it. drivers: advances of its steady series, by tag.
        gone: series that went back: [advances since, advances that prove it]. resumes: the file that fell
            silent, where a younger file went back behind it.
    """

    first: int
    step: int
    wall: float
    top: int
    drivers: dict[str, int]
    gone: dict[str, list[int]] = field(default_factory=dict)
    resumes: _Source | None = None

    def proven(self) -> bool:
        if not any(made >= needed for made, needed in self.gone.values()):
            return False
        return 2 * sum(self.drivers[tag] for tag in self.gone) >= sum(self.drivers.values())


@dataclass(slots=True)
class _Source:
    series: dict[str, _Series] = field(default_factory=dict)
    top: int = -1
    advances: int = 0
    advanced: float = 0.0  # wall time of the last advance
    pause: float = 0.0  # longest time between two advances, in seconds
    began: float = float("inf")  # wall time of its first sample
    wall: float = float("-inf")  # and of its last
    settled: bool = False  # whether it is known if this file resumes another
    restarted: bool = False  # has gone back to its own beginning once
    suspicion: _Suspicion | None = None

    @property
    def patience(self) -> float:
        """Seconds after which this file counts as silent."""
        if self.advances < _RHYTHM:
            return MOST_SILENCE
        return min(max(self.pause, LEAST_SILENCE), MOST_SILENCE)


class Rewinds:
    """Watches the steps of every series of one run.

    What it finds depends on the samples alone, never on how they were cut into calls; files are joined by
    the order of the calls.
    """

    def __init__(self) -> None:
        self._sources: dict[int, _Source] = {}
        self._owner: dict[str, int] = {}  # tag: the youngest source that logs it
        self._top = -1
        self._announced: list[tuple[float, int | None]] = []
        self.seen = 0

    @property
    def suspected(self) -> int | None:
        """Number of the first sample of the oldest suspected attempt; None where nothing is suspected."""
        open_ = (s.suspicion.first for s in self._sources.values() if s.suspicion is not None)
        return min(open_, default=None)

    def announce(self, wall_time: float, step: int | None) -> None:
        """Take the trainer's word that it began an attempt: the next step back needs no further proof.

        Args:
            wall_time: when, in seconds since the epoch.
            step: the checkpoint's step that it went back to; None where it did not say.
        """
        if (wall_time, step) not in self._announced:
            self._announced.append((wall_time, step))

    def began(self, source: int, step: int, wall_time: float) -> None:
        """Note that an attempt began at `step`, told by the file itself or found here."""
        for each in self._sources.values():
            each.suspicion = None
            each.top = min(each.top, step - 1)
            for series in each.series.values():
                if series.last >= step:
                    series.last, series.steady = step - 1, 0
        self._top = min(self._top, step - 1)
        self._sources.setdefault(source, _Source()).settled = True
        self._announced = [a for a in self._announced if a[0] - _TOLERANCE > wall_time]

    def observe(self, number: int, samples: Sequence[Sample]) -> Iterator[Found]:
        """Take samples of one file, in its order, and yield where an attempt is known to have begun."""
        source = self._sources.setdefault(number, _Source())
        before, self.seen = self.seen, self.seen + len(samples)
        known = source.series
        if samples and not known:
            source.began = samples[0][2]
        for index, (tag, step, wall, _) in enumerate(samples):
            series = known.get(tag)
            if series is not None and step == series.last and source.suspicion is None:
                continue
            if series is None:
                series = known[tag] = _Series(step, step)
                self._compare(source, number, tag, step, wall, before + index)
            elif step < series.last:
                self._back(source, tag, series, step, wall, before + index)
            elif step > series.last:
                series.last = step
                series.advances += 1
                series.steady += 1
            found = self._weigh(source, tag, step, wall) if source.suspicion is not None else None
            if found is not None:
                yield Found(index, found.first, self._void_from(found), found.wall)
                self._forget(source, number, found)
            if step > source.top:
                if source.advances:
                    source.pause = max(source.pause, wall - source.advanced)
                source.top, source.advanced = step, wall
                source.advances += 1
                if step > self._top:
                    self._top = step
                    if self._announced and source.suspicion is None:
                        self._announced = [a for a in self._announced if a[0] >= wall]  # it just went on
        if samples:
            source.wall = samples[-1][2]
            self._continued(source)

    # One file that goes back

    def _back(self, source: _Source, tag: str, series: _Series, step: int, wall: float, number: int) -> None:
        """A series stepped back: suspect a new attempt, or learn that this one does so all the time."""
        suspicion = source.suspicion
        trusted = series.steady >= STEADY or self._is_announced(step, wall)
        habit = source.restarted and step <= series.first  # it begins anew in every epoch
        if suspicion is None and trusted and not habit and 2 * series.last > self._top:
            suspicion = _Suspicion(number, step, wall, source.top, self._drivers(source))
            suspicion.drivers.setdefault(tag, series.advances)
            source.suspicion = suspicion
        if suspicion is not None and suspicion.resumes is None and tag in suspicion.drivers:
            if tag in suspicion.gone:
                source.suspicion = None  # up and down: not one attempt after another
            else:
                suspicion.gone[tag] = [0, _proof(series, step)]
        series.last, series.steady = step, 0

    def _drivers(self, source: _Source) -> dict[str, int]:
        """Return the advances of a file's steady series on the run's own axis; episodes count less."""
        return {
            tag: series.advances
            for tag, series in source.series.items()
            if series.steady >= STEADY and 2 * series.last > self._top
        }

    def _weigh(self, source: _Source, tag: str, step: int, wall: float) -> _Suspicion | None:
        """Decide whether this sample proves the suspicion, refutes it, or neither."""
        suspicion = source.suspicion
        assert suspicion is not None, "asked only where there is one"
        if self._is_announced(suspicion.step, suspicion.wall):
            return suspicion
        if suspicion.resumes is not None:
            return suspicion if wall - suspicion.resumes.wall > suspicion.resumes.patience else None
        if step > suspicion.top:
            source.suspicion = None  # it goes on where it was
            return None
        gone = suspicion.gone.get(tag)
        if gone is not None:
            gone[0] = source.series[tag].steady
        return suspicion if gone is not None and suspicion.proven() else None

    def _forget(self, source: _Source, number: int, found: _Suspicion) -> None:
        """Begin anew from what was found, keeping what the new attempt has logged so far."""
        lasts = {tag: source.series[tag].last for tag in found.gone}
        if found.resumes is None and any(found.step <= source.series[tag].first for tag in found.gone):
            source.restarted = True
        if found.resumes is not None:
            lasts = {tag: series.last for tag, series in source.series.items()}
        self.began(number, found.step, found.wall)
        for tag, last in lasts.items():
            series = source.series[tag]
            series.last, series.first = last, min(series.first, last)
            source.top = max(source.top, last)
        self._top = max(self._top, source.top)

    # A younger file

    def _compare(self, source: _Source, number: int, tag: str, step: int, wall: float, sample: int) -> None:
        """A tag is new in this file: see where an older file stands with it."""
        owner = self._owner.get(tag)
        self._owner[tag] = number
        if owner is None or owner == number or source.settled or source.suspicion is not None:
            return
        older = self._sources[owner]
        last = older.series[tag].last
        if 2 * last <= self._top or step == last:
            return  # another axis, such as episodes; or no sign either way
        if step > last or older.wall > source.began:
            source.settled = True
            return
        source.suspicion = _Suspicion(sample, step, wall, older.top, {}, resumes=older)

    def _continued(self, source: _Source) -> None:
        """A file that goes on while a younger one is written is resumed by none of them."""
        for other in self._sources.values():
            suspicion = other.suspicion
            if suspicion is not None and suspicion.resumes is source and source.wall > other.began:
                other.suspicion, other.settled = None, True

    # The trainer's word

    def _is_announced(self, step: int, wall: float) -> bool:
        return any(at - _TOLERANCE <= wall and (to is None or to <= step) for at, to in self._announced)

    def _void_from(self, found: _Suspicion) -> int:
        """The first void step: behind the checkpoint, where the trainer named it."""
        known = [
            to
            for at, to in self._announced
            if to is not None and at - _TOLERANCE <= found.wall and to <= found.step
        ]
        return max(known) + 1 if known else found.step


def _proof(series: _Series, step: int) -> int:
    """How many advances must follow a step back of this series to `step`."""
    lost = series.advances * min((series.last - step) / max(series.last - series.first, 1), 1.0)
    return int(min(max(lost / 4, LEAST_PROOF), MOST_PROOF))
