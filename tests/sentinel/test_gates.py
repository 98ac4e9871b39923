"""`sentinel gate`: recorded runs before their gates, by the same points, rules and attempts as live."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sentinel.cli import main
from sentinel.config import load
from sentinel.process import Process, myself
from tests.sentinel.event_files import T0, scalar

CONFIG = """
[params]
limit = 50
[metrics]
q = ["q"]
loss = ["loss"]
[[rule]]
name = "high"
expr = "q > 99"
severity = "critical"
[[gate]]
name = "short"
at = "1000 steps"
require = [
  { expr = "q < p.limit", early_fail = true, why = "the ceiling" },
  "falling(loss, points=100, cover=0)",
]
[[gate]]
name = "long"
at = "2000 steps"
needs = ["short"]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sentinel.toml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def points(q: Sequence[float], loss: Sequence[float] = (), begin: int = 0, late: float = 0.0) -> bytes:
    """Points of both tags, together every 50 steps and 10 seconds from step `begin`, `late` seconds late."""
    found = b""
    for n, value in enumerate(q, begin // 50):
        found += scalar("q", 50 * n, value, T0 + late + 10 * n)
        if loss:
            found += scalar("loss", 50 * n, loss[n], T0 + late + 10 * n)
    return found


def write_run(folder: Path, q: Sequence[float], loss: Sequence[float] = ()) -> None:
    """A run of one event file, from step 0."""
    folder.mkdir(parents=True)
    (folder / "events.out.tfevents.1.a").write_bytes(points(q, loss))


def leave_word(folder: Path, **record: Any) -> None:
    """What a guard writes of its trainer."""
    control = folder / "control"
    control.mkdir(parents=True)
    (control / "trainer.json").write_text(json.dumps({"attempt": 0, **record}))
    if "step" in record:
        (control / "heartbeat.json").write_text(json.dumps({"step": record["step"]}))


def gate(*arguments: str) -> int:
    return main(["gate", *arguments])


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    gate(*arguments, "--json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def vars_of(process: Process) -> dict[str, Any]:
    """What trainer.json has of a process."""
    return dataclasses.asdict(process)


FALLING = [10 - n / 10 for n in range(50)]


def test_the_exit_code_is_the_verdict(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 passed, 1 failed, 3 inconclusive; of several, the worst."""
    write_run(place / "runs/good", [1] * 50, FALLING)
    write_run(place / "runs/bad", [1] * 5 + [60] * 45, FALLING)
    write_run(place / "runs/short", [1] * 10, FALLING[:10])
    assert gate("runs/good", "--gate", "short") == 0
    assert gate("runs/short", "--gate", "short") == 3
    assert gate("runs/bad", "--gate", "short") == 1
    assert gate("runs/good", "runs/short", "--gate", "short") == 3
    assert gate("runs", "--all") == 1
    out = capsys.readouterr().out
    assert "pass  short, judged at 1000 steps: all 2 requirements hold at step 1000" in out
    assert "60 against 50 at step 250, and once is enough" in out


def test_machines_are_told_value_limit_and_reason(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole object, of a run that has passed one gate and is not at the other."""
    write_run(place / "a", [1] * 24, FALLING[:24])
    found = as_json(capsys, "a", "--gate", "long")
    assert found["verdict"] == "inconclusive"
    (run,) = found["runs"]
    assert (run["run"], run["ending"], run["points"], run["verdict"]) == ("a", "unknown", 48, "inconclusive")
    short, long = run["gates"]
    assert (short["gate"], short["verdict"], short["certain"], short["reached"]) == (
        "short",
        "pass",
        True,
        True,
    )
    assert short["at"] == {"amount": 1000.0, "unit": "steps"}
    assert short["step"] == 1000
    ceiling, falling = short["requirements"]
    assert ceiling == {
        "expr": "q < p.limit",
        "holds": True,
        "value": 1.0,
        "limit": 50.0,
        "points": 21,
        "t": None,
        "step": None,
        "reason": "1 against 50, 21 points",
        "early_fail": True,
        "on_false": "fail",
        "why": "the ceiling",
    }
    assert falling["t"] < -2.132
    assert (long["verdict"], long["needs"], long["reached"]) == ("inconclusive", {"short": "pass"}, False)


def test_a_forbidden_rule_is_told_with_its_step(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The gate failed there, and needed no point more."""
    write_run(place / "a", [1] * 8 + [120] * 3, FALLING[:11])
    (found,) = as_json(capsys, "a", "--gate", "short")["runs"][0]["gates"]
    assert (found["verdict"], found["certain"], found["reached"]) == ("fail", True, False)
    assert found["reason"] == "high (critical) fired at step 400: 120 against 99"
    assert found["forbidden"] == [
        {
            "rule": "high",
            "severity": "critical",
            "step": 400,
            "wall_time": T0 + 80,
            "value": 120.0,
            "limit": 99.0,
        }
    ]


@pytest.mark.parametrize(
    ("record", "code", "said"),
    [
        (vars_of(myself()), 3, "the run goes on"),
        ({**vars_of(myself()), "start_time": 1}, 1, "the trainer died at step 450"),
        ({"finished_at": T0, "outcome": "finished", "step": 450}, 3, "the run finished there"),
        ({"finished_at": T0, "outcome": "finished", "step": 1000}, 0, "nothing is required at step 450"),
        ({"finished_at": T0, "outcome": "terminated", "step": 450}, 3, "the run was told to end there"),
        ({"finished_at": T0, "outcome": "failed", "step": 450}, 1, "the trainer died at step 450"),
        ({**vars_of(myself()), "host": "elsewhere", "boot_id": "other"}, 3, "is not known"),
    ],
)
def test_the_guards_word_tells_a_crash_from_an_end(
    place: Path, capsys: pytest.CaptureFixture[str], record: dict[str, Any], code: int, said: str
) -> None:
    """A trainer that said `failed` has failed the gate; one that nobody knows of has not."""
    write_run(place / "a", [1] * 10)
    leave_word(place / "a", **record)
    (place / "sentinel.toml").write_text(
        '[[rule]]\nname = "r"\nexpr = "step() < 0"\n[[gate]]\nname = "g"\nat = "1000 steps"\n',
        encoding="utf-8",
    )
    assert gate("a", "--gate", "g") == code
    assert said in capsys.readouterr().out


def test_an_attempt_starts_its_windows_anew(place: Path) -> None:
    """A rolled back run is judged by what it kept and by what it did since."""
    folder = place / "a"
    write_run(folder, [1] * 10 + [40] * 5, FALLING[:15])
    (folder / "events.out.tfevents.2.b").write_bytes(points([1] * 42, FALLING, begin=400, late=200))
    assert gate("a", "--gate", "short,long") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["a"], 2, "no gate was named; the rules have short, long"),
        (["a", "--gate", "shrt"], 2, "no gate 'shrt'; did you mean 'short'?"),
        (["a", "--gate", "short", "--gate", "lnog"], 2, "did you mean 'long'?"),
        (["nowhere", "--all"], 5, "no TensorBoard event file"),
    ],
)
def test_wrong_usage_is_told_and_nothing_judged(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    """2 for what was asked, 5 for a run that is not there."""
    write_run(place / "a", [1] * 5)
    assert gate(*arguments) == code
    assert said in capsys.readouterr().err


def test_rules_without_gates_say_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The way out stands in the message."""
    write_run(place / "a", [1] * 5)
    assert gate("a", "--all", "--pack", "generic", "-c", str(empty(place))) == 2
    assert "the rules have none: write a [[gate]]" in capsys.readouterr().err


def empty(place: Path) -> Path:
    path = place / "empty.toml"
    path.write_text("version = 1\n", encoding="utf-8")
    return path


def test_every_problem_of_every_gate_is_told_at_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With those of the rules, each with its place and a caret."""
    broken = (
        CONFIG.replace("q < p.limit", "qq < p.limit").replace('"short"]', '"shrt"]').replace("q > 99", "q >")
    )
    (place / "sentinel.toml").write_text(broken, encoding="utf-8")
    assert main(["check"]) == 2
    said = capsys.readouterr().err
    assert "gate short.require.0: unknown metric 'qq'" in said
    assert "gate long.needs: no gate 'shrt'" in said
    assert "3 problems" in said
    assert "| ^^" in said


# -- the incident --


@pytest.mark.slow
def test_the_incident_fails_the_2k_gate_at_step_1300(
    corpus: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its own event file has it: by the rule, 100 steps before Q passes 50; and the reward has fallen."""
    monkeypatch.chdir(tmp_path)
    (found,) = as_json(capsys, str(corpus / "SEED047"), "--gate", "validation-2k")["runs"][0]["gates"]
    assert (found["verdict"], found["certain"], found["reached"]) == ("fail", True, False)
    assert found["forbidden"][0]["rule"] == "td3/actor_exploits_critic"
    assert found["forbidden"][0]["step"] == 1300
    answers = {
        r["expr"].partition("(")[0] + r["expr"].partition("(")[2][:7]: r["holds"]
        for r in found["requirements"]
    }
    assert answers["highestactor_q"] is False
    assert answers["not fallingreward,"] is False
    assert answers["not risingcritic_"] is None, "seven points are no trend"


@pytest.mark.slow
def test_no_healthy_run_of_the_corpus_fails_a_shipped_gate(
    corpus: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """31 runs of ten projects; none passes either, since none logs all that is asked for."""
    monkeypatch.chdir(tmp_path)
    lines = (corpus / "labels.csv").read_text(encoding="utf-8").splitlines()
    header = lines[0].split(",")
    label = header.index("label")
    healthy = [line.split(",")[0] for line in lines[1:] if line.split(",")[label] == "healthy"]
    assert len(healthy) > 20
    paths = [str(corpus / name) for name in healthy if (corpus / name).is_dir()]
    found = as_json(capsys, *paths, "--gate", "validation-10k")
    failed = [run["run"] for run in found["runs"] if run["verdict"] == "fail"]
    assert failed == []


def test_the_commented_gate_of_the_example_is_one(tmp_path: Path) -> None:
    """Whoever takes the comment signs away gets a gate, in place of the pack's."""
    text = (Path(__file__).parents[2] / "sentinel.toml").read_text(encoding="utf-8")
    begin = text.index("# [[gate]]")
    gate_text = "\n".join(line.removeprefix("# ") for line in text[begin:].splitlines())
    path = tmp_path / "sentinel.toml"
    path.write_text(text[:begin] + gate_text, encoding="utf-8")
    found = load(path).rules.gates["validation-2k"]
    assert len(found.require) == 3
    assert found.require[0].early_fail
