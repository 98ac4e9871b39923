"""Numbers as people read them: four digits that count, large ones in groups, spans of time in words. Pure."""

from __future__ import annotations

import math

THIN = "\u202f"
"""Between groups of three digits: a thin space at which no line is broken (ISO 80000-1)."""

_LEAST_GROUPED = 10_000  # four digits are read at one look, and can be copied into a command as they stand
_MOST_PLAIN = 1e9
_DIGITS = 4


def number(value: float) -> str:
    """Write a number: `3.142`, `56.1`, `1300`, `12 500`, `3.2e+12`, `NaN`."""
    try:
        value = float(value)
    except OverflowError:  # a whole number from a file that anyone may have written
        return "beyond all bounds"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    if value == 0:
        return "0"
    size = abs(value)
    if (value == int(value) and size < 1e15) or _LEAST_GROUPED <= size < _MOST_PLAIN:
        return grouped(round(value))
    return f"{value:.{_DIGITS}g}"


def grouped(whole: int) -> str:
    """Write a whole number, in groups of three digits where it has more than four."""
    return str(whole) if abs(whole) < _LEAST_GROUPED else f"{whole:,}".replace(",", THIN)


def duration(seconds: float) -> str:
    """Write a span of time by its two largest units: `42 s`, `1 min 52 s`, `3 h 5 min`, `2 d 4 h`."""
    if not math.isfinite(seconds) or seconds < 0:
        return "an unknown time"
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    for size, name, small, lesser in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // small
            return f"{grouped(whole // size)} {name}" + (f" {rest} {lesser}" if rest else "")
    return f"{whole} s"
