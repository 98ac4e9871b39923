"""One run's event files as one stream of chunks, in the order in which they were logged.

A run may have many event files: one per attempt, per process, per logger. Every one is read. Where a new file takes the
steps back without saying so (a job resumed by hand), the beginning of a new attempt is put in for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
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
    begun: bool


class RunTail:
    """Reads whatever is new in the event files of one run.

    A source is a number for one file (and for its replacement another); it stays the same across restarts.
    """

    def __init__(self, folder: Path, cursors: Iterable[Cursor] = ()) -> None:
        self._folder = folder
        self._sources: dict[str, _Source] = {}
        self._last: dict[str, tuple[int, int]] = {}
        self._next_source = 0
        for cursor in cursors:
            file = EventFile(folder / cursor.path, cursor.offset, cursor.inode)
            self._sources[cursor.path] = _Source(cursor.source, file, cursor.offset, begun=cursor.offset > 0)
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
            limit_bytes: how much of one file to take at a time. While an older file has more to give, the younger ones wait.

        Returns:
            Chunks in the order of their wall times, and whatever was damaged or unreadable.
        """
        fresh: list[tuple[_Source, Batch]] = []
        hurt: list[Hurt] = []
        for path in files:
            name = path.relative_to(self._folder).as_posix()
            source = self._sources.get(name) or self._open(name, path)
            try:
                batch = source.file.read(limit_bytes)
            except TailError as error:
                hurt.append(Hurt(name, source.offset, 0, str(error)))
                continue
            if batch.replaced:
                source = self._sources[name] = _Source(self._take_number(), source.file, 0, begun=False)
            hurt += [Hurt(name, d.offset, d.length, d.reason) for d in batch.damage]
            source.offset = batch.offset
            if batch.samples or batch.starts:
                fresh.append((source, batch))
            if batch.more:
                break
        chunks = _in_order(fresh)
        return [self._announced(chunk, chunks) for chunk in chunks], hurt

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
            file = EventFile(source.file.path)
            samples: list[Sample] = []
            offset = 0
            while offset < source.offset:
                try:
                    batch = file.read(source.offset - offset)
                except TailError:
                    break
                if batch.offset == offset:
                    break
                offset = batch.offset
                samples += batch.samples
            batches.append((source, _Kept([s for s in samples if _holds(s[2], void, until)])))
        for chunk in _in_order(batches):
            yield chunk.source, list(chunk.samples)

    def learn(self, source: int, samples: Iterable[Sample]) -> None:
        """Note where each tag stands; after a restart, the history is learned before new samples are read."""
        for sample in samples:
            self._last[sample[0]] = (source, sample[1])

    def _open(self, name: str, path: Path) -> _Source:
        source = self._sources[name] = _Source(self._take_number(), EventFile(path), 0, begun=False)
        return source

    def _take_number(self) -> int:
        self._next_source += 1
        return self._next_source - 1

    def _announced(self, chunk: Chunk, chunks: Sequence[Chunk]) -> Chunk:
        """Put a session start before the first chunk of a file that goes back behind what another file has logged."""
        source = next(s for s in self._sources.values() if s.number == chunk.source)
        if not source.begun and chunk.start is None and self._goes_back(chunk, chunks):
            first = chunk.samples[0]
            chunk = Chunk(chunk.source, chunk.samples, SessionStart(0, first[1], first[2]))
        source.begun = True
        self.learn(chunk.source, chunk.samples)
        return chunk

    def _goes_back(self, chunk: Chunk, chunks: Sequence[Chunk]) -> bool:
        if not chunk.samples:
            return False
        _, step, wall, _ = chunk.samples[0]
        tag = chunk.samples[0][0]
        known = self._last.get(tag)
        if known is None or known[0] == chunk.source or step > known[1]:
            return False
        # Two loggers that write side by side share tags too; only a file that the others have fallen silent before resumes.
        return all(c.source == chunk.source or not c.samples or c.samples[-1][2] <= wall for c in chunks)


@dataclass(frozen=True, slots=True)
class _Kept:
    samples: list[Sample]
    starts: tuple[SessionStart, ...] = ()


def _holds(wall: float, void: Sequence[Interval], until: float | None) -> bool:
    if until is not None and wall > until:
        return False
    return not any(low < wall < high for low, high in void)


def _in_order(fresh: Sequence[tuple[_Source, Batch | _Kept]]) -> list[Chunk]:
    """Join batches of several files by wall time; each keeps its own order, and is not cut where nothing else falls."""
    pieces = [list(_pieces(source.number, batch)) for source, batch in fresh]
    flat = sorted((piece for file in pieces for piece in file), key=_first_wall)
    if all(_last_wall(a) <= _first_wall(b) for a, b in zip(flat, flat[1:], strict=False)):
        return flat
    merged = heapq.merge(*(_singles(file) for file in pieces), key=_first_wall)
    joined: list[Chunk] = []
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
