"""From points to verdicts: three-valued logic, ticks, aliases, derived series, freshness, timers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.evaluate import Evaluator, compile_rules
from rules.merge import RuleSet, build
from rules.series import Sample
from rules.source import RuleErrors, parse
from rules.verdict import Condition, Verdict

NAN, INF = math.nan, math.inf

METRICS = """
[metrics]
actor_q = ["debug/actor_q_mean", "=-m['train/actor_loss']"]
q1 = ["q1"]
q2 = ["q2"]
critic_q = ["=min(q1, q2)", "=q1 + 0"]
lead = ["=relgap(actor_q, critic_q)"]
aligned = { any = ["=q1 - q2"], align = "step" }
a = ["a"]
b = ["b"]
reward = ["reward"]
[params]
limit = 50.0
"""


def rule_set(*rules: str, head: str = METRICS) -> RuleSet:
    tables = [f'[[rule]]\nname = "r{n}"\n{text}\n' for n, text in enumerate(rules)]
    return build([("", parse(head + "".join(tables), "rules.toml"))])


def evaluator(*exprs: str) -> Evaluator:
    """One rule for each expression, r0, r1, ...; all watched, so that every evaluation is reported."""
    made = compile_rules(rule_set(*(f'expr = """{expr}"""' for expr in exprs))).evaluator()
    made.watching |= {f"r{n}" for n in range(len(exprs))}
    return made


def series(tag: str, values: Iterable[float], *, every: int = 100, seconds: float = 10.0) -> list[Sample]:
    return [(tag, every * n, 1000.0 + seconds * n, float(value)) for n, value in enumerate(values, 1)]


def answers(run: Evaluator, samples: Iterable[Sample], key: str = "r0") -> list[bool | None]:
    """What a rule says at each of its evaluations."""
    found = [verdict for name, verdict in run.feed(samples) + run.flush() if name == key]
    known = {Condition.BREACH: True, Condition.OK: False, Condition.UNKNOWN: None}
    return [known[verdict.condition] for verdict in found]


def last(run: Evaluator, samples: Iterable[Sample]) -> Verdict:
    return (run.feed(samples) + run.flush())[-1][1]


# Values


@pytest.mark.parametrize(
    ("value", "expected"), [(51.0, True), (50.0, False), (NAN, None), (INF, True), (-INF, False)]
)
def test_a_comparison_with_nan_is_unknown_and_infinity_compares(value: float, expected: bool | None) -> None:
    """NaN > 50 is False in Python, which is how naive rules go blind when a run diverges."""
    assert answers(evaluator("a > p.limit"), series("a", [value])) == [expected]


@pytest.mark.parametrize("op", ["<", "<=", ">", ">=", "==", "!="])
@pytest.mark.parametrize(("left", "right"), [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0), (NAN, 1.0), (1.0, NAN)])
def test_every_comparison(op: str, left: float, right: float) -> None:
    """As Python compares, but unknown where a side is NaN; also against a constant."""
    expected = None if math.isnan(left + right) else eval(f"{left} {op} {right}")  # noqa: S307  # our own literals
    samples = [("a", 1, 0.0, left), ("b", 1, 0.0, right)]
    assert answers(evaluator(f"a {op} b"), samples) == [expected]
    if not math.isnan(right):
        assert answers(evaluator(f"a {op} {right}"), samples) == [expected]


T, F, U = "a > 0", "a < 0", "m['nosuch'] > 0"


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (f"{U} and {F}", False),
        (f"{F} and {U}", False),
        (f"{U} and {T}", None),
        (f"{U} or {T}", True),
        (f"{T} or {U}", True),
        (f"{U} or {F}", None),
        (f"not ({U}) and {T}", None),
        (f"{T} and {T} and {U}", None),
        (f"{T} and {F} and {U}", False),
        (f"{F} or {U} or {T}", True),
        (f"{F} or {U} or {F}", None),
        (f"({T}) if {U} else ({T})", None),
        (f"({T}) if {T} else ({F})", True),
        ("known(m['nosuch'])", False),
        ("not known(m['nosuch'])", True),
        ("coalesce(m['nosuch'], a) == 1", True),
        ("1 / (a - 1) > 0", None),
        ("a % 0 > 0", None),
        ("log(-a) > 0", None),
        ("sqrt(-a) > 0", None),
        ("(-a) ** 0.5 > 0", None),
        ("exp(a * 1000) > 1e300", True),
        ("(a * 10) ** 400 > 1e300", True),
        ("max(a, m['nosuch']) > 0", None),
        ("max(a, 3, 2) == 3 and min(a, 3) == 1", True),
        ("clip(a * 9, 0, 5) == 5 and sign(-a) == -1 and abs(-a) == 1", True),
        ("relgap(a * 3, a) == 2 and relgap(a, 0) == 1 and relgap(3 * a, a / 4, floor=0.5) == 5.5", True),
        ("(a if a > 5 else -a) == -1", True),
        ("0 < a < 2", True),
        ("2 ** 3 == 8 and 7 % 4 == 3 and -a == -1", True),
        ("step() == 100", True),
    ],
)
def test_kleene_logic_and_unknown_arithmetic(expr: str, expected: bool | None) -> None:
    """Unknown spreads through arithmetic, and through logic unless the other side decides."""
    assert answers(evaluator(expr), series("a", [1.0])) == [expected]


def test_an_expression_that_python_cannot_fold_is_still_unknown_for_inf_minus_inf() -> None:
    """Infinities of both signs make no number; min and max still see them."""
    run = evaluator("a - a > 0", "max(a, -a) > 1e308")
    assert [v.condition for _, v in run.feed(series("a", [INF])) + run.flush()] == [
        Condition.UNKNOWN,
        Condition.BREACH,
    ]


# Windows in rules


@pytest.mark.parametrize(
    ("expr", "values", "expected"),
    [
        ("mean(a, points=3) > 2", [1, 2, 3, 4], [None, None, False, True]),
        ("mean(a, points=3, min_points=2) > 2", [1, 2, 9], [None, False, True]),
        ("mean(a, steps=200) > 2", [1, 2, 3, 4], [False, False, True, True]),
        ("mean(a, time='20s') > 2", [1, 2, 3, 4], [False, False, True, True]),
        ("sum(a, points=2) == 5", [1, 2, NAN, 3], [None, False, False, True]),
        ("count(a, points=3) == 2", [1, NAN, 2], [False, False, True]),
        ("nonfinite(a) >= 2", [1, NAN, 2, INF], [False, False, False, True]),
        ("std(a, points=2) > 1", [1, 2, 9], [None, False, True]),
        ("highest(a, points=2) == 3 and lowest(a, points=2) == 2", [1, 3, 2], [None, False, True]),
        ("median(a, points=3) == 2", [1, 9, 2], [None, None, True]),
        ("mad(a, points=3) == 1", [1, 9, 2], [None, None, True]),
        ("quantile(a, 0.5, points=2) == 1.5", [1, 2], [None, True]),
        ("frac(a > 1, points=4) >= 0.5", [0, 2, 2, 0], [None, None, None, True]),
        ("frac(a > 1, points=2) >= 0.5", [0, NAN, 2], [None, None, True]),
        ("ewma(a, points=3) == 1.5", [1, 2], [False, True]),
        ("delta(a, points=3) == 4", [1, 2, 5], [None, None, True]),
        ("ratio(a, points=3) == 5", [1, 2, 5], [None, None, True]),
        ("ratio(a, points=2) > 0", [0, 5], [None, None]),
        ("slope(a, points=5) == 0.01", [1, 2, 3, 4, 5], [None] * 4 + [True]),
        ("rising(a, points=12)", range(12), [None] * 11 + [True]),
        ("falling(a, points=12)", range(12), [None] * 11 + [False]),
        ("rising(a, points=12, min_points=6)", range(7), [None] * 5 + [True, True]),
        ("rising(a, steps=1000)", range(13), [None] * 13),
        ("99 < doubling_steps(a, steps=500) < 101", [1, 2, 4, 8], [None, None, True, True]),
        ("99 < halving_steps(a, steps=500) < 101", [8, 4, 2], [None, None, True]),
        ("steps_to(a, 5, points=3) == 200", [1, 2, 3], [None, None, True]),
        ("199 < steps_to(a, 16, points=3, model='exp') < 201", [1, 2, 4], [None, None, True]),
        ("unchanged(a, points=3)", [1, 2, 2, 2, 3], [None, None, False, True, False]),
        ("unchanged(a, points=2, rtol=0.1)", [1, 1.05, 2], [None, True, False]),
        ("throughput(a, points=3) == 10", [1, 2, 3], [None, None, True]),
        ("last(a) > 1", [1, 2], [False, True]),
        ("prev(a) == 1", [1, 2], [None, True]),
        ("prev(a, n=2) == 1", [1, 2, 3], [None, None, True]),
        ("initial(a, points=2) == 1.5", [1, 2, 9], [None, True, True]),
        ("best(a) == 3", [1, 3, 2], [False, True, True]),
        ("best(a, mode='min') == 1", [2, 1, 3], [False, True, True]),
        ("a < 0.5 * best(mean(a, points=2))", [4, 4, 1], [None, False, True]),
        ("is_nan(a)", [1, NAN, INF], [False, True, False]),
        ("not is_finite(a)", [1, NAN, INF], [False, True, True]),
        ("zscore(a, points=20) > 3", [*range(20), 99], [None] * 20 + [True]),
        ("rzscore(a, points=20) > 6", [*range(20), 99], [None] * 20 + [True]),
        ("rzscore(a, points=20) > 6", [*range(20), NAN, 99], [None] * 21 + [True]),
        ("oscillation(a, points=60) < 0.5", range(60), [None] * 59 + [True]),
    ],
)
def test_functions_of_a_series(expr: str, values: Sequence[float], expected: list[bool | None]) -> None:
    """Each function after each point: unknown until it may answer."""
    assert answers(evaluator(expr), series("a", values)) == expected


def test_equal_subtrees_are_one_window() -> None:
    """However many rules ask, and by whatever name they call the tag."""
    run = evaluator(
        "mean(actor_q, points=5) > 1", "2 * mean(m['debug/actor_q_mean'], points=5) > std(actor_q, points=5)"
    )
    run.feed(series("debug/actor_q_mean", [1, 2]))
    run.flush()
    assert len(run._roster.series["debug/actor_q_mean"].pushes) == 1


# Ticks


def test_a_tick_closes_when_the_step_changes_a_tag_repeats_or_two_seconds_pass() -> None:
    """And each rule is evaluated once for all the points of a tick."""
    run = evaluator("a > b")
    samples = [
        ("a", 1, 0.0, 1.0),
        ("b", 1, 0.1, 2.0),  # tick 1: False
        ("a", 2, 0.2, 3.0),
        ("b", 2, 0.3, 2.0),  # tick 2: True
        ("b", 2, 0.4, 4.0),  # the tag repeats: tick 3: False
        ("a", 2, 3.0, 5.0),  # more than two seconds: tick 4: True
    ]
    assert answers(run, samples) == [False, True, False, True]


def test_steps_that_go_back_keep_their_order_and_lose_nothing() -> None:
    """Loggers that zig-zag are no rewind."""
    samples = [("a", step, float(n), float(step)) for n, step in enumerate([10, 12, 11, 13, 12])]
    run = evaluator("mean(a, points=3) > 11.9")
    assert answers(run, samples) == [None, None, False, True, True]
    assert run.run_step == 13


def test_sources_have_ticks_of_their_own() -> None:
    """Two files that write at once neither cut nor lose each other's ticks."""
    run = evaluator("a > b", "a > 0")
    run.feed([("a", 0, 0.0, 0.0), ("b", 0, 0.0, 0.0)], 0)
    run.flush()
    out = run.feed([("a", 1, 0.0, 1.0)], 0)
    out += run.feed([("c", 900, 0.0, 1.0)], 1)
    out += run.feed([("b", 1, 0.0, 0.0), ("c", 2, 1.0, 0.0)], 0)
    assert [(key, verdict.condition) for key, verdict in out] == [
        ("r0", Condition.BREACH),
        ("r1", Condition.BREACH),
    ]


