"""What this process holds: file descriptors, threads, memory. None of it may grow from seed to seed."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

from tests.soak.checks import Broken

MOST_GROWTH = 48 << 20
"""Bytes by which resident memory may exceed what it was after the first seeds."""

WARM = 2
"""Seeds after which memory is compared: caches and allocators have filled by then."""


class Resources:
    """Held, seed after seed."""

    def __init__(self) -> None:
        self._first = self._descriptors(), threading.active_count()
        self._looks = 0
        self._memory = self._now = 0

    def __str__(self) -> str:
        return f"{self._now / 1e6:.0f} MB resident"

    @staticmethod
    def _descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  the folder itself is one of them

    def look(self) -> None:
        """Compare with the beginning.

        Raises:
            Broken: something has grown.
        """
        gc.collect()
        now = self._descriptors(), threading.active_count()
        if now[0] > self._first[0] + 2 or now[1] > self._first[1]:
            raise Broken(f"descriptors and threads were {self._first}, and are {now}")
        self._now = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self._looks += 1
        if self._looks <= WARM:
            self._memory = max(self._memory, self._now)
        elif self._now > self._memory + MOST_GROWTH:
            raise Broken(f"resident memory was {self._memory / 1e6:.0f} MB, and is {self._now / 1e6:.0f} MB")
