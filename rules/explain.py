"""A rule taken apart at one moment: what each part of its condition is, and why what is unknown is unknown.

The parts are read through the very windows that the rule itself reads, so an explanation cannot disagree
with a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rules.closures import Builder
from rules.compile import Alias
from rules.names import Names
from rules.tree import Call, Compare, Each, Metric, Missing, Node, Number, StepAny, Tag, Truth, children, kind
from rules.windows import Buffer
from rules.written import written


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a condition at a moment.

    Attributes:
        text: as it would be written. value: a number, an answer, or None where it is unknown.
        note: what it stands for in this run, how much of its window is there, why it is unknown.
        parts: what it is made of; constants are left out.
    """

    text: str
    value: float | bool | None
    note: str
    parts: tuple[Part, ...] = ()

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Part]]:
        """Yield (depth, part) of this part and all below it, in the order of the text."""
        yield depth, self
        for part in self.parts:
            yield from part.walk(depth + 1)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a rule stands: a run's names and series, and which instance of an `each` rule it is."""

    names: Names
    builder: Builder
    metrics: Mapping[str, Alias]
    tag: str | None
    captures: Mapping[str, str]

    def here(self, node: Node) -> Node:
        """Return a tree with this run's tags in the place of its names."""
        return self.names.tree(node, self.tag, self.captures)


def explain(node: Node, scene: Scene, now: float) -> Part:
    """Take a tree apart as of `now` (wall time, seconds since the epoch)."""
    match node:
        case Metric(name):
            return _metric(node, name, scene, now)
        case Tag() | Each() | StepAny():
            return Part(written(node), _value(node, scene, now), _points(scene.here(node), scene, now))
    parts = tuple(
        explain(child, scene, now) for child in children(node) if not isinstance(child, Number | Truth)
    )
    value = _value(node, scene, now)
    waits = any(part.value is None for part in parts)
    note = _window(node, scene) if isinstance(node, Call) else ""
    if isinstance(node, Call) and value is None and (note or not waits):
        note = "; ".join(filter(None, (note, f"unknown while: {node.row.unknown}")))
    if isinstance(node, Compare) and value is None and not waits:
        note = "a comparison with NaN is unknown"
    return Part(written(node), value, note, parts)


def _value(node: Node, scene: Scene, now: float) -> float | bool | None:
    here = scene.here(node)
    if kind(here) == "bool":
        return scene.builder.truth(here)(now)
    number = scene.builder.number(here)(now)
    return None if math.isnan(number) else number


def _metric(node: Metric, name: str, scene: Scene, now: float) -> Part:
    tree = scene.names.metric(name)
    if tree is None:
        wanted = ", ".join(candidate.text for candidate in scene.metrics[name].candidates)
        return Part(name, None, f"not logged: the run has none of {wanted}")
    value = _value(node, scene, now)
    if isinstance(tree, Tag):
        return Part(name, value, f"{tree.name}: {_points(tree, scene, now)}")
    chosen = scene.names.chosen(name)
    written_so = next(c.tree for c in scene.metrics[name].candidates if c.text == chosen)
    assert written_so is not None, "what is no tag is an expression"
    return Part(name, value, chosen or "", (explain(written_so, scene, now),))


def _points(node: Node, scene: Scene, now: float) -> str:
    """Say where a series stands: its last point, and whether that is still fresh."""
    if isinstance(node, Missing):
        return "not logged"
    series = scene.builder.source(node)
    if series is None or not series.count:
        return "no point yet"
    count = f"{series.count} point{'' if series.count == 1 else 's'}"
    if series.value != series.value:
        return f"the last of {count} is NaN, at step {series.step}"
    if series.is_old(now):
        return f"stale: the last of {count} is {now - series.latest():.0f} s old, at step {series.step}"
    return f"{count}, the last at step {series.step}"


def _window(call: Call, scene: Scene) -> str:
    """Say how much of a call's window is there, or what it waits for."""
    here = scene.here(call)
    if not isinstance(here, Call) or not here.arguments or call.window is None:
        return ""
    series = scene.builder.source(here.arguments[0])
    if series is None:
        return "nothing to look at: part of it is not logged"
    buffer = scene.builder.shared.get((id(series), here.window))
    if isinstance(buffer, Buffer):
        return _held(call, buffer)
    return (
        f"{series.count} point{'' if series.count == 1 else 's'} so far" if series.count else "no point yet"
    )


def _held(call: Call, buffer: Buffer) -> str:
    assert call.window is not None
    if not buffer.values:
        return "no finite point in the window"
    of = f" of {call.window.size:g}" if call.window.unit == "points" else ""
    span = f"steps {buffer.steps[0]} to {buffer.steps[-1]}"
    lived = ""
    if call.window.unit != "points" and buffer.lived() < 1:
        lived = f", {buffer.lived():.0%} of the window lived through"
    return f"{len(buffer.values)}{of} point{'' if len(buffer.values) == 1 and not of else 's'}, {span}{lived}"
