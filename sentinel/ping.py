"""A dead man's switch: a URL that is fetched while the sentinel sees and remembers, and not otherwise.

Whoever owns the URL (healthchecks.io, Uptime Kuma, a cron of one's own) raises the alarm when the pings stop:
the machine is down, the sentinel has ended, or it is blind. The URL is a secret, since whoever knows it can
keep a dead sentinel looking alive; so no message of ours ever names it.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from http.client import HTTPException

EVERY = 60.0
"""Seconds between two pings."""

TIMEOUT = 10.0
"""Seconds for which one ping may take."""


class Ping:
    """Fetches the URL in a thread of its own; a server that hangs delays no tick.

    Attributes:
        trouble: why the last ping did not arrive, in words without the URL; "" where it did.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._due = float("-inf")
        self._wanted = threading.Event()
        self._closed = False
        self.trouble = ""
        self._thread = threading.Thread(target=self._work, name="ping", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return "Ping(<a secret>)"

    def look(self, monotonic: float, *, sees: bool) -> None:
        """Ping if it is time, and if there is something to be said for it.

        Args:
            monotonic: seconds from any origin.
            sees: whether the last pass could read what it watches, and remember it.
        """
        if sees and monotonic >= self._due:
            self._due = monotonic + EVERY
            self._wanted.set()

    def close(self) -> None:
        """Ping no more; waits for nothing."""
        self._closed = True
        self._wanted.set()

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closed:
                return
            self.trouble = _fetch(self._url)


def _fetch(url: str) -> str:
    """Fetch a URL and throw the answer away; returns what went wrong, by its kind alone."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT):  # noqa: S310  config.py admits http and https alone
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"the ping was answered with {error.code}"
    except (OSError, HTTPException, ValueError) as error:  # their texts may hold the URL
        return f"the ping did not arrive ({type(error).__name__})"
