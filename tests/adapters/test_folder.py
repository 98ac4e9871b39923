"""What an adapter writes is what the sentinel verifies; what is damaged or foreign is never gone back to."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.adapters import folder
from sentinel.checkpoints import Catalogue
from sentinel.guard import Command


def put(where: Path, step: int, attempt: int = 0, keep: int = 20) -> folder.Saved:
    """A checkpoint of one file in a folder of its own."""

    def fill(path: Path) -> None:
        (path / "sub").mkdir()
        (path / "sub" / "weights").write_text(f"weights of step {step}")

    return folder.write(where, step, attempt, fill, {"lr": 0.5}, keep)


def back(name: str | None = None, step: int | None = None) -> Command:
    return Command(1, "rollback", to_checkpoint=name, to_step=step)


def test_the_sentinel_verifies_what_was_written(tmp_path: Path) -> None:
    """Name, step, attempt and every file; the parameters of then come back too."""
    put(tmp_path, 1200, attempt=3)
    (found,) = Catalogue(tmp_path).list()
    assert (found.name, found.step, found.attempt, found.verified) == ("03-00001200", 1200, 3, True)
    assert folder.find(tmp_path, back("03-00001200")).values == {"lr": 0.5}


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Neither half a checkpoint nor what was begun."""

    def fail(path: Path) -> None:
        (path / "half").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        folder.write(tmp_path, 1, 0, fail)
    assert not list(tmp_path.iterdir())


def test_the_newest_and_the_very_first_stay(tmp_path: Path) -> None:
    """The first is the last way back."""
    for step in range(0, 60, 10):
        put(tmp_path, step, keep=2)
    assert [c.step for c in Catalogue(tmp_path).list()] == [0, 40, 50]


def test_a_step_stands_for_the_newest_checkpoint_at_or_before_it(tmp_path: Path) -> None:
    """Of two attempts at one step the later one; before the first there is none."""
    for step, attempt in ((10, 0), (20, 0), (20, 1), (30, 0)):
        put(tmp_path, step, attempt)
    assert folder.find(tmp_path, back(step=29)).path.name == "01-00000020"
    with pytest.raises(ValueError, match="no checkpoint at or before step 9"):
        folder.find(tmp_path, back(step=9))


@pytest.mark.parametrize("damage", ["changed", "gone", "manifest"])
def test_a_damaged_checkpoint_is_not_gone_back_to(tmp_path: Path, damage: str) -> None:
    """The message names the checkpoint."""
    saved = put(tmp_path, 10)
    weights = saved.path / "sub" / "weights"
    if damage == "changed":
        weights.write_text("weights of step 11")
    elif damage == "gone":
        weights.unlink()
    else:
        (saved.path / folder.MANIFEST).write_text("{}")
    with pytest.raises(ValueError, match="00-00000010"):
        folder.find(tmp_path, back(saved.path.name))


KEYS = st.sampled_from(["step", "attempt", "files", "values", "sha256"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["step", "attempt", "files", "a"]), inner)
    ),
)


@given(content=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_manifest_whatever_it_says_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """A foreign one is refused with a ValueError, and passed over where checkpoints are counted."""
    where = tmp_path_factory.mktemp("foreign")
    good = put(where, 10)
    (where / "foreign").mkdir()
    (where / "foreign" / folder.MANIFEST).write_bytes(content)
    with contextlib.suppress(ValueError):
        folder.find(where, back("foreign"))
    assert good.path in {saved.path for saved in folder.everything(where)}
    folder.prune(where, 5)
