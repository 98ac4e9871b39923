"""Jobs that never heard of us, a C program and a shell script, under a real sentinel and with two signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sentinel.process import identify
from tests.e2e.scene import ROOT, Scene, stop, until

SIGNALS = ROOT / "examples" / "signals"
UNCAUGHT = """
import pathlib, sys, time
from tests.sentinel.event_files import scalar
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True)
with (folder / "events.out.tfevents.1700000000.x").open("ab", buffering=0) as file:
    for step in range(2000):
        file.write(scalar("train/loss", step, float(step), time.time()))
        time.sleep(0.02)
"""
"""Logs, holds its event file open, and has no handler for any signal."""

COMMANDS = "SELECT * FROM commands WHERE run = ? ORDER BY id"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C program, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    made = tmp_path_factory.mktemp("c") / "train"
    subprocess.run([compiler, "-O1", "-Wall", "-Werror", "-o", made, SIGNALS / "train.c"], check=True)
    return made


@pytest.fixture
def start(scene: Scene) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a job that is no Python program."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*command: str | Path) -> subprocess.Popen[bytes]:
        environment = {**scene.environment, "PYTHON": sys.executable}
        with (scene.folder / "job.log").open("ab") as output:
            job = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        started.append(job)
        return job

    yield begin
    for job in started:
        if job.poll() is None:
            job.kill()
        job.wait()


def watch(scene: Scene, *flags: str) -> subprocess.Popen[bytes]:
    scene.config.write_text((SIGNALS / "sentinel.toml").read_text(encoding="utf-8"), encoding="utf-8")
    return scene.sentinel("--act", *flags)


def of(scene: Scene, verb: str, run: str = "a") -> dict[str, object]:
    """The newest command of a verb."""
    return next((row for row in reversed(scene.rows(COMMANDS, run)) if row["verb"] == verb), {})


def settled(scene: Scene, verb: str, state: str = "done") -> dict[str, object]:
    """The newest command of a verb, once it has come to a state."""

    def look() -> dict[str, object]:
        row = of(scene, verb)
        return row if row.get("state") == state else {}

    return until(look, f"{verb} {state}")


def saved(scene: Scene) -> list[str]:
    return [line for line in scene.said("job.log").splitlines() if line.startswith("saved ")]


def ends_well(scene: Scene, job: subprocess.Popen[bytes]) -> None:
    """One checkpoint is asked for and seen; the rollback is refused with its reason; the end is asked for."""
    row = settled(scene, "checkpoint")
    assert str(row["checkpoint"]).startswith("checkpoint-")
    assert (scene.logdir / "a" / "checkpoints" / str(row["checkpoint"])).exists()
    assert job.wait(40) == 0, "the job ended by itself, as asked"
    row = settled(scene, "terminate")
    assert row["reason"] == "the process has ended"
    assert [r["verb"] for r in scene.rows(COMMANDS, "a")] == ["checkpoint", "terminate"]
    said = " ".join(str(t["actions"]) for t in scene.rows("SELECT actions FROM transitions"))
    assert "a signal cannot say where to go back to" in said
    steps = [s["what"] for s in scene.rows("SELECT what FROM command_steps ORDER BY wall_time")]
    assert sum("SIGUSR1 sent" in what for what in steps) == 1
    assert not any("SIGKILL" in what or "SIGCONT" in what for what in steps)


def test_a_c_program_is_found_by_its_event_file_and_obeys(
    scene: Scene, program: Path, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Nobody told us anything about it: started by another, and found by who writes."""
    job = start(program, scene.logdir / "a", "5000", "100")
    watch(scene)
    ends_well(scene, job)
    assert len(saved(scene)) == 2, "one for each signal: no signal came twice"
    # Liveness was measured too: it was seen to live, and to be gone.
    alive = scene.rows("SELECT value FROM probes WHERE tag = 'sys/process_alive'")
    assert alive[0]["value"] == 1.0


def test_a_shell_script_is_named_and_obeys(
    scene: Scene, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Another process writes its event file; that one has no handler and is left alone."""
    job = start("sh", SIGNALS / "train.sh", scene.logdir / "a", "5000", "100")
    until(lambda: any((scene.logdir / "a").glob("events*")), "it logs")
    watch(scene, "--pid", f"a={job.pid}")
    ends_well(scene, job)


def test_a_job_without_a_handler_is_left_alive(
    scene: Scene, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """SIGUSR1 would kill it: the checkpoint is refused, and the job trains on."""
    job = start(sys.executable, "-c", UNCAUGHT, scene.logdir / "a")
    watch(scene)
    row = settled(scene, "checkpoint", "refused")
    assert "no handler" in str(row["reason"])
    process = identify(job.pid)
    assert process is not None
    (told,) = scene.rows("SELECT value FROM meta WHERE name = 'attached/a'")
    assert json.loads(told["value"])["start_time"] == process.start_time, "it was found, and still lives"
    until(lambda: "terminate" in [r["verb"] for r in scene.rows(COMMANDS, "a")], "its end is another matter")


def test_a_signal_is_never_sent_twice(
    scene: Scene, program: Path, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """The sentinel is killed after the signal and before the checkpoint was seen; the next one only looks."""
    job = start(program, scene.logdir / "a", "5000", "100")
    sentinel = watch(scene)
    until(lambda: saved(scene), "the signal has come")
    sentinel.send_signal(signal.SIGKILL)
    sentinel.wait()
    os.kill(job.pid, signal.SIGSTOP)  # nothing is logged meanwhile, so no ladder goes on
    before = len(saved(scene))
    again = watch(scene)
    row = settled(scene, "checkpoint")
    os.kill(job.pid, signal.SIGCONT)
    assert row["checkpoint"] == Path(saved(scene)[0].split()[1]).name
    assert len(saved(scene)) == before == 1
    stop(again)
