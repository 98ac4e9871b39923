"""Prometheus Alertmanager, API v2: a story is an alert, routed and silenced with what a team has.

The one fact to hold: Alertmanager forgets an alert whose `endsAt` has passed and keeps none over a restart,
so whoever fires must say so again and again. Each post of a firing alert lets it live for EXPIRES seconds;
`stand` is called more often than that. A sentinel that has died stops saying it, and its alerts end, which is
why Alertmanager needs a dead man's switch beside it.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from notifier.base import Permanent, Standing, Transient
from notifier.format import clip, neutral
from notifier.message import Message
from notifier.post import TIMEOUT, Endpoint, bearer
from notifier.tame import tame
from notifier.webhook import rfc3339

EXPIRES = 300.0
"""Seconds for which a firing alert lives after it was last said; five times the pause between two."""

NOTICE = 300.0
"""Seconds after which a notice, which has no end of its own, is over."""

_MAX_LABEL = 500
_MAX_TEXT = 5000
_MAX_FACTS = 20
_MAX_VALUE = 500
_PATH = "/api/v2/alerts"
_BATCH = 100


class AlertmanagerNotifier:
    """Posts alerts to one Alertmanager. A story's labels never change, so it is one alert to its end."""

    def __init__(
        self,
        url: str,
        *,
        named: str = "url",
        token_env: str | None = None,
        labels: Mapping[str, str] | None = None,
        environ: Mapping[str, str] = os.environ,
        timeout: float = TIMEOUT,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Take an address; nothing is sent.

        Args:
            url: of Alertmanager itself, with its path prefix if any. named: what holds it, for reasons.
            token_env: names the variable with a bearer token, as a proxy in front may want it.
            labels: go to every alert.
            environ: the environment. timeout: seconds for one attempt. wall: seconds since the epoch.

        Raises:
            Permanent: what was given is no address, or a variable is not set.
        """
        self._named = named
        self._labels = dict(labels or {})
        self._wall = wall
        self._endpoint = Endpoint("alertmanager", named, url.strip().rstrip("/") + _PATH, timeout=timeout)
        authorization = bearer("alertmanager", token_env, environ)
        headers = {"Content-Type": "application/json", "User-Agent": "training-sentinel", **authorization}
        self._headers: Callable[[], dict[str, str]] = lambda: headers  # no attribute of ours holds the token

    def __repr__(self) -> str:
        return f"AlertmanagerNotifier(named={self._named!r})"

    def send(self, message: Message, thread_ref: str | None) -> str:
        """Post a story's alert as it now is; see Notifier.send.

        Returns:
            When the alert began, which every later post of it repeats.
        """
        ref = thread_ref or self._began(message)
        self._post([self._alert(message, ref)])
        return ref

    def edit(self, first_ref: str, message: Message) -> None:
        """Post the alert anew with all that is known of its story; see Notifier.edit."""
        self._post([self._alert(message, first_ref)])

    def stand(self, stories: Iterable[Standing]) -> None:
        """Say of stories that they still fire; see notifier.base.Repeating."""
        alerts = [self._alert(story.message, story.ref) for story in stories]
        for start in range(0, len(alerts), _BATCH):
            self._post(alerts[start : start + _BATCH])

    def _began(self, message: Message) -> str:
        """When it began; what is no time, or is still to come by our clock, is now."""
        now = self._wall()
        return rfc3339(min(message.wall_time, now)) or rfc3339(now) or ""

    def _alert(self, message: Message, began: str) -> dict[str, object]:
        now = self._wall()
        if message.kind == "closed":
            # Alertmanager refuses what ends before it has begun.
            ends = max(now, _seconds(began) + 0.001)
        else:
            ends = now + (NOTICE if message.kind == "notice" else EXPIRES)
        return {
            "labels": self._labels_of(message),
            "annotations": annotated(message),
            "startsAt": began,
            "endsAt": rfc3339(ends),
        }

    def _labels_of(self, message: Message) -> dict[str, str]:
        rule, _, capture = message.rule.partition("[")
        known = {
            "alertname": rule or message.title or "message",
            "series": capture.removesuffix("]"),
            "run": message.run,
            "severity": message.severity,
        }
        own = {name: clip(neutral(value), _MAX_LABEL) for name, value in known.items() if value.strip()}
        given = {
            re.sub(r"[^a-zA-Z0-9_]", "_", f"_{name}" if name[:1].isdigit() else name): clip(
                neutral(value), _MAX_LABEL
            )
            for name, value in message.labels.items()
            if name and value.strip()
        }
        return {**self._labels, **given, **own}

    def _post(self, alerts: list[dict[str, object]]) -> None:
        answer = self._endpoint.post(json.dumps(alerts, ensure_ascii=False).encode(), self._headers())
        error = answer if isinstance(answer, Transient) else self._endpoint.judge(answer)
        if error is not None:
            raise error


def annotated(message: Message) -> dict[str, str]:
    """Return what people read of an alert; empty parts are left out."""
    facts = [
        f"{fact.label[:_MAX_VALUE]}: {fact.value[:_MAX_VALUE]}".replace("\n", " ")
        for fact in message.facts[:_MAX_FACTS]
    ]
    parts = {
        "summary": message.title.replace("\n", " "),
        "state": message.state.replace("\n", " "),
        "description": message.happened,
        "facts": "\n".join(facts),
        "advice": message.advice,
    }
    return {
        name: clip(tame(text[:_MAX_TEXT]), _MAX_TEXT) for name, text in parts.items() if text and text.strip()
    }


def _seconds(began: str) -> float:
    try:
        return datetime.fromisoformat(began).timestamp()
    except ValueError:
        pass  # raised below, outside, so that nothing hangs on it
    raise Permanent(f"alertmanager: {began[:40]!r} is not a reference to an alert here")
