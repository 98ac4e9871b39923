"""Questions through the engine: rows, answers from the inbox, deadlines, restarts; nothing is done twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sentinel.inbox import Answer, drop
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import RULES, Scene
from tests.sentinel.test_engine import curve, letters, register

ASKING = RULES.replace(
    'remedy = "cure" }', 'remedy = "cure", approve = true, deadline = "60s", default = "DEFAULT" }'
)


def scene_of(tmp_path: Path, default: str = "hold", *, act: bool = True) -> Scene:
    """A run with a trainer and a checkpoint at step 400, whose q has been too high since step 500."""
    scene = Scene(tmp_path, FakeClock(T0), ASKING.replace("DEFAULT", default), act=act)
    scene.log(curve([1, 1, 1, 1]))
    register(scene.logdir / "a")
    save(scene, 400)
    scene.tick()
    scene.log(curve([60] * 5, begin=5))
    scene.tick(1)
    return scene


def save(scene: Scene, step: int) -> None:
    """Write a whole checkpoint."""
    import hashlib
    import json

    folder = scene.logdir / "a" / "checkpoints" / f"00-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "w").write_bytes(b"w")
    entry = {"bytes": 1, "sha256": hashlib.sha256(b"w").hexdigest()}
    manifest = {"version": 1, "step": step, "attempt": 0, "wall_time": T0 + 3.0 * step / 100}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": {"w": entry}}))


def questions(scene: Scene) -> list[dict[str, Any]]:
    """The rows, oldest first."""
    return [dict(row) for row in scene.journal.rows("SELECT * FROM questions ORDER BY id")]


def asked(scene: Scene) -> list[str]:
    """The verbs of all letters."""
    return [letter["verb"] for letter in letters(scene.logdir / "a")]


def reply(scene: Scene, choice: str, number: int = 1) -> str:
    """Answer as the command line does; returns what becomes of it."""
    name = drop(Answer(number, choice, "ada", "looks right"), scene.state)
    scene.tick(0.5)
    return str(scene.journal.rows("SELECT outcome FROM requests WHERE name = ?", name)[0]["outcome"])


def test_a_question_is_a_row_and_a_message_and_no_letter(tmp_path: Path) -> None:
    """What would be done, until when, what follows; and the message knows how to answer."""
    scene = scene_of(tmp_path)
    (row,) = questions(scene)
    assert (row["run"], row["key"], row["state"], row["verb"]) == ("a", "q_high", "open", "rollback")
    assert row["what"] == "rollback to 00-00000400 (step 400) with lr=x0.1"
    assert row["deadline"] == pytest.approx(scene.clock.now + 60, abs=5)
    assert asked(scene) == ["checkpoint"]
    (message,) = [m for m in scene.post.messages if m.ask is not None and m.ask.first]
    assert "sentinel approve 1" in message.happened
    assert message.state == "firing, waits for an answer"


def test_act_asks_the_trainer_once_over_a_restart(tmp_path: Path) -> None:
    """The question stands when the sentinel comes back; an answer that is there twice is one."""
    scene = scene_of(tmp_path)
    scene.start()
    scene.tick(1)
    assert [row["state"] for row in questions(scene)] == ["open"]
    said = reply(scene, "act")
    assert said == "question 1, a: ada: do it"
    assert asked(scene) == ["checkpoint", "rollback"]
    assert "is settled: answered by ada: do it" in reply(scene, "act")
    scene.start()
    scene.tick(100)
    assert asked(scene) == ["checkpoint", "rollback"]
    (row,) = questions(scene)
    assert (row["state"], row["answered_by"], row["why"]) == ("act", "ada", "looks right")
    assert [dict(a)["choice"] for a in scene.journal.rows("SELECT * FROM answers")] == ["act", "act"]


def test_later_messages_of_the_story_have_the_question_till_it_is_answered(tmp_path: Path) -> None:
    """So that the top of the story keeps its buttons, and loses them with the answer."""
    scene = scene_of(tmp_path)
    reply(scene, "hold")
    scene.log(curve([60] * 3, begin=10, start=T0))
    scene.tick(1)
    assert scene.post.messages[-1].ask is None
    told = [m for m in scene.post.messages if "answer" in dict(m.facts)]
    assert dict(told[-1].facts)["answer"] == "ada: leave it undone"
    assert asked(scene) == ["checkpoint"]


@pytest.mark.parametrize(
    ("default", "verbs"), [("hold", ["checkpoint"]), ("act", ["checkpoint", "rollback"])]
)
def test_the_deadline_passes_while_nothing_is_logged(tmp_path: Path, default: str, verbs: list[str]) -> None:
    """A trainer that hangs logs no point; time passes for its question all the same, and that is told."""
    scene = scene_of(tmp_path, default)
    for _ in range(14):
        scene.tick(5)
    assert asked(scene) == verbs
    (row,) = questions(scene)
    assert (row["state"], row["answered_by"]) == ("lapsed", None)
    assert any("nobody answered in time" in dict(m.facts).get("answer", "") for m in scene.post.messages)


def test_an_answer_that_lies_there_comes_before_the_deadline(tmp_path: Path) -> None:
    """The sentinel was away while somebody answered: their word counts, however late it is read."""
    scene = scene_of(tmp_path, "act")
    drop(Answer(1, "hold", "ada"), scene.state)
    scene.start()
    scene.tick(500)
    scene.tick(1)
    assert asked(scene) == ["checkpoint"]
    assert [row["state"] for row in questions(scene)] == ["hold"]


def test_an_alert_that_resolves_takes_its_question_back(tmp_path: Path) -> None:
    """Nobody is asked about what is over, and an answer then does nothing."""
    scene = scene_of(tmp_path)
    scene.log(curve([5] * 6, begin=10))
    scene.settle()
    (row,) = questions(scene)
    assert (row["state"], row["why"]) == ("withdrawn", "the alert is resolved")
    assert "is settled: taken back: the alert is resolved" in reply(scene, "act")
    assert asked(scene) == ["checkpoint"]


def test_a_changed_target_is_a_new_question(tmp_path: Path) -> None:
    """The checkpoint that was approved is damaged meanwhile: nothing is done without another word."""
    scene = scene_of(tmp_path)
    save(scene, 200)
    (scene.logdir / "a" / "checkpoints" / "00-00000400" / "w").write_bytes(b"x")
    said = reply(scene, "act")
    assert "it has changed, and is asked anew" in said
    assert [row["state"] for row in questions(scene)] == ["changed", "open"]
    assert "00-00000200" in questions(scene)[1]["what"]
    assert asked(scene) == ["checkpoint"]
    reply(scene, "act", 2)
    assert asked(scene) == ["checkpoint", "rollback"]


def test_the_run_can_be_ended_instead_and_an_alert_silenced(tmp_path: Path) -> None:
    """Every answer but `act` is another thing than what was asked."""
    scene = scene_of(tmp_path / "one")
    reply(scene, "terminate")
    assert asked(scene) == ["checkpoint", "terminate"]
    scene = scene_of(tmp_path / "two")
    assert "silence 1: a q_high until" in reply(scene, "silence")
    assert asked(scene) == ["checkpoint"]
    assert [row["rule"] for row in scene.journal.rows("SELECT * FROM silences")] == ["q_high"]


def test_in_mode_observe_nobody_is_asked(tmp_path: Path) -> None:
    """It is told as what would be asked; no row, no buttons, and the default follows on paper."""
    scene = scene_of(tmp_path, "act", act=False)
    assert questions(scene) == []
    assert all(m.ask is None for m in scene.post.messages)
    told = [dict(m.facts) for m in scene.post.messages]
    assert any(known.get("would ask people", "").startswith("rollback to 00-00000400") for known in told)
    for _ in range(14):
        scene.tick(5)
    told = [dict(m.facts) for m in scene.post.messages]
    assert any("rollback" in known.get("would ask", "") for known in told)


def test_an_answer_that_does_not_count_is_written_down(tmp_path: Path) -> None:
    """Who tried what stays known."""
    scene = scene_of(tmp_path)
    drop(Answer(1, "act", "mallory", refused="mallory is no approver"), scene.state)
    scene.tick(0.5)
    (row,) = [dict(row) for row in scene.journal.rows("SELECT * FROM answers")]
    assert (row["who"], row["outcome"]) == ("mallory", "mallory is no approver")
    assert [row["state"] for row in questions(scene)] == ["open"]
    assert "there is no question 99 (open: 1)" in reply(scene, "act", 99)
