"""Patterns over tags, as `each` has them: which tags fit, and what the parts are that it names.

A tag is the trainer's own text, of any length. So matching takes no longer than a few passes over it,
whatever the pattern: wildcards are not tried in every combination.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

MAX_CAPTURES = 4
"""Captures of a pattern, with the wildcards beside them: each is tried at every length."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """The pattern of an `each` rule: `*` within a part of a tag, `**` across parts, `{name}` captures a
    part.
    """

    text: str
    regex: re.Pattern[str]
    captures: tuple[str, ...]
    has_wildcards: bool

    def match(self, tag: str) -> dict[str, str] | None:
        """The captures of a tag that fits, or None. The sentinel's own probes fit only patterns that name
        them.
        """
        if tag.startswith("sys/") and not self.text.startswith("sys/"):
            return None
        found = self.regex.fullmatch(tag)
        return found.groupdict() if found else None

    def label(self, tag: str, captures: Mapping[str, str]) -> str:
        """What tells an instance from its sisters: its captures, or the whole tag where they are not all of
        it.
        """
        return tag if self.has_wildcards or not captures else ",".join(captures.values())


def compile_pattern(text: str) -> Pattern:
    """Read the pattern of an `each` rule: `*`, `**`, `{name}`, and `[Ll]` for one of these letters.

    Raises:
        ValueError: a brace is open, a capture is no name or is there twice, or there are too many of them.
    """
    parts: list[str] = []
    captures: list[str] = []
    wild: list[int] = []
    for token in re.split(r"(\*{2,}|\*|\{[^{}]*\}|\[[^\[\]]+\])", text):
        if token.startswith("*"):
            wild.append(len(parts))
            parts.append("[^/]*" if token == "*" else ".*")  # noqa: S105  # a wildcard, not a password
        elif token.startswith("[") and token.endswith("]"):
            parts.append(f"[{re.escape(token[1:-1])}]")
        elif token.startswith("{") and token.endswith("}"):
            name = token[1:-1]
            if not name.isidentifier() or name in captures:
                raise ValueError(f"the capture {token} must be a name, and be there once")
            captures.append(name)
            parts.append(f"(?P<{name}>[^/]+)")
        elif "{" in token or "}" in token:
            raise ValueError(f"a brace is open in {text!r}")
        elif token:
            parts.append(re.escape(token))
    if captures and len(captures) + len(wild) > MAX_CAPTURES:
        raise ValueError(f"more than {MAX_CAPTURES} captures and wildcards beside them")
    regex = "".join(parts) if captures else _atomic(parts, wild)
    return Pattern(text, re.compile(regex, re.DOTALL), tuple(captures), "*" in text or "[" in text)


def _atomic(parts: list[str], wild: list[int]) -> str:
    """Join the parts of a pattern without captures so that its wildcards are not tried in every combination.

    A `*` may take the least after which its neighbour fits, for good, if another `*` follows: what comes
    later fits behind it too, if it fits anywhere. So may all that lies between two `**`. Otherwise a dozen
    wildcards on a long tag would take years.
    """
    edges = [*wild, len(parts)]
    stretches = ["".join(parts[: edges[0]])]
    for start, end in pairwise(edges):
        again = end < len(parts)
        piece = f"{parts[start]}{'?' if again else ''}{''.join(parts[start + 1 : end])}"
        if parts[start] == ".*":
            stretches.append(piece)
        else:
            stretches[-1] += f"(?>{piece})" if again else piece
    return "".join(f"(?>{stretch})" for stretch in stretches[:-1]) + stretches[-1]
