"""`sentinel run`: put the parts together and tick until told to stop, or until the supervised job ends."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from notifier.base import Notifier, Permanent
from notifier.console import ConsoleNotifier
from notifier.message import Message
from notifier.route import channels_for
from notifier.slack import SlackNotifier
from rules.gate import Ending
from sentinel.clock import Clock
from sentinel.config import Settings, SlackTable
from sentinel.engine import Engine
from sentinel.errors import StateError
from sentinel.gate_watch import GatePlan, final_code
from sentinel.journal import Journal
from sentinel.lock import StateLock
from sentinel.mail import Mail
from sentinel.outbox import Outbox
from sentinel.state import JOURNAL, state_folder
from sentinel.story import notice
from sentinel.supervise import Child
from sentinel.wakeup import Wakeup

TICK_EVERY = 0.5
"""Seconds between two ticks where nothing changes; a change makes one at once."""

LEAST_BETWEEN = 0.1
"""Seconds between two ticks at the least: a busy writer must not make us as busy as itself."""

AFTERLIFE = 3.0
"""Seconds for which a supervised job's last points are still waited for after it has ended."""

DRAIN = 10.0
"""Seconds for which undelivered messages are waited for at the end; what is left is sent by the next start.
"""


def serve(
    settings: Settings,
    logdir: Path,
    *,
    state: Path | None,
    act: bool,
    child: Sequence[str],
    clock: Clock,
    gates: GatePlan | None = None,
) -> int:
    """Watch every run below `logdir`.

    Args:
        settings: what to watch for.
        logdir: the folder of runs; it may not exist yet.
        state: the sentinel's memory; None for the default of this log directory.
        act: send commands; else they are only told.
        child: a command to start and to supervise; empty for none.
        clock: time.
        gates: what the runs are held against; None for nothing.

    Returns:
        The child's exit code, with gates as `final_code` has it; or 0 when stopped by SIGINT or SIGTERM.

    Raises:
        StateError: another sentinel holds the state, or the journal cannot be written. Once a child has been
            started this is said and not raised: the child goes on unwatched.
        ConfigError: the child cannot be started.
    """
    folder = state_folder(logdir, state)
    lock = StateLock(folder)
    journal = Journal(folder / JOURNAL)
    wakeup = Wakeup(logdir)
    channels = _channels(settings)
    outbox = Outbox(channels, clock.monotonic, wake=wakeup.ring)
    routes = [route for route in settings.routes if route.channel in channels]
    mail = Mail(journal, outbox, partial(channels_for, routes=routes))
    with journal.transaction():
        journal.put("meta", name="mode", value="act" if act else "observe")
        journal.put("meta", name="logdir", value=str(logdir.absolute()))
    engine = Engine(logdir, folder, settings, journal, mail, clock, act=act, gates=gates)

    def tell(message: Message) -> None:
        with journal.transaction():
            mail.post(message, clock.wall())

    print(_greeting(settings, logdir, folder, act=act, reason=wakeup.reason), file=sys.stderr, flush=True)
    try:
        if child:
            with Child(child, wake=wakeup.ring) as job:
                code = _supervise(
                    job,
                    engine,
                    wakeup,
                    clock,
                    tell,
                    settle=partial(outbox.drain, DRAIN),
                    gated=gates is not None,
                )
        else:
            with _Stop(wakeup.ring) as stop:
                code = _until(engine, wakeup, clock, stop.poll)
            outbox.drain(DRAIN)
            engine.tick()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT  # asked a second time: what is undelivered waits for the next start
    finally:
        outbox.close()
        wakeup.close()
        journal.close()
        lock.release()
    return code


def _until(engine: Engine, wakeup: Wakeup, clock: Clock, ended: Callable[[], int | None]) -> int:
    while (code := ended()) is None:
        began = clock.monotonic()
        engine.tick()
        wakeup.retry()
        wakeup.wait(TICK_EVERY)
        left = LEAST_BETWEEN - (clock.monotonic() - began)
        if left > 0:
            clock.rest(left)
    return code


