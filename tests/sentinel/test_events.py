"""Event files read while they grow, break, move and vanish."""

from __future__ import annotations

import csv
import os
import resource
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from rules.series import Sample
from sentinel.errors import TailError
from sentinel.events import Batch, EventFile, SessionStart
from sentinel.records import Damage
from tests.sentinel.event_files import GOLDEN, T0, expected, frames, header, record, same, scalar

golden = pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.name.rsplit("0000.", 1)[1])


def read_to_end(file: EventFile, limit: int = 4 << 20) -> Batch:
    """Join batches until the file has no more to give."""
    whole = Batch()
    while True:
        batch = file.read(limit)
        assert batch.offset == file.offset
        whole.samples += batch.samples
        whole.starts += batch.starts
        whole.damage += batch.damage
        whole.offset, whole.partial = batch.offset, batch.partial
        if not batch.more:
            return whole


@golden
def test_what_other_programs_wrote_is_read_as_protobuf_reads_it(path: Path) -> None:
    """Torch's writer (simple values, new style, doubles, histogram, text, image) and TensorBoard's own."""
    batch = EventFile(path).read()
    assert same(batch.samples, expected(path.read_bytes()))
    assert (batch.offset, batch.partial, batch.more, batch.damage) == (path.stat().st_size, False, False, [])


@golden
def test_a_file_cut_at_every_byte_gives_the_whole_in_two_reads(path: Path, tmp_path: Path) -> None:
    """What is read before the cut plus what is read after it is the whole; nothing is called damage."""
    content = path.read_bytes()
    ends = {0, *(end for _, end in frames(content))}
    whole = expected(content)
    growing = tmp_path / path.name
    for cut in range(len(content) + 1):
        growing.write_bytes(content[:cut])
        file = EventFile(growing)
        before = file.read()
        assert before.partial is (cut not in ends), cut
        assert before.offset == max(end for end in ends if end <= cut), cut
        with growing.open("ab") as rest:
            rest.write(content[cut:])
        resumed = EventFile(growing, before.offset).read()
        after = file.read()
        assert not before.damage + after.damage, cut
        assert same(before.samples + after.samples, whole), cut
        assert same(resumed.samples, after.samples), cut


@golden
def test_a_flipped_byte_costs_its_own_record_and_is_told(path: Path, tmp_path: Path) -> None:
    """For every byte: no wrong value, all other records survive, and the damage is where the byte is."""
    content = path.read_bytes()
    spans = frames(content)
    parts = [expected(content[begin:end]) for begin, end in spans]
    broken = tmp_path / path.name
    for index, (begin, end) in enumerate(spans):
        others = [s for i, part in enumerate(parts) if i != index for s in part]
        lost = (
            end - begin if end < len(content) else end - begin - 11
        )  # a header might begin in the last 11 bytes
        for at in range(begin, end):
            broken.write_bytes(content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
            batch = EventFile(broken).read()
            assert same(batch.samples, others), at
            assert [(d.offset, d.length) for d in batch.damage] == [(begin, lost)], at


pieces = st.one_of(
    st.tuples(
        st.just(True),
        st.builds(scalar, st.sampled_from(["a", "loss"]), st.integers(-3, 20_000), st.floats(width=32)),
    ),
    st.tuples(st.just(False), st.binary(min_size=1, max_size=40)),
    st.tuples(st.just(False), st.integers(1, 40).map(bytes)),
    st.tuples(st.just(False), st.just(header(20) + b"torn")),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(pieces, max_size=12),
    st.lists(st.integers(1, 80), min_size=1, max_size=30),
    st.integers(1, 100),
)
def test_records_among_garbage_are_all_found_however_the_file_grows(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[bool, bytes]], growths: list[int], limit: int
) -> None:
    """Every valid record is read once, in order, at any growth and limit; every other byte is told."""
    parts = [*parts, *[(True, scalar("end", i)) for i in range(3)]]  # long enough to end every torn record
    content = b"".join(part for _, part in parts)
    path = tmp_path_factory.mktemp("events") / "events.out.tfevents.1"
    file, found = EventFile(path), Batch()
    at = 0
    with path.open("wb", buffering=0) as out:
        for growth in [*growths, len(content)]:
            out.write(content[at : at + growth])
            at += growth
            batch = read_to_end(file, limit)
            found.samples += batch.samples
            found.damage += batch.damage

    assert same(found.samples, [s for valid, part in parts if valid for s in expected(part)])
    assert sum(d.length for d in found.damage) == sum(len(part) for valid, part in parts if not valid)
    assert file.offset == len(content)


