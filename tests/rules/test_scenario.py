"""Scenario files are read whole or refused: every problem at once, placed, with the nearest right word."""

from __future__ import annotations

from pathlib import Path

import pytest

from rules import packs
from rules.case import samples
from rules.scenario import Scenario, load
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


# Points


def test_series_of_several_axes_meet_by_wall_time() -> None:
    """Episodes and steps are counted on axes of their own, as in an event file."""
    case = written(
        '[[test]]\nname = "t"\nsteps = "100 200"\nwall = "10 20"\nseries = { q = "1 2", other = "_ 3" }\n'
        '[[test.axis]]\nsteps = "0 1"\nwall = "5 15"\nseries = { len = "7 8" }\n'
        '[[test.expect]]\nrule = "high"\nnever = true\n'
    ).cases[0]
    assert [sample for batch in samples(case) for sample in batch] == [
        ("len", 0, 5.0, 7.0),
        ("q", 100, 10.0, 1.0),
        ("len", 1, 15.0, 8.0),
        ("q", 200, 20.0, 2.0),
        ("other", 200, 20.0, 3.0),
    ]


# Faulty files


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
    assert [rule.name for rule in load(text, "t.toml", team.__getitem__).rules.rules] == ["high", "any_high"]


def test_packs_are_read_by_name() -> None:
    """And what they are not, is said."""
    assert {"generic", "td3"} <= set(packs.names())
    assert packs.read("td3").data["pack"] == parse('name = "td3"', "x").data
    with pytest.raises(LookupError, match="no pack 'genric'; did you mean 'generic'"):
        packs.read("genric")


def test_every_problem_of_a_file_is_told_at_once_and_in_its_place() -> None:
    """Of its rules, its series, its generators, its expectations: whoever corrects them starts it once."""
    text = """
[[rule]]
name = "high"
expr = "m['q'] >> 50"
[[test]]
name = "one"
steps = "1 2"
series = { q = "1 one 2", r = "1 2 3 x" }
[[test.expect]]
rule = "hihg"
never = true
[[test]]
name = "two"
gen = "chetah"
seeds = "3-1"
checkpoints = "nan"
[[test.expect]]
rule = "high"
actions = ["notify"]
before = "nothing"
[[test]]
name = "three"
series = { q = "1 2 3" }
steps = "1 2"
quiet = "info"
"""
    with pytest.raises(RuleErrors) as caught:
        load(text, "t.toml", nothing_to_read)
    found = sorted((int(p.where.split(":")[1]), int(p.where.split(":")[2])) for p in caught.value.problems)
    assert found == [
        (4, 1), (8, 12), (8, 27), (10, 1), (14, 1), (15, 1), (16, 1), (20, 1), (24, 1),
    ]  # fmt: skip
