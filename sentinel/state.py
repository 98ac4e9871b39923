"""Where a sentinel keeps its memory: one folder per log directory, on local disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

JOURNAL = "journal.sqlite"
INBOX = "inbox"


def state_folder(logdir: Path, chosen: Path | None) -> Path:
    """Return the state folder of the sentinel that watches `logdir`.

    Args:
        logdir: the folder of runs; the same folder always gives the same state, so that two sentinels on it
            collide.
        chosen: what the user asked for; None for `$XDG_STATE_HOME/sentinel/<name>-<hash>`, by default below
            ~/.local/state.
            Not inside the log directory, because that may be a network file system, where SQLite's journal
            does not work.
    """
    if chosen is not None:
        return chosen
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    absolute = logdir.absolute().resolve()
    digest = hashlib.sha256(os.fsencode(absolute)).hexdigest()[:12]
    return base / "sentinel" / f"{absolute.name or 'root'}-{digest}"
