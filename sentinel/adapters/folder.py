"""Checkpoints in the form that the sentinel verifies: a folder, and a manifest that names its content.

A library writes its own files in its own format and names; the manifest is written last, over what then lies
in the folder. So a folder with a manifest that fits was once whole, and everything else is no checkpoint.
Format: docs/guard.md. Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentinel.clock import SystemClock
from sentinel.guard import Command, Value

MANIFEST = "manifest.json"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading a manifest can raise that somebody else wrote."""


@dataclass(frozen=True)
class Saved:
    """One checkpoint: its folder, the step it was written at, and the live parameters of then."""

    path: Path
    step: int
    attempt: int
    values: Mapping[str, Value] = field(default_factory=dict)


def write(
    folder: Path,
    step: int,
    attempt: int,
    fill: Callable[[Path], None],
    values: Mapping[str, Value] | None = None,
    keep: int = 20,
) -> Saved:
    """Let `fill` write files into a new checkpoint `<attempt>-<step>`; it is there as a whole or not at all.

    Of the checkpoints in `folder` the newest `keep` stay, and the very first.

    Raises:
        OSError: the disk. Whatever `fill` raises goes through; what it has written is removed.
    """
    name = f"{attempt:02d}-{step:08d}"
    final, temporary = folder / name, folder / f".tmp-{name}"
    if (final / MANIFEST).exists():
        return look(final)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        seal(temporary, step, attempt, values)
        shutil.rmtree(final, ignore_errors=True)  # what another writer left there without a manifest
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    prune(folder, keep)
    return Saved(final, step, attempt, dict(values or {}))


def seal(path: Path, step: int, attempt: int, values: Mapping[str, Value] | None = None) -> Saved:
    """Write the manifest of what lies in a folder, and wait until the disk has all of it. Raises OSError."""
    files = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p != path / MANIFEST):
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            os.fsync(content.fileno())
            size = os.fstat(content.fileno()).st_size
        files[file.relative_to(path).as_posix()] = {"bytes": size, "sha256": digest}
    record: dict[str, Any] = {"version": 1, "step": step, "attempt": attempt}
    record.update(wall_time=SystemClock().wall(), files=files, values=dict(values or {}))
    temporary = path / f".{MANIFEST}"
    with temporary.open("w", encoding="utf-8") as manifest:
        json.dump(record, manifest)
        manifest.flush()
        os.fsync(manifest.fileno())
    temporary.replace(path / MANIFEST)
    return Saved(path, step, attempt, dict(values or {}))


def look(path: Path) -> Saved:
    """Read a checkpoint's manifest. Raises ValueError where there is none of ours."""
    try:
        record = json.loads((path / MANIFEST).read_bytes())
        return Saved(path, int(record["step"]), int(record["attempt"]), dict(record.get("values") or {}))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise ValueError(f"checkpoint {path.name}: {type(error).__name__}: {error}") from error


def find(folder: Path, command: Command) -> Saved:
    """Return the checkpoint that a rollback asks for, whole as it was written.

    Raises:
        ValueError: it is not there, or a file of it has other content than it was written with.
    """
    if command.to_checkpoint is not None:
        saved = look(folder / command.to_checkpoint)
    else:
        before = [s for s in everything(folder) if s.step <= (command.to_step or 0)]
        if not before:
            raise ValueError(f"no checkpoint at or before step {command.to_step} in {folder}")
        saved = before[-1]
    try:
        for name, entry in json.loads((saved.path / MANIFEST).read_bytes())["files"].items():
            with (saved.path / name).open("rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != entry["sha256"]:
                    raise ValueError(f"{name} has other content than it was written with")
    except UNREADABLE as error:
        raise ValueError(f"checkpoint {saved.path.name}: {error}") from error
    return saved


def everything(folder: Path) -> list[Saved]:
    """Every checkpoint with a manifest, by step and attempt."""
    found = []
    for path in folder.glob(f"*/{MANIFEST}"):
        if not path.parent.name.startswith("."):
            with contextlib.suppress(ValueError):  # what is no manifest of ours is no checkpoint
                found.append(look(path.parent))
    return sorted(found, key=lambda saved: (saved.step, saved.attempt))


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints and the very first, which is the last way back."""
    by_age = sorted(everything(folder), key=lambda saved: (saved.path / MANIFEST).stat().st_mtime_ns)
    for saved in by_age[1 : max(1, len(by_age) - keep)]:
        shutil.rmtree(saved.path, ignore_errors=True)