# Names


def test_an_alias_takes_the_first_candidate_of_the_tick_it_resolves_in_and_sticks() -> None:
    """Whatever the order of tags inside the tick, and whatever appears later."""
    run = evaluator("actor_q > 50")
    tick = [("train/actor_loss", 1, 0.0, -99.0), ("debug/actor_q_mean", 1, 0.0, 60.0)]
    assert answers(run, tick) == [True]
    assert run.resolution()["actor_q"] == "debug/actor_q_mean"
    other = evaluator("actor_q > 50")
    assert answers(other, tick[:1]) == [True]
    assert other.resolution()["actor_q"] == "=-m['train/actor_loss']"
    assert answers(other, [("debug/actor_q_mean", 2, 9.0, 1.0), ("train/actor_loss", 2, 9.0, -70.0)]) == [
        True
    ]
    assert other.resolution()["q1"] is None


def test_the_points_of_the_tick_in_which_an_alias_resolves_are_not_lost() -> None:
    """Not by its windows, and not by series derived from it."""
    run = evaluator("mean(lead, points=2) > 0 and initial(critic_q, points=1) == 1 and best(actor_q) > 3")
    samples = [
        ("debug/actor_q_mean", 1, 0.0, 5.0),
        ("q1", 1, 0.0, 2.0),
        ("q2", 1, 0.0, 1.0),
        ("debug/actor_q_mean", 2, 1.0, 3.0),
        ("q1", 2, 1.0, 2.0),
        ("q2", 2, 1.0, 1.5),
    ]
    assert answers(run, samples) == [None, True]


