"""Message templates: `actor Q {actor_q:.1f} at step {step}`.

A message is rendered at the worst moment of a run, so rendering never fails: what is wrong with a template is
found when the rule is loaded, and a number that is not known is shown as `unknown`. Only names and format
specs: no attributes, no items.
"""

from __future__ import annotations

import difflib
import math
import string
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

UNKNOWN = "unknown"
"""What stands in for a number that is not known."""

MAX_WIDTH = 200
"""Longest text that one field may become: a spec such as `>999999999` must not fill the memory."""

_FORMATTER = string.Formatter()


class TemplateField(NamedTuple):
    """One `{name:spec}` of a template."""

    name: str
    spec: str


def parts(template: str) -> Iterator[tuple[str, TemplateField | None]]:
    """Yield (literal text, the field after it) from left to right; the last field is None.

    Raises:
        ValueError: the braces do not match, or a field is more than a plain name with a plain spec; in words.
    """
    for literal, name, spec, conversion in _FORMATTER.parse(template):
        if name is None:
            yield literal, None
            continue
        if not name.isidentifier():
            raise ValueError(f"{{{name}}} is no plain name")
        if conversion:
            raise ValueError(f"{{{name}!{conversion}}}: conversions are not allowed")
        if spec and "{" in spec:
            raise ValueError(f"{{{name}:{spec}}}: a format spec may not hold fields of its own")
        yield literal, TemplateField(name, spec or "")


class TemplateFault(NamedTuple):
    """One thing wrong with a template, and what to write instead."""

    what: str
    hint: str


def names(template: str) -> list[str]:
    """Return the names that a template mentions, in order; none where its braces do not match."""
    try:
        return [field.name for _, field in parts(template) if field is not None]
    except ValueError:
        return []


def faults(template: str, numbers: Collection[str], words: Collection[str]) -> list[TemplateFault]:
    """Say what is wrong with a template, given the names of numbers and of texts that it may use."""
    try:
        found = [field for _, field in parts(template) if field is not None]
    except ValueError as error:
        return [TemplateFault(str(error), "write {name} or {name:.1f}, and {{ and }} for braces")]
    wrong = []
    for name, spec in found:
        if name not in numbers and name not in words:
            near = difflib.get_close_matches(name, [*numbers, *words], n=1)
            hint = f"did you mean '{{{near[0]}}}'?" if near else "name a metric, let, param or capture"
            wrong.append(TemplateFault(f"nothing is named {{{name}}}", hint))
        elif name in numbers and not (_fits(1.5, spec) and _fits(math.nan, spec)):
            what = f"{{{name}:{spec}}}: {spec!r} formats no number"
            wrong.append(TemplateFault(what, f"for example {{{name}:.1f}}"))
        elif name in words and not _fits("text", spec):
            wrong.append(TemplateFault(f"{{{name}:{spec}}}: {spec!r} formats no text", f"write {{{name}}}"))
    return wrong


def render(template: str, values: Mapping[str, object]) -> str:
    """Fill a template in. Never raises: what is not known, or cannot be shown as asked, is shown as well as
    can be.
    """
    try:
        found = list(parts(template))
    except ValueError:
        return template
    shown = []
    for literal, field in found:
        shown.append(literal)
        if field is not None:
            shown.append(_show(values.get(field.name), field.spec))
    return "".join(shown)


def _show(value: object, spec: str) -> str:
    if value is None:
        return UNKNOWN
    if _fits(value, spec):
        return format(value, spec or _plain(value))
    return str(value)


def _plain(value: object) -> str:
    """A float without a spec is shown with six digits; the rest as it is."""
    return ".6g" if isinstance(value, float) else ""


def _fits(value: object, spec: str) -> bool:
    digits = "".join(c if c.isdigit() else " " for c in spec).split()
    if any(len(d) > len(str(MAX_WIDTH)) or int(d) > MAX_WIDTH for d in digits):
        return False
    try:
        format(value, spec)
    except (ValueError, TypeError, OverflowError):
        return False
    return True
