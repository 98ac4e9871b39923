"""What is wrong between rules and one run, though both are well: names that nothing stands for, windows that
never fill, axes that are mixed up, rules that never had an answer.

Nothing here fires or fails. A lint says that a rule cannot do in this run what its author meant, which
otherwise looks like health.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from rules.axis_facts import RunFacts, SeriesFacts
from rules.compile import CompiledRule
from rules.coverage import Coverage, coverage, nearest_tag
from rules.evaluate import RESOLVE_BY, Program
from rules.lint_axes import axis, hold, warm_up, windows
from rules.lint_found import Code, Lint, Place, listed
from rules.names import Names
from rules.schema import Severity
from rules.tree import Each, Node, StepAny, Tag, walk
from rules.watch import RunWatch

MOST_INSTANCES = 1000
"""Tags that a pattern may fit before it is told."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Why a rule instance never had an answer: the part that is unknown at the run's end, and why."""

    mark: str
    part: str
    note: str


def lints(
    program: Program,
    watch: RunWatch,
    facts: RunFacts,
    silent: Mapping[str, Silence],
    failed: Mapping[str, str],
    *,
    finished: bool = True,
    resolve_by: int = RESOLVE_BY,
) -> list[Lint]:
    """Find what keeps rules from working in a run, most useful first.

    Args:
        program: the rules.
        watch: the run as it stands.
        facts: about its series.
        silent: the rule instances that never had a known answer, by key. failed: those whose evaluation
            failed, with the error.
        finished: the run is over. One that goes on is given time: for names, `resolve_by` ticks.
        resolve_by: how many.
    """
    probes = _probes(program)
    sights = coverage(program, {*watch.tags, *probes})
    found = [
        Lint("failed", (_rule(key),), key, what, "see the part that fails: sentinel explain", "warning")
        for key, what in failed.items()
    ]
    if finished or facts.ticks >= resolve_by:
        found += _names(program, sights, watch.tags)
    seen = coverage(program, watch.tags)  # what the sentinel measures itself is in no recording
    able = {sight.rule for sight in seen if sight.sight in ("whole", "part")}
    judged = set(watch.keys()) - set(silent)
    places = [place for place in _places(program, watch, facts, judged) if place.rule.name in able]
    for check in (windows, hold, warm_up, axis):
        found += check(places, finished=finished)
    told = {name for lint in found if lint.severity == "warning" for name in lint.rules}
    if finished:
        found += _never(program, silent, able - told)
    found += _tags(program, watch, facts.series)
    grades = {rule.spec.name: get_args(Severity).index(rule.spec.severity) for rule in program.rules}
    return sorted(found, key=lambda lint: _rank(lint, grades))


def _rank(lint: Lint, grades: Mapping[str, int]) -> tuple[object, ...]:
    worst = max((grades.get(name, 0) for name in lint.rules), default=-1)
    return (lint.severity == "info", -worst, get_args(Code).index(lint.code), lint.rules, lint.metric)


def _rule(key: str) -> str:
    return key.partition("[")[0]


def _probes(program: Program) -> set[str]:
    """Return the tags that the sentinel measures itself: no recording holds them."""
    texts = [candidate.text for alias in program.metrics.values() for candidate in alias.candidates]
    texts += [part.name for rule in program.rules for part in walk(rule.expr) if isinstance(part, Tag)]
    return {text for text in texts if text.startswith("sys/")}


# -- names ---------------------------------------------------------------------


def _names(program: Program, sights: Iterable[Coverage], tags: Collection[str]) -> Iterator[Lint]:
    foreign = _foreign(sights)
    for pack, names in foreign.items():
        what = f"none of the {len(names)} rules of {pack} can fire here: nothing that they need is logged"
        yield Lint("pack", tuple(names), "", what, f"leave out pack:{pack} if the run is no {pack}", "info")
    patterns = {rule.spec.name: rule.pattern.text for rule in program.rules if rule.pattern is not None}
    lacking: dict[str, list[Coverage]] = defaultdict(list)
    for sight in sights:
        if sight.rule in {name for names in foreign.values() for name in names}:
            continue
        pattern = patterns.get(sight.rule)
        if pattern is not None and sight.sight != "inapplicable":
            yield from _pattern(sight, pattern, tags)
        if sight.sight in ("blind", "part"):
            for name in sight.missing:
                if name != pattern:
                    lacking[name].append(sight)
    for name, by in lacking.items():
        yield _unresolved(name, by, tags)


def _foreign(sights: Iterable[Coverage]) -> dict[str, list[str]]:
    """Return the packs of which no rule can see anything, with their rules."""
    packs: dict[str, list[Coverage]] = defaultdict(list)
    for sight in sights:
        if "/" in sight.rule and sight.sight != "inapplicable":
            packs[sight.rule.partition("/")[0]].append(sight)
    return {
        pack: [sight.rule for sight in of]
        for pack, of in packs.items()
        if len(of) > 1 and all(sight.sight == "blind" for sight in of)
    }


