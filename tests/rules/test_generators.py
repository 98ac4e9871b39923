"""Generated runs: the same text gives the same run, and a wrong one is answered with the right word."""

from __future__ import annotations

import math

import pytest

from rules.generators import FAMILIES, generate, trace


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_text_gives_the_same_run(name: str) -> None:
    """A scenario that passes on one machine passes on another; another seed is another run."""
    assert generate(f"{name}(seed=3, n=40)") == generate(f" {name}( n=40,seed=3 )")
    assert generate(f"{name}(seed=3, n=40)") != generate(f"{name}(seed=4, n=40)")


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.healthy])
def test_a_healthy_run_is_finite_and_goes_forward(name: str) -> None:
    """Nothing in a healthy run is what a rule about logging could speak of."""
    for tag, points in generate(f"{name}(seed=1, n=200, cadence=10)").items():
        assert all(math.isfinite(value) for _, _, value in points), tag
        assert [p[0] for p in points] == sorted(p[0] for p in points), tag
        assert [p[1] for p in points] == sorted(p[1] for p in points), tag


def test_cadence_is_the_distance_between_steps() -> None:
    """Steps are the environment's; how often they are logged is asked for apart."""
    steps = [step for step, _, _ in generate("cheetah(n=5, cadence=10)")["debug/actor_q_mean"]]
    assert steps == [10, 20, 30, 40, 50]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cheeta(seed=3)", "did you mean 'cheetah'?"),
        ("cheetah(sed=3)", "did you mean 'seed'?"),
        ("cheetah(seed=0.5)", "whole number"),
        ("cheetah(seed=True)", "whole number"),
        ("cheetah(n=0)", "from 1 to"),
        ("cheetah(severity=4)", "1, 2 or 3"),
        ("cheetah(at=1.0)", "below 1"),
        ("cheetah(3)", "write cheetah"),
        ("cheetah(seed=", "write cheetah"),
        ("", "write cheetah"),
        ("cheetah(**{})", "no argument"),
    ],
)
def test_what_cannot_be_drawn_is_refused(text: str, said: str) -> None:
    """The answer names what was wrong and what to write."""
    with pytest.raises(ValueError, match=said.replace("?", r"\?").replace("(", r"\(")):
        generate(text)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if not family.healthy])
@pytest.mark.parametrize("severity", [1, 2, 3])
def test_a_fault_begins_where_it_says(name: str, severity: int) -> None:
    """The onset is a logged moment, and the harm, if the run lives to see it, comes no earlier."""
    run = trace(f"{name}(seed=1, n=200, cadence=10, severity={severity})")
    assert run.onset is not None
    walls = {wall for points in run.series.values() for _, wall, _ in points}
    assert run.onset.wall in walls
    assert run.harm is None or run.harm.wall >= run.onset.wall
    assert 1 <= run.points <= 200


def test_before_its_fault_a_run_is_healthy() -> None:
    """Two severities of one seed are one run up to the onset, so that they differ in the fault alone."""
    mild, grave = (trace(f"actor_leads(seed=1, n=100, severity={severity})") for severity in (1, 3))
    assert mild.onset == grave.onset
    assert mild.onset is not None
    tag, begin = "debug/actor_q_mean", mild.onset.point
    assert mild.series[tag][:begin] == grave.series[tag][:begin]
    assert mild.series[tag][begin] != grave.series[tag][begin]


def test_the_first_seed_of_the_incident_is_the_incident() -> None:
    """At the cadence and pace at which it was logged there is nothing to interpolate and no noise."""
    series = generate("incident_b(seed=0, cadence=100)")
    actor = [(step, round(value, 3)) for step, _, value in series["debug/actor_q_mean"]]
    assert actor == [
        (1100, 2.344),
        (1200, 11.732),
        (1300, 28.721),
        (1400, 54.498),
        (1500, 104.489),
        (1600, 199.494),
        (1700, 349.055),
    ]


def test_a_rewind_is_told_where_the_steps_go_back() -> None:
    """The session's announcement lies between the last point before and the first after."""
    run = trace("rewind_then_lead(n=100, cadence=10)")
    (rewind,) = run.rewinds
    points = run.series["debug/actor_q_mean"]
    before = [step for step, wall, _ in points if wall < rewind.wall]
    after = [step for step, wall, _ in points if wall > rewind.wall]
    assert after[0] == rewind.to_step + 10 < before[-1]
    assert not trace("silent_rewind_then_lead(n=100)").rewinds
