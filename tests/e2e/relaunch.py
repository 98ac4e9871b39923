"""A rollback by a stop and a resume, told again and again, the sentinel killed at another touch each time.

    python -m tests.e2e.relaunch FOLDER POINT…        POINT 0: not killed

The job is a real process that leaves a line when it begins. The sentinel is forked, ticks on its own, and
sends itself SIGKILL at its POINT-th touch of the world: a statement that changes the journal, before and
after each start and each signal. Another is forked then, until the rollback has its outcome. Prints one JSON
object per story. No production code knows of this.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentinel.clock
import sentinel.job
import sentinel.process
from sentinel.config import load
from sentinel.engine import Engine
from sentinel.inbox import Command, drop
from sentinel.journal import Journal
from sentinel.mail import Mail
from sentinel.members import MARK, members
from sentinel.outbox import Outbox
from sentinel.state import JOURNAL
from sentinel.supervise import Processes
from tests.sentinel.event_files import scalar

CHANGES = re.compile(r"\s*(COMMIT|INSERT|UPDATE|DELETE)", re.IGNORECASE)
LONGEST = 20.0

RULES = """
version = 1
[trainer]
grace = "1s"
resume = "{command} --resume {checkpoint} {overrides}"
[trainer.parameters]
lr = 0.5
[metrics]
loss = ["loss"]
[[rule]]
name = "high"
expr = "loss > 1e9"
"""


class Story:
    """One log directory, one job, and the sentinels that follow each other."""

    def __init__(self, folder: Path, point: int) -> None:
        self.folder, self.point = folder, point
        self.starts = folder / "starts"
        self.run = folder / "runs" / "a"
        (self.run / "checkpoints").mkdir(parents=True)
        (folder / "state").mkdir()
        (folder / "rules.toml").write_text(RULES)
        with zipfile.ZipFile(self.run / "checkpoints" / "rl_model_40_steps.zip", "w") as archive:
            archive.writestr("state", "x")
        os.utime(self.run / "checkpoints" / "rl_model_40_steps.zip", (1e9, 1e9))
        # The line is written by the exec'ed program itself, so it stands for a start that took effect.
        program = f'printf "%s %s\\n" "${MARK}" "$*" >> {self.starts}; exec sleep 100'
        self.command = ["sh", "-c", program, "job"]
        self.touches = 0

    def touch(self, _name: object = None) -> None:
        """Count, and perhaps die; only what a rollback has asked for counts."""
        if self.counting:
            self.touches += 1
            if self.touches == self.point:
                os.kill(os.getpid(), signal.SIGKILL)

    counting = False

    def be_sentinel(self) -> None:
        """Tick until the rollback has its outcome and the resumed job runs."""
        connect, start = sqlite3.connect, Processes.start

        def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*arguments, **options)
            connection.set_trace_callback(lambda text: self.touch() if CHANGES.match(text) else None)
            return connection

        def counted(done: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any, **options: Any) -> Any:
                self.touch()
                found = done(*arguments, **options)
                self.touch()
                return found

            return wrapped

        sqlite3.connect = watched  # type: ignore[assignment]  # this process exists to be killed at a statement
        setattr(sentinel.job, "send", counted(sentinel.process.send))  # noqa: B010  a name that it does not export
        Processes.start = counted(start)  # type: ignore[method-assign]  # as above
        journal = Journal(self.folder / "state" / JOURNAL)
        mail = Mail(journal, Outbox({}, time.monotonic), lambda _message: [])
        family = Processes()
        engine = Engine(
            self.folder / "runs",
            self.folder / "state",
            load(self.folder / "rules.toml"),
            journal,
            mail,
            sentinel.clock.SystemClock(),
            act=True,
            processes=family,
        )
        with journal.transaction():
            engine.job.begin(self.command, self.folder)
        engine.job.perform()
        asked = (self.folder / "asked").exists()
        self.counting = asked
        deadline = time.monotonic() + LONGEST
        number = 0
        while time.monotonic() < deadline:
            family.reap()
            engine.tick()
            rows = journal.rows("SELECT state FROM commands")
            if rows and rows[0]["state"] in ("done", "failed", "refused"):
                os._exit(0)
            life = engine.job.life
            if life is not None and "a" not in life.runs:
                number += 1
                with (self.run / "events.out.tfevents.1").open("ab") as file:
                    file.write(scalar("loss", number, 1.0, time.time()))
            elif life is not None and not asked:
                asked = self.counting = True
                (self.folder / "asked").touch()
                request = Command("a", "rollback", "rl_model_40_steps.zip", {"lr": "x0.5"}, (), "by hand")
                drop(request, self.folder / "state")
            time.sleep(0.02)
        os._exit(3)

    def tell(self) -> dict[str, Any]:
        """Fork sentinels until one ends by itself; return what came of it."""
        codes: list[int] = []
        while not codes or codes[-1] == -signal.SIGKILL:
            pid = os.fork()
            if not pid:
                try:
                    if codes:
                        self.point = 0
                    self.be_sentinel()
                except BaseException as error:  # noqa: BLE001  a child that is forked must not become a second teller
                    print(f"sentinel: {error!r}", file=sys.stderr, flush=True)
                os._exit(4)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        time.sleep(0.1)  # a start that should not have been would be seen by now
        lines = self.starts.read_text().splitlines()
        alive = [mark for mark in (line.split()[0] for line in lines) for _ in members(mark)]
        for line in lines:
            for process in members(line.split()[0]):
                os.kill(process.pid, signal.SIGKILL)
        journal = Journal(self.folder / "state" / JOURNAL, read_only=True)
        rows = [dict(row) for row in journal.rows("SELECT state, reason FROM commands")]
        told = journal.rows("SELECT count(*) AS n FROM lives WHERE state = 'running'")[0]["n"]
        arguments = [line.split(maxsplit=1)[1:] for line in lines]
        return {"codes": codes, "starts": arguments, "alive": len(alive), "commands": rows, "running": told}


def main() -> None:
    """Tell each story."""
    folder = Path(sys.argv[1])
    for point in map(int, sys.argv[2:]):
        print(json.dumps({"point": point, **Story(folder / str(point), point).tell()}), flush=True)


if __name__ == "__main__":
    main()
