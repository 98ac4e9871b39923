"""What the sentinel measures itself: is the trainer alive, is there disk left, how much memory does it hold.

Measurements become samples like any other, under tags that begin with `sys/`, and are kept in the journal so
that a restart sees what the rules saw.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rules.series import Sample
from sentinel.process import Liveness, resident_bytes
from sentinel.registration import Registration

ALIVE_EVERY = 15.0
"""Seconds between two samples of a living process."""

DEAD_EVERY = 5.0
"""Seconds between two samples of a dead one: rules hold by what is sampled."""

HOST_EVERY = 30.0
"""Seconds between two samples of disk and memory."""


class Probes:
    """The measurements of one run, each no more often than it is worth."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._alive: tuple[float, bool] | None = None
        self._host = 0.0

    def measure(self, registration: Registration, now: float, run_step: int = 0) -> list[Sample]:
        """Return the samples that are due at `now` (wall time, seconds).

        They stand at the step of the trainer's heartbeat; where there is no guard, at `run_step`.
        """
        if registration.finished or not (registration.known or registration.process):
            return []
        found: list[Sample] = []
        step = registration.heartbeat_step() or (0 if registration.known else run_step)
        state = registration.liveness
        if state in (Liveness.ALIVE, Liveness.GONE, Liveness.ZOMBIE):
            alive = not state.ended
            every = ALIVE_EVERY if alive else DEAD_EVERY
            if self._alive is None or self._alive[1] != alive or not 0.0 <= now - self._alive[0] < every:
                self._alive = (now, alive)
                found.append(("sys/process_alive", step, now, float(alive)))
        if not 0.0 <= now - self._host < HOST_EVERY:  # the clock may have been set back
            self._host = now
            found += self._host_samples(registration, step, now)
        return found

    def _host_samples(self, registration: Registration, step: int, now: float) -> list[Sample]:
        samples: list[Sample] = []
        try:
            disk = shutil.disk_usage(self._folder)
            samples.append(("sys/disk_free_frac", step, now, disk.free / disk.total))
        except (OSError, ZeroDivisionError):
            pass  # the folder's own disappearance is told by the reader
        resident = resident_bytes(registration.process) if registration.process is not None else None
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if resident is not None and memory > 0:
            samples.append(("sys/rss_frac", step, now, resident / memory))
        return samples
