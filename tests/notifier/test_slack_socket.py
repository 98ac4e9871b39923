"""Socket Mode against a real WebSocket server, through slack_sdk's own connection."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from notifier import slack_socket
from notifier.base import Permanent
from notifier.slack_socket import Envelope, SlackSocket
from tests.slack_stub import Reply, refusal
from tests.socket_stub import APP_TOKEN, SocketStub

PATIENCE = 10.0

pytestmark = pytest.mark.filterwarnings(
    # slack_sdk leaves the socket of a handshake that failed to the garbage collector.
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def until(look: Callable[[], Any], what: str) -> None:
    """Look until there is something."""
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack_socket, "FIRST_DELAY", 0.1)


@pytest.fixture
def slack() -> Iterator[SocketStub]:
    with SocketStub() as stub:
        yield stub


class Listener:
    """A socket, what it has heard and what it has said."""

    def __init__(self, slack: SocketStub, **changes: Any) -> None:
        self.heard: list[Envelope] = []
        self.said: list[str] = []
        self.socket = SlackSocket(
            "SLACK_APP_TOKEN",
            self.heard.append,
            lambda: None,
            time.monotonic,
            environ=changes.pop("environ", slack.environ),
            base_url=slack.url,
            say=self.said.append,
            jitter=lambda: 0.0,
        )
        self.socket.start()

    def close(self) -> None:
        self.socket.close()
        for thread in self.socket._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), thread.name


@pytest.fixture
def listener(slack: SocketStub) -> Iterator[Listener]:
    made = Listener(slack)
    try:
        until(lambda: slack.connected and not made.socket.trouble, "hello")
        yield made
    finally:
        made.close()


def test_an_envelope_is_heard_and_acknowledged(slack: SocketStub, listener: Listener) -> None:
    """Within much less than the three seconds that Slack waits."""
    identity = slack.send("interactive", {"type": "block_actions", "long": "x" * 50_000})
    assert slack.acknowledged.get(timeout=3.0) == identity
    assert [(e.id, e.kind, e.payload["type"]) for e in listener.heard] == [
        (identity, "interactive", "block_actions")
    ]


def test_what_comes_twice_is_acknowledged_twice_and_heard_once(slack: SocketStub, listener: Listener) -> None:
    """Slack sends again what it has no acknowledgement of."""
    slack.send("events_api", {"n": 1}, identity="same")
    slack.send("events_api", {"n": 1}, identity="same", retry_attempt=1, retry_reason="timeout")
    assert [slack.acknowledged.get(timeout=3.0) for _ in range(2)] == ["same", "same"]
    assert len(listener.heard) == 1


def test_a_refresh_opens_another_connection_at_once(slack: SocketStub, listener: Listener) -> None:
    """And nothing that comes on it is lost, nor is anybody told."""
    slack.disconnect()
    until(lambda: slack.connected == 2, "the second connection")
    identity = slack.send("interactive", {"type": "x"})
    assert slack.acknowledged.get(timeout=3.0) == identity
    assert listener.said == []


def test_a_dropped_connection_is_made_anew_and_costs_no_processor(
    slack: SocketStub, listener: Listener
) -> None:
    """The other side vanishes without a word: slack_sdk alone would read nothing for ever, at full speed."""
    began = time.process_time()
    slack.connections[-1].socket.shutdown(2)
    until(lambda: slack.connected == 2, "the second connection")
    assert time.process_time() - began < 1.0
    until(lambda: not listener.socket.trouble, "hello")


def test_what_could_not_be_taken_is_not_acknowledged(slack: SocketStub, listener: Listener) -> None:
    """So Slack shows the person that it did not work; nothing ends, and it is said once."""
    hear = listener.socket._hear
    stumbled: list[Envelope] = []

    def stumble(envelope: Envelope) -> None:
        stumbled.append(envelope)
        raise KeyError("surprise")

    listener.socket._hear = stumble
    slack.send("interactive", {}, identity="one")
    slack.send("interactive", {}, identity="two")
    until(lambda: listener.said and len(stumbled) == 2, "it is said")
    listener.socket._hear = hear
    slack.send("interactive", {}, identity="one")
    assert slack.acknowledged.get(timeout=3.0) == "one"
    assert [envelope.id for envelope in listener.heard] == ["one"]
    assert listener.said == ["slack: what came in could not be taken (KeyError)"]


def test_a_wrong_token_is_told_once_and_not_tried_again(slack: SocketStub) -> None:
    """Nothing of it is in what is said."""
    made = Listener(slack, environ={"SLACK_APP_TOKEN": "xapp-wrong-secret"})
    try:
        until(lambda: made.socket.dead, "it gives up")
        until(lambda: made.said, "and says so")
        assert slack.opened == 1
        assert "invalid_auth" in made.said[0]
        assert "app-level token" in made.said[0]
        assert "wrong-secret" not in "".join(made.said) + repr(made.socket)
    finally:
        made.close()


@pytest.mark.parametrize("held", ["", "xoxb-a-bot-token"])
def test_a_variable_without_an_app_level_token_is_refused_by_its_name(slack: SocketStub, held: str) -> None:
    """What it holds is not repeated."""
    with pytest.raises(Permanent) as raised:
        SlackSocket("SLACK_APP_TOKEN", print, lambda: None, time.monotonic, environ={"SLACK_APP_TOKEN": held})
    assert "SLACK_APP_TOKEN" in raised.value.reason
    assert not held or held not in raised.value.reason


def test_a_server_in_trouble_is_asked_again_and_that_is_said(slack: SocketStub) -> None:
    """With a pause that doubles; what it asks for counts."""
    slack.script(refusal("internal_error"), Reply(500, b"no"))
    made = Listener(slack)
    try:
        until(lambda: slack.connected == 1, "the third attempt")
        assert [text for text in made.said if "HTTP 500" in text]
        until(lambda: any("connected again" in text for text in made.said), "and that it is well again")
    finally:
        made.close()


def mute_server() -> tuple[socket.socket, str]:
    """A server that shakes hands and then neither says anything nor answers a ping."""
    server = socket.create_server(("127.0.0.1", 0))

    def shake() -> None:
        connection, _ = server.accept()
        asked = connection.recv(4096).decode()
        key = asked.split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # noqa: S324  RFC 6455 says so
        accept = base64.b64encode(digest).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        connection.sendall("\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", "", ""]).encode())
        while connection.recv(4096):
            pass
        connection.close()

    threading.Thread(target=shake, daemon=True).start()
    return server, f"ws://127.0.0.1:{server.getsockname()[1]}/"


def test_a_server_that_hangs_is_given_up(slack: SocketStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and says nothing, neither hello nor pong: another one is opened."""
    monkeypatch.setattr(slack_socket, "STALE_AFTER", 0.5)
    monkeypatch.setattr(slack_socket, "PING_EVERY", 0.2)
    server, url = mute_server()
    slack.script(Reply(body=json.dumps({"ok": True, "url": url}).encode()))
    made = Listener(slack)
    try:
        until(lambda: slack.connected == 1, "one that speaks")
    finally:
        made.close()
        server.close()


