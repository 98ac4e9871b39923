"""Every scenario file passes; the notation says what it says; and a wrong expectation is told in words."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import packs
from rules.scenario import Scenario, expand, load, samples
from rules.source import RuleErrors, parse

FOLDER = Path(__file__).parents[1] / "scenarios"
FILES = sorted(FOLDER.glob("*.toml"))

RULE = """
[metrics]
q = ["q"]
[[rule]]
name = "high"
expr = "q > 50"
summary = "q is {q:.1f}"
[[rule]]
name = "any_high"
each = "{which}/loss"
expr = "x > 50"
severity = "critical"
"""

TEST = '[[test]]\nname = "t"\nseries = { q = "1 2 60 1 70 1" }\n[[test.expect]]\n'


def nothing_to_read(name: str) -> str:
    raise LookupError(f"{name}: no such file")


def scenario(path: Path) -> Scenario:
    return load(
        path.read_text(encoding="utf-8"), path.name, lambda name: (path.parent / name).read_text("utf-8")
    )


def written(tests: str) -> Scenario:
    return load(RULE + tests, "t.toml", nothing_to_read)


CASES = [(path, number, case.name) for path in FILES for number, case in enumerate(scenario(path).cases)]


@pytest.mark.parametrize(
    ("path", "number"), [c[:2] for c in CASES], ids=[f"{c[0].stem}: {c[2]}" for c in CASES]
)
def test_a_scenario_passes(path: Path, number: int) -> None:
    """The rules we ship do what their scenarios say."""
    assert scenario(path).failures(number) == []


def test_every_shipped_rule_fires_in_a_scenario() -> None:
    """A rule that no scenario sees firing might as well be asleep."""
    shipped = {f"{pack}/{rule['name']}" for pack in packs.names() for rule in packs.read(pack).data["rule"]}
    fires = {
        expect.rule.partition("[")[0]
        for path in FILES
        for case in scenario(path).cases
        for expect in case.expect
        if expect.fires_at or expect.fires_by or expect.times
    }
    assert shipped - fires == set()


# The notation


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("2.5 -1 +3 1e-6 .5", [2.5, -1, 3, 1e-6, 0.5]),
        ("1x3", [1, 1, 1, 1]),
        ("1x0", [1]),
        ("1+2x3", [1, 3, 5, 7]),
        ("1-2x3", [1, -1, -3, -5]),
        ("-2.5+.5x1", [-2.5, -2.0]),
        ("1e2-1e1x1", [100, 90]),
        ("1100+100x6", [1100, 1200, 1300, 1400, 1500, 1600, 1700]),
        ("1 _ 2 _x3 3", [1, None, 2, None, None, None, 3]),
        ("inf -inf", [math.inf, -math.inf]),
        ("1\n 2\t3", [1, 2, 3]),
    ],
)
def test_the_notation(text: str, values: list[float | None]) -> None:
    """`axn` is a and n more of it, as in promtool."""
    assert expand(text) == values


def test_nan_is_a_value() -> None:
    """It is what many rules are about."""
    assert math.isnan(expand("nan")[0] or 0.0)


@pytest.mark.parametrize(
    "text", ["one", "1x", "x3", "1+x3", "1x-1", "__", "_x", "1,2", "0x1F5", "1x3x3", "1e", "1x1e9", "1_0"]
)
def test_what_is_no_value_is_refused(text: str) -> None:
    """With examples of what is."""
    with pytest.raises(ValueError, match=r"no value|more than"):
        expand(text)


def test_a_series_cannot_fill_the_memory() -> None:
    """Neither by one word nor by many."""
    for text in ("1x99999999999999999999", "_x100001", " ".join(["1x60000"] * 2)):
        with pytest.raises(ValueError, match="more than 100000 points"):
            expand(text)


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, width=32)), max_size=30))
def test_any_series_can_be_written_down(values: list[float | None]) -> None:
    """One word a value is always enough."""
    assert expand(" ".join("_" if value is None else repr(value) for value in values)) == values


@given(st.text(alphabet="0123456789+-x_.einaf ", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never anything but values or a ValueError."""
    try:
        values = expand(text)
    except ValueError:
        return
    assert all(value is None or isinstance(value, float) for value in values)


# Points


def test_series_of_several_axes_meet_by_wall_time() -> None:
    """Episodes and steps are counted on axes of their own, as in an event file."""
    case = written(
        '[[test]]\nname = "t"\nsteps = "100 200"\nwall = "10 20"\nseries = { q = "1 2", other = "_ 3" }\n'
        '[[test.axis]]\nsteps = "0 1"\nwall = "5 15"\nseries = { len = "7 8" }\n'
    ).cases[0]
    assert [sample for batch in samples(case) for sample in batch] == [
        ("len", 0, 5.0, 7.0),
        ("q", 100, 10.0, 1.0),
        ("len", 1, 15.0, 8.0),
        ("q", 200, 20.0, 2.0),
        ("other", 200, 20.0, 3.0),
    ]


# Failures


