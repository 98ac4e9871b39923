"""Each example as its header says: it falls ill, `sentinel run --act` takes it back, and it ends healthy."""

from __future__ import annotations

import importlib.util
import re
import sys

import pytest

from tests.e2e.scene import Scene, scene, until

__all__ = ["scene"]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("library", "example"),
    [
        ("transformers", "examples.huggingface_line"),
        ("lightning", "examples.lightning_line"),
        ("keras", "examples.keras_line"),
    ],
)
def test_an_infinite_loss_is_taken_back_and_cured(scene: Scene, library: str, example: str) -> None:
    """Rollback in the same process to before the onset, half the rate, and on to the last step."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"`make test-adapters` installs {library}")
    scene.environment["KERAS_BACKEND"] = "torch"
    scene.config.write_text('version = 1\ninclude = ["pack:generic"]\n', encoding="utf-8")
    whole = scene.start(
        *("-m", "sentinel", "run", "--act", "-c", str(scene.config), "--state", str(scene.state)),
        *(str(scene.logdir), "--", sys.executable, "-m", example, str(scene.logdir / "line")),
        log="sentinel.log",
    )
    until(lambda: whole.poll() is not None, "the run is over", 110)
    said = scene.said("sentinel.log")
    assert whole.returncode == 0, said
    commands = [(row["verb"], row["state"]) for row in scene.rows("SELECT verb, state FROM commands")]
    assert commands == [("rollback", "done")], said
    end = re.search(r"line: step (\d+), rate (\S+), weight (\S+)", said)
    assert end is not None, said
    assert (end[1], end[2], float(end[3])) == ("600", "0.05", pytest.approx(3, abs=0.01)), said
