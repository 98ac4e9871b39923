"""What a program can come to hold is known at load, and no run makes it hold more."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from rules.compile import compile_all
from rules.evaluate import compile_rules
from rules.memory import MOST_HELD, POINT_BYTES, RUN_BYTES, TAG_BYTES, Held, Memory, memory
from rules.merge import RuleSet, build
from rules.progress import MOST_KEPT
from rules.source import RuleErrors, parse
from rules.windows import MOST_POINTS, SpanBuffer

W = "points=4000"


def rules(expr: str, extra: str = "") -> RuleSet:
    metrics = '[metrics]\nq = ["q"]\nr = ["r"]\ngap = ["=mean(q, points=7) - r"]\n'
    text = f'{metrics}[[rule]]\nname = "a"\nexpr = "{expr}"\n'
    return build([("", parse(text + extra, "rules.toml"))])


def held(expr: str, extra: str = "") -> Memory:
    compiled = compile_all(rules(expr, extra))
    return memory(compiled.rules, compiled.metrics)


@pytest.mark.parametrize(
    ("expr", "most", "usual"),
    [
        ("q > 1", 0, 0),
        ("mean(q, points=50) > 1", 50, 50),
        ("mean(q, points=50) > median(q, points=50)", 50, 50),
        ("mean(q, points=50) > mean(r, points=50)", 100, 100),
        ("mean(q, points=50) > mean(q, points=20)", 70, 70),
        ("best(mean(q, points=50)) > 1 and rzscore(q, points=128) > 1", 178, 178),
        ("prev(q, n=9) > 1 and initial(q, points=5) > 1 and ewma(q, points=500) > 1", 15, 15),
        ("gap > 1", 7, 7),
        ("mean(q, steps=500) > 1", MOST_POINTS, 500),
        ("mean(q, time='10m') > 1", MOST_POINTS, 600),
        ("stale(q, time='10m')", 0, 0),
    ],
)
def test_every_window_counts_once(expr: str, most: int, usual: int) -> None:
    """Equal windows over equal series are one, whichever function asks; a metric brings its own."""
    assert held(expr).points == Held(most, usual)


def test_a_rule_with_each_counts_for_every_tag() -> None:
    """Its windows are a tag's own."""
    extra = '[[rule]]\nname = "b"\neach = "g/*"\nexpr = "median(x, points=30) > 1"\n'
    found = held("mean(q, points=50) > 1", extra)
    assert found == Memory(Held(50, 50), {"b": Held(30, 30)})
    assert found.bytes(10) == RUN_BYTES + (50 + 300) * POINT_BYTES + 10 * TAG_BYTES


@pytest.mark.parametrize(
    "expr",
    [
        f"mean(q, {W}) > 1",
        f"median(q, {W}) + mad(q, {W}) > 1",
        f"highest(q, {W}) - lowest(q, {W}) > 1",
        f"doubling_steps(q, {W}) > 1",
        f"zscore(q, {W}) > 1",
        f"mean(q, {W}) + median(q, {W}) + highest(q, {W}) + lowest(q, {W}) + doubling_steps(q, {W}) > 1",
        "mean(q, steps=4000) > 1",
        "prev(q, n=4000) > 1",
    ],
)
def test_no_run_takes_more_than_was_said(expr: str) -> None:
    """A real evaluator, three times as many points as the window, every one with numbers of its own."""
    made = rules(expr)
    compiled = compile_all(made)
    said = memory(compiled.rules, compiled.metrics)
    evaluator = compile_rules(made).evaluator()
    draw = random.Random(0)
    tracemalloc.start()
    try:
        evaluator.feed(("q", n, n + draw.random(), 1 + draw.random()) for n in range(12_000))
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    own = 12_000 / MOST_KEPT * RUN_BYTES  # it has come so far
    assert taken < own + said.points.usual * POINT_BYTES + TAG_BYTES
    assert taken > (own + said.points.usual * POINT_BYTES) / 3


def test_rules_that_could_exhaust_the_machine_are_refused() -> None:
    """Before there is a run; with the way out."""
    extra = "".join(
        f'[[rule]]\nname = "r{n}"\nexpr = "mean(q, time=\'{n}s\') > 1"\n'
        for n in range(1, MOST_HELD // MOST_POINTS + 2)
    )
    with pytest.raises(RuleErrors, match=r"rules.toml: .* 20,100,000 points; at most 20,000,000") as caught:
        compile_rules(rules("q > 1", extra))
    assert "points=" in caught.value.problems[0].hint


def test_a_window_of_time_ends_at_so_many_points() -> None:
    """A job that logs a million points within the window costs no more than one that logs 100,000."""
    window = SpanBuffer(1e12, by_time=True)
    for n in range(MOST_POINTS + 500):
        window.push(n, float(n), 1.0)
    assert len(window.values) == MOST_POINTS
    assert window.walls[0] == 500.0
