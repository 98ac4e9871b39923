"""The job as the journal has it: real processes, a real engine, and restarts of the sentinel in between."""

from __future__ import annotations

import os
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sentinel import exit_codes
from sentinel.clock import SystemClock
from sentinel.config import load
from sentinel.engine import Engine
from sentinel.errors import ConfigError
from sentinel.guard import Guard, Parameter
from sentinel.inbox import Command, drop
from sentinel.journal import Journal
from sentinel.mail import Mail
from sentinel.members import members
from sentinel.state import JOURNAL
from sentinel.supervise import Processes
from tests.sentinel.event_files import scalar
from tests.sentinel.scene import Post
from tests.sentinel.test_exit_codes import needs_kernel

RULES = """
version = 1
[trainer]
grace = "0.5s"
resume = "{command} --resume {checkpoint} {overrides}"
override_style = "--{name}={value}"
[trainer.parameters]
lr = { value = 0.5, low = 0.1, high = 1.0 }
[trainer.restart]
on = "failure"
max = 4
backoff = "0.1s"
hang_after = "1s"
[metrics]
loss = ["loss"]
[[rule]]
name = "high"
expr = "loss > 1e9"
"""
HANGS = RULES.replace('on = "failure"', 'on = "hang"')


class Stage:
    """A state folder with a run, and one sentinel after the other."""

    def __init__(self, folder: Path, rules: str = RULES, *, act: bool = True) -> None:
        self.folder, self.act = folder, act
        self.run = folder / "runs" / "a"
        self.starts = folder / "starts"
        (self.run / "checkpoints").mkdir(parents=True)
        self.state = folder / "state"
        self.state.mkdir()
        (folder / "rules.toml").write_text(rules)
        self.post = Post()
        self.step = 0
        self.families: list[Processes] = []
        self.begin()

    def begin(self) -> None:
        """Be a new sentinel on this state."""
        self.journal = Journal(self.state / JOURNAL)
        self.family = Processes()
        self.families.append(self.family)
        self.engine = Engine(
            self.folder / "runs",
            self.state,
            load(self.folder / "rules.toml"),
            self.journal,
            Mail(self.journal, self.post, lambda _message: ["paper"]),  # type: ignore[arg-type]  # a fake outbox
            SystemClock(),
            act=self.act,
            processes=self.family,
        )
        self.job = self.engine.job

    def start(self, program: str) -> str:
        """Start a shell program as the job; it leaves a line of its arguments."""
        command = ["sh", "-c", f'echo "start $*" >> {self.starts}; {program}', "job"]
        with self.journal.transaction():
            said = self.job.begin(command, self.folder)
        self.job.perform()
        return said

    def checkpoint(self, step: int) -> None:
        path = self.run / "checkpoints" / f"rl_model_{step}_steps.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("state", "x")
        os.utime(path, (time.time() - 60, time.time() - 60))

    def log(self) -> None:
        """Write one point."""
        self.step += 1
        with (self.run / "events.out.tfevents.1").open("ab") as file:
            file.write(scalar("loss", self.step, 1.0, time.time()))

    def until(self, look: Callable[[], object], *, log: bool = False) -> None:
        """Tick until something is so."""
        deadline = time.monotonic() + 15
        while not look():
            assert time.monotonic() < deadline, [life.spoken for life in self.job.lives]
            if log:
                self.log()
            self.family.reap()
            self.engine.tick()
            time.sleep(0.02)

    def ask(self, verb: str, **more: object) -> None:
        drop(Command("a", verb, why="by hand", **more), self.state)  # type: ignore[arg-type]  # fields of Command

    @property
    def begun(self) -> list[str]:
        return self.starts.read_text().splitlines() if self.starts.exists() else []

    @property
    def told(self) -> list[str]:
        return [f"{message.title}: {message.happened}" for message in self.post.messages]

    def command(self) -> tuple[str, str]:
        rows = self.journal.rows("SELECT state, reason FROM commands WHERE carrier = 'job' ORDER BY id DESC")
        return (rows[0]["state"], rows[0]["reason"]) if rows else ("", "")

    def family_of(self, number: int = -1) -> list[int]:
        return [process.pid for process in members(self.job.mark(self.job.lives[number]))]

    def end(self) -> None:
        for life in self.job.lives:
            for process in members(self.job.mark(life)):
                os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while any(family._children for family in self.families) and time.monotonic() < deadline:
            for family in self.families:
                family.reap()
        self.journal.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.end()


