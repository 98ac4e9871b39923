"""Ask before acting: a rung with `approve` puts a question, and is taken once that is answered. Pure.

The one fact to hold: what people approved is what is done. Where the target or the remedy has changed since,
it is asked again; only a ladder's own `default = "act"` takes what is right by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rules.schema import RungSpec, Verb
from sentinel.climb import Action, Asked, Climb, RunFacts, Settled

GRAVE: tuple[Verb, ...] = ("terminate", "rollback", "checkpoint")
"""The verbs that need an answer; a question is known by the first of them that it is about."""

WAITS = "people are asked first"
"""How the reason of an action begins that waits for an answer."""


def put(climb: Climb, rung: RungSpec, deeds: Sequence[Action], facts: RunFacts) -> tuple[Climb, Action]:
    """Ask whether a rung is to be taken."""
    now = _present(facts)
    kept = tuple(deed for deed in deeds if deed.verb != "notify" and not deed.withheld)
    default = rung.default or "hold"
    asked = Asked(climb.rung, kept, now, now + rung.patience.amount, default)
    reason = f"{WAITS}; without an answer within {rung.patience} it is {_TAKEN[default]}"
    question = Action(_verb(kept), reason, withheld=True, rung=climb.rung, asks=asked)
    return replace(climb, asked=asked), question


_TAKEN = {"hold": "left undone", "act": "done"}


def waits(asked: Asked, facts: RunFacts) -> bool:
    """Whether people may still answer."""
    return not asked.lapsed and _present(facts) < asked.deadline


def lapse(climb: Climb, asked: Asked) -> tuple[Climb, Action]:
    """Let the default follow, since nobody has answered in time."""
    settled = settle(asked, Settled.LAPSED, f"nobody answered in time, so it is {_TAKEN[asked.default]}")
    if asked.default == "hold":
        return hold(climb), settled
    return replace(climb, asked=replace(asked, lapsed=True)), settled


def hold(climb: Climb) -> Climb:
    """Leave the rung undone in this episode: the next one is waited for."""
    return replace(climb, rung=climb.rung + 1, asked=None)


def settle(asked: Asked, how: Settled, reason: str) -> Action:
    """Say what became of a question."""
    return Action(_verb(asked.deeds), reason, withheld=True, rung=asked.rung, settles=how.value)


def withdraw(climb: Climb, why: str) -> tuple[Climb, tuple[Action, ...]]:
    """Take a question back; one that has lapsed was settled before."""
    if climb.asked is None:
        return climb, ()
    said = () if climb.asked.lapsed else (settle(climb.asked, Settled.WITHDRAWN, why),)
    return replace(climb, asked=None), said


def same(asked: Asked, deeds: Sequence[Action]) -> bool:
    """Whether what would be done now is what was asked about."""
    return [_identity(deed) for deed in asked.deeds if deed.verb in GRAVE[:2]] == [
        _identity(deed) for deed in deeds if deed.verb in GRAVE[:2] and not deed.withheld
    ]


def _identity(deed: Action) -> tuple[object, ...]:
    return deed.verb, deed.checkpoint, deed.to_step, dict(deed.set or {}), tuple(deed.reinit)


def _verb(deeds: Sequence[Action]) -> Verb:
    verbs = {deed.verb for deed in deeds}
    return next((verb for verb in GRAVE if verb in verbs), "notify")


def _present(facts: RunFacts) -> float:
    return max(facts.now, facts.present)


def read_asked(body: Mapping[str, Any] | None) -> Asked | None:
    """Read a question back from a climb's row."""
    if body is None:
        return None
    deeds = tuple(Action(**{**deed, "reinit": tuple(deed["reinit"])}) for deed in body["deeds"])
    return Asked(**{**body, "deeds": deeds})
