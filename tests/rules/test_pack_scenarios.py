"""Every shipped rule is shown firing at an exact step and silent on a near miss; and both shows can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from rules import packs
from rules.evaluate import compile_rules
from rules.scenario import Expect, Scenario
from rules.schema import RuleSpec
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
    return list(_cases(lambda expect: expect.rule.partition("[")[0] == rule and expect.fires_at is not None))


def never(rule: str) -> list[tuple[str, int]]:
    """Return the (file, number) of the cases in which it is not to fire at all."""
    return list(_cases(lambda expect: expect.rule.partition("[")[0] == rule and expect.never))


def _cases(wanted: Callable[[Expect], bool]) -> Iterator[tuple[str, int]]:
    for name, found in scenarios().items():
        for number, case in enumerate(found.cases):
            if any(wanted(expect) for expect in case.expect):
                yield name, number


def failures(place: tuple[str, int], rule: str, change: Callable[[RuleSpec], RuleSpec]) -> list[str]:
    """Run a case with one rule changed; return what is said of that rule."""
    name, number = place
    found = scenarios()[name]
    rules = replace(
        found.rules, rules=tuple(change(spec) if spec.name == rule else spec for spec in found.rules.rules)
    )
    changed = replace(found, rules=rules, program=compile_rules(rules))
    return [line for line in played(changed, number) if line.startswith((f"{rule}:", f"{rule}["))]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_shown_firing_at_an_exact_step(rule: str) -> None:
    """The show passes, and fails once the rule says nothing."""
    places = fires(rule)
    assert places, "no scenario in which it fires at an exact step"
    for place in places:
        assert failures(place, rule, lambda spec: spec) == []
        assert failures(place, rule, lambda spec: spec.model_copy(update={"expr": "False"}))


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_shown_silent_on_data_of_the_same_kind(rule: str) -> None:
    """The show passes; and it is a near miss, not want of data: in one of them the opposite rule fires."""
    places = never(rule)
    assert places, "no scenario in which it never fires"
    for place in places:
        assert failures(place, rule, lambda spec: spec) == []
    assert any(failures(place, rule, _opposite) for place in places)


def _opposite(spec: RuleSpec) -> RuleSpec:
    return spec.model_copy(update={"expr": f"not ({spec.expr})", "clear": None})