def test_a_metric_in_scalar_position_is_as_of() -> None:
    """The latest value of each part, also when they are logged at different times."""
    run = evaluator("lead > 2")
    samples = [("debug/actor_q_mean", 1, 0.0, 9.0), ("q1", 5, 5.0, 2.0), ("debug/actor_q_mean", 6, 9.0, 4.0)]
    assert answers(run, samples) == [True, False]


def test_a_derived_series_has_a_point_when_every_input_has_a_new_one() -> None:
    """The slowest decides, nothing is counted twice, the step is the driver's."""
    run = evaluator("count(a - b, points=99) >= 0 and delta(a - b, points=2) == 1")
    samples = [("a", n, float(n), float(n)) for n in range(1, 7)] + [("b", 7, 7.0, 0.0)]
    samples += [("a", 8, 8.0, 8.0), ("b", 9, 9.0, 1.0)]
    assert answers(run, samples) == [None] * 8 + [True]  # 6 - 0 when b comes; 8 - 1 when both have come again


def test_an_aligned_metric_joins_at_equal_steps_only() -> None:
    """Where as-of would compare values of different moments."""
    run = evaluator("aligned > 0")
    samples = [("q1", 1, 0.0, 5.0), ("q2", 2, 1.0, 1.0), ("q1", 2, 2.0, 3.0), ("q2", 3, 3.0, 9.0)]
    assert answers(run, samples) == [True, True]


