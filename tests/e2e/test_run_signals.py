"""`sentinel run -- CMD` with `[trainer.signals]`: the job is asked in its own way, and forced after that."""

from __future__ import annotations

import sys

import pytest

from tests.e2e.scene import Scene

JOB = """
import pathlib, signal, sys, time, zipfile
from tests.sentinel.event_files import scalar
folder, deaf, asked = pathlib.Path(sys.argv[1]), sys.argv[2] == "deaf", []
for signum in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(signum, lambda signum, frame: asked.append(signum))
folder.mkdir(parents=True)
with (folder / "events.out.tfevents.1700000000.x").open("ab", buffering=0) as file:
    for step in range(3000):
        file.write(scalar("train/loss", step, 1.0 if step < 40 else 99.0, time.time()))
        time.sleep(0.02)
        if signal.SIGUSR1 in asked:
            asked.remove(signal.SIGUSR1)
            with zipfile.ZipFile(folder / "partial", "w") as archive:
                archive.writestr("state", str(step))
            (folder / "partial").rename(folder / f"rl_model_{step}_steps.zip")
            print("saved", flush=True)
        if signal.SIGUSR2 in asked and not deaf:
            print("ends", flush=True)
            sys.exit(0)
"""
"""Saves at SIGUSR1, ends at SIGUSR2 unless it is deaf to it, and knows nothing of us."""

SIGNALS = """
[trainer.signals]
checkpoint = "SIGUSR1"
terminate = "SIGUSR2"
[checkpoints]
settle = "0s"
[trainer.restart]
on = "failure"
backoff = "0.1s"
"""


@pytest.mark.parametrize(("way", "code"), [("hears", 0), ("deaf", 128 + 15)])
def test_a_supervised_job_is_asked_by_its_signals(scene: Scene, way: str, code: int) -> None:
    """One SIGUSR1 is one checkpoint; SIGUSR2 ends it, else SIGTERM after `grace`; it is not started again."""
    scene.write_rules(more=SIGNALS)
    written = scene.config.read_text(encoding="utf-8")
    scene.config.write_text(written.replace("[trainer]\n", '[trainer]\ngrace = "1s"\n', 1), encoding="utf-8")
    ours = ["-m", "sentinel", "run", "--act", "-c", str(scene.config), "--state", str(scene.state)]
    job = ["--", sys.executable, "-c", JOB, str(scene.logdir / "a"), way]
    process = scene.start(*ours, str(scene.logdir), *job, log="both.log")
    assert process.wait(60) == code, scene.said("both.log")
    said = scene.said("both.log").splitlines()
    assert (said.count("saved"), said.count("ends")) == (1, 1 if way == "hears" else 0)
    rows = scene.rows("SELECT verb, state, carrier, reason FROM commands ORDER BY id")
    assert [(row["verb"], row["state"], row["carrier"]) for row in rows] == [
        ("checkpoint", "done", "letter"),
        ("terminate", "done", "letter"),
    ]
    steps = [row["what"] for row in scene.rows("SELECT what FROM command_steps ORDER BY wall_time")]
    assert sum("SIGUSR2 sent" in what for what in steps) >= 1
    assert any("SIGTERM sent" in what for what in steps) == (way == "deaf")
    assert len(scene.rows("SELECT 1 FROM lives")) == 1
