"""One run's event files as one stream of chunks, in the order in which they were logged.

A run may have many event files: one per attempt, per process, per logger. Every one is read. Where a new file
takes the steps back without saying so (a job resumed by hand), the beginning of a new attempt is put in for
it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import TypeAlias

from rules.series import Sample
from sentinel.errors import TailError
from sentinel.events import Batch, EventFile, SessionStart
from sentinel.journal import Cursor

Interval: TypeAlias = tuple[float, float]

_READ_LIMIT = 4 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """Samples of one source, after the session start that precedes them, if one does."""

    source: int
    samples: Sequence[Sample]
    start: SessionStart | None = None


@dataclass(frozen=True, slots=True)
class Hurt:
    """A stretch of a file that could not be read, or a file that could not be read at all (length 0)."""

    path: str
    offset: int
    length: int
    reason: str


@dataclass(slots=True)
class _Source:
    number: int
    file: EventFile
    offset: int
    begun: bool = False  # whether it is settled that it resumes no other file


class RunTail:
    """Reads whatever is new in the event files of one run.

    A source is a number for one file (and for its replacement another); it stays the same across restarts.

    Attributes:
        behind: the last read took only part of what there was.
    """

    def __init__(self, folder: Path, cursors: Iterable[Cursor] = ()) -> None:
        self._folder = folder
        self._sources: dict[str, _Source] = {}
        self._numbered: dict[int, _Source] = {}
        self._last: dict[str, tuple[int, int]] = {}
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

        Args:
            files: the run's event files, oldest first.
            limit_bytes: how much of one file to take at a time. While an older file has more to give, the
                younger ones wait.

        Returns:
            Chunks in the order of their wall times, and whatever was damaged or unreadable.
        """
        fresh: list[tuple[_Source, Batch]] = []
        hurt: list[Hurt] = []
        self.behind = False
        for path in files:
            name = path.relative_to(self._folder).as_posix()
            source = self._sources.get(name) or self._put(name, self._new(EventFile(path)))
            try:
                batch = source.file.read(limit_bytes)
            except TailError as error:
                hurt.append(Hurt(name, source.offset, 0, str(error)))
                continue
            if batch.replaced:
                source = self._put(name, self._new(source.file))
            hurt += [Hurt(name, d.offset, d.length, d.reason) for d in batch.damage]
            source.offset = batch.offset
            if batch.samples or batch.starts:
                fresh.append((source, batch))
            if batch.more:
                self.behind = True
                break
        chunks = _in_order(fresh)
        return [part for chunk in chunks for part in self._announced(chunk, chunks)], hurt

    def history(self, void: Sequence[Interval], until: float | None) -> Iterator[tuple[int, list[Sample]]]:
        """Read again what was read before, leaving out what later attempts made void.

        Args:
            void: open intervals of wall time (seconds) whose samples were abandoned.
            until: last wall time to give, in seconds; None for everything.

        Yields:
            (source, samples), oldest first.
        """
        batches = []
        for source in self._sources.values():
            if source.offset == 0:
                continue
            file = EventFile(source.file.path, 0, source.file.inode)
            samples: list[Sample] = []
            offset = 0
            while offset < source.offset:
                try:
                    batch = file.read(source.offset - offset)
                except TailError:
                    break
                if batch.offset == offset or batch.replaced:
                    break  # another file by this name: what was read is gone
                offset = batch.offset
                samples += batch.samples
            batches.append((source, _Kept([s for s in samples if holds(s[2], void, until)])))
        for chunk in _in_order(batches):
            yield chunk.source, list(chunk.samples)

    def learn(self, source: int, samples: Iterable[Sample]) -> None:
        """Note where each tag stands; after a restart, the history is learned before new samples are read."""
        last = self._last
        for tag, step, _, _ in samples:
            known = last.get(tag)
            if known is not None and known[0] != source:
                self._settle(source, known[0])
            last[tag] = (source, step)

    def _new(self, file: EventFile) -> _Source:
        self._next_source += 1
        return _Source(self._next_source - 1, file, 0)

    def _put(self, name: str, source: _Source) -> _Source:
        self._sources[name] = self._numbered[source.number] = source
        return source

    def _settle(self, *numbers: int) -> None:
        for number in numbers:
            if number in self._numbered:
                self._numbered[number].begun = True

    def _announced(self, chunk: Chunk, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Put a session start where a file first goes back behind what another file has logged.

        The first tag that it shares with another file settles it, wherever a read happened to end.
        """
        parts = [chunk]
        if chunk.start is not None:
            self._settle(chunk.source)
        elif not self._numbered[chunk.source].begun:
            at = self._shared(chunk)
            if at is not None and self._goes_back(chunk, at, chunks):
                _, step, wall, _ = chunk.samples[at]
                begins = Chunk(chunk.source, chunk.samples[at:], SessionStart(0, step, wall))
                parts = [Chunk(chunk.source, chunk.samples[:at]), begins] if at else [begins]
        self.learn(chunk.source, chunk.samples)
        return parts

    def _shared(self, chunk: Chunk) -> int | None:
        """Return the index of the first sample whose tag another file has logged."""
        known = ((i, self._last.get(sample[0])) for i, sample in enumerate(chunk.samples))
        return next((i for i, last in known if last is not None and last[0] != chunk.source), None)

    def _goes_back(self, chunk: Chunk, at: int, chunks: Sequence[Chunk]) -> bool:
        tag, step, wall, _ = chunk.samples[at]
        if step > self._last[tag][1]:
            return False
        # Two loggers that write side by side share tags too; only a file that the others have fallen silent
        # before resumes.
        return all(c.source == chunk.source or not c.samples or c.samples[-1][2] <= wall for c in chunks)


@dataclass(frozen=True, slots=True)
class _Kept:
    samples: list[Sample]
    starts: tuple[SessionStart, ...] = ()


def holds(wall: float, void: Sequence[Interval], until: float | None = None) -> bool:
    """Say whether a sample of this wall time is valid: in no void interval, and not after `until`."""
    if until is not None and wall > until:
        return False
    return not any(low < wall < high for low, high in void)


def _in_order(fresh: Sequence[tuple[_Source, Batch | _Kept]]) -> list[Chunk]:
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


def _pieces(source: int, batch: Batch | _Kept) -> Iterator[Chunk]:
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
