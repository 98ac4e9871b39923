"""A comparison of two sets of rules as a person reads it: what differs by rule, then by run, then in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.text import Text

from sentinel.comparison import Comparison, Difference, RuleComparison, Side
from sentinel.report import COLOURS, added_up, columns, count, heading, span
from sentinel.tally import Behind, RuleTally
from sentinel.terminal import console_on

_HEADINGS = (
    *("rule", "severity", "runs", "answers", "alarms", "per 1e6"),
    *("only A", "only B", "earlier", "later", "by (median)", "acts otherwise"),
)


def print_comparison(found: Comparison, names: tuple[str, str], out: TextIO) -> None:
    """Print what B changes.

    Args:
        names: what A and B are.
    """
    console = console_on(out)
    tables = (_sets(found, names), _rules(found.rules), _runs(found.differences), _firsts(found))
    for table in tables:
        lines = list(table)
        for line in (*lines, Text()) if lines else ():
            console.print(line)
    for line in _total(found):
        console.print(line)


def _sets(found: Comparison, names: tuple[str, str]) -> Iterator[Text]:
    for letter, name, tally in zip("AB", names, (found.a, found.b), strict=True):
        yield Text.assemble((letter, "bold"), f"  {name}: {count(len(tally.rules), 'rule')}")
    for letter, alone in (
        ("A", [rule.name for rule in found.rules if rule.b is None]),
        ("B", [rule.name for rule in found.rules if rule.a is None]),
    ):
        if alone:
            yield Text(f"   only in {letter}: {', '.join(alone)}")


def _rules(rules: Sequence[RuleComparison]) -> Iterator[Text]:
    """Yield a row for each rule that differs; a figure is written once where both sets agree on it."""
    shown = [rule for rule in rules if rule.differences]
    if not shown:
        return
    rows = [heading(*_HEADINGS)]
    for rule in shown:
        sides = (rule.a, rule.b)
        by = rule.median_by
        rows.append(
            [
                Text(rule.name),
                Text(_both(*(None if side is None else side.rule.severity for side in sides))),
                Text(_both(*(None if side is None else f"{side.touched}" for side in sides))),
                Text(_both(*(None if side is None else f"{side.judged}" for side in sides))),
                Text(_both(*(None if side is None else f"{side.alarms}" for side in sides))),
                Text(_both(*map(_rate, sides))),
                Text(f"{rule.count('only_a') or ''}"),
                Text(f"{rule.count('only_b') or ''}"),
                Text(f"{rule.count('earlier') or ''}"),
                Text(f"{rule.count('later') or ''}"),
                Text("" if by is None else f"{by[0]:+.0f} steps, {_signed(by[1])}"),
                Text(f"{rule.actions or ''}"),
            ]
        )
    yield from columns(rows, numbers=tuple(range(2, 12)))


def _both(a: str | None, b: str | None) -> str:
    a, b = a or "-", b or "-"
    return a if a == b else f"{a} -> {b}"


def _rate(rule: RuleTally | None) -> str | None:
    return None if rule is None or rule.per_million is None else f"{rule.per_million:.1f}"


def _runs(differences: Sequence[Difference]) -> Iterator[Text]:
    if not differences:
        return
    rows = [heading("run", "alert", "A", "B", "change")]
    for found in differences:
        rows.append(
            [Text(found.run), Text(found.key), _side(found.a), _side(found.b), Text("; ".join(_words(found)))]
        )
    yield from columns(rows)


def _side(side: Side) -> Text:
    first = side.first
    if first is None:
        return Text({None: "no such rule", True: "quiet", False: "no answer"}[side.judged])
    severity = first.rule.severity
    more = f" ({len(side.alarms)} alarms)" if len(side.alarms) > 1 else ""
    return Text.assemble((severity, COLOURS[severity]), f" at {first.at.run_step}{more}")


def _words(found: Difference) -> Iterator[str]:
    match found.kind:
        case "only_a":
            yield "fires only under A"
        case "only_b":
            yield "fires only under B"
        case "earlier" | "later":
            assert found.by is not None
            steps, seconds = found.by
            yield f"{found.kind}: {steps:+} steps, {_signed(seconds)}"
        case "same" if len(found.a.alarms) != len(found.b.alarms):
            yield "another number of alarms"
        case "same" if found.severities is None and found.a.actions == found.b.actions and not found.sight:
            yield "later alarms are elsewhere"
    if found.severities is not None:
        yield "another severity"
    if found.sight:
        yield "answers only under " + ("A" if found.a.judged else "B")
    if found.a.actions != found.b.actions:
        yield _acts(found.a, found.b)


def _acts(a: Side, b: Side) -> str:
    """Say how the actions differ; where they are the same at other places only the places."""
    if [what for _, what in a.actions] == [what for _, what in b.actions]:
        before, after = (", ".join(str(step) for step, _ in side.actions) for side in (a, b))
        return f"acts at {before} -> {after}"
    return f"{_actions(a)} -> {_actions(b)}"


def _actions(side: Side) -> str:
    return ", ".join(f"{what} at {step}" for step, what in side.actions) or "no action"


def _firsts(found: Comparison) -> Iterator[Text]:
    changed = list(found.behind())
    if changed:
        yield from columns(
            [
                heading("run", "first rollback or end under A", "under B"),
                *([Text(run), Text(_behind(a)), Text(_behind(b))] for run, a, b in changed),
            ]
        )


def _behind(behind: Behind | None) -> str:
    if behind is None:
        return "none"
    end = "lasted" if behind.lasted else "ended by itself"
    after = f"{behind.steps} steps, {span(behind.seconds)} after it"
    return f"{behind.verb} at {behind.at.run_step}, {after}, the alert {end}"


def _total(found: Comparison) -> Iterator[Text]:
    changed, runs = len(found.runs_changed), len(found.a.runs)
    unread = sum(run.standing == "error" for run in found.a.runs)
    tail = f"; {count(unread, 'run')} could not be read" if unread else ""
    if not found.differences:
        yield Text(f"nothing changes in {count(runs - unread, 'run')}{tail}")
        return
    kinds = [difference.kind for difference in found.differences]
    parts = [
        f"{kinds.count('only_a')} alerts fire only under A",
        f"{kinds.count('only_b')} only under B",
        f"{kinds.count('earlier')} earlier under B",
        f"{kinds.count('later')} later",
    ]
    acts = len({d.run for d in found.differences if d.a.actions != d.b.actions})
    yield Text(
        f"{changed} of {count(runs, 'run')} come out otherwise: {', '.join(parts)}; "
        f"the ladders act otherwise in {count(acts, 'run')}{tail}"
    )
    for letter, tally in (("A", found.a), ("B", found.b)):
        behind = [run.behind for run in tally.runs if run.behind is not None]
        if behind:
            yield Text(f"recorded after the first rollback or end under {letter}: {added_up(behind)}")


def _signed(seconds: float) -> str:
    return ("+" if seconds >= 0 else "-") + span(abs(seconds))
