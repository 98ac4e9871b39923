"""The watch over one run: alerts through their lives, silence between samples, attempts, and what is told of
it all.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rules.alert import Alert, AlertState
from rules.evaluate import compile_rules
from rules.merge import build
from rules.series import Sample
from rules.source import parse
from rules.verdict import Condition
from rules.watch import Observation, RunWatch

RULES = """\
[[rule]]
name = "high"
expr = "m['q'] > 50"
for = "2 points"
clear = "m['q'] < 40"
keep_firing_for = "2 points"
severity = "critical"
ladder = "back"
grace = "200 steps"
summary = "q {value:.1f} over {limit:g} at {step} since {onset} in attempt {attempt} of {run}"
[[rule]]
name = "silent"
expr = "stale(step_any, time='30s')"
[[rule]]
name = "late"
expr = "m['q'] > 0"
after_step = 500
[[rule]]
name = "few"
expr = "m['q'] > 0"
after_points = 3
[[rule]]
name = "elsewhere"
expr = "m['not/logged'] > 0"
[[rule]]
name = "broken"
each = "loss/{part}"
expr = "not is_finite(x)"
severity = "fatal"
grace = "1h"
[ladders.back]
rungs = [{ do = ["rollback"], after = "1 points" }]
recovered_when = "m['len'] > 100"
within = "10 points"
[limits]
require_remedy = false
"""

RULE_SET = build([("", parse(RULES, "rules.toml"))])
PROGRAM = compile_rules(RULE_SET)


def watch(*alerts: Alert, attempt: int = 0, began: tuple[int, float] | None = None) -> RunWatch:
    return RunWatch(PROGRAM, RULE_SET.ladders, alerts, attempt=attempt, began=began)


def q(*values: float, start: int = 1, every: float = 3.0, tag: str = "q") -> list[Sample]:
    """Points 100 steps and `every` seconds apart."""
    return [(tag, 100 * n, every * n, value) for n, value in enumerate(values, start=start)]


def moves(observations: list[Observation]) -> list[tuple[str, str, float]]:
    """(key, new state, wall time) of the changes."""
    return [(o.key, o.transition.after.value, o.verdict.at.wall_time) for o in observations if o.transition]


def of(key: str, observations: list[Observation]) -> list[tuple[str, float]]:
    return [(state, wall) for found, state, wall in moves(observations) if found == key]


def test_an_alert_lives_through_its_run() -> None:
    """Pending at the first breach, firing at the second, recovering below `clear`, resolved at the second
    calm.
    """
    w = watch()
    seen = w.observe(q(1, 60, 70, 45, 30, 20)) + w.flush()
    assert of("high", seen) == [("pending", 6.0), ("firing", 9.0), ("recovering", 15.0), ("resolved", 18.0)]
    assert w.alerts["high"].onset is not None
    assert w.alerts["high"].onset.step == 200
    assert w.run_step == 600


def test_a_firing_alert_is_told_at_every_evaluation() -> None:
    """Ladders climb by them; a quiet rule is not told at all."""
    w = watch()
    seen = w.observe(q(*[60.0] * 6)) + w.flush()
    firing = [o for o in seen if o.key == "high" and o.alert.state is AlertState.FIRING]
    assert [o.verdict.at.points for o in firing] == [2, 3, 4, 5, 6]
    assert {o.key for o in seen} == {"high", "late", "few"}


# Silence


def test_silence_is_judged_at_multiples_of_five_seconds() -> None:
    """The last step at 3 s is older than 30 s at 35 s, and it is over with the next one."""
    w = watch()
    assert of("silent", w.observe(q(1, 1)[:1])) == []
    assert of("silent", w.advance_to(34.9)) == []
    assert of("silent", w.advance_to(47.0)) == [("firing", 35.0)]
    assert of("silent", w.observe([("q", 200, 48.0, 1.0)]) + w.flush()) == [("resolved", 48.0)]


def test_a_replay_sees_the_silence_between_two_samples() -> None:
    """And none after the last one."""
    w = watch()
    seen = w.observe([("q", 100, 3.0, 1.0), ("q", 200, 48.0, 1.0)]) + w.flush()
    assert of("silent", seen) == [("firing", 35.0), ("resolved", 48.0)]
    assert of("silent", watch().observe(q(1)) + watch().flush()) == []


def test_a_tick_that_was_closed_is_not_judged_once_more() -> None:
    """The sample that ends a silence found the last tick closed; judged again, it would end the alarm in the
    past.
    """
    w = watch()
    w.observe(q(1))
    w.advance_to(40.0)
    assert moves(w.observe([("q", 200, 48.0, 1.0)])) == []


def test_a_tick_that_two_seconds_have_closed_is_judged_before_silence_is() -> None:
    """Else a breach would come to light only with the next sample, in the middle of another one."""
    w = watch()
    w.observe(q(60, 60))
    assert of("high", w.advance_to(10.0)) == [("firing", 6.0)]


@pytest.mark.parametrize("wall", [math.inf, 1e18, 4e9, math.nan, -math.inf])
def test_a_broken_clock_is_no_endless_loop(wall: float) -> None:
    """Nor does it end the judging of what comes after it."""
    w = watch()
    seen = w.observe([*q(1, 1), ("q", 300, wall, 1.0), ("q", 400, 12.0, 60.0), ("q", 500, 15.0, 60.0)])
    seen += w.observe([("q", 600, 18.0, 60.0)]) + w.flush()
    assert "firing" in [state for state, _ in of("high", seen)]


def test_a_week_of_silence_is_judged_sparsely() -> None:
    """Once a minute after an hour, once an hour after a day: three thousand questions, not a hundred
    thousand.
    """
    w = watch()
    w.observe(q(1))
    assert 0 < len([o for o in w.advance_to(7 * 86400.0) if o.key == "silent"]) < 3000


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["q", "len"]),
            st.floats(0, 20),
            st.sampled_from([1.0, 45.0, 60.0, 200.0, math.nan]),
        ),
        min_size=1,
        max_size=40,
    ),
    st.data(),
)
@example([("q", 0.0, 60.0), ("q", 0.0, 60.0), ("q", 19.0, 60.0), ("q", 19.0, 60.0)], None)
def test_the_same_samples_in_any_pieces_are_judged_alike(
    drawn: list[tuple[str, float, float]], data: st.DataObject | None
) -> None:
    """And so they are by a watch that takes over in the middle: nothing is judged twice, nothing never."""
    samples: list[Sample] = []
    wall = 0.0
    for n, (tag, gap, value) in enumerate(drawn):
        wall += gap
        samples.append((tag, 100 * (n // 2), wall, value))
    whole = watch()
    expected = moves(whole.observe(samples) + whole.flush())

    pieces = watch()
    seen: list[Observation] = []
    at = 0
    while at < len(samples):
        size = 1 if data is None else data.draw(st.integers(1, len(samples)))
        seen += pieces.observe(samples[at : at + size])
        at += size
        if data is not None and data.draw(st.booleans()):
            successor = watch(*pieces.alerts.values())
            successor.warm(samples[:at])
            successor.resume(pieces.judged)
            pieces = successor
    assert moves(seen + pieces.flush()) == expected
    assert {k: replace(a) for k, a in pieces.alerts.items()} == whole.alerts


# Attempts


def sick() -> RunWatch:
    """Fires at step 400 with onset 300; a rollback to step 100 follows."""
    w = watch()
    w.observe([*q(1, 1, 60, 60), ("loss/a", 400, 12.0, math.nan)])
    w.flush()
    assert w.alerts["high"].state is AlertState.FIRING
    return w


def test_a_rewind_puts_what_fires_on_probation_and_forgets_what_is_pending() -> None:
    """Nothing is resolved by it."""
    w = watch()
    w.observe(q(1, 60))
    w.flush()
    seen = w.rewind(100, 20.0, [(0, q(1))])
    assert of("high", seen) == [("inactive", 20.0)]
    w = sick()
    seen = w.rewind(100, 20.0, [(0, q(1))])
    assert ("high", "probation", 20.0) in moves(seen)
    assert (w.attempt, w.run_step) == (1, 100)
    assert [o.verdict.condition for o in seen] == [Condition.UNKNOWN] * len(seen)


def test_what_a_rewind_keeps_fills_the_windows_and_nothing_else_does() -> None:
    """The abandoned points are gone from every window; what came before them still counts as history."""
    w = sick()
    w.rewind(100, 20.0, [(0, q(1))])
    assert w.wall_at(100) is None
    assert w.run_step_at(30.0) == 100
    w.observe([("q", 200, 23.0, 1.0), ("q", 300, 26.0, 1.0)])
    assert w.run_step_at(24.0) == 200


def test_a_run_that_recovers_is_told_once() -> None:
    """The ladder's condition holds, past the step at which it had fired."""
    w = sick()
    w.rewind(100, 20.0, [(0, q(1))])
    early: list[Sample] = [("len", 200, 23.0, 300.0), ("q", 300, 26.0, 1.0)]
    assert of("high", w.observe(early)) == []
    late: list[Sample] = [("q", 500, 30.0, 1.0), ("len", 500, 30.0, 300.0), ("q", 600, 33.0, 1.0)]
    assert of("high", w.observe(late) + w.flush()) == [("resolved", 30.0)]