def test_terminate_ends_the_whole_family(stage: Stage) -> None:
    """A job without guard: SIGTERM to all, SIGKILL to who ignores it; it is not started again."""
    stage.start("setsid sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' & wait")
    stage.until(lambda: stage.job.trains("a"), log=True)
    stage.until(lambda: len(stage.family_of()) >= 2)
    stage.ask("terminate")
    stage.until(lambda: stage.job.code is not None, log=True)
    assert stage.family_of() == []
    stage.until(lambda: stage.command()[0] == "done")
    assert len(stage.begun) == 1
    steps = [row["what"] for row in stage.journal.rows("SELECT what FROM command_steps")]
    assert any("SIGTERM sent" in what for what in steps)
    assert any("SIGKILL sent" in what for what in steps)


def test_a_rollback_is_a_stop_and_a_resume_with_what_is_in_force(stage: Stage) -> None:
    """The second one scales what the first one set; out of bounds it is refused, and the job trains on."""
    stage.checkpoint(40)
    stage.start("exec sleep 100")
    stage.until(lambda: stage.job.trains("a"), log=True)
    for resumed, lr in ((1, 0.25), (2, 0.125)):
        stage.ask("rollback", checkpoint="rl_model_40_steps.zip", set={"lr": "x0.5"})
        stage.until(lambda n=resumed: len(stage.begun) == n + 1)  # type: ignore[misc]  # bound now
        assert stage.begun[-1].endswith(f"--resume {stage.run}/checkpoints/rl_model_40_steps.zip --lr={lr}")
        stage.until(lambda: stage.job.trains("a"), log=True)
    stage.ask("rollback", checkpoint="rl_model_40_steps.zip", set={"lr": "x0.5"})
    stage.until(lambda: stage.command()[0] == "refused")
    assert "outside of its bounds" in stage.command()[1]
    assert len(stage.begun) == 3
    assert stage.job.trains("a")


def test_a_trainer_that_cannot_is_resumed_instead(stage: Stage) -> None:
    """Its guard refuses with "cannot": it is ended by letter, and goes on from the same checkpoint."""
    stage.checkpoint(40)
    stage.start("exec sleep 100")
    stage.until(lambda: stage.job.life is not None)
    guard = Guard(stage.run, parameters=[Parameter.number("lr", 0.4, low=0.1, high=1.0)])
    life = stage.job.life
    assert life is not None
    assert life.process is not None
    record = guard_as(stage.run, life.process.pid, life.process.start_time)
    assert record
    stage.until(lambda: stage.job.trains("a"), log=True)
    stage.ask("rollback", checkpoint="rl_model_40_steps.zip", set={"lr": "x0.5"})
    found: list[object] = []
    while not found:
        stage.family.reap()
        stage.engine.tick()
        command = guard.poll()
        if command is not None:
            guard.acknowledge(command, "refused", reason="cannot load a checkpoint in place")
            found.append(command)
    stage.until((stage.run / "control" / "commands" / "000002.json").exists)
    os.kill(life.process.pid, signal.SIGKILL)  # it has obeyed, in its way
    stage.until(lambda: len(stage.begun) == 2)
    assert stage.begun[1].endswith("--lr=0.2")
    stage.until(lambda: stage.command()[0] == "done")


def test_a_restart_keeps_the_remedy_that_its_guard_carried_out(stage: Stage) -> None:
    """Rolled back in place with half the rate, then killed: it goes on with half the rate."""
    stage.checkpoint(40)
    stage.start("exec sleep 100")
    stage.until(lambda: stage.job.life is not None)
    guard = Guard(stage.run, parameters=[Parameter.number("lr", 0.4, low=0.1, high=1.0)])
    life = stage.job.life
    assert life is not None
    assert life.process is not None
    assert guard_as(stage.run, life.process.pid, life.process.start_time)
    stage.until(lambda: stage.job.trains("a"), log=True)
    stage.ask("rollback", checkpoint="rl_model_40_steps.zip", set={"lr": "x0.5"})

    def obeyed() -> bool:
        command = guard.poll()
        if command is not None:
            guard.acknowledge(
                command, "done", step=40, checkpoint="rl_model_40_steps.zip", checkpoint_step=40
            )
        return command is not None

    stage.until(obeyed)
    assert guard_as(stage.run, life.process.pid, life.process.start_time, lr=0.2)
    stage.until(lambda: stage.journal.rows("SELECT 1 FROM commands WHERE state = 'done'"))
    os.kill(life.process.pid, signal.SIGKILL)
    stage.until(lambda: len(stage.begun) == 2)
    assert stage.begun[1].endswith("rl_model_40_steps.zip --lr=0.2")


