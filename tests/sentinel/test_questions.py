"""Questions through the engine: rows, answers from the inbox, deadlines, restarts; nothing is done twice."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rules.source import RuleErrors
from sentinel.cli import main
from sentinel.config import load
from sentinel.desks import Desks
from sentinel.inbox import Answer, drop
from sentinel.question_table import as_json, exists, print_questions, read_questions
from sentinel.replay import replay_paths
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


def test_the_list_shows_what_is_open_and_the_time_that_is_left(tmp_path: Path) -> None:
    """The most urgent first; and nothing is a sentence too."""
    scene = scene_of(tmp_path)
    found = read_questions(scene.logdir, scene.state)
    out = io.StringIO()
    print_questions(found, found[0]["deadline"] - 50, out)
    assert "rollback to 00-00000400" in out.getvalue()
    assert "50 s" in out.getvalue()
    assert as_json(found)["questions"][0]["default"] == "hold"
    assert exists(scene.logdir, scene.state, 1)
    reply(scene, "hold")
    out = io.StringIO()
    print_questions(read_questions(scene.logdir, scene.state), 0.0, out)
    assert out.getvalue() == "nothing is asked\n"
    assert exists(scene.logdir, scene.state, 1)
    assert not exists(scene.logdir, scene.state, 9)
    assert not exists(scene.logdir, tmp_path / "nowhere", 1)


def test_an_answer_to_a_question_that_was_never_put_is_a_mistake(tmp_path: Path) -> None:
    """Exit code 2; and an answer without its question is one too."""
    where = ("--logdir", str(tmp_path), "--state", str(tmp_path / "state"))
    assert main(["approve", "7", *where]) == 2
    assert main(["approve", "--hold", *where]) == 2
    assert main(["approve", *where]) == 0


def test_a_desk_without_a_token_keeps_nothing_from_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told in one line, and what the variable holds is not repeated."""
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-1")
    monkeypatch.setenv("SLACK_APP_TOKEN", "xoxb-not-that-kind")
    config = tmp_path / "sentinel.toml"
    table = '[notify.slack]\nchannel = "#x"\napp_token_env = "SLACK_APP_TOKEN"\napprovers = ["U0ADA"]\n'
    config.write_text(f'version = 1\ninclude = ["pack:generic"]\n{table}')
    said: list[str] = []
    desks = Desks(tmp_path, tmp_path, FakeClock(T0), said.append)
    desks.follow(load(config))
    desks.close()
    (line,) = said
    assert "SLACK_APP_TOKEN holds no app-level token" in line
    assert "not-that-kind" not in line


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('approvers = ["U0ADA"]', "app_token_env"),
        ('app_token_env = "A"\napprovers = ["ada"]', "'ada' is no user id"),
        ('app_token_env = "xapp-1-secret"', "the name of an environment variable"),
    ],
)
def test_who_approves_is_written_right(tmp_path: Path, table: str, words: str) -> None:
    """User ids, and a variable by its name."""
    config = tmp_path / "sentinel.toml"
    config.write_text(f'version = 1\n[notify.slack]\nchannel = "#x"\n{table}\n')
    with pytest.raises(RuleErrors) as raised:
        load(config)
    assert words in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("rung", "words"),
    [
        ('do = ["notify"], approve = true', "this rung only tells"),
        ('do = ["checkpoint"], deadline = "5m"', "this rung asks nobody"),
        ('do = ["checkpoint"], approve = true, deadline = "5 points"', "points mean nothing here"),
        ('do = ["checkpoint"], approve = true, default = "wait"', "'wait' means nothing here"),
        ('do = ["checkpoint"], approve = 1', "true or false"),
    ],
)
def test_a_rung_asks_in_a_right_way_or_is_told_what_is_wrong(tmp_path: Path, rung: str, words: str) -> None:
    """With its place in the file."""
    config = tmp_path / "sentinel.toml"
    config.write_text(f"version = 1\n[ladders.l]\nrungs = [\n  {{ {rung} }},\n]\n")
    with pytest.raises(RuleErrors) as raised:
        load(config)
    assert words in str(raised.value)
    assert "sentinel.toml:4" in str(raised.value)


def test_check_says_who_can_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And that nobody can where no approver is named."""
    config = tmp_path / "sentinel.toml"
    rungs = '[ladders.l]\nrungs = [{ do = ["checkpoint"], approve = true }]\n'
    slack = '[notify.slack]\nchannel = "#x"\napp_token_env = "A"\n'
    config.write_text(f'version = 1\ninclude = ["pack:generic"]\n{rungs}{slack}')
    assert main(["check", str(config)]) == 0
    said = capsys.readouterr().out
    assert "nobody can answer a question there" in said
    assert "asked before it is done: l; `sentinel approve` answers" in said


@pytest.mark.parametrize(
    ("approval", "default", "verbs"),
    [
        ("all", "hold", ["rollback asks", "rollback act", "rollback"]),
        ("none", "act", ["rollback asks", "rollback hold"]),
        (None, "hold", ["rollback asks", "rollback lapsed"]),
        (None, "act", ["rollback asks", "rollback lapsed", "rollback"]),
    ],
)
def test_a_replay_says_what_it_would_ask(
    tmp_path: Path, approval: Any, default: str, verbs: list[str]
) -> None:
    """And takes the ladder's default in its time, or the answer that it is given for all."""
    scene = Scene(tmp_path, FakeClock(T0), ASKING.replace("DEFAULT", default))
    scene.log(curve([1] * 4 + [60] * 30))
    settings = replace(scene.settings, approval=approval)
    (outcome,) = replay_paths([scene.logdir], settings)
    actions = [action for line in outcome.lines() if line["rule"] == "q_high" for action in line["actions"]]
    found = [
        " ".join(filter(None, (a["verb"], "asks" if "asks" in a else a.get("settles", ""))))
        for a in actions
        if a["verb"] == "rollback"
    ]
    assert found[: len(verbs)] == verbs
    assert main(["replay", "--approve", "all", "-c", "x", str(tmp_path / "none")]) == 2
