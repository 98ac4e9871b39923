"""Slack's Web API stub with Socket Mode: apps.connections.open, and a real WebSocket server behind it.

It speaks to slack_sdk's real connection. What it sends is shaped as docs.slack.dev has it (apis/events-api/
using-socket-mode, reference/interaction-payloads/block_actions-payload).

    with SocketStub() as slack:
        ...                      # start what is to be tested
        slack.press(message, "act", user="U0ADA")
        slack.mention("status", user="U0ADA")
"""

from __future__ import annotations

import json
import queue
import threading
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from tests.slack_stub import CHANNEL_ID, Reply, SlackStub

APP_TOKEN = "xapp-1-A0-2222-theappsecretofthestub"
TEAM, BOT, APP = "T0STUB", "U0BOT", "A0STUB"


class SocketStub(SlackStub):
    """The server; a context manager. Attributes are safe to read from the test's thread."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledged: queue.Queue[str] = queue.Queue()
        self.whispers: list[dict[str, Any]] = []
        self.connected = 0
        self.opened = 0
        self.greets = True
        self.connections: list[ServerConnection] = []
        self._numbers = iter(range(1, 10_000))
        self._socket: Server = serve(self._talk, "127.0.0.1", 0)
        self._speaker = threading.Thread(target=self._socket.serve_forever, daemon=True)
        self._speaker.start()

    @property
    def environ(self) -> dict[str, str]:
        """An environment that holds both tokens."""
        return {**super().environ, "SLACK_APP_TOKEN": APP_TOKEN}

    def close(self) -> None:
        """Stop both servers."""
        self._socket.shutdown()
        self._speaker.join(5)
        super().close()

    def handle(self, method: str, body: dict[str, Any], token: str) -> Reply:
        """Know the app-level token's one method besides."""
        if method == "apps.connections.open" and not self._script:
            self.opened += 1
            port = self._socket.socket.getsockname()[1]
            ok: dict[str, Any] = {
                "ok": True,
                "url": f"ws://127.0.0.1:{port}/link/?ticket=secret-ticket&app_id=a",
            }
            answer = ok if token == APP_TOKEN else {"ok": False, "error": "invalid_auth"}
            self.script(_reply(answer))
        return super().handle(method, body, token)

    def _carry_out(self, method: str, body: dict[str, Any], token: str) -> tuple[str, dict[str, Any]]:
        error, answer = super()._carry_out(method, body, token)
        if method == "auth.test" and not error:
            return "", {**answer, "team_id": TEAM, "user_id": BOT}
        if method == "chat.postEphemeral" and error == "unknown_method":
            self.whispers.append(body)
            return "", {"message_ts": "1.0"}
        return error, answer

    # ── Slack's side of the socket ──

    def _talk(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        if self.greets:
            self.connected += 1
            connection.send(json.dumps({"type": "hello", "num_connections": 1, "debug_info": {}}))
        try:
            for text in connection:
                said = json.loads(text)
                if "envelope_id" in said:
                    self.acknowledged.put(said["envelope_id"])
        except ConnectionClosed:
            return

    def send(self, kind: str, payload: dict[str, Any], *, identity: str = "", **more: Any) -> str:
        """Deliver an envelope on the newest connection; returns its id."""
        identity = identity or f"envelope-{next(self._numbers)}"
        body = {"type": kind, "envelope_id": identity, "payload": payload, "accepts_response_payload": False}
        self.connections[-1].send(json.dumps({**body, **more}))
        return identity

    def disconnect(self, reason: str = "refresh_requested") -> None:
        """Ask for another connection, as Slack does every few hours."""
        self.connections[-1].send(json.dumps({"type": "disconnect", "reason": reason, "debug_info": {}}))

    def press(self, message: dict[str, Any], choice: str, user: str = "U0ADA", **changes: Any) -> str:
        """Press a button of a message as it stands; `changes` are made to the action."""
        button, block = find_button(message, choice)
        team = changes.pop("team", TEAM)
        identity = changes.pop("identity", "")
        more = changes.pop("more", {})
        action = {
            "type": "button",
            "action_id": button["action_id"],
            "block_id": block["block_id"],
            "value": button["value"],
            "action_ts": "1700000000.1",
            **changes,
        }
        payload = {
            "type": "block_actions",
            "user": {"id": user, "username": user.lower(), "name": user.lower(), "team_id": team},
            "api_app_id": APP,
            "team": {"id": team, "domain": "stub"},
            "container": {"type": "message", "message_ts": message["ts"], "channel_id": CHANNEL_ID},
            "channel": {"id": CHANNEL_ID, "name": "training"},
            "message": message,
            "actions": [action],
        }
        return self.send("interactive", payload, identity=identity, **more)

    def mention(self, text: str, user: str = "U0ADA", *, event: str = "", team: str = TEAM) -> str:
        """Mention the app in the channel."""
        inner = {
            "type": "app_mention",
            "user": user,
            "text": f"<@{BOT}> {text}",
            "ts": "1700000000.000001",
            "channel": CHANNEL_ID,
            "team": team,
        }
        payload = {"team_id": team, "event": inner, "event_id": event or f"Ev{next(self._numbers)}"}
        return self.send("events_api", payload, retry_attempt=0, retry_reason="")


def buttons(message: dict[str, Any]) -> list[str]:
    """The answers that a message has buttons for."""
    found = [b for b in message.get("blocks", ()) if b["type"] == "actions"]
    return [e["action_id"].removeprefix("sentinel-") for block in found for e in block["elements"]]


def find_button(message: dict[str, Any], choice: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The button for an answer, and its block."""
    for block in message["blocks"]:
        for element in block.get("elements", ()) if block["type"] == "actions" else ():
            if element["action_id"] == f"sentinel-{choice}":
                return element, block
    raise AssertionError(f"no button for {choice}")


def _reply(body: dict[str, Any]) -> Reply:
    return Reply(body=json.dumps(body).encode())
