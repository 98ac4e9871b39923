"""Where a trainer runs when that is not a process of ours: a job of a cluster, and what can be done to it.

A cluster's names are handed out again: a requeued Slurm job keeps its number, a pod's successor its name. A
`Workload` is therefore one *incarnation*, with all that tells it from the others, and whoever implements
`Cluster` compares that with what the cluster says now, at each call, before anything is touched. Calls may
hang or fail: they run on a thread of their own (`sentinel.clusters.reach`), never in a tick.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from sentinel.process import Liveness

LAUNCHERS = ("slurm", "kubernetes")
"""What `[trainer] launcher` may name."""

RESUME = "control/resume.sh"
"""Below the run's folder: what a job sources, so that a restart goes on from a checkpoint with a remedy."""


NO_ANSWER = "did not answer"
"""In the words of a request whose outcome is not known, or that may be granted later: it is made again."""


class Standing(StrEnum):
    """What a cluster says of one incarnation of a job."""

    RUNNING = "running"
    HELD = "held"  # this incarnation, and not running just now: suspended, starting, completing
    ENDED = "ended"  # this incarnation does nothing any more, and no other of its name runs
    SUCCEEDED = "succeeded"  # another incarnation of the same job has followed it, or waits to be started
    FOREIGN = "foreign"  # the name belongs to somebody else's job now, or to one of another cluster
    UNKNOWN = "unknown"  # the cluster did not answer, or what it answered cannot be understood

    @property
    def liveness(self) -> Liveness:
        """The same, as the actuator speaks of a process. Unknown is neither healthy nor an end."""
        if self in (Standing.RUNNING, Standing.HELD):
            return Liveness.ALIVE
        return Liveness.UNKNOWN if self is Standing.UNKNOWN else Liveness.GONE


@dataclass(frozen=True, slots=True)
class Workload:
    """One incarnation of a job.

    Attributes:
        kind: the launcher, one of `LAUNCHERS`.
        id: the job as its cluster's commands name it (`4711`, `4711_3`; `namespace/pod`).
        uid: the user it belongs to; -1 where nobody has said.
        began: when its trainer began, wall seconds of the trainer's host; 0 where that is not known.
        facts: what else tells this incarnation from others, by the cluster's own words (`restarts`,
            `cluster`, `pod_uid`). A fact that is not there is not compared.
    """

    kind: str
    id: str
    uid: int = -1
    began: float = 0.0
    facts: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} job {self.id}"

    @classmethod
    def from_record(cls, record: object) -> Workload | None:
        """Read back a workload; None where it is none or makes no sense."""
        if not isinstance(record, Mapping) or record.get("kind") not in LAUNCHERS:
            return None
        name, uid, began, facts = (record.get(key) for key in ("id", "uid", "began", "facts"))
        if not isinstance(name, str) or not name:
            return None
        kept = {str(k): str(v) for k, v in facts.items()} if isinstance(facts, Mapping) else {}
        return cls(
            record["kind"],
            name,
            uid if type(uid) is int else -1,
            float(began) if isinstance(began, (int, float)) else 0.0,
            kept,
        )

    @classmethod
    def registered(cls, trainer: Mapping[str, Any]) -> Workload | None:
        """The workload that a guard names in trainer.json; None where it runs in no cluster's job."""
        body = trainer.get("workload")
        if not isinstance(body, Mapping):
            return None
        return cls.from_record({**body, "uid": trainer.get("uid"), "began": trainer.get("started_at")})


@dataclass(frozen=True, slots=True)
class Sight:
    """What a cluster said of a workload.

    Attributes:
        standing: what is known. words: why, for people; empty where there is nothing to add.
        now: the incarnation that bears the name at present and is of the same user, with all that is known
            of it, `began` 0 while it waits to be started; None for none.
    """

    standing: Standing
    words: str = ""
    now: Workload | None = None


class Cluster(Protocol):
    """What can be done to a cluster's jobs.

    Every call may take some seconds, and is given up after a time of its own; none raises. Each that touches
    a job looks at it first, and touches it only where it is that very incarnation, of that user. They return
    an empty string when the cluster took the request, else the reason why it was not done, in words.
    """

    kind: str

    def look(self, workload: Workload) -> Sight:
        """Say how it is."""
        ...

    def ring(self, workload: Workload) -> str:
        """Tell the trainer to look into its folder, by a way that can do no harm to any process of the job;
        a cluster that has none says so. A lost ring costs a second.
        """
        ...

    def ask(self, workload: Workload, signum: signal.Signals) -> str:
        """Send a signal that the user gave a meaning, or SIGTERM."""
        ...

    def end(self, workload: Workload) -> str:
        """End it for good, by force; only ever for `terminate`."""
        ...

    def restart(self, workload: Workload) -> str:
        """End this incarnation and have the cluster start the same job again; `RESUME` has been written."""
        ...

    def restartable(self, workload: Workload) -> str:
        """Say why `restart` would not do, for `sentinel doctor` and before anything is written."""
        ...

    def successor_test(self, workload: Workload) -> str:
        """Give a POSIX shell test that holds in later incarnations of this very job and nowhere else."""
        ...
