"""Generated runs: the same text gives the same run, and a wrong one is answered with the right word."""

from __future__ import annotations

import math

import pytest

from rules.generators import FAMILIES, generate


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
