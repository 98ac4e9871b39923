"""A trainer that is killed: the alert says so, what was under way has its outcome, and nothing follows."""

from __future__ import annotations

import json
import signal

from tests.e2e.scene import Scene, stop, until

AT_ONCE = """
[override."generic/process_died"]
for = "1 points"
"""


def test_a_killed_trainer_is_told_and_left_alone(scene: Scene) -> None:
    """Stopped before it can obey and then killed: the command fails, the alarm is fatal, nothing is sent."""
    scene.write_rules(include='["pack:generic"]', more=AT_ONCE)
    sentinel = scene.sentinel()
    job = scene.job("--diverge-at", "1000000", "--end", "1000000")
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step > 20"), "the run is watched")
    job.send_signal(signal.SIGSTOP)
    asked = scene.start("-m", "sentinel", "command", "a", "checkpoint", *scene.where(), log="command.log")
    until(lambda: scene.rows("SELECT 1 FROM commands WHERE state = 'sent'"), "the letter is sent")
    job.kill()
    job.wait()

    until(lambda: "process_died" in _told(scene), "the alarm has arrived")
    assert asked.wait(30) == 1
    assert "the trainer's process ended before checkpoint" in scene.said("command.log")
    fired = scene.rows("SELECT * FROM transitions WHERE key = 'generic/process_died' AND after = 'firing'")
    assert [(t["severity"], t["value"]) for t in fired] == [("fatal", 0.0)]
    assert "the training process is gone" in _told(scene)

    steps = [row["what"] for row in scene.rows("SELECT what FROM command_steps ORDER BY rowid")]
    assert steps[-1].startswith("failed"), steps
    assert not [what for what in steps if "SIG" in what], "no signal but the doorbell"
    late = scene.ask("command", "a", "terminate", *scene.where())
    assert "terminate done" in late.stdout, "it has ended, which is what is wanted"
    steps = [row["what"] for row in scene.rows("SELECT what FROM command_steps ORDER BY rowid")]
    assert not [what for what in steps if "SIG" in what]
    assert stop(sentinel) == 0


def test_a_crash_and_its_last_error_are_one_message(scene: Scene) -> None:
    """A job that dies of an error nobody catches: the alarm that it is gone says of what, and where."""
    scene.write_rules(include='["pack:generic"]', more=AT_ONCE)
    sentinel = scene.sentinel()
    job = scene.job("--raise-at", "30", "--end", "1000000")
    assert job.wait(60) == 1
    assert "Traceback" in scene.said("job.log"), "it was printed as ever"
    until(lambda: "process_died" in _told(scene), "the alarm has arrived")
    opened = next(call.body for call in scene.slack.sent() if "process_died" in json.dumps(call.body))
    assert "MemoryError: out of memory: tried to allocate 2 GiB (job.py:" in json.dumps(opened)
    assert stop(sentinel) == 0


def _told(scene: Scene) -> str:
    return json.dumps([call.body for call in scene.slack.sent()], ensure_ascii=False)
