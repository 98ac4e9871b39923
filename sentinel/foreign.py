"""Checkpoints that a job writes without knowing of us: found by name, trusted only once they are whole and
at rest.

A name's pattern holds the step (`checkpoint-{step}`). A checkpoint counts when nothing of it has changed for
some seconds and its content stands the test of its type (`formats`); its wall time is its last change. What
was tested is not read again until size, mtime or inode changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from sentinel.checkpoints import MANIFEST, Checkpoint
from sentinel.formats import fault_of

PATTERNS = ("rl_model_{step}_steps.zip", "checkpoint-{step}", "epoch={epoch}-step={step}.ckpt")
"""As Stable-Baselines3, Hugging Face's Trainer and Lightning name theirs."""

FOLDERS = ("checkpoints", ".")

MOST_FILES = 10_000
"""Files of one checkpoint that are looked at."""

_FIELD = re.compile(r"\{([^{}]*)\}")

_Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]  # path, size, mtime in ns, inode


@dataclass(frozen=True, slots=True)
class Patterns:
    """What the user said of a job's checkpoints.

    Attributes:
        names: patterns over file and folder names. folders: where they lie, relative to the run.
        settle: seconds without a change after which one is no longer being written.
    """

    names: tuple[str, ...] = PATTERNS
    folders: tuple[str, ...] = FOLDERS
    settle: float = 5.0


def compiled(pattern: str) -> re.Pattern[str]:
    """Make a name's pattern: `{step}` stands for a number, any other `{word}` for some characters.

    Raises:
        ValueError: it has no `{step}` or several, a `/`, or braces that do not match.
    """
    if "/" in pattern or "\0" in pattern:
        raise ValueError(f"{pattern!r}: a pattern is over one name; say the folder in [checkpoints] folder")
    fields = _FIELD.findall(pattern)
    if fields.count("step") != 1:
        raise ValueError(f"{pattern!r}: write {{step}} once, where the name has its step")
    if not all(name.isidentifier() for name in fields) or set("{}") & set(_FIELD.sub("", pattern)):
        raise ValueError(f"{pattern!r}: write {{step}}, and {{word}} for what may stand there")
    parts = _FIELD.split(pattern)
    made = "".join(
        re.escape(part) if at % 2 == 0 else "([0-9]{1,18})" if part == "step" else "[^/]+?"
        for at, part in enumerate(parts)
    )
    return re.compile(made)


class ForeignCatalogue:
    """The checkpoints of one run that fit a pattern.

    Args:
        run: the run's folder.
        patterns: names and folders.
        wall, monotonic: clocks, in seconds.
    """

    def __init__(
        self, run: Path, patterns: Patterns, wall: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._run = run
        self._patterns = patterns
        self._names = [compiled(name) for name in patterns.names]
        self._wall = wall
        self._monotonic = monotonic
        self._seen: dict[Path, tuple[_Stamp, float]] = {}
        self._tested: dict[Path, tuple[_Stamp, str]] = {}

    def list(self) -> list[Checkpoint]:
        """Every checkpoint by its step; what has changed is tested again once it is at rest."""
        found: dict[str, Checkpoint] = {}
        there: set[Path] = set()
        for path, step in self._candidates():
            there.add(path)
            if path.name not in found:
                checkpoint = self._judge(path, step)
                if checkpoint is not None:
                    found[path.name] = checkpoint
        self._seen = {path: seen for path, seen in self._seen.items() if path in there}
        self._tested = {path: tested for path, tested in self._tested.items() if path in there}
        return sorted(found.values(), key=lambda c: (c.step, c.name))

    def bytes(self) -> int:
        """What they take, in bytes."""
        return sum(size for path, _ in self._candidates() for _, size, _, _ in (_stamp(path) or ()))

    def _candidates(self) -> Iterator[tuple[Path, int]]:
        for folder in self._patterns.folders:
            try:
                entries = sorted((self._run / folder).iterdir())
            except OSError:
                continue
            for path in entries:
                match = next(filter(None, (name.fullmatch(path.name) for name in self._names)), None)
                # Whoever may write into the folder must not lead us elsewhere by a link.
                if (
                    match is not None
                    and path.name.isprintable()
                    and not path.is_symlink()
                    and not (path / MANIFEST).exists()
                ):
                    yield path, int(match[1])

    def _judge(self, path: Path, step: int) -> Checkpoint | None:
        stamp = _stamp(path)
        if stamp is None:
            return None
        size, wall = sum(s for _, s, _, _ in stamp), max((m for _, _, m, _ in stamp), default=0) / 1e9
        reason = self._fault(path, step, stamp, wall)
        return Checkpoint(path.name, step, 0, wall, path, not reason, reason, size)

    def _fault(self, path: Path, step: int, stamp: _Stamp, wall: float) -> str:
        if not stamp:
            return "it is empty"
        if len(stamp) > MOST_FILES:
            return f"it holds more than {MOST_FILES} files"
        tested = self._tested.get(path)
        if tested is not None and tested[0] == stamp:
            return tested[1]
        now = self._monotonic()
        if self._seen.get(path, (None, now))[0] != stamp:
            self._seen[path] = (stamp, now)
        # Either clock will do: the file's own may be another machine's, and ours has just begun to look.
        if not self._wall() - wall >= self._patterns.settle and (
            now - self._seen[path][1] < self._patterns.settle
        ):
            return f"changed within the last {self._patterns.settle:g} s; it may still be written"
        fault = fault_of(path, step)
        if _stamp(path) != stamp:
            return "it changed while it was read"
        self._tested[path] = (stamp, fault)
        return fault


def _stamp(path: Path) -> _Stamp | None:
    """What tells whether a checkpoint has changed; None where it is gone or no file or folder."""
    try:
        if path.is_dir():
            stamps = []
            for folder, below, names in os.walk(path):
                below.sort()
                stamps += [_of(Path(folder, name)) for name in sorted(names)]
                if len(stamps) > MOST_FILES:
                    break
            return tuple(stamps)
        return (_of(path),) if path.is_file() else None
    except OSError:
        return None


def _of(path: Path) -> tuple[str, int, int, int]:
    found = path.lstat()
    return str(path), found.st_size, found.st_mtime_ns, found.st_ino


def joined(*catalogues: Callable[[], Sequence[Checkpoint]]) -> Callable[[], list[Checkpoint]]:
    """One catalogue of several."""

    def every() -> list[Checkpoint]:
        return sorted(
            (each for catalogue in catalogues for each in catalogue()),
            key=lambda c: (c.attempt, c.step, c.name),
        )

    return every
