"""A tree written out is read back as the same tree."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rules import packs
from rules.evaluate import compile_rules
from rules.expr import Scope, parse
from rules.merge import build
from rules.tree import Node
from rules.written import written

SCOPE = Scope(metrics={"a": None, "b": None}, params={"k": 2.5}, each=True)

NUMBERS = st.recursive(
    st.sampled_from(
        [
            "a",
            "b",
            "x",
            "step_any",
            "m['t/1']",
            "p.k",
            "1e-9",
            "3.25",
            "1e300",
            "age(a)",
            "best(b, mode='min')",
        ]
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "%", "**"]), inner).map(
            lambda t: f"({t[0]}) {t[1]} ({t[2]})"
        ),
        inner.map(lambda text: f"-({text})"),
        inner.map(lambda text: f"mean({text}, points=5)"),
        inner.map(lambda text: f"doubling_steps({text}, steps=500, min_r2=0.8)"),
        inner.map(lambda text: f"median({text}, time='90s', min_points=2)"),
        st.tuples(inner, inner).map(lambda t: f"max({t[0]}, {t[1]})"),
        st.tuples(inner, inner).map(lambda t: f"(({t[0]}) if a > 1 else ({t[1]}))"),
    ),
    max_leaves=6,
)
CONDITIONS = st.recursive(
    st.tuples(NUMBERS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), NUMBERS).map(
        lambda t: f"({t[0]}) {t[1]} ({t[2]})"
    )
    | st.sampled_from(["True", "False", "known(a)", "rising(b, points=20)", "stale(step_any, time='5m')"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(
            lambda parts: " and ".join(f"({part})" for part in parts)
        ),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: " or ".join(f"({part})" for part in parts)),
        inner.map(lambda text: f"not ({text})"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]}) if ({t[1]}) else ({t[2]})"),
    ),
    max_leaves=4,
)


def read(text: str) -> Node:
    tree, faults = parse(text, SCOPE, None)
    assert not faults, (text, faults)
    return tree


@settings(deadline=None, max_examples=300)
@given(CONDITIONS)
def test_any_condition_is_read_back_as_it_was(text: str) -> None:
    """Whatever the brackets were, the tree is the same."""
    tree, faults = parse(text, SCOPE, None)
    assume(not faults)
    assert read(written(tree)) == tree


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("(a + b) * 2", "(a + b) * 2"),
        ("a - (b - 1)", "a - (b - 1)"),
        ("-(a ** 2)", "-a ** 2"),
        ("(-a) ** 2", "(-a) ** 2"),
        ("(a > 1 or b > 1) and not (a > 2)", "(a > 1 or b > 1) and not a > 2"),
        ("mean(a, time='1.5m') > p.k", "mean(a, time='90s') > 2.5"),
        ("a > 1 if known(b) else a > 2", "a > 1 if known(b) else a > 2"),
    ],
)
def test_no_bracket_is_written_that_is_not_needed(text: str, shown: str) -> None:
    """People read it."""
    assert written(read(text)) == shown


def test_every_shipped_rule_is_read_back() -> None:
    """What is shown of a pack's rule is that rule."""
    program = compile_rules(
        build([("", packs.read("_aliases")), *((n, packs.read(n)) for n in packs.names())])
    )
    for rule in program.rules:
        captures = rule.pattern.captures if rule.pattern else ()
        scope = Scope(metrics=program.metrics, each=rule.pattern is not None, captures=captures)
        tree, faults = parse(written(rule.expr), scope, "bool")
        assert not faults, (rule.spec.name, faults)
        assert tree == rule.expr, rule.spec.name
