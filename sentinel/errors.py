"""Everything the sentinel gives up on, as a tree; each error carries the exit code of its command.

    SentinelError          1
      ConfigError          2   sentinel.toml, a rule or an argument is wrong: nothing was started
      StateError           4   the state folder cannot be written: it cannot remember, so it may not act
      RunGoneError         5   the run asked for is not there
      TailError                an event file cannot be read right now; other files go on
      CommandError             a command was not given or not carried out

"Truncated" is a value and not an error: a file that is being written to ends in the middle of a record most
of the time.
"""

from __future__ import annotations

from pathlib import Path


class SentinelError(Exception):
    """Base of all errors that end a command with a sentence instead of a traceback."""

    exit_code = 1


class ConfigError(SentinelError):
    """The configuration or an argument is wrong."""

    exit_code = 2


class StateError(SentinelError):
    """The sentinel's own state cannot be read or written."""

    exit_code = 4


class RunGoneError(SentinelError):
    """The run that was named does not exist, or exists no more."""

    exit_code = 5


class TailError(SentinelError):
    """An event file could not be read: vanished, not permitted, not a regular file, or an I/O error.

    Attributes:
        path: the file.
        vanished: the file is not there any more; all other causes may pass by themselves.
    """

    def __init__(self, path: Path, reason: str, *, vanished: bool = False) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.vanished = vanished


class CommandError(SentinelError):
    """A command was not given, not accepted or not carried out."""
