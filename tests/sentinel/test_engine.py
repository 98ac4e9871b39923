"""The tick over real files and a real journal: one code path with the replay, and no difference after a
restart.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.series import Sample
from sentinel.errors import StateError
from sentinel.inbox import Command, drop
from sentinel.process import myself
from sentinel.replay import replay_paths
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import Scene, encode, start_record

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where a hundred journals can be written without a hundred waits for the disk."""


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, FakeClock(T0))


def curve(
    values: Sequence[float], *, begin: int = 1, seconds: float = 3.0, start: float = T0, alike: bool = False
) -> list[Sample]:
    """q and r together, every 100 steps; alike: r is q, so that only a tick torn in two tells them apart."""
    found: list[Sample] = []
    for n, value in enumerate(values, begin):
        wall = start + seconds * n
        found += [("r", 100 * n, wall, value if alike else 1.0), ("q", 100 * n, wall + 0.25, value)]
    return found


def register(run: Path, **changes: Any) -> None:
    """Write what a guard writes when it registers; this very process is the trainer."""
    me = myself()
    body = {
        "version": 1,
        "pid": me.pid,
        "start_time": me.start_time,
        "boot_id": me.boot_id,
        "host": me.host,
        "uid": me.uid,
        "attempt": 0,
        "parameters": {"lr": {"kind": "number", "value": 0.1, "low": 0, "high": 1}},
        "reinit": [],
        "verbs": ["checkpoint", "rollback", "terminate"],
        "checkpoints": "checkpoints",
        "signal": None,
        "started_at": T0,
        "finished_at": None,
        "outcome": None,
        **changes,
    }
    (run / "control").mkdir(parents=True, exist_ok=True)
    temporary = run / "control" / ".trainer"
    temporary.write_text(json.dumps(body))
    temporary.replace(run / "control" / "trainer.json")


def letters(run: Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted((run / "control" / "commands").glob("*.json"))]


SAME = (
    "key",
    "before",
    "after",
    "step",
    "run_step",
    "wall_time",
    "onset_step",
    "attempt",
    "reason",
    "actions",
)
"""What the journal and a replay's lines both say of a transition, in the journal's names."""


def replayed(scene: Scene) -> list[tuple[Any, ...]]:
    """What a replay says of the same files."""
    names = {"key": "rule", "before": "from", "after": "to"}
    lines = [line for outcome in replay_paths([scene.logdir], scene.settings) for line in outcome.lines()]
    return [tuple(json.dumps(line[names.get(name, name)], sort_keys=True) for name in SAME) for line in lines]


def lived(scene: Scene, until: float = math.inf) -> list[tuple[Any, ...]]:
    """The same of what the journal recorded, up to a wall time."""
    rows = [row for row in scene.transitions() if row["wall_time"] <= until]
    return [tuple(json.dumps(row[name], sort_keys=True) for name in SAME) for row in rows]


def test_an_alert_rises_is_told_and_resolves(scene: Scene) -> None:
    """Once over the limit is pending, twice is firing; below `clear` twice is over; and each is told in one
    thread.
    """
    for sample in curve([1, 2, 60, 70, 15, 10, 5]):
        scene.log([sample])
        scene.tick(1.1)
    scene.settle()
    assert scene.moves() == ["pending", "firing", "recovering", "resolved"]
    scene.tick()
    told = [m for m in scene.post.messages if m.rule == "q_high"]
    assert [m.kind for m in told] == ["opened", "closed"]
    assert len({m.thread for m in told}) == 1


def test_the_last_tick_of_a_file_is_judged_after_two_seconds_of_silence(scene: Scene) -> None:
    """Else the last point of a run would wait for a point that never comes."""
    scene.log(curve([1, 60, 60]))
    scene.tick(1.1)
    assert scene.moves() == ["pending"]
    scene.tick(2.1)
    assert scene.moves() == ["pending", "firing"]


