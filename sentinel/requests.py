"""What people may ask of a running sentinel: one frozen class a kind, each of which says what is wrong in it.

The one fact to hold: a request comes from a file that anyone with the rights to the state folder may have
written, so nothing in it is believed before `wrong` has found nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, TypeAlias

VERBS = ("checkpoint", "rollback", "terminate")

CHOICES = ("act", "hold", "terminate", "silence")
"""Answers to a question; the last is to leave it undone, and to be told nothing for a while."""


@dataclass(frozen=True, slots=True)
class Command:
    """Ask a run's trainer for something. `checkpoint` None lets the sentinel choose the newest good one."""

    kind: ClassVar[str] = "command"

    run: str
    verb: str
    checkpoint: str | None = None
    set: Mapping[str, float | int | bool | str] = field(default_factory=dict)
    reinit: tuple[str, ...] = ()
    why: str = ""

    def wrong(self) -> str:
        """Say what cannot be right; empty where nothing is."""
        texts = (self.run, self.verb, self.why, self.checkpoint or "", *self.reinit)
        if not all(isinstance(text, str) for text in texts):
            return "run, verb, why, checkpoint and reinit are text"
        if self.verb not in VERBS:
            return f"the verbs are {', '.join(VERBS)}"
        if not isinstance(self.set, dict):
            return "set is a table of parameters"
        values = self.set.values()
        return (
            ""
            if all(isinstance(v, (str, int, float)) for v in values)
            else "a parameter is a number or a word"
        )


@dataclass(frozen=True, slots=True)
class Silence:
    """Tell nobody of these alerts for a while.

    Attributes:
        run, rule: globs over names; `*` crosses folders.
        ends: wall time in seconds since the epoch.
        by, why: who asked, and the reason; both are shown wherever the silence is.
        actions: their ladders rest too.
    """

    kind: ClassVar[str] = "silence"

    run: str
    ends: float
    by: str
    why: str
    rule: str = "*"
    actions: bool = False

    def wrong(self) -> str:
        """Say what cannot be right; empty where nothing is."""
        wrong = _texts(run=self.run, rule=self.rule, by=self.by, why=self.why)
        if wrong:
            return wrong
        if type(self.ends) not in (int, float) or not math.isfinite(self.ends):
            return "ends is a time, in seconds since the epoch"
        return "" if isinstance(self.actions, bool) else "actions is true or false"


@dataclass(frozen=True, slots=True)
class Expire:
    """End a silence before its time."""

    kind: ClassVar[str] = "expire"

    silence: int
    by: str

    def wrong(self) -> str:
        """Say what cannot be right; empty where nothing is."""
        return _texts(by=self.by) or _number(silence=self.silence)


@dataclass(frozen=True, slots=True)
class Ack:
    """Say that somebody has an alert in hand, so that it is not repeated.

    Attributes:
        run: name of the run. rule: of the alert, with its capture if it has one.
        by, why: who has it, and what they say.
    """

    kind: ClassVar[str] = "ack"

    run: str
    rule: str
    by: str
    why: str = ""

    def wrong(self) -> str:
        """Say what cannot be right; empty where nothing is."""
        if not isinstance(self.why, str):
            return "why is text"
        return _texts(run=self.run, rule=self.rule, by=self.by)


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a question that the sentinel has put before it acts.

    Attributes:
        question: its id in the journal. choice: one of `CHOICES`.
        by, why: who answers, and what they say.
        refused: why it does not count, where who passes it on knows that; it is written down all the same.
    """

    kind: ClassVar[str] = "answer"

    question: int
    choice: str
    by: str
    why: str = ""
    refused: str = ""

    def wrong(self) -> str:
        """Say what cannot be right; empty where nothing is."""
        if not isinstance(self.why, str) or not isinstance(self.refused, str):
            return "why and refused are text"
        if self.choice not in CHOICES:
            return f"the answers are {', '.join(CHOICES)}"
        return _texts(choice=self.choice, by=self.by) or _number(question=self.question)


Request: TypeAlias = Command | Silence | Expire | Ack | Answer

_KINDS: Mapping[str, type[Request]] = {kind.kind: kind for kind in (Command, Silence, Expire, Ack, Answer)}


def to_body(request: Request) -> dict[str, Any]:
    """Return what a file holds of a request; `from_body` gives an equal one."""
    return {"kind": request.kind, **asdict(request)}


def from_body(body: object) -> Request | str:
    """Read a request that somebody else may have written; or return, in words, why it is none.

    One that names no kind is a command, as those of older versions are.
    """
    if not isinstance(body, dict):
        return "the request cannot be read: it is no table"
    given: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in body.items() if name != "kind"
    }
    kind = body.get("kind", Command.kind)
    model = _KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        return f"the request cannot be understood: it is a {kind!r}; the kinds are {', '.join(_KINDS)}"
    known = [each.name for each in fields(model)]
    unknown = [name for name in given if name not in known]
    if unknown:
        return f"the request cannot be understood: {unknown[0]!r} is no part of a {kind}"
    try:
        request = model(**given)
    except TypeError as error:
        return f"the request cannot be read: TypeError: {error}"
    wrong = request.wrong()
    return f"the request cannot be understood: {wrong}" if wrong else request


def _texts(**given: object) -> str:
    wrong = [name for name, text in given.items() if not isinstance(text, str) or not text.strip()]
    return f"{', '.join(wrong)}: a text that says something is needed" if wrong else ""


def _number(**given: object) -> str:
    wrong = [name for name, value in given.items() if type(value) is not int or not 0 < value < 1 << 63]
    return f"{', '.join(wrong)}: the number of one is needed" if wrong else ""
