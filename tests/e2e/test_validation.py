"""The report's validation runs as a person starts them: trainer, sentinel and gates as real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.validation import free_folder

ROOT = Path(__file__).parents[2]
STATE = ["--observation", "state", "--encoder", "mlp", "--npcs", "0"]  # a tenth of the time of images


@pytest.mark.parametrize(
    ("preset", "code"), [pytest.param("healthy", 0, marks=pytest.mark.slow), ("incident", 1)]
)
def test_a_healthy_run_passes_and_the_incident_is_ended(preset: str, code: int, tmp_path: Path) -> None:
    """The exit code is the gate's; the sick run is ended by a letter where the gate has failed."""
    command = [sys.executable, "-m", "examples.validation", "2000", "--logdir", str(tmp_path), "--seed", "1"]
    done = subprocess.run(
        [*command, "--preset", preset, *STATE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    if preset == "healthy":
        assert "validation-2k · gate validation-2k passed" in done.stderr
        assert "all 5 requirements hold at step 2000" in done.stdout
    else:
        assert "gate validation-2k failed" in done.stderr
        assert "td3/actor_exploits_critic" in done.stdout
        assert "trainer: terminated at step" in done.stdout


def test_no_run_is_written_over(tmp_path: Path) -> None:
    """A second validation goes into a folder of its own, whatever else is there."""
    for name in ("validation-2k", "validation-2k-2", "validation-2k-4"):
        assert free_folder(tmp_path, 2000).name in (name, "validation-2k-3")
        (tmp_path / name).mkdir()
    assert free_folder(tmp_path, 2000).name == "validation-2k-3"
    assert free_folder(tmp_path, 5000).name == "validation-5k"
