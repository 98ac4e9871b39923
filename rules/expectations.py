"""What came of a case, and where it is not what was expected.

Every failure carries the steps that it is about, so that whoever tells it can show what the rule saw there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, get_args

from rules.alert import AlertState
from rules.case import Case, Deed, Expect
from rules.schema import Setting, Severity
from rules.source import Path

TOLERANCE = 1e-3
"""How far a `value` may lie from what is written, relative to it: figures are written with a few digits."""

_SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True, slots=True)
class Firing:
    """One time an alert began to fire."""

    step: int
    wall: float
    onset: int | None
    value: float | None
    message: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One action that a ladder asked for; `withheld` says why it was not taken, where it was not."""

    verb: str
    step: int
    wall: float
    to_step: int | None = None
    set: Mapping[str, Setting] = field(default_factory=dict)
    reinit: tuple[str, ...] = ()
    withheld: str = ""


@dataclass(slots=True)
class Story:
    """What became of one alert: its changes as (step, state), and what its ladder asked for."""

    firings: list[Firing] = field(default_factory=list)
    changes: list[tuple[int, AlertState]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    state: AlertState = AlertState.INACTIVE
    reason: str = ""

    def state_at(self, step: int) -> AlertState:
        """Return how it stood at a step of the rule's own axis; the last time, if the run was there twice."""
        return next((state for at, state in reversed(self.changes) if at <= step), AlertState.INACTIVE)


Stories: TypeAlias = Mapping[str, Story]
"""What became of each alert that a case touched, by key."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one run of a case: of its alerts, and of its gates as (verdict, reason)."""

    stories: Stories
    gates: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that did not come as expected.

    Attributes:
        path: of the expectation within its test. what: the sentence.
        rule: the rule or alert it is about, empty where it is about none.
        expected, came: steps at which something was expected, and at which it came.
    """

    path: Path
    what: str
    rule: str = ""
    expected: tuple[int, ...] = ()
    came: tuple[int, ...] = ()


def compare(case: Case, seen: Seen, severities: Mapping[str, Severity]) -> list[Failure]:
    """Compare one run of a case with what is expected of each run.

    Args:
        case: what was played. seen: what came of it.
        severities: of each rule by name.
    """
    found = [
        failure
        for number, expect in enumerate(case.expect)
        if expect.runs is None
        for failure in unmet(number, expect, seen)
    ]
    if case.quiet is not None:
        found += _quiet(case.quiet, seen.stories, severities)
    return found


def count(
    case: Case, runs: Mapping[str, Seen], points: int, severities: Mapping[str, Severity]
) -> list[Failure]:
    """Compare all runs of a case with what is expected of them together.

    Args:
        case: what was played. runs: what came of it by the run's label, seed by seed.
        points: of the longest series, over all runs.
        severities: of each rule by name.
    """
    found = []
    for number, expect in enumerate(case.expect):
        if expect.runs is None:
            continue
        others = [label for label, seen in runs.items() if list(unmet(number, expect, seen))]
        met = len(runs) - len(others)
        if not expect.runs.min <= met <= expect.runs.max:
            wanted = _bounds(expect.runs.min, expect.runs.max)
            told = f"{expect.rule or expect.gate}: expected so in {wanted} of {len(runs)} runs"
            what = f"{told}; it was in {met}" + (f", not with {listed(others)}" if others else "")
            found.append(Failure(("expect", number, "runs"), what, expect.rule))
    rate = case.expect_false_alarms_per_1e5
    if rate is not None:
        loud = _loud(rate.severity, severities)
        fired = {
            key: sum(len(seen.stories[key].firings) for seen in runs.values() if key in seen.stories)
            for key in sorted({key for seen in runs.values() for key in seen.stories})
            if key.partition("[")[0] in loud
        }
        alarms = sum(fired.values())
        if alarms * 1e5 > rate.max * points:
            worst = ", ".join(f"{key} {times}" for key, times in fired.items() if times)
            rated = alarms * 1e5 / points if points else math.inf
            what = f"expected at most {rate.max:g} false alarms in 1e5 points; it was {rated:.3g}"
            what += f": {alarms} in {points} points ({worst})"
            most = max(fired, key=lambda key: fired[key])
            found.append(Failure(("expect_false_alarms_per_1e5",), what, most))
    return found


def unmet(number: int, expect: Expect, seen: Seen) -> Iterator[Failure]:
    """Yield where one run is not as an expectation says; `number` is its place in the test."""
    if expect.gate is not None:
        yield from _gate(number, expect, seen)
        return
    stories = seen.stories
    story = _of(stories, expect.rule)
    for key, what, wanted, came in (*_firing(expect, story), *_standing(expect, story)):
        said = f"{expect.rule}: {what}" if expect.rule else what
        yield Failure(("expect", number, key), said, expect.rule, wanted, came)
    if expect.before is not None:
        yield from _order(number, expect, story.firings, _of(stories, expect.before).firings)
    if expect.actions is not None:
        what = _actions(expect.actions, story.asked)
        if what:
            said = f"{expect.rule}: {what}" if expect.rule else what
            steps = tuple(asked.step for asked in story.asked)
            yield Failure(("expect", number, "actions"), said, expect.rule, (), steps)


def _gate(number: int, expect: Expect, seen: Seen) -> Iterator[Failure]:
    assert expect.gate is not None, "asked only of a gate's expectation"
    verdict, reason = seen.gates[expect.gate]
    told = f"it is {verdict}: {reason}"
    if verdict != expect.verdict:
        what = f"gate {expect.gate}: expected {expect.verdict}; {told}"
        yield Failure(("expect", number, "verdict"), what)
    elif expect.reason is not None and expect.reason not in reason:
        what = f"gate {expect.gate}: expected the reason {expect.reason!r}; {told}"
        yield Failure(("expect", number, "reason"), what)


_Unmet: TypeAlias = tuple[str, str, tuple[int, ...], tuple[int, ...]]


def _firing(expect: Expect, story: Story) -> Iterator[_Unmet]:
    """Yield (key, what, expected steps, steps it came at) for what is said of its firing."""
    fired = story.firings
    first = fired[0] if fired else None
    told = _told(fired)
    came = tuple(firing.step for firing in fired)
    begun = came[:1]
    if expect.never and fired:
        yield "never", f"expected never to fire; it {told}", (), begun
    if expect.fires and not fired:
        yield "fires", f"expected to fire; it {told}", (), ()
    if expect.times is not None and len(fired) != expect.times:
        yield "times", f"expected to fire {expect.times} times; it {told}", (), came
    if expect.fires_at is not None and (first is None or first.step != expect.fires_at):
        what = f"expected to fire at step {expect.fires_at}; it {told}"
        yield "fires_at", what, (expect.fires_at,), begun
    if expect.fires_by is not None and (first is None or first.step > expect.fires_by):
        what = f"expected to fire by step {expect.fires_by}; it {told}"
        yield "fires_by", what, (expect.fires_by,), begun
    if expect.onset is not None and (first is None or first.onset != expect.onset):
        onset = "" if first is None else f", its onset at step {first.onset}"
        what = f"expected its onset at step {expect.onset}; it {told}{onset}"
        at = () if first is None or first.onset is None else (first.onset,)
        yield "onset", what, (expect.onset,), at
    if expect.value is not None and not (first is not None and _is_near(first.value, expect.value)):
        yield "value", f"expected the value {expect.value:g}; it {told}", (), begun
    if expect.message is not None and not (first is not None and expect.message in first.message):
        yield "message", f"expected a message with {expect.message!r}; it {told}", (), begun


def _standing(expect: Expect, story: Story) -> Iterator[_Unmet]:
    last = tuple(step for step, _ in story.changes[-1:])
    if expect.state is not None and expect.at is not None:
        state = story.state_at(expect.at)
        if state is not expect.state:
            what = f"expected to be {expect.state.value} at step {expect.at}; it is {state.value}"
            yield "state", what, (expect.at,), ()
    elif expect.state is not None and story.state is not expect.state:
        reason = story.reason or "it never began"
        yield "state", f"expected to end {expect.state.value}; it is {story.state.value} ({reason})", (), last
    if expect.reason is not None and expect.reason not in story.reason:
        yield "reason", f"expected the reason {expect.reason!r}; it was {story.reason!r}", (), last


def _order(
    number: int, expect: Expect, fired: Sequence[Firing], other: Sequence[Firing]
) -> Iterator[Failure]:
    if not fired or (other and other[0].wall <= fired[0].wall):
        others = f"{expect.before} {_told(other)}"
        what = f"{expect.rule}: expected to fire before {expect.before}; it {_told(fired)}, {others}"
        came = tuple(firing.step for firing in fired[:1])
        yield Failure(("expect", number, "before"), what, expect.rule, (), came)


def _quiet(least: Severity, stories: Stories, severities: Mapping[str, Severity]) -> Iterator[Failure]:
    loud = _loud(least, severities)
    for key, story in stories.items():
        if story.firings and key.partition("[")[0] in loud:
            what = f"{key}: expected quiet; it {_told(story.firings)}"
            yield Failure(("quiet",), what, key, (), tuple(firing.step for firing in story.firings[:1]))


def _loud(least: Severity, severities: Mapping[str, Severity]) -> set[str]:
    """Return the rules of this severity and above."""
    rank = _SEVERITIES.index(least)
    return {name for name, severity in severities.items() if _SEVERITIES.index(severity) >= rank}


def _of(stories: Stories, rule: str) -> Story:
    """Return one alert's story, or that of all instances of a rule, or of all rules, as one."""
    found = [s for key, s in stories.items() if not rule or rule in (key, key.partition("[")[0])]
    if len(found) == 1:
        return found[0]
    firings = sorted((f for story in found for f in story.firings), key=lambda firing: firing.wall)
    asked = sorted((a for story in found for a in story.asked), key=lambda asked: asked.wall)
    newest = found[-1] if found else Story()
    return Story(firings, newest.changes, asked, newest.state, newest.reason)


# Actions


def _actions(wanted: Sequence[Deed], asked: Sequence[Asked]) -> str:
    """Say how what was asked for differs from what was wanted; empty where it does not."""
    if not any(deed.withheld is not None for deed in wanted):
        asked = [one for one in asked if not one.withheld]
    if len(wanted) == len(asked) and all(map(_is_as_wanted, wanted, asked)):
        return ""
    came = ", ".join(f"{_asked(one)} at step {one.step}" for one in asked) or "nothing"
    return f"expected the actions {', '.join(map(_wanted, wanted)) or 'none'}; it asked for {came}"


def _is_as_wanted(wanted: Deed, asked: Asked) -> bool:
    return (
        wanted.do == asked.verb
        and (wanted.to_step is None or wanted.to_step == asked.to_step)
        and (wanted.set is None or dict(wanted.set) == dict(asked.set))
        and (wanted.reinit is None or set(wanted.reinit) == set(asked.reinit))
        and bool(asked.withheld) == (wanted.withheld is not None)
        and (wanted.withheld or "") in asked.withheld
    )


def _wanted(deed: Deed) -> str:
    return _deed(deed.do, deed.to_step, deed.set, deed.reinit, deed.withheld)


def _asked(asked: Asked) -> str:
    return _deed(asked.verb, asked.to_step, asked.set, asked.reinit, asked.withheld or None)


def _deed(
    verb: str,
    to_step: int | None,
    changes: Mapping[str, Setting] | None,
    reinit: Sequence[str] | None,
    withheld: str | None,
) -> str:
    parts = [verb]
    if to_step is not None:
        parts.append(f"to step {to_step}")
    if changes:
        parts.append("with " + " and ".join(f"{name} = {value}" for name, value in changes.items()))
    if reinit:
        parts.append(f"and new {' and '.join(reinit)}")
    if withheld is not None:
        parts.append(f"withheld ({withheld})")
    return " ".join(parts)


def _told(firings: Sequence[Firing]) -> str:
    if not firings:
        return "did not fire"
    first = firings[0]
    value = "" if first.value is None else f", value {first.value:.6g}"
    often = "" if len(firings) == 1 else f", {len(firings)} times in all"
    return f"first fired at step {first.step} (wall {first.wall:g}{value}, {first.message!r}){often}"


def listed(labels: Sequence[str], most: int = 6) -> str:
    """Name things, the first of them where they are many."""
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more


def _bounds(least: float, most: float) -> str:
    if math.isinf(most):
        return f"at least {least:g}"
    return f"at most {most:g}" if least <= 0 else f"{least:g}" if least == most else f"{least:g} to {most:g}"


def _is_near(found: float | None, wanted: float) -> bool:
    if found is None:
        return False
    if math.isnan(wanted):
        return math.isnan(found)
    return math.isclose(found, wanted, rel_tol=TOLERANCE, abs_tol=1e-12)
