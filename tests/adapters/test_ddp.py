"""Two gloo ranks under torchrun: one reads, both obey at the same step, and what one cannot do none does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.adapters.letters import Script
from tests.e2e.scene import ROOT, Scene, scene, until

pytest.importorskip("torch")

__all__ = ["scene"]

LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
EXAMPLE = "examples.ddp_loop"


@pytest.fixture
def torchrun(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the example under torchrun; killed, ranks and all, when the test ends."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str, module: str = EXAMPLE) -> subprocess.Popen[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, *LAUNCH, module, *options],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()  # torchrun ends its ranks
        process.communicate(timeout=30)


def wait_for_step(script: Script, step: int) -> None:
    def there() -> bool:
        return (script.control / "heartbeat.json").exists() and script.beat()["step"] >= step

    until(there, f"step {step}")


def wait_for(script: Script, number: int) -> str:
    def settled() -> str:
        receipt = script.receipt(number)
        return receipt.status if receipt is not None and receipt.status != "accepted" else ""

    return until(settled, f"the outcome of command {number}")


def test_all_ranks_obey_at_one_step(tmp_path: Path, torchrun: Callable[..., subprocess.Popen[str]]) -> None:
    """Checkpoint, rollback with a remedy, a refused rollback, and terminate: both ranks end alike."""
    script = Script(tmp_path)
    job = torchrun(str(tmp_path), "--steps", "100000", "--lr", "0.05", "--pause", "0.002")
    wait_for_step(script, 120)
    script.send(verb="checkpoint")
    assert wait_for(script, 1) == "done"
    name = script.done(1).checkpoint
    assert script.checkpoints()[str(name)].verified
    script.send(verb="rollback", to_checkpoint=name, set={"lr": "x0.5"})
    assert wait_for(script, 2) == "done"
    assert (script.trainer()["attempt"], script.trainer()["parameters"]["lr"]["value"]) == (1, 0.025)
    (script.checkpoints()["00-00000050"].path / "state.pt").write_bytes(b"torn")
    script.send(verb="rollback", to_checkpoint="00-00000050")
    assert wait_for(script, 3) == "refused"
    receipt = script.receipt(3)
    assert receipt is not None
    assert "rank 0" in receipt.reason
    assert "rank 1" in receipt.reason
    script.send(verb="terminate")
    said, _ = job.communicate(timeout=60)
    assert job.returncode == 0, said
    ends = re.findall(r"rank \d: terminated at step (\d+), lr 0.025, weight (\S+)", said)
    assert len(ends) == 2, said
    assert ends[0] == ends[1], "the replicas are equal to the last bit"
    assert script.done(4).checkpoint_step == int(ends[0][0])
    assert script.trainer()["outcome"] == "terminated"


@pytest.mark.slow
def test_a_job_of_two_ranks_is_brought_back(scene: Scene) -> None:
    """The example as its header says: the loss is infinite, both ranks go back, half the rate, finished."""
    scene.config.write_text('version = 1\ninclude = ["pack:generic"]\n', encoding="utf-8")
    sentinel = scene.sentinel("--act")
    job = scene.start(*LAUNCH, EXAMPLE, str(scene.logdir / "ddp"), "--steps", "600", log="job.log")
    assert job.wait(60) == 0, scene.said("job.log")
    until(lambda: not scene.rows("SELECT 1 FROM commands WHERE state != 'done'"), "the outcome is read")
    sentinel.terminate()
    sentinel.wait(30)
    ends = re.findall(r"rank \d: finished at step 600, lr 0.1, weight (\S+)", scene.said("job.log"))
    assert len(ends) == 2, scene.said("job.log") + scene.said("sentinel.log")
    assert ends[0] == ends[1]
    assert abs(float(ends[0]) - 3) < 0.5
