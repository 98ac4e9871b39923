"""One run's event files as one stream of chunks, in the order in which they were logged.

A run may have many event files: one per attempt, per process, per logger. Every one is read, and all of them
keep step in wall time: however much there is to catch up with, no file is read far ahead of the others, and
only a part of each is held in memory.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from typing import TypeAlias

from rules.series import Sample
from sentinel.errors import TailError
from sentinel.events import Batch, EventFile, SessionStart
from sentinel.journal import Cursor
from sentinel.records import Damage

Interval: TypeAlias = tuple[float, float]

_READ_LIMIT = 4 << 20
_LEAST_SHARE = 64 << 10  # bytes of one file, where a run has so many that the limit leaves less for each
_CUT = 16  # a file is reread in pieces of this fraction, to find where to stop


@dataclass(frozen=True, slots=True)
class Chunk:
    """Samples of one source, after the session start that precedes them, if one does."""

    source: int
    samples: Sequence[Sample]
    start: SessionStart | None = None


@dataclass(frozen=True, slots=True)
class Hurt:
    """A stretch of a file that could not be read, or a file that could not be read at all (length 0).

    `seconds` lie between the points before and behind the stretch, where both are known.
    """

    path: str
    offset: int
    length: int
    reason: str
    seconds: float | None = None


@dataclass(slots=True)
class _Source:
    number: int
    file: EventFile
    offset: int
    end: int = 0  # where a second reading stops
    wall: float | None = None  # of the last sample that was given
    ahead: float = -math.inf  # wall time of its next sample, where that had to wait for other files


class RunTail:
    """Reads whatever is new in the event files of one run.

    A source is a number for one file (and for its replacement another); it stays the same across restarts.

    Attributes:
        behind: the last read took only part of what there was.
    """

    def __init__(self, folder: Path, cursors: Iterable[Cursor] = ()) -> None:
        self._folder = folder
        self._sources: dict[str, _Source] = {}
        self._next_source = 0
        self.behind = False
        for cursor in cursors:
            file = EventFile(folder / cursor.path, cursor.offset, cursor.inode or None)
            self._put(cursor.path, _Source(cursor.source, file, cursor.offset))
            self._next_source = max(self._next_source, cursor.source + 1)

    def cursors(self) -> list[Cursor]:
        """Return the position behind the last chunk of each file."""
        return [
            Cursor(path, source.number, source.file.inode or 0, source.offset)
            for path, source in self._sources.items()
        ]

    def read(self, files: Sequence[Path], limit_bytes: int = _READ_LIMIT) -> tuple[list[Chunk], list[Hurt]]:
        """Read what the files gained since the last call.

        Where they gained more than the limit, every file is read up to the same wall time, so that a call
        gives what another order of reading would have given too.

        Args:
            files: the run's event files, oldest first.
            limit_bytes: how much to take at a time, shared by the files.

        Returns:
            Chunks in the order of their wall times, and whatever was damaged or unreadable.
        """
        hurt: list[Hurt] = []
        sources = []
        for path in files:
            name = path.relative_to(self._folder).as_posix()
            sources.append(self._sources.get(name) or self._put(name, self._new(EventFile(path))))
        share = max(limit_bytes // max(len(sources), 1), min(limit_bytes, _LEAST_SHARE))
        fresh, self.behind = _together(sources, share, partial(self._take, hurt))
        for source, batch in fresh:
            name = self._name(source)
            hurt += [Hurt(name, d.offset, d.length, d.reason, _gap(source, batch, d)) for d in batch.damage]
            source.wall = batch.samples[-1][2] if batch.samples else source.wall
        return _in_order(fresh), hurt

    def to_the_end(self, files: Sequence[Path]) -> Iterator[tuple[list[Chunk], list[Hurt]]]:
        """Yield what `read` gives, until nothing is left."""
        while True:
            chunks, hurt = self.read(files)
            if chunks or hurt:
                yield chunks, hurt
            if not chunks and not self.behind:
                return

    def _take(self, hurt: list[Hurt], source: _Source, limit_bytes: int) -> Batch | None:
        """Read one file; None where it cannot be read."""
        try:
            batch = source.file.read(limit_bytes)
        except TailError as error:
            hurt.append(Hurt(self._name(source), source.offset, 0, str(error)))
            return None
        if batch.replaced:
            source.number = self._next_source
            self._next_source += 1
        return batch

    def _name(self, source: _Source) -> str:
        return source.file.path.relative_to(self._folder).as_posix()

    def history(self) -> Iterator[Chunk]:
        """Read again what was read before, in the order of its wall times; a part of each file at a time."""
        sources = [
            _Source(source.number, EventFile(source.file.path, 0, source.file.inode), 0, end=source.offset)
            for source in self._sources.values()
            if source.offset
        ]
        share = max(_READ_LIMIT // max(len(sources), 1), _LEAST_SHARE)
        behind = True
        while behind:
            fresh, behind = _together(sources, share, _take_again)
            yield from _in_order(fresh)

    def _new(self, file: EventFile) -> _Source:
        self._next_source += 1
        return _Source(self._next_source - 1, file, 0)

    def _put(self, name: str, source: _Source) -> _Source:
        self._sources[name] = source
        return source


_Take: TypeAlias = Callable[[_Source, int], Batch | None]


def _together(
    sources: Sequence[_Source], share: int, take: _Take
) -> tuple[list[tuple[_Source, Batch]], bool]:
    """Read every file up to the wall time that all of them have been read to.

    Args:
        sources: the files; they stand behind what is given.
        share: how much of one file to take, in bytes.
        take: reads one.

    Returns:
        What is new, and whether there is more of it.
    """
    fresh: list[tuple[_Source, int, Batch]] = []
    horizon, behind = math.inf, False
    for source in sorted(sources, key=lambda each: each.ahead):
        if source.ahead > horizon:
            behind = True  # what it holds next comes after what others still hold
            continue
        begin = source.offset
        batch = take(source, share)
        if batch is None:
            continue
        source.offset = batch.offset
        if batch.replaced:
            begin = 0
        if batch.more:
            behind = True
            horizon = min(horizon, max((s[2] for s in batch.samples), default=-math.inf))
        fresh.append((source, begin, batch))
    cut = []
    for source, begin, batch in fresh:
        source.ahead = -math.inf
        kept = batch
        if any(sample[2] > horizon for sample in batch.samples):
            kept = _cut(source, begin, batch, horizon, take)
            behind = True
        if kept.samples or kept.starts or kept.damage:
            cut.append((source, kept))
    return cut, behind


def _gap(source: _Source, batch: Batch, damage: Damage) -> float | None:
    """Seconds from the last point before a damaged stretch to the first behind it."""
    before = batch.samples[damage.at - 1][2] if damage.at else source.wall
    if before is None or damage.at >= len(batch.samples):
        return None
    return batch.samples[damage.at][2] - before


def _cut(source: _Source, begin: int, batch: Batch, horizon: float, take: _Take) -> Batch:
    """Give back what a file holds beyond a wall time; it then stands behind what is kept.

    The place is found by reading once more, in ever smaller pieces: a batch knows only where it ends.
    """
    source.ahead = next(sample[2] for sample in batch.samples if sample[2] > horizon)
    kept = Batch(offset=begin)
    source.file.back_to(begin)
    piece = batch.offset - begin
    if batch.samples[0][2] > horizon and not batch.starts:
        piece = 0  # nothing to keep
    while piece > 0:
        piece = max(piece // _CUT, 1)
        while (part := take(source, piece)) is not None and part.offset > kept.offset and not part.replaced:
            if any(sample[2] > horizon for sample in part.samples):
                break
            kept.starts += [replace(start, index=start.index + len(kept.samples)) for start in part.starts]
            kept.damage += [replace(damage, at=damage.at + len(kept.samples)) for damage in part.damage]
            kept.samples += part.samples
            kept.offset = part.offset
        if part is None or part.replaced:
            break
        source.file.back_to(kept.offset)
        if piece == 1:
            break
    source.offset = source.file.offset
    return kept


def _take_again(source: _Source, limit_bytes: int) -> Batch | None:
    """Read a file a second time, up to where the first reading had come; None once that is done."""
    before = source.file.offset
    if before >= source.end:
        return None
    try:
        batch = source.file.read(min(limit_bytes, source.end - before))
    except TailError:
        return None
    if batch.replaced or batch.offset == before:  # another file by this name: what was read is gone
        source.end = 0
        return None
    batch.more = batch.offset < source.end
    return batch


def holds(wall: float, void: Sequence[Interval], until: float | None = None) -> bool:
    """Say whether a sample of this wall time is valid: in no void interval, and not after `until`."""
    if until is not None and wall > until:
        return False
    return not any(low < wall < high for low, high in void)


def _in_order(fresh: Sequence[tuple[_Source, Batch]]) -> list[Chunk]:
    """Join batches of several files by wall time; each keeps its own order, and is cut only where another
    falls between.
    """
    files = [list(_pieces(source.number, batch)) for source, batch in fresh]
    whole = list(heapq.merge(*files, key=_first_wall))
    if all(a.source == b.source or _last_wall(a) <= _first_wall(b) for a, b in pairwise(whole)):
        return whole
    joined: list[Chunk] = []
    merged = heapq.merge(*(_singles(file) for file in files), key=_first_wall)
    for source, group in groupby(merged, key=lambda chunk: chunk.source):
        held: list[Sample] = []
        start: SessionStart | None = None
        for single in group:
            if single.start is not None:
                if held or start is not None:
                    joined.append(Chunk(source, held, start))
                held, start = [], single.start
            held.extend(single.samples)
        joined.append(Chunk(source, held, start))
    return joined


def _pieces(source: int, batch: Batch) -> Iterator[Chunk]:
    """Cut a batch at its session starts."""
    begin, start = 0, None
    for mark in batch.starts:
        if mark.index > begin or start is not None:
            yield Chunk(source, batch.samples[begin : mark.index], start)
        begin, start = mark.index, mark
    if batch.samples[begin:] or start is not None:
        yield Chunk(source, batch.samples[begin:], start)


def _singles(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        if chunk.start is not None:
            yield Chunk(chunk.source, (), chunk.start)
        for sample in chunk.samples:
            yield Chunk(chunk.source, (sample,))


def _first_wall(chunk: Chunk) -> float:
    return chunk.start.wall_time if chunk.start is not None else chunk.samples[0][2]


def _last_wall(chunk: Chunk) -> float:
    return chunk.samples[-1][2] if chunk.samples else _first_wall(chunk)
