"""Which runs there are, whatever else lies in the log directory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sentinel.discover import age_order, scan
from sentinel.events import EventFile
from tests.sentinel.event_files import GOLDEN, record, scalar

EVENTS = "events.out.tfevents.1700000000.host.1.0"


def make(folder: Path, name: str = EVENTS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(scalar())
    return folder / name


@contextmanager
def without_privileges() -> Iterator[None]:
    """Act as a user whom permissions bind; root is not bound."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_run_is_a_folder_with_event_files_named_by_its_path(tmp_path: Path) -> None:
    """The log directory itself is `.`; runs lie at any depth, also in runs; other files do not matter."""
    files = {name: make(tmp_path / name) for name in (".", "a", "a/eval", "deep/er/b")}
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    runs = scan(tmp_path)
    assert {name: run.event_files for name, run in runs.items()} == {n: [f] for n, f in files.items()}
    assert {name: run.path for name, run in runs.items()} == {n: f.parent for n, f in files.items()}
    assert runs.unreadable == []


def test_runs_appear_and_vanish_between_scans(tmp_path: Path) -> None:
    """A scan says what is there now."""
    file = make(tmp_path / "a")
    assert set(scan(tmp_path)) == {"a"}
    make(tmp_path / "b")
    assert set(scan(tmp_path)) == {"a", "b"}
    file.unlink()
    assert set(scan(tmp_path)) == {"b"}


def test_a_file_with_nothing_but_its_header_is_a_run_without_samples(tmp_path: Path) -> None:
    """A trainer that has just begun, or died at once, is a run: it may be waited for, or missed."""
    version = b"\x09" + bytes(8) + b"\x1a\x0dbrain.Event:2"
    make(tmp_path / "a").write_bytes(record(version))
    make(tmp_path / "b").write_bytes(b"")
    runs = scan(tmp_path)
    assert set(runs) == {"a", "b"}
    for run in runs.values():
        batch = EventFile(run.event_files[0]).read()
        assert (batch.samples, batch.damage, batch.partial) == ([], [], False)


def test_links_are_followed_once_and_a_run_goes_by_its_real_name(tmp_path: Path) -> None:
    """Loops end; a link beside its target adds nothing; a link out of the log directory is a run."""
    logdir = tmp_path / "logs"
    make(logdir / "z/run")
    (logdir / "a").symlink_to("z")
    (logdir / "z/up").symlink_to("..")
    (logdir / "itself").symlink_to("itself")
    (logdir / "nowhere").symlink_to("missing")
    make(tmp_path / "elsewhere")
    (logdir / "far").symlink_to(tmp_path / "elsewhere")
    runs = scan(logdir)
    assert set(runs) == {"z/run", "far"}
    assert runs.unreadable == []


def test_an_unreadable_folder_is_reported_and_the_others_are_found() -> None:
    """One folder without permission must neither end the scan nor pass unseen."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        logdir = Path(name)
        logdir.chmod(0o755)
        make(logdir / "a")
        make(logdir / "locked").parent.chmod(0)
        with without_privileges():
            runs = scan(logdir)
        (logdir / "locked").chmod(0o755)
    assert set(runs) == {"a"}
    assert [u.path for u in runs.unreadable] == [f"{name}/locked"]
    assert "Permission denied" in runs.unreadable[0].reason


def test_a_log_directory_that_is_not_there_is_reported(tmp_path: Path) -> None:
    """No log directory is not the same as no runs."""
    runs = scan(tmp_path / "missing")
    assert (dict(runs), len(runs.unreadable)) == ({}, 1)


def test_a_runs_own_folders_are_not_runs(tmp_path: Path) -> None:
    """In a run, `control` and `checkpoints` are not runs, whatever they hold; elsewhere they are names."""
    make(tmp_path / "a")
    make(tmp_path / "a/control/x")
    make(tmp_path / "a/checkpoints/00-00000100")
    make(tmp_path / "begun/checkpoints/00-00000000")
    (tmp_path / "begun/control").mkdir()
    (tmp_path / "begun/control/trainer.json").touch()
    make(tmp_path / "checkpoints/b")
    make(tmp_path / ".hidden/c")
    assert set(scan(tmp_path)) == {"a", "checkpoints/b"}


def test_event_files_of_a_run_are_ordered_by_their_time_then_name(tmp_path: Path) -> None:
    """The time in the name counts, not the alphabet; counters within one second are numbers."""
    names = [
        "events.out.tfevents.999.zebra.1.0",
        "events.out.tfevents.1700000000.a.5.9",
        "events.out.tfevents.1700000000.a.5.10",
        "events.out.tfevents.1700000001.a.1.0",
    ]
    for name in reversed(names):
        make(tmp_path, name)
    assert [p.name for p in scan(tmp_path)["."].event_files] == names
    assert sorted([Path("x.tfevents"), Path("1.tfevents.x")], key=age_order)[0] == Path("1.tfevents.x")


def test_a_path_to_an_event_file_is_a_run_of_that_file() -> None:
    """Replay takes a file as well as a folder."""
    runs = scan(GOLDEN[0])
    assert {name: run.event_files for name, run in runs.items()} == {".": [GOLDEN[0]]}


def test_a_name_that_cannot_be_written_down_is_reported(tmp_path: Path) -> None:
    """A run's name goes into databases, messages and terminals: what is no text is refused, aloud."""
    make(tmp_path / "a")
    make(tmp_path / os.fsdecode(b"bad\xff"))
    make(tmp_path / "new\nline")
    runs = scan(tmp_path)
    assert set(runs) == {"a"}
    assert len(runs.unreadable) == 2


@pytest.mark.parametrize("name", ["SEED047", "JAN003"])
def test_runs_of_the_corpus(corpus: Path, name: str) -> None:
    """One folder a run."""
    assert name in scan(corpus)
