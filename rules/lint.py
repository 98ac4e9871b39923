"""What is wrong between rules and one run, though both are well: names that nothing stands for, windows that
never fill, axes that are mixed up, rules that never had an answer.

Nothing here fires or fails. A lint says that a rule cannot do in this run what its author meant, which
otherwise looks like health.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from rules.axis_facts import RunFacts, SeriesFacts
from rules.compile import CompiledRule
from rules.coverage import Coverage, coverage, nearest_tag
from rules.evaluate import RESOLVE_BY, Program
from rules.explain import Part
from rules.lint_axes import axis, hold, warm_up
from rules.lint_found import Code, Lint, Place, listed
from rules.lint_windows import windows
from rules.names import Names
from rules.schema import Severity
from rules.tree import Call, Logic, Node, Tag, Truth, walk
from rules.watch import RunWatch

MOST_INSTANCES = 1000
"""Tags that a pattern may fit before it is told."""


@dataclass(frozen=True, slots=True)
class Silence:
    """How a rule instance stands at the run's end that never had an answer.

    Attributes:
        mark: its badge: warming, nodata, inapplicable. part: its condition, taken apart.
    """

    mark: str
    part: Part


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
    if not facts.series:
        what = "no scalar is logged: no rule has anything to judge"
        hint = "see whether it logs into this folder, and scalars"
        return [Lint("empty", (), "the run", what, hint, "warning")]
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
    short = list(windows(places, finished=finished))
    found += short
    blind = {name for lint in short for name in lint.rules}
    others = [place for place in places if place.rule.name not in blind]
    found += [*hold(others, finished=finished), *warm_up(others, finished=finished), *axis(places)]
    told = {name for lint in found if lint.code != "axis" for name in lint.rules}
    if finished:
        found += _never(program, silent, able - told)
    found += _tags(places, facts.series)
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


def _names(program: Program, sights: Sequence[Coverage], tags: Collection[str]) -> Iterator[Lint]:
    foreign = _foreign(sights)
    for pack, names in foreign.items():
        yield _pack(pack, [sight for sight in sights if sight.rule in names], tags)
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


def _pack(pack: str, sights: Sequence[Coverage], tags: Collection[str]) -> Lint:
    missing = {name: wanted for sight in sights for name, wanted in sight.missing.items()}
    what = f"none of its {len(sights)} rules can fire here: the run logs nothing for {listed(missing, 6)}"
    pairs = ((name, nearest_tag(name, wanted, sorted(tags))) for name, wanted in missing.items())
    near = [f"{name} = [{tag!r}]" for name, tag in pairs if tag is not None]
    own = f"; else name its tags under [metrics], as {listed(near)}" if near else ""
    hint = f"leave the pack out, if the run is of another kind{own}"
    return Lint("pack", tuple(sight.rule for sight in sights), pack, what, hint, "warning")


def _unresolved(name: str, by: Iterable[Coverage], tags: Collection[str]) -> Lint:
    blind = [sight.rule for sight in by if sight.sight == "blind"]
    part = [sight.rule for sight in by if sight.sight == "part"]
    wanted = next(sight.missing[name] for sight in by)
    parts = [f"{listed(blind, 6)} can never fire"] if blind else []
    parts += [f"{listed(part)} can fire, but {'lack' if len(part) > 1 else 'lacks'} an arm"] if part else []
    near = nearest_tag(name, wanted, sorted(tags))
    by_name = wanted != (name,)  # an exact tag, m["…"], is not found under [metrics]
    hint = f"log {_either(wanted)}, or name your tag under [metrics]"
    if near is not None and by_name:
        own = f"write {name} = [{near!r}] under [metrics]"
        hint = f"the nearest tag is {near!r}: if that is it, {own}; else {hint}"
    elif near is not None:
        hint = f"the nearest tag is {near!r}: is that it?"
    elif blind:
        hint = f"log {_either(wanted)}, name your tag under [metrics], or leave the rules out"
    what = f"nothing that the run logs is {name!r}: {'; '.join(parts)}"
    return Lint("unresolved", (*blind, *part), name, what, hint, "warning" if blind else "info")


def _either(wanted: Iterable[str]) -> str:
    shown = [repr(tag) for tag in wanted]
    return " or ".join(shown[:3]) + (", …" if len(shown) > 3 else "")


def _pattern(sight: Coverage, pattern: str, tags: Collection[str]) -> Iterator[Lint]:
    if sight.instances == 0:
        near = nearest_tag(pattern, (), sorted(tags))
        hint = f"the nearest tag is {near!r}" if near else "correct the pattern, or leave the rule out"
        what = f"no tag of the run fits {pattern!r}: the rule does not exist here"
        own = "/" not in sight.rule  # a pack's pattern is for whatever may be there
        yield Lint("each", (sight.rule,), pattern, what, hint, "warning" if own else "info")
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
        said, arms = silent[name], could_fire(rule.expr, silent[name].part)
        what = f"its answer was unknown all through the run; {_because(said)}"
        if arms:
            what = f"it could fire, but one arm was unknown all through the run; {_because(said)}"
        hint = f"sentinel explain {name} RUN shows every part"
        yield Lint("never", (name,), "", what, hint, "info" if arms else "warning")


def _never_each(rule: CompiledRule, keys: list[str], silent: Mapping[str, Silence]) -> Lint:
    said = silent[keys[0]]
    what = f"these instances never had an answer: {listed(keys)}; {_because(said)}"
    return Lint("never", (rule.spec.name,), "", what, f"sentinel explain {keys[0]!r} RUN", "info")


def _because(said: Silence) -> str:
    if said.mark == "warming":
        return "it waits, by its own wish: after_step, after_points, after_time or grace"
    part = _unknown(said.part)
    return f"at the end, of {part.text}: {part.note or 'unknown'}"


def _unknown(part: Part) -> Part:
    """Return the innermost part that is unknown, the first in the order of the text."""
    inner = next((child for child in part.parts if child.value is None), None)
    return part if inner is None or part.note else _unknown(inner)


def could_fire(node: Node, part: Part) -> bool:
    """Whether a condition that is unknown could yet have been True, by an arm that is known."""
    if not isinstance(node, Logic):
        return part.value is not None
    operands = [operand for operand in node.operands if not isinstance(operand, Truth)]
    arms = (could_fire(operand, arm) for operand, arm in zip(operands, part.parts, strict=True))
    return any(arms) if node.op == "or" else all(arms)


# -- tags ----------------------------------------------------------------------


def _tags(places: Iterable[Place], series: Mapping[str, SeriesFacts]) -> Iterator[Lint]:
    reading: dict[str, dict[str, None]] = defaultdict(dict)
    looking_back: dict[str, dict[str, None]] = defaultdict(dict)
    for place in places:
        tree = place.trees[0]
        if _is_for_nan(tree):
            continue
        for tag in _read(tree):
            reading[tag][place.rule.name] = None
        for part in walk(tree):
            for tag in _read(part) if isinstance(part, Call) and part.window is not None else ():
                looking_back[tag][place.rule.name] = None
    for tag, found in series.items():
        rules = tuple(reading[tag])
        if found.finite == 0:
            what = f"all {found.count} points are NaN or infinite, from the first on"
            hint = "mend what computes it; until then no rule can judge it"
            yield Lint("nan", rules, tag, what, hint, "warning" if rules else "info")
        if is_disordered(found) and looking_back[tag]:
            hint = _ORDER[found.sources > 1]
            yield Lint("duplicate", tuple(looking_back[tag]), tag, _disorder(found), hint, "info")


def _read(tree: Node) -> set[str]:
    return {part.name for part in walk(tree) if isinstance(part, Tag)}


def _is_for_nan(tree: Node) -> bool:
    """Whether a condition is there to see NaN: it is not blinded by it."""
    return any(isinstance(part, Call) and part.function in ("is_finite", "is_nan") for part in walk(tree))


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
