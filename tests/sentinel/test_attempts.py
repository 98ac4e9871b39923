"""When the steps go back: what is kept, what is void, and what a restart makes of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.series import Sample
from sentinel.attempts import Attempts
from sentinel.config import load
from sentinel.judge import Judge
from sentinel.replay import replay_paths
from sentinel.tail import RunTail, holds
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import RULES, Scene, encode, start_record


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "s.toml").write_text(RULES)
    folder = tmp_path / "a"
    folder.mkdir()
    return folder


def attempts(run: Path, tail: RunTail, **more: Any) -> Attempts:
    rules = load(run.parent / "s.toml")
    return Attempts(Judge(rules.program, rules.book), tail, **more)


def feed(run: Path, made: Attempts, tail: RunTail) -> list[Any]:
    chunks, _ = tail.read(sorted(run.glob("*tfevents*")))
    return [step for chunk in chunks for step in made.take(chunk)]


def test_a_first_start_at_an_empty_run_is_no_rewind(run: Path) -> None:
    """A trainer that always gives purge_step has gone back behind nothing."""
    (run / "events.out.tfevents.1.a").write_bytes(start_record(0, T0) + encode([("q", 1, T0 + 1, 1.0)]))
    tail = RunTail(run)
    made = attempts(run, tail)
    feed(run, made, tail)
    assert made.rewinds == []


@pytest.mark.parametrize(("purge", "to_step", "kept"), [(301, 300, 3), (0, 0, 0), (901, 500, 5)])
def test_a_start_keeps_what_lies_before_its_step(run: Path, purge: int, to_step: int, kept: int) -> None:
    """Steps from `purge_step` on are void; a start beyond the last step leaves nothing behind."""
    path = run / "events.out.tfevents.1.a"
    path.write_bytes(
        encode([("q", 100 * n, T0 + n, 1.0) for n in range(1, 6)]) + start_record(purge, T0 + 10)
    )
    tail = RunTail(run)
    made = attempts(run, tail)
    feed(run, made, tail)
    (rewind,) = made.rewinds
    assert (rewind.attempt, rewind.to_step, rewind.wall_time) == (1, to_step, T0 + 10)
    logged = [sample for chunk in tail.history() for sample in chunk.samples]
    assert sum(holds(s[2], [(rewind.kept_until, rewind.wall_time)]) for s in logged) == kept


def test_a_rollback_by_a_real_summary_writer(run: Path) -> None:
    """SummaryWriter(purge_step=...) in a new file, as our trainer does it: the alert goes on probation."""
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    now = time.time()
    writer = tensorboard.SummaryWriter(str(run))
    for n, value in enumerate([1, 1, 1, 70, 80, 90], 1):
        writer.add_scalar("q", value, 100 * n, walltime=now + n)
    writer.close()
    tail = RunTail(run)
    made = attempts(run, tail)
    steps = feed(run, made, tail)
    assert [s.observation.transition.after.value for s in steps if s.observation.key == "q_high"][
        -1
    ] == "firing"
    writer = tensorboard.SummaryWriter(str(run), purge_step=301, filename_suffix=".1")
    writer.add_scalar("q", 5.0, 400, walltime=now + 20)
    writer.close()
    steps = feed(run, made, tail)
    (rewind,) = made.rewinds
    assert rewind.to_step == 300
    moved = [s.observation.transition for s in steps if s.observation.key == "q_high"]
    assert [m.after.value for m in moved if m] == ["probation"]
    assert steps[-1].attempt == 1


def test_points_of_an_abandoned_attempt_that_are_written_late_are_not_judged(run: Path) -> None:
    """An older file may be flushed after the new one was begun."""
    a, b = run / "events.out.tfevents.1.a", run / "events.out.tfevents.2.b"
    a.write_bytes(encode([("q", 100 * n, T0 + n, 1.0) for n in range(1, 6)]))
    b.write_bytes(start_record(201, T0 + 10) + encode([("q", 300, T0 + 11, 1.0)]))
    tail = RunTail(run)
    made = attempts(run, tail)
    feed(run, made, tail)
    with a.open("ab") as file:
        file.write(encode([("q", 600, T0 + 6, 99.0), ("q", 700, T0 + 7, 99.0)]))
    assert feed(run, made, tail) == []


def ups_and_downs(gap: float = 3.0) -> list[Sample]:
    """A run that diverges, goes back in the same file without saying so, and recovers."""
    values = [1.0] * 12 + [60.0, 70.0, 80.0] + [30.0] * 7 + [5.0] * 5
    steps = [100 * n for n in range(1, 16)] + [50 * n for n in range(18, 30)]
    walls = [gap * n for n in range(1, 28)]
    return [
        (tag, step, T0 + wall, value)
        for step, wall, value in zip(steps, walls, values, strict=True)
        for tag in ("q", "r")
    ]


def judged(scene: Scene) -> list[tuple[Any, ...]]:
    return [
        (t["key"], t["attempt"], t["before"], t["after"], t["step"], t["wall_time"])
        for t in scene.transitions()
    ]


def test_steps_that_go_back_in_one_file_put_what_fires_on_probation(tmp_path: Path) -> None:
    """What is left behind leaves the windows, and the attempt is dated from its first point."""
    scene = Scene(tmp_path, FakeClock(T0))
    for sample in ups_and_downs():
        scene.log([sample])
        scene.tick(0.5)
    scene.settle()
    (rewind,) = scene.journal.rows("SELECT * FROM rewinds")
    assert (rewind["to_step"], rewind["kept_until"], rewind["wall_time"]) == (899, T0 + 24, T0 + 48)
    assert scene.moves() == ["pending", "firing", "probation", "resolved"]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=5))
def test_how_the_file_came_and_how_often_we_restarted_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, looks: list[tuple[int, bool]]
) -> None:
    """Live in any pieces, with restarts in between, and in a replay: the same verdicts."""
    samples = ups_and_downs()
    scene = Scene(tmp_path_factory.mktemp("scene"), FakeClock(T0))
    at = turn = 0
    while at < len(samples):
        count, restart = looks[turn % len(looks)]
        scene.log(samples[at : at + count])
        at, turn = at + count, turn + 1
        if restart:
            scene.start()
        scene.tick(0.01)
    scene.settle()
    (outcome,) = replay_paths([scene.logdir], scene.settings)
    names = ("rule", "attempt", "from", "to", "step", "wall_time")
    assert judged(scene) == [tuple(line[name] for name in names) for line in outcome.lines()]


def test_a_guard_that_tells_of_its_attempt_is_believed_at_once(tmp_path: Path) -> None:
    """The first point of the new attempt settles it, and the step gone back to is the checkpoint's."""
    control = tmp_path / "runs" / "a" / "control"
    for name, content in {
        "trainer.json": {"attempt": 1, "started_at": T0},
        "commands/000001.json": {"verb": "rollback"},
        "receipts/000001.json": {"id": 1, "status": "done", "wall_time": T0 + 46, "checkpoint_step": 850},
    }.items():
        path = control / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    scene = Scene(tmp_path, FakeClock(T0))
    scene.log(ups_and_downs()[:31])
    scene.tick(1.1)
    (rewind,) = scene.journal.rows("SELECT * FROM rewinds")
    assert (rewind["to_step"], rewind["wall_time"]) == (850, T0 + 48)
    assert scene.moves() == ["pending", "firing", "probation"]
    (outcome,) = replay_paths([scene.logdir], scene.settings)
    assert [line["to"] for line in outcome.lines() if line["rule"] == "q_high"][-1] == "probation"