def test_history_is_judged_but_not_acted_upon(tmp_path: Path) -> None:
    """A sentinel that first meets a run hours later says nothing of an alarm that was over then."""
    scene = Scene(tmp_path, FakeClock(T0 + 7200), act=True)
    old = curve([1, 60, 70, 80, 90, 5, 5, 5, 5])
    scene.write(encode(old))
    register(scene.logdir / "a")
    scene.tick(1.1)
    scene.settle()
    assert scene.moves() == ["pending", "firing", "recovering", "resolved"]
    assert all(t["actions"] == [] for t in scene.transitions() if t["key"] == "q_high")
    assert letters(scene.logdir / "a") == []
    assert [m for m in scene.post.messages if m.rule == "q_high"] == []


def test_a_long_history_read_in_pieces_is_still_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first look did not get to is no more recent for that."""
    scene = Scene(tmp_path, FakeClock(T0 + 7200), act=True)
    old = curve([1] * 40 + [60] * 40 + [5] * 40)
    scene.write(encode(old))
    register(scene.logdir / "a")
    monkeypatch.setattr("sentinel.tail.RunTail.read", _in_pieces(500))
    for _ in range(60):
        scene.tick(0.1)
    scene.settle()
    assert scene.moves() == ["pending", "firing", "recovering", "resolved"]
    assert letters(scene.logdir / "a") == []


def _in_pieces(size: int) -> Any:
    from sentinel.tail import RunTail

    whole = RunTail.read
    return lambda self, files, limit_bytes=size: whole(self, files, limit_bytes)


def test_a_run_of_last_week_stays_quiet(tmp_path: Path) -> None:
    """It is over, not silent; nobody wants a thousand alarms about old runs at the first start."""
    scene = Scene(tmp_path, FakeClock(T0 + 7 * 86400))
    scene.write(encode(curve([1, 2, 60, 70])))
    for _ in range(20):
        scene.tick(10)
    assert scene.moves() == ["pending", "firing"]
    assert scene.moves("silent") == []
    assert scene.post.rows == []
    assert scene.journal.rows("SELECT phase FROM runs")[0]["phase"] == "past"


def test_silence_is_told_and_ends_with_the_next_point(scene: Scene) -> None:
    """Judged at multiples of five seconds of wall time."""
    scene.log(curve([1, 2, 3]))
    for _ in range(12):
        scene.tick(5)
    assert scene.moves("silent") == ["firing"]
    scene.log(curve([4], begin=1, start=scene.clock.now))
    scene.settle()
    scene.tick(5)
    assert scene.moves("silent") == ["firing", "resolved"]


def test_a_restart_during_a_silence_does_not_tell_it_anew(scene: Scene) -> None:
    """The moments at which silence was judged before the restart are not judged again: then it was still
    young.
    """
    scene.log(curve([1, 2, 3]))
    for _ in range(12):
        scene.tick(5)
    scene.start()
    for _ in range(3):
        scene.tick(5)
    assert scene.moves("silent") == ["firing"]


def test_a_run_that_vanishes_is_told_once_and_goes_on_when_it_is_back(scene: Scene) -> None:
    """An unmounted disk is not the end of a run."""
    scene.log(curve([1, 2, 3]))
    scene.tick(1.1)
    moved = scene.logdir / "a"
    moved.rename(scene.logdir.parent / "away")
    for _ in range(3):
        scene.tick(1.1)
    assert [m.title for m in scene.post.messages if "gone" in m.title] == ["the run's folder is gone"]
    (scene.logdir.parent / "away").rename(moved)
    scene.log(curve([60, 60, 60], begin=4))
    scene.settle()
    assert scene.moves() == ["pending", "firing"]
    assert scene.journal.rows("SELECT phase FROM runs")[0]["phase"] == "live"


def test_a_tick_that_cannot_be_remembered_does_nothing_outside(tmp_path: Path) -> None:
    """No letter, no message, and the request stays: it may not act on what it would forget."""
    scene = Scene(tmp_path, FakeClock(T0), act=True)
    register(scene.logdir / "a")
    scene.log(curve([1]))
    scene.tick(1.1)
    before = len(scene.post.rows)
    drop(Command("a", "checkpoint"), scene.state)
    scene.log(curve([60, 70, 80, 90], begin=2))
    stranger = sqlite3.connect(scene.state / "journal.sqlite", isolation_level=None)
    stranger.execute(
        "CREATE TRIGGER full BEFORE INSERT ON commands BEGIN SELECT RAISE(FAIL, 'disk full'); END"
    )
    stranger.close()
    with pytest.raises(StateError, match="disk full"):
        scene.tick(1.1)
    assert letters(scene.logdir / "a") == []
    assert len(scene.post.rows) == before
    assert len(list((scene.state / "inbox").glob("*.json"))) == 1
    assert scene.moves() == []


def test_in_act_mode_a_letter_goes_out_and_its_receipt_is_told(tmp_path: Path) -> None:
    """The way there and back, in the alert's own thread."""
    scene = Scene(tmp_path, FakeClock(T0), act=True)
    run = scene.logdir / "a"
    register(run)
    scene.log(curve([1, 60, 70, 80]))
    scene.tick(1.1)
    (letter,) = letters(run)
    assert letter["verb"] == "checkpoint"
    (run / "control" / "receipts").mkdir()
    receipt = {
        "id": letter["id"],
        "status": "done",
        "step": 310,
        "checkpoint": "00-00000310",
        "checkpoint_step": 310,
    }
    (run / "control" / "receipts" / "000001.json").write_text(json.dumps(receipt))
    scene.tick(1.1)
    scene.tick()
    last = scene.post.messages[-1]
    assert "checkpoint" in last.happened
    assert last.thread == "a/q_high#1"


