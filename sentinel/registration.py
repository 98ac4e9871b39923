"""Who trains a run and what can be asked of them: the sentinel's side of `<run>/control/`.

Where no guard has registered, the process that was found otherwise (`attachment`) can be asked for what
`[trainer.signals]` gives a signal to; a guard's word always comes first.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sentinel.attachment import Attached
from sentinel.checkpoints import Catalogue, Checkpoint
from sentinel.clock import Clock
from sentinel.clusters import Sight, Standing, Workload
from sentinel.clusters.reach import Reach
from sentinel.control import read_json
from sentinel.foreign import ForeignCatalogue, Patterns, joined
from sentinel.policy import Declared
from sentinel.process import Liveness, Process, boot_id, from_record, liveness

_LARGEST = 1 << 20
"""Bytes; no honest registration is longer."""

_LONGEST_ERROR = 500
"""Characters; a guard writes fewer, but the file may be anybody's."""


NO_ROLLBACK = (
    "a signal cannot say where to go back to; a rollback needs the guard, or [trainer] resume and a job that "
    "`sentinel run -- CMD` started"
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is agreed with jobs that have no guard.

    Attributes:
        signals: the signal that stands for a verb. patterns: how their checkpoints are called.
        clock: tells when a checkpoint is at rest.
        reach: the way to the jobs of a cluster. workload: the job that was named for this run.
    """

    signals: Mapping[str, signal.Signals] = field(default_factory=dict)
    patterns: Patterns | None = None
    clock: Clock | None = None
    reach: Reach | None = None
    workload: Workload | None = None


class Registration:
    """The trainer of one run as its guard registered it, or as it was found otherwise, or nobody.

    Attributes:
        record: trainer.json as last read; None where no guard has registered.
        process: who it is.
        workload: the cluster's job that it runs in, this one incarnation of it; None where none is known.
        attached: the process of a job without guard.
        catalogue: lists its checkpoints; None where it declared none.
    """

    def __init__(self, run: Path, terms: Terms | None = None) -> None:
        self._run = run
        self.control = run / "control"
        self.record: dict[str, Any] | None = None
        self.process: Process | None = None
        self.workload: Workload | None = None
        self.catalogue: Callable[[], Sequence[Checkpoint]] | None = None
        self.attached = Attached()
        self._terms = terms or Terms()
        self._foreign: ForeignCatalogue | None = None
        self._moved = False
        self._stamp: tuple[int, int, int] | None = None
        self._folder: Path | None = None
        if self._terms.patterns is not None and self._terms.clock is not None:
            clock = self._terms.clock
            self._foreign = ForeignCatalogue(run, self._terms.patterns, clock.wall, clock.monotonic)
            self._folder = run / "checkpoints"
            self.catalogue = joined(Catalogue(self._folder).list, self._foreign.list)

    def attach(self, found: Attached) -> bool:
        """Take a process for the trainer of a job without guard; returns whether that is new."""
        if self.record is not None or found == self.attached:
            return False
        self.attached, self.process, self._moved = found, found.process, True
        return True

    def refresh(self) -> bool:
        """Read trainer.json again if it has changed; returns whether anything is new."""
        moved, self._moved = self._moved, False
        return self._read() or self._find_job() or moved

    def _find_job(self) -> bool:
        """Learn which incarnation of the job that was named runs now; returns whether it is a new one."""
        named, reach = self._terms.workload, self._terms.reach
        if self.record is not None or named is None or reach is None:
            return False
        before = self.workload
        sight = reach.sight(before or self._owned(named))
        if sight.now is None or sight.now == before or sight.standing is Standing.UNKNOWN:
            return False
        self.workload = sight.now
        return True

    def _owned(self, named: Workload) -> Workload:
        """Whoever the run belongs to is the user whose job it must be."""
        try:
            return replace(named, uid=self._run.stat().st_uid)
        except OSError:
            return named

    def pin(self, workload: Workload | None) -> None:
        """Take up which incarnation of a named job was found before."""
        named = self._terms.workload
        if (
            workload is not None
            and named is not None
            and (named.kind, named.id) == (workload.kind, workload.id)
        ):
            self.workload = workload

    @property
    def sight(self) -> Sight | None:
        """What the cluster says of the trainer's job; None where nobody is asked."""
        reach, named = self._terms.reach, self._terms.workload
        workload = self.workload or (
            self._owned(named) if named is not None and self.record is None else None
        )
        return (
            reach.sight(workload)
            if reach is not None and workload is not None and reach.serves(workload)
            else None
        )

    def _read(self) -> bool:
        path = self.control / "trainer.json"
        try:
            found = path.stat()
            stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
            if stamp == self._stamp or found.st_size > _LARGEST:
                return False
            record = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return False  # nobody yet, or being written: it appears whole by rename
        self._stamp = stamp
        if not isinstance(record, dict):
            return False
        self.record = record
        self.process = from_record(record)
        if self.process is not None and self.process.uid not in (-1, found.st_uid):
            self.process = None  # whoever wrote this names a process of somebody else
            record = {**record, "workload": None}
        self.workload = Workload.registered(record)
        folder = self._run / str(record.get("checkpoints") or "checkpoints")
        if folder != self._folder:
            self._folder = folder
            self.catalogue = Catalogue(folder).list
        return True

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are, or would be."""
        return self._folder or self._run / "checkpoints"

    @property
    def known(self) -> bool:
        """Whether a guard has registered."""
        return self.record is not None

    @property
    def finished(self) -> bool:
        """Whether the trainer said that the run is over."""
        return self.record is not None and self.record.get("finished_at") is not None

    @property
    def outcome(self) -> str | None:
        """How the trainer said it ended: finished, terminated or failed."""
        return None if self.record is None else self.record.get("outcome")

    @property
    def error(self) -> str:
        """The exception that ended the trainer's process, in one line; empty where none is known."""
        said = (self.record or {}).get("error")
        return said[:_LONGEST_ERROR] if isinstance(said, str) else ""

    @property
    def attempt(self) -> int:
        """The trainer's own count of attempts, which a command must name."""
        value = (self.record or {}).get("attempt")
        return value if isinstance(value, int) else 0

    @property
    def alive(self) -> bool:
        """Whether the registered process runs."""
        return self.liveness is Liveness.ALIVE

    @property
    def liveness(self) -> Liveness:
        """What is known of the registered process, or of the cluster's job that it runs in."""
        reach, local = self._terms.reach, liveness(self.process)
        if reach is None or local is Liveness.ALIVE:
            return local
        named = self.record is None and self.workload is not None
        # A job that was named is requeued with other processes: the end of one is not its end.
        return reach.liveness(None if named else self.process, self.workload)

    @property
    def unreachable(self) -> str:
        """Why no command can reach the trainer, in words; empty where one can."""
        if self.record is None and self._terms.workload is not None:
            if self.workload is not None:
                return f"{self.workload} has ended" if self.liveness.ended else ""
            if self.process is None or not self._terms.signals:
                seen = self.sight
                why = seen.words if seen is not None and seen.words else "it was not looked at yet"
                return f"{self._terms.workload} was named, and is not known to be this run's: {why}"
        if self.record is None and self.attached.why_not:
            return f"nobody is asked, since {self.attached.why_not}; say who trains with --pid RUN=PID"
        if self.record is None and self.process is None:
            return "nobody has registered as the trainer; a job needs sentinel/guard.py to take commands"
        if self.record is None and not self._terms.signals:
            return "the job has no guard, and [trainer.signals] gives no signal to any command"
        if self.finished:
            return f"the run is over ({self.outcome or 'finished'})"
        return "the trainer's process has ended" if self.liveness.ended else ""

    def checkpoint_bytes(self) -> int:
        """Return what the checkpoint folder takes, in bytes; files that checkpoints share count once."""
        if self._foreign is not None and not self.known:
            return self._foreign.bytes()
        total = 0
        for folder, _, names in os.walk(self._folder) if self._folder is not None else ():
            for name in names:
                with contextlib.suppress(OSError):  # the trainer tidies up while we count
                    total += (Path(folder) / name).lstat().st_size
        return total

    @property
    def declared(self) -> Declared | None:
        """The parameters, parts and verbs a command may name; None where nobody declared any."""
        if self.record is None:
            return self._by_signals()
        parameters = self.record.get("parameters")
        values = {
            str(name): body["value"]
            for name, body in (parameters if isinstance(parameters, dict) else {}).items()
            if isinstance(body, dict) and "value" in body
        }
        return Declared(values, _names(self.record.get("reinit")), _names(self.record.get("verbs")))

    def _by_signals(self) -> Declared | None:
        """What a process without guard can be asked for; None where nobody is known or nothing agreed."""
        signals = self._terms.signals
        if (self.process is None and self.workload is None) or not signals:
            return None
        never = {verb: f"[trainer.signals] gives no signal to {verb}" for verb in ("checkpoint", "terminate")}
        never = {verb: why for verb, why in never.items() if verb not in signals} | {"rollback": NO_ROLLBACK}
        return Declared({}, frozenset(), frozenset(signals), never=never)

    def by_signal(self, verb: str) -> signal.Signals | None:
        """The signal that is the whole command, for a job without guard; None where letters are read."""
        if self.record is not None or (self.process is None and self.workload is None):
            return None
        return self._terms.signals.get(verb)

    def takes(self, verb: str) -> bool:
        """Whether a command can be sent: a letter to a guard, or the signal that stands for the verb."""
        return self.known or self.by_signal(verb) is not None

    @property
    def doorbell(self) -> signal.Signals | None:
        """The signal that says "look now"; None where the trainer only looks by itself."""
        name = (self.record or {}).get("signal")
        return signal.Signals[name] if isinstance(name, str) and name in signal.Signals.__members__ else None

    @property
    def summary(self) -> str | None:
        """What `status` shows of the trainer, as JSON text."""
        if self.record is None and self.process is None and self.workload is not None:
            return json.dumps({"job": self.workload.id, "launcher": self.workload.kind})
        if self.record is None and self.process is not None:
            return json.dumps({"pid": self.process.pid, "host": self.process.host, "how": self.attached.how})
        if self.record is None:
            return None
        kept = {
            k: self.record.get(k) for k in ("pid", "host", "attempt", "started_at", "finished_at", "outcome")
        }
        return json.dumps(kept, sort_keys=True)

    def heartbeat_step(self) -> int | None:
        """Return the step of the trainer's last heartbeat."""
        step = (read_json(self.control / "heartbeat.json") or {}).get("step")
        return step if isinstance(step, int) else None

    @property
    def far(self) -> Process | None:
        """The trainer with a guard where it belongs to another boot, and so has another clock; else None."""
        process = self.process if self.record is not None else None
        return None if process is None or process.boot_id == boot_id() else process

    def heartbeat_wall(self) -> float | None:
        """Return when the trainer wrote its last heartbeat, by its own clock."""
        wall = (read_json(self.control / "heartbeat.json") or {}).get("wall_time")
        return float(wall) if isinstance(wall, (int, float)) else None

    def leave_heartbeat(self, record: dict[str, Any]) -> None:
        """Write the sentinel's own heartbeat beside the trainer's; where there is no guard there is nothing
        to write.
        """
        if not self.known or self.finished:
            return
        temporary = self.control / f".sentinel.{os.getpid()}"
        try:
            temporary.write_text(json.dumps(record), encoding="utf-8")
            temporary.replace(self.control / "sentinel.json")
        except OSError:
            return  # the trainer then says that it trains unwatched, which is true


def _names(value: object) -> frozenset[str]:
    return frozenset(str(item) for item in value) if isinstance(value, list) else frozenset()
