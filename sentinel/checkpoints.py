"""The catalogue of a run's checkpoints: which are whole, and which is the newest good one before a step.

A checkpoint is a folder `<attempt>-<step>` with a manifest. It is verified when the first `bytes` bytes of
every file have the sha256 that the manifest names (files may grow behind that: a replay segment is appended
to). Going back is allowed only to a verified one on the present line of descent, written while no critical
rule was pending or firing: the newest checkpoint is usually the sickest. The line is told by wall time, since
trainer and sentinel may count attempts differently (docs/decisions/0002).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

MANIFEST = "manifest.json"
CHUNK = 1 << 20

_Stamp: TypeAlias = tuple[int, int, int]  # mtime in ns, size, inode


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint of a run.

    Attributes:
        name: its folder's name.
        step: the trainer's step it was written at.
        attempt: the attempt that wrote it.
        wall_time: when it was written, in seconds since the epoch.
        path: its folder.
        verified: every file is there with the bytes that its manifest names.
        reason: why it is not verified, else empty.
        size: bytes that its manifest names, files shared with other checkpoints included.
    """

    name: str
    step: int
    attempt: int
    wall_time: float
    path: Path
    verified: bool
    reason: str = ""
    size: int = 0


class Catalogue:
    """The checkpoints of one folder. A file is hashed again only when its mtime, size or inode has changed.

    Args:
        folder: where the checkpoints are; it may not exist yet.
        allowed: files outside of this folder are not read. Default: the parent of `folder`, since a replay
            buffer that checkpoints share lies beside them.
    """

    def __init__(self, folder: Path, allowed: Path | None = None) -> None:
        self.folder = Path(os.path.normpath(folder.absolute()))
        self._allowed = Path(os.path.normpath(allowed.absolute())) if allowed else self.folder.parent
        self._known: dict[Path, tuple[_Stamp, dict[int, str]]] = {}

    def list(self) -> list[Checkpoint]:
        """Every checkpoint, oldest attempt and step first; what has changed is hashed again."""
        try:
            folders = [
                path
                for path in self.folder.iterdir()
                if not path.name.startswith(".") and path.name.isprintable() and path.is_dir()
            ]
        except OSError:
            return []
        manifests = [_manifest(path) for path in folders]
        wanted: dict[Path, set[int]] = {}
        for manifest in manifests:
            if isinstance(manifest, _Manifest):
                for name, (size, _) in manifest.files.items():
                    wanted.setdefault(self._place(manifest.path, name), set()).add(size)
        self._known = {path: known for path, known in self._known.items() if path in wanted}
        found = (self._judge(m, wanted) if isinstance(m, _Manifest) else m for m in manifests)
        return sorted((c for c in found if c is not None), key=lambda c: (c.attempt, c.step, c.name))

    def _judge(self, manifest: _Manifest, wanted: Mapping[Path, set[int]]) -> Checkpoint:
        reasons = (self._bad(manifest.path, name, *entry, wanted) for name, entry in manifest.files.items())
        reason = next(filter(None, reasons), "")
        size = sum(length for length, _ in manifest.files.values())
        path, step, attempt, wall = manifest.path, manifest.step, manifest.attempt, manifest.wall_time
        return Checkpoint(path.name, step, attempt, wall, path, not reason, reason, size)

    def _place(self, folder: Path, name: str) -> Path:
        return Path(os.path.normpath(folder / name))

    def _bad(
        self, folder: Path, name: str, size: int, digest: object, wanted: Mapping[Path, set[int]]
    ) -> str:
        """Say what is wrong with one file of a manifest; empty when nothing is."""
        path = self._place(folder, name)
        if not path.is_relative_to(self._allowed):
            return f"{name} lies outside of the run"
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                return f"{name} is no file"
            if found.st_size < size:
                return f"{name} has {found.st_size} of {size} bytes"
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if self._known.get(path, (None, {}))[0] != stamp or size not in self._known[path][1]:
                self._known[path] = (stamp, _sha256(path, wanted[path]))
            same = self._known[path][1].get(size) == digest
        except OSError as error:
            return f"{name}: {error.strerror}"
        return "" if same else f"{name} has other content than it was written with"


