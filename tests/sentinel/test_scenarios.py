"""`sentinel test`: scenarios are run, failures are told, and a faulty file is no failure but a mistake."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from rules.source import RuleErrors
from sentinel.cli import main
from sentinel.errors import ConfigError
from sentinel.scenarios import run_scenarios
from tests.fakes import FakeClock

SHIPPED = Path(__file__).parents[1] / "scenarios"

CASE = """\
include = ["pack:td3", "./team.toml"]
[[test]]
name = "high"
series = { "debug/actor_q_mean" = "1 60" }
[[test.expect]]
rule = "mine"
fires_at = %s
"""
TEAM = '[[rule]]\nname = "mine"\nexpr = "actor_q > 10"\n'


def write(folder: Path, step: str, team: str = TEAM) -> Path:
    (folder / "team.toml").write_text(team, encoding="utf-8")
    tests = folder / "tests"
    tests.mkdir()
    path = tests / "case.toml"
    path.write_text((CASE % step).replace("./team.toml", "../team.toml"), encoding="utf-8")
    return path


def test_the_shipped_scenarios_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """As a folder, by the command."""
    assert main(["test", str(SHIPPED)]) == 0
    assert re.search(r"\d+ tests in \d+ files: no failures", capsys.readouterr().out)


def test_a_failure_is_told_and_ends_with_one(tmp_path: Path) -> None:
    """With its file, line and test; included files are found from the scenario's own folder."""
    path = write(tmp_path, "1")
    out = io.StringIO()
    assert run_scenarios([path.parent], out, FakeClock()) == 1
    assert out.getvalue().startswith(
        f"{path}:7:1: 'high': mine: expected to fire at step 1; it first fired at"
    )
    assert out.getvalue().endswith("1 tests in 1 files: 1 failures\n")


def test_a_faulty_file_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, nothing run, the place named."""
    path = write(tmp_path, '"soon"', TEAM.replace("actor_q", "actr_q"))
    with pytest.raises(RuleErrors):
        run_scenarios([path], io.StringIO(), FakeClock())
    assert main(["test", str(path)]) == 2
    told = capsys.readouterr().err
    assert "did you mean 'actor_q'?" in told
    assert "fires_at: this must be a whole number" in told


@pytest.mark.parametrize("name", ["nowhere.toml", "empty"])
def test_what_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    """A test that was not run has not passed."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="nothing was tested"):
        run_scenarios([tmp_path / name], io.StringIO(), FakeClock())
