"""Labels of runs and rules: from sentinel.toml into messages and routes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentinel.cli import main
from sentinel.config import Settings, load

TOML = """
version = 1
[labels]
"prod/*" = { team = "a", tier = "1" }
"*" = { team = "z", cluster = "c1" }
[metrics]
x = ["x"]
[[rule]]
name = "high"
expr = "x > 5"
let = {}
severity = "warning"
labels = { tier = "2" }
[notify.night]
kind = "slack"
channel = "#on-call"
match = { team = "a" }
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "sentinel.toml").write_text(TOML)
    return load(tmp_path / "sentinel.toml")


def test_a_rules_label_goes_before_the_runs_and_the_first_glob_before_the_next(settings: Settings) -> None:
    """A message about no run has none of a run's."""
    assert settings.labels("prod/1", "high[q]") == {"team": "a", "tier": "2", "cluster": "c1"}
    assert settings.labels("dev/1", "other") == {"team": "z", "cluster": "c1"}
    assert settings.labels("", "") == {}


def test_who_would_be_told_is_printed_with_the_reason(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """For people, and as JSON; a severity that is none is 2."""
    assert settings.service.labels
    config = ["-c", str(tmp_path / "sentinel.toml")]
    assert main(["notify", "--route", "dev/1", "high", "warning", *config]) == 0
    said = capsys.readouterr().out
    assert "labels: cluster=c1, team=z, tier=2" in said
    assert "night: not told: its label team is z, not a" in said
    assert "console: told" in said
    assert main(["notify", "--route", "prod/1", "high", "warning", "--json", *config]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["channel"]: line["told"] for line in lines} == {"console": True, "night": True}
    assert main(["notify", "--route", "prod/1", "high", "grave", *config]) == 2
