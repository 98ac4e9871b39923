"""`sentinel rules`: every rule in a line, and each one in words."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from rules import packs
from rules.describe import describe, said, shipped
from rules.schema import Span
from sentinel.cli import main
from sentinel.rule_list import of_packs, print_explained, print_list

CONFIG = """\
include = ["pack:td3"]
[params]
q_limit = 80
[disable]
rules = ["td3/td_error_rising"]
[[rule]]
name = "mine"
expr = "actor_q > p.q_limit"
severity = "info"
"""


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a configuration."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(folder: Path) -> None:
    (folder / "sentinel.toml").write_text(CONFIG, encoding="utf-8")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["rules", *arguments]) == 0
    return capsys.readouterr().out


def test_without_a_configuration_every_shipped_rule_has_a_line(
    empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Name, severity, ladder and what it means; those that are shipped switched off say so."""
    lines = told(capsys).splitlines()
    assert len(lines) == sum(len(packs.read(name).data["rule"]) for name in packs.names())
    (line,) = [line for line in lines if line.startswith("td3/q_above_bound ")]
    assert line.split()[1:4] == ["(off)", "critical", "q_divergence"]
    assert line.endswith("No policy can earn more than |r|max / (1 - gamma)")


def test_with_one_it_lists_what_is_in_force(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The user's own rules too, and no disabled ones; --pack lists a pack whatever is configured."""
    configure(empty)
    names = [line.split()[0] for line in told(capsys).splitlines()]
    assert "mine" in names
    assert "td3/td_error_rising" not in names
    assert all(line.startswith("ppo/") for line in told(capsys, "--pack", "ppo").splitlines())


def test_a_rule_is_explained_with_the_values_that_are_configured(
    empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its condition, parameters, tags, and what is done."""
    configure(empty)
    text = told(capsys, "actor_q_high")
    assert "actor_q > p.q_limit" in text
    assert "q_limit = 80" in text
    assert "actor_q: debug/actor_q_mean, =-m['losses/actor_loss']" in text
    assert "1. as it fires: people are told" in text
    assert "not in force" not in text


def test_a_rule_that_is_not_in_force_is_explained_and_said_to_be_so(
    empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person who wonders about a rule of another pack is not sent away."""
    configure(empty)
    assert "not in force" in told(capsys, "td3/td_error_rising")
    assert "not in force" in told(capsys, "kl_blowup")


def test_a_ladder_is_told_rung_by_rung() -> None:
    """With its tries, its bounds, and what recovery is."""
    rules, _ = shipped(["td3"])
    (rule,) = [rule for rule in rules.rules if rule.name == "td3/actor_exploits_critic"]
    text = "\n".join(describe(rule, rules).deeds)
    assert "1. as it fires: people are told and a checkpoint is asked for" in text
    assert "2. after 2 points of firing: a rollback is asked for to the newest good checkpoint" in text
    assert "try 2: q_features = critic, tau = 0.005, fresh weights for actor" in text
    assert "actor_lr times 0.3" in text
    assert "3. once rollbacks, tries or the run's budget are used up: the run is ended" in text
    assert "recovered, after a rollback: when" in text


def test_every_shipped_rule_can_be_explained() -> None:
    """What its expressions name is a metric, a parameter, or its own; every metric has a candidate."""
    found = of_packs()
    out = io.StringIO()
    print_explained(found, out)
    for one in found:
        assert f"{one.rule.name}  {one.rule.severity}" in out.getvalue()
        assert one.deeds
        assert one.metrics or one.rule.each or "step_any" in f"{one.rule.expr}{one.rule.let}"
        assert all(one.metrics.values())


def test_a_parameter_without_a_value_is_pointed_out() -> None:
    """The rule cannot work before somebody gives it."""
    (found,) = [one for one in of_packs(["td3"]) if one.rule.name == "td3/q_above_bound"]
    assert found.params == {"gamma": None, "r_max": None}
    out = io.StringIO()
    print_explained([found], out)
    assert "r_max: not set; give it under [params]" in out.getvalue()


def test_machines_get_objects(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same whether rules are named or not."""
    (found,) = json.loads(told(capsys, "--json", "ppo/kl_blowup"))
    assert found["for"] == "2 points"
    assert found["params"] == {"kl_limit": 0.1}
    assert found["metrics"]["approx_kl"][0] == "train/approx_kl"
    everything = json.loads(told(capsys, "--json"))
    assert found in everything


def test_a_name_that_fits_nothing_is_a_mistake(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them at once, with the nearest right ones; nothing else is printed."""
    assert main(["rules", "actor_q_hihg", "ppo/kl_blowup", "stalld"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "no rule 'actor_q_hihg'; did you mean 'actor_q_high'?" in err
    assert "did you mean 'stalled'?" in err
    assert main(["rules", "--pack", "td4"]) == 2
    assert "no pack 'td4'; did you mean 'td3'?" in capsys.readouterr().err


def test_a_terminal_gets_a_table() -> None:
    """With headings, and colour."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    print_list(of_packs(["sac"]), out)
    assert "what it means" in out.getvalue()


def test_spans_are_said_as_people_say_them() -> None:
    """Without units in the plural where there is one."""
    assert said(Span(1, "points")) == "1 point"
    assert said(Span(600, "seconds")) == "10 minutes"
    assert said(Span(10, "seconds")) == "10 seconds"
    assert said(Span(500, "steps")) == "500 steps"
