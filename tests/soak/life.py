"""One sentinel after the other on the same state: begun, ticked, killed in the middle of a tick, begun again.

Everything between the clock and the files is the real thing: lock, journal, watcher, engine, outbox with its
threads. What is replaced are the edges: the clock, the processes, the channels, and a disk that can be full.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import sentinel.dispatch
import sentinel.guard
import sentinel.watcher
from notifier.base import Notifier
from sentinel import actuator
from sentinel.actuator import WriteLetter
from sentinel.attention import Changes
from sentinel.config import Settings, load
from sentinel.lock import StateLock
from sentinel.reload import read_again
from sentinel.state import JOURNAL
from sentinel.watcher import Plan, Watcher
from tests.fakes import FakeClock
from tests.soak.channels import Channel, SteppedOutbox, World
from tests.soak.disk import Disk, Killed

RULES = """\
version = 1
mode = "act"

[trainer]
ack_timeout = "90s"
work_timeout = "600s"
grace = "60s"

[sentinel]
{watchdog}

[notify.slack]
channel = "#training"
at_least = "{at_least}"
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

[ladders.save]
rungs = [
  {{ do = ["notify", "checkpoint"] }},
  {{ do = ["rollback"], after = "2 points", to = "last_good", max = 2, remedy = "gentler" }},
  {{ do = ["terminate"], when = "exhausted" }},
]

[remedies.gentler]
tries = [
  {{ set = {{ lr = "x0.5" }} }}, {{ set = {{ lr = "x0.8" }} }}, {{ set = {{ lr = "x0.7" }} }},
  {{ set = {{ lr = "x0.6" }} }}, {{ set = {{ lr = "x0.5" }} }}, {{ set = {{ lr = "x0.4" }} }},
]

[limits]
min_progress_between = "3 steps"
max_rollbacks = 3

