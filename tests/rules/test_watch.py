"""One run's rules and alerts: the same moments however the samples come, and a rewind is a fresh run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.alert import AlertState
from rules.evaluate import compile_rules
from rules.merge import RuleSet, build
from rules.series import Sample
from rules.source import parse
from rules.watch import TIMER, Observation, RunWatch

T0 = 1_700_000_000.0

HEAD = """
[metrics]
q = ["q"]
[[rule]]
name = "high"
expr = "q > 50"
for = "2 points"
severity = "critical"
grace = "%s"
after_step = %d
[[rule]]
name = "relative"
expr = "q > 3 * best(median(q, points=3), mode='min') and q > 2"
[[rule]]
name = "silent"
expr = "stale(step_any, time='12s')"
[[rule]]
name = "mortal"
expr = "q > 90"
severity = "fatal"
grace = "500 steps"
"""


def rules(grace: str = "0 steps", after_step: int = 0) -> RuleSet:
    return build([("", parse(HEAD % (grace, after_step), "rules.toml"))])


PROGRAM, LADDERS = compile_rules(rules()), rules().ladders


def watch(grace: str = "0 steps", after_step: int = 0) -> RunWatch:
    made = rules(grace, after_step)
    return RunWatch(compile_rules(made), made.ladders)


def curve(values: Sequence[float], walls: Sequence[float] | None = None) -> list[Sample]:
    walls = walls or [3.0 * n for n in range(len(values))]
    return [("q", 100 * n, T0 + wall, v) for n, (wall, v) in enumerate(zip(walls, values, strict=True), 1)]


def moved(observations: Sequence[Observation]) -> list[tuple[str, str, float]]:
    return [
        (o.key, o.transition.after.value, o.verdict.at.wall_time)
        for o in observations
        if o.transition is not None
    ]


values_ = st.lists(st.sampled_from([0.0, 1.0, 4.0, 40.0, 60.0, 95.0, float("nan")]), min_size=1, max_size=15)
gaps = st.lists(st.sampled_from([0.5, 1.0, 4.9, 5.0, 13.0, 40.0, -3.0]), min_size=15, max_size=15)


@settings(deadline=None)
@given(values_, gaps, st.sets(st.integers(0, 15)))
def test_the_same_moments_are_judged_however_the_samples_come(
    values: list[float], steps: list[float], cuts: set[int]
) -> None:
    """Silence at multiples of five seconds; also where a clock goes back for a sample."""
    walls = [sum(steps[:n]) for n in range(len(values))]
    samples = curve(values, walls)
    whole, parts = RunWatch(PROGRAM, LADDERS), RunWatch(PROGRAM, LADDERS)
    at_once = whole.observe(samples) + whole.flush()
    edges = sorted({0, len(samples), *(cut for cut in cuts if cut < len(samples))})
    in_pieces = [o for a, b in pairwise(edges) for o in parts.observe(samples[a:b])] + parts.flush()
    assert moved(at_once) == moved(in_pieces)
    for key, state, wall in moved(at_once):
        if key == "silent" and state == "firing":
            assert wall % TIMER == 0


def test_silence_between_two_points_is_judged_though_nobody_looked() -> None:
    """A replay sees the gap that a living watch would have seen."""
    run = watch()
    found = moved(run.observe(curve([1, 1, 1], [0, 1, 40])) + run.flush())
    assert ("silent", "firing", T0 + 15) in found


def test_a_rule_that_is_warming_has_no_opinion() -> None:
    """`after_step` is measured on the rule's own series."""
    run = watch(after_step=500)
    found = run.observe(curve([60] * 7)) + run.flush()
    fired = [o for o in found if o.key == "high"]
    assert [(o.transition.after.value, o.verdict.at.step) for o in fired if o.transition] == [
        ("pending", 500),
        ("firing", 600),
    ]


@pytest.mark.parametrize(("grace", "fires_at"), [("0 steps", 500), ("300 steps", 700), ("2 points", 600)])
def test_grace_mutes_a_rule_after_a_rollback_but_none_that_is_fatal(grace: str, fires_at: int) -> None:
    """The first points after a rollback may still be wild; a fatal rule is never muted."""
    run = watch(grace)
    before = curve([1, 1, 1])
    run.observe(before)
    run.rewind(300, T0 + 60, [(0, before)])
    later = [("q", 100 * n, T0 + 60 + n, 95.0) for n in range(4, 9)]
    found = [o for o in run.observe(later) + run.flush() if o.transition is not None]
    fired = {o.key: o.verdict.at.step for o in found if o.alert.state is AlertState.FIRING}
    assert fired["mortal"] == 400
    assert fired["high"] == fires_at


@settings(deadline=None)
@given(values_, values_, values_)
def test_after_a_rewind_the_windows_are_those_of_a_run_that_never_went_astray(
    kept: list[float], astray: list[float], again: list[float]
) -> None:
    """What lies behind the rewind leaves no trace in any window, `best` and counts included."""
    base = curve(kept)
    n = len(kept)
    wrong = [("q", 100 * (n + i), T0 + 100 + i, v) for i, v in enumerate(astray, 1)]
    right = [("q", 100 * (n + i), T0 + 200 + i, v) for i, v in enumerate(again, 1)]
    one, other = RunWatch(PROGRAM, LADDERS), RunWatch(PROGRAM, LADDERS)
    one.observe(base + wrong)
    one.flush()
    one.alerts.clear()
    for run in (one, other):
        run.rewind(100 * n, T0 + 199, [(0, base)])
    assert moved(one.observe(right) + one.flush()) == moved(other.observe(right) + other.flush())
    assert one.run_step == other.run_step


def test_a_rewind_puts_what_fired_on_probation_in_the_same_order_after_a_restart() -> None:
    """The order in which a journal gives its alerts back is not that in which they rose."""
    run = watch()
    run.observe(curve([1, 95, 95]))
    run.flush()
    back = RunWatch(PROGRAM, LADDERS, reversed(list(run.alerts.values())))
    assert [o.key for o in back.rewind(100, T0 + 60, ())] == [o.key for o in run.rewind(100, T0 + 60, ())]


def test_a_traced_rule_is_observed_at_rest_too() -> None:
    """Whoever asks why a rule did not fire has to see it answer no."""
    traced = RunWatch(PROGRAM, LADDERS, traced=["high"])
    samples = curve([1, 2, 60, 60, 60, 1, 1])
    seen = [o for o in traced.observe(samples) + traced.flush() if o.key == "high"]
    assert [o.verdict.value for o in seen] == [1, 2, 60, 60, 60, 1, 1]
    assert [o.alert.state.value for o in seen[:4]] == ["inactive", "inactive", "pending", "firing"]
    plain = watch()
    untraced = [move for move in moved(plain.observe(samples) + plain.flush()) if move[0] == "high"]
    assert moved(seen) == untraced
