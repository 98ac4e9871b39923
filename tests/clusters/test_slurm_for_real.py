"""Real jobs in a real Slurm cluster of one node, under a real sentinel; `make test-slurm`.

The trainers believe to be on another host (a host name of their own), so that no signal of ours could reach
them: whatever does comes through Slurm.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinel.clusters import Standing, Workload
from sentinel.clusters.slurm import Slurm
from tests.clusters.slurm_cluster import Cluster, missing
from tests.e2e.scene import ROOT, Scene, scene, until

__all__ = ["scene"]

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(missing()), reason=missing())]

GUARDED = """#!/bin/sh
export PYTHONPATH={root} OMP_NUM_THREADS=1
exec srun unshare --uts sh -c 'hostname far-away; exec "$@"' sh {python} -m tests.e2e.job {run} {flags}
"""

STUBBORN = """#!/bin/sh
trap '' TERM
while :; do sleep 0.2; done
"""

COMMANDS = "SELECT * FROM commands WHERE run = ? ORDER BY id"
STEPS = "SELECT * FROM command_steps WHERE run = ? ORDER BY rowid"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that runs for as long as these tests do."""
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
def lab(scene: Scene, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A scene whose sentinel finds the cluster; its jobs end with it."""
    for name in ("SLURM_CONF", "PATH"):
        scene.environment[name] = cluster.env[name]
        monkeypatch.setenv(name, cluster.env[name])
    yield scene
    cluster.run("scancel", "--full", "--signal=KILL", "--state=RUNNING", "--quiet")
    cluster.run("scancel", "--user=root")


def script(scene: Scene, text: str) -> Path:
    path = scene.folder / "job.sbatch"
    path.write_text(text, encoding="utf-8")
    return path


def guarded(scene: Scene, *flags: str) -> Path:
    run = scene.logdir / "a"
    return script(scene, GUARDED.format(root=ROOT, python=sys.executable, run=run, flags=" ".join(flags)))


def arm(scene: Scene, more: str = "") -> None:
    scene.write_rules(more=more)
    text = scene.config.read_text(encoding="utf-8")
    scene.config.write_text(text.replace("[trainer]", '[trainer]\nlauncher = "slurm"', 1), encoding="utf-8")


def notes(scene: Scene) -> list[str]:
    return [row["what"] for row in scene.rows(STEPS, "a")]


def registration(scene: Scene) -> dict[str, object]:
    path = scene.logdir / "a" / "control" / "trainer.json"
    until(path.exists, "a registration")
    return dict(json.loads(path.read_bytes()))


def test_a_job_of_another_node_is_rung_through_slurm_and_rolls_back_by_letter(
    lab: Scene, cluster: Cluster
) -> None:
    """The registration names the job; scancel rings its step; the whole ladder works as on this machine."""
    arm(lab)
    job = cluster.submit(guarded(lab, "--diverge-at", "40", "--end", "400", "--pace", "0.1"))
    record = registration(lab)
    assert record["host"] == "far-away"
    workload = Workload.registered(record)
    assert workload is not None
    assert (workload.id, workload.facts["restarts"], workload.facts["bell"]) == (job, "0", "SIGURG")
    told = lab.ask("doctor", "--json", "-c", str(lab.config), "--state", str(lab.state), str(lab.logdir))
    (seen,) = json.loads(told.stdout)["runs"]
    assert seen["verbs"] == dict.fromkeys(
        ("checkpoint", "rollback", "terminate"), "letter, rung through slurm"
    )
    assert ["cluster", f"slurm job {job} is running"] in [[f["what"], f["text"]] for f in seen["findings"]]
    lab.sentinel("--act")
    until(lambda: any(row[1] == "rollback" for row in lab.effects()), "a rollback")
    until(lambda: "rung: the cluster took it" in notes(lab), "Slurm's word that it has rung")
    assert cluster.state(job) == "RUNNING", "a ring harms nobody"
    assert cluster.restarts(job) == 0


def test_terminate_ends_a_trainer_that_ignores_letters_first_by_sigterm_then_by_scancel(
    lab: Scene, cluster: Cluster
) -> None:
    """A job that hears nothing at all is cancelled after `grace`, and every step stands in the journal."""
    arm(lab)
    job = cluster.submit(script(lab, STUBBORN), options=("--job-name", "UserId=nobody(99) JobState=PENDING"))
    log = lab.logdir / "a"
    log.mkdir()
    lab.start("-c", _LOGGER, str(log), log="logger.log")
    text = lab.config.read_text(encoding="utf-8")
    named = f'[trainer]\njobs = {{ a = "{job}" }}\ngrace = "2s"'
    lab.config.write_text(text.replace("[trainer]", named, 1), encoding="utf-8")
    lab.sentinel("--act")
    until(lambda: lab.rows("SELECT * FROM runs WHERE trainer IS NOT NULL"), "the job is known")
    told = lab.ask("command", "a", "terminate", *lab.where())
    assert told.returncode == 0, told.stderr
    until(lambda: [row for row in lab.rows(COMMANDS, "a") if row["state"] == "done"], "its end")
    assert cluster.state(job) in ("CANCELLED", "COMPLETING", "")
    said = notes(lab)
    assert "SIGTERM sent: the cluster took it" in said
    assert "cancelled: the cluster took it" in said


_LOGGER = """
import pathlib, sys, time
from tests.sentinel.event_files import scalar
with (pathlib.Path(sys.argv[1]) / "events.out.tfevents.1700000000.x").open("ab", buffering=0) as file:
    for step in range(2000):
        file.write(scalar("train/loss", step, 1.0, time.time()))
        time.sleep(0.05)
"""


def test_a_job_that_knows_nothing_of_us_is_requeued_and_goes_on_from_its_checkpoint(
    lab: Scene, cluster: Cluster
) -> None:
    """The example: the loss is infinite, the job is requeued once, and resumes with half the rate."""
    lab.environment["PATH"] = f"{Path(sys.executable).parent}:{lab.environment['PATH']}"
    text = (ROOT / "examples" / "slurm" / "train.sbatch").read_text(encoding="utf-8")
    text = text.replace("python examples", f"{sys.executable} examples")
    run = lab.logdir / "plain"
    job = cluster.submit(script(lab, text), str(run))
    config = (ROOT / "examples" / "slurm" / "sentinel.toml").read_text(encoding="utf-8")
    lab.config.write_text(config.replace("4711", job), encoding="utf-8")
    lab.sentinel("--act")
    until(lambda: cluster.restarts(job) == 1, "a requeue", 60)
    until(lambda: "finished at step 150" in cluster.output(job), "the end of the training", 60)
    rows = [row for row in lab.rows(COMMANDS, "plain") if row["verb"] == "rollback"]
    assert [(row["state"], row["carrier"]) for row in rows] == [("done", "cluster")]
    assert cluster.restarts(job) == 1
    assert f"training from step {rows[0]['checkpoint_step']} with lr 0.25" in cluster.output(job)
    attempts = lab.rows("SELECT attempt FROM runs")
    assert attempts == [{"attempt": 1}], "the points behind the checkpoint were abandoned"


def test_a_job_of_the_same_number_that_is_another_incarnation_is_not_touched(
    lab: Scene, cluster: Cluster
) -> None:
    """After a requeue, and where the number was handed out again, nothing is signalled, ended or requeued."""
    job = cluster.submit(script(lab, STUBBORN), options=("--requeue",))
    slurm = Slurm()
    first = slurm.look(Workload("slurm", job, 0, facts={"cluster": "lab"})).now
    assert first is not None
    assert cluster.run("scontrol", "requeue", job).returncode == 0
    until(lambda: cluster.state(job) == "RUNNING" and cluster.restarts(job) == 1, "the second incarnation")
    assert slurm.look(first).standing is Standing.SUCCEEDED
    refusals = [slurm.ask(first, signal.SIGTERM), slurm.end(first), slurm.restart(first)]
    assert all("succeeded" in said for said in refusals), refusals
    elder = Workload("slurm", job, 0, began=1000.0, facts={"cluster": "lab", "restarts": "1"})
    assert slurm.look(elder).standing is Standing.FOREIGN
    assert "foreign" in slurm.end(elder)
    somebody = Workload("slurm", job, 1000, facts={"cluster": "lab"})
    assert "belongs to user 0" in slurm.end(somebody)
    elsewhere = Workload("slurm", job, 0, facts={"cluster": "other"})
    assert "foreign" in slurm.end(elsewhere)
    assert cluster.state(job) == "RUNNING"
    assert cluster.restarts(job) == 1


def test_a_controller_that_hangs_stalls_no_tick_and_is_told(lab: Scene, cluster: Cluster) -> None:
    """Slurm is asked beside the ticks: points are judged meanwhile, and people learn that it is silent."""
    arm(lab)
    cluster.submit(guarded(lab, "--end", "4000", "--pace", "0.05"))
    registration(lab)
    lab.sentinel("--act")
    until(lambda: lab.rows("SELECT * FROM runs WHERE last_step > 20"), "points are judged")
    cluster.pause()
    try:
        before = lab.rows("SELECT last_step FROM runs")[0]["last_step"]
        told = lab.ask("command", "a", "terminate", *lab.where())
        assert told.returncode == 0, told.stderr
        until(lambda: any("did not answer" in what for what in notes(lab)), "it is told that Slurm is silent")
        assert lab.rows("SELECT last_step FROM runs")[0]["last_step"] > before + 1
    finally:
        cluster.go_on()
    until(lambda: [row for row in lab.rows(COMMANDS, "a") if row["state"] == "done"], "the letter did it")
