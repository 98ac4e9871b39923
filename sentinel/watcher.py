"""What outlives a tick that failed and a change of the rules: the engine is thrown away and taken up again.

The one fact to hold: the journal is the memory, an engine is only what was made of it. Where the journal
cannot be written (a full disk), the engine has run ahead of it, so it must not go on: it is dropped, people
are told past the journal, and once there is space again a new one is taken up from what was last committed,
as a new process would. New rules come into force the same way, with windows refilled and alerts kept by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from notifier.base import Notifier
from notifier.message import Message
from notifier.route import channels_for
from rules.gate import Ending
from sentinel.attention import Changes
from sentinel.clock import Clock
from sentinel.clusters.opening import reach_for
from sentinel.config import Settings
from sentinel.engine import Engine
from sentinel.errors import StateError
from sentinel.gate_watch import GatePlan, LiveGates
from sentinel.journal import Journal
from sentinel.mail import Mail
from sentinel.outbox import Outbox, Row
from sentinel.process import Process
from sentinel.state import JOURNAL
from sentinel.story import notice
from sentinel.supervise import Processes

RETRY_EVERY = 2.0
"""Seconds between two attempts to remember again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is in force.

    Attributes:
        settings: rules, ladders, channels. act: commands are sent, and not only told.
        gates: what the runs are held against; None for nothing.
        named: processes that were named as trainers, by run; "" for the only one.
    """

    settings: Settings
    act: bool
    gates: GatePlan | None = None
    named: Mapping[str, Process] = field(default_factory=dict)


class Watcher:
    """The engine of one log directory, for as long as the process lives.

    Attributes:
        plan: what is in force.
        processes: what this process has started.
        lost: why nothing can be remembered, and so nothing is decided; "" while all is well.
    """

    def __init__(
        self,
        logdir: Path,
        folder: Path,
        plan: Plan,
        clock: Clock,
        *,
        wake: Callable[[], None],
        open_channels: Callable[[Settings], Mapping[str, Notifier]],
        pulse: Callable[[], object] = int,
    ) -> None:
        """Take up what the journal knows.

        Args:
            logdir: the folder of runs. folder: of the state. plan: what is in force at first. clock: time.
            wake: ends the loop's wait; called by the notifiers' threads.
            open_channels: makes the notifiers, by name.
            pulse: called again and again during a tick, which may take long where there is much to read.

        Raises:
            StateError: the journal cannot be opened or written; nothing is watched.
        """
        self.plan = plan
        self.processes = Processes()
        self.lost = ""
        self._logdir = logdir
        self._folder = folder
        self._clock = clock
        self._wake = wake
        self._open_channels = open_channels
        self._pulse = pulse
        self._journal: Journal | None = None
        self._engine: Engine | None = None
        self._since = 0.0
        self._retry_at = 0.0
        self._unremembered = 0
        self._outbox = self._open_outbox()
        self._reach = reach_for(plan.settings.service.trainer.launcher, clock.monotonic, wake)
        try:
            self._take_up()
        except StateError:
            self.close()
            raise

    def tick(self, changes: Changes | None = None) -> bool:
        """Do everything that is due, or try to remember again; returns whether there were new points.

        Args:
            changes: as for `Engine.tick`.
        """
        now = self._clock.monotonic()
        if self.lost and now < self._retry_at:
            return False
        try:
            engine = self._engine or self._take_up()
            grew = engine.tick(changes)
            if self.lost:
                self._say_found()
        except StateError as error:
            self._lose(str(error), now)
            return False
        return grew

    @property
    def sees(self) -> bool:
        """Whether the last tick was remembered and could read what it watches."""
        return not self.lost and self._engine is not None and self._engine.sees

    @property
    def blind(self) -> tuple[str, ...]:
        """Names of the runs that cannot be read."""
        return self._engine.blind if self._engine is not None else ()

    @property
    def is_behind(self) -> bool:
        """Whether the last tick left runs for the next one, so that there is nothing to wait for."""
        return not self.lost and self._engine is not None and self._engine.is_behind

    def begin(self, command: Sequence[str], folder: Path) -> str:
        """Wish for a job, once, before the first tick; what `Job.begin` returns and raises.

        Raises:
            StateError: that cannot be remembered, so nothing is started.
        """
        assert self._engine is not None and self._journal is not None, "called before the first tick"  # noqa: PT018
        with self._journal.transaction():
            said = self._engine.job.begin(command, folder)
        self._engine.job.perform()
        return said

    @property
    def job_code(self) -> int | None:
        """Our exit code once the job is over; None while there is something to wait for.

        Where nothing can be remembered nothing is started again, so the end of its process is the job's.
        """
        if not self.lost and self._engine is not None:
            return self._engine.job.code
        process = self.processes.current
        return self.processes.exits.get(process.pid) if process is not None else None

    def tell(self, message: Message) -> None:
        """Tell people; past the journal where that cannot be written."""
        if self._journal is not None and not self.lost:
            try:
                with self._journal.transaction():
                    self._mail.post(message, self._clock.wall())
            except StateError as error:
                self._lose(str(error), self._clock.monotonic())
            else:
                return
        self._tell_directly(message)

    def reload(self, plan: Plan) -> None:
        """Put another plan into force: windows are refilled, alerts and ladders go on by their names."""
        rewired = plan.settings.service.notify != self.plan.settings.service.notify
        if rewired:
            self._outbox.close()  # what it has not delivered is in the journal, and goes out by the new one
            self.write_down()
        self._drop()
        launcher = self.plan.settings.service.trainer.launcher
        if rewired:
            self.plan = plan
            self._outbox = self._open_outbox()
        self.plan = plan
        if launcher != plan.settings.service.trainer.launcher:
            self._reach.close()
            launcher = plan.settings.service.trainer.launcher
            self._reach = reach_for(launcher, self._clock.monotonic, self._wake)
        try:
            self._take_up()
        except StateError as error:
            self._lose(str(error), self._clock.monotonic())

    def close_gates(self, ending: Ending) -> list[LiveGates]:
        """Settle the gates of every run that was trained while it was watched.

        Raises:
            StateError: the verdict cannot be written.
        """
        if self._engine is None:
            raise StateError(self.lost)
        return self._engine.close_gates(ending)

    def drain(self, seconds: float) -> None:
        """Send what waits for its group, and wait for undelivered messages, at most so long; for the end of a
        process.
        """
        if self._journal is not None and not self.lost:
            with suppress(StateError):  # then the next start sends it
                with self._journal.transaction():
                    self._mail.groups.flush_all(self._clock.wall())
                self._mail.submit()
        self._outbox.drain(seconds)

    def write_down(self) -> None:
        """Record what has been delivered, and queue nothing: whoever comes next would tell it again."""
        if self._journal is None or self.lost:
            return
        with suppress(StateError), self._journal.transaction():  # then it is told twice, which is allowed
            self._mail.record(self._clock.wall())

    def close(self) -> None:
        """Let everything go; a crash does the same."""
        self._outbox.close()
        self._reach.close()
        self._drop()

    def _take_up(self) -> Engine:
        self._drop()
        self._journal = journal = Journal(self._folder / JOURNAL)
        route = partial(channels_for, routes=self._routes)
        settings, root = self.plan.settings, self._logdir.resolve().name
        self._mail = Mail(journal, self._outbox, route, root, settings.policies, settings.labels)
        with journal.transaction():
            journal.put("meta", name="mode", value="act" if self.plan.act else "observe")
            journal.put("meta", name="logdir", value=str(self._logdir.absolute()))
        self._engine = Engine(
            self._logdir,
            self._folder,
            self.plan.settings,
            journal,
            self._mail,
            self._clock,
            act=self.plan.act,
            gates=self.plan.gates,
            processes=self.processes,
            named=self.plan.named,
            reach=self._reach,
            pulse=self._pulse,
        )
        return self._engine

    def _drop(self) -> None:
        journal, self._journal, self._engine = self._journal, None, None
        if journal is not None:
            journal.close()

    def _open_outbox(self) -> Outbox:
        channels = self._open_channels(self.plan.settings)
        self._routes = [route for route in self.plan.settings.routes if route.channel in channels]
        return Outbox(channels, self._clock.monotonic, wake=self._wake)

    def _lose(self, reason: str, now: float) -> None:
        """Stop deciding: what is in memory has run ahead of what was committed, and must not be used."""
        self._drop()
        self._retry_at = now + RETRY_EVERY
        if self.lost:
            return
        self.lost, self._since = reason, self._clock.wall()
        text = f"{reason} It looks again every {RETRY_EVERY:g} s and goes on from where it last remembered."
        title = "the sentinel cannot remember, so nothing is decided"
        self._tell_directly(notice("", "state", "critical", title, text, self._since))

    def _say_found(self) -> None:
        now = self._clock.wall()
        self.lost = ""
        text = (
            f"The journal can be written again. For {now - self._since:.0f} s nothing was decided; what was "
            "logged meanwhile has now been judged."
        )
        self.tell(notice("", "state", "warning", "the sentinel remembers again", text, now))

    def _tell_directly(self, message: Message) -> None:
        """Hand a message to the channels without a row: told at most once, and forgotten by a restart."""
        rows = []
        for channel in channels_for(message, self._routes):
            self._unremembered += 1
            rows.append(Row(-self._unremembered, channel, message))  # no row of the journal has such an id
        self._outbox.submit(rows)
