"""Lints about holds and warm-ups that are longer than a run, and about steps on the wrong axis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from rules.axis_facts import RunFacts, SeriesFacts
from rules.lint_found import Lint, Place, grade, listed
from rules.lint_windows import amount_of, leaves_of, time_of
from rules.tree import Call, walk
from rules.written import written

_LONGER = "nothing, if other runs are longer; else a shorter {}"
_LAG = 10  # an axis on which the run is so many times further is another one
_ALIVE = 0.5  # share of the run's time that a series must have lived through for its axis to be compared


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
        shown = amount_of(span.amount, span.unit)
        if has < span.amount and finished and place.judged:
            only = amount_of(has, span.unit)
            what = f"for = {shown}, but {place.driver} has only {only} in this run: it never fires"
            rules = (place.rule.name,)
            yield Lint("hold", rules, place.driver, what, _LONGER.format("`for`"), grade(rules))
        elif gap and span.amount <= gap and own.count > 2:
            what = (
                f"for = {shown}, and {place.driver} logs every {amount_of(gap, span.unit)}: "
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
        own, spec, rules = place.own, place.rule, (place.rule.name,)
        if own is None or not finished or place.judged:
            continue
        for said, limit, reached in (
            (f"after_step = {spec.after_step}", spec.after_step, own.last_step),
            (f"after_points = {spec.after_points}", spec.after_points, own.count),
        ):
            if reached < limit:
                end = f"step {reached}" if "step" in said else amount_of(reached, "points")
                what = f"it never had an opinion: {said}, and {place.driver} ends at {end}"
                yield Lint("warm-up", rules, place.driver, what, _LONGER.format("warm-up"), grade(rules))
        whole, late = place.facts.whole, spec.after_time
        if late is not None and whole is not None and whole.seconds < late.amount:
            waits, has = time_of(late.amount), time_of(whole.seconds)
            what = f"it never had an opinion: after_time = {waits}, and the run is {has} long"
            yield Lint("warm-up", rules, "step_any", what, _LONGER.format("warm-up"), grade(rules))


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
                leaves = leaves_of(part, place.facts)
                if leaves:
                    yield written(part), leaves[0][0]
    spec = place.rule
    for name, span in (("for", spec.for_), ("keep_firing_for", spec.keep_firing_for)):
        if span.unit == "steps" and span.amount:
            yield f"{name} = {amount_of(span.amount, 'steps')}", place.driver
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
