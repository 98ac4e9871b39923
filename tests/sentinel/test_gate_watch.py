"""Gates while a run trains: told once, remembered over a restart, and able to end what has failed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rules.series import Sample
from sentinel.process import myself
from sentinel.status import read_status
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import Scene

RULES = """
version = 1
[metrics]
q = ["q"]
[[rule]]
name = "q_high"
expr = "q > 50"
severity = "critical"
[[gate]]
name = "short"
at = "500 steps"
require = [{ expr = "q < 40", early_fail = true }]
[[gate]]
name = "long"
at = "1000 steps"
needs = ["short"]
require = ["q > 5"]
"""


def scene(tmp_path: Path, *gates: str, act: bool = True) -> Scene:
    return Scene(tmp_path, FakeClock(T0), RULES, act=act, gates=gates or ("short,long",))


def register(scene: Scene, **more: Any) -> None:
    """Write what a guard writes when it registers; this very process is the trainer."""
    me = myself()
    record = {
        "pid": me.pid,
        "start_time": me.start_time,
        "boot_id": me.boot_id,
        "host": me.host,
        "attempt": 0,
        "verbs": ["checkpoint", "rollback", "terminate"],
        **more,
    }
    control = scene.logdir / "a" / "control"
    control.mkdir(parents=True, exist_ok=True)
    (control / "trainer.new").write_text(json.dumps(record))
    (control / "trainer.new").replace(control / "trainer.json")


def points(values: Sequence[float], begin: int = 0) -> list[Sample]:
    """One point every 100 steps and 10 seconds, the first at step `begin`."""
    return [("q", 100 * n, T0 + 10 * n, value) for n, value in enumerate(values, begin // 100)]


def told(scene: Scene) -> list[tuple[str, str]]:
    """What was said of gates: (severity, title)."""
    return [(m.severity, m.title) for m in scene.post.messages if m.title.startswith("gate ")]


def asked(scene: Scene) -> list[tuple[str, str]]:
    return [(r["verb"], r["reason"]) for r in scene.journal.rows("SELECT * FROM commands ORDER BY id")]


def gates(scene: Scene) -> dict[str, str]:
    """What `sentinel status` shows."""
    (run,) = read_status(scene.logdir, scene.state)["runs"]
    return {name: body["verdict"] for name, body in run["gates"].items()}


def test_a_passed_gate_is_told_once_at_info(tmp_path: Path) -> None:
    """When the run has gone beyond it; until then it waits."""
    watched = scene(tmp_path)
    register(watched)
    watched.log(points([10] * 5))
    watched.settle()
    assert told(watched) == []
    assert gates(watched) == {"short": "waiting", "long": "waiting"}
    watched.log(points([10] * 3, begin=500))
    watched.settle()
    assert told(watched) == [("info", "gate short passed")]
    assert gates(watched) == {"short": "pass", "long": "waiting"}
    watched.log(points([10] * 6, begin=800))
    watched.settle()
    assert told(watched) == [("info", "gate short passed"), ("info", "gate long passed")]
    assert asked(watched) == []


def test_an_early_failure_ends_the_training(tmp_path: Path) -> None:
    """At the very point: what remains of the run would be wasted. It is asked for once."""
    watched = scene(tmp_path)
    register(watched)
    watched.log(points([10, 10, 45, 10]))
    watched.settle()
    ((verb, reason),) = asked(watched)
    assert verb == "terminate"
    assert reason.startswith(
        "gate short failed: 1 of 1 requirements is False: q < 40 (45 against 40 at step 200"
    )
    assert told(watched) == [("critical", "gate short failed"), ("critical", "gate long failed")]
    first, second = (m for m in watched.post.messages if m.title.startswith("gate "))
    assert "asked the trainer to end" in first.happened
    assert "it needs short, which failed" in second.happened
    letters = [p.name for p in (watched.logdir / "a" / "control" / "commands").iterdir()]
    assert len(letters) == 1
    watched.log(points([10] * 4, begin=400))
    watched.settle()
    assert len(asked(watched)) == 1
    assert len(told(watched)) == 2


def test_a_forbidden_rule_ends_it_too(tmp_path: Path) -> None:
    """Beside whatever the rule's own ladder does."""
    watched = scene(tmp_path, "long")
    register(watched)
    watched.log(points([10] * 8 + [60, 10]))
    watched.settle()
    assert asked(watched) == [
        ("terminate", "gate long failed: q_high (critical) fired at step 800: 60 against 50")
    ]


