"""Where a run may go back to: a whole checkpoint, of its own line, from before the trouble."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel import checkpoints as checkpoints_module
from sentinel.checkpoints import Catalogue, Checkpoint, newest_good, on_descent

WEIGHTS = b"weights" * 1000


def save(run: Path, attempt: int, step: int, /, **changes: Any) -> Path:
    """Write a checkpoint as a trainer does, without its ceremony; `changes` are the manifest's."""
    folder = run / "checkpoints" / f"{attempt:02d}-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "agent.pt").write_bytes(WEIGHTS)
    entries = {"agent.pt": {"bytes": len(WEIGHTS), "sha256": hashlib.sha256(WEIGHTS).hexdigest()}}
    manifest = {"version": 1, "step": step, "attempt": attempt, "wall_time": 1000.0 + step, "files": entries}
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))
    return folder


def only(run: Path) -> Checkpoint:
    (found,) = Catalogue(run / "checkpoints").list()
    return found


def test_a_whole_checkpoint_is_verified(tmp_path: Path) -> None:
    """Name, step, attempt, time and size come from the manifest, the verdict from the bytes."""
    folder = save(tmp_path, 1, 500)
    assert only(tmp_path) == Checkpoint(
        "01-00000500", 500, 1, 1500.0, folder, verified=True, size=len(WEIGHTS)
    )


def test_every_way_of_being_torn_is_seen(tmp_path: Path) -> None:
    """Cut at any length, or one byte turned: it is not verified, and the reason names the file."""
    folder = save(tmp_path, 0, 100)
    for length in (0, 1, len(WEIGHTS) - 1):
        (folder / "agent.pt").write_bytes(WEIGHTS[:length])
        found = only(tmp_path)
        assert not found.verified
        assert found.reason == f"agent.pt has {length} of {len(WEIGHTS)} bytes"
    (folder / "agent.pt").write_bytes(b"W" + WEIGHTS[1:])
    assert only(tmp_path).reason == "agent.pt has other content than it was written with"
    (folder / "agent.pt").unlink()
    assert only(tmp_path).reason.startswith("agent.pt: No such file")


@given(cut=st.integers(0, 400))
def test_a_manifest_cut_anywhere_verifies_nothing(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """The folder's name still says what it would have been, so that its absence can be told."""
    run = tmp_path_factory.mktemp("run")
    manifest = save(run, 2, 300) / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[: min(cut, len(whole) - 1)])
    found = only(run)
    assert (found.verified, found.attempt, found.step) == (False, 2, 300)
    assert "manifest.json" in found.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"step": -1},
        {"step": "100"},
        {"step": True},
        {"files": {}},
        {"files": ["agent.pt"]},
        {"files": {"agent.pt": {"bytes": -1, "sha256": ""}}},
        {"files": {"agent.pt": {"bytes": 1}}},
        {"files": {"agent.pt": None}},
        {"wall_time": None},
    ],
)
def test_a_manifest_of_another_kind_verifies_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    """What is not understood is not good; an empty list of files proves nothing."""
    save(tmp_path, 0, 100, **changes)
    assert not only(tmp_path).verified
    assert "manifest.json" in only(tmp_path).reason


@pytest.mark.parametrize("name", ["../../../secret", "/etc/hostname", "../../../../x"])
def test_a_manifest_cannot_point_outside_of_the_run(tmp_path: Path, name: str) -> None:
    """Reading a checkpoint must not become reading anything."""
    entry = {name: {"bytes": 1, "sha256": hashlib.sha256(b"s").hexdigest()}}
    run = tmp_path / "run"
    save(run, 0, 100, files=entry)
    (tmp_path / "secret").write_bytes(b"s")
    assert only(run).reason == f"{name} lies outside of the run"


def test_what_is_still_being_written_is_not_listed(tmp_path: Path) -> None:
    """A trainer writes into a hidden folder and renames it; folders of other names are not checkpoints."""
    save(tmp_path, 0, 100)
    (tmp_path / "checkpoints/.tmp-00-00000200").mkdir()
    (tmp_path / "checkpoints/best").mkdir()
    (tmp_path / "checkpoints/notes.txt").touch()
    assert [found.step for found in Catalogue(tmp_path / "checkpoints").list()] == [100]
    assert Catalogue(tmp_path / "nowhere").list() == []


def test_checkpoints_share_a_file_that_grows(tmp_path: Path) -> None:
    """A replay buffer is appended to: a checkpoint vouches for the bytes it knew."""
    replay, content = tmp_path / "replay/000.bin", b""
    replay.parent.mkdir(parents=True)
    for step in (100, 200, 300):
        content += os.urandom(5000)
        replay.write_bytes(content)
        entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest = save(tmp_path, 0, step) / "manifest.json"
        record = json.loads(manifest.read_text())
        record["files"]["../../replay/000.bin"] = entry
        manifest.write_text(json.dumps(record))
    catalogue = Catalogue(tmp_path / "checkpoints")
    assert [found.verified for found in catalogue.list()] == [True, True, True]
    damaged = content[:7000] + b"?" + content[7001:]
    replay.write_bytes(damaged + b"more")
    assert [found.verified for found in catalogue.list()] == [True, False, False]


