"""torch.distributed: rank 0 reads, all ranks agree at a step boundary, through the job's own process group.

    guard = RankedGuard(run, parameters=[...])      # on every rank, after init_process_group
    command = guard.poll()                          # the same answer on every rank, or None on every rank

Every rank must call `poll`, `agree` and `acknowledge` equally often and in the same order, as with any
collective: where one rank stopped and the others went on, the job would hang. All else is the guard's.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist

from sentinel.guard import Command, Guard, Value


class RankedGuard:
    """A guard for all ranks of a job; the real one lives on rank 0.

    Args:
        run_dir, options: as for Guard; used on rank 0 alone.
        group: the process group; default: the job's. With NCCL a gloo group of its own,
            `dist.new_group(backend="gloo")`, costs no kernel launch.
        every: polls between two agreements. One is a broadcast of a byte; all else of poll() costs nothing.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        *,
        group: dist.ProcessGroup | None = None,
        every: int = 1,
        **options: Any,
    ) -> None:
        self._group, self._every, self._polls = group, every, 0
        self._source = dist.get_global_rank(group, 0) if group is not None else 0
        gpu = dist.get_backend(group) == "nccl"
        self._device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
        self._guard = Guard(run_dir, **options) if dist.get_rank(group) == 0 else None
        self.attempt: int = self._from_first(self._guard.attempt if self._guard else None)

    def poll(self) -> Command | None:
        """The next command, on every rank at the same call; a collective."""
        self._polls += 1
        if self._polls % self._every:
            return None
        command = self._guard.poll() if self._guard else None
        something = torch.tensor([command is not None], dtype=torch.uint8, device=self._device)
        dist.broadcast(something, self._source, self._group)
        return self._from_first(command) if something.item() else None

    def beat(self, step: int, phase: str = "update") -> None:
        """As Guard.beat; nothing on other ranks."""
        if self._guard:
            self._guard.beat(step, phase)

    def agree(self, problem: str = "") -> str:
        """Every rank says what keeps it from obeying, if anything; a collective.

        Returns:
            What any rank has said, on every rank; empty where all of them can. Call it before anything is
            changed: a rollback on half of the ranks is worse than none.
        """
        return "; ".join(f"rank {rank}: {said}" for rank, said in enumerate(self._all(problem)) if said)

    def acknowledge(self, command: Command, status: str, *, reason: str = "", **fields: Any) -> None:
        """As Guard.acknowledge, once for all ranks; a collective. What one rank has not done is not done."""
        said: list[tuple[str, str]] = self._all((status, reason))
        statuses = {one for one, _ in said}
        agreed = said[0][0] if len(statuses) == 1 else "failed"
        reasons = [
            f"rank {rank}: {one} {why}".rstrip() for rank, (one, why) in enumerate(said) if one != "done"
        ]
        if self._guard:
            together = said[0][1] if len(set(said)) == 1 else "; ".join(reasons)  # not once a rank
            self._guard.acknowledge(command, agreed, reason=together, **fields)

    def set_value(self, name: str, value: Value) -> None:
        """As Guard.set_value; nothing on other ranks."""
        if self._guard:
            self._guard.set_value(name, value)

    def begin_attempt(self) -> int:
        """As Guard.begin_attempt; a collective."""
        self.attempt = self._from_first(self._guard.begin_attempt() if self._guard else None)
        return self.attempt

    def finish(self, outcome: str = "finished") -> None:
        """As Guard.finish; nothing on other ranks."""
        if self._guard:
            self._guard.finish(outcome)

    def _from_first(self, thing: Any) -> Any:
        box = [thing]
        dist.broadcast_object_list(box, self._source, self._group, self._device)
        return box[0]

    def _all(self, thing: Any) -> list[Any]:
        found: list[Any] = [None] * dist.get_world_size(self._group)
        dist.all_gather_object(found, thing, self._group)
        return found
