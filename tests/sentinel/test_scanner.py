"""A folder is listed again unless that would give the same, and what is found is what a fresh scan finds."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel import discover
from sentinel.discover import GRAIN, Scanner, scan
from sentinel.round import ROUND_SECONDS
from tests.sentinel.event_files import scalar
from tests.sentinel.test_discover import EVENTS, make, without_privileges


def on_ext4(_path: Path) -> str:
    return "ext4"


class Watched:
    """A scanner on a log directory, and the folders it lists."""

    def __init__(
        self, logdir: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[Path], str] = on_ext4
    ) -> None:
        self.logdir = logdir
        self.scanner = Scanner(logdir, kind)
        self.now = 0.0
        self.listed: list[str] = []
        real = discover._look_into

        def look_into(path: str, folder: discover._Folder) -> discover._Folder:
            self.listed.append(path)
            return real(path, folder)

        monkeypatch.setattr(discover, "_look_into", look_into)

    def scan(self, seconds: float = GRAIN) -> set[str]:
        self.now += seconds
        self.listed.clear()
        return set(self.scanner.scan(self.now))

    def settle(self) -> None:
        for _ in range(3):
            self.scan()
        assert self.listed == []


def test_a_folder_that_stands_is_listed_twice_and_never_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once at first sight, once when its times have stood; from then on the same object is returned."""
    for name in ("a", "b/c"):
        make(tmp_path / name)
    watched = Watched(tmp_path, monkeypatch)
    assert (watched.scan(), len(watched.listed)) == ({"a", "b/c"}, 4)
    assert not watched.scanner.is_sure
    assert (watched.scan(), len(watched.listed)) == ({"a", "b/c"}, 4)
    assert watched.scanner.is_sure
    found = watched.scanner.scan(watched.now)
    assert (watched.scan(), watched.listed) == ({"a", "b/c"}, [])
    assert watched.scanner.scan(watched.now) is found


def test_a_new_file_in_a_folder_that_stood_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only that folder is listed. A file that grows changes no folder: that is for others to see."""
    old = make(tmp_path / "a")
    make(tmp_path / "b")
    watched = Watched(tmp_path, monkeypatch)
    watched.settle()
    with old.open("ab") as file:
        file.write(scalar())
    watched.scan()
    assert watched.listed == []
    new = make(tmp_path / "a", f"{EVENTS}.2")
    watched.scan()
    assert watched.listed == [str(tmp_path / "a")]
    assert watched.scanner.scan(watched.now)["a"].event_files == [old, new]


def test_a_file_added_within_one_tick_of_the_file_systems_clock_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder has the same times before and after: it is listed once more when they have stood."""
    make(tmp_path / "a")
    watched = Watched(tmp_path, monkeypatch)
    real = discover._stamp
    monkeypatch.setattr(
        discover, "_stamp", lambda path: (*real(path)[:2], 0, 0)
    )  # a clock that has not ticked
    watched.scan(0.0)
    make(tmp_path / "a", f"{EVENTS}.2")
    watched.scan(0.1)
    make(tmp_path / "a", f"{EVENTS}.3")
    watched.scan(GRAIN)
    assert len(watched.scanner.scan(watched.now)["a"].event_files) == 3


def test_a_folder_that_was_replaced_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its times say: it is another one by its number."""
    make(tmp_path / "a")
    watched = Watched(tmp_path, monkeypatch)
    watched.settle()
    times = (tmp_path / "a").stat()
    (tmp_path / "a").rename(tmp_path / ".old")
    make(tmp_path / "a", f"{EVENTS}.2")
    os.utime(tmp_path / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    watched.scan()
    assert [path.name for path in watched.scanner.scan(watched.now)["a"].event_files] == [f"{EVENTS}.2"]


def test_a_clock_that_was_set_back_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other time counts as a change, not only a later one."""
    make(tmp_path / "a")
    watched = Watched(tmp_path, monkeypatch)
    watched.settle()
    make(tmp_path / "a", f"{EVENTS}.2")
    os.utime(tmp_path / "a", (1_000_000_000, 1_000_000_000))
    watched.scan()
    assert len(watched.scanner.scan(watched.now)["a"].event_files) == 2