def _supervise(
    job: Child,
    engine: Engine,
    wakeup: Wakeup,
    clock: Clock,
    tell: Callable[[Message], None],
    *,
    settle: Callable[[], object],
    gated: bool,
) -> int:
    """Watch a job to its end, and return its exit code, or what its gates make of it; where the memory fails
    the job goes on, unwatched.
    """
    try:
        code = _until(engine, wakeup, clock, job.poll)
        if code and job.asked_to_stop is None:
            tell(_failure(job, code, clock.wall()))
        _after(engine, wakeup, clock)
        if gated:
            ending: Ending = "terminated" if job.asked_to_stop else "died" if code else "finished"
            code = final_code(code, engine.close_gates(ending))
        settle()
        engine.tick()
    except StateError as error:
        print(f"sentinel: {error}", file=sys.stderr, flush=True)
        return _unwatched(job, wakeup)
    return code


def _unwatched(job: Child, wakeup: Wakeup) -> int:
    while (code := job.poll()) is None:
        wakeup.wait(TICK_EVERY)
    return code


def _failure(job: Child, code: int, wall: float) -> Message:
    how = f"by {signal.Signals(code - 128).name}" if _is_signal(code - 128) else f"with exit code {code}"
    return notice(
        "",
        "job",
        "critical",
        f"the job ended {how}",
        f"{' '.join(job.command)} (pid {job.pid}) ended {how}; nobody had asked it to through the sentinel",
        wall,
        "Read the end of its output (SIGKILL: look for the kernel's out-of-memory killer); resume from the "
        "last good checkpoint.",
    )


def _is_signal(number: int) -> bool:
    return number in {int(known) for known in signal.Signals}


def _after(engine: Engine, wakeup: Wakeup, clock: Clock) -> None:
    """Judge what the job wrote last: its final points, its end, the ticks that no further point closes."""
    deadline = clock.monotonic() + AFTERLIFE
    while clock.monotonic() < deadline:
        engine.tick()
        wakeup.wait(TICK_EVERY)


class _Stop:
    """SIGINT and SIGTERM as an end that the loop asks for."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._stopped = False
        self._before: dict[signal.Signals, object] = {}

    def poll(self) -> int | None:
        """Return 0 once a signal has come."""
        return 0 if self._stopped else None

    def __enter__(self) -> _Stop:
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]  # what signal.signal gave us

    def _note(self, _signum: int, _frame: FrameType | None) -> None:
        self._stopped = True
        self._wake()


def _channels(settings: Settings) -> Mapping[str, Notifier]:
    """Open the configured channels; one that cannot be opened is one whose every message fails, and that is
    told.
    """
    notify = settings.service.notify
    channels: dict[str, Notifier] = {}
    if notify.console.enabled:
        channels["console"] = ConsoleNotifier(sys.stderr)
    if notify.slack is not None:
        try:
            channels["slack"] = _slack(notify.slack)
        except Permanent as error:
            print(f"sentinel: {error.reason}; Slack is not told, the other channels are", file=sys.stderr)
    return channels


def _slack(table: SlackTable) -> Notifier:
    if table.base_url is not None:
        return SlackNotifier(table.channel, table.token_env, base_url=table.base_url)
    return SlackNotifier(table.channel, table.token_env)


def _greeting(settings: Settings, logdir: Path, folder: Path, *, act: bool, reason: str | None) -> str:
    rules = sum(rule.enabled for rule in settings.rules.rules)
    doing = "commands are sent" if act else "nothing is sent to any trainer; --act arms it"
    poll = f"\nsentinel: {reason}" if reason else ""
    mode = "act" if act else "observe"
    return f"sentinel: watching {logdir} with {rules} rules, mode {mode} ({doing}); state {folder}{poll}"
