"""The questions of one run in the journal: what was asked, until when, what was answered, by whom and why.

Whether a question is open is for the climb to say, which the policy reads; these rows are what people see of
it. Both change in the same transaction, so that an answer is carried out once or not at all.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from notifier.ask import Ask
from notifier.message import Message
from sentinel.climb import Action, Asked
from sentinel.journal import Journal
from sentinel.judge import Step
from sentinel.story import question

UNANSWERED = {"hold": "it is left undone", "act": "it is done"}
"""What follows without an answer, in words."""

_ROWS = "SELECT * FROM questions"


class Questions:
    """One run's questions. Everything that writes is called inside a transaction."""

    def __init__(self, journal: Journal, run: str, token: Callable[[], str] | None = None) -> None:
        """Take up the questions of a run. `token`: makes a word that nobody can guess."""
        self._journal = journal
        self._run = run
        self._token = token or (lambda: secrets.token_hex(8))
        found = journal.rows(f"{_ROWS} WHERE run = ? AND state = 'open' ORDER BY id", run)
        self._open: dict[str, Any] = {row["thread"]: dict(row) for row in found}

    @property
    def any_open(self) -> bool:
        """Whether people are being asked something."""
        return bool(self._open)

    def drop_all_but(self, keys: Collection[str], now: float) -> None:
        """Take back what nothing asks any more: its rule was taken away while the sentinel was not there."""
        for thread, row in list(self._open.items()):
            if row["key"] not in keys:
                gone = Action("notify", "its rule is asked no more", withheld=True, settles="withdrawn")
                self._settle(gone, thread, now, "", "")

    def keys(self, answered: Collection[int]) -> frozenset[str]:
        """Return the alerts whose questions are among those that are being answered."""
        return frozenset(row["key"] for row in self._open.values() if row["id"] in answered)

    def take(self, step: Step, thread: str, now: float, *, by: str = "", why: str = "") -> None:
        """Write down what a step asks and settles.

        Args:
            step: a judged step. thread: its story. now: wall time.
            by, why: who answered, and what they say; empty where nobody did.
        """
        for action in step.actions:
            if action.settles:
                self._settle(action, thread, now, by, why)
            if action.asks is not None:
                self._ask(step, action.asks, action.verb, thread, now)

    def tell(self, message: Message) -> Message:
        """Add to a message the question of its story that is open, if there is one."""
        row = self._open.get(message.thread)
        if row is None or message.kind == "closed":
            return message
        first = row["told"] is None
        if first:
            row["told"] = message.key
            self._journal.change("UPDATE questions SET told = ? WHERE id = ?", message.key, row["id"])
        ask = Ask(
            row["id"],
            row["token"],
            row["what"],
            row["verb"],
            row["deadline"],
            UNANSWERED[row["unanswered"]],
            _choices(row["verb"]),
            first,
        )
        state = ", ".join(filter(None, (message.state, "waits for an answer")))
        hint = f"To answer: sentinel approve {row['id']} (or --hold, --terminate, --silence)."
        happened = f"{message.happened}\n{hint}" if first else message.happened
        return replace(message, ask=ask, state=state, happened=happened)

    def _ask(self, step: Step, asked: Asked, verb: str, thread: str, now: float) -> None:
        values = {
            "run": self._run,
            "key": step.observation.key,
            "number": step.observation.alert.number,
            "rung": asked.rung,
            "thread": thread,
            "verb": verb,
            "what": question(asked),
            "asked": now,
            "deadline": now + asked.deadline - asked.asked,
            "unanswered": asked.default,
            "token": self._token(),
        }
        self._open[thread] = {**values, "id": self._journal.add("questions", **values), "told": None}

    def _settle(self, action: Action, thread: str, now: float, by: str, why: str) -> None:
        row = self._open.pop(thread, None)
        if row is None:  # asked in mode observe, or before
            return
        self._journal.change(
            "UPDATE questions SET state = ?, answered_by = ?, answered_at = ?, why = ? WHERE id = ?",
            action.settles,
            by or None,
            now,
            why or ("" if by else action.reason),
            row["id"],
        )


def _choices(verb: str) -> tuple[str, ...]:
    return ("act", "hold", "silence") if verb == "terminate" else ("act", "hold", "terminate", "silence")


def has_questions(journal: Journal) -> bool:
    """Whether this journal can hold questions: one that an older sentinel left cannot."""
    return bool(journal.rows("SELECT 1 FROM sqlite_master WHERE name = 'answers'"))


def find(journal: Journal, number: int) -> Any | None:
    """Return a question's row."""
    rows = journal.rows(f"{_ROWS} WHERE id = ?", number)
    return rows[0] if rows else None


def open_questions(journal: Journal) -> Sequence[Any]:
    """Return the rows of all questions that wait for an answer, the most urgent first."""
    if not has_questions(journal):
        return ()
    return journal.rows(f"{_ROWS} WHERE state = 'open' ORDER BY deadline, id")


def settled(row: Any) -> str:
    """Say in words what became of a question."""
    who = row["answered_by"]
    match row["state"]:
        case "act" | "hold" | "terminate":
            return f"answered by {who}: {_ANSWERS[row['state']]}"
        case "changed":
            return f"answered by {who}, but what was asked had changed meanwhile: it was asked anew"
        case "lapsed":
            return f"nobody answered in time: {UNANSWERED[row['unanswered']]}"
    return f"taken back: {row['why']}"


_ANSWERS = {"act": "do it", "hold": "leave it undone", "terminate": "end the run instead"}
