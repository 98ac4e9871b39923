"""Checkpoints of others: by name, at rest, whole; and then in the same catalogue as ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sentinel.checkpoints import newest_good
from sentinel.foreign import FOLDERS, ForeignCatalogue, Patterns, compiled
from tests.fakes import FakeClock
from tests.sentinel.test_formats import model, zipped

LONG_AGO = 1_600_000_000.0


def save(path: Path, content: bytes = b"", at: float = LONG_AGO) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content or zipped())
    os.utime(path, (at, at))
    return path


def catalogue(run: Path, clock: FakeClock, folders: tuple[str, ...] = FOLDERS) -> ForeignCatalogue:
    return ForeignCatalogue(run, Patterns(folders=folders), clock.wall, clock.monotonic)


def test_the_names_of_common_trainers_are_known(tmp_path: Path) -> None:
    """Steps from the name, wall time from the last change, in `checkpoints` or beside the event files."""
    save(tmp_path / "checkpoints" / "rl_model_4000_steps.zip")
    save(tmp_path / "checkpoints" / "epoch=3-step=900.ckpt", at=LONG_AGO + 5)
    model(tmp_path, 1200)
    for name in ("model.zip", "checkpoint-best", "rl_model_x_steps.zip", "epoch=1-step=5.ckpt.part"):
        save(tmp_path / name)
    clock = FakeClock(now=4e9)
    found = catalogue(tmp_path, clock).list()
    assert [(c.step, c.verified) for c in found] == [(900, True), (1200, True), (4000, True)]
    assert found[0].wall_time == LONG_AGO + 5
    best = newest_good(found, before_step=4000, suspect_intervals=[(LONG_AGO + 4, LONG_AGO + 6)])
    assert best is not None
    assert best.name == "checkpoint-1200"


def test_one_that_is_being_written_is_not_taken(tmp_path: Path) -> None:
    """However whole it looks; a few seconds without a change, by either clock, and it is."""
    clock = FakeClock()
    path = save(tmp_path / "checkpoint-5", at=clock.now)
    known = catalogue(tmp_path, clock)
    assert "may still be written" in known.list()[0].reason
    clock.advance(3)
    save(path, at=clock.now)
    clock.advance(3)
    assert not known.list()[0].verified, "it changed 3 s ago"
    clock.advance(3)
    assert known.list()[0].verified


def test_a_file_servers_clock_that_is_ahead_only_delays(tmp_path: Path) -> None:
    """Its time stamps lie in our future; that nothing changes while we look is evidence as well."""
    clock = FakeClock()
    save(tmp_path / "checkpoint-5", at=clock.now + 9999)
    known = catalogue(tmp_path, clock)
    assert not known.list()[0].verified
    clock.advance(6)
    assert known.list()[0].verified


def test_what_was_tested_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what changes is."""
    read: list[Path] = []

    def look(path: Path, step: int) -> str:
        read.append(path)
        assert step == 5
        return ""

    monkeypatch.setattr("sentinel.foreign.fault_of", look)
    path = save(tmp_path / "checkpoint-5")
    known = catalogue(tmp_path, FakeClock())
    known.list()
    known.list()
    assert read == [path]
    save(path, at=LONG_AGO + 1)
    known.list()
    assert len(read) == 2


def test_a_damaged_one_is_listed_with_the_reason(tmp_path: Path) -> None:
    """It is never a target, and people see why."""
    save(tmp_path / "checkpoint-5", zipped()[:-30])
    (found,) = catalogue(tmp_path, FakeClock()).list()
    assert not found.verified
    assert found.reason
    assert newest_good([found], before_step=10) is None


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link by a checkpoint's name would lead a resume anywhere."""
    save(tmp_path / "elsewhere")
    (tmp_path / "checkpoint-5").symlink_to(tmp_path / "elsewhere")
    assert catalogue(tmp_path, FakeClock()).list() == []


def test_folders_may_lie_beside_the_run(tmp_path: Path) -> None:
    """Hugging Face logs below the folder that it saves into."""
    (tmp_path / "runs" / "today").mkdir(parents=True)
    save(tmp_path / "checkpoint-5")
    assert [
        c.step for c in catalogue(tmp_path / "runs" / "today", FakeClock(), folders=("../..",)).list()
    ] == [5]


@pytest.mark.parametrize("pattern", ["model.pt", "{step}-{step}", "a/{step}", "{step", "{}{step}", "{step}}"])
def test_a_pattern_that_could_not_match_is_refused(pattern: str) -> None:
    """Each names what to write instead."""
    with pytest.raises(ValueError, match=r"step|folder"):
        compiled(pattern)


def test_a_pattern_is_text_but_for_its_fields() -> None:
    """Dots and brackets stand for themselves."""
    assert compiled("m.{step}[1]").fullmatch("m.12[1]")
    assert not compiled("m.{step}").fullmatch("mx12")
    assert not compiled("m.{step}").fullmatch("m.1²")
