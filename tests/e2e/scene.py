"""Real processes for a test: jobs, sentinels and a Slack, in a folder of their own, all ended with it.

Nothing here waits for a fixed time: `until` looks again and again, and gives up at a deadline.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sentinel.journal import Journal
from sentinel.state import JOURNAL
from tests.slack_stub import SlackStub

ROOT = Path(__file__).parents[2]
PROXIES = {"http_proxy", "https_proxy", "all_proxy"}
PATIENCE = 40.0
"""Seconds after which a test gives up waiting; many times what an idle machine needs."""

RULES = """\
version = 1
mode = "{mode}"
include = {include}

[trainer]
ack_timeout = "{ack}"

[notify.slack]
channel = "#training"
base_url = "{slack}"
at_least = "info"
group_wait = "0s"

[metrics]
loss = ["train/loss"]

[[rule]]
name = "loss_high"
expr = "loss > 10"
for = "2 points"
severity = "critical"
ladder = "save"
summary = "loss is {{value:.6g}} at step {{step}}, since step {{onset}}"
why = "the loss has left its range"

[ladders.save]
rungs = [
  {{ do = ["notify", "checkpoint"] }},
  {{ do = ["rollback"], after = "2 points", to = "last_good", max = 2, remedy = "gentler" }},
  {{ do = ["terminate"], when = "exhausted" }},
]

[remedies.gentler]
tries = [{{ set = {{ lr = "x0.5" }} }}]

[limits]
min_progress_between = "10 steps"
"""

T = TypeVar("T")


def until(look: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Look until there is something (not None, False or empty), and return it.

    Raises:
        AssertionError: it did not come in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


class Scene:
    """One log directory with its sentinel, its jobs and its Slack."""

    def __init__(self, folder: Path, slack: SlackStub) -> None:
        self.folder = folder
        self.slack = slack
        self.logdir = folder / "runs"
        self.logdir.mkdir()
        self.state = folder / "state"
        self.config = folder / "sentinel.toml"
        self.environment = {k: v for k, v in os.environ.items() if k.lower() not in PROXIES}
        self.environment |= {**slack.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.environment |= {"PYTHONUNBUFFERED": "1"}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.write_rules()

    def write_rules(
        self, *, mode: str = "act", include: str = "[]", ack: str = "30s", more: str = ""
    ) -> None:
        """Write sentinel.toml."""
        rules = RULES.format(mode=mode, include=include, ack=ack, slack=self.slack.url)
        self.config.write_text(rules + more, encoding="utf-8")

    def start(self, *command: str, log: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start `python COMMAND`; what it says is appended to the file `log`."""
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *command],
                env=self.environment,
                cwd=ROOT,
                stdout=output,
                stderr=output,
                **options,
            )
        self._processes.append(process)
        return process

    def job(self, *flags: str, run: str = "a", log: str = "job.log") -> subprocess.Popen[bytes]:
        """Start a job in the run `run`."""
        return self.start("-m", "tests.e2e.job", str(self.logdir / run), *flags, log=log)

    def sentinel(self, *flags: str, log: str = "sentinel.log") -> subprocess.Popen[bytes]:
        """Start `sentinel run` on the log directory."""
        command = ("-m", "sentinel", "run", "-c", str(self.config), "--state", str(self.state))
        return self.start(*command, *flags, str(self.logdir), log=log)

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a short `sentinel` command to its end."""
        command = [sys.executable, "-m", "sentinel", *arguments]
        return subprocess.run(
            command,
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def where(self) -> tuple[str, ...]:
        """The options by which `status` and `command` find this sentinel."""
        return "-c", str(self.config), "--state", str(self.state), "--logdir", str(self.logdir)

    def said(self, log: str) -> str:
        """What a process has said so far."""
        path = self.folder / log
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        """Read the sentinel's journal beside it; nothing while there is none."""
        path = self.state / JOURNAL
        if not path.exists():
            return []
        journal = Journal(path, read_only=True)
        try:
            made = journal.rows("SELECT 1 FROM sqlite_master WHERE name = 'answers'")
            return [dict(row) for row in journal.rows(query, *arguments)] if made else []
        finally:
            journal.close()

    def step(self, run: str = "a") -> int:
        """The step of the job's last heartbeat; -1 before there is one."""
        try:
            return int(json.loads((self.logdir / run / "control" / "heartbeat.json").read_bytes())["step"])
        except (OSError, ValueError, KeyError):
            return -1

    def effects(self, run: str = "a") -> list[list[str]]:
        """The commands that the job has carried out: (id, verb, checkpoint)."""
        path = self.logdir / run / "effects"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def transitions(self, run: str = "a") -> list[tuple[Any, ...]]:
        """Every change of state in the journal: (alert, before, after, step, onset)."""
        found = self.rows("SELECT * FROM transitions WHERE run = ? AND before != after ORDER BY id", run)
        return [(t["key"], t["before"], t["after"], t["step"], t["onset_step"]) for t in found]

    def replayed(self, run: str = "a") -> list[tuple[Any, ...]]:
        """The same of an undisturbed replay of what the run has logged."""
        told = self.ask("replay", "--json", "-c", str(self.config), str(self.logdir / run))
        assert told.returncode in (0, 1), told.stderr  # 1: a grave rule fired
        lines = [json.loads(line) for line in told.stdout.splitlines()]
        moved = [line for line in lines if line["type"] == "transition" and line["from"] != line["to"]]
        return [(t["rule"], t["from"], t["to"], t["step"], t["onset_step"]) for t in moved]

    def end(self) -> None:
        """Kill whatever is still there."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A scene whose processes end with the test."""
    with SlackStub() as slack:
        found = Scene(tmp_path, slack)
        try:
            yield found
        finally:
            found.end()


def stop(process: subprocess.Popen[bytes], seconds: float = PATIENCE) -> int:
    """End a process by SIGTERM, as a person would, and return its exit code."""
    process.send_signal(signal.SIGTERM)
    return process.wait(seconds)
