"""Replay: a ring in which each observation and each frame is stored once, kept on disk as append-only
segments.

The one fact to hold: rows are numbered for ever. Row i holds an observation, the action taken on it and its
outcome; the observation that followed is row i + 1. The end of an episode therefore costs one extra row,
which is never drawn. Row i lives at i modulo capacity, so going back in time is forgetting the newest rows,
exact as long as none of the older ones has been overwritten.

Why it exists: a checkpoint without its replay resumes as another run, and a rollback with a large replay has
to be instant. On disk the rows lie in segments that only grow; a checkpoint names each with the length and
checksum that were its own. A rollback never truncates them: the new attempt writes a segment of its own, and
the abandoned rows stay for the checkpoints that know them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.envs import Seen
from trainer.td3 import Batch, Observation

SEGMENT_BYTES = 16 << 20
"""A segment is closed at this size, so that one whose rows have all left the ring can be deleted."""


@dataclass(frozen=True)
class Segment:
    """The first `size` bytes of a segment file, rows `first_row` on, and their sha256 in hexadecimal."""

    name: str
    first_row: int
    size: int
    sha256: str


class DamagedReplayError(ValueError):
    """The rows on disk are not those that a checkpoint names."""


class Replay:
    """A ring of `capacity` rows; `vector_dim`, `action_dim` as in td3.Shape, `frames` = 0 without images.

    Args:
        capacity: rows. One row of the driving world takes 0.2 kB, with a 48 x 48 frame 2.5 kB; memory that
        was
            never written is never taken.
        rng: draws the batches.
    """

    def __init__(
        self,
        capacity: int,
        *,
        vector_dim: int,
        action_dim: int,
        frames: int = 0,
        image_size: int = 0,
        rng: np.random.Generator,
    ) -> None:
        fields: list[Any] = [
            ("vector", np.float32, (vector_dim,)),
            ("action", np.float32, (action_dim,)),
            ("reward", np.float32),
            ("not_done", np.float32),
            ("episode", np.int64),  # the row at which this row's episode began
            ("drawable", np.bool_),
        ]
        if frames:
            fields.append(("frame", np.uint8, (image_size, image_size)))
        self.rows = np.zeros(capacity, np.dtype(fields))
        self.capacity = capacity
        self.frames = frames
        self.written = 0
        """Completed rows since the beginning of time; the row of that number waits for its action."""
        self.overwritten = 0
        """Rows below this number were once lost to newer ones: a rewind cannot bring them back."""
        self.skipped: list[tuple[int, int]] = []
        """Rows from the first number up to the second are never drawn again."""
        self._rng = rng

    def __len__(self) -> int:
        """Completed rows still in the ring; the last of each episode among them cannot be drawn."""
        return self.written - self.oldest

    @property
    def oldest(self) -> int:
        """Number of the oldest row; one place is the waiting row's."""
        return max(0, self.written + 1 - self.capacity)

    def begin(self, observation: Seen) -> None:
        """An episode begins with `observation`."""
        self._place(observation, episode=self.written)

    def go_on(self, observation: Seen) -> None:
        """Go on, with `observation`, in an episode whose earlier rows are not the ones before.

        Its own stack gives the frames before it, in rows that are never drawn.
        """
        episode = self.written
        for newest in range(1, self.frames):
            self._place(observation | {"image": observation["image"][:newest]}, episode=episode)
            self.written += 1
        self._place(observation, episode=episode)

    def add(
        self, action: NDArray[np.float32], reward: float, after: Seen, *, terminated: bool, ended: bool
    ) -> None:
        """The waiting observation was answered by `action`, which led to `after`.

        Args:
            action: float32 [action_dim] in [-1, 1].
            reward: of this step.
            after: the observation that followed, also at the end of an episode.
            terminated: nothing comes after, so its value is 0; a step limit is no such end.
            ended: the episode is over; begin() comes next.
        """
        row = self.rows[self.written % self.capacity]
        row["action"], row["reward"], row["not_done"], row["drawable"] = action, reward, not terminated, True
        episode = int(row["episode"])
        self.written += 1
        self._place(after, episode=episode)
        if ended:
            self.written += 1  # the row of `after` stays as it is: seen as a next observation, never drawn

    def abandon(self) -> None:
        """The waiting observation gets no answer: what its action led to is not to be believed.

        Its row is seen as the next observation of the one before and never drawn; begin() comes next.
        """
        self.written += 1

    def _place(self, observation: Seen, *, episode: int) -> None:
        self.overwritten = max(self.overwritten, self.oldest)
        row = self.rows[self.written % self.capacity]
        row["vector"], row["episode"], row["drawable"] = observation["vector"], episode, False
        row["action"], row["reward"], row["not_done"] = 0, 0, 0
        if self.frames:
            row["frame"] = observation["image"][-1]

    def sample(self, batch_size: int, device: torch.device) -> Batch:
        """Draw transitions uniformly, with replacement.

        Raises:
            ValueError: there is no transition to draw.
        """
        low = self._lowest
        if low >= self.written:
            raise ValueError("the replay is empty: store a transition before drawing a batch")
        drawn = np.empty(0, np.int64)
        while len(drawn) < batch_size:
            rows = self._rng.integers(low, self.written, size=batch_size + batch_size // 4)
            drawn = np.concatenate((drawn, rows[self._drawable(rows)]))
        rows = drawn[:batch_size]
        places = rows % self.capacity
        return Batch(
            observation=self._observations(rows, device),
            action=_tensor(self.rows["action"][places], device),
            reward=_tensor(self.rows["reward"][places, None], device),
            next_observation=self._observations(rows + 1, device),
            not_done=_tensor(self.rows["not_done"][places, None], device),
        )

    def skip(self, newest: int, *, keep: int) -> int:
        """Never draw the newest transitions again: those that a sick policy made.

        Args:
            newest: how many. keep: of the others at least so many remain, or nothing could be learnt from.

        Returns:
            How many were left out.
        """
        rows = np.arange(self._lowest, self.written)
        there = rows[self._drawable(rows)]
        count = min(newest, max(0, len(there) - keep))
        if count > 0:
            self.skipped.append((int(there[-count]), self.written))
        return max(count, 0)

    @property
    def _lowest(self) -> int:
        """The oldest row that may be drawn: the frames before it must still be there, also in a full ring."""
        return self.oldest + (self.frames if self.oldest else 0)

    def _drawable(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        drawable: NDArray[np.bool_] = self.rows["drawable"][rows % self.capacity]
        for first, end in self.skipped:
            drawable = drawable & ((rows < first) | (rows >= end))
        return drawable

    def _observations(self, rows: NDArray[np.int64], device: torch.device) -> Observation:
        places = rows % self.capacity
        seen = {"vector": _tensor(self.rows["vector"][places], device)}
        if self.frames:
            # A stack at the start of an episode repeats the first frame, as the environment's does.
            back = np.arange(1 - self.frames, 1)
            stack = np.maximum(rows[:, None] + back, self.rows["episode"][places, None])
            seen["image"] = _tensor(self.rows["frame"][stack % self.capacity], device)
        return seen

    # -- going back --------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs beside the segments: the pointer and the waiting row."""
        waiting = self.rows[self.written % self.capacity]
        return {
            "written": self.written,
            "capacity": self.capacity,
            "waiting": np.frombuffer(waiting.tobytes(), np.uint8),
            "skipped": [(first, end) for first, end in self.skipped if end > self.oldest],
        }

    def rewind(self, state: Mapping[str, Any]) -> bool:
        """Go back to a state_dict() of this very ring's past; False where rows of it are overwritten."""
        written: int = state["written"]
        if self.overwritten > max(0, written + 1 - self.capacity):
            return False
        self._point(state)
        return True

    def load(self, state: Mapping[str, Any], segments: Sequence[Segment], folder: Path) -> None:
        """Fill the ring from disk.

        Raises:
            DamagedReplayError: a segment is missing, short or of other rows; the ring is then as it was.
            ValueError: the checkpoint's ring had another capacity.
        """
        written: int = state["written"]
        if state["capacity"] != self.capacity:
            raise ValueError(
                f"the checkpoint's replay holds {state['capacity']} rows, this one {self.capacity}"
            )
        oldest = max(0, written + 1 - self.capacity)
        rows = np.zeros_like(self.rows)
        expected = oldest
        for segment in segments:
            part = self._read(segment, folder)
            last = segment.first_row + len(part)
            if segment.first_row > expected:
                break
            numbers = np.arange(max(expected, segment.first_row), last)
            rows[numbers % self.capacity] = part[numbers - segment.first_row]
            expected = max(expected, last)
        if expected < written:
            raise DamagedReplayError(
                f"{folder}: rows {expected} to {written} are in no segment of this checkpoint"
            )
        self.rows = rows
        self.overwritten = oldest
        self._point(state)

    def _read(self, segment: Segment, folder: Path) -> NDArray[Any]:
        path = folder / segment.name
        try:
            with path.open("rb") as file:
                content = file.read(segment.size)
        except OSError as error:
            raise DamagedReplayError(f"{path}: {error.strerror or error}") from error
        if len(content) != segment.size or hashlib.sha256(content).hexdigest() != segment.sha256:
            raise DamagedReplayError(
                f"{path}: its first {segment.size} bytes are not those that the checkpoint names"
            )
        return np.frombuffer(content, self.rows.dtype)

    def _point(self, state: Mapping[str, Any]) -> None:
        self.written = state["written"]
        waiting = np.frombuffer(state["waiting"].tobytes(), self.rows.dtype)[0]
        self.rows[self.written % self.capacity] = waiting
        self.skipped = [(first, end) for first, end in state.get("skipped", ())]  # older checkpoints: none


class Journal:
    """Replay rows on disk: `<run>/replay/<attempt>-<first row>.rows`, appended and fsynced on each save.

    Args:
        folder: made when the first row is written.
        segment_bytes: size at which a segment is closed.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.segments: list[Segment] = []
        self.saved = 0
        """Rows below this number are in `segments`."""
        self._segment_bytes = segment_bytes
        self._open: str | None = None  # the segment that grows
        self._hash = hashlib.sha256()

    def save(self, replay: Replay, attempt: int) -> list[Segment]:
        """Append the rows that are not on disk yet, fsync, and return the segments of the rows in the ring.

        Raises:
            OSError: the disk would not take them; `segments` is unchanged and the next save tries again.
        """
        first = max(self.saved, replay.oldest)
        if first < replay.written:
            self._append(replay, first, attempt)
        row_bytes = replay.rows.dtype.itemsize
        self.segments = [s for s in self.segments if s.first_row + s.size // row_bytes > replay.oldest]
        return list(self.segments)

    def rewind(self, segments: Sequence[Segment], written: int) -> None:
        """Go on from a checkpoint's segments, in a file of our own: its last one may have grown since."""
        self._open = None
        self.segments, self.saved = list(segments), written

    def _append(self, replay: Replay, first: int, attempt: int) -> None:
        places = np.arange(first, replay.written) % replay.capacity
        content = replay.rows[places].tobytes()
        name = self._open if first == self.saved else None
        fresh = name is None
        if name is None:
            name, self._hash = self._begin(attempt, first), hashlib.sha256()
        self._open = (
            None  # a write that fails leaves a tail that is in no checkpoint: then another segment begins
        )
        with (self.folder / name).open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            _sync(self.folder)
        self._hash.update(content)
        size = len(content)
        if not fresh:
            last = self.segments.pop()
            first, size = last.first_row, last.size + size
        self.segments.append(Segment(name, first, size, self._hash.hexdigest()))
        self.saved = replay.written
        self._open = name if size < self._segment_bytes else None

    def _begin(self, attempt: int, first: int) -> str:
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)  # another rank may be making the same parent
            _sync(self.folder.parent)
            _sync(self.folder.parent.parent)
        stem = f"{attempt:02d}-{first:010d}"
        taken = sum(1 for _ in self.folder.glob(f"{stem}*.rows"))
        return f"{stem}{f'.{taken}' if taken else ''}.rows"

    def prune(self, referenced: set[str]) -> None:
        """Delete segments that neither a checkpoint (`referenced`, names) nor the present ring needs."""
        needed = referenced | {segment.name for segment in self.segments}
        for path in self.folder.glob("*.rows"):
            if path.name not in needed:
                path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tensor(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
