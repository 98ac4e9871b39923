"""What to draw of an alert: the series that decide it, what they are held against, and what happened. Pure.

The picture is about the rule's own names in this run: `actor_q` against `critic_q`, not every tag that some
window reads. Steps are those of the rule's own axis; what is known only by the trainer's step or by the clock
is put where the deciding series was then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from notifier.numbers import number
from notifier.plot import MOST_POINTS, Line, Mark, Plot, bounded, thinned
from rules.alert import Alert
from rules.tree import Arithmetic, Call, Compare, Each, Logic, Metric, Negative, Node, Tag, children, walk
from rules.tree import Number as Constant
from rules.verdict import Mark as Place
from rules.watch import RunWatch
from sentinel.checkpoints import Checkpoint, is_suspect
from sentinel.curves import Curves, Kept

LINES = 3
"""Series of one picture, without the limit: more cannot be told apart on a phone."""

BEFORE = 2.0
"""How much of the time before the onset is shown, in lengths of the incident so far; at least 20 points."""

_HEALTHY = 20  # points before the onset that are shown at the least, where there are so many

_LEVELS = frozenset({"mean", "median", "quantile", "highest", "lowest", "ewma", "last", "coalesce"})
"""Functions whose value is in the unit of their first argument, so that a limit can be drawn beside it."""

_JOINS: Mapping[str, Callable[[Sequence[float]], float]] = {"min": min, "max": max}


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known of a run besides its points.

    Attributes:
        run: as people call it. rewinds: (run step gone back to, wall time) of each attempt after the first.
        checkpoints: those that are there; they need not be verified.
        suspicions: stretches of wall time whose checkpoints are not to be trusted.
    """

    run: str
    rewinds: Sequence[tuple[int, float]] = ()
    checkpoints: Sequence[Checkpoint] = ()
    suspicions: Sequence[tuple[float, float | None]] = ()


@dataclass(frozen=True, slots=True)
class _Series:
    name: str
    node: Node
    points: Sequence[Kept]


def draw(
    watch: RunWatch, curves: Curves, alert: Alert, title: str, scene: Scene, *, now: Place, ending: str = ""
) -> Plot | None:
    """Compose the plot of an alert as it stands.

    Args:
        watch: the rules in this run. curves: what was logged.
        alert: whose story it is. title: of the story, in words.
        scene: what else is known.
        now: where the run stands, or where the story ended.
        ending: how the story ended, in a word or two; "" while it goes on.

    Returns:
        The plot; None where nothing that the rule names was logged.
    """
    subject = watch.subject(alert.key)
    if subject is None:
        return None
    tree, here = subject
    found = _series(tree, here, curves)
    if not found:
        return None
    first = found[0]
    axis = _Axis(first.points, scene.rewinds, counts_steps=now.step == now.run_step)
    onset = alert.onset or now
    begin = _begin(first.points, onset, now, axis)
    lines = [_line(each.name, each.points, begin, axis) for each in found]
    limit, limit_label, curve = _limit(tree, alert, found, here, curves)
    if curve:
        lines.append(_line(limit_label, curve, begin, axis, is_limit=True))
    kept = [line for line in lines if line.parts]
    if not kept:
        return None
    marks = [*_marks(alert, onset, now, ending), *axis.rewound(begin), *_checkpoints(scene, axis, begin, now)]
    return bounded(
        Plot(
            title,
            scene.run,
            "step" if axis.counts_steps else f"step of {watch.driver(alert.key)}",
            tuple(kept),
            limit,
            "" if curve else limit_label,
            tuple(marks),
        )
    )


# -- which series --------------------------------------------------------------


def _series(tree: Node, here: Callable[[Node], Node], curves: Curves) -> list[_Series]:
    """Find the series that a condition is about, in the order of its text; none that others make up."""
    found: list[_Series] = []
    covered: set[str] = set()
    for part in walk(tree):
        if not isinstance(part, Metric | Tag | Each):
            continue
        node = here(part)
        tags = {leaf.name for leaf in walk(node) if isinstance(leaf, Tag)}
        if not tags or tags <= covered:
            continue
        for name, leaf in _drawable(part, node, tags):
            points = _evaluate(leaf, curves)
            if points and len(found) < LINES:
                found.append(_Series(name, leaf, points))
        covered |= tags
    if not found:
        return []
    low, high = found[0].points[0].step, found[0].points[-1].step
    return [found[0], *(each for each in found[1:] if _shares_axis(each.points, low, high))]


def _drawable(part: Node, node: Node, tags: set[str]) -> Iterator[tuple[str, Node]]:
    """Yield what can be drawn of a name: its tag, the expression that it is, or else that one's tags."""
    if isinstance(node, Tag):
        yield node.name, node
    elif isinstance(part, Metric) and _is_simple(node):
        yield part.name.replace("_", " "), node
    else:
        for tag in sorted(tags):
            yield tag, Tag(tag)


