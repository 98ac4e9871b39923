"""A loopback HTTP server that stands in for Slack's Web API: it keeps Slack's limits, and fails on request.

It speaks real HTTP to the real slack_sdk, so what is tested is what runs. It knows chat.postMessage,
chat.update, auth.test and the three steps of a file's upload; it refuses what Slack refuses, in Slack's words
(too many blocks, too long texts, a thread that does not exist, a channel that it does not know, a bad token,
a scope that was not given, too many calls where a clock was given), and notes every mention or link that
would be live. What Slack takes is on docs.slack.dev (reference/block-kit/blocks, apis/web-api/rate-limits);
that all texts of a message together must stay below some 10 000 characters is measured, not documented
(slackapi/bolt-js#2867: 9597 taken, 11341 refused).

    with SlackStub() as slack:
        SlackNotifier("#training", environ=slack.environ, base_url=slack.url).send(message, None)
        assert slack.texts() == [...]

In a test module: `from tests.slack_stub import slack` (a pytest fixture).
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

import pytest

TOKEN = "xoxb-1111-2222-thesecretofthestub"
CHANNEL_ID = "C0TRAINING"
CHANNEL_NAME = "#training"

MOST_TOGETHER = 9597
"""Characters of all texts in one message's blocks that Slack was seen to take."""

PER_MINUTE = {
    "chat.update": 50,
    "files.getUploadURLExternal": 100,
    "files.completeUploadExternal": 100,
    "auth.test": 100,
}
"""Calls a minute by method (tier 3 and tier 4). chat.postMessage has one a second in a channel."""

POST_BURST = 10
"""Messages that are taken at once before one a second is enforced; Slack speaks of short bursts only."""

_ALIVE = re.compile(r"<[!@#]|<(?:https?|mailto):|<[^>]*\|")
_NAMES = re.compile(r"(?<![\w`])[@#](?:here|channel|everyone|[a-z])|https?://", re.IGNORECASE)