def test_only_slacks_own_tls_port_is_connected_to(slack: SocketStub) -> None:
    """On another port slack_sdk would speak without TLS; an answer that names one is not followed."""
    made = SlackSocket("SLACK_APP_TOKEN", print, lambda: None, time.monotonic, environ=slack.environ)
    fits = [made._is_fit(url) for url in ("wss://wss-primary.slack.com/link", "wss://x:443/")]
    wrong = [
        made._is_fit(url)
        for url in ("ws://wss.slack.com/", "wss://x:8443/", "wss://", "https://x/", "wss://x:y/")
    ]
    assert (fits, wrong) == ([True, True], [False] * 5)


def test_pings_are_answered(slack: SocketStub, listener: Listener) -> None:
    """Slack closes a connection whose pings stay unanswered."""
    answered = slack.connections[-1].ping(b"are you there")
    assert answered.wait(PATIENCE)


def test_no_token_and_no_ticket_is_logged_by_the_library(
    slack: SocketStub, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG slack_sdk would tell addresses, and those hold a ticket."""
    caplog.set_level(logging.DEBUG)
    made = Listener(slack)
    try:
        until(lambda: slack.connected == 1, "hello")
        slack.connections[-1].socket.shutdown(2)
        until(lambda: slack.connected == 2, "hello again")
    finally:
        made.close()
    mine = [r for r in caplog.records if not r.name.startswith("websockets")]
    assert APP_TOKEN not in "".join(r.getMessage() for r in mine) + "".join(made.said)
    assert "secret-ticket" not in "".join(r.getMessage() for r in mine) + "".join(made.said)
