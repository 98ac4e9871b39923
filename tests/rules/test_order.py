"""Within a tick points have no order; an alias is what it stands for; nothing is lost while tags appear."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from rules.evaluate import Evaluator, compile_rules
from rules.merge import build
from rules.series import Sample
from rules.source import parse
from rules.verdict import Condition, Verdict

TAGS = ("q1", "q2", "actor", "ep")

METRICS = """
[metrics]
a1 = "q1"
a2 = ["absent/tag", "q2"]
low = "=min(a1, a2)"
lead = "=relgap(m['actor'], low)"
same = { any = ["=m['q1'] - m['q2']"], align = "step" }
"""

ALIASED = (
    "mean(a1, points=2) > 0",
    "mean(a1, points=2) > mean(a2, points=3)",
    "mean(low, points=2) > best(mean(low, points=2)) - 1",
    "lead > 1 or prev(lead) > 1",
    "sum(a1 - a2, steps=30) > 0 and known(ep)",
    "median(lead * mean(a1 + a2, points=2), points=2) > 0",
    "prev(a2) > prev(a1)",
    "count(same, points=5) > 2",
    "mean(step_any - a1, points=2) > 0",
    "absent(a2, time='3s') or stale(a1, time='5s')",
)
"""What refers to metrics."""

LOW = "min(m['q1'], m['q2'])"
LEAD = f"relgap(m['actor'], {LOW})"
DIRECT = tuple(
    text.replace("known(ep)", "known(m['ep'])")
    .replace("lead", LEAD)
    .replace("low", LOW)
    .replace("a1", "m['q1']")
    .replace("a2", "m['q2']")
    for text in ALIASED
)
"""The same over tags written out."""


def evaluator(exprs: Sequence[str], head: str = METRICS + 'ep = "ep"\n') -> Evaluator:
    """One rule for each expression, r0, r1, ..., each reported at every evaluation."""
    rules = "".join(f'[[rule]]\nname = "r{n}"\nexpr = """{text}"""\n' for n, text in enumerate(exprs))
    made = compile_rules(build([("", parse(head + rules, "rules.toml"))])).evaluator()
    made.watching |= {f"r{n}" for n in range(len(exprs))}
    return made


def seen(out: list[tuple[str, Verdict]]) -> list[str]:
    return [f"{key} {verdict}" for key, verdict in out]  # as text: NaN is equal to itself there


def known(out: list[tuple[str, Verdict]]) -> list[str]:
    """What was decided; an alias that is unresolved as a whole is asked less often than its tags are."""
    return [
        f"{key} {verdict.condition} {verdict.value} {verdict.limit} {verdict.at.wall_time}"
        for key, verdict in out
        if verdict.condition is not Condition.UNKNOWN
    ]


ticks = st.lists(
    st.tuples(
        st.lists(st.sampled_from(TAGS), min_size=1, unique=True),
        st.sampled_from([10, 10, 10, 1, -20]),
        st.sampled_from([1.0, 1.0, 4.0]),
        st.lists(st.sampled_from([-2.0, 0.5, 1.0, 3.0, 9.0, float("nan")]), min_size=4, max_size=4),
    ),
    max_size=14,
)
"""Ticks: which tags, how far on in steps and seconds, and the tags' values."""


def points(moves: Sequence[tuple[list[str], int, float, list[float]]]) -> list[list[Sample]]:
    """The samples of each tick."""
    step, wall, made = 0, 1000.0, []
    for tags, dstep, dwall, values in moves:
        step, wall = step + dstep, wall + dwall
        made.append([(tag, step, wall, value) for tag, value in zip(tags, values, strict=False)])
    return made


@settings(max_examples=200, deadline=None)
@given(ticks, st.integers(0, 1000))
def test_the_order_of_points_within_a_tick_changes_no_verdict(
    moves: list[tuple[list[str], int, float, list[float]]], seed: int
) -> None:
    """Also where a tick has some of a join's inputs only: its older partners wait for no place in a file."""
    shuffler = random.Random(seed)
    written, shuffled = evaluator(ALIASED), evaluator(ALIASED)
    for tick in points(moves):
        turned = list(tick)
        shuffler.shuffle(turned)
        assert seen(shuffled.feed(turned) + shuffled.flush()) == seen(written.feed(tick) + written.flush())


@settings(max_examples=200, deadline=None)
@given(ticks, st.sets(st.integers(0, 60)))
def test_an_alias_says_what_its_tags_say_written_out(
    moves: list[tuple[list[str], int, float, list[float]]], cuts: set[int]
) -> None:
    """Wherever the tags appear, and in whatever pieces the points come."""
    samples = [sample for tick in points(moves) for sample in tick]
    aliased, direct = evaluator(ALIASED), evaluator(DIRECT)
    expected = known(direct.feed(samples) + direct.flush())
    found: list[str] = []
    edges = [0, *sorted(cut for cut in cuts if cut < len(samples)), len(samples)]
    for start, end in pairwise(edges):
        found += known(aliased.feed(samples[start:end]))
    assert found + known(aliased.flush()) == expected


def holds(run: Evaluator, key: str = "r0") -> bool | None:
    """What the last evaluation said."""
    return run.condition(key)(1e3)


def test_a_join_takes_both_values_of_a_tick_though_it_could_be_made_before_the_second() -> None:
    """q1 of tick 1 has waited for q2; q2 of tick 2 comes first, and is joined with q1 of the same tick."""
    run = evaluator(["mean(a1 + a2, points=1) == 22"])
    run.feed([("q1", 1, 1000.0, 1.0), ("q2", 2, 1001.0, 2.0), ("q1", 2, 1001.0, 20.0)])
    run.flush()
    assert holds(run) is True


def test_a_window_over_one_tag_starts_when_that_tag_does_and_not_with_its_partner() -> None:
    """q2 comes three ticks after q1; the mean of q1 has all of them."""
    run = evaluator(["mean(a1, points=4) == 2.5 and known(a2)"])
    run.feed([("q1", n, 1000.0 + n, float(n)) for n in (1, 2, 3, 4)] + [("q2", 4, 1004.0, 0.0)])
    run.flush()
    assert holds(run) is True


def test_a_tag_that_two_files_log_first_at_once_loses_neither_point() -> None:
    """Both files' ticks are open when the tag comes to mean something: its window gets both points."""
    run = evaluator(["count(a1, points=5) == 2"])
    run.feed([("q1", 1, 1000.0, 1.0)], source=1)
    run.feed([("q1", 1, 1000.0, 2.0)], source=2)
    run.flush()
    assert holds(run) is True


def test_an_instance_that_appears_late_has_the_points_of_the_tick_it_appears_in() -> None:
    """`each` rules too; the mean of its first point alone is known when that point's tick closes."""
    head = '[[rule]]\nname = "e"\neach = "g/{part}"\nexpr = "mean(x, points=1) + m[\'w/{part}\'] == 5"\n'
    run = evaluator([], head)
    out = run.feed(
        [("q1", 1, 1000.0, 1.0), ("g/a", 2, 1001.0, 2.0), ("w/a", 2, 1001.0, 3.0), ("q1", 3, 1002.0, 1.0)]
    )
    assert [(key, verdict.condition) for key, verdict in out] == [("e[a]", Condition.BREACH)]