@settings(max_examples=300, deadline=1000)
@given(
    st.lists(st.one_of(st.binary(max_size=300), st.integers(0, 2**64 - 1).map(header)), max_size=6).map(
        b"".join
    )
)
def test_no_bytes_crash_hang_or_swell_the_reader(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Arbitrary bytes and right headers of arbitrary length: a batch comes back, in bounds."""
    path = tmp_path_factory.getbasetemp() / "arbitrary"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    batch = EventFile(path).read()
    assert 0 <= batch.offset <= len(content)
    assert all(0 <= d.offset < d.offset + d.length <= len(content) for d in batch.damage)
    assert batch.partial is (batch.offset < len(content))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.just(scalar()[12:-4])), max_size=6))
def test_a_right_checksum_around_what_is_no_event_is_damage(
    tmp_path_factory: pytest.TempPathFactory, datas: list[bytes]
) -> None:
    """Bytes that protobuf refuses are told as damage, those that it takes are read, and reading goes on."""
    path = tmp_path_factory.getbasetemp() / "framed"
    path.write_bytes(b"".join(record(data) for data in datas) + scalar("last"))
    batch = EventFile(path).read()
    assert batch.samples[-1] == ("last", 1, T0, 0.5)
    assert batch.offset == path.stat().st_size


def test_an_impossible_length_is_passed_over(tmp_path: Path) -> None:
    """A length of 2^63 with a right checksum is damage of 12 bytes and the records behind it are read."""
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(scalar() + header(2**63) + scalar(step=2))
    batch = EventFile(path).read()
    assert [s[1] for s in batch.samples] == [1, 2]
    assert [(d.offset, d.length) for d in batch.damage] == [(len(scalar()), 12)]


def test_zeros_at_the_end_are_awaited_and_in_the_middle_are_damage(tmp_path: Path) -> None:
    """A network file system shows a length before its bytes: zeros now may be a record soon."""
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(scalar() + bytes(len(scalar())))
    file = EventFile(path)
    first = file.read()
    assert (len(first.samples), first.damage, first.partial) == (1, [], True)
    with path.open("r+b") as out:
        out.seek(len(scalar()))
        out.write(scalar(step=2))
    os.utime(path, ns=(1, 1))  # the size is the old one, the time of change is what tells
    assert [s[1] for s in file.read().samples] == [2]
    path.write_bytes(scalar() + bytes(30) + scalar(step=3))
    batch = EventFile(path).read()
    assert ([s[1] for s in batch.samples], [d.length for d in batch.damage]) == ([1, 3], [30])


def test_a_limit_ends_a_batch_between_records(tmp_path: Path) -> None:
    """Samples of one record are never split; one longer than the limit is read whole; `more` tells."""
    many = Event(wall_time=T0, step=7)
    for i in range(5):
        many.summary.value.add(tag=f"tag{i}", simple_value=i)
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(scalar() + record(many.SerializeToString()) + scalar(step=8))
    file = EventFile(path)
    sizes = []
    while True:
        batch = file.read(limit_bytes=10)
        sizes.append(len(batch.samples))
        if not batch.more:
            break
    assert sizes == [1, 5, 1]


def test_a_replaced_or_shortened_file_is_read_from_its_start(tmp_path: Path) -> None:
    """Another inode, a smaller size, another beginning: said, and nothing of it skipped."""
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(scalar(step=1, wall=T0) + scalar(step=2))
    file = EventFile(path)
    assert not file.read().replaced

    path.write_bytes(scalar(step=3))  # shorter
    batch = file.read()
    assert (batch.replaced, [s[1] for s in batch.samples]) == (True, [3])

    fresh = tmp_path / "new"
    fresh.write_bytes(scalar(step=4) + scalar(step=5) + scalar(step=6))
    fresh.replace(path)  # another inode
    batch = file.read()
    assert (batch.replaced, [s[1] for s in batch.samples]) == (True, [4, 5, 6])

    with path.open("r+b") as out:  # the same inode, longer, but another first record
        out.write(b"".join(scalar(step=s, wall=T0 + 1) for s in (7, 8, 9, 10)))
    batch = file.read()
    assert (batch.replaced, [s[1] for s in batch.samples]) == (True, [7, 8, 9, 10])
    assert not file.read().replaced

    old = EventFile(path, len(scalar(step=7)), inode=path.stat().st_ino + 1)
    assert old.read().replaced


def test_a_vanished_file_is_an_error_that_says_so_and_may_return(tmp_path: Path) -> None:
    """A file that goes is not silence: TailError, vanished; when it is back it is another file."""
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(scalar())
    file = EventFile(path)
    file.read()
    path.unlink()
    with pytest.raises(TailError, match="gone") as caught:
        file.read()
    assert caught.value.vanished
    path.write_bytes(scalar(wall=T0 + 5))
    assert len(file.read().samples) == 1


def test_what_is_not_a_regular_file_does_not_block(tmp_path: Path) -> None:
    """A FIFO or a folder by an event file's name is an error at once, not a wait for ever."""
    os.mkfifo(tmp_path / "events.out.tfevents.1")
    (tmp_path / "events.out.tfevents.2").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(TailError) as caught:
            EventFile(path).read()
        assert not caught.value.vanished


def test_session_starts_say_where_the_void_begins(tmp_path: Path) -> None:
    """SessionLog START is placed among the samples; a step left out is 0; STOP is nothing."""
    starts = [
        Event(wall_time=T0 + s, step=s, session_log=SessionLog(status=SessionLog.START)) for s in (0, 40)
    ]
    stop = Event(wall_time=T0, step=1, session_log=SessionLog(status=SessionLog.STOP))
    path = tmp_path / "events.out.tfevents.1"
    parts = [starts[0], stop, starts[1]]
    path.write_bytes(scalar().join(record(event.SerializeToString()) for event in parts))
    assert EventFile(path).read().starts == [SessionStart(0, 0, T0), SessionStart(2, 40, T0 + 40)]


def test_torch_purge_step_is_a_session_start() -> None:
    """SummaryWriter(purge_step=128) says that 128 and later are void, before its first point."""
    path = next(p for p in GOLDEN if p.name.endswith(".purged"))
    assert [(s.index, s.step) for s in EventFile(path).read().starts] == [(0, 128)]


def long_event(tag: str, payload: int, *, scalar_too: bool = False) -> bytes:
    event = Event(wall_time=T0, step=3)
    event.summary.value.add(tag=tag).image.encoded_image_string = bytes(range(1, 256)) * (payload // 255)
    if scalar_too:
        event.summary.value.add(tag="beside", simple_value=4.0)
    return record(event.SerializeToString())


@pytest.mark.parametrize("size", [300, 5_000, 3_000_000])
def test_long_records_are_passed_over_but_not_the_scalars_in_them(size: int, tmp_path: Path) -> None:
    """An image of any size holds no scalar; a merged summary of image and scalar does, and it is found."""
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(
        scalar() + long_event("frame", size) + long_event("merged", size, scalar_too=True) + scalar("last")
    )
    batch = read_to_end(EventFile(path), limit=1 << 20)
    assert [s[0] for s in batch.samples] == ["loss", "beside", "last"]
    assert not batch.damage


def test_damage_in_a_long_record_is_found_though_it_is_not_parsed(tmp_path: Path) -> None:
    """Passing over 3 MB by its length still verifies its checksum."""
    broken = bytearray(long_event("frame", 3_000_000))
    broken[2_000_000] ^= 1
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(scalar() + broken + scalar("last"))
    batch = read_to_end(EventFile(path))
    assert [s[0] for s in batch.samples] == ["loss", "last"]
    assert sum(d.length for d in batch.damage) == len(broken)


def test_damage_in_a_kind_of_record_that_is_known_to_be_silent_is_found(tmp_path: Path) -> None:
    """Histograms and images are passed over by their first bytes, but never without their checksum."""
    image, broken = long_event("frame", 600), bytearray(long_event("frame", 600))
    broken[500] ^= 1
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(image * 3 + broken + image + scalar())
    batch = EventFile(path).read()
    assert [(d.offset, d.length) for d in batch.damage] == [(3 * len(image), len(image))]
    assert len(batch.samples) == 1


def test_growth_by_blocks_that_end_within_a_record_looks_buffered(tmp_path: Path) -> None:
    """A writer that holds points back writes 8192 bytes at a time; one that flushes writes records."""
    content = b"".join(scalar(step=step) for step in range(1000))

    def grow(name: str, ends: Iterable[int]) -> EventFile:
        path = tmp_path / name
        file = EventFile(path)
        for end in ends:
            path.write_bytes(content[:end])
            file.read()
        return file

    assert grow("held", range(8192, len(content), 8192)).buffered
    assert not grow("flushed", (end for _, end in frames(content)[100:200])).buffered


def test_an_idle_file_is_not_opened(tmp_path: Path) -> None:
    """Where nothing changed, a read costs one stat: it needs no permission to open, and no descriptor."""
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(scalar())
    file = EventFile(path)
    file.read()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limit[1]))
    try:
        assert file.read() == Batch(offset=path.stat().st_size)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_a_live_writer_is_followed_point_by_point(tmp_path: Path) -> None:
    """TensorBoard's EventFileWriter: after each flush, exactly the new point is there."""
    writer = EventFileWriter(str(tmp_path))
    file = EventFile(next(tmp_path.iterdir()))
    for step in range(50):
        event = Event(wall_time=T0 + step, step=step)
        event.summary.value.add(tag="loss", simple_value=step)
        writer.add_event(event)
        writer.flush()
        assert file.read().samples == [("loss", step, T0 + step, float(step))]
    writer.close()
    assert file.read().samples == []