def test_step_any_has_a_point_when_the_run_has_come_further() -> None:
    """Neither many tags at one step nor a slower axis beside it make more points; probes make none."""
    run = evaluator("throughput(step_any, points=3) == 10", "count(step_any, points=9) == 3")
    samples: list[Sample] = []
    for n in range(1, 4):
        samples += [(tag, 100 * n, 10.0 * n, 0.0) for tag in "abc"]
        samples += [("episode", n, 10.0 * n, 0.0), ("sys/rss_frac", 10**6, 10.0 * n, 0.0)]
    out = run.feed(samples) + run.flush()
    assert [v.condition for key, v in out if key == "r0"][-1] is Condition.BREACH
    assert [v.condition for key, v in out if key == "r1"][-1] is Condition.BREACH
    assert run.run_step == 300


EACH = 'each = "grad/{part}_norm"\nexpr = "x > 1 and m[\'params/{part}\'] > 0"'


def test_an_each_rule_has_an_instance_for_each_tag() -> None:
    """With its captures, and its key after them."""
    run = compile_rules(rule_set(EACH, 'each = "**loss**"\nexpr = "x > 1"')).evaluator()
    samples: list[Sample] = [
        ("grad/actor_norm", 1, 0.0, 2.0),
        ("params/actor", 1, 0.0, 1.0),
        ("grad/critic_norm", 1, 0.0, 0.0),
        ("train/loss_b/c", 1, 0.0, 2.0),
    ]
    out = run.feed(samples) + run.flush()
    assert [key for key, _ in out] == ["r0[actor]", "r1[train/loss_b/c]"]
    assert run.captures("r0[actor]") == {"tag": "grad/actor_norm", "part": "actor"}
    assert run.captures("r1[train/loss_b/c]") == {"tag": "train/loss_b/c"}
    assert run.rule("r0[critic]").name == "r0"
    assert run.names("r0[actor]")["x"] == 2.0


