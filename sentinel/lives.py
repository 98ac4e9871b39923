"""The lives of a supervised job in the journal: one row a process, from the wish to start it to its end.

    due ──▶ intended ──▶ running ──▶ [stopping ──▶] ended       waiting ──▶ intended (a rollback's next)
                └── the start never happened ──▶ void

A row says what is meant before it is done. `sentinel.launch` leaves a claim where a start was really made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sentinel.journal import Journal, to_json
from sentinel.process import Process, from_record
from sentinel.resume import Setting

Cause: TypeAlias = Literal["start", "restart", "resume"]
LifeState: TypeAlias = Literal["waiting", "due", "intended", "running", "stopping", "ended", "void"]
After: TypeAlias = Literal["", "end", "restart", "resume"]

OPEN: tuple[LifeState, ...] = ("waiting", "due", "intended", "running", "stopping")


@dataclass(frozen=True, slots=True)
class LifeRow:
    """One process of a job.

    Attributes:
        id: of the row. job: number of the job; each command that a person gives begins a new one.
        cause: why it is started. state: how far it is.
        command, folder: what is started, and where.
        due: wall time before which it is not started. reason: of its start, or of its end; in words.
        process: who it is, once it runs. began, ended: wall times. code: exit code, where it is known.
        furthest: greatest run step that it has logged. runs: names of the runs that it trains.
        run, checkpoint, step, overrides: what a resumed life goes on from, and the parameters in force.
        request: id of the rollback that asked for it.
        after: what follows on its end while it is stopping.
    """

    id: int
    job: int
    cause: Cause
    state: LifeState
    command: tuple[str, ...]
    folder: Path
    due: float
    reason: str
    process: Process | None
    began: float | None
    ended: float | None
    code: int | None
    furthest: int | None
    runs: tuple[str, ...]
    run: str | None
    checkpoint: str | None
    step: int | None
    overrides: Mapping[str, Setting]
    request: int | None
    after: After

    @property
    def spoken(self) -> str:
        """How it ended or how it is, in words."""
        who = f"pid {self.process.pid}" if self.process is not None else "never started"
        how = (
            ""
            if self.state != "ended"
            else ", exit code " + ("unknown" if self.code is None else str(self.code))
        )
        far = "no step" if self.furthest is None else f"step {self.furthest}"
        return f"{self.cause} {self.id}: {who}, {far}{how}"


class Lives:
    """Rows of the table `lives`. Everything that writes is called inside a transaction."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def of_job(self, job: int) -> list[LifeRow]:
        """Every life of a job, oldest first."""
        return [
            _read(row) for row in self._journal.rows("SELECT * FROM lives WHERE job = ? ORDER BY id", job)
        ]

    def last_job(self) -> int:
        """The number of the newest job, 0 where there was none."""
        return int(self._journal.rows("SELECT max(job) AS job FROM lives")[0]["job"] or 0)

    def add(
        self,
        job: int,
        cause: Cause,
        state: LifeState,
        command: Sequence[str],
        folder: Path,
        *,
        reason: str,
        due: float = 0.0,
        overrides: Mapping[str, Setting] | None = None,
        run: str | None = None,
        checkpoint: str | None = None,
        step: int | None = None,
        request: int | None = None,
    ) -> int:
        """Record that a process is to be started; returns the row's id."""
        return self._journal.add(
            "lives",
            job=job,
            cause=cause,
            state=state,
            command=to_json(list(command)),
            folder=str(folder),
            due=due,
            reason=reason,
            overrides=to_json(dict(overrides or {})),
            run=run,
            checkpoint=checkpoint,
            step=step,
            request=request,
        )

    def change(self, number: int, **values: Any) -> None:
        """Change columns of a row."""
        if isinstance(process := values.get("process"), Process):
            values["process"] = to_json(asdict(process))
        if "runs" in values:
            values["runs"] = to_json(list(values["runs"]))
        names = ", ".join(f'"{name}" = ?' for name in values)
        self._journal.change(f"UPDATE lives SET {names} WHERE id = ?", *values.values(), number)  # noqa: S608  our own names


def _read(row: Any) -> LifeRow:
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118  a sqlite3.Row iterates over its values
    process = from_record(json.loads(row["process"])) if row["process"] else None
    values.update(
        command=tuple(json.loads(row["command"])),
        folder=Path(row["folder"]),
        process=process,
        runs=tuple(json.loads(row["runs"])),
        overrides=json.loads(row["overrides"]),
    )
    return LifeRow(**values)
