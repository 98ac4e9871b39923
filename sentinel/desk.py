"""The desk: what people press and write in Slack, turned into requests and answers; in threads of its own.

It decides nothing. An answer to a question becomes a request in the inbox, as the command line's does, and
the next tick decides; the journal is read and never written. Whoever is not named in `approvers` is refused
here, and that too is a request, so that it is written down.
"""

from __future__ import annotations

import hmac
import io
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from notifier.ask import ACTION, parse
from notifier.base import DeliveryError
from notifier.buttons import plain
from notifier.format import utc
from notifier.message import Message
from sentinel.errors import SentinelError
from sentinel.inbox import drop
from sentinel.journal import Journal
from sentinel.questions import find, has_questions, settled
from sentinel.requests import Answer
from sentinel.state import JOURNAL
from sentinel.status import print_status, read_status

OUTCOME_WITHIN = 60.0
"""Seconds for which the tick's word on an answer is waited for, to be told to who gave it."""

FORGET_AFTER = 3600.0
"""Seconds after its answer at which a question's own message is no longer looked for."""

REPLIES_A_MINUTE = 20
"""Mentions that are answered in a minute; the rest stays unanswered."""

_LONGEST = 2800  # UTF-16 units of a reply

HELP = (
    "I answer to:\n"
    "  status: all runs, sick ones first\n"
    "  status RUN: one run\n"
    "  help: this\n"
    "Questions are answered by their buttons, or with `sentinel approve`; silences are for "
    "`sentinel silence RUN RULE --for 2h --why …`."
)


class Chat(Protocol):
    """What the desk needs of Slack's Web API; `notifier.slack.SlackNotifier`."""

    def call(self, method: str, body: Mapping[str, Any], *, form: bool = False) -> Mapping[str, Any]:
        """Make one call."""

    def edit(self, first_ref: str, message: Message) -> None:
        """Rewrite a message."""


@dataclass(frozen=True, slots=True)
class _Open:
    """An answer that was handed over, and whom to tell if it is refused."""

    request: str
    channel: str
    user: str
    until: float