def test_a_nonfinite_rule_fires_at_the_first_bad_point_and_is_seen_to_end() -> None:
    """Quiet instances are passed over; a watched one is evaluated at every point."""
    run = compile_rules(rule_set('each = "**"\nexpr = "not is_finite(x)"')).evaluator()
    out = run.feed(series("a", [1, NAN, 2, 3]))
    assert [(key, v.condition, v.at.step) for key, v in out] == [
        ("r0[a]", Condition.BREACH, 200),
        ("r0[a]", Condition.OK, 300),
    ]
    assert math.isnan(out[0][1].value or 0.0)
    assert run.flush()[0][1].condition is Condition.OK
    first = compile_rules(rule_set('each = "**"\nexpr = "not is_finite(x)"')).evaluator()
    assert [key for key, _ in first.feed(series("a", [NAN])) + first.flush()] == ["r0[a]"]
    also = compile_rules(rule_set('each = "**"\nexpr = "not is_finite(x) and known(initial(x, points=1))"'))
    late = also.evaluator()
    assert [(key, v.at.step) for key, v in late.feed(series("a", [NAN, NAN, 1, NAN, 2])) + late.flush()] == [
        ("r0[a]", 400),
        ("r0[a]", 500),
    ]
    assert (
        not compile_rules(rule_set('each = "**"\nexpr = "x > 0"'))
        .evaluator()
        .feed(series("sys/rss_frac", [1, 1]))
    )


# Time


def test_a_value_is_fresh_for_ten_minutes_or_ten_gaps() -> None:
    """Then it reads unknown."""
    run = evaluator("a > 0")
    run.feed(series("a", [1, 1], seconds=1.0))
    assert [v.condition for _, v in run.feed([("a", 300, 1002.0, 1.0)])] == [Condition.BREACH]
    beside = evaluator("a + 0 * b > 0")
    assert answers(beside, [("a", 1, 0.0, 1.0), ("b", 2, 590.0, 1.0), ("b", 3, 601.0, 1.0)]) == [
        None,
        True,
        None,
    ]
    slow = evaluator("a + 0 * b > 0")
    samples = [("a", n, 100.0 * n, 1.0) for n in range(4)] + [("b", 9, 1290.0, 1.0), ("b", 10, 1301.0, 1.0)]
    assert answers(slow, samples)[-2:] == [True, None]


