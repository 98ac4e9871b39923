"""A webhook: each message as signed JSON, posted to an address of one's own.

The signature is that of Standard Webhooks (standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`, so
libraries for every language check it. The id is made of the message's key and is the same at every attempt,
so whoever remembers it takes a message once, however often it comes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from notifier.base import Permanent, Transient
from notifier.format import clip, neutral, plain
from notifier.message import KINDS, SEVERITIES, Fact, Message
from notifier.plot import MARKS, MOST_MARKS, MOST_POINTS, MOST_SERIES, bounded
from notifier.post import TIMEOUT, Endpoint, bearer, variable
from notifier.tame import tame

VERSION = 1
"""Of the body. A key that is added leaves it; one that goes or changes its meaning raises it."""

MAX_BYTES = 393_216
"""Of a body: what its parts' limits allow, with every character at its longest."""

_LIMITS = {"title": 200, "state": 200, "run": 1000, "rule": 500, "happened": 5000, "advice": 5000}
_MAX_STORY = 1000
_MAX_TEXT = 10_000
_MAX_FACTS = 50
_MAX_LABEL = 200
_MAX_LABELS = 20
_MAX_VALUE = 1000
_MAX_COMMANDS = 10
_MAX_COMMAND = 1000


class WebhookNotifier:
    """Posts each message; what was posted is not edited, a later message of the story follows it."""

    def __init__(
        self,
        url_env: str,
        secret_env: str | None = None,
        token_env: str | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        timeout: float = TIMEOUT,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Read address and secrets; nothing is sent.

        Args:
            url_env: names the variable with the address.
            secret_env: names the one with the signing secret, `whsec_…` or any text; None for unsigned.
            token_env: names the one with a bearer token; None for none.
            environ: the environment. timeout: seconds for one attempt. wall: seconds since the epoch.

        Raises:
            Permanent: a variable is not set, or what it holds cannot be right.
        """
        self._named = (url_env, secret_env, token_env)
        self._wall = wall
        self._endpoint = Endpoint("webhook", url_env, variable("webhook", url_env, environ), timeout=timeout)
        authorization = bearer("webhook", token_env, environ)
        key = None if secret_env is None else _key(secret_env, variable("webhook", secret_env, environ))
        # A closure, so that no attribute of ours holds what is secret.
        self._headers: Callable[[str, bytes], dict[str, str]] = lambda name, body: {
            **authorization,
            **signed(key, name, int(wall()), body),
        }

    def __repr__(self) -> str:
        url, secret, token = self._named
        return f"WebhookNotifier(url_env={url!r}, secret_env={secret!r}, token_env={token!r})"

    def send(self, message: Message, thread_ref: str | None) -> str:  # noqa: ARG002  the body names the story
        """Post a message; see Notifier.send.

        Returns:
            Its id, as in the header `webhook-id`.
        """
        body = json.dumps(body_of(message), ensure_ascii=False, separators=(",", ":")).encode()
        name = message_id(message)
        answer = self._endpoint.post(body, self._headers(name, body))
        error = answer if isinstance(answer, Transient) else self._endpoint.judge(answer)
        if error is not None:
            raise error
        return name

    def edit(self, first_ref: str, message: Message) -> None:
        """Do nothing: the message that made the edit necessary has been posted itself."""


def message_id(message: Message) -> str:
    """Return a message's id: the same for ever, and of letters that a header may hold."""
    return f"msg_{hashlib.sha256(message.key.encode('utf-8', 'backslashreplace')).hexdigest()[:32]}"


def signed(key: bytes | None, name: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a body; with a signature where there is a key.

    Args:
        key: of the HMAC. name: the message's id. timestamp: of the attempt, whole seconds since the epoch.
    """
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "training-sentinel",
        "Idempotency-Key": f'"{name}"',
        "webhook-id": name,
        "webhook-timestamp": str(timestamp),
    }
    if key is not None:
        digest = hmac.new(key, f"{name}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def body_of(message: Message) -> dict[str, Any]:
    """Return the body of a message, as `schema` describes it."""
    parts = {name: getattr(message, name)[: limit + 1] for name, limit in _LIMITS.items()}
    facts = [Fact(f.label[: _MAX_LABEL + 1], f.value[: _MAX_VALUE + 1]) for f in message.facts[:_MAX_FACTS]]
    commands = [command[: _MAX_COMMAND + 1] for command in message.commands[:_MAX_COMMANDS]]
    short = replace(message, **parts, facts=tuple(facts), commands=tuple(commands))
    return {
        "version": VERSION,
        "key": message_id(message),
        "story": clip(neutral(message.thread[: _MAX_STORY + 1]), _MAX_STORY),
        "kind": message.kind,
        "severity": message.severity,
        **{
            name: clip(neutral(parts[name], lines=name in ("happened", "advice")), limit)
            for name, limit in _LIMITS.items()
        },
        "facts": [
            {"label": clip(neutral(label), _MAX_LABEL), "value": clip(neutral(value), _MAX_VALUE)}
            for label, value in facts
        ],
        "labels": {
            clip(neutral(name), _MAX_LABEL): clip(neutral(value), _MAX_LABEL)
            for name, value in list(message.labels.items())[:_MAX_LABELS]
        },
        "commands": [clip(neutral(command), _MAX_COMMAND) for command in commands],
        "plot": None if message.plot is None else _harmless(bounded(message.plot).as_json()),
        "time": rfc3339(message.wall_time),
        "text": clip(tame(plain(short)[:_MAX_TEXT]), _MAX_TEXT),
    }


def _harmless(part: Any) -> Any:
    """Make every text in JSON-ready data harmless; bounded it is already."""
    if isinstance(part, str):
        return clip(neutral(part), _MAX_LABEL)
    if isinstance(part, list):
        return [_harmless(each) for each in part]
    return {name: _harmless(each) for name, each in part.items()} if isinstance(part, dict) else part


def rfc3339(wall_time: float) -> str | None:
    """Write seconds since the epoch as RFC 3339 in UTC; None where they are no time."""
    try:
        return (
            datetime.fromtimestamp(wall_time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
    except (ValueError, OverflowError, OSError):
        return None


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the body."""
    said = {
        "title": "the story in a few words; the same in all its messages",
        "state": "where the story now stands: firing, rolled back to step 1 000, recovered",
        "run": 'the run\'s name; "" for something about the sentinel itself',
        "rule": 'full name of the rule; "" where none is behind it',
        "happened": "what this message is about, in sentences; may have several lines",
        "advice": 'what to try; "" if there is nothing to say',
    }
    fields: dict[str, Any] = {
        "version": {"const": VERSION, "description": "of this schema"},
        "key": _text(40, "the message's id; the same whenever it comes again", pattern="^msg_[0-9a-f]{32}$"),
        "story": _text(_MAX_STORY, "names the story: one alert of one run; the same in all its messages"),
        "kind": {
            "enum": list(KINDS),
            "description": "a story's first message, a change, its end; or a notice",
        },
        "severity": {"enum": list(SEVERITIES), "description": "of the story"},
        **{name: _text(limit, said[name]) for name, limit in _LIMITS.items()},
        "facts": {
            "type": "array",
            "maxItems": _MAX_FACTS,
            "description": "since which step, value and limit, what was done; in a reader's order",
            "items": {
                "type": "object",
                "properties": {
                    "label": _text(_MAX_LABEL, "what it is"),
                    "value": _text(_MAX_VALUE, "what it says"),
                },
                "required": ["label", "value"],
            },
        },
        "labels": {
            "type": "object",
            "additionalProperties": _text(_MAX_LABEL, "of the rule and of the run, from sentinel.toml"),
            "description": "by name",
        },
        "commands": {
            "type": "array",
            "maxItems": _MAX_COMMANDS,
            "description": "command lines to go on with, to be copied as they stand",
            "items": _text(_MAX_COMMAND, "one command line"),
        },
        "plot": _plot_schema(),
        "time": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "when it happened, UTC; null where that is not known",
        },
        "text": _text(_MAX_TEXT, "all of it for people, as plain text in which no mention is alive"),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "a message of the training sentinel to a webhook",
        "type": "object",
        "properties": fields,
        "required": list(fields),
    }


def _plot_schema() -> dict[str, Any]:
    number = {"type": ["number", "string"], "description": "a number, or NaN, inf, -inf as text"}
    point = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    part = {"type": "array", "items": point, "maxItems": MOST_POINTS}
    line = {
        "label": _text(_MAX_LABEL, "what it is"),
        "parts": {"type": "array", "items": part, "description": "(step, value), a list for each attempt"},
        "is_limit": {"type": "boolean", "description": "it is what the others are held against"},
    }
    mark = {
        "kind": {"enum": list(MARKS)},
        "step": number,
        "label": _text(_MAX_LABEL, "in a few words"),
        "to_step": {"type": ["number", "null"], "description": "of a rollback, where the run went on from"},
    }
    return {
        "type": ["object", "null"],
        "description": "what is to be drawn, for whoever draws it; with a story's first and last message",
        "properties": {
            "title": _text(_MAX_LABEL, "in words"),
            "subtitle": _text(_MAX_LABEL, "of which run"),
            "axis": _text(_MAX_LABEL, "what its steps count"),
            "lines": {"type": "array", "maxItems": MOST_SERIES, "items": _object(line)},
            "limit": {"type": ["number", "string", "null"], "description": "a level of the lines' own unit"},
            "limit_label": _text(_MAX_LABEL, "what the limit is"),
            "marks": {"type": "array", "maxItems": MOST_MARKS, "items": _object(mark)},
        },
        "required": ["title", "subtitle", "axis", "lines", "limit", "limit_label", "marks"],
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _text(limit: int, description: str, **more: str) -> dict[str, Any]:
    return {"type": "string", "maxLength": limit, "description": description, **more}


def _key(name: str, secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode("utf-8", "surrogateescape")
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        pass  # told below, outside, so that the secret is not chained to what is raised
    raise Permanent(f"webhook: what {name} holds after whsec_ is not base64", channel_dead=True)