def test_a_folder_with_a_link_is_always_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a link leads to comes and goes elsewhere."""
    logdir = tmp_path / "logs"
    (logdir / "a").mkdir(parents=True)
    (logdir / "a" / EVENTS).symlink_to(tmp_path / "elsewhere" / EVENTS)
    watched = Watched(logdir, monkeypatch)
    for _ in range(4):
        assert watched.scan() == set()
    make(tmp_path / "elsewhere")
    assert watched.scan() == {"a"}
    assert not watched.scanner.is_sure


def test_where_times_are_not_to_be_trusted_every_folder_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS answers from a cache, object stores keep no times, and of what is not known nothing is assumed."""
    make(tmp_path / "a")
    for kind in ("nfs4", "fuse.gcsfuse", ""):
        watched = Watched(tmp_path, monkeypatch, lambda _path, kind=kind: kind)  # type: ignore[misc]  # a default
        for _ in range(4):
            watched.scan()
            assert len(watched.listed) == 2
        assert not watched.scanner.is_sure


def test_a_folder_that_is_closed_to_us_later_is_reported() -> None:
    """A change of permissions is a change of the folder."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        logdir = Path(name)
        logdir.chmod(0o755)
        make(logdir / "a")
        with without_privileges():
            watched = Watched(logdir, patch)
            watched.settle()
        (logdir / "a").chmod(0)
        with without_privileges():
            watched.scan()
            found = watched.scanner.scan(watched.now)
        (logdir / "a").chmod(0o755)
    assert (dict(found), [u.path for u in found.unreadable]) == ({}, [f"{name}/a"])


def test_the_round_sees_a_changed_folder_within_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any announcement; and it never tells of what has not changed."""
    for number in range(20):
        make(tmp_path / f"r{number}")
    watched = Watched(tmp_path, monkeypatch)
    watched.settle()
    seconds = [watched.now + 0.5 * tick for tick in range(1, 43)]
    assert not any(watched.scanner.has_changed(now) for now in seconds)
    make(tmp_path / "r7", f"{EVENTS}.2")
    later = [seconds[-1] + 0.5 * tick for tick in range(1, int(2 * ROUND_SECONDS) + 2)]
    assert any(watched.scanner.has_changed(now) for now in later)


_NAMES = st.sampled_from(["a", "b", "a/c", "d"])
_STEPS = st.one_of(
    st.tuples(st.just("file"), _NAMES),
    st.tuples(st.just("file2"), _NAMES),
    st.tuples(st.just("remove"), _NAMES),
    st.tuples(st.just("link"), _NAMES),
    st.tuples(st.just("control"), _NAMES),
    st.tuples(st.just("back"), _NAMES),
    st.tuples(st.just("wait"), st.just("")),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(_STEPS, max_size=14))
def test_a_scanner_finds_what_a_fresh_scan_finds(steps: list[tuple[str, str]]) -> None:
    """Whatever happens to folders between its calls."""
    with tempfile.TemporaryDirectory() as name:
        logdir = Path(name, "logs")
        logdir.mkdir()
        make(Path(name, "elsewhere"))
        scanner, now = Scanner(logdir, on_ext4), 0.0
        for what, run in steps:
            now += GRAIN if what == "wait" else 0.1
            folder = logdir / run
            if what in ("file", "file2"):
                make(folder, EVENTS + what)
            elif what == "remove" and folder.is_symlink():
                folder.unlink()
            elif what == "remove":
                shutil.rmtree(folder, ignore_errors=True)
            elif what == "link" and not folder.exists() and folder.parent.is_dir():
                folder.symlink_to(Path(name, "elsewhere"))
            elif what == "control":
                (folder / "control").mkdir(parents=True, exist_ok=True)
                (folder / "control" / "trainer.json").touch()
            elif what == "back" and folder.exists():
                os.utime(folder, (1_000_000_000, 1_000_000_000))
            found, fresh = scanner.scan(now), scan(logdir)
            # What was added within one tick of the file system's clock may wait for the next listing.
            if found != fresh:
                found = scanner.scan(now + GRAIN)
            assert found == fresh
            assert found.unreadable == fresh.unreadable