def test_without_a_guard_nothing_is_asked_and_that_is_said(tmp_path: Path) -> None:
    """A letter that nobody reads would only look like a deed."""
    scene = Scene(tmp_path, FakeClock(T0), act=True)
    scene.log(curve([1, 60, 70, 80]))
    scene.settle()
    (fired,) = [t for t in scene.transitions() if t["after"] == "firing" and t["key"] == "q_high"]
    assert "nobody has registered" in fired["actions"][1]["withheld"]
    assert not (scene.logdir / "a" / "control").exists()


def test_two_alerts_of_one_batch_ask_for_one_rollback(tmp_path: Path) -> None:
    """The second would be refused by the attempt after the first, and cost its ladder a use."""
    from tests.sentinel.scene import RULES

    second = '[[rule]]\nname = "q_too"\nexpr = "q > 55"\nfor = "2 points"\n'
    second += 'severity = "critical"\nladder = "save"\n'
    scene = Scene(tmp_path, FakeClock(T0), RULES + second, act=True)
    run = scene.logdir / "a"
    register(run)
    _checkpoint(run, 100, T0 + 1)
    scene.log(curve([1, 1, 60, 70, 80, 90, 95]))
    scene.tick(1.1)
    verbs = [letter["verb"] for letter in letters(run)]
    assert verbs.count("rollback") == 1


