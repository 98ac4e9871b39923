"""A checkpoint is whole or not there, and who resumes from it is the run that never stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer import checkpoint as checkpoints
from trainer.__main__ import main
from trainer.checkpoint import CheckpointError
from trainer.loop import Trainer
from trainer.replay import Segment

SMALL = [
    "--start_timesteps",
    "30",
    "--batch_size",
    "8",
    "--hidden",
    "16",
    "--feature_dim",
    "8",
    "--log_interval",
    "10",
]
SMALL += ["--eval_freq", "25", "--eval_episodes", "1", "--checkpoint_interval", "20", "--seed", "3"]
KINDS = {
    "driving": [*SMALL, "--preset", "incident", "--npcs", "5"],
    "image": [*SMALL, "--preset", "incident", "--observation", "image", "--image_size", "48"],
    "bf16": [*SMALL, "--preset", "incident", "--npcs", "5", "--bf16"],
    "pendulum": [*SMALL, "--env", "Pendulum-v1"],
    "wrapped": [*SMALL, "--preset", "incident", "--replay_size", "24"],
}
FRESH = ("driving", "image")
"""The kinds whose resume is made by a process of its own; the others' by a new trainer in this one."""


def write(folder: Path, *, attempt: int = 0, step: int = 100, state: Any = None) -> str:
    return checkpoints.write(
        folder / "checkpoints",
        attempt=attempt,
        step=step,
        wall_time=1.0,
        state=state if state is not None else {"step": step},
        segments=[],
        replay_folder=folder / "replay",
        why="interval",
    )


def end_state(run: Path, name: str) -> str:
    """Digest of all that training depends on in the checkpoint `name`; how the run came there is not."""
    state = checkpoints.read(run / "checkpoints" / name).state
    del state["lineage"]
    return checkpoints.digest(state)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_goes_on_bit_for_bit(kind: str, tmp_path: Path) -> None:
    """Resumed in warm-up (20) and in mid-episode of learning (60), step 75 is the same to the last bit."""
    whole = tmp_path / "whole"
    assert main([*KINDS[kind], "--max_timesteps", "75", "--logdir", str(whole)]) == 0
    expected = end_state(whole, "00-00000075")
    for step in (20, 60):
        run = tmp_path / f"from{step}"
        shutil.copytree(whole, run)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "trainer", "--logdir", str(run), "--resume", f"00-{step:08d}"]
        if step == 60 and kind in FRESH:  # proof enough of independence, the others save the start-up
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        else:
            assert main(command[3:]) == 0
        assert end_state(run, "01-00000075") == expected


def test_the_same_seed_is_the_same_run(tmp_path: Path) -> None:
    """Two runs of one seed agree bit for bit, another seed does not."""
    digests = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        arguments = [
            *KINDS["driving"],
            "--max_timesteps",
            "50",
            "--logdir",
            str(tmp_path / name),
            "--seed",
            seed,
        ]
        assert main(arguments) == 0
        digests.append(end_state(tmp_path / name, "00-00000050"))
    assert digests[0] == digests[1] != digests[2]


def test_a_resume_that_changes_something_says_so_in_its_parameters(tmp_path: Path) -> None:
    """Flags given with --resume beat the checkpoint's hyperparameters; all others stay the checkpoint's."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert main([*KINDS["driving"], "--max_timesteps", "40", "--logdir", str(first), "--tau", "0.25"]) == 0
    path = first / "checkpoints" / "00-00000020"
    resumed = ["--resume", str(path), "--logdir", str(second), "--q_features", "critic", "--reinit", "actor"]
    assert main(resumed) == 0
    state = checkpoints.read(second / "checkpoints" / "00-00000040").state
    assert state["parameters"]["q_features"] == "critic"
    assert state["parameters"]["tau"] == 0.25
    assert not checkpoints.verify(second / "checkpoints" / "00-00000040")


def test_resume_latest_takes_the_newest_whole_one(tmp_path: Path) -> None:
    """A damaged newest checkpoint is passed over, not believed."""
    for step in (100, 200, 300):
        write(tmp_path, step=step)
    folder = tmp_path / "checkpoints"
    (folder / "00-00000300" / checkpoints.STATE).write_bytes(b"torn")
    (folder / ".tmp-00-00000400").mkdir()
    assert checkpoints.find(folder, "latest").name == "00-00000200"
    with pytest.raises(CheckpointError, match="no checkpoint '00-00000999'"):
        checkpoints.find(folder, "00-00000999")


def test_every_changed_byte_is_seen(tmp_path: Path) -> None:
    """verify() names the file that is short, changed or gone; a segment that grew since is whole."""
    (tmp_path / "replay").mkdir()
    rows = tmp_path / "replay" / "00-0000000000.rows"
    rows.write_bytes(b"0123456789")
    segment = Segment(rows.name, 0, 6, checkpoints.hashlib.sha256(b"012345").hexdigest())
    name = checkpoints.write(
        tmp_path / "checkpoints",
        attempt=0,
        step=1,
        wall_time=0.0,
        state={"x": torch.arange(3)},
        segments=[segment],
        replay_folder=tmp_path / "replay",
        why="interval",
    )
    path = tmp_path / "checkpoints" / name
    assert checkpoints.verify(path) == []
    assert checkpoints.read(path).segments == (segment,)
    for file in (path / checkpoints.STATE, rows):
        content = file.read_bytes()
        for harmed in (content[:5], bytes([content[0] ^ 1]) + content[1:], None):
            file.unlink()
            if harmed is not None:
                file.write_bytes(harmed)
            assert any(file.name in problem for problem in checkpoints.verify(path))
            with pytest.raises(CheckpointError, match=name):
                checkpoints.read(path)
        file.write_bytes(content)
    (path / checkpoints.MANIFEST).write_text("{", encoding="utf-8")
    assert "not JSON" in checkpoints.verify(path)[0]


def test_a_full_disk_leaves_no_checkpoint_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the state cannot be written, nothing of that name is there and the error is the disk's."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_checkpoint_is_data_and_runs_no_code(tmp_path: Path) -> None:
    """A state file with a pickled call is refused by the reader, whatever its checksum says."""

    class Call:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "pwned"),))

    name = write(tmp_path)
    path = tmp_path / "checkpoints" / name
    torch.save({"x": Call()}, path / checkpoints.STATE)
    manifest = json.loads((path / checkpoints.MANIFEST).read_text(encoding="utf-8"))
    manifest["files"][checkpoints.STATE] = checkpoints._measure(path / checkpoints.STATE)
    (path / checkpoints.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(Exception, match=r"(?i)weights"):
        checkpoints.read(path)
    assert not (tmp_path / "pwned").exists()


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**130), 2**130)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_plain_data_survives_the_trip(value: Any) -> None:
    """What is packed for torch's safe reader comes back equal, 128-bit integers of generators too."""
    assert checkpoints._unpack(checkpoints._pack(value)) == value


