"""The real trainer, the repository's own sentinel.toml, and the incident: the run is saved, and ends."""

from __future__ import annotations

import json

import pytest

from benchmarks.trainings import read_story
from tests.e2e.scene import ROOT, Scene, stop, until

SANE_Q = 50.0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_incident_is_saved_by_the_shipped_rules(scene: Scene) -> None:
    """Actor Q leaves the critics; once rolled back it stays sane to the end, in the same process."""
    scene.config = ROOT / "sentinel.toml"
    sentinel = scene.sentinel("--act")
    flags = ("--preset", "incident", "--npcs", "0", "--eval_freq", "0", "--max_timesteps", "6000")
    training = scene.start("-m", "trainer", *flags, "--logdir", str(scene.logdir / "a"), log="trainer.log")
    assert training.wait(500) == 0, scene.said("trainer.log")[-2000:]
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE phase = 'finished'"), "the end is known")
    assert stop(sentinel) == 0

    done = scene.rows("SELECT * FROM commands WHERE verb = 'rollback' AND state = 'done'")
    assert done, "the run had to be rolled back"
    onsets = scene.rows("SELECT min(onset_run_step) AS first FROM transitions WHERE after = 'firing'")
    assert done[0]["checkpoint_step"] < onsets[0]["first"]
    story = read_story(scene.logdir / "a")
    assert story.worst_q_since_rollback < SANE_Q
    assert story.last_step == 6000
    ended = json.loads((scene.logdir / "a" / "control" / "trainer.json").read_text())
    assert ended["outcome"] == "finished"