def _checkpoint(run: Path, step: int, wall: float) -> None:
    import hashlib

    folder = run / "checkpoints" / f"00-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "w").write_bytes(b"w")
    files = {"w": {"bytes": 1, "sha256": hashlib.sha256(b"w").hexdigest()}}
    manifest = {"version": 1, "step": step, "attempt": 0, "wall_time": wall, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_two_unreadable_folders_are_two_messages(scene: Scene) -> None:
    """One blind spot must not hide another."""
    if os.geteuid() == 0:
        for name in ("a\nb", "c\nd"):  # root reads everything; a name that cannot be told is refused as well
            scene.write(encode(curve([1])), run=name)
    else:
        for name in ("x", "y"):
            (scene.logdir / name).mkdir(mode=0)
    scene.tick(1.1)
    assert len([m for m in scene.post.messages if "cannot be read" in m.title]) == 2


@pytest.mark.parametrize(
    "garbage",
    [
        b"{",
        b"[]",
        b'{"run": 1, "verb": "checkpoint"}',
        b'{"run": "a", "verb": "x"}',
        b'{"run": "a", "verb": "rollback", "set": [1]}',
        b"\xff",
        b"[" * 5000,
    ],
)
def test_a_garbage_request_is_answered_and_taken_away(scene: Scene, garbage: bytes) -> None:
    """Whoever can write into the inbox must not be able to stop the sentinel."""
    scene.log(curve([1]))
    (scene.state / "inbox").mkdir()
    (scene.state / "inbox" / "x.json").write_bytes(garbage)
    scene.tick(1.1)
    (row,) = scene.journal.rows("SELECT * FROM requests")
    assert "request cannot be" in row["outcome"]
    assert list((scene.state / "inbox").iterdir()) == []


def test_a_folder_in_the_inbox_does_not_stop_the_sentinel(scene: Scene) -> None:
    """It cannot be taken away; it is answered once."""
    (scene.state / "inbox" / "x.json").mkdir(parents=True)
    for _ in range(3):
        scene.tick(1.1)
    assert len(scene.journal.rows("SELECT * FROM requests")) == 1


values = st.lists(
    st.sampled_from([1.0, 8.0, 15.0, 30.0, 55.0, 70.0, 200.0, math.nan, math.inf]), min_size=3, max_size=14
)


@settings(max_examples=60, deadline=None)
@given(values, st.data())
def test_a_log_written_in_any_pieces_is_judged_as_a_replay_judges_it(
    values: list[float], data: st.DataObject
) -> None:
    """Promise: the same log, the same decisions, however it was cut and whenever the sentinel looked."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        scene = Scene(Path(folder), FakeClock(T0))
        # Fourteen points in less than FRESH_SECONDS: never looked at, the first ones would be history.
        seconds = data.draw(st.sampled_from([1.0, 3.0, 4.0]), "seconds")
        samples = curve(values, seconds=seconds, alike=data.draw(st.booleans(), "alike"))
        for sample in samples:
            content = encode([sample])
            scene.clock.advance(max(0.0, sample[2] - scene.clock.now))
            cut = data.draw(st.integers(0, len(content)), "cut")
            scene.write(content[:cut])
            if data.draw(st.booleans(), "look"):
                scene.tick()
            scene.write(content[cut:])
        scene.settle()
        last = samples[-1][2]
        assert lived(scene, last) == replayed(scene)
        scene.journal.close()


@settings(max_examples=60, deadline=None)
@given(values, st.data())
def test_a_restart_at_any_tick_changes_nothing(values: list[float], data: st.DataObject) -> None:
    """Promise: a point is counted once, and what was judged is not judged again."""
    step = data.draw(st.sampled_from([1.0, 3.0, 6.0, 30.0]), "seconds")
    samples = curve(values, seconds=step, alike=data.draw(st.booleans(), "alike"))
    waits = data.draw(
        st.lists(st.sampled_from([0.0, 0.5, 2.2]), min_size=len(samples), max_size=len(samples))
    )
    restarts = data.draw(st.lists(st.booleans(), min_size=len(samples), max_size=len(samples)))
    back = data.draw(st.none() | st.integers(2, max(2, len(values))), "goes back at")
    outcomes = []
    for restarting in (False, True):
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            scene = Scene(Path(folder), FakeClock(T0))
            for number, (sample, wait, restart) in enumerate(zip(samples, waits, restarts, strict=True)):
                if back is not None and number == 2 * back:
                    scene.write(start_record(101, sample[2] - 0.1))
                scene.log([sample])
                scene.tick(wait)
                if restarting and restart:
                    scene.start()
            for _ in range(8):
                scene.tick(5)
                if restarting:
                    scene.start()
            outcomes.append(scene.transitions())
            scene.journal.close()
    assert outcomes[0] == outcomes[1]