class Desk:
    """One Slack channel's desk. `press` and `mention` are quick; what they return is done later."""

    def __init__(
        self,
        channel: str,
        approvers: tuple[str, ...],
        chat: Chat,
        folder: Path,
        logdir: Path,
        wall: Callable[[], float],
    ) -> None:
        """Sit down.

        Args:
            channel: its name in the configuration. approvers: user ids whose answers count.
            chat: Slack. folder: of the sentinel's state. logdir: the runs it watches.
            wall: seconds since the epoch.
        """
        self._channel, self._approvers, self._chat = channel, frozenset(approvers), chat
        self._folder, self._logdir, self._wall = folder, logdir, wall
        self._team = self._self = ""
        self._introduced = -1.0
        self._waiting: deque[_Open] = deque(maxlen=100)
        self._tidied: OrderedDict[int, None] = OrderedDict()
        self._events: OrderedDict[str, None] = OrderedDict()
        self._replied: deque[float] = deque(maxlen=REPLIES_A_MINUTE)

    # ── buttons ──

    def press(self, payload: Mapping[str, Any]) -> Callable[[], None] | None:
        """Take a press on a button; returns what is then to be said to who pressed, if anything.

        A value that is not of our making does nothing at all.
        """
        actions = payload.get("actions")
        if payload.get("type") != "block_actions" or not isinstance(actions, list) or len(actions) != 1:
            return None
        action, user = _table(actions[0]), _table(payload.get("user"))
        who, said = str(user.get("id", "")), parse(action.get("value"))
        if said is None or not _is_user(who):
            return None
        number, choice, token = said
        place = (action.get("action_id"), action.get("block_id"))
        if place != (f"{ACTION}-{choice}", f"{ACTION}-answers-{number}"):
            return None
        row = self._question(number)
        if row is None or not hmac.compare_digest(row["token"].encode(), token.encode()):
            return None
        channel = str(_table(payload.get("channel")).get("id", ""))
        team = str(_table(payload.get("team")).get("id", "") or user.get("team_id", ""))
        by = f"{user.get('username') or user.get('name') or 'somebody'} ({who}) in Slack"
        refusal = self._refusal(who, team)
        if refusal:
            drop(Answer(number, choice, by, refused=f"{by}: {refusal}; nothing was done"), self._folder)
            return self._whisper(channel, who, f"{refusal}. Nothing was done; it is written down.")
        if row["state"] != "open":
            return self._whisper(channel, who, f"Question {number} is settled: {settled(row)}.")
        request = drop(Answer(number, choice, by), self._folder)
        self._waiting.append(_Open(request, channel, who, self._wall() + OUTCOME_WITHIN))
        return None

    def _refusal(self, who: str, team: str) -> str:
        """Say why somebody's answer does not count; empty where it does."""
        if not self._team:
            return "It is not known yet which workspace this is; try again in a minute"
        if team != self._team:
            return "You are of another workspace"
        if who not in self._approvers:
            return f"You are not among the approvers of [notify.{self._channel}]"
        return ""

    def _whisper(self, channel: str, user: str, text: str) -> Callable[[], None]:
        body = {"channel": channel, "user": user, "text": plain(text, _LONGEST)}

        def tell() -> None:
            self._chat.call("chat.postEphemeral", {**body, "parse": "none", "link_names": False})

        return tell

    # ── mentions ──

    def mention(self, payload: Mapping[str, Any]) -> Callable[[], None] | None:
        """Take an event; where the app was mentioned by a person of this workspace, return its answer."""
        event = _table(payload.get("event"))
        identity = str(payload.get("event_id", ""))
        if event.get("type") != "app_mention" or event.get("bot_id") or identity in self._events:
            return None
        self._events[identity] = None
        while len(self._events) > 1000:
            self._events.popitem(last=False)
        team = str(payload.get("team_id") or event.get("team") or "")
        if not self._team or team != self._team or event.get("user") in (None, self._self):
            return None
        now = self._wall()
        if len(self._replied) == REPLIES_A_MINUTE and now - self._replied[0] < 60.0:
            return None
        self._replied.append(now)
        words = re.sub(r"<[^>]*>", " ", str(event.get("text", "")))[:300].split()
        channel, thread = str(event.get("channel", "")), str(event.get("thread_ts") or event.get("ts") or "")

        def reply() -> None:
            text = self._reply(words)
            section = {"type": "section", "text": {"type": "plain_text", "text": text, "emoji": False}}
            body = {"channel": channel, "thread_ts": thread, "text": text, "blocks": [section]}
            quiet = {"parse": "none", "link_names": False, "mrkdwn": False, "unfurl_links": False}
            self._chat.call("chat.postMessage", {**body, **quiet})

        return reply

    def _reply(self, words: list[str]) -> str:
        match [word.lower() for word in words[:1]]:
            case ["status"] | []:
                return plain(self._status(" ".join(words[1:])), _LONGEST)
            case ["help"]:
                return plain(HELP, _LONGEST)
        return plain(f"I do not know {words[0]!r}.\n{HELP}", _LONGEST)

    def _status(self, run: str) -> str:
        try:
            status = read_status(self._logdir, self._folder, self._wall())
        except SentinelError as error:
            return str(error)
        if run:
            names = [each["run"] for each in status["runs"]]
            status["runs"] = [each for each in status["runs"] if each["run"] == run]
            if not status["runs"]:
                return f"No run {run} is known. There are: {', '.join(names) or 'none'}."
        out = io.StringIO()
        print_status(status, out)
        return out.getvalue()

    # ── now and then ──

    def tidy(self) -> None:
        """Tell whose answer was refused by the tick, and take the buttons off questions that are settled."""
        if not self._team:
            if self._wall() < self._introduced:
                return
            self._introduced = self._wall() + 30.0  # a token that is wrong now is wrong in a second too
            me = self._chat.call("auth.test", {})
            self._team, self._self = str(me.get("team_id", "")), str(me.get("user_id", ""))
        if not (self._folder / JOURNAL).exists():
            return
        with closing(Journal(self._folder / JOURNAL, read_only=True)) as journal:
            if not has_questions(journal):
                return
            refused = self._refused(journal)
            edits = self._settled(journal)
        for each, text in refused:
            self._whisper(each.channel, each.user, text)()
        for number, ref, message in edits:
            self._tidied[number] = None
            while len(self._tidied) > 1000:
                self._tidied.popitem(last=False)
            try:
                self._chat.edit(ref, message)
            except DeliveryError as error:
                if getattr(error, "channel_dead", False):
                    raise

    def _refused(self, journal: Journal) -> list[tuple[_Open, str]]:
        found = []
        for each in list(self._waiting):
            rows = journal.rows("SELECT state, outcome FROM requests WHERE name = ?", each.request)
            if rows or self._wall() > each.until:
                self._waiting.remove(each)
            if rows and rows[0]["state"] == "refused":
                found.append((each, str(rows[0]["outcome"])))
        return found

    def _settled(self, journal: Journal) -> list[tuple[int, str, Message]]:
        """Find the replies that asked what is settled by now; a story's top is edited by the mail."""
        rows = journal.rows(
            "SELECT q.*, m.ref, m.body FROM questions q JOIN messages m ON m.key = q.told AND m.channel = ? "
            "WHERE q.state != 'open' AND q.answered_at > ? AND m.state = 'sent'",
            self._channel,
            self._wall() - FORGET_AFTER,
        )
        found = []
        for row in rows:
            message = Message.from_json(row["body"])
            if row["id"] in self._tidied or message.kind == "opened" or message.ask is None:
                continue
            said = f"{message.happened}\n{settled(row).capitalize()} ({utc(row['answered_at'])})."
            found.append((row["id"], row["ref"], replace(message, ask=None, happened=said, state="settled")))
        return found

    def _question(self, number: int) -> Any | None:
        if not (self._folder / JOURNAL).exists():
            return None
        with closing(Journal(self._folder / JOURNAL, read_only=True)) as journal:
            return find(journal, number) if has_questions(journal) else None


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_user(who: str) -> bool:
    return re.fullmatch(r"[UW][A-Z0-9]{2,30}", who) is not None
