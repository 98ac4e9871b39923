"""Whether and where `/metrics` is served: follows `[sentinel] metrics`, also when it changes.

Who measures must not be able to harm: an address that is taken and a library that is missing are told on
standard error, and the sentinel goes on without.
"""

# ruff: noqa: PLC0415  an extra, imported where it is used

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from notifier.format import neutral
from sentinel.clock import Clock
from sentinel.config import Settings
from sentinel.measures import measure
from sentinel.vitals import Vitals
from sentinel.watcher import Watcher

if TYPE_CHECKING:
    from sentinel.exposition import Exposition


class MetricsPort:
    """Serves the vitals and the journal of one sentinel.

    Attributes:
        vitals: of the loop, for the thread that serves.
    """

    def __init__(
        self,
        journal: Path,
        clock: Clock,
        say: Callable[[str], object] = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> None:
        """Serve nothing yet.

        Args:
            journal: the file. clock: time. say: told of what is in the way, in one line.
        """
        self.vitals = Vitals()
        self._journal = journal
        self._clock = clock
        self._say = say
        self._address = ""
        self._serving: Exposition | None = None

    @property
    def port(self) -> int | None:
        """Where it is served; None where it is not."""
        return self._serving.port if self._serving is not None else None

    def follow(self, settings: Settings) -> None:
        """Serve where the settings say; what is in use there goes on."""
        self.vitals.severities = {rule.name: rule.severity for rule in settings.rules.rules}
        address = settings.service.sentinel.metrics or ""
        if address == self._address:
            return
        self.close()
        self._address = address
        if address:
            self._open(address)

    def _open(self, address: str) -> None:
        try:
            from sentinel.exposition import Exposition
        except ImportError:
            self._say(
                "sentinel: metrics: prometheus-client is not installed (pip install "
                "'training-sentinel[metrics]'); nothing is served, all else goes on"
            )
            return
        host, _, port = address.rpartition(":")
        read = partial(measure, self._journal, self.vitals)
        try:
            self._serving = Exposition(
                host.strip("[]"), int(port), lambda: read(self._clock.wall()), lambda: self.vitals.ticks
            )
        except OSError as error:
            words = error.strerror or type(error).__name__
            self._say(neutral(f"sentinel: metrics: {address}: {words}; nothing is served, all else goes on"))

    def look(self, watcher: Watcher, seconds: float) -> None:
        """Note how a pass went, and how long it took."""
        if self._serving is None:
            return
        self.vitals.ticks = self.vitals.ticks.and_one(seconds)
        self.vitals.sees, self.vitals.lost, self.vitals.blind = watcher.sees, watcher.lost, watcher.blind
        self.vitals.mode = "act" if watcher.plan.act else "observe"

    def close(self) -> None:
        """Serve nobody any more."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.close()
