"""A unit file, and the few words that systemd wants to hear of a service of type `notify`.

The watchdog is fed by the loop itself, so systemd starts a sentinel anew whose loop has stopped. What it
cannot see (a disk that is full, a folder that cannot be read) is no reason for that: a new process would see
no more. That is what the ping of a dead man's switch is for.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sentinel.errors import ConfigError

WATCHDOG_SECONDS = 120
"""After so many seconds without a sign systemd kills the sentinel and starts it anew; training goes on."""


class Supervisor:
    """Whoever started us and listens on NOTIFY_SOCKET; without one, nobody, and nothing is said."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Find the socket.

        Args:
            environment: of this process; NOTIFY_SOCKET is a path, or a name that begins with @.
        """
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def ready(self) -> None:
        """Say that everything is in place."""
        self._say("READY=1\nSTATUS=watching")

    def alive(self, trouble: str = "") -> None:
        """Say that the loop turns, and what is in the way, for `systemctl status`."""
        self._say(f"WATCHDOG=1\nSTATUS={trouble.splitlines()[0] if trouble else 'watching'}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._say("STOPPING=1")

    def _say(self, words: str) -> None:
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        # Nobody may be listening any more: no reason to watch less.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as speaker:
            speaker.sendto(words.encode(), self._address)


def unit(arguments: Sequence[str], folder: Path) -> str:
    """Return a unit file for a user's own systemd.

    Args:
        arguments: of `sentinel run`. folder: where it is to run, for relative paths and sentinel.toml.

    Raises:
        ConfigError: a word would not stay on its line.
    """
    for word in (*arguments, str(folder)):
        if not word.isprintable():
            raise ConfigError(f"{word!r} cannot stand in a unit file; rename it. Nothing was written")
    command = " ".join(_quote(word) for word in (sys.executable, "-m", "sentinel", "run", *arguments))
    return f"""\
# sentinel systemd > ~/.config/systemd/user/sentinel.service
# systemctl --user enable --now sentinel; loginctl enable-linger so that it outlives your session
[Unit]
Description=Training sentinel: watches runs below {_escaped(str(folder))}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
WorkingDirectory={_escaped(str(folder))}
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
WatchdogSec={WATCHDOG_SECONDS}
# SIGABRT would leave a core file; nothing needs to be tidied up, so it is ended at once
WatchdogSignal=SIGKILL
Restart=on-failure
# 2: the configuration is wrong; starting again would not mend it
RestartPreventExitStatus=2
RestartSec=5
# the training is no child of this service, and must never be ended with it
KillMode=process
UMask=0077
# tokens: a file of yours alone (chmod 600) with lines such as SLACK_BOT_TOKEN=xoxb-...
EnvironmentFile=-%h/.config/sentinel.env

[Install]
WantedBy=default.target
"""


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quote(word: str) -> str:
    """Quote one word of ExecStart, where % and $ mean something of their own."""
    return shlex.quote(_escaped(word).replace("$", "$$"))


def own() -> Supervisor:
    """Return whoever started this process."""
    return Supervisor(os.environ)