def test_silence_is_found_by_the_timer_and_its_end_by_the_next_point() -> None:
    """Older than the limit and than ten median gaps between distinct steps."""
    run = compile_rules(rule_set("""expr = "stale(step_any, time='5m')" """)).evaluator()
    assert run.has_timers
    run.feed([(tag, 100 * n, 1000.0 + 40.0 * n, 1.0) for n in range(1, 20) for tag in "abc"])
    assert run.timer(1760.0 + 399.0) == []
    out = run.timer(1760.0 + 401.0)
    assert [(key, v.condition, v.value, v.limit) for key, v in out] == [
        ("r0", Condition.BREACH, 401.0, 400.0)
    ]
    assert out[0][1].at.wall_time == 1760.0 + 401.0
    run.feed([("sys/rss_frac", 1, 2170.0, 0.5)])
    assert run.timer(2170.0) != [], "the sentinel's own probes are no sign of life"
    run.watching.add("r0")
    run.feed([("a", 2000, 2200.0, 1.0)])
    assert [v.condition for _, v in run.flush()] == [Condition.OK]


def test_absence_needs_no_point_of_its_own() -> None:
    """A tag that never came is absent once the run has been going that long."""
    run = evaluator("absent(m['never'], time='60s')")
    assert [v.condition for _, v in run.timer(0.0)] == [Condition.UNKNOWN]
    run.feed(series("a", [1.0]))
    assert [v.condition for _, v in run.timer(1060.0)] == [Condition.OK]
    assert [v.condition for _, v in run.timer(1071.0)] == [Condition.BREACH]


def test_time_goes_on_after_the_last_point_of_a_forecast() -> None:
    """90 MB at 1 MB/s is 90 s away at the last point, and 80 s away ten seconds later."""
    run = evaluator("time_to(a, 0, time='1h') < 85")
    run.feed([("a", n, float(n), 100.0 - n) for n in range(11)])
    assert [v.value for _, v in run.timer(10.0)] == [pytest.approx(90)]
    assert [v.condition for _, v in run.timer(20.0)] == [Condition.BREACH]


def test_age_and_elapsed() -> None:
    """Seconds since the last point, and since the run's first."""
    run = evaluator("age(a) == 5 and elapsed() == 15")
    run.feed([("a", 1, 100.0, 1.0), ("a", 2, 110.0, 1.0)])
    assert [v.condition for _, v in run.timer(115.0)] == [Condition.BREACH]


# Verdicts


def test_the_value_and_limit_are_those_of_the_comparison_that_decided() -> None:
    """The true one of an `or`, the first of an `and`."""
    assert last(evaluator("a > 5 or a < 2"), series("a", [1])).value == 1
    assert last(evaluator("a > 5 or a < 2"), series("a", [1])).limit == 2
    assert last(evaluator("a > 5 or a < 2"), series("a", [3])).limit == 5
    assert last(evaluator("not known(b) and a * 2 > 3 and a < 9"), series("a", [4])).limit == 3
    assert last(evaluator("not (a > 3)"), series("a", [4])).limit == 3
    assert last(evaluator("(a > 1) if a > 3 else (a > 2)"), series("a", [4])).limit == 1
    unknown = last(evaluator("a > 3"), series("a", [NAN]))
    assert (unknown.value, unknown.limit) == (None, 3)


def test_a_mark_says_where_the_run_stood_on_all_axes() -> None:
    """The driver is the rule's first metric; the run step is the greatest of any."""
    run = evaluator("a > 0 and b > 0")
    verdict = last(run, [("b", 500, 0.0, 1.0), ("a", 7, 1.0, 1.0), ("a", 8, 2.0, 1.0)])
    assert verdict.at == (8, 2.0, 2, 500)


def test_clear_and_recovered_have_their_own_conditions() -> None:
    """Recovery is evaluated on probation only."""
    text = 'expr = "a > 5"\nclear = "a < 2"\nladder = "l"'
    head = METRICS + '[ladders.l]\nrungs = [{ do = ["notify"] }]\nrecovered_when = "a < 1"\nwithin = "5m"\n'
    run = compile_rules(rule_set(text, head=head)).evaluator()
    run.watching.add("r0")
    found = [v for _, v in run.feed(series("a", [9, 3, 1, 0]))]
    assert [(v.condition, v.cleared, v.recovered) for v in found] == [
        (Condition.BREACH, False, None),
        (Condition.OK, False, None),
        (Condition.OK, True, None),
    ]
    run.probation.add("r0")
    assert [v.recovered for _, v in run.flush()] == [True]