def _is_simple(node: Node) -> bool:
    """Whether a tree can be computed point by point."""
    match node:
        case Tag() | Constant():
            return True
        case Negative() | Arithmetic():
            return all(_is_simple(child) for child in children(node))
        case Call() if node.function in _JOINS:
            return all(_is_simple(child) for child in children(node))
        case _:
            return hasattr(node, "operand") and all(_is_simple(child) for child in children(node))


def _shares_axis(points: Sequence[Kept], low: int, high: int) -> bool:
    """Whether a series counts the same steps; an episode's number is not a step of training."""
    return points[-1].step >= low + (high - low) // 2 and points[0].step <= high


def _evaluate(node: Node, curves: Curves) -> list[Kept]:
    """Compute a simple tree wherever the first of its tags has a point."""
    if isinstance(node, Tag):
        return curves.points(node.name)
    tags = list(dict.fromkeys(leaf.name for leaf in walk(node) if isinstance(leaf, Tag)))
    lead, *others = [curves.points(tag) for tag in tags]
    columns = [_Latest(points) for points in others]
    made = []
    for point in lead:
        values = {tags[0]: point.value}
        for tag, column in zip(tags[1:], columns, strict=True):
            values[tag] = column.at(point.wall_time)
        value = _value(node, values)
        if value is not None:
            made.append(Kept(point.step, point.wall_time, value))
    return made


class _Latest:
    """The last value of a series at a moment; moments only go on, to within a tick."""

    def __init__(self, points: Sequence[Kept]) -> None:
        self._points = points
        self._place = 0

    def at(self, wall: float) -> float:
        while self._place < len(self._points) and self._points[self._place].wall_time <= wall + 1.0:
            self._place += 1
        return self._points[self._place - 1].value if self._place else math.nan


def _value(node: Node, values: Mapping[str, float]) -> float | None:
    match node:
        case Tag():
            return values[node.name]
        case Constant():
            return node.value
        case Negative():
            inner = _value(node.operand, values)
            return None if inner is None else -inner
        case Arithmetic() | Call():
            parts = [_value(child, values) for child in children(node)]
            known = [part for part in parts if part is not None and not math.isnan(part)]
            if len(known) < len(parts):
                return None
            return _joined(node, known)
        case _:
            [operand] = children(node)
            return _value(operand, values)


def _joined(node: Arithmetic | Call, parts: Sequence[float]) -> float | None:
    if isinstance(node, Call):
        return _JOINS[node.function](parts)
    left, right = parts
    try:
        made = {
            "+": lambda: left + right,
            "-": lambda: left - right,
            "*": lambda: left * right,
            "/": lambda: left / right,
        }.get(node.op, lambda: math.nan)()
    except (ArithmeticError, ValueError):
        return None
    return None if math.isnan(made) else made


# -- what they are held against ------------------------------------------------


def _limit(
    tree: Node, alert: Alert, found: Sequence[_Series], here: Callable[[Node], Node], curves: Curves
) -> tuple[float | None, str, list[Kept]]:
    """Find what can be drawn of the limit: (a level, its name, or a curve of its own)."""
    compared = [part for part in _comparisons(tree) if isinstance(part.right, Constant)]
    for part in compared:
        curve = _relative(part, found, here, curves)
        if curve is not None:
            # Of an `or` another part may have decided, below this limit.
            several = any(isinstance(node, Logic) and node.op == "or" for node in walk(tree))
            return None, f"{'one limit' if several else 'limit'}: {curve[0]}", curve[1]
    decided = [part for part in compared if _is_level(part.left, here)]
    ours = next((part for part in decided if _number(part) == alert.limit), None)
    if ours is None:
        return None, "", []
    return _number(ours), f"limit {number(_number(ours))}", []


def _comparisons(tree: Node) -> Iterator[Compare]:
    match tree:
        case Compare():
            yield tree
        case Logic():
            for operand in tree.operands:
                yield from _comparisons(operand)


def _number(part: Compare) -> float:
    assert isinstance(part.right, Constant), "only those with a constant on their right are looked at"
    return part.right.value


def _is_level(node: Node, here: Callable[[Node], Node]) -> bool:
    """Whether a tree's value is in the unit of the series that is drawn for it."""
    match node:
        case Metric():
            return _is_simple(here(node))
        case Tag() | Each():
            return True
        case Call() if node.function in _LEVELS:
            return _is_level(node.arguments[0], here)
        case _:
            return False


