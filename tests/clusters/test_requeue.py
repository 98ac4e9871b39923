"""What a cluster carries out: once for one incarnation, whatever is killed or hangs in between."""

from __future__ import annotations

import os
import signal
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sentinel.attachment import Attached
from sentinel.checkpoints import Checkpoint
from sentinel.clusters import NO_ANSWER, RESUME, Sight, Standing, Workload
from sentinel.clusters.reach import STALE, Reach
from sentinel.clusters.requeue import Requeue
from sentinel.config import Settings, load
from sentinel.dispatch import Dispatch
from sentinel.journal import Journal
from sentinel.process import Liveness, myself
from sentinel.registration import Registration
from tests.e2e.scene import until
from tests.fakes import FakeClock

JOB = Workload("slurm", "7", -1, 100.0, {"restarts": "0", "cluster": "lab"})
NEXT = Workload("slurm", "7", -1, 500.0, {"restarts": "1", "cluster": "lab"})

CONFIG = """
version = 1
include = ["pack:generic"]
[trainer]
launcher = "slurm"
jobs = { a = "7" }
resume = "python train.py --resume {checkpoint}"
"""


class OneJob:
    """A cluster with one job, in memory; `restart` heeds the incarnation, as the protocol asks."""

    kind = "slurm"

    def __init__(self) -> None:
        self.now = JOB
        self.running = True
        self.deaf = False
        self.refusals: list[str] = []
        self.restarts: list[Workload] = []
        self.why_not = ""
        self.holds = threading.Event()
        self.holds.set()

    def look(self, workload: Workload) -> Sight:
        """Compare incarnations."""
        self.holds.wait()
        if workload.facts.get("restarts", self.now.facts["restarts"]) != self.now.facts["restarts"]:
            return Sight(Standing.SUCCEEDED, "", self.now)
        return Sight(Standing.RUNNING if self.running else Standing.ENDED, "", self.now)

    def ring(self, workload: Workload) -> str:
        """Hear nothing."""
        return ""

    def ask(self, workload: Workload, signum: signal.Signals) -> str:
        """Obey SIGTERM."""
        self.running = self.deaf
        return ""

    def end(self, workload: Workload) -> str:
        """End, once nothing forbids it any more."""
        if self.refusals:
            return self.refusals.pop()
        self.running = False
        return ""

    def restart(self, workload: Workload) -> str:
        """Begin anew, where it is the incarnation that was meant."""
        if self.why_not or workload != self.now:
            return self.why_not or "not requeued: succeeded"
        self.restarts.append(workload)
        self.now = NEXT
        return ""

    def restartable(self, workload: Workload) -> str:
        """Say why not."""
        return self.why_not

    def successor_test(self, workload: Workload) -> str:
        """Hold."""
        return "true"


class Stage:
    """One run of one job, and sentinels that come and go."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "a"
        (self.run / "checkpoints").mkdir(parents=True)
        with zipfile.ZipFile(self.run / "checkpoints" / "rl_model_40_steps.zip", "w") as archive:
            archive.writestr("state", "40")
        os.utime(self.run / "checkpoints" / "rl_model_40_steps.zip", (1.6e9, 1.6e9))  # long at rest
        path = folder / "sentinel.toml"
        path.write_text(CONFIG, encoding="utf-8")
        self.settings: Settings = load(path)
        self.clock = FakeClock()
        self.cluster = OneJob()
        self.journal = Journal(folder / "journal.sqlite")
        self.take_up()

    def take_up(self) -> None:
        """A sentinel, or another one after it was killed."""
        self.reach = Reach({"slurm": self.cluster}, self.clock.monotonic, int)
        self.registration = Registration(self.run, self.settings.terms(self.clock, "a", self.reach))
        self.registration.pin(JOB)
        self.requeue = Requeue("a", self.run, self.settings, self.journal, self.reach, self.clock, act=True)

    def ask(self, verb: str) -> None:
        patience = self.settings.patience
        dispatch = Dispatch("a", self.run, self.journal, patience, self.clock, self.reach, act=True)
        with self.journal.transaction():
            dispatch.follow(self.registration, self.clock.wall())
            dispatch.ask(
                verb,
                checkpoint="rl_model_40_steps.zip",
                to_step=40,
                set={},
                reinit=(),
                reason="it diverged",
                asked_step=60,
                attempt=0,
                now=self.clock.wall(),
                carrier="cluster",
            )

    def follow(self) -> None:
        def checkpoints() -> Sequence[Checkpoint]:
            return self.registration.catalogue() if self.registration.catalogue else ()

        self.clock.advance(3.0)
        with self.journal.transaction():
            self.registration.refresh()
            self.requeue.follow(self.registration, checkpoints, self.clock.wall())

    def tick(self) -> None:
        self.follow()
        self.requeue.perform()

    def row(self) -> tuple[str, str]:
        found = self.journal.rows("SELECT state, reason FROM commands")[0]
        return found["state"], found["reason"]

    def settle(self, state: str) -> None:
        """Tick until the command has come to a state."""

        def look() -> bool:
            self.tick()
            return self.row()[0] in (state, "done", "failed", "refused", "unanswered")

        until(look, "an outcome", 10)
        assert self.row()[0] == state, self.row()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A run whose job is running."""
    return Stage(tmp_path)


