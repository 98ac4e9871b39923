"""Lints about lengths: windows, holds and warm-ups that a run cannot fill, and steps on the wrong axis."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rules.axis_facts import RunFacts, SeriesFacts
from rules.lint_found import Lint, Place, listed
from rules.tree import Call, Node, StepAny, Tag, children, walk
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
        needed, has: in unit. wait: seconds until the run fills it at its pace.
    """

    call: Call
    series: str
    needed: float
    has: float
    unit: str
    wait: float

    def told(self, *, finished: bool) -> str:
        """Say it in a clause."""
        amount = f"{written(self.call)} needs {_amount(self.needed, self.unit)} of {self.series}"
        if finished:
            return f"{amount}; the run has {_amount(self.has, self.unit)}"
        return (
            f"{amount}; the run has {_amount(self.has, self.unit)} so far, "
            f"and at its pace the others in {_time(self.wait)}"
        )


def windows(places: Sequence[Place], *, finished: bool) -> Iterator[Lint]:
    """Tell of windows that never hold what their function needs to answer."""
    by_rule: dict[str, list[tuple[Place, _Short]]] = defaultdict(list)
    for place in places:
        shorts = [short for tree in place.trees[:1] for short in _shorts(tree, place.facts)]
        if not finished:
            shorts = [short for short in shorts if short.wait > LONG_WAIT]
        if shorts:
            by_rule[place.rule.name].append((place, max(shorts, key=lambda short: short.needed)))
    for name, found in by_rule.items():
        blind = [(place, short) for place, short in found if not place.judged]
        place, short = (blind or found)[0]
        of = f" (and so for {len(found) - 1} more of its instances)" if len(found) > 1 else ""
        severity: Literal["warning", "info"] = "warning" if blind and finished else "info"
        effect = "it never had an answer: " if blind and finished else "an arm of it is unknown: "
        if not finished:
            effect = ""
        what = f"{effect}{short.told(finished=finished)}{of}"
        yield Lint("window", (name,), place.driver, what, _shorter(short), severity)


def _shorter(short: _Short) -> str:
    if short.has < 1 or short.unit != "points":
        return "a shorter window, or a smaller cover=, if runs are to be as long as this one"
    return f"a shorter window, or min_points={max(1, int(short.has) // 2)}, if runs are as long as this one"


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
        if has < span.amount and finished:
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
        for said, limit, has in (
            (f"after_step = {spec.after_step}", spec.after_step, own.last_step),
            (f"after_points = {spec.after_points}", spec.after_points, own.count),
        ):
            if has < limit:
                reached = f"step {has}" if "step" in said else _amount(has, "points")
                what = f"it never had an opinion: {said}, and {place.driver} ends at {reached}"
                yield Lint("warm-up", (spec.name,), place.driver, what, "a shorter warm-up", "warning")


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


def axis(places: Sequence[Place], *, finished: bool) -> Iterator[Lint]:  # noqa: ARG001  # one shape for all
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
    return f"{amount:,.6g} {unit if amount != 1 else unit[:-1]}"


def _time(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "an unknown time"
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} s"