def test_who_goes_on_without_the_main_process_is_told(tmp_path: Path) -> None:
    """Nobody configured a restart, so nobody is ended: ranks that outlive their launcher train on."""
    stage = Stage(tmp_path, RULES.replace('on = "failure"', 'on = "never"'))
    stage.start("setsid sleep 100 & exec sleep 100")
    stage.until(lambda: stage.job.trains("a"), log=True)
    stage.until(lambda: len(stage.family_of()) == 2)
    life = stage.job.life
    assert life is not None
    assert life.process is not None
    os.kill(life.process.pid, signal.SIGKILL)
    stage.until(lambda: stage.job.code is not None)
    [left] = stage.family_of()
    assert any(f"1 of its processes goes on: {left}" in text for text in stage.told), stage.told
    stage.end()


def guard_as(run: Path, pid: int, start_time: int, lr: float = 0.4) -> bool:
    """Make the registration that of the job's process, with this rate; the guard lives in this test."""
    import json

    path = run / "control" / "trainer.json"
    record = json.loads(path.read_bytes())
    record["parameters"]["lr"]["value"] = lr
    temporary = path.with_name(".new")
    temporary.write_text(json.dumps({**record, "pid": pid, "start_time": start_time, "signal": None}))
    temporary.replace(path)
    return True


def test_a_job_that_hangs_is_started_again(tmp_path: Path) -> None:
    """From its newest checkpoint; and what it left behind is ended first."""
    stage = Stage(tmp_path, HANGS)
    stage.checkpoint(40)
    stage.start("sleep 100 & exec sleep 100")
    stage.until(lambda: stage.job.trains("a"), log=True)
    stage.until(lambda: len(stage.begun) == 2)
    assert "--resume" in stage.begun[1]
    assert stage.family_of(0) == []
    assert any("no sign of progress for 1 s" in text for text in stage.told)
    stage.end()


def test_a_life_that_dies_before_it_logs_goes_back_to_the_same_checkpoint(stage: Stage) -> None:
    """With the remedy that is in force, and not to the first command."""
    stage.checkpoint(40)
    stage.start("[ $# = 0 ] || exit 3; exec sleep 100")
    stage.until(lambda: stage.job.trains("a"), log=True)
    stage.ask("rollback", checkpoint="rl_model_40_steps.zip", set={"lr": "x0.5"})
    stage.until(lambda: len(stage.begun) == 3)
    assert stage.begun[1] == stage.begun[2]
    assert stage.begun[1].endswith("--lr=0.25")


def test_in_mode_observe_nothing_is_ended(tmp_path: Path) -> None:
    """A job that hangs is left alone there."""
    stage = Stage(tmp_path, HANGS, act=False)
    stage.start("exec sleep 100")
    stage.until(lambda: stage.job.trains("a"), log=True)
    deadline = time.monotonic() + 1.5
    stage.until(lambda: time.monotonic() > deadline)
    assert len(stage.family_of()) == 1
    stage.end()


def test_the_next_sentinel_knows_whose_job_it_is(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command is taken up, another is refused, and an end that nobody saw is no failure."""
    monkeypatch.setattr(exit_codes, "status_of", lambda _descriptor: None)  # as before Linux 6.15
    monkeypatch.setattr(exit_codes, "_in_proc", lambda _pid: None)
    stage.start("exec sleep 100")
    stage.until(lambda: stage.job.trains("a"), log=True)
    (pid,) = stage.family_of()
    stage.journal.close()
    stage.begin()
    assert "goes on" in stage.start("exec sleep 100")
    with pytest.raises(ConfigError, match="another job of this state still goes on"):
        stage.start("exec sleep 200")
    stage.until(lambda: stage.job.trains("a"), log=True)
    assert len(stage.begun) == 1
    os.kill(pid, signal.SIGKILL)
    while stage.families[0]._children:  # as init would; the sentinel that started it is gone
        stage.families[0].reap()
    stage.until(lambda: stage.job.code is not None)
    assert stage.job.code == 3
    assert any("the job ended unseen" in text for text in stage.told)


@needs_kernel
def test_an_adopted_job_that_fails_is_started_again(stage: Stage) -> None:
    """Its parent was another sentinel; how it ended is known all the same."""
    stage.start("exec sleep 100")
    stage.until(lambda: stage.job.trains("a"), log=True)
    (pid,) = stage.family_of()
    stage.journal.close()
    stage.begin()
    stage.engine.tick()  # it is found alive, and held
    os.kill(pid, signal.SIGKILL)
    while stage.families[0]._children:  # as init would; the sentinel that started it is gone
        stage.families[0].reap()
    stage.until(lambda: len(stage.begun) == 2)
    assert stage.job.lives[0].code == 128 + signal.SIGKILL
