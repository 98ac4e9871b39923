"""`sentinel test`: scenarios are run, failures are told, and a faulty file is no failure but a mistake."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from rules.source import RuleErrors
from sentinel.cli import main
from sentinel.errors import ConfigError
from sentinel.scenario_report import run_scenarios
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
    """As a folder, by the command; each of them is run in test_cases.py."""
    assert main(["test", str(SHIPPED), "-k", "incident.toml"]) == 0
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


TWO = """\
[[rule]]
name = "high"
expr = "m['q'] > 50"
[[test]]
name = "that it fires"
series = { q = "1 60" }
[[test.expect]]
rule = "high"
fires_at = 2
[[test]]
name = "that it does not"
series = { q = "1 60" }
[[test.expect]]
rule = "high"
never = true
"""


def told(folder: Path, *arguments: str) -> int:
    (folder / "two.toml").write_text(TWO, encoding="utf-8")
    return main(["test", str(folder / "two.toml"), *arguments])


def test_every_case_is_listed_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With how long it took; the failure follows its case, with its timeline, without colours in a pipe."""
    assert told(tmp_path, "-v") == 1
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"passed +\d+\.\d{3} s  .*two\.toml: that it fires", lines[0])
    assert re.fullmatch(r"FAILED +\d+\.\d{3} s  .*two\.toml: that it does not", lines[1])
    assert "two.toml:15:1: 'that it does not': high: expected never to fire" in lines[2]
    assert lines[3] == "    step  value  limit  expr   state     high"
    assert lines[-1] == "2 tests in 1 files: 1 failures"
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(("pattern", "rc"), [("FIRES", 0), ("it does not", 1), ("two.toml: that*fires", 0)])
def test_cases_are_chosen_by_name(tmp_path: Path, pattern: str, rc: int) -> None:
    """A part of it is enough, and a pattern may stand for more."""
    assert told(tmp_path, "-k", pattern) == rc


def test_a_choice_of_none_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A CI line with a misspelt name would be green for ever."""
    assert told(tmp_path, "-k", "that it fries") == 2
    assert "did you mean 'that it fires'?" in capsys.readouterr().err


def test_machines_are_told_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object a case, and JUnit beside it."""
    assert told(tmp_path, "--json", "--junit", str(tmp_path / "out" / "report.xml")) == 1
    passed, failed = map(json.loads, capsys.readouterr().out.splitlines())
    assert (passed["test"], passed["passed"], passed["failures"]) == ("that it fires", True, [])
    (failure,) = failed["failures"]
    assert failure["rule"] == "high"
    assert failure["steps"] == [2]
    assert failure["timeline"][0].split() == ["step", "value", "limit", "expr", "state", "high"]
    report = (tmp_path / "out" / "report.xml").read_text(encoding="utf-8")
    assert '<testsuites name="sentinel test" tests="2" failures="1" errors="0"' in report


def test_a_faulty_file_is_an_error_in_the_report(tmp_path: Path) -> None:
    """The exit code is that of a mistake all the same."""
    path = write(tmp_path, '"soon"')
    assert main(["test", str(path), "--junit", str(tmp_path / "report.xml")]) == 2
    assert "fires_at: this must be a whole number" in (tmp_path / "report.xml").read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Exit code 2, as for any argument."""
    (tmp_path / "file").touch()
    assert told(tmp_path, "--junit", str(tmp_path / "file" / "report.xml")) == 2


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def test_a_terminal_is_shown_how_far_it_is(tmp_path: Path) -> None:
    """Where it is one; the results go elsewhere."""
    (tmp_path / "two.toml").write_text(TWO, encoding="utf-8")
    errors, out = Terminal(), io.StringIO()
    run_scenarios([tmp_path], out, FakeClock(), errors=errors)
    assert "testing" in errors.getvalue()
    assert "testing" not in out.getvalue()
