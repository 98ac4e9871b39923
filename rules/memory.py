"""How much a program can come to hold of a run, known before there is a run.

Windows are the only thing that grows with a run's points, and each has an end: `points=n` holds n, and one of
steps or seconds no more than MOST_POINTS. Windows are shared between rules, so each counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from rules.compile import Alias, CompiledRule
from rules.progress import MOST_KEPT
from rules.tree import Call, Metric, Node, walk
from rules.windows import MOST_POINTS

POINT_BYTES = 240
"""Bytes of one point of a window with all that can ride on it, on 64-bit CPython; measured by a test."""

TAG_BYTES = 12_000
"""Bytes of a tag itself: its last point, when its last 128 steps came, and its place in a rule."""

MOST_HELD = 20_000_000
"""Points that the windows of all rules may come to hold together in one run; more is refused at load."""

RUN_BYTES = 180 * MOST_KEPT
"""Bytes of a run itself, however short its rules: at what time it was how far."""

_KEPT = frozenset({"initial", "prev", "zscore", "rzscore"})
"""Functions that keep points of their own; the windows of the others are shared."""

_CONSTANT = frozenset({"ewma", "stale", "absent"})
"""Functions whose window keyword is a span or a duration, and keeps nothing."""

Key: TypeAlias = tuple[object, ...]


class Held(NamedTuple):
    """Points of a window: at most, and where every step and every second logs one point."""

    most: int
    usual: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What one run can make a program hold.

    Attributes:
        points: in the windows of all rules but those with `each`.
        per_tag: of each rule with `each`, what it holds for every tag that fits its pattern.
    """

    points: Held
    per_tag: Mapping[str, Held]

    def bytes(self, tags: int = 0) -> int:
        """Return the most bytes for a run of so many tags, every one of which fits every pattern."""
        points = self.points.most + tags * sum(held.most for held in self.per_tag.values())
        return RUN_BYTES + points * POINT_BYTES + tags * TAG_BYTES


def memory(rules: Iterable[CompiledRule], metrics: Mapping[str, Alias]) -> Memory:
    """Add up every window that a run could come to need; a metric counts with all of its candidates."""
    fixed: dict[Key, Held] = {}
    per_tag = {}
    for rule in rules:
        trees = [rule.expr, rule.clear, rule.recovered, *(tree for _, tree in rule.named)]
        held = dict(_windows([tree for tree in trees if tree is not None], metrics))
        if rule.pattern is None:
            fixed |= held
        else:
            per_tag[rule.spec.name] = _sum(held.values())
    return Memory(_sum(fixed.values()), per_tag)


def _sum(held: Iterable[Held]) -> Held:
    parts = list(held)
    return Held(sum(part.most for part in parts), sum(part.usual for part in parts))


def _windows(trees: Iterable[Node], metrics: Mapping[str, Alias]) -> Iterator[tuple[Key, Held]]:
    """Yield (what is shared, points) of every window in trees, and in what the metrics in them stand for."""
    seen: set[str] = set()
    todo = list(trees)
    while todo:
        for part in walk(todo.pop()):
            if isinstance(part, Call):
                held = _held(part)
                if held.most:
                    own = part.function if part.function in _KEPT else ""
                    yield (part.arguments[0], own, part.window or part.options), held
            elif isinstance(part, Metric) and part.name in metrics and part.name not in seen:
                seen.add(part.name)
                todo += [c.tree for c in metrics[part.name].candidates if c.tree is not None]


def _held(call: Call) -> Held:
    if call.function == "prev":
        kept = int(call.number("n")) + 1
        return Held(kept, kept)
    if call.window is None or call.function in _CONSTANT:
        return Held(0, 0)
    size = int(min(call.window.size, MOST_POINTS))
    return Held(size if call.window.unit == "points" else MOST_POINTS, size)
