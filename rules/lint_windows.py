"""Lints about windows that a run is too short for, or logs too seldom for."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rules.axis_facts import RunFacts, SeriesFacts
from rules.coverage import answers
from rules.lint_found import Grade, Lint, Place, grade
from rules.tree import (
    Call,
    Missing,
    Node,
    StepAny,
    Tag,
    children,
    walk,
    with_children,
)
from rules.written import written

LONG_WAIT = 3600.0
"""Seconds: a window that a run which goes on will fill within them is nothing to tell."""


@dataclass(frozen=True, slots=True)
class _Short:
    """A window that its series does not fill.

    Attributes:
        call: the function with the window. series: what it is over, as written in a rule.
        needed, has: in unit; "held" where the window holds too few points however long the run is.
        wait: seconds until the run fills it at its pace.
    """

    call: Call
    series: str
    needed: float
    has: float
    unit: str
    wait: float


def windows(places: Sequence[Place], *, finished: bool) -> Iterator[Lint]:
    """Tell of windows that never hold what their function needs to answer: one lint for each series."""
    found: dict[tuple[str, str, bool], dict[str, tuple[Place, _Short]]] = defaultdict(dict)
    for place in places:
        shorts = list(_shorts(place.trees[0], place.facts))
        if not finished:
            shorts = [short for short in shorts if short.wait > LONG_WAIT]
        if shorts:
            short = max(shorts, key=lambda short: (short.unit == "held", short.needed))
            calls = {short.call for short in shorts}
            blind = True not in answers(_without(place.trees[0], calls))
            found[short.series, short.unit, blind].setdefault(place.rule.name, (place, short))
    for (series, unit, blind), by_rule in _one_series_a_rule(found).items():
        longest_first = sorted(by_rule.values(), key=lambda pair: (-pair[1].needed, pair[0].rule.name))
        rules = tuple(place.rule.name for place, _ in longest_first)
        what = _too_short(longest_first, blind=blind, finished=finished)
        hint = "nothing, if other runs are longer; else shorter windows, or a smaller min_points= or cover="
        if unit == "held":
            what = "; ".join(_too_sparse(place, short, blind=blind) for place, short in longest_first)
            hint = "a longer window, a smaller min_points=, or log more often"
        severity: Grade = "info"
        if blind and unit == "held":
            severity = "warning"
        elif blind and finished:
            severity = grade(rules)
        yield Lint("window", rules, series, what, hint, severity)


_Shorts: TypeAlias = dict[tuple[str, str, bool], dict[str, tuple[Place, _Short]]]


def _one_series_a_rule(found: _Shorts) -> _Shorts:
    """Leave an `each` rule only where it is told first: its other series are short in the same way."""
    told: set[tuple[str, bool]] = set()
    kept: _Shorts = {}
    for where, by_rule in found.items():
        fresh = {name: pair for name, pair in by_rule.items() if (name, where[2]) not in told}
        told |= {(name, where[2]) for name in fresh}
        if fresh:
            kept[where] = fresh
    return kept


def _too_short(found: Sequence[tuple[Place, _Short]], *, blind: bool, finished: bool) -> str:
    place, short = found[0]
    so_far = "in this run" if finished else "so far"
    has = f"{short.series} has {amount_of(short.has, short.unit)} {so_far}"
    pace = "" if finished else f", and at its pace the rest in {time_of(short.wait)}"
    effect = "could not fire" if blind else "could fire, but with one arm unknown"
    if not finished:
        effect = "cannot fire yet" if blind else "can fire, but with one arm unknown yet"
    if len(found) > 1:
        needs = ", ".join(f"{p.rule.name} {number_of(s.needed)}{_waits(p)}" for p, s in found)
        return f"{has}{pace}; these {effect}, and need more: {needs}"
    needs = f"{written(short.call)} needs {amount_of(short.needed, short.unit)}"
    return f"{has}{pace}; {needs}{_waits(place)}, so the rule {effect}"


def _too_sparse(place: Place, short: _Short, *, blind: bool) -> str:
    assert short.call.window is not None
    effect = "can never fire" if blind else "can fire, but one arm of it is always unknown"
    return (
        f"{written(short.call)} needs {amount_of(short.needed, 'points')}, and of {short.series} its window "
        f"holds {number_of(short.has)}, whatever the run's length: {place.rule.name} {effect}"
    )


def _waits(place: Place) -> str:
    """Name what else stands between a rule and its first alarm, where that is longer than the run too."""
    spec, own = place.rule, place.own
    parts = []
    if own is not None and own.count < spec.after_points:
        parts.append(f"after_points = {spec.after_points}")
    if own is not None and spec.for_.unit == "points" and own.count < spec.for_.amount:
        parts.append(f"for = {amount_of(spec.for_.amount, 'points')}")
    return f" ({', '.join(parts)})" if parts else ""


def _shorts(node: Node, facts: RunFacts) -> Iterator[_Short]:
    """Yield the outermost windows of a tree that were not filled."""
    if isinstance(node, Call) and node.window is not None and node.row.name not in ("stale", "absent"):
        short = _short(node, facts)
        if short is not None:
            yield short
            return
    for child in children(node):
        yield from _shorts(child, facts)


def _short(call: Call, facts: RunFacts) -> _Short | None:
    leaves = leaves_of(call, facts)
    if not leaves or call.window is None:
        return None
    series = min(leaves, key=lambda leaf: leaf[1].finite)
    name, slowest = series
    need = points_needed(call)
    held = _held_at_most(call, slowest)
    own = _own_points(call)
    if held < own:
        return _Short(call, name, own, held, "held", math.inf)
    if slowest.finite < need:
        wait = _wait(need - slowest.finite, slowest.count, slowest.seconds)
        return _Short(call, name, need, slowest.finite, "points", wait)
    share = _cover(call)
    if call.window.unit == "points" or not share:
        return None
    driver = leaves[0][1]
    by_time = call.window.unit == "time"
    lived = driver.seconds if by_time else driver.steps
    needed = share * call.window.size
    if lived >= needed * (1 - 1e-9):
        return None
    unit = "seconds" if by_time else "steps"
    return _Short(call, leaves[0][0], needed, lived, unit, _wait(needed - lived, lived, driver.seconds))


def _held_at_most(call: Call, series: SeriesFacts) -> float:
    """Return how many points of a series a window by steps or time holds, at the series' usual gap."""
    window = call.window
    if window is None or window.unit == "points" or not call.row.has_coverage or series.finite < 3:
        return math.inf
    gap = series.wall_gap if window.unit == "time" else series.step_gap
    points_a_gap = series.count / max(series.count - series.repeats, 1)
    return math.ceil(window.size / gap) * points_a_gap if gap > 0 else math.inf