@pytest.mark.parametrize(
    ("expect", "told"),
    [
        (
            'rule = "high"\nfires_at = 2',
            "expected to fire at step 2; it first fired at step 3 (wall 30, value 60, 'q is 60.0')",
        ),
        ('rule = "high"\nfires_by = 2', "expected to fire by step 2; it first fired at step 3"),
        ('rule = "high"\nnever = true', "expected never to fire; it first fired at step 3"),
        ('rule = "high"\ntimes = 1', "expected to fire 1 times; it first fired at step 3"),
        ('rule = "high"\nonset = 2', "expected its onset at step 2"),
        ('rule = "high"\nvalue = 61', "expected the value 61"),
        ('rule = "high"\nmessage = "q is 61"', "expected a message with 'q is 61'"),
        ('rule = "high"\nstate = "firing"', "expected to end firing; it is resolved (the rule has cleared)"),
        (
            'rule = "high"\nreason = "recovered"',
            "expected the reason 'recovered'; it was 'the rule has cleared'",
        ),
        ('rule = "any_high"\nfires_at = 1', "expected to fire at step 1; it did not fire"),
        ('rule = "any_high[b]"\nfires_at = 1', "expected to fire at step 1; it did not fire"),
        (
            'rule = "any_high"\nbefore = "high"',
            "expected to fire before high; it did not fire, high first fired at step 3",
        ),
    ],
)
def test_a_wrong_expectation_is_told_in_words(expect: str, told: str) -> None:
    """What was expected, and what came instead."""
    found = written(
        f'[[test]]\nname = "t"\nseries = {{ q = "1 2 60 1 70 1" }}\n[[test.expect]]\n{expect}\n'
    ).failures(0)
    assert len(found) == 1
    assert told in found[0]


def test_a_right_expectation_is_not_told() -> None:
    """Every key at once."""
    steps = 'rule = "high"\nfires_at = 3\nfires_by = 3\ntimes = 2\nonset = 3\nbefore = "any_high"\n'
    words = 'value = 60.0\nmessage = "60.0"\nstate = "resolved"\nreason = "cleared"\n'
    assert written(TEST + steps + words).report() == []


def test_quiet_counts_from_a_severity_on() -> None:
    """`quiet = "critical"` lets a warning pass; instances are named."""
    loud = '[[test]]\nname = "t"\nquiet = "critical"\nseries = { q = "60", "a/loss" = "70" }\n'
    found = written(loud).report()
    assert len(found) == 1
    assert found[0].startswith("t.toml:13:1: 't': any_high[a]: expected quiet; it first fired at step 1")


@pytest.mark.parametrize(
    ("tests", "told"),
    [
        ('[[test]]\nname = "t"\nseries = { q = "one" }', "q: 'one' is no value"),
        ('[[test]]\nname = "t"\nsteps = "1 2"\nseries = { q = "1 2 3" }', "steps: 2 places for 3 points"),
        (
            '[[test]]\nname = "t"\nwall = "1 nan 2"\nseries = { q = "1 2 3" }',
            "wall: every place must be a number",
        ),
        ('[[test]]\nname = "t"\n[[test.axis]]\nseries = { q = "x" }', "q: 'x' is no value"),
        (
            '[[test]]\nname = "t"\n[[test.expect]]\nrule = "hihg"',
            "no rule 'hihg'\n  = help: did you mean 'high'?",
        ),
        ('[[test]]\nname = "t"\n[[test.expect]]\nrule = "high"\nfire_at = 3', "unknown key 'fire_at'"),
        ('[[test]]\nseries = { q = "1" }', "name: this key is required"),
        ('[[tests]]\nname = "t"', "unknown key 'tests'"),
    ],
)
def test_a_faulty_scenario_is_refused(tests: str, told: str) -> None:
    """A test that tests nothing is worse than none."""
    with pytest.raises(RuleErrors) as caught:
        written(tests)
    assert told in str(caught.value)
    assert "t.toml:1" in str(caught.value)


def test_what_is_included_must_be_there() -> None:
    """Packs by name with the nearest one, files by whoever reads them."""
    for item, told in (("pack:td4", "did you mean 'td3'?"), ("./mine.toml", "./mine.toml: no such file")):
        with pytest.raises(RuleErrors, match=r"t\.toml:1:1") as caught:
            load(f'include = ["{item}"]\n', "t.toml", nothing_to_read)
        assert told in str(caught.value)


def test_a_team_file_is_included_with_its_rules() -> None:
    """Its rules carry no prefix, as in sentinel.toml."""
    team = {"./team.toml": RULE}
    text = f'include = ["./team.toml"]\n{TEST}rule = "high"\nfires_at = 3\n'
    assert load(text, "t.toml", team.__getitem__).report() == []


def test_packs_are_read_by_name() -> None:
    """And what they are not, is said."""
    assert packs.names() == ["generic", "td3"]
    assert packs.read("td3").data["pack"] == parse('name = "td3"', "x").data
    with pytest.raises(LookupError, match="no pack 'genric'; did you mean 'generic'"):
        packs.read("genric")
