"""The desk: whose press counts, what a forged or stale one does, and what a mention is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from notifier.ask import Ask, parse
from notifier.buttons import with_buttons
from notifier.format import blocks
from notifier.message import Message, as_story, facts
from sentinel.desk import Desk
from sentinel.inbox import Answer, pending
from tests.sentinel.test_questions import reply, scene_of
from tests.slack_stub import MOST_TOGETHER, block_errors, block_texts, units
from tests.socket_stub import BOT, TEAM, buttons, find_button


class Chat:
    """Notes what Slack is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.edits: list[tuple[str, Message]] = []

    def call(self, method: str, body: Mapping[str, Any], *, form: bool = False) -> Mapping[str, Any]:
        self.calls.append((method, dict(body)))
        return {"team_id": TEAM, "user_id": BOT}

    def edit(self, first_ref: str, message: Message) -> None:
        self.edits.append((first_ref, message))

    def texts(self, method: str) -> list[str]:
        return [body["text"] for name, body in self.calls if name == method]


class Office:
    """A scene that asks, and a desk beside it."""

    def __init__(self, folder: Path) -> None:
        self.scene = scene_of(folder)
        self.chat = Chat()
        self.desk = self.open()
        message = next(m for m in self.scene.post.messages if m.ask is not None and m.ask.first)
        self.message: dict[str, Any] = {"ts": "1.0", "blocks": with_buttons(blocks(message), message)}

    def open(self) -> Desk:
        scene = self.scene
        desk = Desk("console", ("U0ADA",), self.chat, scene.state, scene.logdir, scene.clock.wall)
        desk.tidy()
        return desk

    def payload(
        self, choice: str = "act", user: str = "U0ADA", team: str = TEAM, **action: Any
    ) -> dict[str, Any]:
        button, block = find_button(self.message, choice)
        pressed = {name: button[name] for name in ("action_id", "value")}
        return {
            "type": "block_actions",
            "user": {"id": user, "username": "ada"},
            "team": {"id": team},
            "channel": {"id": "C1"},
            "actions": [{**pressed, "block_id": block["block_id"], **action}],
        }

    def press(self, *arguments: Any, **changes: Any) -> list[Answer]:
        """Press, say what is to be said, and return what lies in the inbox."""
        reply = self.desk.press(self.payload(*arguments, **changes))
        if reply is not None:
            reply()
        return [request for _, request in pending(self.scene.state) if isinstance(request, Answer)]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_an_approvers_press_is_an_answer_in_the_inbox(office: Office) -> None:
    """The desk decides nothing: the tick does."""
    assert buttons(office.message) == ["act", "hold", "terminate", "silence"]
    assert block_errors(office.message["blocks"]) == []
    assert office.press("hold") == [Answer(1, "hold", "ada (U0ADA) in Slack")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"user": "U0MALLORY"}, "not among the approvers"), ({"team": "T0OTHER"}, "another workspace")],
)
def test_nobody_elses_press_counts_and_it_is_written_down(
    office: Office, changes: dict[str, Any], words: str
) -> None:
    """They are told, for themselves alone; the question stands."""
    (answer,) = office.press(**changes)
    assert words in answer.refused
    assert words in office.chat.texts("chat.postEphemeral")[0]
    office.scene.tick(0.5)
    (row,) = office.scene.journal.rows("SELECT * FROM answers")
    assert words in row["outcome"]
    assert office.scene.journal.rows("SELECT state FROM questions")[0]["state"] == "open"


@pytest.mark.parametrize(
    "action",
    [
        {"value": "1:act:0000000000000000"},
        {"value": "2:act:whatever"},
        {"value": "1:act"},
        {"value": "1:explode:x"},
        {"value": "٣:act:x"},
        {"value": None},
        {"value": "9" * 30 + ":act:x"},
        {"action_id": "sentinel-terminate"},
        {"block_id": "sentinel-answers-2"},
        {"block_id": "mine"},
    ],
)
def test_a_forged_value_does_nothing_at_all(office: Office, action: dict[str, Any]) -> None:
    """Question, answer, word and place have to fit; not even who pressed is told anything."""
    assert office.press(**action) == []
    assert office.chat.texts("chat.postEphemeral") == []


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"type": "block_actions"},
        {"type": "view_submission", "actions": [1]},
        {"type": "block_actions", "actions": [7]},
    ],
)
def test_what_is_no_press_does_nothing(office: Office, payload: dict[str, Any]) -> None:
    """Other kinds of interaction, and other shapes."""
    assert office.desk.press(payload) is None


def test_a_stale_button_says_what_became_of_its_question(office: Office) -> None:
    """And leaves nothing in the inbox."""
    reply(office.scene, "hold")
    assert office.press("act") == []
    assert "is settled: answered by ada: leave it undone" in office.chat.texts("chat.postEphemeral")[0]


