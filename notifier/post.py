"""One HTTP POST: one attempt, over within a known time, following no redirect, telling no address.

The one fact to hold: an address is a secret, since many services put their key into it. So nothing from here
repeats an address, and errors are returned and not raised: raised inside an `except` they would be chained to
one of urllib's that holds it.
"""

from __future__ import annotations

import base64
import http.client
import math
import os
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import IO, Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from notifier.base import DeliveryError, Permanent, Transient

TIMEOUT = 10.0
"""Seconds for the whole of one attempt, from the connection to the end of the answer."""

MAX_ANSWER = 65536
"""Bytes of an answer that are read; the rest is left."""

DEFAULT_RETRY_AFTER = 30.0
"""Seconds to stay away after a 429 that does not say how long."""

MAX_RETRY_AFTER = 3600.0
"""Seconds; who asks for longer is asked after an hour: a server's slip must not be a dead channel."""

PASSING = frozenset({408, 409, 421, 425})
"""Statuses below 500 after which the same call may work later; 409: one with this key is in hand."""

DEAD = frozenset({401, 402, 403, 404, 405, 407, 410, 451})
"""Statuses after which nothing can pass until a person changes something."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side said: status, headers, and the beginning of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Endpoint:
    """An address that is posted to. Its address is in no attribute, so in no repr and no pickle."""

    def __init__(self, who: str, named: str, address: str, *, timeout: float = TIMEOUT) -> None:
        """Take an address; nothing is sent.

        Args:
            who: begins every reason, such as "webhook". named: what holds the address, for reasons.
            address: http or https; `user:password@` becomes an Authorization header.
            timeout: seconds for one attempt.

        Raises:
            Permanent: what was given is no such address.
        """
        self._who = who
        self._named = named
        self._timeout = timeout
        target, headers = _target(who, named, address)
        context = ssl.create_default_context() if target.startswith("https:") else None
        self._open: Callable[[bytes, Mapping[str, str], _Line], Answer] = lambda body, more, line: _exchange(
            target, body, {**headers, **more}, line, timeout, context
        )

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer | Transient:
        """Make one attempt; a failure to get any answer is returned as what to raise."""
        line = _Line(self._timeout)
        try:
            return self._open(body, headers, line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            words = f"no answer within {self._timeout:g} s" if line.cut else _words(error)
        finally:
            line.close()
        return Transient(f"{self._who}: {words}")

    def judge(self, answer: Answer) -> DeliveryError | None:
        """Return what an answer means: None where the message was taken."""
        return judge(self._who, self._named, answer.status, answer.headers)


def judge(who: str, named: str, status: int, headers: Mapping[str, str]) -> DeliveryError | None:
    """Return what a status means; None where the message was taken. docs/messages.md has the table.

    Args:
        who: begins the reason. named: the variable to be put right, where it may be wrong.
        status, headers: the answer's.
    """
    said = f"{who}: HTTP {status}"
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        text = f"{said}: a redirect, which is not followed; put the final address into {named}"
        return Permanent(text, channel_dead=True)
    wait = retry_after(headers)
    if status == http.client.TOO_MANY_REQUESTS:
        return Transient(f"{said}: rate limit", DEFAULT_RETRY_AFTER if wait is None else wait)
    if status in PASSING or status >= http.client.INTERNAL_SERVER_ERROR or status < 200:
        return Transient(said, wait)
    if status in DEAD:
        return Permanent(f"{said}; look at {named} and at what it leads to", channel_dead=True)
    return Permanent(f"{said}: it does not take this message")


def variable(who: str, name: str, environ: Mapping[str, str]) -> str:
    """Read a secret from the environment.

    Raises:
        Permanent: the variable is not set, or empty.
    """
    found = environ.get(name, "").strip()
    if not found:
        raise Permanent(f"{who}: {name} is not set", channel_dead=True)
    return found


def bearer(who: str, name: str | None, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the Authorization header for a token that a variable holds; none where none is named.

    Raises:
        Permanent: the variable is not set, or what it holds cannot be sent as a token.
    """
    if name is None:
        return {}
    token = variable(who, name, environ)
    # Checked here, because http.client puts a header that it refuses into its exception.
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise Permanent(f"{who}: what {name} holds is not a token", channel_dead=True)
    return {"Authorization": f"Bearer {token}"}


