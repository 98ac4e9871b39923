"""The parser lets through an allowlist and nothing else, and says where and what to write instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.calls import seconds
from rules.expr import Scope, parse
from rules.functions import FUNCTIONS
from rules.source import Problem
from rules.syntax import MAX_CHARACTERS, Fault
from rules.tree import Call, Compare, Logic, Metric, Negative, Number, Tag, Window, kind, walk

SCOPE = Scope(
    metrics=("actor_q", "q1", "q2", "reward"),
    params={"lead": 2.0},
    lets={"ratio": "max(actor_q, 1e-6) / max(abs(q1), 1)", "loop": "pool + 1", "pool": "loop + 1"},
)


def faults(text: str, scope: Scope = SCOPE) -> list[Fault]:
    return parse(text, scope, "bool")[1]


def only(text: str, scope: Scope = SCOPE) -> Fault:
    found = faults(text, scope)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        (
            "actr_q > 50",
            "rule.expr: error: unknown metric 'actr_q'\n"
            "  | actr_q > 50\n"
            "  | ^^^^^^\n"
            "  = help: did you mean 'actor_q'?",
        ),
        (
            "mean(actor_q) > 1",
            "rule.expr: error: mean() needs exactly one window: steps=, points= or time=\n"
            "  | mean(actor_q) > 1\n"
            "  | ^^^^^^^^^^^^^\n"
            "  = help: signature: mean(series, steps=|points=|time=)",
        ),
        (
            "actor_q > 50 and q1",
            "rule.expr: error: 'and'/'or' need conditions on both sides, this is a number\n"
            "  | actor_q > 50 and q1\n"
            "  |                  ^^\n"
            "  = help: compare it: ... > 0",
        ),
        (
            "actor_q > 50 && q1 < 3",
            "rule.expr: error: syntax: invalid syntax\n"
            "  | actor_q > 50 && q1 < 3\n"
            "  |               ^\n"
            "  = help: use 'and' / 'or' / 'not'",
        ),
        (
            "actor_q.__class__ > 1",
            "rule.expr: error: attribute access is not allowed\n"
            "  | actor_q.__class__ > 1\n"
            "  | ^^^^^^^^^^^^^^^^^\n"
            "  = help: only p.<param> is",
        ),
        (
            "doubling_steps(actor_q, steps=300, r2=0.8) < 200",
            "rule.expr: error: doubling_steps() has no argument 'r2'\n"
            "  | doubling_steps(actor_q, steps=300, r2=0.8) < 200\n"
            "  |                                       ^^^\n"
            "  = help: did you mean 'min_r2'?",
        ),
        (
            "debug/actor_q_mean > 50",
            "rule.expr: error: unknown metric 'debug'\n"
            "  | debug/actor_q_mean > 50\n"
            "  | ^^^^^\n"
            '  = help: declare it under [metrics], or use m["exact/tag"]',
        ),
    ],
)
def test_errors_read_as_the_language_promises(text: str, rendered: str) -> None:
    """What, where with a caret, and what to write instead."""
    fault = only(text)
    assert Problem("rule.expr", fault.what, fault.hint, text, fault.span).render() == rendered


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty"),
        ("lambda: 1", "lambda"),
        ("[x for x in q1] > 1", "comprehensions"),
        ("f'{q1}' > 1", "f-strings"),
        ("(a := q1) > 1", "':='"),
        ("q1 is 1", "'is' and 'in'"),
        ("q1 in (1, 2)", "'is' and 'in'"),
        ("q1 & 1 > 0", "bit operators"),
        ("~q1 > 0", "'~'"),
        ("mean(*q1, points=5) > 1", "starred"),
        ("mean(q1, **q2) > 1", "starred"),
        ("q1[0] > 1", "subscripts"),
        ("m[0] > 1", "exact tag"),
        ("m['a'].b > 1", "attribute"),
        ("p.lea > 1", "unknown parameter 'p.lea'"),
        ("p > 1", "unknown metric 'p'"),
        ("'text' > 1", "string"),
        ("None > 1", "None"),
        ("1j > 1", "1j"),
        ("q1 = 3", "syntax"),
        ("q1 >", "syntax"),
        ("import os", "syntax"),
        ("open('x') > 1", "unknown function 'open'"),
        ("q1.mean(points=3) > 1", "functions of the table"),
        ("mean > 1", "mean is a function"),
        ("q1", "must be a condition"),
        ("(q1 > 1) > 1", "condition cannot be compared"),
        ("(q1 > 1) + 1 > 1", "condition is not a number"),
        ("not q1", "'not' needs a condition"),
        ("frac(q1, points=5) > 0.5", "frac() needs a condition"),
        ("(q1 if q2 else 3) > 1", "condition of 'if'"),
        ("(q1 if q2 > 1 else q2 > 3)", "both arms"),
        ("abs() > 1", "takes 1 argument, 0 given"),
        ("max() > 1", "takes at least 1 argument"),
        ("relgap(q1) > 1", "takes 2 arguments, 1 given"),
        ("mean(3, points=5) > 1", "needs a metric"),
        ("mean(q1, points=0) > 1", "whole number from 1 to 100000"),
        ("mean(q1, points=2.5) > 1", "whole number"),
        ("mean(q1, points=100001) > 1", "whole number"),
        ("mean(q1, steps=-1) > 1", "greater than 0"),
        ("mean(q1, time=5) > 1", "duration in quotes"),
        ("mean(q1, time='5 parsecs') > 1", "duration in quotes"),
        ("mean(q1, points=5, steps=5) > 1", "exactly one window"),
        ("ewma(q1, steps=5) > 1", "no argument 'steps'"),
        ("mean(q1, points=q2) > 1", "must be a constant"),
        ("mean(q1, points='5') > 1", "without quotes"),
        ("best(q1, mode='least') > 1", "mode= takes"),
        ("quantile(q1, 1.5, points=5) > 1", "between 0 and 1"),
        ("quantile(q1, q2, points=5) > 1", "must be a constant"),
        ("mean(q1, points=5, cover=2) > 1", "must be from 0 to 1"),
        ("x > 1", "unknown metric 'x'"),
        ("loop > 1", "nested deeper than 4"),
        ("1" + "0" * 400 + " > q1", "too large"),
        ("q1 > 1" + " " * MAX_CHARACTERS, "longer than 2000"),
        ("+".join(["q1"] * 150) + " > 1", "more than 200 parts"),
        ("abs(" * 30 + "q1" + ")" * 30 + " > 1", "nested deeper than 24"),
        ("(" * 900 + "q1" + ")" * 900 + " > 1", "syntax"),
        ("-" * 1900 + "1 > 1", "more than 200 parts"),
        ("q1 > 1\0", "syntax"),
    ],
)
def test_everything_else_is_refused(text: str, what: str) -> None:
    """One fault for one mistake, and its span lies inside the text."""
    fault = only(text)
    assert what in fault.what
    if fault.span is not None:
        assert 0 <= fault.span[0] < fault.span[1] <= len(text) + 1


def test_all_faults_are_told_at_once() -> None:
    """Nobody should mend an expression one error at a time."""
    found = faults("actr_q > p.leed and mean(q3) > 1")
    assert [fault.what.split(" ")[-1] for fault in found][:2] == ["'actr_q'", "'p.leed'"]
    assert len(found) == 4


def test_a_fault_in_a_let_is_told_where_the_let_stands() -> None:
    """Not again at each of its uses."""
    scope = Scope(metrics=("q1",), lets={"bad": "nosuch + 1"})
    assert faults("bad > 1", scope) == []
    assert len(parse("nosuch + 1", scope)[1]) == 1


def test_columns_count_characters_not_bytes() -> None:
    """Python counts bytes; carets are put under characters."""
    fault = only("m['größe'] > q3")
    assert fault.span == (13, 15)


def test_leading_blanks_and_line_breaks_keep_columns() -> None:
    """Triple-quoted rules begin on a line of their own."""
    fault = only("\n   q1 > 1\n   or q3 > 2\n")
    assert fault.span is not None
    assert "\n   q1 > 1\n   or q3 > 2\n"[slice(*fault.span)] == "q3"


def test_the_tree_of_a_rule() -> None:
    """Parameters are constants, lets are written out, chains are conjunctions."""
    tree, found = parse("1 < -q1 < p.lead or mean(m['a/b'], points=3) == ratio", SCOPE, "bool")
    assert found == []
    assert isinstance(tree, Logic)
    chain, equal = tree.operands
    assert chain == Logic(
        "and",
        (
            Compare("<", Number(1), Negative(Metric("q1"))),
            Compare("<", Negative(Metric("q1")), Number(2)),
        ),
    )
    assert isinstance(equal, Compare)
    assert equal.left == Call("mean", (Tag("a/b"),), Window("points", 3), ())
    assert Metric("actor_q") in walk(equal.right)


def test_an_each_rule_knows_x_and_its_captures() -> None:
    """And no others."""
    scope = Scope(each=True, captures=("part",))
    assert faults("x > m['params/{part}_norm']", scope) == []
    assert "unknown capture '{prt}'" in only("x > m['params/{prt}_norm']", scope).what
    assert faults("m['{literal}'] > 1") == []


@pytest.mark.parametrize(("text", "expected"), [("500ms", 0.5), ("90s", 90), ("1.5h", 5400), ("2d", 172800)])
def test_durations(text: str, expected: float) -> None:
    """A number and a unit."""
    assert seconds(text) == expected
    assert seconds(text + "x") is None


@given(st.text(max_size=60))
def test_any_text_gives_a_tree_or_faults(text: str) -> None:
    """And never an exception."""
    tree, found = parse(text, SCOPE, "bool")
    assert found or kind(tree) == "bool"


SIGNS = "points= steps= time= min_points= cover= mode= , ( ) ( ) [ ] > < == + - * / ** % & { } : ."
NAMES = "q1 actor_q p.lead m['a'] x ratio loop step_any 3 1e9 '5m' True and or not if else lambda"
words = st.sampled_from([*FUNCTIONS, *SIGNS.split(), *NAMES.split()])


@given(st.lists(words, max_size=25))
def test_any_sentence_of_the_languages_own_words_gives_a_tree_or_faults(sentence: list[str]) -> None:
    """Word salad gets further into the parser than letters do."""
    tree, found = parse(" ".join(sentence), SCOPE, "bool")
    assert found or kind(tree) == "bool"