def test_who_is_refused_by_the_tick_learns_it(office: Office) -> None:
    """Two press at the same time: the second is told who was first."""
    office.press("hold")
    office.press("act")
    office.scene.tick(0.5)
    office.desk.tidy()
    (said,) = office.chat.texts("chat.postEphemeral")
    assert "is settled" in said


def test_the_reply_that_asked_loses_its_buttons_and_says_the_answer(office: Office) -> None:
    """Whoever answered, and wherever; once."""
    office.desk.tidy()
    assert office.chat.edits == []
    reply(office.scene, "act")
    office.scene.tick(0.5)
    office.desk.tidy()
    office.desk.tidy()
    ((_, message),) = office.chat.edits
    assert message.ask is None
    assert "Answered by ada: do it" in message.happened
    assert buttons({"blocks": with_buttons(blocks(message), message)}) == []


def test_the_top_of_the_story_has_the_buttons_as_long_as_the_question_is_open() -> None:
    """A later message of the story has the question too, and shows its buttons at the top alone."""
    ask = Ask(3, "w", "rollback", "rollback", 1.0, "it is left undone", first=False)
    first = Message("a", "t", "opened", "critical", "a", "r", "r", "x", 1.0)
    later = Message("b", "t", "update", "critical", "a", "r", "r", "y", 2.0, ask=ask)
    assert buttons({"blocks": with_buttons(blocks(later), later)}) == []
    top = as_story(first, later)
    assert buttons({"blocks": with_buttons(blocks(top), top)}) == ["act", "hold", "terminate", "silence"]
    assert Message.from_json(top.to_json()) == top
    assert parse(ask.value("hold")) == (3, "hold", "w")


def test_a_long_question_of_hostile_words_fits_beside_the_longest_message() -> None:
    """Slack takes no more than some 9600 characters in one message, and obeys none of them."""
    ask = Ask(3, "w", "<!channel>&" * 500, "rollback", 1.0, "it is left undone", first=True)
    many = facts(("n" * 300, f"{n}" * 400) for n in range(30))
    told = Message(
        "a", "t", "opened", "critical", "a" * 400, "r" * 400, "r" * 400, "x&" * 4000, 1.0, facts=many
    )
    full = replace(told, ask=ask, advice="<y>" * 2000, commands=("z" * 2000,), state="s" * 500)
    shown = with_buttons(blocks(full), full)
    assert block_errors(shown) == []
    assert sum(units(text["text"]) for block in shown for text in block_texts(block)) < MOST_TOGETHER
    assert all("<!" not in text["text"] for block in shown for text in block_texts(block))


def mention(office: Office, text: str, event: str = "E1", **changes: Any) -> str | None:
    """Mention the app; returns its answer."""
    inner = {"type": "app_mention", "user": "U0BOB", "text": text, "ts": "5.0", "channel": "C1", **changes}
    found = office.desk.mention({"team_id": TEAM, "event_id": event, "event": inner})
    if found is None:
        return None
    found()
    body = office.chat.calls[-1][1]
    assert (body["channel"], body["thread_ts"]) == ("C1", "5.0")
    return str(body["text"])


def test_a_mention_is_answered_in_its_thread(office: Office) -> None:
    """Status of all, of one run, help; anything else is met with help."""
    assert "q_high" in str(mention(office, f"<@{BOT}> status", "E1"))
    said = str(mention(office, f"<@{BOT}> status a", "E2"))
    assert "firing" in said
    assert "asks       1: may it rollback to 00-00000400 (step 400)" in said
    assert "No run b is known. There are: a." in str(mention(office, f"<@{BOT}> status b", "E3"))
    assert "sentinel approve" in str(mention(office, f"<@{BOT}> help", "E4"))
    assert "I do not know 'dance'" in str(mention(office, f"<@{BOT}> dance", "E5"))


def test_a_mention_is_answered_once_and_nobody_answers_machines(office: Office) -> None:
    """Events come again; bots would talk to each other for ever; other workspaces are nobody's business."""
    assert mention(office, "status", "E1") is not None
    assert mention(office, "status", "E1") is None
    assert mention(office, "status", "E2", bot_id="B1") is None
    assert mention(office, "status", "E3", user=BOT) is None
    assert office.desk.mention({"team_id": "T9", "event_id": "E4", "event": {"type": "app_mention"}}) is None
    answers = [mention(office, "status", f"F{n}") for n in range(40)]
    assert len([answer for answer in answers if answer is not None]) < 21


def test_a_mention_is_told_nothing_that_acts(office: Office) -> None:
    """Names are strangers' words: no mention, no link, within Slack's length."""
    said = str(mention(office, f"<@{BOT}> status <!channel>&<https://x|y>" + "z" * 4000))
    assert "<" not in said
    assert len(said) <= 2900
