"""The rules in force, or those of the packs: a list of them, and each one explained.

A terminal gets a table, anything else one line a rule that can be searched and cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TextIO

from rich.table import Table
from rich.text import Text

from notifier.format import neutral
from rules import packs
from rules.describe import Description, describe, said, shipped
from rules.schema import RuleSpec
from rules.source import nearest
from sentinel.config import Settings
from sentinel.errors import ConfigError
from sentinel.terminal import console_on

_COLOURS = {"info": "blue", "warning": "yellow", "critical": "red", "fatal": "bold red"}


def of_packs(names: Sequence[str] = ()) -> list[Description]:
    """Describe every rule of the packs of these names, or of all; also those that are shipped switched off.

    Raises:
        ConfigError: there is no pack of a name.
    """
    found = []
    for name in names or packs.names():
        try:
            rules, off = shipped([name])
        except LookupError as error:
            raise ConfigError(f"--pack: {error}; nothing was listed") from error
        found += [describe(rule, rules, on=rule.name not in off) for rule in rules.rules]
    return found


def of_settings(settings: Settings) -> list[Description]:
    """Describe the rules that a configuration has in force."""
    return [describe(rule, settings.rules) for rule in settings.rules.rules]


def chosen(names: Sequence[str], here: Sequence[Description]) -> list[Description]:
    """Pick rules by their full names, or by the bare name wherever it occurs.

    A shipped rule that a configuration does not include is found as well: it is described as not in force.

    Raises:
        ConfigError: a name fits no rule; all such names at once, each with the nearest one.
    """
    out = [
        replace(found, on=False)
        for found in of_packs()
        if found.rule.name not in {there.rule.name for there in here}
    ]
    picked, unknown = [], []
    for name in names:
        bare = name.partition("[")[0]
        fits = [found for found in here if bare in _names(found.rule)]
        fits = fits or [found for found in out if bare in _names(found.rule)]
        picked += fits
        if not fits:
            known = {word for found in (*here, *out) for word in _names(found.rule)}
            unknown.append(f"no rule {name!r}; {nearest(bare, sorted(known))}")
    if unknown:
        raise ConfigError("; ".join(unknown))
    return picked


def _names(rule: RuleSpec) -> tuple[str, str]:
    return rule.name, rule.name.rpartition("/")[2]


def as_json(found: Sequence[Description]) -> str:
    """Render rules for machines: a list of objects."""
    return json.dumps([_object(one) for one in found], indent=2, allow_nan=False)


def _object(found: Description) -> dict[str, Any]:
    rule = found.rule
    return {
        "name": rule.name,
        "in_force": found.on,
        "severity": rule.severity,
        "ladder": found.ladder,
        "each": rule.each,
        "expr": rule.expr,
        "let": rule.let,
        "clear": rule.clear,
        "for": rule.for_.written() if rule.for_.amount else None,
        "keep_firing_for": rule.keep_firing_for.written() if rule.keep_firing_for.amount else None,
        "after_step": rule.after_step,
        "after_points": rule.after_points,
        "after_time": rule.after_time.written() if rule.after_time is not None else None,
        "when": rule.when,
        "summary": rule.summary,
        "why": rule.why,
        "try": rule.try_,
        "source": rule.source,
        "labels": rule.labels,
        "params": dict(found.params),
        "metrics": {name: list(tags) for name, tags in found.metrics.items()},
        "does": [line.strip() for line in found.deeds],
    }


def print_list(found: Sequence[Description], out: TextIO) -> None:
    """Print one line a rule."""
    console = console_on(out, wrap=True)
    if not console.is_terminal:
        width = max((len(_label(one)) for one in found), default=0)
        ladder = max((len(one.ladder) for one in found), default=0)
        for one in found:
            row = f"{_label(one):<{width}}  {one.rule.severity:<8}  {one.ladder:<{ladder}}  {_line(one)}"
            print(neutral(row.rstrip()), file=out)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("rule", "severity", "ladder", "what it means"):
        table.add_column(heading, no_wrap=heading != "what it means", overflow="fold")
    for one in found:
        severity = Text(one.rule.severity, style=_COLOURS[one.rule.severity])
        table.add_row(Text(_label(one)), severity, Text(one.ladder), Text(_line(one)))
    console.print(table)


def _label(found: Description) -> str:
    return found.rule.name if found.on else f"{found.rule.name} (off)"


def _line(found: Description) -> str:
    """Return the first sentence of what it means, else its condition."""
    text = found.rule.why or found.rule.expr
    return text.partition(". ")[0].removesuffix(".")


def print_explained(found: Sequence[Description], out: TextIO) -> None:
    """Print all that there is to say of each rule."""
    console = console_on(out)
    for number, one in enumerate(found):
        if number:
            console.print()
        severity = Text(one.rule.severity, style=_COLOURS[one.rule.severity])
        console.print(
            Text.assemble((one.rule.name, "bold"), "  ", severity, "" if one.on else "  not in force")
        )
        for heading, lines in _sections(one):
            console.print(Text(f"  {heading}", style="dim"))
            for line in lines:
                console.print(Text(f"    {line}"))


def _sections(found: Description) -> Iterator[tuple[str, Sequence[str]]]:
    rule = found.rule
    yield "fires when", [" ".join(rule.expr.split())]
    if rule.let:
        yield "where", [f"{name} = {' '.join(text.split())}" for name, text in rule.let.items()]
    if conditions := list(_conditions(rule)):
        yield "conditions", conditions
    if found.params:
        yield "parameters", [_param(name, value) for name, value in found.params.items()]
    if found.metrics:
        yield (
            "metrics, the first that the run logs",
            [f"{name}: {', '.join(tags)}" for name, tags in found.metrics.items()],
        )
    for heading, text in (("message", rule.summary), ("why", rule.why), ("try", rule.try_)):
        if text:
            yield heading, [text]
    yield f"what is done (ladder {found.ladder})", found.deeds
    if rule.inhibits:
        yield "mutes, while it fires", rule.inhibits
    if rule.source:
        yield "source", [rule.source]


def _conditions(rule: RuleSpec) -> Iterator[str]:
    if rule.each:
        yield f"one alert for each tag {rule.each}"
    if rule.when:
        yield f"it is for runs in which {' '.join(rule.when.split())}"
    if rule.for_.amount:
        yield f"it has to hold for {said(rule.for_)}"
    if rule.clear:
        yield f"it ends when {' '.join(rule.clear.split())}"
    if rule.keep_firing_for.amount:
        yield f"it has to be over for {said(rule.keep_firing_for)}"
    if rule.after_step:
        yield f"it has no opinion before step {rule.after_step}"
    if rule.after_points:
        yield f"it has no opinion before {rule.after_points} points"
    if rule.after_time is not None:
        yield f"it has no opinion in the first {said(rule.after_time)}"
    if rule.grace is not None:
        yield f"it is mute for {said(rule.grace)} after a rollback"
    if rule.no_data != "hold":
        yield f"what is unknown counts as {'fine' if rule.no_data == 'ok' else 'a breach'}"


def _param(name: str, value: float | None) -> str:
    return f"{name}: not set; give it under [params]" if value is None else f"{name} = {value:g}"