def _unresolved(name: str, by: Iterable[Coverage], tags: Collection[str]) -> Lint:
    blind = [sight.rule for sight in by if sight.sight == "blind"]
    part = [sight.rule for sight in by if sight.sight == "part"]
    wanted = next(sight.missing[name] for sight in by)
    parts = [f"{listed(blind)} can never fire"] if blind else []
    parts += [f"{listed(part)} can fire, but {'lack' if len(part) > 1 else 'lacks'} an arm"] if part else []
    near = nearest_tag(name, wanted, sorted(tags))
    if near is not None and name not in wanted:
        hint = f"the nearest tag is {near!r}: if that is it, write {name} = [{near!r}] under [metrics]"
    elif near is not None:
        hint = f"the nearest tag is {near!r}: is that it?"
    elif blind:
        hint = f"log {_either(wanted)}, name your tag under [metrics], or leave the rules out"
    else:
        hint = f"log {_either(wanted)}, or name your tag under [metrics]"
    what = f"no tag of the run is {name!r}: {'; '.join(parts)}"
    return Lint("unresolved", (*blind, *part), name, what, hint, "warning" if blind else "info")


def _either(wanted: Iterable[str]) -> str:
    shown = [repr(tag) for tag in wanted]
    return " or ".join(shown[:3]) + (", …" if len(shown) > 3 else "")


def _pattern(sight: Coverage, pattern: str, tags: Collection[str]) -> Iterator[Lint]:
    if sight.instances == 0:
        near = nearest_tag(pattern, (), sorted(tags))
        hint = f"the nearest tag is {near!r}" if near else "correct the pattern, or leave the rule out"
        what = f"no tag of the run fits {pattern!r}: the rule does not exist here"
        yield Lint("each", (sight.rule,), pattern, what, hint, "warning")
    elif sight.instances > MOST_INSTANCES:
        what = f"{sight.instances:,} tags fit {pattern!r}: as many rules, and as many messages when they fire"
        yield Lint("each", (sight.rule,), pattern, what, "make the pattern narrower", "warning")


# -- rules that never had an answer --------------------------------------------


def _places(program: Program, watch: RunWatch, facts: RunFacts, judged: Collection[str]) -> Iterator[Place]:
    """Yield every rule instance with its condition as it is in this run."""
    names = Names(program.metrics, watch.tags)
    compiled = {rule.spec.name: rule for rule in program.rules}
    instances = _instances(program, watch.tags)
    for key in sorted(watch.keys()):
        rule = compiled[_rule(key)]
        tag, captures = instances.get(key, (None, {}))
        trees = tuple(names.tree(tree, tag, captures) for tree in (rule.expr, rule.clear) if tree is not None)
        driver = watch.driver(key)
        own = facts.whole if driver == "step_any" else facts.series.get(driver)
        yield Place(key, rule.spec, trees, driver, own, facts, judged=key in judged)


def _instances(program: Program, tags: Collection[str]) -> dict[str, tuple[str, dict[str, str]]]:
    found = {}
    for rule in program.rules:
        for tag in tags if rule.pattern is not None else ():
            captures = rule.pattern.match(tag) if rule.pattern is not None else None
            if rule.pattern is not None and captures is not None:
                found[f"{rule.spec.name}[{rule.pattern.label(tag, captures)}]"] = (tag, captures)
    return found


def _never(program: Program, silent: Mapping[str, Silence], able: Collection[str]) -> Iterator[Lint]:
    for rule in program.rules:
        name = rule.spec.name
        keys = [key for key in silent if _rule(key) == name]
        if name not in able or not keys or all(silent[key].mark == "inapplicable" for key in keys):
            continue
        if rule.pattern is not None:
            yield _never_each(rule, keys, silent)
            continue
        said = silent[name]
        what = f"its answer was unknown all through the run: {said.part} is {said.note or 'unknown'}"
        yield Lint("never", (name,), "", what, f"sentinel explain {name} RUN shows every part", "warning")


def _never_each(rule: CompiledRule, keys: list[str], silent: Mapping[str, Silence]) -> Lint:
    said = silent[keys[0]]
    what = (
        f"{len(keys)} of its instances never had an answer: {listed(keys)}; "
        f"of the first, {said.part} is {said.note or 'unknown'}"
    )
    return Lint("never", (rule.spec.name,), "", what, f"sentinel explain {keys[0]!r} RUN", "info")


# -- tags ----------------------------------------------------------------------


def _tags(program: Program, watch: RunWatch, series: Mapping[str, SeriesFacts]) -> Iterator[Lint]:
    names = Names(program.metrics, watch.tags)
    reading: dict[str, list[str]] = defaultdict(list)
    for rule in program.rules:
        for tag in sorted(_read(names.tree(rule.expr))):
            reading[tag].append(rule.spec.name)
    for tag, found in series.items():
        rules = tuple(reading[tag])
        if found.finite == 0:
            what = f"all {found.count} points are NaN or infinite, from the first on"
            hint = "mend what computes it; until then no rule can judge it"
            yield Lint("nan", rules, tag, what, hint, "warning" if rules else "info")
        if is_disordered(found):
            yield Lint("duplicate", rules, tag, _disorder(found), _ORDER[found.sources > 1], "info")


def _read(tree: Node) -> set[str]:
    return {
        part.name for part in walk(tree) if isinstance(part, Tag) and not isinstance(part, Each | StepAny)
    }


def is_disordered(found: SeriesFacts) -> bool:
    """Whether more of a series than now and then a point repeats a step or goes back."""
    return found.repeats + found.backs >= max(3, 0.02 * found.count)


def _disorder(found: SeriesFacts) -> str:
    parts = [f"{found.repeats} repeat the step before them"] if found.repeats else []
    parts += [f"{found.backs} go back to an earlier step"] if found.backs else []
    files = f", from {found.sources} event files" if found.sources > 1 else ""
    return f"of {found.count} points {' and '.join(parts)}{files}"


_ORDER = {
    True: "let one process log it, or give each process a folder of its own",
    False: "log it in one place, once a step; or give the second meaning a tag of its own",
}
