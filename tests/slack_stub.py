"""A loopback HTTP server that stands in for Slack's Web API: it keeps Slack's limits, and fails on request.

It speaks real HTTP to the real slack_sdk, so what is tested is what runs. It knows chat.postMessage,
chat.update and auth.test; it refuses what Slack refuses (too many blocks, too long texts, a thread that does
not exist, a channel that it does not know, a bad token), and notes every mention or link that would be
live.

    with SlackStub() as slack:
        SlackNotifier("#training", environ=slack.environ, base_url=slack.url).send(message, None)
        assert slack.texts() == [...]

In a test module: `from tests.slack_stub import slack` (a pytest fixture).
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import pytest

TOKEN = "xoxb-1111-2222-thesecretofthestub"
CHANNEL_ID = "C0TRAINING"
CHANNEL_NAME = "#training"

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
class Call:
    """One request as it came in, and what was answered."""

    method: str
    body: dict[str, Any]
    token: str
    error: str  # "" if it was carried out
    ts: str = ""


class SlackStub:
    """The server; a context manager. Attributes are safe to read from the test's thread."""

    def __init__(self) -> None:
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
            error, answer = self._carry_out(method, body, token)
            self.calls.append(Call(method, body, token, error, str(answer.get("ts", ""))))
            return Reply(
                body=json.dumps({"ok": not error, **({"error": error} if error else answer)}).encode()
            )

    def _carry_out(self, method: str, body: dict[str, Any], token: str) -> tuple[str, dict[str, Any]]:
        if token != TOKEN:
            return ("invalid_auth" if token else "not_authed"), {}
        if method == "auth.test":
            return "", {"user": "sentinel", "team": "stub"}
        error = _content_error(body)
        if error:
            return error, {}
        if method == "chat.postMessage":
            return self._post(body)
        if method == "chat.update":
            return self._update(body)
        return "unknown_method", {}

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
    if "text" in block:
        yield block["text"]
    yield from block.get("fields", ())
    yield from block.get("elements", ())


def block_errors(blocks: list[dict[str, Any]]) -> list[str]:
    """Say which of Slack's limits these blocks break; see docs.slack.dev/reference/block-kit/blocks."""
    found = []
    if len(blocks) > 50:
        found.append(f"{len(blocks)} blocks, 50 allowed")
    for block in blocks:
        kind = block.get("type")
        if kind not in {"header", "section", "context", "divider"}:
            found.append(f"unknown block type {kind!r}")
        if kind == "header" and block["text"]["type"] != "plain_text":
            found.append("a header takes plain_text only")
        if kind == "section" and not ("text" in block or block.get("fields")):
            found.append("a section needs a text or fields")
        if len(block.get("fields", ())) > 10 or len(block.get("elements", ())) > 10:
            found.append(f"more than 10 parts in a {kind}")
        limit = {"header": 150, "section": 3000}.get(str(kind), 3000)
        limit = 2000 if "fields" in block else limit
        found += [
            f"{kind}: text of {units(text['text'])} units, 1 to {limit} allowed"
            for text in block_texts(block)
            if not 1 <= units(text["text"]) <= limit
        ]
        found += [
            f"{kind}: text type {text['type']!r}"
            for text in block_texts(block)
            if text["type"] not in {"plain_text", "mrkdwn"} or ("emoji" in text and text["type"] == "mrkdwn")
        ]
    return found


def units(text: str) -> int:
    """Length in UTF-16 units; lone surrogates raise, as a JSON parser would."""
    return len(text.encode("utf-16-le")) // 2


def _content_error(body: dict[str, Any]) -> str:
    blocks = body.get("blocks") or []
    if not body.get("text") and not blocks:
        return "no_text"
    if units(body.get("text") or "") > 40_000:
        return "msg_too_long"
    if block_errors(blocks):
        return "invalid_blocks"
    if sum(units(text["text"]) for block in blocks for text in block_texts(block)) > 13_200:
        return "msg_blocks_too_long"
    return ""


class _Handler(BaseHTTPRequestHandler):
    server_stub: SlackStub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(raw) if raw else {}
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        reply = self.server_stub.handle(self.path.rsplit("/", 1)[-1], body, token)
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

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """Say nothing: a test's output is the test's."""


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlackStub]:
    """A Slack of one's own; without the environment's proxies, which would be asked for loopback too."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with SlackStub() as stub:
        yield stub
