"""What a rule could ever say of a run, found out from its tags alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.coverage import Coverage, coverage
from rules.evaluate import Program, compile_rules
from rules.merge import build
from rules.source import parse
from rules.verdict import Condition


def program(text: str) -> Program:
    return compile_rules(build([("", parse(text, "rules.toml"))]))


def seen(expr: str, tags: str, each: str = "") -> Coverage:
    text = f"""
    [metrics]
    a = ["a", "old/a"]
    b = ["b"]
    gap = ["=a - b"]
    [[rule]]
    name = "r"
    expr = "{expr}"
    {f'each = "{each}"' if each else ""}
    """
    return coverage(program(text), set(tags.split()))[0]


@pytest.mark.parametrize(
    ("expr", "tags", "sight", "missing"),
    [
        ("a > 1", "a", "whole", {}),
        ("a > 1", "old/a", "whole", {}),
        ("a > 1", "b", "blind", {"a": ("a", "old/a")}),
        ("a > 1 and b > 1", "a", "blind", {"b": ("b",)}),
        ("a > 1 or b > 1", "a", "part", {"b": ("b",)}),
        ("gap > 1", "a", "blind", {"b": ("b",)}),
        ("not b > 1", "a", "blind", {"b": ("b",)}),
        ("not known(b) and a > 1", "a", "part", {"b": ("b",)}),
        ("known(b) and a > 1", "a", "blind", {"b": ("b",)}),
        ("coalesce(b, a) > 1", "a", "part", {"b": ("b",)}),
        ("(b > 1 if known(b) else a > 1)", "a", "part", {"b": ("b",)}),
        ("(b > 1 if known(b) else b < 0)", "a", "blind", {"b": ("b",)}),
        ("(b if known(b) else a) > 1", "a", "part", {"b": ("b",)}),
        ("frac(b > 1, points=3) > 0.5", "a", "blind", {"b": ("b",)}),
        ("m['loss'] > 1", "a", "blind", {"loss": ("loss",)}),
        ("absent(b, time='5m')", "a", "part", {"b": ("b",)}),
        ("stale(step_any, time='5m')", "", "whole", {}),
        ("step() > 9 or False", "", "whole", {}),
    ],
)
def test_what_is_missing_and_what_that_leaves(
    expr: str, tags: str, sight: str, missing: dict[str, tuple[str, ...]]
) -> None:
    """By Kleene's logic: an arm that is unknown for ever blinds `and`, and leaves `or` its other arm."""
    found = seen(expr, tags)
    assert (found.sight, dict(found.missing)) == (sight, missing)


def test_an_each_rule_is_blind_where_no_tag_fits() -> None:
    """Its pattern is what is missing; with tags, each is an instance."""
    assert seen("x > 1", "a b", "grad/{part}") == Coverage("r", "blind", {"grad/{part}": ("grad/{part}",)}, 0)
    assert seen("x > 1", "grad/a grad/b", "grad/{part}") == Coverage("r", "whole", {}, 2)


CONDITIONS = st.recursive(
    st.sampled_from(
        ["a > 0", "b > 0", "known(a)", "known(b)", "coalesce(a, b) < 0", "gap == 0", "True", "False"]
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda t: f"({t[0]} and {t[1]})"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]} or {t[1]})"),
        inner.map(lambda text: f"not ({text})"),
        st.tuples(inner, inner, inner).map(lambda t: f"(({t[0]}) if ({t[1]}) else ({t[2]}))"),
    ),
    max_leaves=6,
)


@settings(max_examples=500)
@given(CONDITIONS, st.sets(st.sampled_from(["a", "b"])), st.integers(0, 99))
def test_what_is_called_blind_never_fires(expr: str, tags: set[str], seed: int) -> None:
    """Whatever numbers the tags take, the evaluator finds no breach in a rule that is said to see nothing."""
    text = f'[metrics]\na = ["a"]\nb = ["b"]\ngap = ["=a - b"]\n[[rule]]\nname = "r"\nexpr = "{expr}"\n'
    made = program(text)
    if coverage(made, tags)[0].sight != "blind":
        return
    draw = random.Random(seed)
    evaluator = made.evaluator()
    points = [(tag, n, float(n), draw.choice([-1.0, 0.0, 1.0])) for n in range(6) for tag in sorted(tags)]
    verdicts = evaluator.feed([*points, ("other", 9, 9.0, 1.0)]) + evaluator.flush()
    assert not [v for _, v in verdicts if v.condition is Condition.BREACH]
