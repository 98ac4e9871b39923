"""Slack's Socket Mode: what people press and write comes in over a WebSocket that we open; no port is.

One thread reads, another pings, answers and tidies up; neither is the sentinel's own. slack_sdk's connection
is used, and not its client: that one reconnects without a pause, sleeps where it is told to stay away, and
keeps threads alive that outlast a process's end.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from slack_sdk import WebClient
from slack_sdk.errors import SlackClientNotConnectedError
from slack_sdk.proxy_env_variable_loader import load_http_proxy_from_env
from slack_sdk.socket_mode.builtin.connection import Connection, ConnectionState

from notifier.base import DeliveryError, Permanent
from notifier.slack import SlackNotifier

PING_EVERY = 5.0
"""Seconds between two pings of ours; Slack pings too, and is answered."""

STALE_AFTER = 25.0
"""Seconds without a pong, or before the server has said hello, after which a connection is given up."""

STEADY_AFTER = 10.0
"""Seconds that a connection has to hold before the next one is opened without a pause."""

FIRST_DELAY = 1.0
"""Seconds of the first such pause; doubled with each further failure."""

MAX_DELAY = 60.0
"""Seconds; the longest pause between two attempts to connect. Slack refreshes a connection every few hours.
"""

_SEEN = 1000  # envelopes remembered, so that one that comes twice is heard once
_WAITING = 100  # replies that may wait to be sent; the rest is dropped


@dataclass(frozen=True, slots=True)
class Envelope:
    """One thing that Slack delivers; `kind` is interactive, events_api, …"""

    id: str
    kind: str
    payload: Mapping[str, Any]


class SlackSocket:
    """One app's connection, kept up by a thread of its own. Needs an app-level token with connections:write.

    Attributes:
        trouble: why it is not connected; "" while it is.
        dead: nothing will connect until a person changes something.
    """

    def __init__(
        self,
        app_token_env: str,
        hear: Callable[[Envelope], None],
        tidy: Callable[[], None],
        monotonic: Callable[[], float],
        *,
        environ: Mapping[str, str] = os.environ,
        base_url: str | None = None,
        say: Callable[[str], object] = lambda _text: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Read the token; nothing is opened before `start`.

        Args:
            app_token_env: name of the variable that holds the app-level token.
            hear: takes an envelope, within a second or so: it is acknowledged after that.
            tidy: called about once a second from the second thread; may take its time.
            monotonic: seconds from any origin.
            environ: the environment.
            base_url: where the Web API is; a test puts its own server here.
            say: told in one line when it cannot connect and when it can again.
            jitter: returns a number in [0, 1).

        Raises:
            Permanent: the variable holds no app-level token.
        """
        if not environ.get(app_token_env, "").strip().startswith("xapp-"):
            raise Permanent(
                f"slack: {app_token_env} holds no app-level token (xapp-…, scope connections:write)",
                channel_dead=True,
            )
        base = base_url or WebClient.BASE_URL
        self._api = SlackNotifier("-", app_token_env, environ=environ, base_url=base)
        self._ours = base != WebClient.BASE_URL
        self._name = app_token_env
        self._hear, self._tidy, self._say = hear, tidy, say
        self._monotonic, self._jitter = monotonic, jitter
        self._silent = logging.Logger("notifier.slack_socket", level=logging.CRITICAL + 1)
        self._stopping = threading.Event()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._replies: deque[Callable[[], None]] = deque(maxlen=_WAITING)
        self._connection: Connection | None = None
        self._state = ConnectionState()  # type: ignore[no-untyped-call]  # slack_sdk's own
        self._alive_at = self._greeted_at = -math.inf
        self._ponged: float | None = None
        self._refresh = False
        self._failures = 0
        self._told = ""
        self.trouble = "not connected yet"
        self.dead = False
        # Daemons, because a call that hangs must not keep the sentinel from ending.
        self._threads = [
            threading.Thread(target=work, name=f"slack-{name}", daemon=True)
            for name, work in (("socket", self._keep_connected), ("desk", self._keep_alive))
        ]

    def __repr__(self) -> str:
        return f"SlackSocket(app_token_env={self._name!r})"

    def start(self) -> None:
        """Connect, and stay connected until `close`."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Let go; waits for no call that hangs."""
        self._stopping.set()
        self._hang_up()

    def later(self, reply: Callable[[], None]) -> None:
        """Have something done by the second thread: a call to Slack that must not hold up an envelope."""
        self._replies.append(reply)

    # ── the reading thread ──

    def _keep_connected(self) -> None:
        while not self._stopping.is_set():
            began = self._monotonic()
            wait, why = self._session()
            if self._stopping.is_set():
                return
            steady = self._greeted_at >= began and self._monotonic() - began >= STEADY_AFTER
            self._failures = 0 if steady else self._failures + 1
            if self.dead:
                self._trouble(why)
                return
            if not steady:
                if not (self._refresh and self._failures == 1):
                    self._trouble(why)
                delay = min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(self._failures - 1, 10)) * (
                    1.0 + 0.5 * self._jitter()
                )
                wait = max(wait, 0.2 if self._refresh and self._failures == 1 else delay)
            self._stopping.wait(wait)

    def _session(self) -> tuple[float, str]:
        """Connect once and read to the end; returns how long to stay away at least, and why it ended."""
        self._refresh = False
        try:
            found = self._api.call("apps.connections.open", {}, form=True)
        except DeliveryError as error:
            self.dead = isinstance(error, Permanent) and error.channel_dead
            reason = error.reason.replace("a valid bot token", "a valid app-level token (xapp-…)")
            return getattr(error, "retry_after", None) or 0.0, reason
        url = str(found.get("url"))
        if not self._is_fit(url):
            return 0.0, "slack: apps.connections.open: the answer names no wss:// address"
        ended: list[str] = []
        self._state = state = ConnectionState()  # type: ignore[no-untyped-call]  # as above
        self._connection = connection = Connection(
            url,
            self._silent,
            proxy=load_http_proxy_from_env(self._silent) if not self._ours else None,
            receive_buffer_size=1 << 16,
            on_message_listener=self._take,
            on_error_listener=lambda error: self._end(ended, type(error).__name__),
            on_close_listener=lambda code, _reason: self._end(ended, f"closed with {code}"),
        )
        self._alive_at, self._ponged = self._monotonic(), None
        connection.connect()
        if connection.sock is not None and not self._stopping.is_set():
            connection.sock = _Ending(connection.sock)  # type: ignore[assignment]  # all that is used of a socket
            connection.run_until_completion(state)
        self._connection = None
        connection.disconnect()
        return 0.0, f"slack: the connection ended ({ended[0] if ended else 'without a reason'})"

    def _end(self, ended: list[str], why: str) -> None:
        # What slack_sdk goes on after has lost the bounds of its messages; unacknowledged ones come again.
        ended.append(why)
        self._state.terminated = True

    def _is_fit(self, url: str) -> bool:
        # On a port of its own slack_sdk's connection speaks without TLS, "only for library testing".
        try:
            parts = urlsplit(url)
            return self._ours or (
                parts.scheme == "wss" and bool(parts.hostname) and parts.port in (None, 443)
            )
        except ValueError:
            return False

    def _take(self, text: str) -> None:
        """Take one message of the server: hear it unless it was heard before, and acknowledge it."""
        self._alive_at = self._monotonic()
        try:
            body = json.loads(text)
        except ValueError:
            return
        if not isinstance(body, dict):
            return
        match body.get("type"):
            case "hello":
                self._greeted_at = self._monotonic()
                if self.trouble:
                    if self._failures >= 2:
                        self._say("slack: connected again; buttons and mentions are heard")
                    self.trouble = ""
            case "disconnect":
                self._refresh = True
                self._state.terminated = True
            case kind:
                identity = body.get("envelope_id")
                if isinstance(identity, str) and identity:
                    self._deliver(identity, str(kind), body.get("payload"))

    def _deliver(self, identity: str, kind: str, payload: object) -> None:
        if identity not in self._seen and isinstance(payload, dict):
            try:
                self._hear(Envelope(identity, kind, payload))
            except Exception as error:  # noqa: BLE001  whatever a payload brings about must not end the thread
                # Not acknowledged, so that Slack shows the person that it did not work.
                self._tell(f"slack: what came in could not be taken ({type(error).__name__})")
                return
        self._seen[identity] = None
        while len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        connection = self._connection
        if connection is not None:
            try:
                connection.send(json.dumps({"envelope_id": identity}))
            except (SlackClientNotConnectedError, OSError):
                self._state.terminated = True  # not acknowledged, so it comes again, and is known then

    def _trouble(self, why: str) -> None:
        if self._failures == 2 or self.dead:  # once may happen to anybody
            rest = "until the sentinel is started again" if self.dead else "it is tried again"
            self._say(f"{why}; buttons and mentions are not heard, {rest}. `sentinel approve` works.")
        self.trouble = why

    # ── the other thread ──

    def _keep_alive(self) -> None:
        pinged = tidied = -math.inf
        while not self._stopping.wait(0.1):
            now = self._monotonic()
            if now - pinged >= PING_EVERY:
                pinged = now
                self._ping(now)
            while self._replies and not self._stopping.is_set():
                self._safely(self._replies.popleft())
            if now - tidied >= 1.0:
                tidied = now
                self._safely(self._tidy)

    def _ping(self, now: float) -> None:
        """Ping, and give up a connection that is there and does not answer."""
        connection = self._connection
        if connection is None or not connection.is_active():
            return
        if connection.last_ping_pong_time != self._ponged:
            self._ponged, self._alive_at = connection.last_ping_pong_time, now
        if now - self._alive_at > STALE_AFTER:
            self._state.terminated = True
            self._hang_up()
            return
        connection.check_state()
        if not connection.is_active():
            self._state.terminated = True

    def _safely(self, deed: Callable[[], None]) -> None:
        try:
            deed()
        except DeliveryError as error:
            self._tell(error.reason)
        except Exception as error:  # noqa: BLE001  this thread pings: it must outlive whatever it is given to do
            self._tell(f"slack: a reply failed ({type(error).__name__})")

    def _tell(self, text: str) -> None:
        """Say what went wrong, once for as long as it is the same."""
        if text != self._told:
            self._told = text
            self._say(text)

    def _hang_up(self) -> None:
        """End the connection from the other thread, without waiting for the one that reads."""
        connection = self._connection
        sock: Any = connection.sock if connection is not None else None
        if isinstance(sock, _Ending):
            sock.hang_up()


class _Ending:
    """A socket that says when the other side has closed: slack_sdk would read nothing, at full speed."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def recv(self, size: int) -> bytes:
        data: bytes = self._inner.recv(size)
        if not data:
            raise ConnectionResetError("closed by the other side")
        return data

    def send(self, data: bytes) -> None:
        self._inner.sendall(data)

    def close(self) -> None:
        self._inner.close()

    def hang_up(self) -> None:
        with suppress(OSError):
            self._inner.shutdown(socket.SHUT_RDWR)
