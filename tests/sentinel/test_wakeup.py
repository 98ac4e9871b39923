"""The doorbell: rings soon, may fail, and nothing depends on it."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from sentinel.wakeup import Wakeup, matters


@pytest.fixture
def wakeup(tmp_path: Path) -> Iterator[Wakeup]:
    doorbell = Wakeup(tmp_path)
    assert doorbell.reason is None, doorbell.reason
    yield doorbell
    doorbell.close()


def settle(wakeup: Wakeup) -> None:
    """Take what has rung so far."""
    while wakeup.wait(0.2):
        pass


def test_a_new_run_and_each_new_point_ring(wakeup: Wakeup, tmp_path: Path) -> None:
    """A folder that appears, a file in it, and every flush."""
    (tmp_path / "run").mkdir()
    assert wakeup.wait(5)
    settle(wakeup)
    with (tmp_path / "run" / "events.out.tfevents.1").open("wb", buffering=0) as out:
        assert wakeup.wait(5)
        settle(wakeup)
        for _ in range(3):
            out.write(b"x")
            assert wakeup.wait(5)
            settle(wakeup)


def test_a_registration_or_receipt_that_is_renamed_into_place_rings(wakeup: Wakeup, tmp_path: Path) -> None:
    """The control protocol writes beside and renames."""
    folder = tmp_path / "run" / "control" / "receipts"
    folder.mkdir(parents=True)
    settle(wakeup)
    (folder / ".tmp").touch()
    (folder / ".tmp").rename(folder / "000001.json")
    assert wakeup.wait(5)


def test_our_own_reading_and_the_trainers_heartbeat_do_not_ring(wakeup: Wakeup, tmp_path: Path) -> None:
    """A sentinel that wakes itself by reading would never sleep."""
    file = tmp_path / "events.out.tfevents.1"
    file.write_bytes(b"x")
    settle(wakeup)
    file.read_bytes()
    (tmp_path / "heartbeat.json").write_text("{}")
    assert not wakeup.wait(0.3)
    assert matters("run/control/trainer.json")
    assert not matters("run/checkpoints/00-00000100/actor.pt")


def test_a_change_during_the_callers_work_counts_for_the_next_wait(wakeup: Wakeup) -> None:
    """None is lost between two waits, and one ring ends one wait."""
    wakeup.ring()
    assert wakeup.wait(0)
    assert not wakeup.wait(0)


def failing(error: Exception) -> Callable[[], BaseObserver]:
    class Refused(Observer):  # type: ignore[misc,valid-type]  # watchdog picks the class at import
        def start(self) -> None:
            raise error

    return Refused


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OSError(errno.ENOSPC, "inotify watch limit reached"), "max_user_watches"),
        (OSError(errno.EMFILE, "inotify instance limit reached"), "max_user_instances"),
        (RuntimeError("can't start new thread"), "thread"),
    ],
)
def test_where_observing_fails_polling_is_left_and_the_reason_told(
    error: Exception, word: str, tmp_path: Path
) -> None:
    """inotify limits are ordinary: no exception, a sentence with the cure, and waits that time out."""
    wakeup = Wakeup(tmp_path, failing(error))
    assert wakeup.reason is not None
    assert word in wakeup.reason
    assert "polling" in wakeup.reason
    assert not wakeup.wait(0)
    wakeup.ring()
    assert wakeup.wait(0)
    wakeup.close()


def test_a_folder_that_comes_later_or_comes_back_is_observed_after_a_retry(tmp_path: Path) -> None:
    """Absent: a reason. There: none. Removed: a reason again, though no one told us. Made anew: none."""
    logdir = tmp_path / "logs"
    wakeup = Wakeup(logdir)
    assert wakeup.reason is not None
    logdir.mkdir()
    wakeup.retry()
    assert wakeup.reason is None

    shutil.rmtree(logdir)
    pause = threading.Event()
    for _ in range(100):
        if wakeup.reason is not None:
            break
        pause.wait(0.05)
    assert wakeup.reason is not None

    logdir.mkdir()
    wakeup.retry()
    assert wakeup.reason is None
    settle(wakeup)
    (logdir / "run").mkdir()
    assert wakeup.wait(5)
    wakeup.close()


def test_closing_leaves_no_thread(tmp_path: Path) -> None:
    """An observer ends with its doorbell."""
    before = threading.active_count()
    wakeup = Wakeup(tmp_path)
    assert threading.active_count() > before
    wakeup.close()
    wakeup.close()
    assert threading.active_count() == before