@pytest.mark.parametrize(
    ("no_data", "expected"), [("hold", Condition.UNKNOWN), ("ok", Condition.OK), ("fire", Condition.BREACH)]
)
def test_no_data_decides_what_unknown_means(no_data: str, expected: Condition) -> None:
    """Held, fine, or a breach."""
    run = compile_rules(rule_set(f'expr = "a > 1"\nno_data = "{no_data}"')).evaluator()
    assert bool(run.feed(series("a", [NAN, NAN]))) == (no_data == "fire")
    run.watching.add("r0")
    assert run.flush()[0][1].condition is expected


def test_a_rule_is_silent_until_its_first_breach_and_then_until_the_caller_lets_it_go() -> None:
    """The end of a breach is seen in the same call as its beginning."""
    run = compile_rules(rule_set('expr = "a > 5"')).evaluator()
    assert [v.value for _, v in run.feed(series("a", [1, 9, 1, 9, 1]))] == [9, 1, 9]
    assert run.watching == {"r0"}
    run.watching.clear()
    assert run.flush() == []


def test_warming_fills_windows_and_judges_nothing() -> None:
    """What a restarted sentinel does with history."""
    run = evaluator("mean(a, points=3) > 1")
    assert run.feed(series("a", [5, 5, 5]), judge=False) == []
    run.flush(judge=False)
    assert answers(run, [("a", 400, 1040.0, 5.0)]) == [True]


def test_names_for_messages() -> None:
    """Metrics, lets and params of the rule, and those its messages name."""
    text = 'expr = "two > p.limit"\nlet = { two = "2 * a" }\nsummary = "{two} {lead:.1f} {limit} {reward}"'
    run = compile_rules(rule_set(text)).evaluator()
    run.feed(series("a", [3.0]))
    run.flush()
    assert run.names("r0") == {"limit": 50.0, "a": 3.0, "two": 6.0, "lead": None, "reward": None}


def test_names_are_those_of_the_verdict_and_not_of_the_point_that_closed_its_tick() -> None:
    """The point that closes a tick is in the series before the verdict is told."""
    run = compile_rules(rule_set('each = "**"\nexpr = "not is_finite(x)"')).evaluator()
    run.feed(series("a", [1, NAN, 2]))
    assert math.isnan(run.names("r0[a]")["x"] or 0.0)


def test_a_rule_that_fails_is_told_and_put_aside_and_the_others_go_on() -> None:
    """Three failures disable it; the engine never ends over one rule."""
    run = evaluator("a > 0", "a > 1")

    def broken(_now: float) -> bool | None:
        raise ZeroDivisionError("by zero")

    run.feed(series("a", [1]))
    run.flush()
    run._roster.instances["r0"].answer = broken
    out = run.feed(series("a", [2] * 6))
    assert len([key for key, _ in out if key == "r1"]) == 5
    assert "by zero" in run.errors["r0"]
    assert [v.condition for key, v in out if key == "r0"] == []


# Compilation


def test_all_problems_of_all_rules_are_told_at_once_with_their_places() -> None:
    """Metrics, lets, ladders and messages too."""
    head = METRICS + '[metrics.bad]\nany = ["=nosuch + 1"]\n'
    text = 'expr = "q9 > 1"\nclear = "q1"\nlet = { z = "p.none" }\nsummary = "{qq}"'
    with pytest.raises(RuleErrors) as caught:
        compile_rules(rule_set(text, 'each = "{a"\nexpr = "x > 1"', head=head))
    told = [problem.render() for problem in caught.value.problems]
    assert len(told) == 6
    assert all(problem.startswith("rules.toml:") for problem in told)
    for what in ("metrics.bad", "unknown metric 'q9'", "r0.clear", "r0.let.z", "{qq}", "brace is open"):
        assert any(what in problem for problem in told), (what, told)


