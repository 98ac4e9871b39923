"""`main(argv)` ends with the promised code and a readable sentence; a traceback is a bug."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentinel.cli import main
from sentinel.lock import StateLock
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import RULES, Scene
from tests.sentinel.test_engine import curve


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene(tmp_path, FakeClock(T0))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sentinel.toml").write_text(RULES)
    return scene


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["check"], 0, "fine. 4 rules"),
        (["check", "nowhere.toml"], 2, "nowhere.toml: No such file"),
        (["replay", "nowhere"], 5, "no TensorBoard event file"),
        (["replay", "runs", "--pack", "tb3"], 2, "no pack 'tb3'"),
        (["status", "--logdir", "other", "--state", "none"], 5, "no sentinel has watched it"),
        (["command", "a", "checkpoint", "--state", "state"], 1, "no sentinel watches"),
        (["command", "a", "checkpoint", "--set", "lr=1", "--state", "state"], 1, "belong to a rollback"),
        (["command", "a", "rollback", "--set", "lr", "--state", "state"], 1, "write NAME=VALUE"),
        (["run", "runs", "--state", "sentinel.toml"], 4, "may not act"),
    ],
)
def test_each_command_ends_with_its_code_and_a_sentence(
    scene: Scene, capsys: pytest.CaptureFixture[str], argv: list[str], code: int, words: str
) -> None:
    """What, where, and what was not done."""
    scene.log(curve([1]))
    assert main(argv) == code
    said = capsys.readouterr()
    assert words in said.out + said.err
    assert "Traceback" not in said.err


def test_a_second_sentinel_ends_with_4(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """It cannot remember, so it may not act."""
    lock = StateLock(scene.state)
    assert main(["run", "runs", "--state", str(scene.state)]) == 4
    assert "another sentinel" in capsys.readouterr().err
    lock.release()


@pytest.mark.parametrize(("values", "code"), [([1, 60, 60], 1), ([1, 2, 3], 0)])
def test_a_replay_ends_with_1_when_something_grave_fired(
    scene: Scene, capsys: pytest.CaptureFixture[str], values: list[float], code: int
) -> None:
    """In both forms; with --json every line of standard output is an object."""
    scene.log(curve(values))
    assert main(["replay", "runs"]) == code
    capsys.readouterr()
    assert main(["replay", "runs", "--json"]) == code
    for line in capsys.readouterr().out.splitlines():
        assert json.loads(line)["type"] in ("transition", "run", "rule", "rung", "total")


def test_status_is_for_people_and_for_machines(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """The same facts."""
    scene.log(curve([1, 60, 60]))
    scene.settle()
    assert main(["status", "--state", "state"]) == 0
    assert "q_high" in capsys.readouterr().out
    assert main(["status", "--state", "state", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["run"] == "a"


@pytest.mark.parametrize("argv", [[], ["frobnicate"], ["command", "a", "explode"], ["status", "--", "x"]])
def test_wrong_usage_ends_with_2(argv: list[str]) -> None:
    """argparse says it in its own way, with the same code."""
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
