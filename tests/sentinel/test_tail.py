"""Several event files of one run as one stream, and the same stream again from the files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.series import Sample
from sentinel.tail import Chunk, Hurt, RunTail
from tests.sentinel.event_files import T0
from tests.sentinel.scene import encode, start_record


def points(tag: str, steps: list[int], wall: float, every: float = 1.0) -> list[Sample]:
    return [(tag, step, T0 + wall + every * n, float(step)) for n, step in enumerate(steps)]


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return tmp_path / "events.out.tfevents.1.a"


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return tmp_path / "events.out.tfevents.2.b"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def flat(chunks: list[Chunk]) -> list[Sample]:
    return [sample for chunk in chunks for sample in chunk.samples]


def starts(chunks: list[Chunk]) -> list[int]:
    return [chunk.start.step for chunk in chunks if chunk.start is not None]


def test_files_written_side_by_side_come_in_the_order_of_their_wall_times(a: Path, b: Path) -> None:
    """Each keeps its own order; nothing is lost."""
    one, two = points("x", [1, 2, 3, 4], 0, 2.0), points("y", [1, 2, 3], 1, 2.0)
    append(a, encode(one))
    append(b, encode(two))
    chunks, hurt = RunTail(a.parent).read([a, b])
    assert flat(chunks) == sorted(one + two, key=lambda s: s[2])
    assert hurt == []


def test_one_files_order_is_kept_where_its_clock_goes_back(a: Path) -> None:
    """Its own order is the truth; wall times only join it with others."""
    late, early = points("x", [1, 2], 100), points("x", [2, 3], 0)
    append(a, encode(late) + start_record(2, T0) + encode(early))
    chunks, _ = RunTail(a.parent).read([a])
    assert flat(chunks) == late + early
    assert starts(chunks) == [2]


def test_a_replaced_file_is_a_new_source_and_read_from_its_beginning(a: Path) -> None:
    """Also across a restart, and what the old one held is not taken from the new one."""
    append(a, encode(points("x", [1, 2, 3], 0)))
    tail = RunTail(a.parent)
    (chunk,), _ = tail.read([a])
    cursors = tail.cursors()
    fresh = a.with_name("fresh")
    append(fresh, encode(points("y", [1, 2, 3, 4, 5], 10)))
    fresh.replace(a)
    again = RunTail(a.parent, cursors)
    assert list(again.history()) == []
    (other,), _ = again.read([a])
    assert other.source != chunk.source
    assert flat([other]) == points("y", [1, 2, 3, 4, 5], 10)


def test_a_file_that_cannot_be_read_does_not_hide_the_others(a: Path, b: Path) -> None:
    """It is told, and the rest goes on."""
    a.mkdir()
    append(b, encode(points("x", [1], 0)))
    chunks, hurt = RunTail(a.parent).read([a, b])
    assert flat(chunks) == points("x", [1], 0)
    assert [h.path for h in hurt] == [a.name]


pieces = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4), st.booleans()), max_size=12)


@settings(max_examples=40, deadline=None)
@given(pieces, st.integers(30, 200))
def test_history_is_what_was_read(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, int, bool]], limit: int
) -> None:
    """A restart reads the files again; it must see the samples that were judged, in order, and no other."""
    folder = tmp_path_factory.mktemp("run")
    files = [folder / "events.out.tfevents.1.a", folder / "events.out.tfevents.2.b"]
    tail, seen, clock = RunTail(folder), [], 0
    for name, count, look in script:
        for _ in range(count):
            clock += 1
            append(files["ab".index(name)], encode([(name, clock, T0 + clock, float(clock))]))
        if look:
            if clock % 2:
                tail = RunTail(folder, tail.cursors())
            seen += caught_up(tail, [f for f in files if f.exists()], limit)
    again = flat(list(RunTail(folder, tail.cursors()).history()))
    assert again == sorted(seen, key=lambda s: s[2])


def caught_up(tail: RunTail, files: list[Path], limit: int) -> list[Sample]:
    """Read until there is nothing new, as a start after a long absence does."""
    seen = []
    while True:
        chunks, _ = tail.read(files, limit)
        seen += flat(chunks)
        if not tail.behind:
            return seen


walls = st.lists(st.lists(st.integers(0, 60), max_size=25).map(sorted), min_size=2, max_size=4)


@settings(max_examples=60, deadline=None)
@given(walls, st.integers(1, 400), st.booleans())
def test_files_to_be_caught_up_with_are_merged_by_wall_time(
    tmp_path_factory: pytest.TempPathFactory, walls: list[list[int]], limit: int, restart: bool
) -> None:
    """However little is read at a time, side-by-side files come in the order of one whole reading."""
    folder = tmp_path_factory.mktemp("run")
    files = [folder / f"events.out.tfevents.{n}.x" for n in range(len(walls))]
    for n, (path, times) in enumerate(zip(files, walls, strict=True)):
        append(path, encode([(f"x{n}", i, T0 + wall, 0.0) for i, wall in enumerate(times)]))
    tail, seen = RunTail(folder), []
    while True:
        chunks, _ = tail.read(files, limit)
        seen += flat(chunks)
        if not tail.behind:
            break
        if restart:
            tail = RunTail(folder, tail.cursors())
    assert [s[2] for s in seen] == sorted(s[2] for s in seen)
    for n, times in enumerate(walls):
        assert [s[1] for s in seen if s[0] == f"x{n}"] == list(range(len(times)))
    assert flat(list(tail.history())) == seen or len({s[2] for s in seen}) < len(seen)


def test_a_start_is_read_once_where_a_file_has_to_wait_for_another(a: Path, b: Path) -> None:
    """A file that is cut short begins its attempt at the place it was cut at, and damage is told once."""
    append(a, encode(points("x", list(range(40)), 0)))
    append(b, encode(points("y", [1, 2], 5)) + start_record(2, T0 + 20) + encode(points("y", [2, 3], 21)))
    append(b, b"damage" * 5 + encode(points("y", [4], 30)))
    tail = RunTail(a.parent)
    chunks: list[Chunk] = []
    hurt: list[Hurt] = []
    while True:
        more, lost = tail.read([a, b], 150)
        chunks, hurt = chunks + more, hurt + lost
        if not tail.behind:
            break
    assert starts(chunks) == [2]
    assert [s[2] for s in flat(chunks)] == sorted(s[2] for s in flat(chunks))
    begins = next(i for i, chunk in enumerate(chunks) if chunk.start is not None)
    assert max(s[2] for s in flat(chunks[:begins])) <= T0 + 20
    assert sum(h.length for h in hurt) == 30