def test_a_run_that_is_merely_silent_is_suppressed() -> None:
    """`within = "10 points"` counts points of the new attempt, not those that were kept."""
    w = sick()
    w.rewind(100, 20.0, [(0, q(1))])
    seen = w.observe([("q", 100 + 100 * n, 20.0 + n, 1.0) for n in range(1, 15)]) + w.flush()
    fired = [o.transition for o in seen if o.key == "high" and o.transition]
    assert [(t.after.value, t.reason, t.at.points) for t in fired] == [
        ("firing", "suppressed, not recovered", 11)
    ]


def test_grace_mutes_a_rule_after_a_rollback_unless_it_is_fatal() -> None:
    """For 200 run steps `high` has no opinion; `broken` is fatal and speaks at once."""
    w = watch()
    w.observe(q(1, 1, 1))
    w.flush()
    w.rewind(100, 20.0, [(0, q(1))])
    seen = w.observe([("q", 200, 23.0, 60.0), ("loss/a", 200, 23.0, math.nan), ("q", 250, 26.0, 60.0)])
    assert of("high", seen) == []
    assert ("broken[a]", "firing", 23.0) in moves(seen)
    seen = w.observe([("q", 300, 29.0, 60.0), ("q", 400, 32.0, 60.0)]) + w.flush()
    assert of("high", seen) == [("pending", 29.0), ("firing", 32.0)]


