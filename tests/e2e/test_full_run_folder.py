"""The run's own disk is full: training goes on, nobody is silent about it, and a command waits or fails."""

from __future__ import annotations

import json

from tests.e2e.scene import Scene, stop, until
from tests.e2e.test_disk import fill, small_disk, told


def test_a_letter_that_finds_no_room_is_told_tried_again_and_given_up(scene: Scene) -> None:
    """Told once, failed when its time is up; with room again the next one arrives by itself."""
    scene.write_rules(ack="2s")
    with small_disk(scene.logdir / "a") as run:
        job = scene.start("-m", "tests.e2e.full_job", str(run), log="job.log")
        sentinel = scene.sentinel()
        until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step > 5"), "it is watched")
        full = fill(run)
        before = last_step(scene)
        asked = scene.start("-m", "sentinel", "command", "a", "checkpoint", *scene.where(), log="first.log")
        until(lambda: "cannot be written" in told(scene), "people are told while it is tried")
        assert asked.wait(60) == 1
        until(lambda: "could not be written" in told(scene), "and that it was given up")
        assert "No space left on device" in scene.said("first.log")
        assert waiting(scene) == 1
        until(lambda: last_step(scene) > before + 20, "training goes on")
        assert job.poll() is None

        again = scene.start("-m", "sentinel", "command", "a", "checkpoint", *scene.where(), log="again.log")
        until(lambda: waiting(scene) == 2, "the second is told too")
        full.unlink()
        assert again.wait(60) == 0, scene.said("again.log")
        assert states(scene) == ["failed", "done"]
        assert [path.name for path in (run / "control" / "commands").iterdir()] == ["000002.json"]
        said = scene.said("job.log")
        assert said.count("No space left on device") <= 3, "each kind of trouble is said once"
        assert "training goes on" in said
        assert "Traceback" not in said + scene.said("sentinel.log")
        assert stop(sentinel) == 0
        job.kill()
        job.wait()


def waiting(scene: Scene) -> int:
    """How many messages say that a letter is tried again."""
    return sum("checkpoint unwritten" in json.dumps(call.body) for call in scene.slack.sent())


def states(scene: Scene) -> list[str]:
    return [row["state"] for row in scene.rows("SELECT state FROM commands ORDER BY id")]


def last_step(scene: Scene) -> int:
    lines = [line for line in scene.said("job.log").splitlines() if line.startswith("step ")]
    return int(lines[-1].split()[1]) if lines else 0
