"""A log directory with real event files, a real journal and a real engine, on a clock that the test owns."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from notifier.message import Message
from rules.series import Sample
from sentinel.config import Settings, load
from sentinel.engine import Engine
from sentinel.gate_watch import GatePlan
from sentinel.journal import Journal
from sentinel.mail import Mail
from sentinel.outbox import ChannelHealth, Delivered, Result, Row
from tests.fakes import FakeClock
from tests.sentinel.event_files import record, scalar

RULES = """
version = 1
[metrics]
q = ["q"]
r = ["r"]
[[rule]]
name = "q_high"
expr = "q > 50"
for = "2 points"
clear = "q < 20"
keep_firing_for = "2 points"
severity = "critical"
ladder = "save"
[[rule]]
name = "silent"
expr = "stale(step_any, time='20s')"
severity = "warning"
[[rule]]
name = "ahead"
expr = "q > r + 5"
severity = "info"
[[rule]]
name = "broken"
each = "**"
expr = "not is_finite(x)"
severity = "warning"
[ladders.save]
rungs = [
  { do = ["notify", "checkpoint"] },
  { do = ["rollback"], after = "2 points", max = 2, cooldown = "1000 steps", remedy = "cure" },
  { do = ["terminate"], when = "exhausted" },
]
recovered_when = "q < 10"
within = "600 steps"
[remedies.cure]
tries = [{ set = { lr = "x0.1" } }]
"""


class Post:
    """An outbox whose every message has arrived when it is asked."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._results: list[Result] = []

    def submit(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows.append(row)
            self._results.append(Result(row.id, row.channel, Delivered(f"ref-{row.id}")))

    def collect(self) -> list[Result]:
        results, self._results = self._results, []
        return results

    repeating = ()

    @property
    def has_results(self) -> bool:
        return bool(self._results)

    def health(self) -> dict[str, ChannelHealth]:
        return {}

    @property
    def messages(self) -> list[Message]:
        return [row.message for row in self.rows]


@cache
def _settings(rules: str) -> Settings:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "sentinel.toml"
        config.write_text(rules, encoding="utf-8")
        return load(config)


class Scene:
    """One log directory under watch; `start` again is what a restart after a SIGKILL is."""

    def __init__(
        self,
        folder: Path,
        clock: FakeClock,
        rules: str = RULES,
        *,
        act: bool = False,
        gates: Sequence[str] = (),
    ) -> None:
        self.logdir = folder / "runs"
        self.logdir.mkdir(parents=True, exist_ok=True)
        self.state = folder / "state"
        self.state.mkdir(exist_ok=True)
        self.settings = _settings(rules)
        self.clock = clock
        self.act = act
        self.gates = GatePlan.of(self.settings, gates)
        self.post = Post()
        self._journals: list[Journal] = []
        self.start()

    def start(self) -> None:
        """Take up what the journal knows, as a new process does."""
        for journal in self._journals:
            journal.close()
        self.journal: Journal = Journal(self.state / "journal.sqlite")
        self._journals.append(self.journal)
        outbox: Any = self.post
        mail = Mail(self.journal, outbox, lambda _message: ("console",))
        self.engine = Engine(
            self.logdir,
            self.state,
            self.settings,
            self.journal,
            mail,
            self.clock,
            act=self.act,
            gates=self.gates,
        )

    def write(self, data: bytes, run: str = "a", file: str = "events.out.tfevents.1700000000.t") -> None:
        """Append bytes to an event file."""
        path = self.logdir / run / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as handle:
            handle.write(data)

    def log(
        self, samples: Sequence[Sample], run: str = "a", file: str = "events.out.tfevents.1700000000.t"
    ) -> None:
        """Append samples as a writer does, and let the clock come to the last of them."""
        self.write(encode(samples), run, file)
        if samples and samples[-1][2] > self.clock.now:
            self.clock.advance(samples[-1][2] - self.clock.now)

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, then look."""
        self.clock.advance(seconds)
        self.engine.tick()

    def settle(self) -> None:
        """Look until the last tick of the files is over."""
        self.tick(1.1)
        self.tick(2.1)

    def transitions(self) -> list[dict[str, Any]]:
        """Return the changes of state that the journal holds, in order, without when they were recorded."""
        rows = [dict(row) for row in self.journal.rows("SELECT * FROM transitions ORDER BY id")]
        for row in rows:
            del row["id"], row["recorded"]
            row["actions"] = json.loads(row["actions"])
        return rows

    def moves(self, key: str = "q_high") -> list[str]:
        """Return `after` of each change of one alert."""
        return [t["after"] for t in self.transitions() if t["key"] == key and t["before"] != t["after"]]


def encode(samples: Iterable[Sample]) -> bytes:
    """Frame samples as event records, one each."""
    return b"".join(scalar(tag, step, value, wall) for tag, step, wall, value in samples)


def start_record(step: int, wall: float) -> bytes:
    """Frame a SessionLog.START, as SummaryWriter(purge_step=step) writes it."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    event = Event(wall_time=wall, step=step)
    event.session_log.status = SessionLog.START
    return record(event.SerializeToString())
