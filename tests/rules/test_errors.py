"""What is said of a faulty rule file: the exact words, and all of them in one go."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.evaluate import compile_rules
from rules.gate import compile_gates
from rules.merge import merge
from rules.source import Problem, RuleErrors, parse

HEAD = '[metrics]\nactor_q = "debug/actor_q_mean"\nq1 = "train/q1"\n[params]\nlimit = 5\n'


def told(*texts: str) -> list[Problem]:
    """Every problem of the files, as reading them once tells it: packs first, the user's own last."""
    documents = [(f"pack{n}", parse(text, f"pack{n}.toml")) for n, text in enumerate(texts[:-1])]
    rules, problems = merge([*documents, ("", parse(texts[-1], "rules.toml"))])
    for compile_ in (compile_rules, compile_gates):
        try:
            compile_(rules)
        except RuleErrors as error:
            problems += [problem for problem in error.problems if problem not in problems]
    return problems


@pytest.mark.parametrize(
    ("expr", "what", "span", "hint"),
    [
        ("actr_q > 50", "unknown metric 'actr_q'", "^^^^^^", "did you mean 'actor_q'?"),
        (
            "mean(actor_q) > 1",
            "mean() needs exactly one window: steps=, points= or time=",
            "^^^^^^^^^^^^^",
            "signature: mean(series, steps=|points=|time=)",
        ),
        (
            "actor_q > 50 and q1",
            "'and'/'or' need conditions on both sides, this is a number",
            "                 ^^",
            "compare it: ... > 0",
        ),
        (
            "actor_q > 50 && q1 < 3",
            "syntax: invalid syntax",
            "              ^",
            "use 'and' / 'or' / 'not'",
        ),
        (
            "actor_q.__class__ > 1",
            "attribute access is not allowed",
            "^^^^^^^^^^^^^^^^^",
            "only p.<param> is",
        ),
        (
            "doubling_steps(actor_q, steps=300, r2=0.8) < 200",
            "doubling_steps() has no argument 'r2'",
            "                                      ^^^",
            "did you mean 'min_r2'?",
        ),
        (
            "debug/actor_q_mean > 50",
            "unknown metric 'debug'",
            "^^^^^",
            'declare it under [metrics], or use m["exact/tag"]',
        ),
        ("p.limti > 5", "unknown parameter 'p.limti'", "^^^^^^^", "did you mean 'p.limit'?"),
        ("meen(actor_q, points=5) > 1", "unknown function 'meen'", "^^^^", "did you mean 'mean()'?"),
        (
            "best(q1, mode='least') > 1",
            "mode= takes 'max' or 'min'",
            "              ^^^^^^^",
            "",
        ),
        (
            "relgap(q1) > 1",
            "relgap() takes 2 arguments, 1 given",
            "^^^^^^^^^^",
            "signature: relgap(a, b, floor=1)",
        ),
        (
            "mean(q1, time=5) > 1",
            "time= takes a duration in quotes",
            "              ^",
            "for instance time='5m' (ms, s, m, h, d)",
        ),
        (
            "frac(q1, points=5) > 1",
            "frac() needs a condition, this is a number",
            "     ^^",
            "compare it: ... > 0",
        ),
        (
            "q1 + (q1 > 1) > 2",
            "a condition is not a number",
            "      ^^^^^^",
            "count conditions with frac(cond, points=n)",
        ),
        ("q1", "this must be a condition, and is a number", "^^", "compare it: ... > 0"),
        ("5 in q1", "'is' and 'in' are not allowed", "^^^^^^^", "compare with == or !="),
        ("q1 & 5 > 1", "bit operators are not allowed", "^^^^^^", "use 'and' / 'or' / 'not'"),
    ],
)
def test_an_error_says_what_and_where_and_what_to_write(expr: str, what: str, span: str, hint: str) -> None:
    """Place, words, caret and help, to the letter."""
    (problem,) = told(HEAD + f'[[rule]]\nname = "rule"\nexpr = "{expr}"\n')
    lines = [f"rules.toml:8:1: error: rule.expr: {what}", f"  | {expr}", f"  | {span}"]
    assert problem.render().splitlines() == lines + ([f"  = help: {hint}"] if hint else [])


RULE = '[[rule]]\nname = "{0}"\nexpr = "actor_q > 1"\n'

MISTAKES: Sequence[tuple[str, Sequence[str]]] = (
    (
        '[[rule]]\nname = "a"\nexpr = "actr_q > 1"\nsevrity = "info"\n',
        ["rule a: unknown key 'sevrity'", "a.expr: unknown metric 'actr_q'"],
    ),
    (
        RULE.format("b") + 'for = 5\nclear = "q1"\nladder = "none"\n',
        ["rule b.for: 5 is no span", "b.clear: this must be a condition", "b: no ladder 'none'"],
    ),
    (
        RULE.format("c").replace("expr", "exprs") + 'summary = "{nosuch}"\n',
        ["rule c: unknown key 'exprs'", "rule c.expr: this key is required", "c.summary: "],
    ),
    (
        '[ladders.d]\nrung = 1\nrungs = [{ do = ["notify"], aftr = "5m" }]\nwithin = "5m"\n'
        'recovered_when = "nosuch < 1"\n' + RULE.format("d") + 'ladder = "d"\n',
        [
            "ladders.d: unknown key 'rung'",
            "ladders.d.rungs.0: unknown key 'aftr'",
            "ladders.d.recovered_when: unknown metric",
        ],
    ),
    (
        '[metrics.e]\nany = ["=nosuch + 1"]\nalgn = "step"\n' + RULE.format("e").replace("actor_q", "e"),
        ["metrics.e: unknown key 'algn'", "metrics.e: unknown metric 'nosuch'"],
    ),
    (
        '[override."pack0/p"]\nsevrity = "info"\nexpr = "nosuch > 1"\n',
        ["override.pack0/p: unknown key 'sevrity'", "pack0/p.expr: unknown metric 'nosuch'"],
    ),
    (
        '[[gate]]\nname = "g"\nat = "5 steps"\nned = []\n'
        'require = ["nosuch > 1", { expr = "q1", wy = "x" }]\n',
        [
            "gate g: unknown key 'ned'",
            "gate g.require.1: unknown key 'wy'",
            "gate g.require.0: unknown metric 'nosuch'",
            "gate g.require.1: this must be a condition",
        ],
    ),
    (
        "[limits]\nmax_rolbacks = 3\nmax_actions_per_hour = -1\n",
        ["limits: unknown key", "limits.max_actions"],
    ),
    (
        RULE.format("h") + 'let = { z = "q1 +" }\ngrace = 3\nafter_step = "x"\n',
        ["h.let.z: syntax", "rule h.grace: 3 is no span", "rule h.after_step: this must be a whole number"],
    ),
)


@given(st.lists(st.sampled_from(MISTAKES), min_size=1, unique_by=lambda mistake: mistake[0]))
def test_every_problem_is_told_in_one_go_and_nothing_follows_from_it(
    chosen: list[tuple[str, Sequence[str]]],
) -> None:
    """A misspelt key does not hide the bad expression beside it, nor make a good one look bad."""
    pack = HEAD + RULE.format("p") + RULE.format("bad").replace("actor_q", "pack_nosuch")
    found = told(pack, HEAD + "".join(text for text, _ in chosen))
    whats = [problem.what for problem in found]
    expected = [what for _, parts in chosen for what in parts] + ["pack0/bad.expr: unknown metric"]
    for what in expected:
        assert any(what in each for each in whats), (what, whats)
    assert len(whats) == len(expected), whats
    assert all(problem.where.count(":") == 2 for problem in found), found