def glance(folder: Path, most: int = 200) -> list[Checkpoint]:
    """List checkpoints by their manifests alone, the newest: none is verified, and none is hashed."""
    try:
        places = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
    found = (_manifest(path) for path in places[-most:])
    return [
        Checkpoint(each.path.name, each.step, each.attempt, each.wall_time, each.path, verified=False)
        for each in found
        if isinstance(each, _Manifest)
    ]


def on_descent(checkpoints: Iterable[Checkpoint], rewinds: Sequence[tuple[int, float]]) -> list[Checkpoint]:
    """Return the checkpoints that no rewind has left behind, in their order. Pure.

    Args:
        checkpoints: the catalogue.
        rewinds: (run step gone back to, wall time in seconds) of each attempt after the first. What was
            written after a rewind, or at no later step, is still a past of this run.
    """
    return [c for c in checkpoints if all(c.wall_time > wall or c.step <= step for step, wall in rewinds)]


def is_suspect(checkpoint: Checkpoint, intervals: Iterable[tuple[float, float | None]]) -> bool:
    """Whether a checkpoint was written within a stretch of wall time [from, to]; `to` None: it goes on."""
    wall = checkpoint.wall_time
    return any(start <= wall and (end is None or wall <= end) for start, end in intervals)


def newest_good(
    checkpoints: Iterable[Checkpoint],
    before_step: float,
    suspect_intervals: Sequence[tuple[float, float | None]] = (),
    older_than: int | None = None,
) -> Checkpoint | None:
    """Choose where to go back to. Pure.

    Args:
        checkpoints: those on the present line of descent, in any order.
        before_step: the run step of the onset less the margin; the checkpoint's step must be smaller.
        suspect_intervals: wall times [from, to] in which a critical rule was pending or firing; `to` None: it
            still is.
        older_than: only checkpoints of a smaller step than this one, which was tried and did not help.

    Returns:
        The verified checkpoint with the greatest step (of those, of the latest attempt), or None.
    """
    good = (
        c
        for c in checkpoints
        if c.verified
        and c.step < before_step
        and (older_than is None or c.step < older_than)
        and not is_suspect(c, suspect_intervals)
    )
    return max(good, key=lambda c: (c.step, c.attempt, c.wall_time), default=None)


@dataclass(frozen=True, slots=True)
class _Manifest:
    path: Path
    step: int
    attempt: int
    wall_time: float
    files: dict[str, tuple[int, object]]


def _manifest(path: Path) -> _Manifest | Checkpoint | None:
    """Read one manifest: itself, else an unverified checkpoint; None for a folder that claims to be none."""
    try:
        content = json.loads((path / MANIFEST).read_bytes())
        files = {str(name): (entry["bytes"], entry["sha256"]) for name, entry in content["files"].items()}
        manifest = _Manifest(path, content["step"], content["attempt"], content["wall_time"], files)
        numbers = (manifest.step, manifest.attempt, *(size for size, _ in files.values()))
        whole = bool(files) and all(type(number) is int and number >= 0 for number in numbers)
        if whole and content["version"] == 1 and type(manifest.wall_time) in (int, float):
            return manifest
        reason = f"{MANIFEST} is not of version 1 with files, steps and sizes"
    except FileNotFoundError:
        reason = f"no {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{MANIFEST} cannot be read: {type(error).__name__}: {error}"
    attempt, _, step = path.name.partition("-")
    if not re.fullmatch(r"[0-9]+", attempt) or not re.fullmatch(r"[0-9]+", step):
        return None
    return Checkpoint(path.name, int(step), int(attempt), 0.0, path, verified=False, reason=reason)


def _sha256(path: Path, lengths: Iterable[int]) -> dict[int, str]:
    """Digests of the first n bytes for every n of `lengths`, in one pass; none where the file is shorter."""
    digest, at = hashlib.sha256(), 0
    digests = {}
    with path.open("rb", buffering=0) as file:
        for length in sorted(lengths):
            while at < length and (chunk := file.read(min(CHUNK, length - at))):
                digest.update(chunk)
                at += len(chunk)
            if at == length:
                digests[length] = digest.copy().hexdigest()
    return digests
