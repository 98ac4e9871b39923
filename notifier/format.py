"""From a message to text: lines for a terminal or a log, blocks for Slack. Pure.

Run names, tags and everything made from them come from files that anyone may have written. Here, and only
here, they lose their power: control characters and terminal escapes become visible text, and Slack's
`<!channel>`, `<@U…>`, links, backticks and bare `@here` are shown and not obeyed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from notifier.message import Fact, Message

Block: TypeAlias = dict[str, Any]

MAX_BLOCKS = 50
MAX_HEADER = 150
MAX_SECTION = 3000
MAX_FIELDS = 10
"""Slack's limits (docs.slack.dev/reference/block-kit/blocks). In UTF-16 units, the strictest reading."""

_MAX_FACTS = 10
_MAX_VALUE = 200
_MAX_HAPPENED = 2500
_MAX_FACT = 300  # with its label, once escaped
_MAX_ADVICE = 1500
_MAX_COMMANDS = 800
_MAX_CONTEXT = 400
# Together below 9000: Slack was seen to take 9597 units in all blocks, and to answer msg_blocks_too_long to
# 11 341 (slackapi/bolt-js#2867; no page says where between them that begins).

_JOINERS = "\u200c\u200d"  # emoji, Persian and Indic scripts need them; they reorder nothing
_LABEL_WIDTH = 12


def neutral(text: str, *, lines: bool = False) -> str:
    """Make untrusted text harmless: what would act on a terminal or reorder a line becomes visible.

    Args:
        text: anything, also lone surrogates.
        lines: keep line breaks; without it they too are shown as `\\n`, so that a name cannot forge a line.
    """
    return "".join(_visible(character, lines=lines) for character in text.replace("\t", " "))


def _visible(character: str, *, lines: bool) -> str:
    if character == "\n" and lines:
        return character
    # Control, format (bidi overrides, zero width), lone surrogates, private use, line separators.
    if unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")


def clip(text: str, limit: int) -> str:
    """Cut text to at most `limit` UTF-16 units and say so with an ellipsis; never inside a character."""
    if _units(text) <= limit:
        return text
    kept: list[str] = []
    used = 1
    for character in text:
        used += _units(character)
        if used > limit:
            break
        kept.append(character)
    return "".join(kept) + "…"


def _units(text: str) -> int:
    return len(text) + sum(1 for character in text if ord(character) > 0xFFFF)