def test_arrays_survive_the_trip_with_their_type() -> None:
    """uint32 of a Mersenne twister, bool masks and empty arrays keep type and shape."""
    for array in (np.arange(3, dtype=np.uint32), np.zeros((2, 0), np.bool_), np.float64(1.5)):
        back = checkpoints._unpack(checkpoints._pack({"x": array}))["x"]
        assert np.array_equal(back, array)
        assert np.asarray(back).dtype == array.dtype


LINEAGES = st.sampled_from([[(0, 1 << 62)], [(0, 1200), (1, 1 << 62)], [(0, 1200), (2, 800), (3, 1 << 62)]])


@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), unique=True, max_size=80),
    lineage=LINEAGES,
    keep=st.integers(1, 20),
)
def test_pruning_never_takes_what_a_rollback_may_need(
    steps: list[tuple[int, int]], lineage: list[tuple[int, int]], keep: int
) -> None:
    """The newest of the line, its oldest, and one in each 1000 steps stay; how many stay is bounded."""
    present = [checkpoints.name_of(attempt, step * 100) for attempt, step in steps]
    doomed = checkpoints.to_delete(present, lineage, keep=keep, spacing=1000)
    last_of = dict(lineage)
    line = sorted((s * 100, a) for a, s in steps if s * 100 <= last_of.get(a, -1))
    kept = [(s, a) for s, a in line if checkpoints.name_of(a, s) not in doomed]
    assert kept[-keep:] == line[-keep:]
    assert kept[:1] == line[:1]
    assert {s // 1000 for s, _ in kept} == {s // 1000 for s, _ in line}
    assert len(present) - len(doomed) <= keep + 7 + 5


def test_a_checkpoint_of_another_network_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """--hidden 32 cannot go on from --hidden 16: exit code 4, and the words say why."""
    run, other = tmp_path / "run", tmp_path / "other"
    assert main([*KINDS["driving"], "--max_timesteps", "20", "--logdir", str(run)]) == 0
    path = str(run / "checkpoints" / "00-00000020")
    assert main(["--resume", path, "--logdir", str(other), "--hidden", "32"]) == 4
    assert not (other / "checkpoints").exists()


def test_an_environment_that_hides_its_state_begins_a_new_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A physics engine cannot be read: the resumed run says so and goes on with a fresh episode."""
    from trainer import config, envs

    monkeypatch.setattr(envs, "snapshot", lambda _env: None)
    run = tmp_path / "run"
    assert main([*KINDS["pendulum"], "--max_timesteps", "40", "--logdir", str(run)]) == 0
    asked = config.from_arguments(["--resume", "00-00000020", "--logdir", str(run)])
    trainer = Trainer(asked.config, say=lambda _: None)
    assert trainer.episode.length == 0
    assert "cannot be saved in mid-episode" in capsys.readouterr().err
    assert trainer.run() == "finished"
    assert dataclasses.asdict(trainer.config)["env"] == "Pendulum-v1"


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_killed_at_any_line_of_a_save_no_checkpoint_verifies_and_is_wrong(every: int, tmp_path: Path) -> None:
    """SIGKILL between any two lines: what verifies holds what was saved, rows of the replay included."""
    command = [sys.executable, "-m", "tests.trainer.kill_in_save", str(tmp_path), str(every)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60 // every
