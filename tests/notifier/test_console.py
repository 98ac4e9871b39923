"""The console: colour on terminals only, nothing that acts on a terminal, and honest failures."""

from __future__ import annotations

import errno
import io
import os
import pty
import re
from dataclasses import replace
from pathlib import Path

import pytest

from notifier.base import Permanent, Transient
from notifier.console import ConsoleNotifier
from notifier.contract import Arrived, Fault, check, sample
from notifier.format import plain


class FailingStream(io.StringIO):
    """A stream whose next writes fail with the error codes given."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[int] = []

    def write(self, text: str) -> int:
        if self.failures:
            code = self.failures.pop(0)
            raise OSError(code, os.strerror(code))
        return super().write(text)


def test_the_console_keeps_the_contract() -> None:
    """Full disk passes, a closed pipe does not."""
    stream = FailingStream()
    faults = [
        Fault("full disk", lambda: stream.failures.append(errno.ENOSPC), Transient),
        Fault("closed pipe", lambda: stream.failures.append(errno.EPIPE), Permanent, channel_dead=True),
    ]

    def arrived() -> list[Arrived]:
        blocks = re.split(r"^(?=(?:INFO|WARNING|CRITICAL|FATAL) )", stream.getvalue(), flags=re.MULTILINE)
        return [Arrived(block, "", len(block)) for block in blocks[1:]]

    findings = check(
        lambda: ConsoleNotifier(stream),
        faults=faults,
        arrived=arrived,
        alive=lambda text: any(sign in text for sign in "\x1b\x07\x9b\u202e"),  # a terminal knows no mentions
    )
    assert findings == []


def test_a_file_gets_text_without_colour() -> None:
    """A log file with escape codes is a log file that nobody can search."""
    stream = io.StringIO()
    ConsoleNotifier(stream).send(sample(), None)
    assert stream.getvalue() == plain(sample()) + "\n"


def test_a_long_line_is_not_wrapped() -> None:
    """A wrapped line cannot be found again by its text."""
    stream = io.StringIO()
    ConsoleNotifier(stream).send(replace(sample(), happened="x" * 500), None)
    assert "  " + "x" * 500 + "\n" in stream.getvalue()


def test_a_terminal_gets_a_coloured_headline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The severity is seen before it is read."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    parent, child = pty.openpty()
    try:
        with open(child, "w", encoding="utf-8", closefd=False) as terminal:
            ConsoleNotifier(terminal).send(replace(sample(), run="x\x1b]0;owned\x07"), None)
        shown = os.read(parent, 10_000).decode()
    finally:
        os.close(parent)
        os.close(child)
    assert shown.startswith("\x1b[1;31mCRITICAL")
    assert "\x1b]0;" not in shown
    assert r"x\x1b]0;owned\x07" in shown


def test_markup_in_a_name_is_text() -> None:
    """`[bold red]` and `:fire:` are rich's commands; in a name they are letters."""
    stream = io.StringIO()
    ConsoleNotifier(stream).send(replace(sample(), run="[bold red]x[/] :fire:"), None)
    assert "[bold red]x[/] :fire:" in stream.getvalue()


def test_a_c_locale_still_gets_the_message(tmp_path: Path) -> None:
    """An ASCII stream has no middle dot; the message comes with escapes instead of not at all."""
    path = tmp_path / "log"
    with path.open("w", encoding="ascii") as stream:
        ConsoleNotifier(stream).send(sample(), None)
    assert "CRITICAL driving/seed047 \\xb7 actor Q" in path.read_text(encoding="ascii")


def test_a_closed_stream_is_a_dead_channel() -> None:
    """Main can say so elsewhere."""
    stream = io.StringIO()
    notifier = ConsoleNotifier(stream)
    stream.close()
    with pytest.raises(Permanent) as failure:
        notifier.send(sample(), None)
    assert failure.value.channel_dead
