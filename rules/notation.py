"""Series written in a few characters, as promtool has them: `1x3 50x8 _ nan`.

One word is one value or a run of them, and nothing that is written down can stand for more than MAX_POINTS:
a test is read from a file that anybody may have written.
"""

from __future__ import annotations

import math
import re
from typing import TypeAlias

MAX_POINTS = 100_000
"""Longest series that one line may stand for."""

MAX_SEEDS = 1000
"""Most seeds that one case may be run with."""

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_STEP = r"[+-](?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_PLAIN = re.compile(_NUMBER)
_RANGE = re.compile(rf"(?P<start>{_NUMBER})(?P<step>{_STEP})?x(?P<more>[0-9]+)")
_GAP = re.compile(r"_(?:x(?P<count>[0-9]+))?")
_SPAN = re.compile(r"(?P<first>[0-9]{1,18})(?:-(?P<last>[0-9]{1,18}))?")
_WORDS = {"nan": math.nan, "inf": math.inf, "+inf": math.inf, "-inf": -math.inf}

Values: TypeAlias = list[float | None]
"""Points of a series; None where it has none."""


def expand(notation: str) -> Values:
    """Read a series: `2.5`, `nan`, `inf`, `_` for no point, `_x3` for three of them, `1x3` for 1 and three
    more, `1+2x3` for 1 3 5 7, `1-2x3` for 1 -1 -3 -5. As promtool has it.

    Raises:
        ValueError: a word is none of these, or there are too many points.
    """
    values: Values = []
    for word in notation.split():
        values += _word(word)
        if len(values) > MAX_POINTS:
            raise ValueError(f"more than {MAX_POINTS} points")
    return values


def span(text: str) -> tuple[int, int]:
    """Read `0-19` as (0, 19) and `7` as (7, 7).

    Raises:
        ValueError: it is neither, or ends before it begins.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'{text!r} is no range of whole numbers; write "0-19" or "7"')
    first, last = int(found["first"]), int(found["last"] or found["first"])
    if last < first:
        raise ValueError(f"{text!r} ends before it begins")
    return first, last


def seeds(text: str) -> list[int]:
    """Read `0-19 42` as the numbers it stands for, each once, in the order in which they are written.

    Raises:
        ValueError: a word is no range, there is none, or there are more than MAX_SEEDS.
    """
    found: dict[int, None] = {}
    for word in text.split():
        first, last = span(word)
        if last - first >= MAX_SEEDS or len(found) + last - first >= MAX_SEEDS:
            raise ValueError(f"more than {MAX_SEEDS} seeds")
        found.update(dict.fromkeys(range(first, last + 1)))
    if not found:
        raise ValueError('no seed; write "0-19"')
    return list(found)


def _word(word: str) -> Values:
    if word in _WORDS:
        return [_WORDS[word]]
    if gap := _GAP.fullmatch(word):
        return [None] * _count(gap["count"] or "1")
    if found := _RANGE.fullmatch(word):
        start, step = float(found["start"]), float(found["step"] or 0)
        return [start + step * n for n in range(_count(found["more"]) + 1)]
    if _PLAIN.fullmatch(word):
        return [float(word)]
    raise ValueError(f'{word!r} is no value; write "2.5", "nan", "inf", "_", "_x3", "1x3" or "1+2x3"')


def _count(digits: str) -> int:
    if len(digits) > len(str(MAX_POINTS)) or int(digits) > MAX_POINTS:
        raise ValueError(f"more than {MAX_POINTS} points")
    return int(digits)
