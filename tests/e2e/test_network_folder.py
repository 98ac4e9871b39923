"""Runs on a network file system, trained on another host: nothing is announced, no ring, other clocks.

The file system is a real one, served by `far_folder` through FUSE; the other host is a process of this one
that has another name and another boot (`other_host`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.scene import Scene, stop, until
from tests.e2e.test_disk import told

LATE = "SELECT after, recorded - wall_time AS late FROM transitions WHERE before != after"

SILENT = """
[[rule]]
name = "silent"
expr = "stale(step_any, time='20s')"
severity = "warning"
"""


@pytest.fixture
def server(scene: Scene) -> Iterator[Path]:
    """The folder that is shown at the scene's log directory; on its own machine the job writes here."""
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("only root can mount a file system of its own, and only where there is FUSE")
    folder = scene.folder / "server"
    folder.mkdir()
    stale = scene.folder / "stale"
    options = ("--cache", "1", "--stale", str(stale))
    process = scene.start(
        "-m", "tests.e2e.far_folder", str(folder), str(scene.logdir), *options, log="far.log"
    )
    until(lambda: os.path.ismount(scene.logdir) or process.poll() is not None, "it is mounted")
    if process.poll() is not None:
        pytest.skip(f"no file system can be mounted here: {scene.said('far.log')[-200:]}")
    yield folder
    subprocess.run(["umount", "-l", str(scene.logdir)], check=True)


def far_job(scene: Scene, server: Path, *flags: str) -> subprocess.Popen[bytes]:
    command = ("-m", "tests.e2e.other_host", "tests.e2e.job", str(server / "a"))
    return scene.start(*command, *flags, log="job.log")


@pytest.mark.parametrize(
    "ahead", [-300.0, *(pytest.param(ahead, marks=pytest.mark.slow) for ahead in (0.0, 300.0, -7200.0))]
)
def test_a_job_on_another_host_is_brought_back(scene: Scene, server: Path, ahead: float) -> None:
    """Polling finds the points, the guard's own look finds the letter; its clock may differ by minutes."""
    scene.write_rules(more=SILENT)
    job = far_job(
        scene, server, "--diverge-at", "100", "--end", "140", "--pace", "0.05", "--clock-ahead", str(ahead)
    )
    until((server / "a" / "control" / "heartbeat.json").exists, "it trains")
    sentinel = scene.sentinel()
    assert job.wait(60) == 0, scene.said("job.log")
    effects = (server / "a" / "effects").read_text().splitlines()
    assert [line.split()[1] for line in effects] == ["checkpoint", "rollback"]
    assert effects[-1].endswith("00-00000090")
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE phase = 'finished'"), "the end is known")
    until(lambda: scene.rows("SELECT 1 FROM transitions WHERE after = 'resolved'"), "it is resolved")
    assert scene.transitions() == scene.replayed()
    late = {row["after"]: row["late"] + ahead for row in scene.rows(LATE)}
    print(f"clock {ahead:+.0f} s: judged so many seconds after it was logged: {late}")
    assert max(late.values()) < 15.0
    assert "silent" not in told(scene), "a clock that differs is no silence"
    assert ("the trainer's clock is another" in told(scene)) == (ahead != 0.0)
    assert "another machine writes there is not announced" in scene.said("sentinel.log")
    notes = [row["what"] for row in scene.rows("SELECT what FROM command_steps")]
    assert not any("SIG" in note for note in notes), "nobody there is sent a signal from here"
    assert stop(sentinel) == 0


@pytest.mark.slow
def test_a_run_that_was_silent_is_found_growing_by_the_slow_round(scene: Scene, server: Path) -> None:
    """After half a minute without a point it is not looked at in every tick; then within ten seconds."""
    job = far_job(scene, server, "--diverge-at", "10000", "--end", "10000", "--pace", "0.05")
    until((server / "a" / "control" / "heartbeat.json").exists, "it trains")
    sentinel = scene.sentinel()
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step > 20"), "it is watched")
    job.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: time.monotonic() - stopped > 45, "it is left alone", 60)
    job.send_signal(signal.SIGCONT)
    began, before = time.monotonic(), scene.rows("SELECT last_step FROM runs")[0]["last_step"]
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step > ?", before + 10), "it is seen to go on")
    print(f"seen {time.monotonic() - began:.2f} s after it went on")
    assert time.monotonic() - began < 15.0
    assert stop(sentinel) == 0


def test_a_stale_handle_is_told_and_read_past(scene: Scene, server: Path) -> None:
    """ESTALE for an event file: blind is said once, with the reason; when it is over, nothing is missing."""
    job = far_job(scene, server, "--end", "100000", "--pace", "0.05")
    until((server / "a" / "control" / "heartbeat.json").exists, "it trains")
    sentinel = scene.sentinel()
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step > 5"), "it is watched")
    events = next((server / "a").glob("*tfevents*")).name
    (scene.folder / "stale").write_text(events)
    until(lambda: "Stale file handle" in told(scene), "it is told")
    before = scene.rows("SELECT last_step FROM runs")[0]["last_step"]
    assert sentinel.poll() is None
    (scene.folder / "stale").unlink()
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step > ?", before + 20), "it is read again")
    until(lambda: "can be read again" in told(scene), "and that it is, with how long it was blind")
    assert sum("Stale file handle" in json.dumps(call.body) for call in scene.slack.sent()) == 1
    assert stop(sentinel) == 0
    job.kill()
    job.wait()


def test_a_state_on_a_network_file_system_is_said_at_the_start(scene: Scene, server: Path) -> None:
    """SQLite's journal is not safe there, and a lock is seen by this host alone."""
    scene.state = scene.logdir / ".state"
    sentinel = scene.sentinel()
    until(lambda: "is not safe" in scene.said("sentinel.log"), "it is said")
    assert (server / ".state").exists()
    sentinel.kill()
    sentinel.wait()
