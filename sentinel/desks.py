"""Whether and where Slack is listened to: follows [notify.slack], also when it changes.

A desk that cannot be opened (no token) is told on standard error, and the sentinel goes on without: questions
are then answered by `sentinel approve`, and the ladder's default follows where nobody does.
"""

# ruff: noqa: PLC0415  imported where it is used: who is not on Slack does not pay for its library

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from notifier.base import Permanent
from notifier.format import neutral
from sentinel.channel_tables import SlackTable
from sentinel.clock import Clock
from sentinel.config import Settings

if TYPE_CHECKING:
    from notifier.slack_socket import Envelope, SlackSocket
    from sentinel.desk import Desk


class Desks:
    """The desks of one sentinel."""

    def __init__(
        self,
        folder: Path,
        logdir: Path,
        clock: Clock,
        say: Callable[[str], object] = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> None:
        """Listen to nothing yet.

        Args:
            folder: of the sentinel's state. logdir: the runs it watches. clock: time.
            say: told of what is in the way, in one line.
        """
        self._folder, self._logdir, self._clock = folder, logdir, clock
        self._say = say
        self._open: dict[str, tuple[SlackTable, SlackSocket]] = {}

    def follow(self, settings: Settings) -> None:
        """Listen where the settings say; what is in use there goes on."""
        channels = settings.service.notify.channels.items()
        wanted = {
            name: table for name, table in channels if isinstance(table, SlackTable) and table.app_token_env
        }
        for name, (table, socket) in list(self._open.items()):
            if wanted.get(name) != table:
                socket.close()
                del self._open[name]
        for name, table in wanted.items():
            if name not in self._open:
                try:
                    self._open[name] = (table, self._listen(name, table))
                except Permanent as error:
                    self._tell(
                        f"{error.reason}; buttons and mentions are not heard. `sentinel approve` works."
                    )

    def close(self) -> None:
        """Let go of all; waits for none."""
        for _, socket in self._open.values():
            socket.close()
        self._open.clear()

    def _listen(self, name: str, table: SlackTable) -> SlackSocket:
        from notifier.slack import SlackNotifier
        from notifier.slack_socket import SlackSocket
        from sentinel.channels import open_channel
        from sentinel.desk import Desk

        chat = open_channel(table)
        assert isinstance(chat, SlackNotifier), "a table of its kind"
        assert table.app_token_env is not None, "asked only where there is one"
        desk = Desk(name, table.approvers, chat, self._folder, self._logdir, self._clock.wall)
        socket = SlackSocket(
            table.app_token_env,
            lambda envelope: _hear(desk, socket, envelope),
            desk.tidy,
            self._clock.monotonic,
            base_url=table.base_url,
            say=self._tell,
        )
        socket.start()
        return socket

    def _tell(self, text: str) -> None:
        self._say(neutral(f"sentinel: {text}"))


def _hear(desk: Desk, socket: SlackSocket, envelope: Envelope) -> None:
    """Let the desk take an envelope, and say later what it has to say."""
    match envelope.kind:
        case "interactive":
            reply = desk.press(envelope.payload)
        case "events_api":
            reply = desk.mention(envelope.payload)
        case _:
            reply = None
    if reply is not None:
        socket.later(reply)
