"""Checkpoints: everything the next step depends on, in a folder that is there as a whole or not at all.

The one fact to hold: the manifest is written last and the folder is renamed last, so a folder under its final
name is complete; each file's length and sha256 in the manifest say whether it still is. `weights_only=True`
reads them: a checkpoint is data and cannot run code.

Why it exists: a rollback to half a state (networks without targets, optimiser moments or replay) is another
run that merely looks the same. The format is shared with the sentinel, which verifies without torch:
`<run>/checkpoints/<attempt:02d>-<step:08d>/manifest.json` names the files, also replay segments as
`../../replay/…`.

A run of several ranks has one checkpoint: rank 0's state, with the parts of the `others` in it. Their
segments lie in folders of their own, `../../replay/rank1/…`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.replay import Segment

VERSION = 1
STATE, MANIFEST = "state.pt", "manifest.json"
_NAME = re.compile(r"(\d{2,})-(\d{8,})")


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and verified."""

    name: str
    attempt: int
    step: int
    state: dict[str, Any]
    segments: tuple[Segment, ...]


def name_of(attempt: int, step: int) -> str:
    """The folder name of a checkpoint."""
    return f"{attempt:02d}-{step:08d}"


def parse_name(name: str) -> tuple[int, int] | None:
    """(attempt, step) of a checkpoint's folder name, None when it is no such name."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def names(folder: Path) -> list[str]:
    """The complete checkpoints in `folder`, oldest attempt and step first."""
    if not folder.is_dir():
        return []
    found = [(key, path.name) for path in folder.iterdir() if (key := parse_name(path.name)) is not None]
    return [name for _, name in sorted(found)]


# -- writing ---------------------------------------------------------------------------------------


def write(
    folder: Path,
    *,
    attempt: int,
    step: int,
    wall_time: float,
    state: Mapping[str, Any],
    segments: Sequence[Segment],
    replay_folder: Path,
    why: str,
) -> str:
    """Write a checkpoint and return its name. A whole one of that name holds the same state and stays.

    Args:
        folder: of all checkpoints of the run.
        state: plain types, arrays and tensors, nested.
        segments: of the replay, already fsynced; names are relative to its folder.
        replay_folder: where they lie.
        why: "interval", "command", "start" or "end"; for people and for pruning.

    Raises:
        OSError: the disk would not take it; nothing of that name is then left behind.
    """
    name = name_of(attempt, step)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / name).exists():
        if not verify(folder / name):
            return name
        shutil.rmtree(folder / name)
    temporary = folder / f".tmp-{name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with (temporary / STATE).open("wb") as file:
            torch.save(_pack(state), file)
            file.flush()
            os.fsync(file.fileno())
        files: dict[str, dict[str, Any]] = {STATE: _measure(temporary / STATE)}
        for segment in segments:
            path = os.path.relpath(replay_folder / segment.name, folder / name)
            files[path] = {"bytes": segment.size, "sha256": segment.sha256, "first_row": segment.first_row}
        manifest = {
            "version": VERSION,
            "step": step,
            "attempt": attempt,
            "wall_time": wall_time,
            "why": why,
            "files": files,
        }
        with (temporary / MANIFEST).open("w", encoding="utf-8") as text:
            json.dump(manifest, text, indent=1)
            text.flush()
            os.fsync(text.fileno())
        _sync(temporary)
        temporary.rename(folder / name)
        _sync(folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return name


def _measure(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- reading ---------------------------------------------------------------------------------------


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the checkpoint folder `path`.

    Raises:
        CheckpointError: missing, unreadable or of another version.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path / MANIFEST}: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path / MANIFEST}: not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise CheckpointError(f"{path / MANIFEST}: not a manifest of version {VERSION}")
    return manifest


def verify(path: Path) -> list[str]:
    """What is wrong with the checkpoint folder `path`, in words; nothing when it is whole."""
    try:
        manifest = read_manifest(path)
    except CheckpointError as error:
        return [str(error)]
    problems = []
    for relative, expected in manifest["files"].items():
        file = path / relative
        try:
            with file.open("rb") as stream:
                content = stream.read(expected["bytes"])
        except OSError as error:
            problems.append(f"{file}: {error.strerror or error}")
            continue
        if len(content) < expected["bytes"]:
            problems.append(f"{file}: {len(content)} of {expected['bytes']} bytes")
        elif hashlib.sha256(content).hexdigest() != expected["sha256"]:
            problems.append(f"{file}: its checksum is not the manifest's")
    return problems


def read(path: Path) -> Checkpoint:
    """Verify and read the checkpoint folder `path`; the replay's rows stay on disk.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    problems = verify(path)
    if problems:
        raise CheckpointError(f"checkpoint {path.name} cannot be used: {'; '.join(problems)}")
    manifest = read_manifest(path)
    state = _unpack(torch.load(path / STATE, weights_only=True, map_location="cpu"))
    segments = tuple(
        Segment(_segment(relative), entry["first_row"], entry["bytes"], entry["sha256"])
        for relative, entry in manifest["files"].items()
        if relative != STATE
    )
    return Checkpoint(path.name, manifest["attempt"], manifest["step"], state, segments)


def find(folder: Path, wanted: str) -> Path:
    """The checkpoint that --resume names: a path, a name in `folder`, or "latest" (the newest that verifies).

    Raises:
        CheckpointError: there is none.
    """
    if wanted != "latest":
        for path in (folder / wanted, Path(wanted)):
            if (path / MANIFEST).is_file():
                return path
        raise CheckpointError(f"no checkpoint {wanted!r}: neither a path nor a name in {folder}")
    for name in reversed(names(folder)):
        if not verify(folder / name):
            return folder / name
    raise CheckpointError(f"no whole checkpoint in {folder}")


