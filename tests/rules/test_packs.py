"""The packs we ship: each loads alone, says what it means, and judges recorded runs as measured."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rules import packs
from rules.alert import AlertState
from rules.evaluate import compile_rules
from rules.merge import RuleSet, build
from rules.source import RuleErrors, parse
from sentinel.config import load
from sentinel.judge import Step
from sentinel.replay import replay_paths

RULES = [(pack, rule) for pack in packs.names() for rule in packs.read(pack).data["rule"]]
IDS = [f"{pack}/{rule['name']}" for pack, rule in RULES]


def shipped(*names: str, own: str = "") -> RuleSet:
    documents = [("", packs.read(packs.ALIASES)), *((name, packs.read(name)) for name in names)]
    return build([*documents, ("", parse(own, "sentinel.toml"))])


@pytest.mark.parametrize("name", packs.names())
def test_a_pack_loads_and_compiles_alone(name: str) -> None:
    """Its ladders, remedies and parameters are its own; only the names are shared."""
    assert compile_rules(shipped(name)).rules
    assert packs.read(name).data["pack"]["name"] == name


def test_all_packs_go_together() -> None:
    """With every rule, in the order of inclusion."""
    names = [rule.spec.name for rule in compile_rules(shipped(*packs.names())).rules]
    assert names == [f"{pack}/{rule['name']}" for pack, rule in RULES if rule.get("enabled", True)]


@pytest.mark.parametrize(("pack", "rule"), RULES, ids=IDS)
def test_a_rule_says_what_why_and_what_to_try(pack: str, rule: dict[str, Any]) -> None:
    """A person reads it at night: what happened, why, what to try, and where the threshold is from."""
    assert all(rule.get(key) for key in ("summary", "why", "try", "source", "labels"))
    assert rule["severity"] in ("info", "warning", "critical", "fatal")
    if rule["severity"] in ("critical", "fatal"):
        assert rule["ladder"] in packs.read(pack).data["ladders"], "what is serious has a ladder of its pack"


def test_every_metric_of_the_packs_has_candidates() -> None:
    """And each is a tag or an expression that compiles."""
    rules = shipped(*packs.names())
    assert rules.metrics["actor_q"].any[0] == "debug/actor_q_mean"
    assert all(candidate for spec in rules.metrics.values() for candidate in spec.any)


def test_a_bound_on_q_needs_the_tasks_own_figures() -> None:
    """The rule is shipped switched off, and says what it lacks when it is switched on without them."""
    on = '[override."td3/q_above_bound"]\nenabled = true\n'
    with pytest.raises(RuleErrors, match=r"unknown parameter 'p\.r_max'"):
        compile_rules(shipped("td3", own=on))
    compile_rules(shipped("td3", own=f"[params]\nr_max = 50.9\ngamma = 0.9\n{on}"))


def test_a_rollback_always_changes_something() -> None:
    """The same state with the same settings fails again at the same step."""
    rules = shipped(*packs.names())
    rungs = [rung for ladder in rules.ladders.values() for rung in ladder.rungs if "rollback" in rung.do]
    assert len(rungs) >= 3
    assert all(rung.remedy in rules.remedies and rung.margin for rung in rungs)


@pytest.mark.parametrize("kind", ["ladders", "remedies"])
def test_packs_that_share_a_name_mean_the_same_by_it(kind: str) -> None:
    """Ladders and remedies of all packs lie in one table: a later one replaces an earlier, silently."""
    meant: dict[str, Any] = {}
    for pack in packs.names():
        for name, table in packs.read(pack).data.get(kind, {}).items():
            assert meant.setdefault(name, table) == table, f"{pack}: {name}"


# The incident, from its own event file


@pytest.fixture(scope="module")
def incident(corpus: Path) -> list[Step]:
    """What the shipped rules make of it."""
    outcomes = replay_paths([corpus / "SEED047"], load(None))
    assert len(outcomes) == 1
    return outcomes[0].steps


def firing(steps: list[Step], rule: str) -> Step:
    """The first time a rule fires."""
    return next(
        step
        for step in steps
        if step.observation.key == rule
        and step.observation.transition is not None
        and step.observation.transition.after is AlertState.FIRING
    )


@pytest.mark.parametrize(
    ("rule", "step"),
    [
        ("td3/episodes_collapse", 26),  # episodes, not steps
        ("td3/actor_exploits_critic", 1300),
        ("td3/actor_q_high", 1400),
        ("td3/actor_q_max_high", 1500),
    ],
)
def test_the_incident_fires_where_it_was_measured(incident: list[Step], rule: str, step: int) -> None:
    """The first alarm of a rule may not move by a point unnoticed."""
    assert firing(incident, rule).observation.verdict.at.step == step


def test_the_incident_is_seen_in_the_order_in_which_it_happened(incident: list[Step]) -> None:
    """Episodes collapse before the lead, and the lead opens before Q passes its ceiling."""
    names = ("td3/episodes_collapse", "td3/actor_exploits_critic", "td3/actor_q_high")
    walls = [firing(incident, name).observation.verdict.at.wall_time for name in names]
    assert walls == sorted(walls)
    assert walls[2] - walls[0] == pytest.approx(52, abs=2)


def test_the_incident_climbs_its_ladder(incident: list[Step]) -> None:
    """A checkpoint when it fires; two points later a rollback with its remedy, the target unknown."""
    asked = [
        (step.observation.verdict.at.step, action)
        for step in incident
        if step.observation.key == "td3/actor_exploits_critic"
        for action in step.actions
        if action.verb != "notify"
    ]
    assert [(step, action.verb) for step, action in asked] == [(1300, "checkpoint"), (1500, "rollback")]
    rollback = asked[1][1]
    assert rollback.checkpoint is None
    assert rollback.set == {"q_features": "critic", "tau": 0.005}


def test_nothing_else_is_said_of_the_incident(incident: list[Step]) -> None:
    """No rule of either pack fires but those about Q, episodes and the encoder that carries the gradient."""
    fired = {s.observation.key for s in incident if s.observation.transition is not None}
    assert fired == {
        "td3/episodes_collapse",
        "td3/policy_collapsed",
        "td3/actor_exploits_critic",
        "td3/actor_q_high",
        "td3/actor_q_max_high",
        "td3/actor_q_above_data",
        "td3/actor_q_above_targets",
        "td3/encoder_carries_gradient",
    }


# Every recorded run


def fired(corpus: Path, label: str) -> Iterator[tuple[str, set[tuple[str, str]]]]:
    """Yield each run of a label with the (severity, rule) that fired in it."""
    settings = load(None)
    with (corpus / "labels.csv").open(encoding="utf-8", newline="") as table:
        runs = [row["run"] for row in csv.DictReader(table) if row["label"] == label]
    for run in runs:
        steps = replay_paths([corpus / run], settings)[0].steps
        rules = {
            (step.observation.rule.severity, step.observation.rule.name)
            for step in steps
            if step.observation.transition is not None
            and step.observation.transition.after is AlertState.FIRING
        }
        yield run, rules


def test_no_grave_rule_fires_on_a_healthy_recorded_run(corpus: Path) -> None:
    """What is critical acts. Of 31 runs, 3 get a warning, about evaluations of five to ten minutes."""
    grave, warned, runs = [], set(), 0
    for run, rules in fired(corpus, "healthy"):
        runs += 1
        grave += [(run, rule) for severity, rule in rules if severity in ("critical", "fatal")]
        warned |= {run for severity, _ in rules if severity == "warning"}
    assert runs == 31
    assert grave == []
    assert len(warned) <= 3


def test_every_recorded_explosion_of_q_is_caught(corpus: Path) -> None:
    """Nineteen runs of one code base: count them as one."""
    caught = {
        run: ("critical", "td3/actor_exploits_critic") in rules for run, rules in fired(corpus, "q_explosion")
    }
    assert len(caught) == 19
    assert all(caught.values()), caught


PPO_RUNS = ("SEED069", "SEED070", "SEED074", "SEED075", "SEED076", "SEED079", "SEED080", "SEED081")


def test_recorded_ppo_runs_alarm_as_labelled(corpus: Path) -> None:
    """Two that collapse and one whose updates replace the policy; nothing grave on the five others."""
    settings = load(None, ["ppo"])
    grave = {
        run: {
            (step.observation.rule.name, step.observation.verdict.at.step)
            for step in replay_paths([corpus / run], settings)[0].steps
            if step.observation.rule.severity == "critical"
            and step.observation.transition is not None
            and step.observation.transition.before is AlertState.INACTIVE
            and step.observation.transition.after is AlertState.FIRING
        }
        for run in PPO_RUNS
    }
    assert grave["SEED069"] == grave["SEED070"] == {("ppo/reward_collapse", 20480)}
    assert ("ppo/kl_catastrophic", 2048) in grave["SEED081"]
    assert not any(grave[run] for run in PPO_RUNS if run not in ("SEED069", "SEED070", "SEED081"))