def test_a_rollback_writes_what_is_to_be_run_and_restarts_the_job_once(stage: Stage) -> None:
    """It is done when the next incarnation runs, at its start and the checkpoint's step."""
    stage.tick()
    stage.ask("rollback")
    stage.settle("done")
    assert stage.cluster.restarts == [JOB]
    assert "--resume" in (stage.run / RESUME).read_text(encoding="utf-8")
    assert stage.requeue.starts() == [(500.0, 40)]


@pytest.mark.parametrize("ticks", range(4))
def test_a_sentinel_that_is_killed_after_any_commit_restarts_the_job_once(stage: Stage, ticks: int) -> None:
    """The row comes first, and the step after it is about one incarnation."""
    stage.tick()
    stage.ask("rollback")
    for _ in range(ticks):
        stage.tick()
    stage.follow()  # committed, and killed before anything was performed
    stage.take_up()
    stage.settle("done")
    assert stage.cluster.restarts == [JOB]


def test_a_job_that_cannot_be_restarted_is_left_alone_and_the_reason_is_told(stage: Stage) -> None:
    """The ladder's next rung follows; nothing stays behind that a later restart would read."""
    stage.cluster.why_not = "not requeued: job 7 was submitted without --requeue"
    stage.tick()
    stage.ask("rollback")
    stage.settle("refused")
    assert "without --requeue" in stage.row()[1]
    assert not (stage.run / RESUME).exists()
    assert stage.cluster.restarts == []


def test_a_named_job_can_be_asked_whoever_else_was_found(stage: Stage) -> None:
    """A process that holds the event file takes no signal without [trainer.signals]; its job is restarted."""
    stage.tick()
    stage.registration.attach(Attached(myself(), "holder"))
    stage.tick()
    assert stage.registration.unreachable == ""
    gone = replace(myself(), start_time=1)
    stage.registration.attach(Attached(gone, "holder"))
    until(lambda: stage.registration.liveness is Liveness.ALIVE, "a look", 10)
    declared = stage.requeue.declared(stage.registration, stage.registration.declared)
    assert declared is not None
    assert declared.verbs == {"rollback", "terminate"}
    stage.cluster.running = False

    def ended() -> bool:
        stage.tick()
        return stage.registration.unreachable == "slurm job 7 has ended"

    until(ended, "its end is seen", 10)


def test_terminate_is_done_when_the_job_has_ended(stage: Stage) -> None:
    """By SIGTERM, as it obeys."""
    stage.tick()
    stage.ask("terminate")
    stage.settle("done")
    assert not stage.cluster.running


def test_an_end_that_may_be_granted_later_is_asked_for_again(stage: Stage) -> None:
    """A disruption budget, a server that does not answer: `terminate` does not give up at the first word."""
    stage.cluster.deaf, stage.cluster.refusals = True, [f"not evicted: the server {NO_ANSWER} for good"] * 2
    stage.ask("terminate")

    def done() -> bool:
        stage.tick()
        return stage.row()[0] == "done"

    until(done, "it has ended", 10)
    assert not stage.cluster.refusals


def test_a_cluster_that_hangs_holds_up_nobody_and_its_jobs_become_unknown(stage: Stage) -> None:
    """A look returns at once; what was known grows old."""
    until(lambda: stage.reach.sight(JOB, eager=True).standing is Standing.RUNNING, "a first look", 10)
    stage.cluster.holds.clear()
    stage.clock.advance(STALE / 2)
    assert stage.reach.sight(JOB).standing is Standing.RUNNING
    stage.clock.advance(STALE)
    seen = stage.reach.sight(JOB)
    assert seen.standing is Standing.UNKNOWN
    assert "has not answered" in seen.words
    stage.cluster.holds.set()


def test_without_a_launcher_no_thread_is_made_and_nothing_asked(stage: Stage) -> None:
    """A workload alone is no leave to run a cluster's commands."""
    reach = Reach({}, stage.clock.monotonic, int)
    count = threading.active_count()
    assert reach.sight(JOB).standing is Standing.UNKNOWN
    assert threading.active_count() == count
