"""Several event files of one run as one stream, and the same stream again from the files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.series import Sample
from sentinel.tail import Chunk, RunTail
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


@pytest.mark.parametrize("steps", [[5, 6], [8, 9]])
def test_a_resumed_file_that_goes_back_begins_an_attempt(a: Path, b: Path, steps: list[int]) -> None:
    """A job that is started again from its checkpoint says so only by its steps."""
    append(a, encode(points("x", [1, 4, 8], 0)))
    tail = RunTail(a.parent)
    tail.read([a])
    append(b, encode(points("new", [steps[0]], 9) + points("x", steps, 10)))
    chunks, _ = tail.read([a, b])
    assert starts(chunks) == [steps[0]]
    assert [s[0] for s in flat(chunks)] == ["new", "x", "x"]
    append(b, encode(points("x", [7], 20)))
    assert starts(tail.read([a, b])[0]) == []


def test_a_resumed_file_that_goes_on_begins_none(a: Path, b: Path) -> None:
    """A rotated file is no rollback."""
    append(a, encode(points("x", [1, 4, 8], 0)))
    append(b, encode(points("x", [9, 10], 10)))
    assert starts(RunTail(a.parent).read([a, b])[0]) == []


def test_two_loggers_side_by_side_are_no_rollback(a: Path, b: Path) -> None:
    """They share a tag, and each counts its own steps."""
    append(a, encode(points("x", [10, 20, 30, 40], 0)))
    append(b, encode(points("x", [1, 2, 3], 0.5)))
    assert starts(RunTail(a.parent).read([a, b])[0]) == []


def test_the_older_file_of_two_is_not_taken_for_a_resumed_one(a: Path, b: Path) -> None:
    """What logged a tag first resumes nobody."""
    tail = RunTail(a.parent)
    append(a, encode(points("x", [1], 0)))
    tail.read([a])
    append(b, encode(points("x", [50], 1)))
    tail.read([a, b])
    append(a, encode(points("x", [2], 2)))
    assert starts(tail.read([a, b])[0]) == []


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
    assert list(again.history((), None)) == []
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
@given(pieces, st.integers(0, 40), st.integers(0, 40), st.integers(30, 200))
def test_history_is_what_was_read_less_what_is_void(
    tmp_path_factory: pytest.TempPathFactory,
    script: list[tuple[str, int, bool]],
    low: int,
    high: int,
    limit: int,
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
            while True:
                chunks, _ = tail.read([f for f in files if f.exists()], limit)
                seen += flat(chunks)
                if not tail.behind:
                    break
    void = [(T0 + min(low, high), T0 + max(low, high))]
    kept = [s for s in seen if not void[0][0] < s[2] < void[0][1]]
    again = [s for _, samples in RunTail(folder, tail.cursors()).history(void, None) for s in samples]
    assert again == sorted(kept, key=lambda s: s[2])
    until = T0 + low
    part = [s for _, samples in tail.history((), until) for s in samples]
    assert part == sorted((s for s in seen if s[2] <= until), key=lambda s: s[2])
