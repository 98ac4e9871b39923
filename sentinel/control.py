"""Letters to the trainer and its receipts, as files of a run's control folder.

A receipt was written by another process, perhaps of another version, perhaps by half: what cannot be
understood reads as "not there yet", never as an answer. A letter is written once, beside its place, and moved
there whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from sentinel.clusters import Workload
from sentinel.process import Process, from_record

Verb: TypeAlias = Literal["checkpoint", "rollback", "terminate"]
Answer: TypeAlias = Literal["accepted", "done", "refused", "failed"]
Setting: TypeAlias = float | int | bool | str


@dataclass(frozen=True, slots=True)
class Letter:
    """One command as commands/ID.json holds it. Times are wall clock, seconds since the epoch.

    `trainer` is the process it is meant for, as that had registered when the command was decided; a successor
    gets no signal on its account. `by_signal` names the signal that is the whole command, for a job without
    guard: no letter is then written. `workload` is the cluster's job that it runs in, as it was then. The
    times are by the trainer's clock, which is `skew` seconds ahead of ours as far as we know; `again` counts
    the letters before it that were refused because of a clock.
    """

    id: int
    verb: Verb
    if_attempt: int
    issued_at: float
    expires_at: float
    reason: str = ""
    to_checkpoint: str | None = None
    to_step: int | None = None
    set: Mapping[str, Setting] = field(default_factory=dict)
    reinit: tuple[str, ...] = ()
    trainer: Process | None = None
    by_signal: str | None = None
    workload: Workload | None = None
    skew: float = 0.0
    again: int = 0

    def to_json(self) -> str:
        """The file's content."""
        content = asdict(self)
        for name in ("by_signal", "workload", "skew", "again"):
            if not content[name]:
                del content[name]
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> Letter:
        """Read back what to_json wrote.

        Raises:
            ValueError, TypeError: it is something else.
        """
        content = json.loads(text)
        content.update(reinit=tuple(content["reinit"]), trainer=from_record(content["trainer"]))
        content.update(workload=Workload.from_record(content.get("workload")))
        return cls(**content)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The trainer's answer: accepted first, then the outcome."""

    id: int
    status: Answer
    step: int | None
    attempt: int | None
    wall_time: float | None
    checkpoint: str | None
    checkpoint_step: int | None
    reason: str


def write_letter(control: Path, letter: Letter) -> None:
    """Write commands/ID.json whole or not at all; a letter that is there is left alone.

    Raises:
        OSError: it could not be written.
    """
    for folder in (control, control / "commands"):
        folder.mkdir(mode=0o700, parents=folder is control, exist_ok=True)
    path = control / "commands" / _name(letter.id)
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(letter.to_json())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_receipt(control: Path, number: int) -> Receipt | None:
    """Read receipts/ID.json; None while it is missing, torn or not about this command."""
    content = read_json(control / "receipts" / _name(number))
    if content is None or content.get("id") != number or content.get("status") not in get_args(Answer):
        return None
    checkpoint = content.get("checkpoint")
    return Receipt(
        id=number,
        status=content["status"],
        step=_int(content, "step"),
        attempt=_int(content, "attempt"),
        wall_time=_number(content, "wall_time"),
        checkpoint=checkpoint if isinstance(checkpoint, str) else None,
        checkpoint_step=_int(content, "checkpoint_step"),
        reason=str(content.get("reason") or ""),
    )


def announced(control: Path) -> list[tuple[float, int | None]]:
    """The attempts that the trainer's files tell of: its last start, and every rollback it has done.

    Returns:
        When each began, in seconds since the epoch, and the step gone back to, where that is said.
    """
    found: list[tuple[float, int | None]] = []
    record = read_json(control / "trainer.json") or {}
    began = _number(record, "started_at")
    if began is not None and (_int(record, "attempt") or 0) > 0:
        found.append((began, None))
    for path in sorted((control / "receipts").glob("*.json")):
        if not (path.stem.isascii() and path.stem.isdigit()):
            continue
        receipt = read_receipt(control, int(path.stem))
        letter = read_json(control / "commands" / path.name) or {}
        if receipt is None or receipt.status != "done" or letter.get("verb") != "rollback":
            continue
        if receipt.wall_time is not None:
            found.append((receipt.wall_time, receipt.checkpoint_step))
    return found


def highest_id(control: Path) -> int:
    """The greatest id of any letter or receipt, or 0: old receipts must not answer new letters."""
    found = [path.stem for part in ("commands", "receipts") for path in (control / part).glob("*.json")]
    return max((int(stem) for stem in found if stem.isascii() and stem.isdigit()), default=0)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when it is missing, torn or something else."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _name(number: int) -> str:
    return f"{number:06d}.json"


def _int(content: Mapping[str, Any], key: str) -> int | None:
    value = content.get(key)
    return value if type(value) is int else None


def _number(content: Mapping[str, Any], key: str) -> float | None:
    value = content.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
