"""What a rule saw around the place where a test failed: a few aligned lines, with a caret at each step meant.

The case is played once more with the rule traced; the same points give the same answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rules.alert import AlertState
from rules.compile import CompiledRule
from rules.expectations import Story
from rules.source import nearest
from rules.verdict import Condition
from rules.watch import Observation
from sentinel.cases import Played, play
from sentinel.scenarios import Test, Told

MOST_LINES = 15
_NOTE = 70  # characters of a message or reason that are shown
_NONE = "-"
_ANSWERS = {Condition.BREACH: "True", Condition.OK: "False", Condition.UNKNOWN: "UNKNOWN"}
_TITLES = ("step", "value", "limit", "expr", "state")


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `is_mark` where it is a caret under the line before it."""

    text: str
    is_mark: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    step: int
    cells: tuple[str, ...]
    fires: bool = False


def timeline(test: Test, told: Told) -> list[Line]:
    """Return what the rule of a failure said around the steps that the failure is about.

    Args:
        test: what failed. told: how.

    Returns:
        At most MOST_LINES lines; none where the failure is about no rule or no single run.
    """
    failure, course = told.failure, told.course
    if not failure.rule or course is None:
        return []
    played = play(test.scenario, test.case, course)
    key = _key(failure.rule, played)
    if key is None:
        return [Line(text) for text in _why_never(test, failure.rule, played, course.tags)]
    traced = play(test.scenario, test.case, course, traced=(key,))
    rows = list(_rows(traced.trace, traced.stories.get(key, Story())))
    if not rows:
        return [Line(text) for text in _why_never(test, failure.rule, played, course.tags)]
    for step in failure.expected:
        rows = _with_step(rows, step)
    marks: dict[int, list[str]] = {}
    for step in failure.expected:
        marks.setdefault(next(i for i, row in enumerate(rows) if row.step == step), []).append("expected")
    for step in failure.came[:3]:
        words = marks.setdefault(_came(rows, step), [])
        words += [] if "came" in words else ["came"]
    return _shown(f"{key}, {course.label}" if course.label else key, rows, marks)


def _key(rule: str, played: Played) -> str | None:
    """Return the alert to show: the one that is named, else the instance that fired first, else any."""
    of_rule = [key for key in played.keys if rule in (key, key.partition("[")[0])]
    fired = [key for key in of_rule if key in played.stories and played.stories[key].firings]
    fired.sort(key=lambda key: played.stories[key].firings[0].wall)
    return next(iter(fired or of_rule), None)


def _rows(trace: Iterable[Observation], story: Story) -> Iterator[_Row]:
    messages = {(firing.step, firing.wall): firing.message for firing in story.firings}
    asked: dict[tuple[int, float], list[str]] = {}
    for one in story.asked:
        word = f"{one.verb} withheld" if one.withheld else one.verb
        asked.setdefault((one.step, one.wall), []).append(word)
    for seen in trace:
        at, moved = seen.verdict.at, seen.transition
        place = (at.step, at.wall_time)
        fires = moved is not None and moved.after is AlertState.FIRING
        note = "" if moved is None else messages.get(place, moved.reason) if fires else moved.reason
        if place in asked:
            note = "; ".join(filter(None, ("asks for " + ", ".join(asked.pop(place)), note)))
        cells = (
            str(at.step),
            _number(seen.verdict.value),
            _number(seen.verdict.limit),
            _ANSWERS[seen.verdict.condition],
            seen.alert.state.value,
            note if len(note) <= _NOTE else note[: _NOTE - 1] + "…",
        )
        yield _Row(at.step, cells, fires)


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.6g}"


def _with_step(rows: list[_Row], step: int) -> list[_Row]:
    """Return the rows with one at this step; where the rule was not asked there, it says so."""
    if any(row.step == step for row in rows):
        return rows
    at = next((index for index, row in enumerate(rows) if row.step > step), len(rows))
    missing = _Row(step, (str(step), "", "", "", "", "not evaluated at this step"))
    return [*rows[:at], missing, *rows[at:]]


def _came(rows: Sequence[_Row], step: int) -> int:
    """Return the place of what came at a step: where it began to fire, if it did there."""
    at = [index for index, row in enumerate(rows) if row.step == step]
    return next((index for index in at if rows[index].fires), at[-1] if at else len(rows) - 1)


def _shown(key: str, rows: Sequence[_Row], marks: dict[int, list[str]]) -> list[Line]:
    """Cut the rows down to what fits around the marks, and align them."""
    meant = marks or {len(rows) - 1: []}
    context = 3
    lines = _lines(key, rows, marks, _near(len(rows), meant, context))
    while len(lines) > MOST_LINES and context > 0:
        context -= 1
        lines = _lines(key, rows, marks, _near(len(rows), meant, context))
    return lines[:MOST_LINES]


def _near(count: int, meant: Iterable[int], context: int) -> list[int]:
    return sorted({i for at in meant for i in range(at - context, at + context + 1) if 0 <= i < count})


def _lines(key: str, rows: Sequence[_Row], marks: dict[int, list[str]], taken: Sequence[int]) -> list[Line]:
    titles = (*_TITLES, key)
    shown = [titles, *(rows[index].cells for index in taken)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(_TITLES))]
    lines = [Line(_aligned(titles, widths))]
    before = -1
    for index in taken:
        if index > before + 1:
            lines.append(Line("...".rjust(widths[0])))
        before = index
        lines.append(Line(_aligned(rows[index].cells, widths)))
        if index in marks:
            lines.append(Line("^".rjust(widths[0]) + " " + " and ".join(marks[index]), is_mark=True))
    if before < len(rows) - 1:
        lines.append(Line("...".rjust(widths[0])))
    return lines


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = [cell.rjust(width) for cell, width in zip(cells[:3], widths, strict=False)]
    words = [cell.ljust(width) for cell, width in zip(cells[3:5], widths[3:], strict=False)]
    return "  ".join((*numbers, *words, cells[5])).rstrip()


# A rule that never was asked


def _why_never(test: Test, rule: str, played: Played, tags: Iterable[str]) -> Iterator[str]:
    """Say why a rule had nothing to say: no tag fits its pattern, or a metric is nothing that was logged."""
    name = rule.partition("[")[0]
    compiled = next((each for each in test.scenario.program.rules if each.spec.name == name), None)
    if compiled is None:
        return
    logged = sorted(tags)
    if compiled.spec.each is not None:
        which = f"{rule!r} is none of its instances" if rule != name else "no tag fits"
        yield f"{name} was never evaluated: {which} (each = {compiled.spec.each!r})"
        yield f"  logged: {', '.join(logged) or 'nothing'}"
        return
    yield f"{name} was never evaluated"
    yield from _unresolved(test, compiled, played, logged)


def _unresolved(test: Test, compiled: CompiledRule, played: Played, logged: Sequence[str]) -> Iterator[str]:
    words = re.findall(r"[A-Za-z_]\w*", " ".join((compiled.spec.expr, *compiled.spec.let.values())))
    for metric in dict.fromkeys(words):
        if metric in played.resolution and played.resolution[metric] is None:
            candidates = test.scenario.rules.metrics[metric].any
            named = ", ".join(candidates[:4]) + (", …" if len(candidates) > 4 else "")
            yield f"  {metric}: none of {named} was logged"
            hints = [nearest(candidate, logged) for candidate in candidates]
            near = [hint for hint in hints if hint.startswith("did you mean")]
            yield f"  = help: {near[0] if near else 'logged: ' + (', '.join(logged) or 'nothing')}"
