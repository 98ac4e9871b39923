"""The whole line with real processes: a job diverges, it is told, and it is brought back and ends healthy."""

from __future__ import annotations

import json
from typing import Any

from notifier import picture
from tests.e2e.scene import Scene, stop, until


def test_a_job_that_diverges_is_told_and_brought_back(scene: Scene) -> None:
    """Checkpoint, rollback to before the onset with its remedy, and a story that closes."""
    sentinel = scene.sentinel()
    job = scene.job("--diverge-at", "45", "--end", "80")
    assert job.wait(60) == 0, scene.said("job.log")
    until(lambda: "closed" in _kinds(scene), "the story is closed")
    until(lambda: not scene.rows("SELECT 1 FROM messages WHERE state != 'sent'"), "every message has arrived")
    status = json.loads(scene.ask("status", "--json", *scene.where()).stdout)
    assert stop(sentinel) == 0, scene.said("sentinel.log")

    assert [verb for _, verb, _ in scene.effects()] == ["checkpoint", "rollback"]
    assert scene.effects()[1] == ["2", "rollback", "00-00000040"]
    assert scene.transitions() == [
        ("loss_high", "inactive", "pending", 45, 45),
        ("loss_high", "pending", "firing", 46, 45),
        ("loss_high", "firing", "probation", 40, 45),
        ("loss_high", "probation", "resolved", 41, 45),
    ]
    assert scene.transitions() == scene.replayed()

    run = status["runs"][0]
    assert (run["run"], run["phase"], run["attempt"]) == ("a", "finished", 1)
    assert [(c["verb"], c["state"]) for c in run["commands"]] == [
        ("checkpoint", "done"),
        ("rollback", "done"),
    ]
    assert [alert["state"] for alert in run["alerts"]] == ["resolved"]
    assert "a: finished" in scene.ask("status", *scene.where()).stdout

    _story_in_slack(scene)


def _story_in_slack(scene: Scene) -> None:
    top = [message for message in scene.slack.top() if "loss_high" in json.dumps(message)]
    assert len(top) == 1, "one story is one message in the channel"
    first = json.dumps(top[0], ensure_ascii=False)
    assert "resolved" in first, "the first message was edited when the story closed"
    replies = [json.dumps(reply, ensure_ascii=False) for reply in scene.slack.thread(top[0]["ts"])]
    for expected in ("checkpoint written", "00-00000040", "rolled back to step", "resolved"):
        assert any(expected in reply for reply in replies), (expected, replies)
    posted = json.dumps(scene.slack.sent()[0].body, ensure_ascii=False)
    assert "since step" in posted
    assert "45" in posted
    assert not scene.slack.alive
    if picture.available():
        pictures = [file.thread for file in scene.slack.files if file.thread == top[0]["ts"]]
        assert len(pictures) == 2, "one as it opened, one as it closed"


def _kinds(scene: Scene) -> set[str]:
    return {json.loads(row["body"])["kind"] for row in scene.rows("SELECT body FROM messages")}


def test_in_observe_mode_everything_is_told_and_nothing_is_sent(scene: Scene) -> None:
    """The rollback is announced as one that would have been asked for; no letter reaches the job."""
    scene.write_rules(mode="observe")
    sentinel = scene.sentinel()
    job = scene.job("--diverge-at", "15", "--end", "80")
    texts: Any = until(
        lambda: [t for t in _texts(scene) if "would ask" in t and "rollback" in t],
        "the rollback that would be asked",
    )
    assert "gentler" in texts[0] or "lr" in texts[0]
    assert not scene.effects()
    assert not list((scene.logdir / "a" / "control" / "commands").iterdir())
    assert not scene.rows("SELECT 1 FROM commands")
    assert job.poll() is None, "the job goes on, sick as it is"
    assert stop(sentinel) == 0


def _texts(scene: Scene) -> list[str]:
    return [json.dumps(call.body, ensure_ascii=False) for call in scene.slack.sent()]
