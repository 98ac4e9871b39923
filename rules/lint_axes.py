"""Lints about lengths: windows, holds and warm-ups that a run cannot fill, and steps on the wrong axis."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from rules.axis_facts import RunFacts, SeriesFacts
from rules.coverage import answers
from rules.lint_found import Lint, Place, listed
from rules.tree import (
    Aligned,
    Arithmetic,
    Call,
    Choice,
    Compare,
    Logic,
    Missing,
    Negative,
    Node,
    Not,
    StepAny,
    Tag,
    children,
    walk,
)
from rules.written import written

LONG_WAIT = 3600.0
"""Seconds: a window that a run which goes on will fill within them is nothing to tell."""

_LAG = 10  # an axis on which the run is so many times further is another one
_ALIVE = 0.5  # share of the run's time that a series must have lived through for its axis to be compared


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
            short = max(shorts, key=lambda short: short.needed)
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
        grave = blind and (finished or unit == "held")
        yield Lint("window", rules, series, what, hint, "warning" if grave else "info")


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
    has = f"{short.series} has {_amount(short.has, short.unit)} {so_far}"
    pace = "" if finished else f", and at its pace the rest in {_time(short.wait)}"
    effect = "could not fire" if blind else "could fire, but with one arm unknown"
    if not finished:
        effect = "cannot fire yet" if blind else "can fire, but with one arm unknown yet"
    if len(found) > 1:
        needs = ", ".join(f"{p.rule.name} {_number(s.needed)}{_waits(p)}" for p, s in found)
        return f"{has}{pace}; these {effect}, and need more: {needs}"
    needs = f"{written(short.call)} needs {_amount(short.needed, short.unit)}"
    return f"{has}{pace}; {needs}{_waits(place)}, so the rule {effect}"


def _too_sparse(place: Place, short: _Short, *, blind: bool) -> str:
    assert short.call.window is not None
    effect = "can never fire" if blind else "can fire, but one arm of it is always unknown"
    return (
        f"{written(short.call)} needs {_amount(short.needed, 'points')}, and of {short.series} its window "
        f"holds {_number(short.has)}, whatever the run's length: {place.rule.name} {effect}"
    )


def _waits(place: Place) -> str:
    """Name what else stands between a rule and its first alarm, where that is longer than the run too."""
    spec, own = place.rule, place.own
    parts = []
    if own is not None and own.count < spec.after_points:
        parts.append(f"after_points = {spec.after_points}")
    if own is not None and spec.for_.unit == "points" and own.count < spec.for_.amount:
        parts.append(f"for = {_amount(spec.for_.amount, 'points')}")
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
    leaves = _leaves(call, facts)
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
    parts = [_without(child, gone) for child in children(node)]
    match node:
        case Call():
            return replace(node, arguments=tuple(parts))
        case Logic():
            return replace(node, operands=tuple(parts))
        case Arithmetic() | Compare():
            return replace(node, left=parts[0], right=parts[1])
        case Negative() | Not() | Aligned():
            return replace(node, operand=parts[0])
        case Choice():
            return Choice(*parts)
        case _:
            return node


def _wait(missing: float, has: float, seconds: float) -> float:
    return missing * seconds / has if has > 0 and seconds > 0 else math.inf


def _leaves(node: Node, facts: RunFacts) -> list[tuple[str, SeriesFacts]]:
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


# -- for, after_step -----------------------------------------------------------


def hold(places: Sequence[Place], *, finished: bool) -> Iterator[Lint]:
    """Tell of a `for` that the run is too short for, or that says no more than one point."""
    for place in _one_each(places):
        span, own = place.rule.for_, place.own
        if own is None or not span.amount or _is_timed(place):
            continue
        has = {"points": own.count, "steps": own.steps, "seconds": own.seconds}.get(span.unit)
        gap = {"steps": own.step_gap, "seconds": own.wall_gap}.get(span.unit)
        if has is None:
            continue
        shown = _amount(span.amount, span.unit)
        if has < span.amount and finished and place.judged:
            only = _amount(has, span.unit)
            what = f"for = {shown}, but {place.driver} has only {only} in this run: it never fires"
            yield Lint("hold", (place.rule.name,), place.driver, what, "a shorter `for`", "warning")
        elif gap and span.amount <= gap and own.count > 2:
            what = (
                f"for = {shown}, and {place.driver} logs every {_amount(gap, span.unit)}: "
                "the second point in breach always fulfils it"
            )
            hint = 'write for = "2 points", or a longer `for`'
            yield Lint("hold", (place.rule.name,), place.driver, what, hint, "info")


def _is_timed(place: Place) -> bool:
    """Whether it is also judged between points."""
    return any(isinstance(part, Call) and part.row.timed for tree in place.trees for part in walk(tree))


def warm_up(places: Sequence[Place], *, finished: bool) -> Iterator[Lint]:
    """Tell of a warm-up that is longer than the run."""
    for place in _one_each(places):
        own, spec = place.own, place.rule
        if own is None or not finished or place.judged:
            continue
        for said, limit, reached in (
            (f"after_step = {spec.after_step}", spec.after_step, own.last_step),
            (f"after_points = {spec.after_points}", spec.after_points, own.count),
        ):
            if reached < limit:
                end = f"step {reached}" if "step" in said else _amount(reached, "points")
                what = f"it never had an opinion: {said}, and {place.driver} ends at {end}"
                yield Lint("warm-up", (spec.name,), place.driver, what, "a shorter warm-up", "warning")
        whole, late = place.facts.whole, spec.after_time
        if late is not None and whole is not None and whole.seconds < late.amount:
            waits, has = _time(late.amount), _time(whole.seconds)
            what = f"it never had an opinion: after_time = {waits}, and the run is {has} long"
            yield Lint("warm-up", (spec.name,), "step_any", what, "a shorter warm-up", "warning")


def _one_each(places: Sequence[Place]) -> Iterator[Place]:
    """Yield one instance of each rule: the one with the most points."""
    best: dict[str, Place] = {}
    for place in places:
        before = best.get(place.rule.name)
        if before is None or _count(place) > _count(before):
            best[place.rule.name] = place
    yield from best.values()


def _count(place: Place) -> int:
    return place.own.count if place.own is not None else 0


# -- axes ----------------------------------------------------------------------


def axis(places: Sequence[Place]) -> Iterator[Lint]:
    """Tell of steps that are counted on a series whose axis is not the run's."""
    by_rule: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for place in places:
        for said, name in _stepped(place):
            own = place.facts.series.get(name)
            if own is not None and counts_episodes(own, place.facts):
                by_rule[place.rule.name].append((said, name))
    for rule, found in by_rule.items():
        said, name = found[0]
        own, whole = next(p.facts for p in places).series[name], next(p.facts for p in places).whole
        assert whole is not None, "a run with series has steps"
        what = (
            f"{said} counts on the axis of {name}, which ends at {own.last_step} while the run is at "
            f"{whole.last_step}: episodes, it seems"
        )
        others = f" (also: {listed(sorted({other for other, _ in found[1:]} - {said}))})"
        more = others if len({other for other, _ in found}) > 1 else ""
        yield Lint("axis", (rule,), name, what + more, 'count points instead: points=, "N points"', "warning")


