"""What the sentinel says of itself to those who watch it: to systemd that its loop turns, to a dead man's
switch that it sees and remembers.
"""

from __future__ import annotations

from collections.abc import Callable

from sentinel.config import Settings
from sentinel.ping import Ping
from sentinel.systemd import Supervisor
from sentinel.watcher import Watcher

SAY_EVERY = 5.0
"""Seconds between two words to systemd."""


class LifeSigns:
    """Speaks after each pass; never waits for anybody."""

    def __init__(self, supervisor: Supervisor, settings: Settings, monotonic: Callable[[], float]) -> None:
        self._supervisor = supervisor
        self._monotonic = monotonic
        self._trouble = ""
        self._url: str | None = None
        self._ping: Ping | None = None
        self._said = float("-inf")
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """Ping what the settings name; with the URL that is in use nothing begins anew."""
        url = settings.ping_url
        if url == self._url:
            return
        if self._ping is not None:
            self._ping.close()
        self._url, self._ping = url, Ping(url) if url else None

    def ready(self) -> None:
        """Say that everything is in place."""
        self._supervisor.ready()

    def pulse(self) -> None:
        """Say that the loop turns, if that is due; within a pass that takes long too."""
        now = self._monotonic()
        if now - self._said >= SAY_EVERY:
            self._said = now
            self._supervisor.alive(self._trouble)

    def look(self, watcher: Watcher) -> None:
        """Say what is due after a pass."""
        self._trouble = watcher.lost or (self._ping.trouble if self._ping else "")
        self.pulse()
        if self._ping is not None:
            self._ping.look(self._monotonic(), sees=watcher.sees)

    def close(self) -> None:
        """Say that the end has begun."""
        self._supervisor.stopping()
        if self._ping is not None:
            self._ping.close()
