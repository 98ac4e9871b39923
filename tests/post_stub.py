"""A loopback HTTP server that takes posts, keeps them, and fails on request.

    with PostStub() as server:
        server.script(Reply(503))
        ...
        assert server.posts[0].body == b"..."

In a test module: `from tests.post_stub import server` (a pytest fixture).
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import pytest

from tests.slack_stub import Reply

KEY = "thekeyintheaddress"


@dataclass(frozen=True)
class Post:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class PostStub:
    """The server; a context manager. `slow` makes an answer dribble, a byte at a time, for ever."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self._script: deque[Reply | str] = deque()
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
        """Stop; also used to test a server that has gone away."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """An address with a key in it, which nobody may repeat."""
        return f"http://127.0.0.1:{self.port}/hook/{KEY}"

    def script(self, *replies: Reply | str) -> None:
        """Answer the next calls with these, "slow" for an answer without an end; after them it takes all."""
        self._script.extend(replies)

    def handle(self, post: Post) -> Reply | str:
        self.posts.append(post)
        return self._script.popleft() if self._script else Reply(200, b"{}")


class _Handler(BaseHTTPRequestHandler):
    server_stub: PostStub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        post = Post(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        reply = self.server_stub.handle(post)
        self.close_connection = True
        if isinstance(reply, str):
            self._dribble()
            return
        if reply.hang:
            self.server_stub._released.wait(60)
            return
        if reply.drop:
            return
        with suppress(OSError):  # the other side has hung up
            self._say(reply)

    def _say(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(reply.body)

    def _dribble(self) -> None:
        with suppress(OSError):  # the other side has hung up, which is what is tested
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not self.server_stub._released.wait(0.05):
                self.wfile.write(b"x")
                self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """Say nothing: a test's output is the test's."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostStub]:
    """A server of one's own; without the environment's proxies, which would be asked for loopback too."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with PostStub() as stub:
        yield stub
