"""A failure is shown where it happened: aligned, short, with a caret at each step that it is about."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.scenario import load
from sentinel.scenarios import Test, run_test
from sentinel.timeline import MOST_LINES, timeline

RULES = """
[metrics]
q = ["debug/q"]
[[rule]]
name = "high"
expr = "q > 50"
summary = "q is {q:.1f}"
[[rule]]
name = "dead"
each = "grad/{part}"
expr = "x < 0.5"
[[test]]
name = "t"
steps = "100+100x9"
"""


def shown(test: str) -> list[str]:
    """The timeline of the only failure of a case."""
    case = Test("t.toml", load(RULES + test, "t.toml", str), 0)
    (told,) = run_test(case, float).failures
    return [line.text for line in timeline(case, told)]


def test_a_failure_is_shown_with_what_the_rule_saw() -> None:
    """Values under values, and carets under steps."""
    q = 'series = { "debug/q" = "1 2 nan 3 60 1000 1" }\n'
    assert shown(f'{q}[[test.expect]]\nrule = "high"\nfires_at = 300\n') == [
        "step  value  limit  expr     state     high",
        " 100      1     50  False    inactive",
        " 200      2     50  False    inactive",
        " 300      -     50  UNKNOWN  inactive",
        "   ^ expected",
        " 400      3     50  False    inactive",
        " 500     60     50  True     firing    asks for notify; q is 60.0",
        "   ^ came",
        " 600   1000     50  True     firing",
        " 700      1     50  False    resolved  the rule has cleared",
    ]


def test_a_step_at_which_the_rule_was_not_asked_says_so() -> None:
    """An expectation between two points is often the mistake itself."""
    q = 'series = { "debug/q" = "1 60" }\n'
    lines = shown(f'{q}[[test.expect]]\nrule = "high"\nfires_at = 150\n')
    assert lines[2:4] == [
        " 150                                 not evaluated at this step",
        "   ^ expected",
    ]


POINTS = st.lists(st.sampled_from(["1x20", "1", "60", "nan", "_"]), min_size=1, max_size=10)


@given(POINTS, st.integers(0, 25000))
@settings(max_examples=60, deadline=None)
def test_it_is_short_and_aligned_whatever_happened(values: list[str], step: int) -> None:
    """Every state column begins at the same place, and nobody scrolls."""
    q = f'series = {{ "debug/q" = "{" ".join(values)}" }}\n'
    expect = f'[[test.expect]]\nrule = "high"\nfires_at = {step}\n'
    scenario = load(RULES.replace("x9", "x999") + q + expect, "t.toml", str)
    case = Test("t.toml", scenario, 0)
    for told in run_test(case, float).failures:
        lines = timeline(case, told)
        assert 0 < len(lines) <= MOST_LINES
        if not lines[0].text.startswith("high was never"):
            marked = " ".join(line.text for line in lines if line.is_mark)
            assert "expected" in marked
            assert ("came" in marked) is bool(told.failure.came)
            at = lines[0].text.index("state")
            rows = [line.text for line in lines[1:] if not line.is_mark and len(line.text) > at]
            assert all(row[at - 1] == " " for row in rows)


@pytest.mark.parametrize(
    ("test", "told"),
    [
        (
            'series = { "debug/qq" = "1" }\n[[test.expect]]\nrule = "high"\nfires = true\n',
            "did you mean 'debug/qq'?",
        ),
        (
            'series = { "debug/qq" = "1" }\n[[test.expect]]\nrule = "high"\nfires = true\n',
            "q: none of debug/q was",
        ),
        (
            'series = { other = "1" }\n[[test.expect]]\nrule = "dead"\nfires = true\n',
            "no tag fits (each = 'grad/{part}')",
        ),
        (
            'series = { "grad/a" = "1" }\n[[test.expect]]\nrule = "dead[b]"\nfires = true\n',
            "'dead[b]' is none of its",
        ),
    ],
)
def test_a_rule_that_was_never_asked_says_why(test: str, told: str) -> None:
    """No data is the commonest reason why a rule is silent in its first test."""
    assert told in "\n".join(shown(test))


def test_of_many_instances_the_one_that_fired_is_shown() -> None:
    """It is the one that the failure speaks of."""
    lines = shown(
        'series = { "grad/a" = "1 1", "grad/b" = "1 0" }\n[[test.expect]]\nrule = "dead"\nnever = true\n'
    )
    assert lines[0].endswith("dead[b]")


def test_a_failure_of_no_run_has_no_timeline(tmp_path: Path) -> None:
    """A rate is counted over all of them."""
    test = 'gen = "cheetah(n=20)"\nexpect_false_alarms_per_1e5 = { max = 0 }\n[test.rename]\n'
    rules = RULES.replace('steps = "100+100x9"\n', "").replace("q > 50", "q == q")
    lines = f'{test}"debug/actor_q_mean" = "debug/q"\n'
    case = Test("t.toml", load(rules + lines, "t.toml", str), 0)
    (told,) = run_test(case, float).failures
    assert timeline(case, told) == []
