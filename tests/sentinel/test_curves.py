"""The thinned history of a run: bounded, complete where it is new, true to the extremes where it is old."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.evaluate import Program
from rules.series import Sample
from sentinel.config import load
from sentinel.curves import NEWEST, OLDER, OTHERS, Curves, named


@pytest.fixture(scope="module")
def program() -> Program:
    return load(None, ["td3"]).program


def feed(curves: Curves, samples: list[Sample], piece: int) -> None:
    for at in range(0, len(samples), piece):
        curves.take(samples[at : at + piece])


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=3000),
    st.sampled_from([1, 7, 100, 5000]),
)
@settings(max_examples=25, deadline=None)
def test_whatever_was_logged_its_newest_points_and_its_extremes_are_there(
    program: Program, values: list[float], piece: int
) -> None:
    """In order, at most so many, and a spike of one point survives every thinning."""
    curves = Curves(program)
    feed(curves, [("debug/actor_q_mean", n, float(n), value) for n, value in enumerate(values)], piece)
    kept = curves.points("debug/actor_q_mean")
    steps = [point.step for point in kept]
    assert steps == sorted(set(steps))
    assert steps[-NEWEST:] == list(range(len(values)))[-min(NEWEST, len(steps)) :]
    assert all(same(point.value, values[point.step]) for point in kept)
    finite = [value for value in values if not math.isnan(value)]
    if finite:
        assert min(finite) == min(point.value for point in kept if not math.isnan(point.value)) or any(
            math.isnan(value) for value in values
        )
    greatest = [math.inf if math.isnan(value) else value for value in values]
    assert max(greatest) == max(math.inf if math.isnan(p.value) else p.value for p in kept)


def same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def test_a_long_run_is_held_in_little(program: Program) -> None:
    """A hundred thousand points of a tag, and no more than a thousand of them are kept."""
    curves = Curves(program)
    feed(curves, [("debug/actor_q_mean", n, n / 10, math.sin(n / 1000)) for n in range(100_000)], 997)
    kept = curves.points("debug/actor_q_mean")
    assert len(kept) < 2 * NEWEST + 2 * OLDER + 2048
    assert kept[0].step < 2000, "from its beginning"
    assert kept[-1].step == 99_999


def test_what_a_rule_names_is_kept_however_many_tags_there_are(program: Program) -> None:
    """A run with a tag per layer must not crowd out what the rules are about."""
    curves = Curves(program)
    feed(curves, [(f"layer/{n}", 1, 1.0, 1.0) for n in range(2 * OTHERS)], 50)
    curves.take([("debug/actor_q_mean", 1, 1.0, 5.0)])
    assert [p.value for p in curves.points("debug/actor_q_mean")] == [5.0]
    assert curves.points("layer/0") != []
    assert curves.points(f"layer/{2 * OTHERS - 1}") == []
    assert "train/actor_loss" in named(program)


def test_time_between_steps_is_that_of_the_attempt_in_question(program: Program) -> None:
    """The same steps were logged twice, at another pace: what was given up is what came before the rewind."""
    curves = Curves(program)
    curves.take([("time/fps", step, 100.0 + step, 1.0) for step in range(0, 1001, 100)])
    curves.take([("time/fps", step, 5000.0 + 3 * step, 1.0) for step in range(500, 1001, 100)])
    assert curves.wall_at(750, until=2000.0) == 850.0
    assert curves.wall_at(750) == 5000.0 + 3 * 750
    assert curves.wall_at(50, until=50.0) is None
    assert Curves(program).wall_at(5) is None
