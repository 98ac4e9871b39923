"""No rule file can exhaust the machine that reads it: what grows is refused at load, at once."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.evaluate import Evaluator, compile_rules
from rules.merge import MAX_RULES, build
from rules.patterns import compile_pattern
from rules.series import Sample
from rules.source import Problem, RuleErrors, parse

RULE = '[[rule]]\nname = "{0}"\nexpr = "{1}"\n'


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(RuleErrors) as caught:
        compile_rules(build([("", parse(text, "rules.toml"))]))
    return caught.value.problems


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    """Each of these would take hours, or all memory, if it were tried."""
    began = time.process_time()
    yield
    assert time.process_time() - began < 5.0


def ladder(rungs: int, width: int, mark: str = "") -> Iterator[tuple[str, str]]:
    """Names each of which names the next `width` times: width ** rungs parts in all."""
    for n in range(rungs):
        yield f"n{n}", f"{mark}max({', '.join([f'n{n + 1}'] * width)})"
    yield f"n{rungs}", f"{mark}m['a'] + 1"


def test_lets_that_multiply_are_refused_where_they_become_too_many() -> None:
    """90 ** 3 parts, written in five lines: each let is parsed once, and counted."""
    lets = ", ".join(f'{name} = "{text}"' for name, text in ladder(3, 90))
    found = problems(RULE.format("r", "n0 > 1") + f"let = {{ {lets} }}\n")
    assert {problem.what for problem in found} == {
        "r.let.n1: with its lets filled in this has more than 2000 parts"
    }


def test_metrics_that_multiply_are_refused_by_name() -> None:
    """And a rule that names a few that are well, too often."""
    metrics = "[metrics]\n" + "".join(f'{n} = "{text}"\n' for n, text in ladder(3, 90, "="))
    found = problems(metrics + RULE.format("r", "n0 > 1"))
    assert [problem.where for problem in found][:2] == ["rules.toml:2:1", "rules.toml:3:1"]
    assert found[0].what == (
        "metrics.n0: 2,195,191 parts with the metrics that it names filled in; at most 2,000 are allowed"
    )
    metrics = "[metrics]\n" + "".join(f'{n} = "{text}"\n' for n, text in ladder(1, 90, "="))
    (one,) = problems(metrics + RULE.format("r", f"max({', '.join(['n0'] * 9)}) > 1"))
    assert (one.where, one.what) == (
        "rules.toml:6:1",
        "r: 2,442 parts with the metrics that it names filled in; at most 2,000 are allowed",
    )


def test_a_web_of_metrics_is_looked_at_once_each() -> None:
    """Every one names the sixty after it: the paths through them are beyond counting."""
    lines = [
        f'n{n} = "=max({", ".join(f"n{m}" for m in range(n + 1, min(n + 61, 1000))) or 1})"\n'
        for n in range(1000)
    ]
    found = problems("[metrics]\n" + "".join(lines) + RULE.format("r", "n0 > 1"))
    assert any("nested deeper than 4" in problem.what for problem in found)


def test_a_thousand_lets_in_a_chain_are_too_deep() -> None:
    """And no reason to run out of stack."""
    lets = ", ".join(f'{name} = "{text}"' for name, text in ladder(1000, 1))
    found = problems(RULE.format("r", "n0 > 1") + f"let = {{ {lets} }}\n")
    assert {problem.what.partition(": ")[2].partition(" is ")[2] for problem in found} == {
        "nested deeper than 4"
    }


def test_powers_are_numbers_and_not_integers() -> None:
    """9 ** 9 ** 9 ** 9 has more digits than there are atoms: here it is infinite, with its sign."""
    text = RULE.format("r", "m['a'] < 9 ** 9 ** 9 ** 9 ** 9 ** 9 and (-m['a'] * 10) ** 333 < (-9) ** 999 + 1")
    run = compile_rules(build([("", parse(text, "rules.toml"))])).evaluator()
    run.feed([("a", 1, 1000.0, 1.0)])
    assert [key for key, _ in run.flush()] == []  # -10 ** 333 is not below minus infinity: both are it
    run = compile_rules(build([("", parse(text.replace("999 +", "9 +"), "rules.toml"))])).evaluator()
    run.feed([("a", 1, 1000.0, 1.0)])
    assert [key for key, _ in run.flush()] == ["r"]


def test_so_many_rules_and_no_more() -> None:
    """Counted as the files have them."""
    text = "".join(RULE.format(f"r{n}", "m['a'] > 1") for n in range(MAX_RULES + 1))
    assert [problem.what for problem in problems(text)] == ["2001 rules; at most 2000 are allowed"]


def test_a_window_of_steps_or_time_has_an_end_though_its_series_stands_still() -> None:
    """Of a million points at one step the newest 100,000 stay; of two million in a second as well."""
    rules = RULE.format("r", "count(m['a'], steps=10) < 0 or count(m['a'], time='1m') < 0")
    run = compile_rules(build([("", parse(rules, "rules.toml"))])).evaluator()
    for begin in range(0, 120_000, 20_000):
        run.feed([("a", 7, 1000.0, float(n)) for n in range(begin, begin + 20_000)])
    run.flush()
    part = run.explain("r", 1000.0)
    assert {inner.value for inner in part.parts[0].parts + part.parts[1].parts} >= {100_000.0}


@pytest.mark.parametrize(
    ("pattern", "tag", "fits"),
    [
        ("**a" * 12, "a" * 3000 + "b", False),
        ("*a" * 12, "a" * 3000 + "b", False),
        ("**a" * 12, "a" * 3000, True),
        ("**a**b**", "x/a/y/b/z", True),
        ("*a**b", "x/a/y/b", False),
        ("*/a**b", "x/a/y/b", True),
        ("*b*b", "abbab", True),
        ("*b*b", "ab/b", False),
        ("***loss", "train/loss", True),
        ("**loss*", "a/loss/b/loss_2", True),
        ("**loss*", "a/loss/b", False),
        ("**[Ll]oss**", "train/Loss/x", True),
        ("*/**", "loss", False),
        ("*/**", "a/b/c", True),
    ],
)
def test_patterns_are_matched_in_no_time(pattern: str, tag: str, *, fits: bool) -> None:
    """A wildcard takes the least that lets its neighbour fit, and is not asked again."""
    assert (compile_pattern(pattern).match(tag) is not None) is fits


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(["*", "**", "a", "b", "/", "ab", "[ab]"]), max_size=9).map("".join),
    st.lists(st.sampled_from(["a", "b", "/"]), max_size=12).map("".join),
)
def test_a_pattern_fits_what_it_says(pattern: str, tag: str) -> None:
    """The same as when every wildcard is tried at every length."""
    tokens = re.findall(r"\*\*+|\*|\[ab\]|.", pattern)
    plain = {"*": "[^/]*", "[ab]": "[ab]"}
    regex = "".join(plain.get(token, ".*" if "*" in token else token) for token in tokens)
    assert (compile_pattern(pattern).match(tag) is not None) is (re.fullmatch(regex, tag) is not None)


def test_captures_may_not_multiply() -> None:
    """Each has to be asked for every length, so there are few of them."""
    (found,) = problems(
        RULE.format("r", "x > 1") + 'each = "' + "".join(f"{{c{n}}}a" for n in range(9)) + '"\n'
    )
    assert found.what == "r.each: more than 4 captures and wildcards beside them"


def evaluator(text: str) -> Evaluator:
    return compile_rules(build([("", parse(text, "rules.toml"))])).evaluator()


def test_tags_without_end_are_left_out_and_that_is_said() -> None:
    """A trainer that logs a new tag at every step would otherwise take all memory; the others go on."""
    run = evaluator(RULE.format("r", "m['loss'] > 1"))
    run._roster.most_tags = 5
    samples: list[Sample] = [(f"sample/{n}", n, 1000.0 + n, 1.0) for n in range(20)]
    run.feed([*samples[:3], ("loss", 3, 1003.0, 0.0), *samples[4:], ("loss", 20, 1020.0, 2.0)])
    assert [key for key, _ in run.flush()] == ["r"]
    assert list(run.resolution()) == []
    assert run.errors == {
        "tags": "more than 5 tags; what the others log, beginning with 'sample/5', is left out"
    }