def test_what_is_false_at_the_gate_ends_it(tmp_path: Path) -> None:
    """Not early: only once the run is there."""
    watched = scene(tmp_path, "long")
    register(watched)
    watched.log(points([10] * 6 + [1] * 4))
    watched.settle()
    assert asked(watched) == []
    watched.log(points([1, 1], begin=1000))
    watched.settle()
    assert [verb for verb, _ in asked(watched)] == ["terminate"]


def test_in_observe_mode_it_is_told_that_it_would_end(tmp_path: Path) -> None:
    """Nothing is asked of anybody."""
    watched = scene(tmp_path, "short", act=False)
    register(watched)
    watched.log(points([10, 45]))
    watched.settle()
    assert asked(watched) == []
    (message,) = (m for m in watched.post.messages if m.title.startswith("gate "))
    assert "would end the training (mode observe)" in message.happened
    assert message.advice == "sentinel gate RUN --gate short shows every requirement with its numbers."


def test_a_job_without_a_guard_cannot_be_ended_and_that_is_said(tmp_path: Path) -> None:
    """The verdict stands all the same."""
    watched = scene(tmp_path, "short")
    watched.log(points([10, 45]))
    watched.settle()
    assert asked(watched) == []
    (message,) = (m for m in watched.post.messages if m.title.startswith("gate "))
    assert "nobody can be asked to end it: nobody has registered as the trainer" in message.happened


@pytest.mark.parametrize("restart_at", [1, 2, 3, 5, 7])
def test_a_restart_tells_no_verdict_twice_and_forgets_none(tmp_path: Path, restart_at: int) -> None:
    """Wherever the sentinel was killed, people read the same, once."""
    watched = scene(tmp_path)
    register(watched)
    for n, value in enumerate([10, 10, 10, 10, 10, 10, 10, 10, 3, 3, 3, 3]):
        if n == restart_at:
            watched.start()
        watched.log(points([value], begin=100 * n))
        watched.settle()
    assert told(watched) == [("info", "gate short passed"), ("critical", "gate long failed")]
    assert len(asked(watched)) == 1
    watched.start()
    watched.settle()
    assert len(told(watched)) == 2
    assert len(asked(watched)) == 1
    assert gates(watched) == {"short": "pass", "long": "fail"}


def test_a_run_that_ends_before_the_gate_leaves_it_open(tmp_path: Path) -> None:
    """It is told at the end, and by the guard's word for the end."""
    watched = scene(tmp_path, "short")
    register(watched)
    watched.log(points([10] * 3))
    watched.settle()
    register(watched, finished_at=T0 + 30, outcome="finished")
    watched.settle()
    assert told(watched) == [("info", "gate short is inconclusive")]
    assert gates(watched) == {"short": "inconclusive"}


def test_a_trainer_that_says_it_failed_has_failed_the_gate(tmp_path: Path) -> None:
    """There is nothing left to end."""
    watched = scene(tmp_path, "short")
    register(watched)
    watched.log(points([10] * 3))
    watched.settle()
    register(watched, finished_at=T0 + 30, outcome="failed")
    watched.settle()
    assert told(watched) == [("critical", "gate short failed")]
    assert asked(watched) == []


def test_a_trainer_that_is_gone_without_a_word_has_failed_the_gate(tmp_path: Path) -> None:
    """A crash on the way, whatever the gate forbids."""
    watched = scene(tmp_path, "short")
    register(watched)
    watched.log(points([10] * 3))
    watched.settle()
    assert told(watched) == []
    register(watched, start_time=1)
    watched.settle()
    (message,) = (m for m in watched.post.messages if m.title.startswith("gate "))
    assert "the trainer died at step 200, before 500 steps" in message.happened
    assert gates(watched) == {"short": "fail"}
    assert asked(watched) == []


def test_an_old_run_beside_it_is_judged_and_not_told(tmp_path: Path) -> None:
    """Nobody asked about last week's; `sentinel status` has it all the same."""
    watched = scene(tmp_path, "short")
    watched.clock.advance(86400)
    watched.log(points([45] * 10))
    watched.settle()
    assert told(watched) == []
    assert gates(watched) == {"short": "fail"}
    assert watched.engine.close_gates("finished") == []


def test_the_end_of_the_supervised_job_settles_what_is_open(tmp_path: Path) -> None:
    """A crash is a failure; an end is not, and does not pass what was not shown."""
    watched = scene(tmp_path)
    watched.log(points([10] * 8))
    watched.settle()
    (found,) = watched.engine.close_gates("died")
    assert found.verdicts() == ["pass", "fail"]
    assert told(watched) == [("info", "gate short passed"), ("critical", "gate long failed")]
