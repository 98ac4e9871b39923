"""Who trains a run is told from the event file that it holds open, and where that is not plain, by nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sentinel import holders as module
from sentinel.holders import SCAN_EVERY, Holders, choose, writers
from sentinel.process import Process, identify
from tests.fakes import FakeClock

WAIT = "print('ready', flush=True)\nwhile True: signal.pause()"
WRITER = f"import signal, sys\nheld = open(sys.argv[1], 'ab')\n{WAIT}"
READER = f"import signal, sys\nheld = open(sys.argv[1], 'rb')\n{WAIT}"
FORKING = f"import os, signal, sys\nheld = open(sys.argv[1], 'ab')\nif os.fork() == 0: signal.pause()\n{WAIT}"
AS_NOBODY = f"import os, signal, sys\nheld = open(sys.argv[1], 'ab')\nos.setuid(65534)\n{WAIT}"


@pytest.fixture
def job() -> Iterator[Callable[[str, Path], int]]:
    """Starts a process with an event file, and returns its pid."""
    started: list[subprocess.Popen[str]] = []

    def begin(script: str, path: Path) -> int:
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", script, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child.pid

    yield begin
    for child in started:
        os.killpg(child.pid, signal.SIGKILL)  # with what it forked
        child.wait(timeout=10)
        if child.stdout:
            child.stdout.close()


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.out.tfevents.1700000000.t"
    path.write_bytes(b"")
    return path


def test_who_writes_an_event_file_is_found(job: Callable[[str, Path], int], events: Path) -> None:
    """By inode, so a link or another path to the file finds it too; pid and start time are recorded."""
    pid = job(WRITER, events)
    link = events.parent / "link"
    link.symlink_to(events)
    found = Holders(FakeClock()).of([link])
    assert found.process == identify(pid)
    assert found.why_not == ""


def test_a_reader_is_no_trainer(job: Callable[[str, Path], int], events: Path) -> None:
    """TensorBoard holds event files as well, for reading."""
    job(READER, events)
    assert Holders(FakeClock()).of([events]).process is None


def test_we_ourselves_are_no_trainer(events: Path) -> None:
    """Whatever this process holds open, it is the sentinel."""
    with events.open("ab"):
        found = events.stat()
        assert (found.st_dev, found.st_ino) not in writers()


def test_several_writers_are_nobody(job: Callable[[str, Path], int], events: Path) -> None:
    """Which of them would obey cannot be seen, so neither is chosen; that is said with both pids."""
    pids = job(WRITER, events), job(WRITER, events)
    found = Holders(FakeClock()).of([events])
    assert found.process is None
    assert all(str(pid) in found.why_not for pid in pids)


def test_a_forked_worker_has_only_inherited_the_file(job: Callable[[str, Path], int], events: Path) -> None:
    """A data loader's workers hold whatever their parent held when it forked them."""
    pid = job(FORKING, events)
    (found,) = [who for who in writers().values() if any(p.pid == pid for p in who)]
    assert len(found) == 2, "both are seen"
    assert Holders(FakeClock()).of([events]).process == identify(pid)


def test_a_file_put_in_place_of_the_one_held_is_another_file(
    job: Callable[[str, Path], int], events: Path
) -> None:
    """The name is the same; who writes the deleted file trains nothing that is read here."""
    job(WRITER, events)
    events.unlink()
    events.write_bytes(b"")
    assert Holders(FakeClock()).of([events]).process is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_than_the_files_owner_is_nobody(job: Callable[[str, Path], int], events: Path) -> None:
    """Root sees everyone's processes, and must not be led to signal one by a file that it can write."""
    job(AS_NOBODY, events)
    assert Holders(FakeClock()).of([events]).process is None


def test_the_walk_is_made_seldom(events: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs ask: one walk serves them all, and the next comes when this one is old."""
    walks: list[int] = []

    def walk() -> dict[tuple[int, int], list[Process]]:
        walks.append(1)
        return {}

    monkeypatch.setattr(module, "writers", walk)
    clock = FakeClock()
    known = Holders(clock)
    for _ in range(5):
        known.of([events])
    assert len(walks) == 1
    clock.advance(SCAN_EVERY)
    known.of([events])
    assert len(walks) == 2


def test_nobody_is_no_ambiguity() -> None:
    """A run that is not written is silent about it."""
    assert choose([]).why_not == ""