@dataclass(frozen=True)
class Reply:
    """A scripted answer: status, headers, raw body; `hang` holds the connection until the server closes."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    drop: bool = False


def refusal(code: str, status: int = 200, **more: str) -> Reply:
    """Script an answer `{"ok": false, "error": code}`."""
    return Reply(status, json.dumps({"ok": False, "error": code, **more}).encode())


def rate_limit(seconds: float | str | None) -> Reply:
    """Script a 429, with its Retry-After unless that is None."""
    headers = {} if seconds is None else {"Retry-After": str(seconds)}
    return Reply(429, b'{"ok": false, "error": "ratelimited"}', headers)


@dataclass(frozen=True)
class File:
    """A file as it was shared: bytes, title, description, and the thread it stands in."""

    data: bytes
    name: str
    title: str
    alt_txt: str
    thread: str


@dataclass
class Rates:
    """Slack's rate limits by a test's own clock: the seconds to stay away, or 0 where a call may pass."""

    clock: Callable[[], float]
    burst: int = POST_BURST
    _free_at: float = float("-inf")
    _calls: dict[str, deque[float]] = field(default_factory=dict)

    def wait(self, method: str) -> float:
        now = self.clock()
        if method == "chat.postMessage":
            over = max(self._free_at, now) + 1.0 - now - self.burst
            if over > 1e-6:
                return over
            self._free_at = max(self._free_at, now) + 1.0
            return 0.0
        calls = self._calls.setdefault(method, deque())
        while calls and now - calls[0] >= 60.0:
            calls.popleft()
        if len(calls) >= PER_MINUTE.get(method, 20):
            return 60.0 - (now - calls[0])
        calls.append(now)
        return 0.0


@dataclass(frozen=True)
class Call:
    """One request as it came in, and what was answered."""

    method: str
    body: dict[str, Any]
    token: str
    error: str  # "" if it was carried out
    ts: str = ""


class SlackStub:
    """The server; a context manager. Attributes are safe to read from the test's thread."""

    def __init__(self, *, scopes: tuple[str, ...] = ("chat:write", "files:write")) -> None:
        self.scopes = set(scopes)
        self.rates: Rates | None = None
        self.files: list[File] = []
        self.asked_with: list[str] = []  # tokens of GET requests: nobody should make one
        self.refused: list[str] = []  # why, in Slack's words, of every call that was refused for its content
        self._uploads: dict[str, dict[str, Any]] = {}
        self.calls: list[Call] = []
        self.messages: dict[str, dict[str, Any]] = {}  # ts -> the message as it now stands
        self.alive: list[str] = []  # every text in which Slack would have made a mention or a link
        self._script: deque[Reply] = deque()
        self._lock = threading.Lock()
        self._released = threading.Event()
        stub = self

        class Handler(_Handler):
            server_stub = stub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let hanging connections go and stop; also used to test a Slack that has gone away."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def url(self) -> str:
        """Base URL for WebClient."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/api/"

    @property
    def environ(self) -> dict[str, str]:
        """An environment that holds the right token."""
        return {"SLACK_BOT_TOKEN": TOKEN}

    def script(self, *replies: Reply) -> None:
        """Answer the next calls with these; after them it behaves again."""
        with self._lock:
            self._script.extend(replies)

    def release(self) -> None:
        """Let every hanging connection end."""
        self._released.set()

    def sent(self, method: str = "chat.postMessage") -> list[Call]:
        """The calls of a method that were carried out, in order."""
        return [call for call in self.calls if call.method == method and not call.error]

    def top(self) -> list[dict[str, Any]]:
        """The channel as a person sees it: messages outside threads, as they now stand."""
        return [message for message in self.messages.values() if not message.get("thread_ts")]

    def thread(self, ts: str) -> list[dict[str, Any]]:
        """The replies in a thread, in order."""
        return [message for message in self.messages.values() if message.get("thread_ts") == ts]

    def handle(self, method: str, body: dict[str, Any], token: str) -> Reply:
        with self._lock:
            if self._script:
                reply = self._script.popleft()
                self.calls.append(Call(method, body, token, f"scripted {reply.status}"))
                return reply
            seconds = self.rates.wait(method) if self.rates is not None else 0.0
            if seconds:
                self.calls.append(Call(method, body, token, "ratelimited"))
                return rate_limit(math.ceil(seconds))
            error, answer = self._carry_out(method, body, token)
            self.calls.append(Call(method, body, token, error, str(answer.get("ts", ""))))
            return Reply(
                body=json.dumps({"ok": not error, **({"error": error} if error else {}), **answer}).encode()
            )

    def take(self, file_id: str, data: bytes) -> Reply:
        """The second step of an upload: bytes, at an address of their own, from whoever knows it."""
        with self._lock:
            if self._script:
                return self._script.popleft()
            wanted = self._uploads.get(file_id)
            if wanted is None:
                return Reply(404, b"not found")
            if len(data) != wanted["length"]:
                return Reply(400, b"length differs from what was announced")
            wanted["data"] = data
            return Reply(200, f"OK - {len(data)}".encode())

    def _carry_out(self, method: str, body: dict[str, Any], token: str) -> tuple[str, dict[str, Any]]:
        if token != TOKEN:
            return ("invalid_auth" if token else "not_authed"), {}
        if method == "auth.test":
            return "", {"user": "sentinel", "team": "stub"}
        needed = "files:write" if method.startswith("files.") else "chat:write"
        if needed not in self.scopes:
            return "missing_scope", {"needed": needed, "provided": ",".join(sorted(self.scopes))}
        if method == "files.getUploadURLExternal":
            return self._announce(body)
        if method == "files.completeUploadExternal":
            return self._share(body)
        error, reasons = _content_error(body)
        if error:
            self.refused += [f"{error}: {reason}" for reason in reasons or [""]]
            words = [f"[ERROR] {reason}" for reason in reasons]
            return error, {"errors": reasons, "response_metadata": {"messages": words}}
        if method == "chat.postMessage":
            return self._post(body)
        if method == "chat.update":
            return self._update(body)
        return "unknown_method", {}

    def _announce(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if not body.get("filename") or not str(body.get("length", "")).isdigit() or int(body["length"]) == 0:
            return "invalid_arguments", {}
        if len(body.get("alt_txt", "")) > 1000:
            return "alt_txt_too_large", {}
        file_id = f"F{len(self._uploads) + 1:010d}"
        self._uploads[file_id] = {**body, "length": int(body["length"])}
        return "", {"upload_url": self.url.replace("/api/", f"/upload/{file_id}"), "file_id": file_id}

    def _share(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if body.get("channel_id") != CHANNEL_ID:  # an id: it knows no names
            return "channel_not_found", {}
        thread = str(body.get("thread_ts", ""))
        if thread not in self.messages or self.messages[thread].get("thread_ts"):
            return "invalid_thread_ts", {}
        shared = []
        for each in json.loads(body["files"]):
            announced = self._uploads.get(each["id"], {})
            if "data" not in announced:
                return "file_not_found", {}
            alt_txt = announced.get("alt_txt", "")
            self.files.append(File(announced["data"], announced["filename"], each["title"], alt_txt, thread))
            shared.append({"id": each["id"], "title": each["title"]})
        return "", {"files": shared}

    def _post(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if body.get("channel") not in {CHANNEL_ID, CHANNEL_NAME}:
            return "channel_not_found", {}
        parent = body.get("thread_ts")
        if parent is not None and (parent not in self.messages or self.messages[parent].get("thread_ts")):
            return "thread_not_found", {}
        self._note_living(body, parse=body.get("parse", "none"))
        ts = f"1700000000.{len(self.messages) + 1:06d}"
        self.messages[ts] = {**body, "ts": ts, "channel": CHANNEL_ID}
        return "", {"ts": ts, "channel": CHANNEL_ID, "message": self.messages[ts]}

    def _update(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if body.get("channel") != CHANNEL_ID:  # an id: chat.update knows no names
            return "channel_not_found", {}
        known = self.messages.get(str(body.get("ts")))
        if known is None:
            return "message_not_found", {}
        self._note_living(body, parse=body.get("parse", "client"))
        known.update({"text": body.get("text"), "blocks": body.get("blocks", [])})
        return "", {"ts": known["ts"], "channel": CHANNEL_ID, "text": known["text"]}

    def _note_living(self, body: dict[str, Any], parse: str) -> None:
        texts: list[dict[str, Any]] = [
            {"type": "mrkdwn", "text": body.get("text") or "", "verbatim": parse == "none"}
        ]
        texts += [text for block in body.get("blocks") or [] for text in block_texts(block)]
        for text in texts:
            if text["type"] != "mrkdwn":
                continue  # plain_text is shown as it stands
            outside_code = re.sub(r"`[^`\n]*`", "", text["text"])
            loose = not text.get("verbatim") and _NAMES.search(outside_code)
            if _ALIVE.search(text["text"]) or loose:
                self.alive.append(text["text"])


def block_texts(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every text object of a block."""
    if block.get("type") == "rich_text":
        for part in block.get("elements", ()):
            yield from ({"type": "plain_text", "text": each["text"]} for each in part.get("elements", ()))
        return
    if "text" in block:
        yield block["text"]
    yield from block.get("fields", ())
    for element in block.get("elements", ()):
        yield element["text"] if isinstance(element.get("text"), dict) else element