def test_a_job_resumed_by_hand_in_a_new_file_keeps_what_came_before(tmp_path: Path) -> None:
    """No START, no guard: its steps go back behind a file that has fallen silent."""
    scene = Scene(tmp_path, FakeClock(T0))
    first, second = ups_and_downs(30)[:30], ups_and_downs(30)[30:]
    for sample in first:
        scene.log([sample])
        scene.tick(0.5)
    later = [(tag, step, wall + 900, value) for tag, step, wall, value in second]
    for sample in later:
        scene.log([sample], file="events.out.tfevents.1700001000.t")
        scene.tick(0.5)
    (rewind,) = scene.journal.rows("SELECT * FROM rewinds")
    assert (rewind["to_step"], rewind["wall_time"]) == (899, later[0][2])
    assert scene.moves() == ["pending", "firing", "probation", "resolved"]


def test_what_was_logged_before_it_was_seen_to_be_an_attempt_belongs_to_it(tmp_path: Path) -> None:
    """Of 27 points seven were left behind; those that were judged by the old windows are in the new ones."""
    counting = (
        '[[rule]]\nname = "twenty"\nexpr = "count(q, steps=10000) == 20"\nseverity = "info"\n[ladders.save]'
    )
    scene = Scene(tmp_path, FakeClock(T0), RULES.replace("[ladders.save]", counting))
    for sample in ups_and_downs():
        scene.log([sample])
        scene.tick(0.5)
    scene.settle()
    fired = [(t["attempt"], t["step"]) for t in scene.transitions() if t["key"] == "twenty"]
    assert (1, 1450) in fired
