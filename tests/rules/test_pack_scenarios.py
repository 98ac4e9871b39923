"""Every shipped rule is shown firing at an exact step and silent on a near miss; and both shows can fail."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from rules import packs
from rules.evaluate import compile_rules
from rules.scenario import Scenario
from sentinel.scenarios import failures as played
from sentinel.scenarios import load_scenario

FOLDER = Path(__file__).parents[1] / "scenarios"
RULES = [f"{pack}/{rule['name']}" for pack in packs.names() for rule in packs.read(pack).data["rule"]]


@cache
def scenarios() -> dict[str, Scenario]:
    """Return every file of tests/scenarios by its name."""
    return {path.name: load_scenario(path) for path in sorted(FOLDER.glob("*.toml"))}


def fires(rule: str) -> list[tuple[str, int]]:
    """Return the (file, number) of the cases in which the rule is to fire at an exact step."""
    return [
        (name, number)
        for name, found in scenarios().items()
        for number, case in enumerate(found.cases)
        if any(_is_of(rule, expect.rule) and expect.fires_at is not None for expect in case.expect)
    ]


def never(rule: str) -> list[tuple[str, int]]:
    """Return the (file, number) of the cases in which it is not to fire, alone or with all others."""
    return [
        (name, number)
        for name, found in scenarios().items()
        if any(spec.name == rule for spec in found.rules.rules)
        for number, case in enumerate(found.cases)
        if case.quiet == "info" or any(_is_of(rule, expect.rule) and expect.never for expect in case.expect)
    ]


def _is_of(rule: str, key: str) -> bool:
    return key.partition("[")[0] == rule


@cache
def said(place: tuple[str, int]) -> list[str]:
    """Run a case as it stands; return everything that did not come as expected."""
    name, number = place
    return played(scenarios()[name], number)


def failures(place: tuple[str, int], rule: str, change: dict[str, str | None]) -> list[str]:
    """Run a case with one rule changed and no other; return what is said of that rule."""
    name, number = place
    found = scenarios()[name]
    changed = tuple(spec.model_copy(update=change) for spec in found.rules.rules if spec.name == rule)
    rules = replace(found.rules, rules=changed)
    alone = replace(found, rules=rules, program=compile_rules(rules))
    return [line for line in played(alone, number) if line.startswith((f"{rule}:", f"{rule}["))]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_shown_firing_at_an_exact_step(rule: str) -> None:
    """The show passes, and fails once the rule says nothing."""
    places = fires(rule)
    assert places, "no scenario in which it fires at an exact step"
    for place in places:
        assert said(place) == []
        assert failures(place, rule, {"expr": "False"})


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_shown_silent_on_data_of_the_same_kind(rule: str) -> None:
    """The show passes; and it is a near miss, not want of data: in one of them the opposite rule fires."""
    places = never(rule)
    assert places, "no scenario in which it never fires"
    (name, _), *_ = places
    (expr,) = {spec.expr for spec in scenarios()[name].rules.rules if spec.name == rule}
    assert all(said(place) == [] for place in places)
    assert any(failures(place, rule, {"expr": f"not ({expr})", "clear": None}) for place in places)
