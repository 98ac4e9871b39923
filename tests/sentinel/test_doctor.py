"""What doctor says is what a sentinel could do; and it changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sentinel.cli import main
from sentinel.clock import SystemClock
from sentinel.config import Settings, load
from sentinel.doctor import RunReport, diagnose
from sentinel.journal import Journal
from sentinel.machine import existing, file_systems, names, others, space, watches
from sentinel.mounts import file_system
from sentinel.state import JOURNAL
from tests.sentinel.event_files import scalar
from tests.sentinel.test_engine import register
from tests.sentinel.test_formats import zipped

ROOT = Path(__file__).parents[2]
FILE = "events.out.tfevents.1700000000.t"
HOLDING = """
import signal, sys
held = open(sys.argv[1], "ab")
signal.signal(signal.SIGTERM, lambda *_: None)
print(1, flush=True)
while True: signal.pause()
"""
SIGNALS = 'include = ["pack:generic"]\n[trainer.signals]\ncheckpoint = "SIGUSR1"\nterminate = "SIGTERM"\n'


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A log directory with one run that is being written."""
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / FILE).write_bytes(scalar(wall=time.time()))
    return tmp_path / "runs"


@pytest.fixture
def holder(runs: Path) -> Iterator[int]:
    """A process that holds the run's event file and catches SIGTERM alone."""
    child = subprocess.Popen([sys.executable, "-S", "-c", HOLDING, runs / "a" / FILE], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    yield child.pid
    child.kill()
    child.wait()
    child.stdout.close()


@pytest.fixture
def look(runs: Path, tmp_path: Path) -> Callable[..., RunReport]:
    """Diagnoses the one run."""

    def look(text: str = SIGNALS) -> RunReport:
        (tmp_path / "sentinel.toml").write_text(text)
        settings: Settings = load(tmp_path / "sentinel.toml")
        (report,) = diagnose(runs, tmp_path / "state", settings, SystemClock(), {}).runs
        return report

    return look


def said(report: RunReport) -> dict[str, str]:
    return {finding.what: finding.text for finding in report.findings if finding.level == "problem"}


def test_a_process_is_found_and_each_verb_is_tried_on_it(holder: int, look: Callable[..., RunReport]) -> None:
    """By what it catches: a signal that would kill it is a problem, and none is sent."""
    report = look()
    assert (report.how, report.pid, report.caught) == ("holder", holder, ["SIGINT", "SIGTERM"])
    assert report.verbs["terminate"] == "SIGTERM"
    assert "no handler for SIGUSR1" in report.verbs["checkpoint"]
    assert "cannot say where to go back to" in report.verbs["rollback"]
    assert "SIGUSR1" in said(report)["signals"]
    os.kill(holder, 0)  # it lives


def test_a_guard_is_named_first(runs: Path, holder: int, look: Callable[..., RunReport]) -> None:
    """Its letters reach the trainer whoever holds the file."""
    register(runs / "a", verbs=["checkpoint"], signal="SIGUSR2")
    report = look()
    assert (report.how, report.pid) == ("guard", os.getpid())
    assert report.verbs["checkpoint"].startswith("letter")
    assert "does not know the command 'rollback'" in report.verbs["rollback"]


def test_nobody_is_a_problem_only_where_something_is_to_be_asked(look: Callable[..., RunReport]) -> None:
    """A run that is merely watched needs no process."""
    assert "--pid RUN=PID" in said(look())["trainer"]
    quiet = look('include = ["pack:generic"]\n')
    assert said(quiet) == {}
    assert quiet.how == "nobody"
    assert quiet.findings


def test_checkpoints_are_counted_and_a_damaged_one_is_named(
    runs: Path, look: Callable[..., RunReport]
) -> None:
    """The newest whole one is where a rollback would go to."""
    for name, content in (("checkpoint-1", zipped()), ("checkpoint-2", zipped()[:-9])):
        (runs / "a" / name).write_bytes(content)
        os.utime(runs / "a" / name, (1e9, 1e9))
    report = look()
    assert (report.checkpoints, report.verified, report.newest) == (2, 1, "checkpoint-1")
    assert "checkpoint-2 is never gone back to" in said(report)["checkpoint"]


def test_a_writer_that_holds_points_back_and_a_clock_ahead_are_seen(
    runs: Path, look: Callable[..., RunReport]
) -> None:
    """A file that ends within a record, at the end of a block."""
    ahead = time.time() + 100
    content = b"".join(scalar(step=i, wall=ahead) for i in range(200))
    (runs / "a" / FILE).write_bytes(content[:4096])
    report = look()
    assert report.buffered == [FILE]
    assert "the trainer's clock is" in said(report)["clock"]
    assert 90 < report.skew <= 100


def test_a_run_that_is_over_is_not_looked_for(runs: Path, look: Callable[..., RunReport]) -> None:
    """Old runs lie about everywhere."""
    os.utime(runs / "a" / FILE, (1e9, 1e9))
    assert not look().live


def test_the_command_prints_a_table_or_an_object_and_ends_with_its_code(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 fine, 1 found."""
    (tmp_path / "sentinel.toml").write_text(SIGNALS)
    where = ["-c", str(tmp_path / "sentinel.toml"), "--state", str(tmp_path / "state"), str(runs)]
    assert main(["doctor", *where]) == 1
    assert "attached     nobody" in capsys.readouterr().out
    assert main(["doctor", "--json", *where]) == 1
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["runs"][0]["run"] == "a"
    assert not (tmp_path / "state").exists(), "nothing was made"


def test_a_package_of_the_same_name_is_told_from_ours(tmp_path: Path) -> None:
    """A research code with a folder `trainer` that comes first on the path."""
    assert list(names()) == []
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "__init__.py").touch()
    script = "from sentinel.machine import names; print(*(f.text for f in names()))"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"trainer is {tmp_path}/trainer/__init__.py, not ours" in told


MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:50 / /data rw,relatime shared:5 - nfs4 server:/x rw
31 30 0:51 / /data/fast\\040disk rw - xfs /dev/sdb rw
"""


def test_a_network_file_system_is_told_by_its_mount() -> None:
    """The longest mount point that holds the path; blanks are written as octal."""
    assert file_system(Path("/home/x"), MOUNTS) == "ext4"
    assert file_system(Path("/data/runs"), MOUNTS) == "nfs4"
    assert file_system(Path("/data/fast disk/runs"), MOUNTS) == "xfs"
    assert file_system(Path("/database"), MOUNTS) == "ext4"
    levels = [f.level for f in file_systems(Path("/data/runs"), Path("/data/state"), MOUNTS)]
    assert levels in (["note", "problem"], []), "polled; but a journal there is not safe"


def test_too_few_watches_and_a_full_disk_are_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with the setting that cures it."""
    assert list(space(tmp_path, tmp_path / "state" / "x")) == []
    monkeypatch.setattr("sentinel.machine.LEAST_SPACE", 1 << 60)
    assert [f.what for f in space(tmp_path, tmp_path / "state")] == ["disk"]
    monkeypatch.setattr("sentinel.machine._number", lambda _path: 1)
    assert all("sysctl fs.inotify" in f.text for f in watches(tmp_path))
    assert existing(tmp_path / "no" / "where") == tmp_path.resolve()
    (tmp_path / "file").touch()
    assert next(f.what for f in space(tmp_path, tmp_path / "file" / "state")) == "state"


def test_another_sentinel_on_the_same_runs_is_a_problem(tmp_path: Path) -> None:
    """It has a state of its own, so no lock keeps the two apart."""
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    journal = Journal(tmp_path / "other" / JOURNAL)
    try:
        with journal.transaction():
            journal.put("meta", name="logdir", value=str(tmp_path / "runs"))
        found = list(others(tmp_path / "runs", tmp_path / "mine"))
        assert [(f.level, "both would act" in f.text) for f in found] == [("problem", True)]
        assert list(others(tmp_path / "elsewhere", tmp_path / "mine")) == []
        assert list(others(tmp_path / "runs", tmp_path / "other")) == []
    finally:
        journal.close()
