"""Cases of scenario files: what they may say, and the points that are written down in them."""

from __future__ import annotations

import math
from itertools import pairwise

from rules.alert import AlertState
from rules.gate import Ending, GateVerdict
from rules.notation import Values, expand
from rules.schema import Setting, Severity, SpanField, Strict, Verb
from rules.series import Sample

BETWEEN_POINTS = 10.0
"""Seconds between two points of an axis that gives no wall times."""


class Axis(Strict):
    """Series whose points come together; `steps` and `wall` are written like the values."""

    steps: str | None = None
    wall: str | None = None
    series: dict[str, str] = {}  # noqa: RUF012  # a model's default is copied for each instance


class Rewind(Strict):
    """A new attempt: at `wall` the run goes on from run step `to_step`."""

    wall: float
    to_step: int


class Deed(Strict):
    """One action that a ladder is to ask for. What is not given may be anything.

    Attributes:
        do: what. to_step: a rollback's target, in run steps. set, reinit: its remedy.
        withheld: it was due and is not taken; the reason holds this text.
    """

    do: Verb
    to_step: int | None = None
    set: dict[str, Setting] | None = None
    reinit: tuple[str, ...] | None = None
    withheld: str | None = None


class Bounds(Strict):
    """How often, at least and at most."""

    min: float = 0
    max: float = math.inf


class Rate(Strict):
    """How many firings in 100 000 points of the longest series, over all seeds, by rules of `severity` and
    above.
    """

    max: float
    severity: Severity = "info"


class Expect(Strict):
    """What one rule is to do. Steps are on the axis of the rule's own series.

    Attributes:
        rule: a rule, or one instance of an `each` rule (`generic/nonfinite[train/loss]`); without brackets,
            any instance. Left out, `actions` are those of all rules.
        fires: it fires at all. fires_at, fires_by: the step at which it first fires, exactly or at the
            latest.
        never: it does not fire. times: how often it fires.
        onset, value, message: of the first firing; the message holds this text.
        before: a rule that fires later than this one in wall time, or never.
        state: how the alert stands in the end, or at the step `at`. reason: why it last changed its state.
        actions: what its ladder asks for, in order; what was withheld counts only where one of them says so.
        gate, verdict: how this gate stands in the end. `reason` is the gate's then.
        runs: in how many of the seeds all this holds; without it, in each.
    """

    rule: str = ""
    fires: bool = False
    fires_at: int | None = None
    fires_by: int | None = None
    never: bool = False
    times: int | None = None
    onset: int | None = None
    value: float | None = None
    message: str | None = None
    before: str | None = None
    state: AlertState | None = None
    at: int | None = None
    reason: str | None = None
    actions: tuple[Deed, ...] | None = None
    gate: str | None = None
    verdict: GateVerdict | None = None
    runs: Bounds | None = None


class Case(Axis):
    """One test of a scenario file: `series` written down, the points of event files, or a generated run.

    Attributes:
        axis: further series with steps and wall times of their own, such as episodes.
        source: an event file or a run's folder, from the scenario's own folder.
        gen: a generated run, such as `cheetah(seed=3, n=2000)`. seeds: those it is run with, such as `0-19`.
        tags: which tags of the source or the generated run are taken, by patterns; all where there is none.
        rename: the tag that one of theirs goes by.
        only_steps: run steps that are taken of them, such as `0-1500`.
        until: wall time of the end: later points are left out, and silence is judged up to it.
        silence: how long silence is judged after the last point.
        rewind: new attempts. rewind_at: run steps that new attempts go on from, where `steps` go back.
        checkpoints: run steps of good checkpoints, written like the values; without it a rollback's target is
            open.
        ending: what is known of the run's end, for gates: a run that died before a gate's `at` has failed it.
        quiet: no rule of this severity or a higher one fires.
        expect_false_alarms_per_1e5: how many firings a generated run may have.
    """

    name: str
    axis: tuple[Axis, ...] = ()
    source: str | None = None
    gen: str | None = None
    seeds: str | None = None
    tags: tuple[str, ...] = ()
    rename: dict[str, str] = {}  # noqa: RUF012  # a model's default is copied for each instance
    only_steps: str | None = None
    until: float | None = None
    silence: SpanField | None = None
    rewind: tuple[Rewind, ...] = ()
    rewind_at: tuple[int, ...] = ()
    checkpoints: str | None = None
    ending: Ending = "unknown"
    quiet: Severity | None = None
    expect_false_alarms_per_1e5: Rate | None = None
    expect: tuple[Expect, ...] = ()

    @property
    def is_recorded(self) -> bool:
        """Whether its points are not written down in the file itself."""
        return self.source is not None or self.gen is not None


def samples(case: Case) -> list[list[Sample]]:
    """Return the written points of a case in the order of their wall times: one list for each place on an
    axis.
    """
    batches = [batch for axis in (case, *case.axis) for batch in points(axis)]
    return sorted(batches, key=lambda batch: batch[0][2])


def checkpoint_steps(case: Case) -> list[int] | None:
    """Return the run steps at which the case has checkpoints; None where it says nothing of them."""
    return None if case.checkpoints is None else whole(case.checkpoints)


def rewinds(case: Case) -> list[Rewind]:
    """Return the new attempts of a case by wall time, the short form `rewind_at` spelled out.

    Raises:
        ValueError: `rewind_at` has other than one step for each place at which `steps` go back.
    """
    if not case.rewind_at:
        return sorted(case.rewind, key=lambda rewind: rewind.wall)
    found = [] if case.is_recorded else points(case)
    back = [late[0][2] for early, late in pairwise(found) if late[0][1] < early[0][1]]
    if len(back) != len(case.rewind_at):
        raise ValueError(
            f"rewind_at has {len(case.rewind_at)} steps, and `steps` go back {len(back)} times; "
            "use [[test.rewind]] with wall and to_step where they do not"
        )
    short = [Rewind(wall=wall, to_step=step) for wall, step in zip(back, case.rewind_at, strict=True)]
    return sorted((*case.rewind, *short), key=lambda rewind: rewind.wall)


def points(axis: Axis) -> list[list[Sample]]:
    """Return the points of one axis, a list for each place on it that has any.

    Raises:
        ValueError: a series or an axis is not written as it should be.
    """
    series = {tag: _expand(tag, text) for tag, text in axis.series.items()}
    longest = max((len(values) for values in series.values()), default=0)
    steps = _places("steps", axis.steps, [float(n) for n in range(1, longest + 1)], longest)
    walls = _places("wall", axis.wall, [n * BETWEEN_POINTS for n in range(1, longest + 1)], longest)
    batches = []
    for index in range(longest):
        found = [(tag, values[index]) for tag, values in series.items() if index < len(values)]
        batch = [(tag, int(steps[index]), walls[index], value) for tag, value in found if value is not None]
        if batch:
            batches.append(batch)
    return batches


def _expand(name: str, text: str) -> Values:
    try:
        return expand(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _places(name: str, text: str | None, usual: list[float], needed: int) -> list[float]:
    if text is None:
        return usual
    found = _expand(name, text)
    known = [place for place in found if place is not None and math.isfinite(place)]
    if len(known) < len(found):
        raise ValueError(f"{name}: every place must be a number")
    if len(known) < needed:
        raise ValueError(f"{name}: {len(known)} places for {needed} points")
    return known


def whole(text: str) -> list[int]:
    """Read whole numbers, written like a series.

    Raises:
        ValueError: one of them is none.
    """
    found = expand(text)
    known = [int(place) for place in found if place is not None and math.isfinite(place)]
    if len(known) < len(found):
        raise ValueError("every place must be a number")
    return known
