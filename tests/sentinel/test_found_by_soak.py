"""What simulated weeks (tests/soak) have found, each as the smallest story that shows it."""

from __future__ import annotations

from pathlib import Path

from sentinel.journal import Journal
from sentinel.replay import Recording, judge_run
from sentinel.run_rows import RunRows
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import Scene, encode, start_record
from tests.sentinel.test_engine import curve

ANOTHER = "events.out.tfevents.1700000500.t"


def test_a_silence_that_a_restart_of_the_job_ends_is_judged_by_a_replay_too(tmp_path: Path) -> None:
    """Who was there has seen the alert fire before the job was back; a later reader sees it too."""
    scene = Scene(tmp_path, FakeClock(T0))
    scene.log(curve([1, 1, 1]))
    for _ in range(12):
        scene.tick(5.0)
    scene.write(start_record(3, scene.clock.now), file=ANOTHER)
    scene.log(curve([1, 1, 1], begin=3, start=scene.clock.now), file=ANOTHER)
    scene.settle()
    live = [(t["key"], t["after"]) for t in scene.transitions() if t["before"] != t["after"]]
    folder = scene.logdir / "a"
    files = tuple(sorted(folder.iterdir()))
    replayed = judge_run(Recording("a", folder, files), [scene.settings])[0]
    moved = [(line["rule"], line["to"]) for line in replayed.lines() if line["from"] != line["to"]]
    assert ("silent", "firing") in live
    assert moved == live


def test_two_stretches_that_are_found_damaged_at_once_are_both_told(tmp_path: Path) -> None:
    """They share a moment, and so would share a key."""
    scene = Scene(tmp_path, FakeClock(T0))
    for file in ("events.out.tfevents.1700000000.t", ANOTHER):
        whole = bytearray(encode(curve([1, 1, 1, 1])))
        whole[len(whole) // 3] ^= 0xFF
        scene.write(bytes(whole), file=file)
    scene.clock.advance(20.0)
    scene.tick(1.1)
    rows = scene.journal.rows("SELECT path, offset FROM damage")
    told = "\n".join(m.happened for m in scene.post.messages if "cannot be read" in m.title)
    assert len(rows) == 2
    assert all(f"{row['path']}: " in told and f"at byte {row['offset']}" in told for row in rows)


def test_our_own_measurements_are_kept_for_a_day_and_not_for_ever(tmp_path: Path) -> None:
    """A run that trains for weeks would else fill the disk and each restart's memory with them."""
    journal = Journal(tmp_path / "journal.sqlite")
    rows = RunRows(journal, "a")
    with journal.transaction():
        for hour in range(24 * 14):
            rows.add_probes([("sys/process_alive", hour, T0 + 3600.0 * hour, 1.0)])
    assert 24 <= len(rows.probes()) <= 26
    assert rows.probes()[-1][1] == 24 * 14 - 1
    journal.close()


def test_a_run_whose_folder_has_been_gone_for_an_hour_is_let_go_and_taken_up_again(tmp_path: Path) -> None:
    """It costs no memory any more; when it comes back, the journal knows where it stood."""
    scene = Scene(tmp_path, FakeClock(T0))
    scene.log(curve([1, 1, 60, 60, 60]))
    scene.settle()
    folder = scene.logdir / "a"
    folder.rename(tmp_path / "away")
    for _ in range(5):
        scene.tick(1300.0)
    assert not list(scene.engine._fleet)
    before = scene.moves()
    assert before == ["pending", "firing"]
    (tmp_path / "away").rename(folder)
    scene.log(curve([60, 1, 1, 1], begin=6))
    scene.settle()
    scene.settle()
    assert scene.moves()[:2] == before
    assert scene.moves()[2:] == ["recovering", "resolved"]