def test_grace_outlives_a_restart_of_the_sentinel() -> None:
    """Where the present attempt began is given to the next process."""
    w = watch(attempt=1, began=(100, 20.0))
    w.warm(q(1))
    w.warmed()
    assert of("high", w.observe([("q", 200, 23.0, 60.0), ("q", 250, 26.0, 60.0)]) + w.flush()) == []
    assert w.attempt == 1


# What is told


def test_marks_say_why_a_rule_is_not_judged() -> None:
    """Warming by its own wish, or without the data it needs; every instance has a mark, and most are
    empty.
    """
    w = watch()
    w.observe([*q(1, 1), ("loss/a", 200, 6.0, 1.0)])
    w.flush()
    assert w.marks() == {
        "high": "",
        "silent": "",
        "late": "warming",
        "few": "warming",
        "elsewhere": "nodata",
        "broken[a]": "",
    }
    w.observe(q(1, 1, 1, start=3))
    w.flush()
    assert w.marks()["late"] == w.marks()["few"] == ""


def test_a_rule_that_warms_up_does_not_fire() -> None:
    """`after_step` on its driver's axis, `after_points` in points of it."""
    w = watch()
    seen = w.observe(q(*[1.0] * 6)) + w.flush()
    assert of("late", seen) == [("firing", 15.0)]
    assert of("few", seen) == [("firing", 9.0)]


def test_a_rule_that_fails_is_told_once_and_marked() -> None:
    """The other rules go on."""
    w = watch()
    w.observe(q(1, 60))

    def fails(_now: float) -> bool:
        raise ValueError("no such luck")

    w._evaluator._instances["few"].answer = fails  # a failure that no rule can be written to have
    seen = w.observe(q(60, 60, 60, start=3)) + w.flush()
    assert "firing" in [state for state, _ in of("high", seen)]
    assert [(f.key, f.what) for f in w.failures()] == [("few", "ValueError: no such luck")]
    assert w.failures() == []
    assert w.marks()["few"] == "error"


def test_a_message_is_the_rules_own_sentence() -> None:
    """Numbers, places, attempt and run; a rule without a summary still says value, limit, step and onset."""
    w = watch()
    w.observe(q(1, 60, 70.25))
    w.flush()
    assert w.message("high", "runs/a") == "q 70.2 over 50 at 300 since 200 in attempt 0 of runs/a"
    w.observe(q(1, 1, 1, start=4))
    w.flush()
    assert w.message("late") == "late: 1 (limit 0) at step 600, since step 500"
    assert w.message("elsewhere") == "elsewhere: unknown (limit unknown) at step unknown, since step unknown"


def test_alerts_of_rules_that_are_no_more_are_dropped() -> None:
    """A configuration may have changed while the sentinel was down."""
    assert set(watch(Alert("gone"), Alert("high"), Alert("gone[a]"), Alert("broken[a]")).alerts) == {
        "high",
        "broken[a]",
    }


def test_an_alert_that_fired_before_a_restart_is_followed_after_it() -> None:
    """It resolves although the new process never saw it breach."""
    w = sick()
    successor = watch(*w.alerts.values())
    successor.warm([*q(1, 1, 60, 60), ("loss/a", 400, 12.0, math.nan)])
    successor.resume(w.judged)
    seen = successor.observe(q(1, 1, 1, start=5)) + successor.flush()
    assert of("high", seen) == [("recovering", 15.0), ("resolved", 18.0)]
