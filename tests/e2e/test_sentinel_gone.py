"""The sentinel's own death: training goes on to its end, and says so once."""

from __future__ import annotations

import signal

from tests.e2e.scene import Scene, stop, until

GONE = "the sentinel watches this run no longer"
BACK = "the sentinel is back"


def test_training_goes_on_without_its_sentinel_and_says_so_once(scene: Scene) -> None:
    """One line on standard error when it has gone, one when it is back; the guard's clock runs fast here."""
    sentinel = scene.sentinel()
    job = scene.job("--end", "60", "--hold", "--guard-haste", "4")
    until((scene.logdir / "a" / "control" / "sentinel.json").exists, "the sentinel's heartbeat")
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step > 20"), "the run is watched")
    before = scene.step()
    sentinel.send_signal(signal.SIGKILL)
    sentinel.wait()
    until(lambda: GONE in scene.said("job.log"), "the guard has noticed")
    until(lambda: scene.step() > before + 50, "training goes on")

    sentinel = scene.sentinel()
    until(lambda: BACK in scene.said("job.log"), "the guard has noticed that too")
    (scene.logdir / "a" / "go").touch()
    assert job.wait(30) == 0
    assert scene.said("job.log").count(GONE) == 1
    assert scene.said("job.log").count(BACK) == 1
    assert stop(sentinel) == 0


def test_training_starts_and_ends_without_any_sentinel(scene: Scene) -> None:
    """A job that was never watched says nothing about it."""
    job = scene.job("--end", "60", "--pace", "0.005", "--guard-haste", "50")
    assert job.wait(30) == 0
    assert "sentinel" not in scene.said("job.log")
