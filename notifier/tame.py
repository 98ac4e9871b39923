"""Text for a channel whose markup we do not know: no mention and no disguised link in it is alive. Pure.

Apprise alone speaks to more than a hundred services, each with a markup of its own; but all of them know a
mention by what stands directly behind `@`, `<` or `<!`, and a link under another text by `](`. A zero-width
space there is not seen by people and ends it for machines. A bare address stays: it shows where it leads.
"""

from __future__ import annotations

import re

from notifier.format import neutral

_GAP = "\u200b"
_ALIVE = re.compile(r"(?<=@)(?=\S)|(?<=<)(?=\S)|(?<=])(?=\()|(?<=#)(?=\w)")


def tame(text: str) -> str:
    """Return text that is shown as it stands, wherever it is shown; line breaks stay."""
    return _ALIVE.sub(_GAP, neutral(text, lines=True))
