"""What is said of a series is what was logged, whatever the run did in between."""

from __future__ import annotations

from itertools import pairwise
from statistics import median_high

from hypothesis import given
from hypothesis import strategies as st

from rules.axis_facts import AxisFacts
from rules.series import Sample


def line(tag: str, steps: list[int], every: float = 10.0) -> list[Sample]:
    return [(tag, step, every * n, 1.0) for n, step in enumerate(steps)]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_counts_and_gaps_are_those_of_the_points(steps: list[int]) -> None:
    """By the definition of each, point by point."""
    read = AxisFacts()
    read.take(line("a", steps))
    found = read.facts().series["a"]
    pairs = list(pairwise(steps))
    gaps = [abs(b - a) for a, b in pairs if a != b]
    assert (found.count, found.first_step, found.last_step) == (len(steps), min(steps), max(steps))
    assert found.repeats == sum(a == b for a, b in pairs)
    assert found.backs == sum(b < a for a, b in pairs)
    assert found.step_gap == (median_high(gaps) if gaps else 0)


def test_a_long_run_is_sampled_evenly() -> None:
    """The median of a million gaps is not that of the last thousand."""
    read = AxisFacts()
    read.take(("a", step, float(step), 1.0) for step in range(6000))
    read.take(("a", 6000 + 100 * n, 6000.0 + n, 1.0) for n in range(4000))
    assert read.facts().series["a"].step_gap == 1


def test_what_is_logged_again_after_a_rewind_is_no_disorder() -> None:
    """A new attempt goes back once, and that is how it should be."""
    read = AxisFacts()
    read.take(line("a", [100, 200, 300]))
    read.rewound()
    read.take(line("a", [200, 300]))
    found = read.facts().series["a"]
    assert (found.backs, found.repeats, found.step_gap) == (0, 0, 100)


def test_the_run_has_a_point_where_it_has_come_further() -> None:
    """Not for every point of every series."""
    read = AxisFacts()
    read.take([("a", 100, 0.0, 1.0), ("b", 100, 0.1, 1.0), ("b", 7, 5.0, 1.0), ("a", 200, 10.0, 1.0)])
    facts = read.facts()
    assert facts.whole is not None
    assert (facts.whole.count, facts.whole.last_step, facts.ticks) == (2, 200, 3)


def test_points_that_are_no_numbers_are_counted_apart() -> None:
    """A window holds the others."""
    read = AxisFacts()
    read.take([("a", 1, 0.0, float("nan")), ("a", 2, 1.0, 3.0), ("a", 3, 2.0, float("inf"))], source=1)
    read.take([("a", 4, 3.0, 1.0)], source=2)
    found = read.facts().series["a"]
    assert (found.count, found.finite, found.sources) == (4, 2, 2)
