"""`sentinel run`: put the parts together and tick until told to stop, or until the supervised job ends."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from notifier.base import Notifier
from notifier.format import neutral
from rules.gate import Ending
from sentinel.channels import open_channels
from sentinel.clock import AwakeClock, Clock
from sentinel.config import Settings
from sentinel.desks import Desks
from sentinel.errors import StateError
from sentinel.gate_watch import final_code
from sentinel.interrupts import held
from sentinel.lifesigns import LifeSigns
from sentinel.lock import StateLock
from sentinel.machine import file_systems
from sentinel.metrics_port import MetricsPort
from sentinel.reload import read_again
from sentinel.state import JOURNAL, state_folder
from sentinel.stopping import Stop
from sentinel.supervise import Forwarding, check_command
from sentinel.systemd import own
from sentinel.wakeup import Wakeup
from sentinel.watcher import Plan, Watcher

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
    plan: Plan,
    logdir: Path,
    *,
    state: Path | None,
    child: Sequence[str],
    clock: AwakeClock,
    reload: Callable[[], Plan] | None = None,
) -> int:
    """Watch every run below `logdir`.

    Args:
        plan: what to watch for, and whether commands are sent or only told.
        logdir: the folder of runs; it may not exist yet.
        state: the sentinel's memory; None for the default of this log directory.
        child: a command to start and to supervise; empty for none.
        clock: time.
        reload: reads the configuration anew, on SIGHUP; None where there is no file to read.

    Returns:
        The child's exit code, with gates as `final_code` has it; or 0 when stopped by SIGINT or SIGTERM.

    Raises:
        StateError: another sentinel holds the state, or the journal cannot be written from the start. Later
            that is told, and decisions wait until it can.
        ConfigError: the child cannot be started.
    """
    if not child:
        return _serve(plan, logdir, state_folder(logdir, state), (), clock, reload)
    check_command(child)
    with held():  # before any thread is started
        return _serve(plan, logdir, state_folder(logdir, state), child, clock, reload)


def _serve(
    plan: Plan,
    logdir: Path,
    folder: Path,
    child: Sequence[str],
    clock: AwakeClock,
    reload: Callable[[], Plan] | None,
) -> int:
    lock = StateLock(folder)
    wakeup = Wakeup(logdir)
    signs = LifeSigns(own(), plan.settings, clock.monotonic)
    port = MetricsPort(folder / JOURNAL, clock)
    port.follow(plan.settings)
    desks = Desks(folder, logdir, clock)
    try:
        watcher = Watcher(
            logdir, folder, plan, clock, wake=wakeup.ring, open_channels=_channels, pulse=signs.pulse
        )
    except StateError:
        port.close()
        wakeup.close()
        lock.release()
        raise
    desks.follow(plan.settings)
    print(
        neutral(_greeting(plan, logdir, folder, reason=wakeup.reason), lines=True),
        file=sys.stderr,
        flush=True,
    )
    try:
        if child:
            with Forwarding(watcher.processes, wakeup.ring) as signals:
                said = watcher.begin(child, Path.cwd())
                if said:
                    print(neutral(f"sentinel: {said}"), file=sys.stderr, flush=True)
                signs.ready()
                look = partial(_look_or_reload, watcher, signs, (port, desks), wakeup, clock, signals, reload)
                code = _supervise(watcher, signals, look, wakeup, clock, gated=plan.gates is not None)
        else:
            with Stop(wakeup.ring) as stop:
                signs.ready()
                look = partial(_look_or_reload, watcher, signs, (port, desks), wakeup, clock, stop, reload)
                code = _until(watcher, look, wakeup, clock, stop.poll)
            signs.close()
            watcher.drain(DRAIN)
            watcher.write_down()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT  # asked a second time: what is undelivered waits for the next start
    finally:
        signs.close()
        desks.close()
        port.close()
        watcher.close()
        wakeup.close()
        lock.release()
    return code


def _look(watcher: Watcher, signs: LifeSigns, port: MetricsPort, wakeup: Wakeup, clock: Clock) -> None:
    began = clock.wall()  # which counts a file system that hangs, as the clock for deadlines does not
    watcher.processes.reap()
    watcher.tick(wakeup.changes())
    signs.look(watcher)
    port.look(watcher, max(0.0, clock.wall() - began))


def _look_or_reload(
    watcher: Watcher,
    signs: LifeSigns,
    outward: tuple[MetricsPort, Desks],
    wakeup: Wakeup,
    clock: Clock,
    stop: Stop | Forwarding,
    reload: Callable[[], Plan] | None,
) -> None:
    """Put other rules into force where that was asked for, then look."""
    if stop.take_reload() and reload is not None and read_again(watcher, reload, clock.wall()):
        signs.follow(watcher.plan.settings)
        for each in outward:
            each.follow(watcher.plan.settings)
    _look(watcher, signs, outward[0], wakeup, clock)


def _until(
    watcher: Watcher,
    look: Callable[[], object],
    wakeup: Wakeup,
    clock: AwakeClock,
    ended: Callable[[], int | None],
) -> int:
    while (code := ended()) is None:
        began = clock.monotonic()
        clock.work(look)
        wakeup.retry()
        clock.wait(wakeup.wait, 0.0 if watcher.is_behind else TICK_EVERY)
        left = LEAST_BETWEEN - (clock.monotonic() - began)
        if left > 0:
            clock.rest(left)
    return code


def _supervise(
    watcher: Watcher,
    signals: Forwarding,
    look: Callable[[], object],
    wakeup: Wakeup,
    clock: AwakeClock,
    *,
    gated: bool,
) -> int:
    """Watch a job to its end, and return its exit code, or what its gates make of it."""

    def ended() -> int | None:
        signals.poll()
        return watcher.job_code

    code = _until(watcher, look, wakeup, clock, ended)
    _after(watcher, wakeup, clock)
    if gated:
        asked = watcher.processes.asked_to_stop is not None
        ending: Ending = "terminated" if asked else "died" if code else "finished"
        try:
            code = final_code(code, watcher.close_gates(ending))
        except StateError as error:
            print(neutral(f"sentinel: {error} The gates are undecided."), file=sys.stderr, flush=True)
            code = final_code(code, [])
    watcher.drain(DRAIN)
    watcher.write_down()
    return code


def _after(watcher: Watcher, wakeup: Wakeup, clock: Clock) -> None:
    """Judge what the job wrote last: its final points, its end, the ticks that no further point closes."""
    deadline = clock.monotonic() + AFTERLIFE
    while clock.monotonic() < deadline:
        watcher.tick()
        wakeup.wait(TICK_EVERY)


def _channels(settings: Settings) -> Mapping[str, Notifier]:
    return open_channels(settings.service.notify)


def _greeting(plan: Plan, logdir: Path, folder: Path, *, reason: str | None) -> str:
    rules = sum(rule.enabled for rule in plan.settings.rules.rules)
    doing = "commands are sent" if plan.act else "nothing is sent to any trainer; --act arms it"
    remarks = [reason] if reason else []
    remarks += [finding.text for finding in file_systems(logdir, folder)]
    poll = "".join(f"\nsentinel: {remark}" for remark in remarks)
    mode = "act" if plan.act else "observe"
    return f"sentinel: watching {logdir} with {rules} rules, mode {mode} ({doing}); state {folder}{poll}"
