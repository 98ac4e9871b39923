"""What may not be read or written: by a user without rights, since root may do anything."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.e2e.scene import Scene, stop, until
from tests.e2e.test_disk import told
from tests.e2e.unprivileged import NOBODY

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")


@pytest.fixture
def theirs(scene: Scene) -> Scene:
    """The scene's folders, open to a user who owns nothing but them."""
    open_to_all = Path(tempfile.gettempdir())
    if open_to_all not in scene.folder.parents:
        pytest.skip("the tests' folder is not below the machine's own for temporary files")
    for folder in (scene.folder, *scene.folder.parents):
        if folder == open_to_all:
            break
        folder.chmod(folder.stat().st_mode | 0o011)
    for path in (scene.folder, scene.logdir):
        os.chown(path, NOBODY, NOBODY)
    scene.environment["HOME"] = str(scene.folder)
    return scene


def sentinel(scene: Scene, *flags: str) -> subprocess.Popen[bytes]:
    options = ("-c", str(scene.config), "--state", str(scene.state), *flags, str(scene.logdir))
    return scene.start("-m", "tests.e2e.unprivileged", "sentinel", "run", *options, log="sentinel.log")


def job(scene: Scene, *flags: str) -> subprocess.Popen[bytes]:
    return scene.start("-m", "tests.e2e.unprivileged", "job", str(scene.logdir / "a"), *flags, log="job.log")


def test_a_state_folder_that_may_not_be_written_is_an_error_before_anything(theirs: Scene) -> None:
    """Exit code 4, with the reason; training is not touched."""
    theirs.state.mkdir(mode=0o755)  # root's
    assert sentinel(theirs).wait(30) == 4
    assert "cannot be opened (Permission denied)" in theirs.said("sentinel.log")


def test_a_run_that_may_not_be_read_is_told_and_others_go_on(theirs: Scene) -> None:
    """An event file of somebody else's: that it is blind there is said once; once readable it is judged."""
    one = job(theirs, "--end", "20")
    assert one.wait(30) == 0, theirs.said("job.log")
    closed = next((theirs.logdir / "a").glob("*tfevents*"))
    os.chown(closed, 0, 0)
    closed.chmod(0o600)
    process = sentinel(theirs)
    until(lambda: "cannot be read" in told(theirs), "it says that it is blind")
    assert process.poll() is None
    closed.chmod(0o644)
    until(lambda: theirs.rows("SELECT 1 FROM runs WHERE last_step = 20"), "it is read after all")
    assert stop(process) == 0


@pytest.mark.slow
def test_a_control_folder_that_takes_no_letter_is_tried_again(theirs: Scene) -> None:
    """A letter that cannot be written is no letter that was ignored: with rights back it arrives, once."""
    process = sentinel(theirs)
    running = job(theirs, "--diverge-at", "40", "--end", "60", "--hold")
    letters = theirs.logdir / "a" / "control" / "commands"
    until(letters.is_dir, "the guard has made it")
    os.chown(letters, 0, 0)
    until(lambda: theirs.rows("SELECT 1 FROM commands"), "something is asked")
    pause = time.monotonic()
    until(lambda: time.monotonic() - pause > 1.0, "it is tried in vain")
    assert theirs.effects() == []
    assert process.poll() is None
    os.chown(letters, NOBODY, NOBODY)
    until(lambda: any(verb == "rollback" for _, verb, _ in theirs.effects()), "the letter arrives")
    (theirs.logdir / "a" / "go").touch()
    assert running.wait(60) == 0
    assert [verb for _, verb, _ in theirs.effects()] == ["checkpoint", "rollback"]
    assert stop(process) == 0


def test_a_checkpoint_that_cannot_be_read_is_no_target(theirs: Scene) -> None:
    """What cannot be verified is not trusted: the rollback goes to an older one."""
    running = job(theirs, "--diverge-at", "45", "--end", "60", "--hold", "--pace", "0.05")
    newest = theirs.logdir / "a" / "checkpoints" / "00-00000040" / "state.json"
    until(newest.exists, "the newest good one")
    os.chown(newest, 0, 0)
    newest.chmod(0o600)
    process = sentinel(theirs)
    until(lambda: any(verb == "rollback" for _, verb, _ in theirs.effects()), "it is brought back")
    assert theirs.effects()[-1][2] == "00-00000030"
    (theirs.logdir / "a" / "go").touch()
    assert running.wait(60) == 0
    assert stop(process) == 0


def test_a_letter_of_another_user_is_refused(theirs: Scene) -> None:
    """Root's letter in nobody's folder: the guard obeys its own user alone, and says so in a receipt."""
    running = job(theirs, "--end", "1000", "--pace", "0.02")
    letters = theirs.logdir / "a" / "control" / "commands"
    until(letters.is_dir, "the guard has made it")
    assert (letters.parent.stat().st_mode & 0o777) == 0o700, "nobody else may put a letter there"
    letter = '{"id": 1, "verb": "terminate", "if_attempt": 0, "expires_at": 9e9, "reason": ""}'
    (letters / "000001.json").write_text(letter)
    receipt = letters.parent / "receipts" / "000001.json"
    until(receipt.exists, "it is answered")
    until(lambda: "its owner is uid 0" in receipt.read_text(), "with the reason")
    assert running.poll() is None
    assert theirs.effects() == []
