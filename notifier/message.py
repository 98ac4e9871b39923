"""What a person is told: one message, complete in itself, as plain strings.

Messages of one story (an alert in a run) share `thread`; the first opens it, later ones reply to it, the last
closes it. A message is written to the journal before anything is sent, so it can be read back from text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

from notifier.ask import Ask
from notifier.ask import from_json as asked
from notifier.plot import Plot, from_json

SEVERITIES = ("info", "warning", "critical", "fatal")
"""From the mildest to the gravest."""

KINDS = ("opened", "update", "closed", "notice")
"""A story's first message, a change in it, its end; or something said once that is nobody's story."""


class Fact(NamedTuple):
    """One labelled value, in the order in which a reader wants it: `Fact("since step", "1 200")`."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to tell people. All text is untrusted until `notifier.format` has rendered it.

    Attributes:
        key: names this message for ever; the same key is never told twice on one channel by one outbox.
        thread: names the story; the same in all its messages.
        kind: one of KINDS.
        severity: one of SEVERITIES; the story's, so that all its messages take the same route.
        run: name of the run, or "" for something about the sentinel itself.
        rule: full name of the rule, with its capture if it has one; "" where no rule is behind it.
        title: the story in a few words; the same in all its messages.
        state: where the story now stands, in a few words: "firing", "rolled back to step 1 000", "recovered".
        happened: what this message is about, in sentences; may have several lines.
        facts: since which step, value and limit, what was done, which checkpoint.
        advice: what to try; "" if there is nothing to say.
        wall_time: when it happened, in seconds since the epoch.
        commands: command lines to go on with, to be copied as they stand; for the story's first message.
        plot: what is to be drawn of it, for channels that show pictures; None for nothing.
        labels: words of the user's own for the rule and the run, by name; routes and groups go by them.
        family: what happens to one run at a time and is of one family is one story; "" for none.
        again: nothing is new, but it goes on: a reply that is to be seen outside of its thread too.
        ask: a question that people can answer, while it is open; for channels that have buttons.
    """

    key: str
    thread: str
    kind: str
    severity: str
    run: str
    rule: str
    title: str
    happened: str
    wall_time: float
    state: str = ""
    facts: tuple[Fact, ...] = ()
    advice: str = ""
    commands: tuple[str, ...] = ()
    plot: Plot | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    family: str = ""
    again: bool = False
    ask: Ask | None = None

    def __post_init__(self) -> None:
        for name, value, known in (("kind", self.kind, KINDS), ("severity", self.severity, SEVERITIES)):
            if value not in known:
                raise ValueError(f"message {self.key!r}: {name} is {value!r}, not one of {', '.join(known)}")
        if not self.key or not self.thread:
            raise ValueError("a message needs a key and a thread; without them it could be told twice")

    def to_json(self) -> str:
        """Encode for the journal; `from_json` gives an equal message."""
        body = asdict(replace(self, plot=None))
        body["plot"] = None if self.plot is None else self.plot.as_json()
        return json.dumps(body, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Message:
        """Decode what `to_json` wrote, now or before a message had all that it has now.

        Raises:
            ValueError: the text is not a message.
        """
        try:
            body = json.loads(text)
            plot = body.get("plot")
            later = {
                "facts": facts(body.get("facts", ())),
                "commands": tuple(str(command) for command in body.get("commands", ())),
                "plot": None if plot is None else from_json(plot),
                "ask": asked(body.get("ask")),
            }
            return cls(**{**body, **later})
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"not a message: {error}") from error


def facts(pairs: Iterable[Iterable[str]]) -> tuple[Fact, ...]:
    """Make facts of (label, value) pairs."""
    return tuple(Fact(*pair) for pair in pairs)


def so_far(first: Message, message: Message) -> Message:
    """Return a story's first message with what another one of it has added: facts, the latest of a label."""
    known = dict(first.facts)
    known.update(message.facts)
    return replace(first, facts=facts(known.items()))


def as_story(first: Message, latest: Message) -> Message:
    """Return the message that stands at the top of a story: how it began, and where it now stands.

    Args:
        first: the message that opened it.
        latest: the newest one; its state, and its facts where both know a label, win.
    """
    known = dict(first.facts)
    known.update(latest.facts)
    return replace(
        first,
        key=latest.key,
        kind=latest.kind,
        state=latest.state or latest.happened,
        facts=facts(known.items()),
        advice=latest.advice or first.advice,
        plot=None,
        again=False,
        ask=None if latest.ask is None else replace(latest.ask, first=True),
    )