def test_an_unchanged_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking again costs a stat; a file that changed is hashed again, and it alone."""
    for step in (100, 200, 300):
        save(tmp_path, 0, step)
    hashed: list[Path] = []
    real = checkpoints_module._sha256

    def counting(path: Path, lengths: Any) -> dict[int, str]:
        hashed.append(path)
        return real(path, lengths)

    monkeypatch.setattr(checkpoints_module, "_sha256", counting)
    catalogue = Catalogue(tmp_path / "checkpoints")
    for _ in range(3):
        assert all(found.verified for found in catalogue.list())
    assert len(hashed) == 3
    changed = tmp_path / "checkpoints/00-00000200/agent.pt"
    changed.write_bytes(b"W" + WEIGHTS[1:])
    os.utime(changed, ns=(1, 1))
    assert [found.verified for found in catalogue.list()] == [True, False, True]
    assert hashed[3:] == [changed]


# ── the choice ──


def at(step: int, attempt: int = 0, wall: float | None = None, *, verified: bool = True) -> Checkpoint:
    name = f"{attempt:02d}-{step:08d}"
    return Checkpoint(
        name, step, attempt, float(step if wall is None else wall), Path(name), verified=verified
    )


def test_the_newest_before_the_onset_is_chosen() -> None:
    """Strictly before: a checkpoint at the onset's own step holds the first bad update."""
    kept = [at(step) for step in range(0, 1500, 100)]
    chosen = newest_good(kept, 1300)
    assert chosen is not None
    assert chosen.step == 1200
    assert newest_good(kept, 0) is None
    older = newest_good(kept, 1300, older_than=1200)
    assert older is not None
    assert older.step == 1100


def test_a_torn_or_suspect_checkpoint_is_passed_over() -> None:
    """Not verified, or written while a critical rule was pending or firing: the one before it is taken."""
    kept = [at(100), at(200), at(300, verified=False), at(400)]
    assert newest_good(kept, 1000, [(350, None)]) == at(200)
    assert newest_good(kept, 1000, [(150, 450)]) == at(100)
    assert newest_good(kept, 1000, [(401, None)]) == at(400)
    assert newest_good(kept, 1000, [(0, None)]) is None


def test_an_abandoned_branch_is_no_past_of_this_run() -> None:
    """After a rollback to 200, what was written at 300 before it leads to where the trouble was."""
    kept = [at(100), at(200), at(300), at(400), at(250, attempt=1, wall=500), at(350, attempt=1, wall=600)]
    assert on_descent(kept, [(200, 450.0)]) == [kept[0], kept[1], kept[4], kept[5]]
    assert on_descent(kept, [(200, 450.0), (100, 700.0)]) == [at(100)]
    assert on_descent(kept, [(100, 700.0), (200, 450.0)]) == [at(100)]
    assert on_descent(kept, []) == kept


def test_attempts_may_be_counted_differently() -> None:
    """A trainer that died before its first point counts an attempt of which the sentinel knows nothing."""
    kept = [at(200, attempt=4, wall=100), at(300, attempt=4, wall=150), at(300, attempt=4, wall=500)]
    assert on_descent(kept, [(200, 450.0)]) == [kept[0], kept[2]]


@given(
    kept=st.lists(
        st.builds(at, st.integers(0, 50), st.integers(0, 4), st.floats(0, 100), verified=st.booleans())
    ),
    before=st.integers(0, 60),
    suspects=st.lists(st.tuples(st.floats(0, 100), st.none() | st.floats(0, 100)), max_size=3),
    rewinds=st.lists(st.tuples(st.integers(0, 50), st.floats(0, 100)), max_size=4),
    older=st.none() | st.integers(0, 50),
)
def test_the_choice_is_good_and_no_better_one_exists(
    kept: list[Checkpoint],
    before: int,
    suspects: list[tuple[float, float | None]],
    rewinds: list[tuple[int, float]],
    older: int | None,
) -> None:
    """Whatever the history, the chosen one satisfies every condition, and each newer one breaks one."""

    def good(c: Checkpoint) -> bool:
        on_line = not any(c.wall_time <= wall and c.step > step for step, wall in rewinds)
        trusted = not any(a <= c.wall_time <= (b if b is not None else 1e9) for a, b in suspects)
        return c.verified and c.step < before and (older is None or c.step < older) and on_line and trusted

    chosen = newest_good(on_descent(kept, rewinds), before, suspects, older)
    if chosen is None:
        assert not any(good(c) for c in kept)
    else:
        assert good(chosen)
        assert all(c.step <= chosen.step for c in kept if good(c))