# -- keeping ---------------------------------------------------------------------------------------


def to_delete(
    present: Iterable[str], lineage: Sequence[tuple[int, int]], *, keep: int, spacing: int
) -> list[str]:
    """Which checkpoints may go. Pure.

    Of the line that the run is on (`lineage`: attempt and the last step it contributes, oldest first) the
    `keep` newest stay, step 0 stays, and of the rest the first in each `spacing` steps, so that a rollback
    further back always finds something. So does each that an attempt went on from: it was good enough once,
    and a rollback that did not help is likely to be followed by one from there. Of abandoned attempts the
    five newest stay, as evidence.

    Args:
        present: names of checkpoints.
        keep: count, at least 1.
        spacing: environment steps.
    """
    last_of = dict(lineage)
    on_line: list[tuple[int, int, str]] = []
    abandoned: list[tuple[int, int, str]] = []
    for name in present:
        key = parse_name(name)
        if key is not None:
            attempt, step = key
            (on_line if step <= last_of.get(attempt, -1) else abandoned).append((step, attempt, name))
    on_line.sort()
    abandoned.sort(key=lambda item: (item[1], item[0]))
    doomed = [name for _, _, name in abandoned[:-5]]
    seen: set[int] = set()
    for step, attempt, name in on_line[:-keep]:
        if step // spacing in seen and last_of[attempt] != step:
            doomed.append(name)
        seen.add(step // spacing)
    return doomed


def prune(folder: Path, doomed: Iterable[str]) -> set[str]:
    """Delete checkpoints and return the names of the segments that the others need.

    The manifest goes first, so that a checkpoint deleted by half is not taken for a whole one.
    """
    for name in doomed:
        (folder / name / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder / name, ignore_errors=True)
    referenced = set()
    for name in names(folder):
        try:
            manifest = read_manifest(folder / name)
        except CheckpointError:
            continue  # nothing can be restored from it, so its segments need not be kept
        referenced |= {_segment(relative) for relative in manifest["files"] if relative != STATE}
    return referenced


def _segment(relative: str) -> str:
    """A segment's name in the replay's folder: what comes behind `../../<folder>/`."""
    return str(Path(*Path(relative).parts[3:]))


# -- several ranks ---------------------------------------------------------------------------------


def folder_of(rank: int) -> str:
    """Where a rank's segments are, in the replay's folder: rank 0's lie in it itself."""
    return f"rank{rank}" if rank else ""


def joined(
    parts: Sequence[tuple[Mapping[str, Any], Sequence[Segment]]],
) -> tuple[dict[str, Any], list[Segment]]:
    """One state and its segments, of the parts of all ranks: rank 0's, with the `others` in it."""
    state = dict(parts[0][0])
    if len(parts) > 1:
        state["others"] = [dict(part) for part, _ in parts[1:]]
    segments = [
        replace(segment, name=str(Path(folder_of(rank), segment.name)))
        for rank, (_, own) in enumerate(parts)
        for segment in own
    ]
    return state, segments


def part_of(found: Checkpoint, rank: int, ranks: int) -> Checkpoint:
    """What one of `ranks` ranks goes on from: what all share, its own part, and its own segments.

    Raises:
        CheckpointError: the checkpoint is of another number of ranks.
    """
    others = found.state.get("others", [])
    if len(others) + 1 != ranks:
        was = len(others) + 1
        start = (
            f"torchrun --nproc-per-node {was} -m trainer" if others else "python -m trainer, without torchrun"
        )
        raise CheckpointError(
            f"checkpoint {found.name} is of {was} rank{'s' * (was > 1)}, this run has {ranks}, and each rank "
            f"goes on from its own replay and environment; go on with {start}"
        )
    state = {key: value for key, value in found.state.items() if key != "others"}
    own = [s for s in found.segments if str(Path(s.name).parent) == (folder_of(rank) or ".")]
    return replace(
        found,
        state=state | (others[rank - 1] if rank else {}),
        segments=tuple(replace(segment, name=Path(segment.name).name) for segment in own),
    )


# -- plain data ------------------------------------------------------------------------------------


def _pack(value: Any) -> Any:
    """Arrays as tensors and generator states (integers of 128 bits) as text: what weights_only may read."""
    if isinstance(value, np.ndarray):
        return {"__array__": torch.from_numpy(np.array(value))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 63:
        return {"__int__": str(value)}
    if isinstance(value, Mapping):
        return {key: _pack(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_pack(item) for item in value)
    return value


def _unpack(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"__array__"}:
            return value["__array__"].numpy()
        if value.keys() == {"__int__"}:
            return int(value["__int__"])
        return {key: _unpack(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_unpack(item) for item in value)
    return value


def digest(value: Any) -> str:
    """sha256 over a nested state, bit for bit: what two runs must agree on to be the same run."""
    whole = hashlib.sha256()
    _digest(value, whole)
    return whole.hexdigest()


def _digest(value: Any, into: hashlib._Hash) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous().numpy()
    if isinstance(value, np.ndarray):
        into.update(f"{value.dtype}{value.shape}".encode())
        into.update(value.tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            into.update(repr(key).encode())
            _digest(value[key], into)
    elif isinstance(value, (list, tuple)):
        into.update(f"[{len(value)}".encode())
        for item in value:
            _digest(item, into)
    else:
        into.update(repr(value).encode())
