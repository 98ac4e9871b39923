"""Silences and acknowledgements end to end: a command line, a file, a tick, a row; and ladders that rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentinel.cli import main
from sentinel.inbox import Silence, drop
from sentinel.lock import StateLock
from sentinel.silences import Silences
from sentinel.status import print_status, read_status
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import RULES, Scene
from tests.sentinel.test_engine import curve, letters, register


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene(tmp_path, FakeClock(T0), act=True)
    register(scene.logdir / "a")
    scene.log(curve([1]))
    scene.tick(1.1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sentinel.toml").write_text(RULES)
    return scene


def rows(scene: Scene, state: str) -> list[str]:
    return [r["key"] for r in scene.journal.rows("SELECT key FROM messages WHERE state = ?", state)]


def test_a_silenced_alert_is_judged_acted_upon_and_not_told(scene: Scene) -> None:
    """People asked for quiet, not for a run that dies; and it says why nobody was told."""
    drop(Silence("a", scene.clock.now + 3600, "ann", "moving disks"), scene.state)
    scene.tick(0.1)
    scene.log(curve([1, 60, 60, 60]))
    scene.settle()
    assert scene.moves() == ["pending", "firing"]
    assert [letter["verb"] for letter in letters(scene.logdir / "a")][:1] == ["checkpoint"]
    assert not scene.post.messages
    assert rows(scene, "silenced")
    status = read_status(scene.logdir, scene.state, scene.clock.now)
    (alert,) = [a for a in status["runs"][0]["alerts"] if a["key"] == "q_high"]
    assert alert["silenced"].endswith("ann: moving disks")


def test_with_actions_the_ladder_rests_too(scene: Scene) -> None:
    """And is climbed when the silence ends while the alert fires."""
    drop(Silence("a", scene.clock.now + 60, "ann", "a test", actions=True), scene.state)
    scene.tick(0.1)
    scene.log(curve([1, 60, 60, 60]))
    scene.settle()
    assert scene.moves() == ["pending", "firing"]
    assert letters(scene.logdir / "a") == []
    scene.tick(70.0)
    at = scene.clock.now
    scene.log([("q", step, at + step - 5, 60.0) for step in (5, 6, 7)])
    scene.settle()
    assert [letter["verb"] for letter in letters(scene.logdir / "a")][:1] == ["checkpoint"]
    assert any(message.rule == "q_high" for message in scene.post.messages)


class Ticking(FakeClock):
    """A clock of the command line, whose rests let the sentinel tick."""

    scene: Scene

    def rest(self, seconds: float) -> None:
        super().rest(seconds)
        self.scene.tick(seconds)


@pytest.fixture
def watched(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    clock = Ticking(scene.clock.now)
    clock.scene = scene
    for module in ("silence", "ack", "status"):
        monkeypatch.setattr(f"sentinel.commands.{module}.SystemClock", lambda: clock)
    lock = StateLock(scene.state)
    monkeypatch.setattr(scene, "lock", lock, raising=False)
    return scene


WHERE = ["--logdir", "runs", "--state", "state"]


def test_the_command_line_silences_lists_and_ends(watched: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with a sentence and 0; a number that is not there is 1."""
    assert main(["silence", "a", "--for", "2h", "--why", "disks", "--by", "ann", *WHERE]) == 0
    assert "silence 1: a * until" in capsys.readouterr().out
    assert main(["silence", "--list", "--json", *WHERE]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["silences"]
    assert (listed["run"], listed["who"], listed["why"], listed["actions"]) == ("a", "ann", "disks", False)
    assert main(["silence", "--list", *WHERE]) == 0
    assert "ann: disks" in capsys.readouterr().out
    assert main(["status", *WHERE]) == 0
    assert "silence 1: a * until" in capsys.readouterr().out
    assert main(["silence", "--expire", "2", *WHERE]) == 1
    assert "no silence 2 is in force (there are: 1)" in capsys.readouterr().out
    assert main(["silence", "--expire", "1", *WHERE]) == 0
    assert main(["silence", "--list", *WHERE]) == 0
    assert "nothing is silent" in capsys.readouterr().out


def test_the_command_line_takes_an_alert_in_hand(watched: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Its thread says who has it, and so does the status; one that does not fire is not taken."""
    assert main(["ack", "a", "q_hihg", *WHERE]) == 1
    assert "no alert 'q_hihg' fires" in capsys.readouterr().out
    watched.log(curve([1, 60, 60]))
    watched.settle()
    assert main(["ack", "a", "q_high", "--by", "ann", "--why", "mine", *WHERE]) == 0
    watched.tick(0.1)
    assert any(message.happened == "ann has it in hand: mine" for message in watched.post.messages)
    assert main(["status", *WHERE]) == 0
    assert "ann has it in hand" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "name a run"),
        (["a", "--for", "2h"], "say --why"),
        (["a", "--why", "w"], "say for how long"),
        (["a", "--why", "w", "--for", "2 points"], "say for how long"),
        (["a", "--why", "w", "--until", "noon"], "write 18:30"),
    ],
)
def test_a_silence_that_makes_no_sense_is_not_asked_for(
    scene: Scene, capsys: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    """Usage: 2, and the sentence says what to write."""
    assert main(["silence", *argv, *WHERE]) == 2
    assert words in capsys.readouterr().err


def test_a_time_of_day_is_the_next_one(watched: Scene) -> None:
    """Local time, as on the wall; a date is what it says."""
    assert main(["silence", "a", "--until", "00:00", "--why", "w", *WHERE]) == 0
    assert main(["silence", "a", "--until", "2033-01-01T08:00:00+00:00", "--why", "w", *WHERE]) == 0
    first, second = Silences(watched.journal).active(watched.clock.now)
    assert 0 < first.ends - watched.clock.now <= 86_400
    assert second.ends == 1_988_179_200.0


def test_a_status_of_an_alert_with_nothing_said_of_it_is_as_before(scene: Scene) -> None:
    """No line more."""
    import io

    out = io.StringIO()
    print_status(read_status(scene.logdir, scene.state, scene.clock.now), out)
    assert "silen" not in out.getvalue()
