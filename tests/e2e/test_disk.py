"""A disk that is full, and one that may not be written: small file systems, and a user without rights."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.scene import Scene, stop, until


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Path]:
    """A file system of its own at `folder`; the test is skipped where none can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave not one byte free."""
    path = folder / "full"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    block = 64 << 10
    while block:
        try:
            os.write(descriptor, b"\0" * block)
        except OSError:
            block //= 2
    os.close(descriptor)
    return path


def told(scene: Scene) -> str:
    """What has arrived in Slack."""
    return json.dumps([call.body for call in scene.slack.sent()], ensure_ascii=False)


def test_a_full_disk_stops_decisions_is_told_and_loses_none(scene: Scene) -> None:
    """The state's disk fills before the job diverges: nothing is asked; with space again, all of it once."""
    with small_disk(scene.state):
        sentinel = scene.sentinel()
        until(lambda: scene.rows("SELECT 1 FROM meta WHERE name = 'last_tick'"), "it ticks")
        full = fill(scene.state)
        job = scene.job("--diverge-at", "25", "--end", "60")
        until(lambda: "cannot remember" in told(scene), "people are told, past the journal")
        until(lambda: scene.step() >= 60, "the job has long diverged")
        assert sentinel.poll() is None
        assert scene.effects() == [], "what cannot be remembered is not asked for"
        full.unlink()
        until(lambda: "remembers again" in told(scene), "it goes on")
        assert job.wait(60) == 0, scene.said("sentinel.log")
        assert [verb for _, verb, _ in scene.effects()] == ["checkpoint", "rollback"]
        until(lambda: scene.rows("SELECT 1 FROM runs WHERE phase = 'finished'"), "the end is known")
        until(lambda: scene.rows("SELECT 1 FROM transitions WHERE after = 'resolved'"), "it is resolved")
        assert scene.transitions() == scene.replayed()
        assert stop(sentinel) == 0
        assert "Traceback" not in scene.said("sentinel.log")