def corpus_files(corpus: Path) -> list[Path]:
    return sorted(corpus.glob("*/*tfevents*"))


def test_every_file_of_the_corpus_is_read_as_protobuf_reads_it(corpus: Path) -> None:
    """197 files that other people's runs wrote: every sample to the last bit, no damage, no rest."""
    for path in corpus_files(corpus):
        batch = read_to_end(EventFile(path), limit=100_000)
        assert same(batch.samples, expected(path.read_bytes())), path
        assert (batch.offset, batch.damage) == (path.stat().st_size, []), path


@pytest.mark.parametrize("stride", [25, pytest.param(1, marks=pytest.mark.slow)])
def test_the_corpus_is_read_as_tensorboard_reads_it(corpus: Path, stride: int) -> None:
    """EventAccumulator, keeping everything: the same tags, steps, times and values."""
    files = corpus_files(corpus)
    assert files
    for path in files[::stride]:
        reference = EventAccumulator(str(path), {"scalars": 0, "tensors": 0}, purge_orphaned_data=False)
        reference.Reload()
        series: dict[str, list[Sample]] = {}
        for sample in EventFile(path).read(1 << 30).samples:
            series.setdefault(sample[0], []).append(sample)
        assert set(reference.Tags()["scalars"]) == set(series), path
        for tag, samples in series.items():
            wanted = [(tag, e.step, e.wall_time, e.value) for e in reference.Scalars(tag)]
            assert same(samples, wanted), (path, tag)


def test_the_incident_is_read_from_its_own_file(corpus: Path) -> None:
    """Actor Q mean of the incident, as it was logged."""
    with (corpus / "labels.csv").open(encoding="utf-8") as labels:
        assert any(row for row in csv.reader(labels) if row and row[0] == "SEED047")
    (path,) = corpus.glob("SEED047/*tfevents*")
    found = [(s[1], round(s[3], 3)) for s in EventFile(path).read().samples if s[0] == "debug/actor_q_mean"]
    assert found == [
        (1100, 2.344),
        (1200, 11.732),
        (1300, 28.721),
        (1400, 54.498),
        (1500, 104.489),
        (1600, 199.494),
        (1700, 349.055),
    ]


def test_adjacent_damage_is_one(tmp_path: Path) -> None:
    """Two broken records in a row are one stretch of lost bytes, with the first's reason."""
    first, second = bytearray(scalar()), bytearray(scalar(step=2))
    first[30] ^= 1
    second[3] ^= 1
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(bytes(first + second) + scalar(step=3))
    batch = EventFile(path).read()
    assert batch.damage == [
        Damage(0, len(first) + len(second), "the checksum of a record's data does not match")
    ]