def retry_after(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """Read `Retry-After`, seconds or a date, as seconds from now; None if missing or without sense."""
    value = next((text for name, text in headers.items() if name.lower() == "retry-after"), None)
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = max(0.0, parsedate_to_datetime(value).timestamp() - now())
        except (ValueError, OverflowError):
            return None
    return min(seconds, MAX_RETRY_AFTER) if math.isfinite(seconds) and seconds >= 0 else None


def _target(who: str, named: str, address: str) -> tuple[str, dict[str, str]]:
    wrong = Permanent(f"{who}: what {named} holds is no http:// or https:// address", channel_dead=True)
    parts = _parsed(address)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise wrong
    host, port = parts.hostname, parts.port
    bare = f"[{host}]" if ":" in host else host
    place = bare if port is None else f"{bare}:{port}"
    headers = {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return urlunsplit((parts.scheme, place, parts.path or "/", parts.query, "")), headers


def _parsed(address: str) -> SplitResult | None:
    if not (address.isascii() and address.isprintable()) or " " in address:
        return None
    with suppress(ValueError):
        parts = urlsplit(address)
        _ = parts.port  # which is where a port that is none is found out
        return parts
    return None


class _Line:
    """The connection of one attempt, cut when its time is up, however slowly the other side speaks."""

    def __init__(self, timeout: float) -> None:
        self.cut = False
        self._closed = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(timeout, self._hang_up)
        self._timer.daemon = True
        self._timer.start()

    def keep(self, connected: socket.socket) -> None:
        """Remember a connection by a descriptor of its own, which TLS does not take away."""
        with self._lock:
            self._sockets.append(connected.dup())

    def close(self) -> None:
        self._timer.cancel()
        with self._lock:
            for each in self._sockets:
                each.close()
            self._sockets.clear()

    def _hang_up(self) -> None:
        with self._lock:
            self.cut = True
            for each in self._sockets:
                with suppress(OSError):  # it has ended by itself
                    each.shutdown(socket.SHUT_RDWR)


def _exchange(
    target: str,
    body: bytes,
    headers: Mapping[str, str],
    line: _Line,
    timeout: float,
    context: ssl.SSLContext | None,
) -> Answer:
    request = urllib.request.Request(target, body, dict(headers), method="POST")  # noqa: S310  checked above
    opener = urllib.request.build_opener(_plain(line) if context is None else _secure(line, context), Stay)
    try:
        answer = opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        if line.cut:  # in the middle of its headers, which http.client takes for their end
            raise TimeoutError
        return Answer(answer.status or 0, dict(answer.headers), _begin(answer))


def _begin(response: IO[bytes]) -> bytes:
    """Read the beginning of a body; the status counts even where the rest does not come."""
    try:
        return response.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException):
        return b""


def _plain(line: _Line) -> urllib.request.HTTPHandler:
    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            line.keep(self.sock)

    class Handler(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Connection, request)

    return Handler()


def _secure(line: _Line, context: ssl.SSLContext) -> urllib.request.HTTPSHandler:
    class Connection(http.client.HTTPSConnection):
        def connect(self) -> None:
            http.client.HTTPConnection.connect(self)
            line.keep(self.sock)  # before the handshake, which may hang too
            name = getattr(self, "_tunnel_host", None) or self.host
            self.sock = context.wrap_socket(self.sock, server_hostname=name)

    class Handler(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Connection, request)

    return Handler(context=context)


class Stay(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the message, and its signature, to another server."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


def _words(error: Exception) -> str:
    """Say what went wrong without what was asked for: texts of these errors may hold the address."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({reason.verify_message})"
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError) and reason.strerror and not isinstance(reason, ssl.SSLError):
        return f"no answer ({type(reason).__name__}: {reason.strerror})"
    return f"no answer ({type(reason if isinstance(reason, Exception) else error).__name__})"
