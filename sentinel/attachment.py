"""Who trains a run whose job never heard of us: found by the event file it holds, or named with `--pid`.

Once found it stays that process, by pid, start time and boot, also across restarts of the sentinel: a pid
that another process has taken since names nobody. A second writer beside a living one leaves nobody to
attach to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sentinel.errors import ConfigError
from sentinel.holders import Held
from sentinel.process import Liveness, Process, command_name, from_record, identify, liveness

How: TypeAlias = Literal["holder", "pid"]


@dataclass(frozen=True, slots=True)
class Attached:
    """A process that was found for a run, or why none was.

    Attributes:
        process: who; None for nobody. how: by what it was found.
        why_not: why nobody was chosen, in words; empty where there simply is none.
    """

    process: Process | None = None
    how: How | None = None
    why_not: str = ""

    def to_record(self) -> dict[str, Any]:
        """What is remembered of it."""
        body = dataclasses.asdict(self.process) if self.process is not None else {}
        return {**body, "how": self.how} if body else {}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Attached:
        """Read back what was remembered; nobody where it makes no sense."""
        process, how = from_record(record), record.get("how")
        return cls(process, how) if process is not None and how in ("holder", "pid") else cls()

    @property
    def words(self) -> str:
        """Say who it is and how that is known."""
        if self.process is None:
            return self.why_not or "nobody"
        by = "named with --pid" if self.how == "pid" else "it holds the event file open for writing"
        return f"process {self.process.pid} ({command_name(self.process.pid) or 'ended'}): {by}"


def attach(
    known: Attached,
    named: Process | None,
    held: Callable[[], Held],
    *,
    owner: int | None,
    alive: Callable[[Process | None], Liveness] = liveness,
) -> Attached:
    """Say who trains a run now.

    Args:
        known: who was found before.
        named: who was named with --pid, as that process was when the sentinel started; None for nobody.
        held: says who writes the run's event files; asked only where it matters.
        owner: uid of the event files' owner; None where there are none.
        alive: whether a process lives.
    """
    if named is not None:
        return _named(known, named, held, owner, alive)
    found = held()
    if found.why_not:
        return Attached(None, None, found.why_not)
    if found.process is None or found.process == known.process:
        return dataclasses.replace(known, why_not="")
    if known.process is not None and alive(known.process) is Liveness.ALIVE:
        why = f"process {known.process.pid} trained it and lives, and now {found.process.pid} writes it"
        return Attached(None, None, why)
    return Attached(found.process, "holder")


def _named(
    known: Attached,
    named: Process,
    held: Callable[[], Held],
    owner: int | None,
    alive: Callable[[Process | None], Liveness],
) -> Attached:
    before = known.process
    if before == named:
        return Attached(named, "pid")
    if owner is not None and named.uid not in (-1, owner):
        why = f"process {named.pid} acts as user {named.uid}, the run belongs to user {owner}"
        return dataclasses.replace(known, why_not=why)
    reused = before is not None and before.pid == named.pid and alive(before) is not Liveness.ALIVE
    if reused and held().process != named:
        why = (
            f"pid {named.pid} belongs to another process than the one that trained this run, and that one "
            "does not hold its event file; it is not attached to"
        )
        return dataclasses.replace(known, why_not=why)
    return Attached(named, "pid")


def named_processes(options: Sequence[str]) -> dict[str, Process]:
    """Read `--pid PID` and `--pid RUN=PID`; the run's name is empty where none was given.

    Raises:
        ConfigError: something else, no such process, or one run named twice; all problems at once.
    """
    found: dict[str, Process] = {}
    wrong = []
    for option in options:
        run, _, number = option.rpartition("=")
        process = (
            identify(int(number)) if number.isascii() and number.isdigit() and len(number) < 10 else None
        )
        if not number.isdigit():
            wrong.append(f"--pid {option}: write --pid PID, or --pid RUN=PID")
        elif process is None:
            wrong.append(f"--pid {option}: there is no process {number} here that could be a trainer")
        elif run in found:
            wrong.append(f"--pid {option}: {f'run {run}' if run else 'no run'} was named before")
        else:
            found[run] = process
    if wrong:
        raise ConfigError("; ".join(wrong) + "; nothing was started")
    return found


class Named:
    """The processes that were named with --pid, by run.

    One that was named without a run belongs to the only run that is live, and then stays with it.
    """

    def __init__(self, processes: Mapping[str, Process]) -> None:
        self._by_run = dict(processes)
        self._loose = self._by_run.pop("", None)
        self._told = False

    def of(self, run: str) -> Process | None:
        """Who trains a run, if that was said."""
        return self._by_run.get(run)

    @property
    def is_settled(self) -> bool:
        """Whether every process has its run, or never will."""
        return self._loose is None

    def settle(self, live: Mapping[str, Process | None]) -> str:
        """Give the process without a run its run.

        Args:
            live: the runs that are live, and who was found for each before.

        Returns:
            Why that cannot be done, in words, once; else nothing.
        """
        if self._loose is None or not live:
            return ""
        taken = [run for run, process in live.items() if process == self._loose]
        if len(taken) == 1 or len(live) == 1:
            self._by_run.setdefault(taken[0] if taken else next(iter(live)), self._loose)
            self._loose = None
            return ""
        if self._told:
            return ""
        self._told = True
        return (
            f"--pid {self._loose.pid} names no run, and several are live ({', '.join(sorted(live))}); it was "
            "given to none. Write --pid RUN=PID."
        )


def owner_of(files: Sequence[Path]) -> int | None:
    """The user to whom the newest event file belongs; None where there is none."""
    for path in reversed(files):
        try:
            return path.stat().st_uid
        except OSError:
            continue
    return None
