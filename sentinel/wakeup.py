"""A doorbell for file changes: an observer that only sets an Event.

File notifications are silent on NFS, SMB and GPFS, lose events when their queue overflows and fail to start
when the machine's inotify limit is reached. So nothing may depend on them: whoever waits here reads
everything after every wait, rung or not. They exist because a point is then judged within a tenth of a
second, not within a polling interval.
"""

from __future__ import annotations

import errno
import logging
import threading
import warnings
from collections.abc import Callable
from pathlib import Path, PurePath

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from sentinel.attention import Changes

# Only what makes a file longer or puts one in place: our own opening and closing of files must not wake us.
_OF_FOLDERS = (DirCreatedEvent, DirDeletedEvent, DirMovedEvent)
_ANEW = (FileCreatedEvent, FileDeletedEvent, FileMovedEvent)
_KINDS: list[type[FileSystemEvent]] = [*_OF_FOLDERS, *_ANEW, FileModifiedEvent]

_MOST_PATHS = 10_000
"""So many paths are kept between two ticks; beyond that everything is looked at."""


# Two remarks of watchdog about races of its own, harmless here since polling is the truth: folders made one
# inside the other faster than it follows, and an observer that is closed while an event arrives.
_RACE = "Callback with id .* already exists"
logging.getLogger("watchdog").addHandler(logging.NullHandler())


class Wakeup:
    """Waits for a change below a log directory, or for the time to pass.

    Attributes:
        reason: why changes are not announced and polling alone is left, in words; None while they are.
    """

    def __init__(self, logdir: Path, observe: Callable[[], BaseObserver] = Observer) -> None:
        """Begin to observe, if this machine lets us; never raises.

        Args:
            logdir: the folder to watch, with everything below it (links are not followed).
            observe: makes an observer, not started.
        """
        warnings.filterwarnings("ignore", _RACE, RuntimeWarning)
        self._logdir = logdir
        self._observe = observe
        self._rung = threading.Event()
        self._notes = _Notes()
        self._observer: BaseObserver | None = None
        self._failure: str | None = None
        self.retry()

    @property
    def reason(self) -> str | None:
        """Say why only polling is left, None while changes are announced."""
        if self._failure is None and not self._lives():
            self._failure = f"{self._logdir}: the observer of changes has stopped; polling goes on without it"
        return self._failure

    def retry(self) -> None:
        """Begin to observe again if it failed or ended (the folder was absent, or removed and made anew)."""
        if self._lives():
            return
        self.close()
        observer = self._observe()
        observer.daemon = True
        try:
            observer.schedule(
                _Ringer(self._rung, self._notes), str(self._logdir), recursive=True, event_filter=_KINDS
            )
            observer.start()
        except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
            self._failure = (
                f"{self._logdir}: changes are not announced ({_cause(error)}); polling goes on without"
            )
            return
        self._observer, self._failure = observer, None
        self._notes.lose()  # what happened before it began

    def wait(self, timeout: float) -> bool:
        """Wait until something changed or `timeout` seconds are over; say whether something changed.

        A change during the caller's work counts for the next wait, so none is missed between two.
        """
        rung = self._rung.wait(timeout)
        self._rung.clear()
        return rung

    def changes(self) -> Changes | None:
        """Take what was announced since the last call; None where that may not be all of it."""
        found = self._notes.take()
        return found if self.reason is None else None

    def ring(self) -> None:
        """End the present or next wait; safe from any thread and from signal handlers' callers."""
        self._rung.set()

    def close(self) -> None:
        """Stop observing. Waits go on to time out as before."""
        observer, self._observer = self._observer, None
        if observer is not None and observer.is_alive():
            observer.stop()
            observer.join(timeout=2)

    def _lives(self) -> bool:
        observer = self._observer
        return observer is not None and observer.is_alive() and all(e.is_alive() for e in observer.emitters)


class _Notes:
    """What the observer's thread hands to the main thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: set[Path] = set()
        self._anew = False
        self._whole = False

    def add(self, path: str, *, anew: bool) -> None:
        with self._lock:
            self._anew |= anew
            if len(self._paths) < _MOST_PATHS:
                self._paths.add(Path(path))
            else:
                self._whole = False

    def lose(self) -> None:
        with self._lock:
            self._whole = False

    def take(self) -> Changes | None:
        with self._lock:
            found = Changes(frozenset(self._paths), self._anew) if self._whole else None
            self._paths.clear()
            self._anew, self._whole = False, True
        return found


class _Ringer(FileSystemEventHandler):
    """Notes changes that mean new points, new runs or receipts, and sets the event for them."""

    def __init__(self, rung: threading.Event, notes: _Notes) -> None:
        self._rung = rung
        self._notes = notes

    def on_any_event(self, event: FileSystemEvent) -> None:
        path = str(event.dest_path or event.src_path)
        if isinstance(event, _OF_FOLDERS):
            self._notes.add(path, anew=True)
        elif matters(path):
            self._notes.add(path, anew=isinstance(event, _ANEW))
        else:
            return
        self._rung.set()


def matters(path: str) -> bool:
    """Say whether a file's change is worth an immediate look: event files, receipts, a trainer's entry.

    Heartbeats and checkpoints change all the time and wait for the next poll.
    """
    where = PurePath(path)
    return "tfevents" in where.name or where.parent.name == "receipts" or where.name == "trainer.json"


def _cause(error: Exception) -> str:
    """Name the cause, and the setting that cures it where there is one."""
    what = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENOSPC):
        return f"{what}; raise fs.inotify.max_user_watches or max_user_instances"
    return what