def _without(node: Node, gone: Collection[Node]) -> Node:
    """Return a tree with some of its parts Missing."""
    if node in gone:
        return Missing()
    return with_children(node, [_without(child, gone) for child in children(node)])


def _wait(missing: float, has: float, seconds: float) -> float:
    return missing * seconds / has if has > 0 and seconds > 0 else math.inf


def leaves_of(node: Node, facts: RunFacts) -> list[tuple[str, SeriesFacts]]:
    """Return the series that a tree reads, each once, the driver first."""
    found: dict[str, SeriesFacts] = {}
    for part in walk(node):
        if isinstance(part, Tag) and part.name in facts.series:
            found.setdefault(part.name, facts.series[part.name])
        elif isinstance(part, StepAny) and facts.whole is not None:
            found.setdefault("step_any", facts.whole)
    return list(found.items())


def points_needed(node: Node) -> int:
    """Return how many finite points its series must have had before a tree can have a value.

    A window over windows waits for both: mean(mean(x, points=50), points=50) for 99 points.
    """
    parts = [points_needed(child) for child in children(node)]
    inner = max(parts, default=1)
    if not isinstance(node, Call):
        return inner
    if node.function == "coalesce":
        return min(parts, default=1)
    if node.function in ("known", "count", "nonfinite", "stale", "absent"):
        return 1
    return inner - 1 + _own_points(node)


def _own_points(call: Call) -> int:
    row, given = call.row, dict(call.options)
    if call.function == "prev":
        return int(call.number("n")) + 1
    if call.window is None:
        return 1
    if call.function == "initial":
        return int(call.window.size)
    if not row.has_coverage:
        return 1
    least = int(call.number("min_points")) if "min_points" in given else row.min_points
    if call.window.unit == "points":
        least = max(least, math.ceil(_cover(call) * call.window.size - 1e-9))
    if call.function in ("zscore", "rzscore"):
        least += 1  # those before the point itself
    return max(least, 1)


def _cover(call: Call) -> float:
    """Return the share of its window that must have been lived through; the evaluator's own rule."""
    row, given = call.row, dict(call.options)
    if not row.has_coverage or call.window is None:
        return 0.0
    if "cover" in given:
        return call.number("cover")
    if "min_points" in given:
        return 0.0
    return row.cover[0] if call.window.unit == "points" else row.cover[1]


def amount_of(amount: float, unit: str) -> str:
    """Say an amount: 1 point, 2,000 steps, 5 min."""
    if unit == "seconds":
        return time_of(amount)
    return f"{number_of(amount)} {unit if amount != 1 else unit[:-1]}"


def number_of(amount: float) -> str:
    """Say a number."""
    return f"{amount:,.6g}"


def time_of(seconds: float) -> str:
    """Say a stretch of time in the unit that suits it."""
    if not math.isfinite(seconds):
        return "an unknown time"
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} s"