[[rule]]
name = "silent"
expr = "age(loss) > 300"
for = "30s"
severity = "warning"
summary = "silent for {{value:.0f}} s"
{more}
"""

WATCHDOG = 'watchdog_every = "6h"'

MORE = """
[[rule]]
name = "loss_huge"
expr = "loss > 1000"
severity = "warning"
summary = "loss is {value:.6g}"
"""


def write_rules(folder: Path) -> None:
    """Write the files that a reload may find: the usual rules, others, and broken ones."""
    usual = RULES.format(at_least="info", more="", watchdog=WATCHDOG)
    (folder / "usual.toml").write_text(usual)
    (folder / "other.toml").write_text(RULES.format(at_least="warning", more=MORE, watchdog=WATCHDOG))
    (folder / "broken.toml").write_text(
        usual.replace("loss > 10", "loss >> 10").replace('"critical"', '"dire"')
    )


class Full:
    """Which writes outside of the journal fail.

    Attributes:
        control: nothing can be written into control folders. unreadable: folders whose event files cannot be
            opened, and since when something was written there.
    """

    def __init__(self) -> None:
        self.control = False
        self.unreadable: dict[Path, float] = {}

    @contextmanager
    def installed(self, disk: Disk) -> Iterator[None]:
        """Let it be so."""
        perform, write, opened = actuator.perform, sentinel.guard._write, os.open

        def performed(effect: Any, *arguments: Any) -> str:
            disk.touch()
            if self.control and isinstance(effect, WriteLetter):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            said = perform(effect, *arguments)
            disk.touch()
            return said

        def written(*arguments: Any, **options: Any) -> None:
            if self.control:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(*arguments, **options)

        def open_(path: Any, *arguments: Any, **options: Any) -> int:
            if self.unreadable and "tfevents" in str(path) and Path(path).parent in self.unreadable:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return opened(path, *arguments, **options)

        with ExitStack() as stack:
            for owner, name, stand_in in (
                (sentinel.dispatch, "perform", performed),
                (sentinel.guard, "_write", written),
                (os, "open", open_),
            ):
                stack.enter_context(mock.patch.object(owner, name, stand_in))
            yield


class Lives:
    """The sentinel of one state folder, over all its lives.

    Attributes:
        life: number of the present or last life. watcher: of the present one; None while there is none.
        ended: how each life ended: stopped, or killed, which is also said of one that ended while it could
            not remember; reloaded, since a change of channels begins a new one.
        rules: the file in force.
    """

    def __init__(
        self,
        folder: Path,
        logdir: Path,
        clock: FakeClock,
        disk: Disk,
        world: World,
        jitter: Callable[[], float],
    ) -> None:
        self.state = folder / "state"
        self.rules = "usual"
        self.life = 0
        self.ended: dict[int, str] = {}
        self.watcher: Watcher | None = None
        self._folder = folder
        self._logdir = logdir
        self._clock = clock
        self._disk = disk
        self._world = world
        self._jitter = jitter
        self._settings = cache(lambda name: load(folder / f"{name}.toml"))
        self._outboxes: list[SteppedOutbox] = []
        self._lock: StateLock | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the sentinel's outbox be the one that is stepped."""
        with mock.patch.object(sentinel.watcher, "Outbox", self._outbox):
            yield

    def _outbox(
        self, channels: Mapping[str, Notifier], monotonic: Callable[[], float], **options: Any
    ) -> SteppedOutbox:
        for old in self._outboxes:
            old.sever()
        made = SteppedOutbox(channels, monotonic, jitter=self._jitter, moods=self._world.moods, **options)
        self._outboxes = [made]
        return made

    def _channels(self, _settings: Settings) -> Mapping[str, Notifier]:
        if self.life:
            self.ended.setdefault(self.life, "reloaded")
        self.life += 1
        return {name: Channel(name, self._world, self.life) for name in ("console", "slack")}

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.state / JOURNAL

    @property
    def sees(self) -> bool:
        """Whether there is a sentinel that can see and remember."""
        return self.watcher is not None and self.watcher.sees

    def begin(self) -> None:
        """Start a sentinel.

        Raises:
            StateError: its journal cannot be written; there is none then.
        """
        assert self.watcher is None
        self._lock = StateLock(self.state)
        try:
            self.watcher = Watcher(
                self._logdir,
                self.state,
                Plan(self._settings(self.rules), act=True),
                self._clock,
                wake=lambda: None,
                open_channels=self._channels,
            )
        except Killed:
            self._die()
        except BaseException:
            self._let_go("stopped")
            raise

    def tick(self, changes: Changes | None) -> bool:
        """One pass, and what the channels make of it; returns whether the sentinel lives."""
        if self.watcher is None:
            return False
        try:
            self.watcher.tick(changes)
        except Killed:
            self._die()
            return False
        self._outboxes[-1].pump()
        return True

    def reload(self, name: str) -> None:
        """SIGHUP: put the file of this name into force, if it is whole."""
        assert self.watcher is not None
        read = partial(lambda: Plan(self._settings(name), act=True))
        try:
            if read_again(self.watcher, read, self._clock.wall()):
                self.rules = name
        except Killed:
            self._die()

    def stop(self) -> None:
        """SIGTERM: what is queued is delivered if it can be, and written down if that can be."""
        if self.tick(None):
            assert self.watcher is not None
            try:
                self.watcher.write_down()
            except Killed:
                self._die()
                return
            forgetful = self.watcher.lost
            self.watcher.close()
            self._let_go("killed" if forgetful else "stopped")

    def _die(self) -> None:
        self._disk.lose_power(self.journal)
        self._let_go("killed")

    def _let_go(self, how: str) -> None:
        if self.watcher is not None:
            self.watcher._reach.close()  # threads; a process takes them with it
        self.ended[self.life] = how
        self.watcher = None
        for outbox in self._outboxes:
            outbox.sever()
        self._outboxes = []
        if self._lock is not None:
            self._lock.release()
            self._lock = None
