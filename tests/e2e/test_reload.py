"""A running sentinel and its configuration: SIGHUP, with a file that is right, and with one that is wrong."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

from tests.e2e.scene import Scene, stop, until

CHANGED = """
[[rule]]
name = "too_low"
expr = "loss < 0.5"
severity = "warning"
"""


def test_sighup_reads_the_rules_anew_and_a_broken_file_changes_nothing(scene: Scene, tmp_path: Path) -> None:
    """Every problem is told and the old rules go on; with a good file alerts go on by name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        scene.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        sentinel = scene.sentinel()
        assert systemd.recv(4096).startswith(b"READY=1"), "signals are heard from here on"
    good = scene.config.read_text()
    scene.config.write_text(good.replace("loss > 10", "loss >") + "[ladders.nonsense]\nrungs = 3\n")
    sentinel.send_signal(signal.SIGHUP)
    until(lambda: "old rules stay in force" in told(scene), "it is told")
    assert "sentinel.toml:" in told(scene)
    assert "rungs" in told(scene), "all problems at once"

    job = scene.job("--diverge-at", "25", "--end", "60", "--hold")
    until(lambda: any(verb == "rollback" for _, verb, _ in scene.effects()), "the old rules act")
    scene.config.write_text(good + CHANGED)
    sentinel.send_signal(signal.SIGHUP)
    until(lambda: "other rules are in force" in told(scene), "it is told")
    assert "new: too_low" in told(scene)
    (scene.logdir / "a" / "go").touch()
    assert job.wait(60) == 0
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE phase = 'finished'"), "the end is known")
    until(lambda: scene.rows("SELECT 1 FROM transitions WHERE after = 'resolved'"), "the alert went on")
    assert [verb for _, verb, _ in scene.effects()] == ["checkpoint", "rollback"]
    assert scene.transitions() == scene.replayed()
    assert stop(sentinel) == 0


def told(scene: Scene) -> str:
    """What has arrived in Slack."""
    return json.dumps([call.body for call in scene.slack.sent()], ensure_ascii=False)
