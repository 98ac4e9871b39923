"""`sentinel command`: a person asks, the sentinel sends, the job answers, and the answer is printed."""

from __future__ import annotations

from tests.e2e.scene import Scene, stop, until


def test_without_a_sentinel_nothing_is_asked_and_that_is_said(scene: Scene) -> None:
    """The error says that nobody watches and how to start a sentinel."""
    told = scene.ask("command", "a", "checkpoint", *scene.where())
    assert told.returncode == 1
    assert "no sentinel watches" in told.stderr
    assert "sentinel run" in told.stderr


def test_a_person_checkpoints_rolls_back_is_refused_and_ends_the_run(scene: Scene) -> None:
    """Each outcome is printed with step and checkpoint, a refusal with its reason and exit code 1."""
    sentinel = scene.sentinel()
    job = scene.job("--end", "1000000")
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step > 25"), "the run is watched")

    saved = scene.ask("command", "a", "checkpoint", *scene.where())
    assert saved.returncode == 0, saved.stderr
    assert "a: command 1 checkpoint done at step" in saved.stdout

    back = scene.ask("command", "a", "rollback", "--to", "00-00000020", "--set", "lr=x0.5", *scene.where())
    assert back.returncode == 0, back.stdout + back.stderr
    assert "rollback done at step 20, checkpoint 00-00000020 (step 20)" in back.stdout
    assert scene.effects()[1] == ["2", "rollback", "00-00000020"]

    unknown = scene.ask("command", "a", "rollback", "--to", "00-00000020", "--set", "tau=0.1", *scene.where())
    assert unknown.returncode == 1
    assert "not declared by this job: tau" in unknown.stdout
    absent = scene.ask("command", "a", "rollback", "--to", "00-00009999", *scene.where())
    assert absent.returncode == 1
    assert "no verified checkpoint 00-00009999" in absent.stdout
    stranger = scene.ask("command", "b", "checkpoint", *scene.where())
    assert stranger.returncode == 1
    assert "no run 'b' is watched (there are: a)" in stranger.stdout
    assert job.poll() is None

    ended = scene.ask("command", "a", "terminate", "--why", "enough", *scene.where())
    assert ended.returncode == 0
    assert "terminate done" in ended.stdout
    assert job.wait(30) == 0
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE phase = 'finished'"), "the end is known")
    assert [verb for _, verb, _ in scene.effects()] == ["checkpoint", "rollback", "terminate"]
    assert stop(sentinel) == 0
