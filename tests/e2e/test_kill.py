"""The sentinel killed anywhere: no command twice, no message lost, the same transitions, and the same end."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.scene import ROOT, RULES, Scene, until

SILENCE = """
[[rule]]
name = "silent"
expr = "age(loss) > 8"
for = "10s"
severity = "warning"
summary = "silent for {value:.0f} s"
"""


def tell(folder: Path, pace: str, points: list[int]) -> list[dict[str, Any]]:
    """Tell the story once undisturbed, and once for each point at which its sentinel is killed."""
    rules = folder / "sentinel.toml"
    text = RULES.format(mode="act", include="[]", ack="30s", slack="http://127.0.0.1:9/") + SILENCE
    if pace == "asked":
        text = text.replace('remedy = "gentler" }', 'remedy = "gentler", approve = true }')
    rules.write_text(text)
    command = [sys.executable, "-m", "tests.e2e.lockstep", pace, str(folder / pace), str(rules), "0"]
    told = subprocess.run(
        [*command, *map(str, points)], cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False
    )
    assert told.returncode == 0, told.stderr[-2000:]
    return [json.loads(line) for line in told.stdout.splitlines()]


def compare(undisturbed: dict[str, Any], stories: list[dict[str, Any]]) -> None:
    """Each killed story came to what the undisturbed one came to."""
    for story in stories:
        where = f"killed at point {story['point']}"
        assert story["questions"] == undisturbed["questions"], where
        assert story["transitions"] == undisturbed["transitions"], where
        assert story["commands"] == undisturbed["commands"], where
        assert story["effects"] == undisturbed["effects"], where
        assert not story["unsent"], where
        assert set(story["told"]) == set(undisturbed["told"]), where


@pytest.mark.parametrize("pace", ["quick", "slow"])
def test_a_kill_at_a_statement_of_the_journal_changes_nothing(tmp_path: Path, pace: str) -> None:
    """Some points of each story, by a seed; every point is the slow test's."""
    last = {"quick": 210, "slow": 480}[pace]  # of 230 and some 570
    points = sorted(random.Random(7).sample(range(10, last), 4))
    undisturbed, *stories = tell(tmp_path, pace, points)
    assert undisturbed["effects"] == ["1 checkpoint None", "2 rollback 00-00000012"]
    assert all(story["killed"] == 1 for story in stories)
    compare(undisturbed, stories)


def test_a_kill_around_an_answer_acts_once(tmp_path: Path) -> None:
    """Two statements between the question and the rollback, by a seed; two people answer at once."""
    (tmp_path / "first").mkdir()
    (undisturbed,) = tell(tmp_path / "first", "asked", [])
    assert [state for _, state, _ in undisturbed["questions"]] == ["act"]
    assert undisturbed["effects"] == ["1 checkpoint None", "2 rollback 00-00000012"]
    first, last = undisturbed["around"]
    points = random.Random(3).sample(range(first, last), 2)
    stories = tell(tmp_path, "asked", points)[1:]
    assert all(story["killed"] == 1 for story in stories)
    compare(undisturbed, stories)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kill_at_any_statement_around_an_answer_acts_once(tmp_path: Path) -> None:
    """From the question to the rollback that was done."""
    (tmp_path / "first").mkdir()
    (undisturbed,) = tell(tmp_path / "first", "asked", [])
    first, last = undisturbed["around"]
    stories = tell(tmp_path, "asked", list(range(first, last + 1)))[1:]
    assert sum(story["killed"] for story in stories) == last + 1 - first > 10
    compare(undisturbed, stories)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("pace", ["quick", "slow"])
def test_a_kill_at_any_statement_of_the_journal_changes_nothing(tmp_path: Path, pace: str) -> None:
    """Every statement, and the moments before and after each letter and each ring."""
    (tmp_path / "first").mkdir()
    touches = tell(tmp_path / "first", pace, [])[0]["touches"]
    undisturbed, *stories = tell(tmp_path, pace, list(range(1, touches + 1)))
    assert sum(story["killed"] for story in stories) == touches > 200
    compare(undisturbed, stories)


@pytest.mark.timeout(400)
def test_a_sentinel_killed_again_and_again_saves_the_run(scene: Scene) -> None:
    """SIGKILL at eight moments of a seed, real processes: the job is brought back once, and all is told."""
    kill_and_start(scene, random.Random(11), kills=8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_a_sentinel_killed_hundreds_of_times_saves_the_runs(scene: Scene, seed: int) -> None:
    """Twenty-five jobs, eight kills each."""
    kill_and_start(scene, random.Random(seed), kills=8)


def kill_and_start(scene: Scene, chance: random.Random, kills: int) -> None:
    """Kill the sentinel while a job diverges and is brought back, then let it end in peace.

    A busy machine may need a minute and a half for nine sentinels: no letter may grow too old by that, since
    one that is dropped is rightly not sent again.
    """
    scene.write_rules(ack="200s")
    job = scene.job("--diverge-at", "45", "--end", "120", "--hold", "--pace", "0.03")
    for _ in range(kills):
        sentinel = scene.sentinel()
        until(partial(_runs, scene, sentinel), "the sentinel has begun")
        _let_pass(chance.uniform(0.0, 0.6))
        sentinel.send_signal(signal.SIGKILL)
        sentinel.wait()
    scene.sentinel()
    until(lambda: any(c[1] == "rollback" for c in scene.effects()), "the job is brought back")
    (scene.logdir / "a" / "go").touch()
    assert job.wait(60) == 0, scene.said("job.log")
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE phase = 'finished'"), "the end is known")
    until(lambda: scene.rows("SELECT 1 FROM transitions WHERE after = 'resolved'"), "the alert is resolved")
    until(lambda: not scene.rows("SELECT 1 FROM messages WHERE state != 'sent'"), "all has been told")

    verbs = [verb for _, verb, _ in scene.effects()]
    assert verbs == ["checkpoint", "rollback"], "each command took effect once"
    assert scene.effects()[1][2] == "00-00000040"
    assert scene.transitions() == scene.replayed()
    assert [t[2] for t in scene.transitions()] == ["pending", "firing", "probation", "resolved"]
    arrived = json.dumps([call.body for call in scene.slack.sent()], ensure_ascii=False)
    expected_words = ("loss_high", "checkpoint written", "rolled back to step", "probation", "resolved")
    for expected in (*expected_words, "finished"):
        assert expected in arrived, expected


def _runs(scene: Scene, sentinel: subprocess.Popen[bytes]) -> bool:
    """Whether this very sentinel holds the state."""
    try:
        return (scene.state / "lock").read_text() == str(sentinel.pid)
    except OSError:
        return False


def _let_pass(seconds: float) -> None:
    """Kill not at an event but at a moment: chance is what this is about."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, "the moment")