def utc(wall_time: float) -> str:
    """Write seconds since the epoch as people read them: `2025-11-22 17:41:05 UTC`."""
    try:
        return datetime.fromtimestamp(wall_time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"unknown time ({wall_time})"


def headline(message: Message) -> str:
    """Say a message in one line: severity, run, title, state."""
    about = " · ".join(neutral(part) for part in (message.run, message.title, message.state) if part)
    return f"{message.severity.upper():<8} {about}"


def plain(message: Message) -> str:
    """Render a message as text: a headline, and below it, indented, what it says. No line break ends it."""
    return "\n".join((headline(message), *_details(message)))


def _details(message: Message) -> Iterator[str]:
    for line in neutral(message.happened, lines=True).splitlines():
        yield f"  {line}"
    for label, value in unsaid(message):
        yield f"  {neutral(label):<{_LABEL_WIDTH}} {neutral(value)}"
    if message.rule:
        yield f"  {'rule':<{_LABEL_WIDTH}} {neutral(message.rule)}"
    for number, line in enumerate(neutral(message.advice, lines=True).splitlines()):
        yield f"  {'try' if number == 0 else '':<{_LABEL_WIDTH}} {line}"
    for number, command in enumerate(message.commands):
        yield f"  {'go on' if number == 0 else '':<{_LABEL_WIDTH}} {neutral(command)}"


def unsaid(message: Message) -> list[Fact]:
    """Return the facts that the sentences do not hold already: a number, or the same words.

    They stay in the message: a machine that reads it wants every one, under its name.
    """
    said = set(_NUMBER.findall(message.happened))
    return [
        fact
        for fact in message.facts
        if fact.value not in said and not (len(fact.value) > _MARKED and fact.value in message.happened)
    ]


_MARKED = 8  # characters from which on words that stand in a sentence stand there for the same thing


_NUMBER = re.compile(r"(?<![\w.,\u202f-])\d[\d\u202f]*(?:\.\d+)?(?![\w\u202f-]|[.,]\d)")
"""A number that stands by itself: no part of a name, a date or a longer number."""


def fallback(message: Message) -> str:
    """Render the text that Slack shows in a notification, and everywhere if it takes no blocks."""
    return _slack(plain(_within(message)), MAX_SECTION)


def _within(message: Message) -> Message:
    """Leave out what no limit lets through anyway, before every sign of it is looked at."""
    most = MAX_SECTION + 1
    texts = {name: getattr(message, name)[:most] for name in ("run", "rule", "title", "state")}
    kept = [Fact(label[: _MAX_VALUE + 1], value[: _MAX_VALUE + 1]) for label, value in message.facts]
    return replace(
        message,
        **texts,
        happened=message.happened[:most],
        advice=message.advice[:most],
        facts=tuple(kept[: 2 * _MAX_FACTS]),
        commands=tuple(command[: _MAX_COMMANDS + 1] for command in message.commands[:_MAX_FACTS]),
    )


def blocks(message: Message) -> list[Block]:
    """Render a message as Slack blocks, within Slack's limits whatever the message holds."""
    message = _within(message)
    made: list[Block] = [{"type": "header", "text": _text(neutral(message.title) or "message", MAX_HEADER)}]
    if message.state:
        made.append(_context(f"{_SIGNS[message.severity]} {message.severity} · {neutral(message.state)}"))
    else:
        made.append(_context(f"{_SIGNS[message.severity]} {message.severity}"))
    if message.happened.strip():
        made.append({"type": "section", "text": _text(neutral(message.happened, lines=True), _MAX_HAPPENED)})
    shown = unsaid(message)[:_MAX_FACTS]
    made.extend(
        {"type": "section", "fields": [_field(fact) for fact in shown[start : start + MAX_FIELDS]]}
        for start in range(0, len(shown), MAX_FIELDS)
    )
    if message.advice.strip():
        advice = f"What to try: {neutral(message.advice, lines=True)}"
        made.append({"type": "section", "text": _text(advice, _MAX_ADVICE)})
    if message.commands:
        made.append(_copyable(message.commands))
    source = " · ".join(neutral(part) for part in (message.run, message.rule) if part)
    made.append(_context(f"{source} · {utc(message.wall_time)}" if source else utc(message.wall_time)))
    return made[:MAX_BLOCKS]


_SIGNS = {"info": "ℹ️", "warning": "⚠️", "critical": "🔴", "fatal": "⛔"}


def _copyable(commands: Sequence[str]) -> Block:
    """Command lines as they stand: in preformatted rich text Slack parses nothing, so nothing is escaped."""
    text = clip("\n".join(neutral(command) for command in commands), _MAX_COMMANDS) or "–"
    element = {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": text}]}
    return {"type": "rich_text", "elements": [element]}


def _context(text: str) -> Block:
    return {"type": "context", "elements": [_text(text, _MAX_CONTEXT)]}


def _text(text: str, limit: int) -> Block:
    # plain_text is shown as it stands: no links, no mentions, no bold; emoji false leaves `:fire:` alone.
    return {"type": "plain_text", "text": _slack(text, limit), "emoji": False}


def _field(fact: Fact) -> Block:
    # In a code span Slack parses nothing but <…>, which is escaped; verbatim keeps it from linking bare names
    label = _unmarked(clip(neutral(fact.label), _MAX_VALUE)) or "–"
    value = _unmarked(clip(neutral(fact.value), _MAX_VALUE)) or "–"
    return {"type": "mrkdwn", "text": _slack(f"*{label}*\n`{value}`", _MAX_FACT), "verbatim": True}


def _unmarked(text: str) -> str:
    """Take Slack's markup out of text that stands between its marks."""
    return text.replace("`", "'").replace("*", "∗").strip()


def _slack(text: str, limit: int) -> str:
    """Escape Slack's three control characters; keep within `limit` units, never cutting an escape."""
    escaped = "".join(_ESCAPES.get(character, character) for character in text)
    if _units(escaped) <= limit:
        return escaped
    kept: list[str] = []
    used = 1
    for character in text:
        piece = _ESCAPES.get(character, character)
        used += _units(piece)
        if used > limit:
            break
        kept.append(piece)
    return "".join(kept) + "…"


_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
