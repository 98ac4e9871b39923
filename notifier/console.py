"""The channel that is always there: a small block of text on standard error, in colour on a terminal only."""

from __future__ import annotations

import errno
import io
import sys
from typing import Literal, TextIO

from rich.console import Console
from rich.text import Text

from notifier.base import Permanent, Transient
from notifier.format import headline, plain
from notifier.message import Message

_STYLES = {"info": "cyan", "warning": "yellow", "critical": "bold red", "fatal": "bold white on red"}
_MAY_PASS = {errno.EAGAIN, errno.EINTR, errno.ENOSPC, errno.EDQUOT, errno.EIO}


class ConsoleNotifier:
    """Writes each message to a stream; nothing is ever edited there, a later message follows below."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to `stream`, standard error by default. Colour follows the stream and NO_COLOR."""
        self._stream = sys.stderr if stream is None else stream
        look = Console(file=self._stream)
        # The colours of the stream, without the stream: on a closed pipe rich would point the whole process's
        # standard output at /dev/null and exit. So it renders, and writing is ours.
        self._rendered = io.StringIO()
        self._renderer = Console(
            file=self._rendered,
            force_terminal=look.is_terminal,
            color_system=_colours(look),
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
        )

    def __repr__(self) -> str:
        return f"ConsoleNotifier({getattr(self._stream, 'name', '?')!r})"

    def send(self, message: Message, thread_ref: str | None) -> str:  # noqa: ARG002  a terminal has no threads
        """Write a message and flush it; see Notifier.send."""
        try:
            self._stream.write(self._render(message))
            self._stream.flush()
        except OSError as error:
            if error.errno in _MAY_PASS:
                raise Transient(f"console: cannot write ({error.strerror})") from error
            raise Permanent(f"console: cannot write ({error.strerror})", channel_dead=True) from error
        except ValueError as error:
            # Python's word for a stream that was closed under us.
            raise Permanent(f"console: cannot write ({error})", channel_dead=True) from error
        return message.key

    def edit(self, first_ref: str, message: Message) -> None:
        """Do nothing: what a terminal has shown, it has shown."""

    def _render(self, message: Message) -> str:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        # A C locale has no "·": better an escape on the terminal than no message.
        text = plain(message).encode(encoding, "backslashreplace").decode(encoding)
        shown = Text(text)
        shown.stylize(_STYLES[message.severity], 0, min(len(headline(message)), len(text.split("\n", 1)[0])))
        self._renderer.print(shown)
        rendered = self._rendered.getvalue()
        self._rendered.seek(0)
        self._rendered.truncate()
        return rendered


def _colours(look: Console) -> Literal["standard", "256", "truecolor"] | None:
    """Return the colour system that rich found, in the words that its constructor takes."""
    match look.color_system if look.is_terminal else None:
        case "truecolor":
            return "truecolor"
        case "256":
            return "256"
        case "standard" | "windows":
            return "standard"
        case _:
            return None
