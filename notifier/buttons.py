"""The buttons below a question, as Slack's blocks. Pure.

They stand on the message that asks and at the top of its story, and are gone as soon as the story is edited
without a question.
"""

from __future__ import annotations

from typing import Any

from notifier.ask import ACTION, CHOICES, Ask
from notifier.format import Block, clip, neutral, utc
from notifier.message import Message

_MOST = 400  # UTF-16 units of the question itself; with all that a message holds, what Slack takes of one

_DEEDS = {"rollback": "Roll back", "terminate": "End the run", "checkpoint": "Write a checkpoint"}


def with_buttons(blocks: list[Block], message: Message) -> list[Block]:
    """Put a message's question, if it has one to show, below what the message says."""
    ask = message.ask
    if ask is None or not ask.first:
        return blocks
    return [*blocks[:-1], _question(ask), _buttons(ask), blocks[-1]]


def _question(ask: Ask) -> Block:
    what = clip(neutral(ask.what), _MOST // 2)
    text = f"May it? {what}\nWithout an answer by {utc(ask.until)} {ask.unanswered}."
    return {
        "type": "section",
        "block_id": f"{ACTION}-question-{ask.question}",
        "text": {"type": "plain_text", "text": plain(text, _MOST), "emoji": False},
    }


def _buttons(ask: Ask) -> Block:
    elements = [_button(ask, choice) for choice in ask.choices if choice in CHOICES]
    return {"type": "actions", "block_id": f"{ACTION}-answers-{ask.question}", "elements": elements}


def _button(ask: Ask, choice: str) -> Block:
    label = _DEEDS.get(ask.verb, CHOICES[choice]) if choice == "act" else CHOICES[choice]
    made: dict[str, Any] = {
        "type": "button",
        "action_id": f"{ACTION}-{choice}",
        "text": {"type": "plain_text", "text": label, "emoji": False},
        "value": ask.value(choice),
    }
    if choice in _STYLES:
        made["style"] = _STYLES[choice]
    if choice == "terminate" or (choice == "act" and ask.verb == "terminate"):
        made["confirm"] = _SURE
    return made


_SURE = {
    "title": {"type": "plain_text", "text": "End the run?"},
    "text": {
        "type": "plain_text",
        "text": "The trainer is asked to end; one that does not is ended by force.",
    },
    "confirm": {"type": "plain_text", "text": "End it"},
    "deny": {"type": "plain_text", "text": "Back"},
    "style": "danger",
}


def plain(text: str, limit: int) -> str:
    """Make text of ours that holds strangers' names fit for Slack: it acts on nothing, and it fits."""
    return clip(_escaped(neutral(text, lines=True)), limit)


_STYLES = {"act": "primary", "terminate": "danger"}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
