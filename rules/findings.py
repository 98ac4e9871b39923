"""What one requirement of a gate came to: its answer, the numbers behind it, and why it is unknown where it
is.

Everything is read through the requirement's own windows, so what is told cannot disagree with the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rules.evaluate import Evaluator
from rules.explain import Part, Scene
from rules.fits import T_CRITICAL, trend_t
from rules.schema import RequirementSpec
from rules.tree import Call, Node, walk
from rules.verdict import Verdict
from rules.windows import Buffer

TRENDS = {"rising": 1, "falling": -1}


@dataclass(frozen=True, slots=True)
class Finding:
    """One requirement, judged.

    Attributes:
        text: the condition, as written. why: what it is asked for.
        early_fail: whether one False is enough. on_false: what a False at `at` does to the gate.
        answer: True, False, or None where it is unknown.
        value: the left side of the comparison that decides it. limit: the right side.
        points: finite points in the window it looks at; of a condition without one, of its first series.
        t: of a condition on a trend, Student's t of the line through six block means; it rises above 2.132.
        step: run step at which an `early_fail` was False first; None for an answer as of the gate's `at`.
        reason: the answer in words.
    """

    text: str
    why: str
    early_fail: bool
    on_false: Literal["fail", "inconclusive"]
    answer: bool | None
    value: float | None
    limit: float | None
    points: int
    t: float | None
    step: int | None
    reason: str

    @property
    def fails(self) -> bool:
        """Whether it makes the gate fail."""
        return self.answer is False and self.on_false == "fail"


def find(
    evaluator: Evaluator,
    key: str,
    requirement: RequirementSpec,
    said: Verdict | None,
    early: Verdict | None,
    now: float,
) -> Finding:
    """Judge a requirement as of `now` (wall time, seconds since the epoch).

    Args:
        evaluator: of the run, all ticks closed. key: the requirement's in it.
        said: the last verdict that was reported of it.
        early: the first one that was False, where that is enough: it stands, whatever came later.
    """
    text = " ".join(requirement.expr.split())
    if early is not None:
        at = early.at
        reason = f"{numbers(early.value, early.limit)} at step {at.run_step}, and once is enough"
        return Finding(
            text=text,
            why=requirement.why,
            early_fail=True,
            on_false="fail",
            answer=False,
            value=early.value,
            limit=early.limit,
            points=at.points,
            t=None,
            step=at.run_step,
            reason=reason,
        )
    answer, failure = _answer(evaluator, key, now)
    scene = evaluator.scene(key)
    condition = scene.here(_expression(evaluator, key))
    points, t, means = _behind(condition, scene)
    if points is None:
        points = evaluator.place(key, now).points
    value, limit = (said.value, said.limit) if said is not None and answer is not None else (None, None)
    if failure:
        reason = f"its evaluation failed: {failure}"
    elif answer is None:
        reason = "; ".join(dict.fromkeys(_unknown(evaluator.explain(key, now)))) or "unknown"
    elif t is not None:
        reason = f"t = {t:.2f} over {points} points; {means}"
    else:
        reason = f"{numbers(value, limit)}, {points} point{'' if points == 1 else 's'}"
    return Finding(
        text=text,
        why=requirement.why,
        early_fail=requirement.early_fail,
        on_false=requirement.on_false,
        answer=answer,
        value=value,
        limit=limit,
        points=points,
        t=t,
        step=None,
        reason=reason,
    )


def _answer(evaluator: Evaluator, key: str, now: float) -> tuple[bool | None, str]:
    """Ask a condition; a failure is unknown, and said."""
    try:
        answer = evaluator.condition(key)(now)
    except (ArithmeticError, ValueError, LookupError, TypeError) as error:
        return None, f"{type(error).__name__}: {error}"
    return answer, evaluator.errors.get(key, "") if answer is None else ""


def _expression(evaluator: Evaluator, key: str) -> Node:
    return next(rule.expr for rule in evaluator.program.rules if rule.spec.name == key)


def _behind(condition: Node, scene: Scene) -> tuple[int | None, float | None, str]:
    """Points in the first window, t of the first trend and what t would mean one, if there are any."""
    points: int | None = None
    for call in walk(condition):
        if not isinstance(call, Call) or call.window is None or not call.arguments:
            continue
        series = scene.builder.source(call.arguments[0])
        buffer = scene.builder.shared.get((id(series), call.window)) if series is not None else None
        if not isinstance(buffer, Buffer):
            continue
        if call.function in TRENDS:
            t = trend_t(list(buffer.values))
            return len(buffer.values), None if math.isnan(t) else t, _meaning(call)
        if points is None:
            points = len(buffer.values)
    return points, None, ""


def _meaning(call: Call) -> str:
    """Say from what t on a trend is one: `falling is t < -2.132 and a change of 50%`."""
    sign = ">" if TRENDS[call.function] > 0 else "<"
    by = call.number("by")
    change = f" and a change of {by:.0%}" if by else ""
    return f"{call.function} is t {sign} {TRENDS[call.function] * T_CRITICAL:g}{change}"


def numbers(value: float | None, limit: float | None) -> str:
    """Write the two sides of the comparison that decided something."""
    if value is None:
        return "no number decides it"
    return f"{value:.6g}" if limit is None else f"{value:.6g} against {limit:.6g}"


def _unknown(part: Part) -> Iterator[str]:
    """Say of the innermost unknown parts why they are."""
    inner = [below for below in part.parts if below.value is None]
    for below in inner:
        yield from _unknown(below)
    if not inner and part.value is None:
        yield f"{part.text}: {part.note}" if part.note else part.text
