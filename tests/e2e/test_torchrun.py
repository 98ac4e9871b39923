"""`sentinel run -- torchrun …`: ranks in sessions of their own are one job, from its start to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from sentinel.members import members
from sentinel.process import command_name
from tests.e2e.scene import ROOT, Scene, until

pytest.importorskip("torch")

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "examples.ddp_loop")

MORE = """
[trainer]
ack_timeout = "60s"
grace = "5s"
resume = "{resume} {{run}} --steps 420 --resume {{checkpoint}} {{overrides}}"
[trainer.restart]
on = "failure"
backoff = "0.2s"
"""


def family(scene: Scene, life: int) -> dict[int, str]:
    """The processes of one life of the job, by pid, with what they are called by."""
    [row] = scene.rows("SELECT value FROM meta WHERE name = 'job/token'")
    return {each.pid: command_name(each.pid) for each in members(f"{row['value']}.{life}")}


@pytest.mark.slow
def test_ranks_are_rolled_back_by_letter_and_end_with_their_launcher(scene: Scene) -> None:
    """Diverges, is rolled back with half the rate; its launcher is killed: its ranks end, and resume."""
    scene.write_rules(ack="60s")
    resume = " ".join([sys.executable, *TORCHRUN])
    written = scene.config.read_text(encoding="utf-8").replace('[trainer]\nack_timeout = "60s"\n', "")
    scene.config.write_text(written + MORE.format(resume=resume), encoding="utf-8")
    run = scene.logdir / "a"
    ours = ["-m", "sentinel", "run", "--act", "-c", str(scene.config), "--state", str(scene.state)]
    job = [sys.executable, *TORCHRUN, str(run), "--steps", "420"]
    out = scene.folder / "out"
    with out.open("wb") as stdout, (scene.folder / "sentinel.log").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, *ours, str(scene.logdir), "--", *job],
            cwd=ROOT,
            env=scene.environment,
            stdout=stdout,
            stderr=stderr,
        )
    try:
        done = "SELECT 1 FROM commands WHERE verb = 'rollback' AND state = 'done' AND carrier = 'letter'"
        until(lambda: scene.rows(done), "it is rolled back by letter", 60)
        [life] = scene.rows("SELECT * FROM lives")
        before = family(scene, life["id"])
        assert len(before) == 3, "the launcher and two ranks, each in a session of its own"
        assert len({os.getsid(pid) for pid in before}) == 3
        launcher = min(before)
        os.kill(launcher, signal.SIGKILL)
        until(lambda: len(scene.rows("SELECT 1 FROM lives")) == 2, "it is to be started again", 60)
        assert not family(scene, life["id"]), "nobody of the first life is left"
        assert process.wait(90) == 0, scene.said("sentinel.log")
    finally:
        for number in (1, 2, 3):
            for pid in family(scene, number):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()
    lives = scene.rows("SELECT cause, state, code, checkpoint FROM lives ORDER BY id")
    assert [(row["cause"], row["state"], row["code"]) for row in lives] == [
        ("start", "ended", 137),
        ("restart", "ended", 0),
    ]
    assert lives[1]["checkpoint"]
    said = sorted(out.read_text(encoding="utf-8").splitlines())
    assert [line.partition(", weight")[0] for line in said if line.startswith("rank")] == [
        "rank 0: finished at step 420, lr 0.1",
        "rank 1: finished at step 420, lr 0.1",
    ]
    assert not [line for line in said if "sentinel" in line], "what it says is its own"
