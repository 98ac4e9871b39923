"""Ask before acting, with real processes: a question, an answer, and the job is brought back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.scene import Scene, until
from tests.socket_stub import APP_TOKEN, SocketStub, buttons


@pytest.fixture
def slack() -> Iterator[SocketStub]:
    with SocketStub() as stub:
        yield stub


@pytest.fixture
def scene(tmp_path: Path, slack: SocketStub) -> Iterator[Scene]:
    """A scene whose rollback people have to approve."""
    found = Scene(tmp_path, slack)
    try:
        yield found
    finally:
        found.end()


def ask(scene: Scene, deadline: str = "10m", default: str = "hold") -> None:
    """Let the rollback be asked about, and Slack be listened to."""
    rules = scene.config.read_text()
    asking = f'remedy = "gentler", approve = true, deadline = "{deadline}", default = "{default}" }}'
    rules = rules.replace('remedy = "gentler" }', asking)
    heard = 'channel = "#training"\napp_token_env = "SLACK_APP_TOKEN"\napprovers = ["U0ADA"]\n'
    scene.config.write_text(rules.replace('channel = "#training"\n', heard))


def begin(scene: Scene) -> None:
    """Start a job that diverges, and its sentinel."""
    scene.job("--diverge-at", "45", "--end", "120", "--hold", "--pace", "0.03")
    scene.sentinel()


def question(scene: Scene) -> dict[str, Any]:
    """The one question, once it is put."""
    return until(lambda: scene.rows("SELECT * FROM questions"), "a question")[0]


def with_buttons(slack: SocketStub) -> list[dict[str, Any]]:
    return [message for message in list(slack.messages.values()) if buttons(message)]


def brought_back(scene: Scene) -> None:
    """The job went back to the checkpoint of the question, once, and goes on."""
    until(lambda: any(c[1] == "rollback" for c in scene.effects()), "the job is brought back")
    assert [c[1] for c in scene.effects()] == ["checkpoint", "rollback"]
    assert scene.effects()[1][2] == "00-00000040"


@pytest.mark.timeout(120)
def test_a_button_brings_the_run_back(scene: Scene, slack: SocketStub) -> None:
    """Asked in the thread and on the story; a stranger is refused; after the answer no button is left."""
    ask(scene)
    begin(scene)
    assert question(scene)["what"] == "rollback to 00-00000040 (step 40) with lr=x0.5"
    until(lambda: len(with_buttons(slack)) == 2, "buttons in the thread and on the story")
    until(lambda: slack.connected, "the socket")
    pressed = with_buttons(slack)[-1]
    until(lambda: _refused(scene, slack, pressed), "a stranger is refused")
    assert [c[1] for c in scene.effects()] == ["checkpoint"]
    slack.press(pressed, "act")
    brought_back(scene)
    until(lambda: not with_buttons(slack), "the buttons are gone")
    row = question(scene)
    assert (row["state"], row["answered_by"]) == ("act", "u0ada (U0ADA) in Slack")
    arrived = json.dumps(list(slack.messages.values()), ensure_ascii=False)
    assert "u0ada (U0ADA) in Slack: do it" in arrived
    slack.mention("status")
    until(lambda: "sentinel running on" in json.dumps(list(slack.messages.values())), "a status")
    left = b"".join(p.read_bytes() for p in scene.folder.rglob("*") if p.is_file() and not p.is_symlink())
    assert APP_TOKEN.encode() not in left


def _refused(scene: Scene, slack: SocketStub, message: dict[str, Any]) -> bool:
    if not slack.whispers:
        slack.press(message, "act", user="U0MALLORY")
        until(lambda: slack.whispers, "word for the stranger")
    return any("not among the approvers" in row["outcome"] for row in scene.rows("SELECT * FROM answers"))


@pytest.mark.timeout(120)
def test_the_command_line_answers_too_over_a_restart(scene: Scene) -> None:
    """The question stands when the sentinel was killed; `sentinel approve` lists it and answers."""
    ask(scene)
    scene.job("--diverge-at", "45", "--end", "120", "--hold", "--pace", "0.03")
    first = scene.sentinel()
    question(scene)
    first.kill()
    first.wait()
    listed = json.loads(scene.ask("approve", "--json", *scene.where()).stdout)
    scene.sentinel()
    until(lambda: scene.said("sentinel.log").count("watching") == 2, "the second sentinel")
    assert [(q["id"], q["run"], q["default"]) for q in listed["questions"]] == [(1, "a", "hold")]
    answered = scene.ask("approve", "1", "--by", "ada", *scene.where())
    assert (answered.returncode, answered.stdout) == (0, "question 1, a: ada: do it\n")
    brought_back(scene)
    again = scene.ask("approve", "1", *scene.where())
    assert (again.returncode, "is settled: answered by ada: do it" in again.stdout) == (1, True)


@pytest.mark.timeout(120)
def test_without_an_answer_the_default_follows(scene: Scene) -> None:
    """One second, and the ladder says act; that nobody answered is told."""
    ask(scene, "1s", "act")
    begin(scene)
    brought_back(scene)
    row = question(scene)
    assert (row["state"], row["answered_by"]) == ("lapsed", None)
    slack = scene.slack
    until(lambda: "nobody answered in time" in json.dumps(list(slack.messages.values())), "it is told")
