"""Messages: what is wrong with one is found when its rule is loaded, and rendering never fails."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.evaluate import compile_rules
from rules.merge import build
from rules.source import RuleErrors, parse
from rules.template import MAX_WIDTH, UNKNOWN, faults, names, render

NUMBERS = {"actor_q", "step", "value"}
WORDS = {"tag", "rule"}


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("no fields at all", {}, "no fields at all"),
        ("Q {actor_q:.1f} at {step}", {"actor_q": 56.123, "step": 1300}, "Q 56.1 at 1300"),
        ("{share:.0%} of it", {"share": 0.251}, "25% of it"),
        ("{step:,}", {"step": 1234567}, "1,234,567"),
        ("{value}", {"value": 104.4892345}, "104.489"),
        ("{value}", {"value": 1e-9}, "1e-09"),
        ("{value:.1f} {value}", {"value": math.nan}, "nan nan"),
        ("{value:.1f}", {"value": math.inf}, "inf"),
        ("{value:.1f}", {"value": None}, UNKNOWN),
        ("{nobody:.1f}", {}, UNKNOWN),
        ("{tag}", {"tag": "train/loss"}, "train/loss"),
        ("{tag:>12}", {"tag": "train/loss"}, "  train/loss"),
        ("{{not a field}} {value:g}", {"value": 1.0}, "{not a field} 1"),
        ("{tag}", {"tag": "{value:.1f}"}, "{value:.1f}"),  # what is put in is not read again
    ],
)
def test_a_message_is_filled_in(template: str, values: dict[str, object], text: str) -> None:
    """A name, and a format as in Python; what is not known is said so."""
    assert render(template, values) == text


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("{actr_q}", "nothing is named {actr_q}"),
        ("{actor_q:.1q}", "{actor_q:.1q}: '.1q' formats no number"),
        ("{actor_q:x}", "formats no number"),
        ("{tag:.1f}", "{tag:.1f}: '.1f' formats no text"),
        ("{actor_q.real}", "{actor_q.real} is no plain name"),
        ("{actor_q[0]}", "{actor_q[0]} is no plain name"),
        ("{}", "{} is no plain name"),
        ("{0}", "{0} is no plain name"),
        ("{p.q_limit}", "{p.q_limit} is no plain name"),
        ("{actor_q!r}", "{actor_q!r}: conversions are not allowed"),
        ("{actor_q:{step}}", "may not hold fields of its own"),
        ("{actor_q", "expected '}' before end of string"),
        ("actor_q}", "Single '}' encountered in format string"),
        ("{actor_q:>999999999}", "formats no number"),
        ("{tag:>99999}", "formats no text"),
    ],
)
def test_what_is_wrong_with_a_template_is_said(template: str, what: str) -> None:
    """Attributes and indices would let a message reach into the program; a width could fill the memory."""
    found = faults(template, NUMBERS, WORDS)
    assert len(found) == 1
    assert what in found[0].what
    assert found[0].hint


def test_a_misspelt_name_has_a_nearest_one() -> None:
    """Every fault of a template is told."""
    found = faults("{actr_q} {stepp} {zzz}", NUMBERS, WORDS)
    hints = ["did you mean '{actor_q}'?", "did you mean '{step}'?", "name a metric, let, param or capture"]
    assert [fault.hint for fault in found] == hints


def test_a_good_template_has_no_faults() -> None:
    """Braces included."""
    assert faults("{{{actor_q:+.2e}}} {step:,} {tag} {rule:<20}", NUMBERS, WORDS) == []
    assert names("{{x}} {actor_q:.1f} {tag}") == ["actor_q", "tag"]
    assert names("{open") == []


TEXTS = st.text(alphabet="ab{}%\n\u00e9", max_size=8)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS


@given(
    st.text(alphabet="{}:!.[]actor_q019fdsx%<>,+- ", max_size=40),
    st.dictionaries(st.sampled_from("acx"), VALUES),
)
def test_rendering_never_fails(template: str, values: dict[str, object]) -> None:
    """A message is rendered at the worst moment of a run."""
    assert isinstance(render(template, values), str)


@given(st.text(alphabet="0123456789.,%<>^+-efgdsx", max_size=9), st.floats() | st.integers() | TEXTS)
def test_no_format_spec_fails_or_fills_the_memory(spec: str, value: object) -> None:
    """Also one that the check at loading has let through, or never saw."""
    assert len(render(f"{{x:{spec}}}", {"x": value})) <= 2 * MAX_WIDTH + len(str(value))


@given(st.text(alphabet="0123456789.,%<>^+-efgdsx", max_size=6), st.floats())
def test_what_passes_the_check_is_shown_as_asked(spec: str, value: float) -> None:
    """A format found good when the rule was loaded is the one that is used."""
    if not faults(f"{{actor_q:{spec}}}", NUMBERS, WORDS) and spec:
        assert render(f"{{actor_q:{spec}}}", {"actor_q": value}) == format(value, spec)


# As rules are loaded

HEAD = '[metrics]\nq = ["q"]\n[params]\ntop = 3\n[[rule]]\nname = "r"\nexpr = "q > p.top"\n'


def compiled(rule: str) -> None:
    compile_rules(build([("", parse(HEAD + rule, "rules.toml"))]))


@pytest.mark.parametrize(
    "rule",
    [
        'summary = "{q} {top} {step} {onset} {run_step} {wall} {age} {value} {limit} {attempt}"',
        'summary = "{rule} {key} {run} {severity}"',
        'let = { twice = "2 * q" }\nsummary = "{twice:.1f}"',
        'each = "{part}/loss"\nsummary = "{part} {x:.1f} {tag}"',
    ],
)
def test_what_a_message_may_name(rule: str) -> None:
    """Metrics, params, lets that are numbers, captures, and what an alert knows of itself."""
    compiled(rule)


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ('summary = "{x}"', "rules.toml:8:1: error: r.summary: nothing is named {x}"),
        ('summary = "{tag}"', "r.summary: nothing is named {tag}"),
        ('why = "{valeu}"', "r.why: nothing is named {valeu}\n  = help: did you mean '{value}'?"),
        ('try = "{q:.1z}"', "r.try: {q:.1z}: '.1z' formats no number"),
        ('let = { high = "q > 9" }\nsummary = "{high}"', "r.summary: nothing is named {high}"),
        ('each = "{part}/loss"\nsummary = "{parts}"', "did you mean '{part}'?"),
    ],
)
def test_a_faulty_message_is_refused_with_its_place(rule: str, what: str) -> None:
    """Before anything is watched."""
    with pytest.raises(RuleErrors) as caught:
        compiled(rule)
    assert what in str(caught.value)