def _relative(
    part: Compare, found: Sequence[_Series], here: Callable[[Node], Node], curves: Curves
) -> tuple[str, list[Kept]] | None:
    """Draw `relgap(a, b) > k` where it lies for a: at b and k times its size above it."""
    gap = part.left
    if isinstance(gap, Metric):
        gap = here(gap)
        gap = gap if isinstance(gap, Call) else next(iter(children(gap)), gap)
    if not isinstance(gap, Call) or gap.function != "relgap" or part.op not in (">", ">="):
        return None
    reference = gap.arguments[1]
    while isinstance(reference, Call) and reference.function in _LEVELS:
        reference = reference.arguments[0]
    node = here(reference) if isinstance(reference, Metric | Tag | Each) else reference
    if not _is_simple(node):
        return None
    name = next((each.name for each in found if each.node == node), "")
    factor, floor = _number(part), gap.number("floor")
    curve = [
        Kept(step, wall, value + factor * max(abs(value), floor))
        for step, wall, value in _evaluate(node, curves)
    ]
    return f"{number(1 + factor)} x {name.rpartition('/')[2] or 'reference'}", curve


# -- steps ---------------------------------------------------------------------


class _Axis:
    """The deciding series' steps, and where on them something happened that is known by the clock."""

    def __init__(
        self, points: Sequence[Kept], rewinds: Sequence[tuple[int, float]], *, counts_steps: bool
    ) -> None:
        self.counts_steps = counts_steps
        self._points = points
        self._rewinds = rewinds

    def part(self, wall: float) -> int:
        """Say in which attempt a moment lies."""
        return sum(began <= wall for _, began in self._rewinds)

    def at(self, run_step: int, wall: float) -> float | None:
        """Return the step on this axis of something at a run step and a moment; None before its points."""
        if self.counts_steps:
            return float(run_step)
        return next((float(p.step) for p in reversed(self._points) if p.wall_time <= wall), None)

    def targets(self, since: float) -> list[float]:
        """Return the steps that the run went back to from a moment on, where they are of this axis."""
        return [float(step) for step, wall in self._rewinds if wall >= since] if self.counts_steps else []

    def rewound(self, begin: float) -> Iterator[Mark]:
        """Yield where the run went back, and to where."""
        for to_step, wall in self._rewinds:
            before = next((p for p in reversed(self._points) if p.wall_time < wall), None)
            if before is None or before.step < begin:
                continue
            to = float(to_step) if self.counts_steps else None
            yield Mark("rollback", float(before.step), f"back to step {number(to_step)}", to)


def _begin(points: Sequence[Kept], onset: Place, now: Place, axis: _Axis) -> float:
    """Return the first step to be shown: enough before the onset to see what was healthy, and whatever the
    run has gone back to since.
    """
    later = [point.step for point in points if point.wall_time >= onset.wall_time]
    length = max(0, max([now.step, *later]) - onset.step)
    before = [point.step for point in points if point.wall_time < onset.wall_time and point.step < onset.step]
    begin = min([onset.step - max(BEFORE * length, 1), *before[-_HEALTHY:]])
    return min([begin, *axis.targets(onset.wall_time)])


def _line(name: str, points: Sequence[Kept], begin: float, axis: _Axis, *, is_limit: bool = False) -> Line:
    parts: dict[int, list[tuple[float, float]]] = {}
    for step, wall, value in points:
        if step >= begin:
            parts.setdefault(axis.part(wall), []).append((float(step), value))
    many = MOST_POINTS // (len(parts) or 1)
    return Line(name, tuple(tuple(thinned(parts[at], many)) for at in sorted(parts)), is_limit)


def _marks(alert: Alert, onset: Place, now: Place, ending: str) -> Iterator[Mark]:
    seen = alert.fired
    if seen is None or seen.step == onset.step:
        yield Mark(
            "fired" if seen is not None else "onset", float(onset.step), f"began at {number(onset.step)}"
        )
    elif seen.step < onset.step:  # fired in an earlier attempt
        yield Mark("onset", float(onset.step), f"began at {number(onset.step)}")
    else:
        yield Mark("onset", float(onset.step), f"began at {number(onset.step)}")
        yield Mark("fired", float(seen.step), f"seen at {number(seen.step)}")
    if ending:
        kind = "ended" if "ended" in ending else "closed"
        yield Mark(kind, float(now.step), f"{ending} at {number(now.step)}")


def _checkpoints(scene: Scene, axis: _Axis, begin: float, now: Place) -> Iterator[Mark]:
    for each in scene.checkpoints:
        at = axis.at(each.step, each.wall_time)
        if at is None or at < begin or each.wall_time > now.wall_time:
            continue
        suspect = is_suspect(each, scene.suspicions)
        yield Mark("suspect" if suspect else "checkpoint", at, each.name)
