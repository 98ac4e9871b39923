"""Clusters are asked on a thread of its own: their commands may hang, and a tick may not.

A tick reads what came back and leaves what is to be done; nothing here waits. What is known grows old: a
cluster that does not answer any more makes its jobs UNKNOWN, which neither ends nor excuses anything.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from sentinel.actuator import Effect, Ring, WriteLetter
from sentinel.clusters import Cluster, Sight, Standing, Workload
from sentinel.process import Liveness, Process, liveness

LOOK_EVERY = 30.0
"""Seconds between two looks at a job that nothing is asked of."""

EAGER = 2.0
"""Seconds between two looks at a job that something was asked of."""

STALE = 120.0
"""Seconds after which an old answer counts no more."""

NOT_YET = "it was not looked at yet"

_OUT_OF_SIGHT = (Liveness.OTHER_HOST, Liveness.UNKNOWN)

Task: TypeAlias = Callable[[], None]
Key: TypeAlias = tuple[str, int, str]
"""Who asked, number of the command, and what was to be done: names an answer."""


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one request. `said`: empty where the cluster took it, else why not."""

    number: int
    what: str
    said: str


class Reach:
    """Every cluster that was configured, as the tick sees it.

    Attributes:
        clusters: by launcher.
    """

    def __init__(
        self, clusters: Mapping[str, Cluster], monotonic: Callable[[], float], wake: Callable[[], object]
    ) -> None:
        """Begin with nothing known.

        Args:
            clusters: by launcher; empty for none, and then no thread is made.
            monotonic: seconds. wake: ends the loop's wait; called from the thread.
        """
        self.clusters = clusters
        self._monotonic = monotonic
        self._wake = wake
        self._lock = threading.Lock()
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._seen: dict[str, tuple[Workload, Sight, float]] = {}
        self._looking: dict[str, float] = {}
        self._told: defaultdict[str, list[Told]] = defaultdict(list)
        self._asked: set[Key] = set()

    def serves(self, workload: Workload | None) -> bool:
        """Whether a job's cluster was configured."""
        return workload is not None and workload.kind in self.clusters

    def sight(self, workload: Workload, *, eager: bool = False) -> Sight:
        """Return what was last heard of a job, and see to it that it is looked at again in time."""
        if not self.serves(workload):
            return Sight(Standing.UNKNOWN, f"[trainer] launcher does not say {workload.kind}")
        now, key = self._monotonic(), _key(workload)
        with self._lock:
            known, sight, when = self._seen.get(key, (None, Sight(Standing.UNKNOWN, NOT_YET), float("-inf")))
            since = self._looking.get(key)
        if workload not in (known, sight.now):  # a look may have told which incarnation it is
            sight, when = Sight(Standing.UNKNOWN, NOT_YET), float("-inf")
        if since is None and now - when >= (EAGER if eager else LOOK_EVERY):
            with self._lock:
                self._looking[key] = since = now
            self._put(lambda: self._look(workload))
        oldest = min(when, now) if when > float("-inf") else since
        if since is not None and oldest is not None and now - oldest > STALE:
            return Sight(Standing.UNKNOWN, f"{workload.kind} has not answered for {now - oldest:.0f} s")
        return sight

    def liveness(
        self, process: Process | None, workload: Workload | None, *, eager: bool = False
    ) -> Liveness:
        """What is known of a trainer: of its process where that is one of ours, else of its job."""
        local = liveness(process)
        if workload is None or not self.serves(workload) or local not in _OUT_OF_SIGHT:
            return local
        return self.sight(workload, eager=eager).standing.liveness

    def perform(self, asker: str, number: int, effect: Effect) -> str | None:
        """Have the cluster do an effect that its letter's trainer is out of sight for.

        Returns:
            What was done, in words; None where it is to be done here.
        """
        workload = effect.letter.workload
        if isinstance(effect, WriteLetter) or workload is None or not self.serves(workload):
            return None
        if liveness(effect.letter.trainer) not in _OUT_OF_SIGHT:
            return None
        cluster = self.clusters[workload.kind]
        if isinstance(effect, Ring):
            call = partial(cluster.ring, workload)
        elif effect.signum is signal.SIGCONT:
            return f"SIGCONT not sent: {workload.kind} wakes what it ends"
        elif effect.signum is signal.SIGKILL:
            call = partial(cluster.end, workload)
        else:
            call = partial(cluster.ask, workload, effect.signum)
        self.do(asker, number, str(effect), call)
        return str(effect)

    def do(self, asker: str, number: int, what: str, call: Callable[[], str]) -> None:
        """Have a request made; its answer comes with `told`. One that is under way is not made twice."""
        key = (asker, number, what)
        with self._lock:
            if key in self._asked:
                return
            self._asked.add(key)
        self._put(lambda: self._do(key, call))

    def told(self, asker: str) -> list[Told]:
        """Take the answers to what somebody asked for."""
        with self._lock:
            return self._told.pop(asker, [])

    def asked(self, asker: str, number: int, what: str) -> bool:
        """Whether a request has no answer yet."""
        with self._lock:
            return (asker, number, what) in self._asked

    def close(self) -> None:
        """Let the thread end after what it does now; it is not waited for."""
        self._tasks.put(None)

    def _put(self, task: Task) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="clusters", daemon=True)
            self._thread.start()
        self._tasks.put(task)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def _look(self, workload: Workload) -> None:
        key = _key(workload)
        sight = self.clusters[workload.kind].look(workload)
        with self._lock:
            changed = self._seen.get(key, (None, None))[:2] != (workload, sight)
            self._seen[key] = (workload, sight, self._monotonic())
            self._looking.pop(key, None)
        if changed:
            self._wake()

    def _do(self, key: Key, call: Callable[[], str]) -> None:
        asker, number, what = key
        said = call()
        with self._lock:
            self._asked.discard(key)
            self._told[asker].append(Told(number, what, said))
        self._wake()


def _key(workload: Workload) -> str:
    return f"{workload.kind} {workload.id}"
