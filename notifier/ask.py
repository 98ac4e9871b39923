"""A question to people: what would be done, until when an answer counts, and the answers there are.

A button's value names the question and carries a word that only the journal and the message know, so a value
that somebody made up, or one of an older question, answers nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ACTION = "sentinel"
"""How the id of every button of ours begins."""

CHOICES: Mapping[str, str] = {
    "act": "Do it",
    "hold": "Leave it",
    "terminate": "End the run",
    "silence": "Leave it, silence 2 h",
}
"""The answers, and what is written on their buttons."""


@dataclass(frozen=True, slots=True)
class Ask:
    """An open question.

    Attributes:
        question: its number in the journal. token: the word that an answer has to carry.
        what: what would be done, in words. verb: the gravest part of it.
        until: wall time up to which people are waited for. unanswered: what follows then, in words.
        choices: the answers that it has, by name.
        first: this is the message that asks, and no later one of the same story.
    """

    question: int
    token: str
    what: str
    verb: str
    until: float
    unanswered: str
    choices: tuple[str, ...] = tuple(CHOICES)
    first: bool = False

    def value(self, choice: str) -> str:
        """Return what a button carries; `parse` reads it."""
        return f"{self.question}:{choice}:{self.token}"


def parse(value: object) -> tuple[int, str, str] | None:
    """Read what a button carried: question, choice, word. None where it is not of our making."""
    parts = value.split(":") if isinstance(value, str) and len(value) < 200 else []
    if len(parts) != 3 or not (parts[0].isascii() and parts[0].isdigit()) or parts[1] not in CHOICES:
        return None
    number = int(parts[0])
    return (number, parts[1], parts[2]) if 0 < number < 1 << 63 else None


def from_json(body: Mapping[str, Any] | None) -> Ask | None:
    """Read a question back from a message's row."""
    return None if body is None else Ask(**{**body, "choices": tuple(body["choices"])})
