"""No run that has something new is passed by for long, and none that has nothing is looked at for nothing."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.attention import Attention, Changes, stamp
from sentinel.live_run import LiveRun
from sentinel.round import ROUND_SECONDS
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import Scene
from tests.sentinel.test_engine import curve


class Folder:
    """Runs whose files grow, with or without an announcement."""

    def __init__(self, root: Path, runs: int) -> None:
        self.attention = Attention()
        self.names = [f"r{number}" for number in range(runs)]
        self.root = root
        self.now = 0.0
        for name in self.names:
            (root / name).mkdir()
            (root / name / "events").write_bytes(b"x")
            self.attention.meet(name, root / name)
        self.look(self.names)

    def files(self, name: str) -> list[Path]:
        return [self.root / name / "events"]

    def grow(self, name: str) -> Path:
        with (self.root / name / "events").open("ab") as file:
            file.write(b"x")
        return self.root / name / "events"

    def look(self, names: list[str], rest: float = math.inf) -> None:
        for name in names:
            self.attention.looked(name, self.now, rest, stamp(self.files(name)))

    def due(self) -> list[str]:
        found = self.attention.due(self.now, self.files)
        self.look(found)
        return found


def test_an_announced_change_is_looked_at_in_the_next_tick(tmp_path: Path) -> None:
    """Also in a folder below the run's own; and once."""
    folder = Folder(tmp_path, 3)
    folder.attention.heed([folder.grow("r1"), tmp_path / "r2" / "control" / "receipts" / "000001.json"])
    assert folder.due() == ["r1", "r2"]
    assert folder.due() == []


def test_a_change_that_nobody_announces_is_found_on_the_round(tmp_path: Path) -> None:
    """A file system without announcements costs seconds, and no point."""
    folder = Folder(tmp_path, 7)
    folder.due()
    folder.grow("r4")
    found: list[str] = []
    while not found:
        folder.now += 0.5
        found = folder.due()
    assert found == ["r4"]
    assert folder.now <= ROUND_SECONDS + 0.5


def test_what_was_written_during_a_look_is_found(tmp_path: Path) -> None:
    """The stamp is from before the look: a write after the read but before the note of it is not lost."""
    folder = Folder(tmp_path, 1)
    seen = stamp(folder.files("r0"))
    folder.grow("r0")
    folder.attention.looked("r0", 0.0, math.inf, seen)
    folder.due()
    folder.now = ROUND_SECONDS + 0.5
    assert folder.due() == ["r0"]


def test_a_time_that_matters_is_kept(tmp_path: Path) -> None:
    """A run rests for as long as it said, and no longer."""
    folder = Folder(tmp_path, 2)
    folder.look(["r0"], rest=5.0)
    folder.now = 4.9
    assert folder.due() == []
    folder.now = 5.0
    assert folder.due() == ["r0"]


@settings(max_examples=40, deadline=None)
@given(events=st.lists(st.tuples(st.integers(0, 9), st.floats(0.1, 4.0)), min_size=1, max_size=30))
def test_no_unannounced_change_waits_longer_than_a_round(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, float]]
) -> None:
    """Whatever grows whenever: each is found within one round and a tick, and nothing else is looked at."""
    folder = Folder(tmp_path_factory.mktemp("attention"), 10)
    folder.due()
    waiting: dict[str, float] = {}
    for number, pause in [*events, *[(-1, 1.0)] * int(ROUND_SECONDS + 3)]:
        if number >= 0:
            waiting.setdefault(f"r{number}", folder.now)
            folder.grow(f"r{number}")
        folder.now += pause
        for name in folder.due():
            since = waiting.pop(name)
            assert folder.now - since <= ROUND_SECONDS + pause + 4.0
    assert not waiting


def test_announced_ticks_judge_as_ticks_that_look_at_everything(tmp_path: Path) -> None:
    """The same log, with ticks that are told what has changed and ticks that are not: the same decisions."""
    told, blind = Scene(tmp_path / "told", FakeClock(T0)), Scene(tmp_path / "blind", FakeClock(T0))
    values = [1, 60, 60, 60, 1, 1, 1, 1]
    for scene, announced in ((told, True), (blind, False)):
        for at, value in enumerate(values):
            for run in ("a", "b"):
                scene.log(curve([value], begin=at + 1), run=run)
            path = scene.logdir / "a" / "events.out.tfevents.1700000000.t"
            scene.clock.advance(0.5)
            scene.engine.tick(Changes(frozenset({path}), anew=at == 0) if announced else None)
        for _ in range(120):
            scene.clock.advance(1.0)
            scene.engine.tick(Changes() if announced else None)
    assert sorted(map(str, told.transitions())) == sorted(map(str, blind.transitions()))
    assert told.moves("silent"), "time passes for those that are not looked at, too"


def test_runs_that_are_over_cost_no_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten runs of last week: read once, and then left alone until something of theirs changes."""
    scene = Scene(tmp_path, FakeClock(T0 + 7 * 86_400))
    for number in range(10):
        scene.log(curve([1, 2, 3]), run=f"r{number}")
    for _ in range(8):
        scene.clock.advance(1.0)
        scene.engine.tick(Changes())
    looks: list[str] = []
    real = LiveRun.look

    def look(run: LiveRun, files: Sequence[Path], now: float, monotonic: float) -> bool:
        looks.append(run.name)
        return real(run, files, now, monotonic)

    monkeypatch.setattr(LiveRun, "look", look)
    for _ in range(60):
        scene.clock.advance(1.0)
        scene.engine.tick(Changes())
    assert looks == []
    path = scene.logdir / "r3" / "events.out.tfevents.1700000000.t"
    os.utime(path, (T0, T0))  # nobody announces it
    for _ in range(12):
        scene.clock.advance(1.0)
        scene.engine.tick(Changes())
    assert set(looks) == {"r3"}