def _stepped(place: Place) -> Iterator[tuple[str, str]]:
    """Yield (as written, series on whose axis) of everything in a rule that counts steps."""
    for tree in place.trees:
        for part in walk(tree):
            if isinstance(part, Call) and part.window is not None and part.window.unit == "steps":
                leaves = _leaves(part, place.facts)
                if leaves:
                    yield written(part), leaves[0][0]
    spec = place.rule
    for name, span in (("for", spec.for_), ("keep_firing_for", spec.keep_firing_for)):
        if span.unit == "steps" and span.amount:
            yield f"{name} = {_amount(span.amount, 'steps')}", place.driver
    if spec.after_step:
        yield f"after_step = {spec.after_step}", place.driver


def counts_episodes(own: SeriesFacts, facts: RunFacts) -> bool:
    """Whether a series' steps are a number of their own: they go up by one, while the rest of the run goes in
    tens or more and is far ahead, though the series was logged to the end.
    """
    whole = facts.whole
    if whole is None or own.count < 3 or own.step_gap != 1:
        return False
    others = [other for other in facts.series.values() if other.step_gap >= _LAG]
    far = own.last_step * _LAG <= whole.last_step
    return bool(others) and far and own.seconds >= _ALIVE * whole.seconds


def _amount(amount: float, unit: str) -> str:
    if unit == "seconds":
        return _time(amount)
    return f"{_number(amount)} {unit if amount != 1 else unit[:-1]}"


def _number(amount: float) -> str:
    return f"{amount:,.6g}"


def _time(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "an unknown time"
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} s"
