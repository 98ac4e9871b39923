"""The real trainer and the incident: the shipped rules save the run; one only silenced is called so."""

from __future__ import annotations

import json

import pytest

from benchmarks.trainings import read_story
from tests.e2e.scene import ROOT, Scene, stop, until

SANE_Q = 50.0
DRIVEN_AT_RANDOM = 100.0
"""Steps: more than the random actions of a warm-up last, in the mean of ten episodes."""


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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_has_only_fallen_silent_is_called_suppressed_and_the_next_rung_cures_it(
    scene: Scene,
) -> None:
    """The report's batch norm keeps Q calm and the agent ignorant; told recovered is only what drives."""
    scene.config = ROOT / "benchmarks" / "silenced_remedies.toml"
    sentinel = scene.sentinel("--act")
    flags = ("--preset", "incident", "--npcs", "0", "--eval_freq", "0", "--max_timesteps", "7500")
    training = scene.start("-m", "trainer", *flags, "--logdir", str(scene.logdir / "a"), log="trainer.log")
    assert training.wait(800) == 0, scene.said("trainer.log")[-2000:]
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE phase = 'finished'"), "the end is known")
    assert stop(sentinel) == 0

    told = scene.rows(
        "SELECT reason, value FROM transitions"
        " WHERE key = 'td3/actor_exploits_critic' AND before != after ORDER BY id"
    )
    assert [one["reason"] for one in told[-4:]] == [
        "a new attempt began", "suppressed, not recovered", "a new attempt began", "recovered",
    ]  # fmt: skip
    silent = told[-3]
    assert silent["value"] < SANE_Q / 10, "there was nothing left to fire about"
    done = scene.rows("SELECT * FROM commands WHERE verb = 'rollback' AND state = 'done' ORDER BY id")
    assert [json.loads(one["letter"])["set"]["critic_batch_norm"] for one in done] == [True, False]
    story = read_story(scene.logdir / "a")
    assert story.worst_q_since_rollback < SANE_Q
    assert story.last_length > 2 * DRIVEN_AT_RANDOM
