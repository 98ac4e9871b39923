"""Where the memory lies, and that two sentinels cannot share it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.state import state_folder


def test_one_log_directory_has_one_state_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two sentinels on one log directory would not collide."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    logdir = tmp_path / "runs"
    logdir.mkdir()
    (tmp_path / "link").symlink_to(logdir)
    monkeypatch.chdir(tmp_path)
    names = {
        state_folder(p, None)
        for p in (logdir, Path("runs"), tmp_path / "link", tmp_path / "x" / ".." / "runs")
    }
    assert len(names) == 1
    assert names.pop().parent == tmp_path / "home" / "sentinel"
    assert state_folder(tmp_path / "other", None) != state_folder(logdir, None)
    assert state_folder(logdir, tmp_path / "mine") == tmp_path / "mine"