def test_a_metric_that_names_itself_is_refused() -> None:
    """Four expressions deep is enough for anybody."""
    with pytest.raises(RuleErrors, match="nested deeper"):
        compile_rules(rule_set(head='[metrics]\na = ["=b + 1"]\nb = ["=a + 1"]\n'))


# Determinism

steps = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "q1", "q2", "debug/actor_q_mean", "train/actor_loss", "reward"]),
        st.sampled_from([0, 0, 0, 1, 5, 100, -3]),
        st.sampled_from([0.0, 0.1, 1.0, 3.0, 700.0]),
        st.one_of(st.floats(-10, 10), st.sampled_from([NAN, INF, 1e20, 0.0])),
    ),
    max_size=60,
)
RULES = (
    "a > 5 or lead > 1",
    "mean(a, points=3) > best(mean(a, points=3)) - 1",
    "frac(rzscore(reward, points=20, min_points=3) > 3, points=3) > 0.3",
    "doubling_steps(max(actor_q, 1e-6) / max(abs(critic_q), 1), steps=500, min_r2=0.1) < 200",
    "median(a - b, steps=50) > 0 and not falling(reward, points=12)",
    "throughput(step_any, points=5) < 100",
    "known(critic_q) and std(aligned, time='5m') > 1",
)


def seen(out: list[tuple[str, Verdict]]) -> list[str]:
    return [f"{key} {verdict}" for key, verdict in out]  # as text: NaN is equal to itself there


@settings(max_examples=150, deadline=None)
@given(steps, st.lists(st.integers(0, 60), max_size=8))
def test_the_same_points_in_any_pieces_give_the_same_verdicts(
    moves: list[tuple[str, int, float, float]], cuts: list[int]
) -> None:
    """Live and replay are one: nothing depends on where a read happened to end."""
    samples: list[Sample] = []
    step, wall = 0, 1000.0
    for tag, dstep, dwall, value in moves:
        step, wall = step + dstep, wall + dwall
        samples.append((tag, step, wall, value))
    whole, pieces = evaluator(*RULES), evaluator(*RULES)
    expected = seen(whole.feed(samples) + whole.flush())
    found: list[str] = []
    edges = [0, *sorted(min(cut, len(samples)) for cut in cuts), len(samples)]
    for start, end in pairwise(edges):
        found += seen(pieces.feed(samples[start:end]))
    assert found + seen(pieces.flush()) == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.permutations(["a", "b", "q1", "q2", "debug/actor_q_mean"]), min_size=1, max_size=12),
    st.randoms(),
)
def test_the_order_of_tags_within_a_tick_does_not_matter(orders: list[list[str]], random: object) -> None:
    """A logger may write its tags in any order."""
    values = [[math.sin(7 * n + k) * 10 for k in range(5)] for n in range(len(orders))]
    tags = ["a", "b", "q1", "q2", "debug/actor_q_mean"]

    def run(arrange: list[list[str]]) -> list[str]:
        made = evaluator(*RULES)
        samples = [
            (tag, 10 * n, 1000.0 + n, values[n][tags.index(tag)])
            for n, order in enumerate(arrange)
            for tag in order
        ]
        return seen(made.feed(samples) + made.flush())

    assert run(orders) == run([tags] * len(orders))


def test_run_step_and_wall_time_are_carried_to_each_other() -> None:
    """What maps an onset on an episode axis to the trainer's own step, and a step back to what a rewind
    keeps.
    """
    run = evaluator("a > 0")
    assert (run.run_step, run.run_step_at(5.0), run.wall_at(0)) == (0, 0, None)
    run.feed([("a", 100, 10.0, 1.0), ("b", 100, 11.0, 1.0), ("a", 200, 20.0, 1.0), ("episode", 3, 25.0, 1.0)])
    run.feed([("a", 300, 30.0, 1.0)])
    assert [run.run_step_at(wall) for wall in (9.0, 10.0, 19.0, 20.0, 99.0)] == [0, 100, 100, 200, 300]
    assert run.wall_at(100) == run.wall_at(150) == 11.0
    assert run.wall_at(200) == 25.0
    assert run.wall_at(300) is None
