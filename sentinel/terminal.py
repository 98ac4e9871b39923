"""What goes to a terminal acts on it only where we mean it to: colours are ours, everything else is text.

Names of folders, files, checkpoints and whatever a trainer wrote are strangers' words. They are shown in full
and made harmless at the last moment, here, so that no command has to think of it. What is printed without
rich goes through `notifier.format.neutral`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment
from rich.text import Text

from notifier.format import neutral


def console_on(out: TextIO, *, wrap: bool = False) -> Console:
    """Return a console that takes no word for markup and lets no word act.

    Args:
        out: where to; colours only where that is a terminal.
        wrap: break long lines at the terminal's width.
    """
    made = Console(file=out, highlight=False, soft_wrap=not wrap, markup=False, emoji=False)
    made.push_render_hook(_Harmless())
    return made


class _Harmless(RenderHook):
    """Stands between what is to be shown and the terminal."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(_one_line(each) if isinstance(each, Text) else each) for each in renderables]


def _one_line(text: Text) -> Text:
    """Each text that is printed is one line; a line break in a name must not make it two."""
    if "\n" not in text.plain:
        return text
    joined = Text("\\n").join(text.split("\n", allow_blank=True))
    joined.end = text.end
    return joined


class _Shown:
    """Something to be shown, with its words made harmless and its colours kept."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return self._segments(console, options)

    def _segments(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._inner, options):
            yield segment if segment.control else Segment(neutral(segment.text, lines=True), segment.style)