def block_errors(blocks: list[dict[str, Any]]) -> list[str]:
    """Say which of Slack's limits these blocks break, in Slack's words, with its pointers."""
    found = []
    if len(blocks) > 50:
        found.append("no more than 50 items allowed [json-pointer:/blocks]")
    names = [block["block_id"] for block in blocks if "block_id" in block]
    if len(names) != len(set(names)) or any(not 1 <= units(name) <= 255 for name in names):
        found.append("block_id must be unique and of 1 to 255 characters [json-pointer:/blocks]")
    for place, block in enumerate(blocks):
        found += [f"{what} [json-pointer:/blocks/{place}{where}]" for where, what in _block_errors(block)]
    return found


_MOST_IN = {"context": 10, "actions": 25}
_LONGEST = {"header": 150, "section": 3000, "context": 3000}


def _block_errors(block: dict[str, Any]) -> Iterator[tuple[str, str]]:
    kind = str(block.get("type"))
    if kind not in {"header", "section", "context", "divider", "actions", "rich_text"}:
        yield "/type", f"unsupported type: {kind}"
        return
    if kind == "header":
        yield from _text_errors(block.get("text"), "/text", 150, plain=True)
    if kind == "section":
        if not ("text" in block or block.get("fields")):
            yield "", "missing required field: text"
        if "text" in block:
            yield from _text_errors(block["text"], "/text", 3000)
        if len(block.get("fields", ())) > 10:
            yield "/fields", "no more than 10 items allowed"
        for place, text in enumerate(block.get("fields", ())):
            yield from _text_errors(text, f"/fields/{place}", 2000)
    if kind in _MOST_IN and not 1 <= len(block.get("elements", ())) <= _MOST_IN[kind]:
        yield "/elements", f"must have 1 to {_MOST_IN[kind]} items"
    if kind == "context":
        for place, text in enumerate(block.get("elements", ())):
            yield from _text_errors(text, f"/elements/{place}", 3000)
    if kind == "actions":
        names = [element.get("action_id", "") for element in block.get("elements", ())]
        if len(names) != len(set(names)) or any(units(name) > 255 for name in names):
            yield "/elements", "action_id must be unique and of at most 255 characters"
        for place, element in enumerate(block.get("elements", ())):
            if element.get("type") != "button":
                yield f"/elements/{place}/type", f"unsupported type: {element.get('type')}"
            yield from _text_errors(element.get("text"), f"/elements/{place}/text", 75, plain=True)
            if units(element.get("value", "")) > 2000:
                yield f"/elements/{place}/value", "must be less than 2001 characters"
    if kind == "rich_text":
        for place, part in enumerate(block.get("elements", ())):
            if part.get("type") not in {"rich_text_section", "rich_text_preformatted"}:
                yield f"/elements/{place}/type", f"unsupported type: {part.get('type')}"
            for each in part.get("elements", ()):
                if each.get("type") != "text" or not each.get("text"):
                    yield f"/elements/{place}/elements", "must be text elements that are not empty"


