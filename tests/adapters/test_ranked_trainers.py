"""The callbacks in jobs of two gloo ranks under torchrun: all ranks save, go back and end together."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapters.letters import Script
from tests.adapters.test_ddp import torchrun, wait_for, wait_for_step

__all__ = ["torchrun"]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("library", "checkpoint"), [("transformers", "checkpoint-20"), ("lightning", "00-00000020")]
)
def test_both_ranks_go_back_and_end_together(
    tmp_path: Path, torchrun: Callable[..., subprocess.Popen[str]], library: str, checkpoint: str
) -> None:
    """A rollback with a remedy, a refused one, and terminate: replicas are equal to the last bit."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"`make test-adapters` installs {library}")
    script = Script(tmp_path / "run")
    kind = "huggingface" if library == "transformers" else library
    job = torchrun(kind, str(tmp_path / "run"), module="tests.adapters.ranked_trainer")
    wait_for_step(script, 30)
    script.send(verb="rollback", to_checkpoint=checkpoint, set={"learning_rate": "x0.5"})
    assert wait_for(script, 1) == "done", script.receipt(1)
    script.send(verb="rollback", to_checkpoint="nowhere")
    assert wait_for(script, 2) == "refused"
    script.send(verb="terminate")
    said, _ = job.communicate(timeout=60)
    assert job.returncode == 0, said
    ends = re.findall(r"rank: step (\d+), rate (\S+), weight (\S+)", said)
    assert len(ends) == 2, said
    assert ends[0] == ends[1]
    assert ends[0][:2] == (str(script.done(3).checkpoint_step), "0.005"), said
    assert script.trainer()["outcome"] == "terminated"
    assert all(c.verified for c in script.checkpoints().values()), script.checkpoints()
