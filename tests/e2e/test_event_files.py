"""Event files that are cut, rotated, deleted and replaced under a sentinel that watches them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event

from tests.e2e.job import TAG
from tests.e2e.scene import Scene, stop, until
from tests.e2e.test_disk import told
from tests.sentinel.event_files import record, scalar

NAME = "events.out.tfevents.1700000000.here.1"


def head() -> bytes:
    return record(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())


def points(first: int, last: int, value: float = 1.0) -> bytes:
    now = time.time()
    return b"".join(scalar(TAG, n, value, now + (n - last) * 0.01) for n in range(first, last + 1))


def seen(scene: Scene, step: int) -> None:
    until(lambda: scene.rows("SELECT 1 FROM runs WHERE last_step = ?", step), f"step {step} is judged")


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_whatever_becomes_of_its_file_a_run_is_judged_on(scene: Scene) -> None:
    """Cut and written anew, replaced, rotated away, deleted: each point once, and no false alarm."""
    run = scene.logdir / "a"
    run.mkdir()
    path = run / NAME
    append(path, head() + points(1, 10))
    sentinel = scene.sentinel()
    seen(scene, 10)

    os.truncate(path, 0)
    append(path, head() + points(11, 20))
    seen(scene, 20)

    beside = run / "beside"
    beside.write_bytes(head() + points(21, 30))
    beside.replace(path)
    seen(scene, 30)

    path.rename(run / f"{NAME}.old")  # as logrotate does; the points in it have been judged
    append(path, head() + points(31, 40))
    seen(scene, 40)

    path.unlink()
    (run / f"{NAME}.old").unlink()
    until(lambda: "the run's folder is gone" in told(scene), "nothing is left of it, and that is told")
    append(run / NAME, head() + points(41, 50))
    seen(scene, 50)
    assert scene.transitions() == []
    assert not scene.rows("SELECT 1 FROM rewinds")

    append(path, points(51, 53, 64.0))
    until(lambda: scene.rows("SELECT 1 FROM transitions WHERE after = 'firing'"), "it is still judged")
    fired = scene.rows("SELECT * FROM transitions WHERE after = 'firing'")
    assert [(row["step"], row["onset_step"]) for row in fired] == [(52, 51)]
    assert stop(sentinel) == 0
    assert "Traceback" not in scene.said("sentinel.log")
