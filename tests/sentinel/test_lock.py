"""One sentinel per state folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sentinel.errors import StateError
from sentinel.lock import StateLock, is_held


def test_a_second_sentinel_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    """And the first one's end, however it came, frees it."""
    lock = StateLock(tmp_path / "new" / "state")
    with pytest.raises(StateError, match=f"another sentinel \\(pid {os.getpid()}\\)"):
        StateLock(tmp_path / "new" / "state")
    assert is_held(tmp_path / "new" / "state")
    lock.release()
    assert not is_held(tmp_path / "new" / "state")
    StateLock(tmp_path / "new" / "state").release()


def test_who_only_asks_is_not_taken_for_a_sentinel(tmp_path: Path) -> None:
    """Two `status` at one moment."""
    import fcntl

    StateLock(tmp_path).release()
    with (tmp_path / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # as is_held does
        assert not is_held(tmp_path)


def test_a_state_that_cannot_be_written_is_an_error_of_the_state(tmp_path: Path) -> None:
    """A sentinel that cannot remember may not act."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="may not act"):
        StateLock(tmp_path / "file" / "state")
    assert not is_held(tmp_path / "nowhere")


def test_the_state_folder_is_its_owners_alone(tmp_path: Path) -> None:
    """Who may write there could ask for commands."""
    lock = StateLock(tmp_path / "state")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    lock.release()
