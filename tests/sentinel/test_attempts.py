"""When the steps go back: what is kept, what is void, and what a restart makes of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from sentinel.attempts import Attempts
from sentinel.config import load
from sentinel.judge import Judge
from sentinel.tail import RunTail
from tests.sentinel.event_files import T0
from tests.sentinel.scene import RULES, encode, start_record


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "s.toml").write_text(RULES)
    folder = tmp_path / "a"
    folder.mkdir()
    return folder


def attempts(run: Path, tail: RunTail, **more: Any) -> Attempts:
    settings = load(run.parent / "s.toml")
    return Attempts(Judge(settings.program, settings.book), tail, **more)


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
    void = [(rewind.kept_until, rewind.wall_time)]
    assert sum(len(samples) for _, samples in tail.history(void, None)) == kept


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