def _text_errors(text: Any, where: str, limit: int, *, plain: bool = False) -> Iterator[tuple[str, str]]:
    if not isinstance(text, dict) or not isinstance(text.get("text"), str):
        yield where, "failed to match all allowed schemas"
        return
    allowed = {"plain_text"} if plain else {"plain_text", "mrkdwn"}
    if text.get("type") not in allowed or ("emoji" in text and text["type"] == "mrkdwn"):
        yield f"{where}/type", f"unsupported type: {text.get('type')}"
    if not 1 <= units(text["text"]) <= limit:
        yield (
            f"{where}/text",
            f"must be less than {limit + 1} characters" if text["text"] else "must be more than 0 characters",
        )


def units(text: str) -> int:
    """Length in UTF-16 units; lone surrogates raise, as a JSON parser would."""
    return len(text.encode("utf-16-le")) // 2


def _content_error(body: dict[str, Any]) -> tuple[str, list[str]]:
    blocks = body.get("blocks") or []
    if not body.get("text") and not blocks:
        return "no_text", []
    if units(body.get("text") or "") > 4000:  # 40 000 are cut; who keeps to the advice loses nothing
        return "msg_too_long", []
    reasons = block_errors(blocks)
    if reasons:
        return "invalid_blocks", reasons
    if sum(units(text["text"]) for block in blocks for text in block_texts(block)) > MOST_TOGETHER:
        return "msg_blocks_too_long", []
    return "", []


class _Handler(BaseHTTPRequestHandler):
    server_stub: SlackStub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        place, _, name = self.path.rpartition("/")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if place == "/upload":
            assert not token, "the bytes of a file are sent without the token"
            reply = self.server_stub.take(name, raw)
        else:
            reply = self.server_stub.handle(name, self._body(raw), token)
        self.close_connection = True
        if reply.hang:
            self.server_stub._released.wait(60)
            return
        if reply.drop:
            return
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(reply.body)

    def do_GET(self) -> None:
        self.server_stub.asked_with.append((self.headers.get("Authorization") or "").removeprefix("Bearer "))
        self.send_error(405)

    def _body(self, raw: bytes) -> dict[str, Any]:
        if "json" in self.headers.get("Content-Type", ""):
            return json.loads(raw) if raw else {}
        return dict(parse_qsl(raw.decode()))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """Say nothing: a test's output is the test's."""


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlackStub]:
    """A Slack of one's own; without the environment's proxies, which would be asked for loopback too."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with SlackStub() as stub:
        yield stub
