"""Requests by hand: asked once, answered once, waited for no longer than was said."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from sentinel.errors import CommandError, StateError
from sentinel.inbox import Command, ask, drop, pending
from sentinel.lock import StateLock
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import Scene
from tests.sentinel.test_engine import curve, letters, register


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path, FakeClock(T0), act=True)
    register(scene.logdir / "a")
    scene.log(curve([1]))
    scene.tick(1.1)
    return scene


def test_a_request_becomes_one_letter_even_if_its_file_stays(scene: Scene) -> None:
    """A crash between the commit and the removal of the file must not ask twice."""
    name = drop(Command("a", "checkpoint", why="before the power cut"), scene.state)
    kept = (scene.state / "inbox" / name).read_bytes()
    scene.tick()
    (scene.state / "inbox" / name).write_bytes(kept)
    scene.start()
    scene.tick(1.1)
    (letter,) = letters(scene.logdir / "a")
    assert (letter["verb"], letter["reason"]) == ("checkpoint", "before the power cut")
    assert list((scene.state / "inbox").iterdir()) == []


def test_ids_go_on_where_a_deleted_state_had_stopped(scene: Scene) -> None:
    """An old receipt must not answer for a new command."""
    drop(Command("a", "checkpoint"), scene.state)
    scene.tick()
    scene.tick()
    scene.journal.close()
    (scene.state / "journal.sqlite").unlink()
    scene.start()
    scene.tick(1.1)
    drop(Command("a", "checkpoint"), scene.state)
    scene.tick()
    scene.tick()
    assert [letter["id"] for letter in letters(scene.logdir / "a")] == [1, 2]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Command("b", "checkpoint"), "no run 'b' is watched (there are: a)"),
        (Command("a", "rollback"), "no good checkpoint"),
        (Command("a", "rollback", "00-00000007"), "no verified checkpoint 00-00000007"),
    ],
)
def test_what_is_impossible_is_answered_with_the_reason(scene: Scene, request_: Command, words: str) -> None:
    """And nothing is asked of the trainer."""
    drop(request_, scene.state)
    scene.tick()
    (row,) = scene.journal.rows("SELECT outcome FROM requests")
    assert words in row["outcome"]
    assert letters(scene.logdir / "a") == []


def test_whoever_asks_waits_for_the_outcome(scene: Scene) -> None:
    """Done is 0; the wait has an end."""
    lock = StateLock(scene.state)
    out = io.StringIO()

    class Ticking(FakeClock):
        def rest(self, seconds: float) -> None:
            super().rest(seconds)
            scene.tick(seconds)
            if letters(scene.logdir / "a"):
                receipts = scene.logdir / "a" / "control" / "receipts"
                receipts.mkdir(exist_ok=True)
                receipt = {"id": 1, "status": "done", "step": 120, "checkpoint": "c", "checkpoint_step": 120}
                (receipts / "000001.json").write_text(json.dumps(receipt))

    assert ask(Command("a", "checkpoint"), scene.logdir, scene.state, 30, Ticking(), out) == 0
    assert "command 1 checkpoint done at step 120, checkpoint c (step 120)" in out.getvalue()
    assert ask(Command("a", "checkpoint"), scene.logdir, scene.state, 1, FakeClock(), out) == 1
    assert "the request stands" in out.getvalue()
    lock.release()
    with pytest.raises(CommandError, match="nothing was asked"):
        ask(Command("a", "checkpoint"), scene.logdir, scene.state, 1, FakeClock(), out)


def test_a_folder_that_cannot_be_written_is_an_error_of_the_state(tmp_path: Path) -> None:
    """Nothing was asked, and that is said."""
    with pytest.raises(StateError, match="the request was not made"):
        drop(Command("a", "checkpoint"), tmp_path / "nowhere")
    assert pending(tmp_path / "nowhere") == []
