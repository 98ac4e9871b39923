"""The processes of one run: alone, or the ranks that torchrun started, joined by gloo.

The one fact to hold: every method is a collective. All ranks call the same ones in the same order, so the
loop is one text for one process and for many; alone each is what a single process would do anyway, and costs
nothing. What one rank cannot do none does: an error of one is raised on all.

Why it exists: no branch of the loop asks whether there are others. docs/td3.md says what they share.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sentinel.adapters.ddp import RankedGuard
from sentinel.guard import Guard

T = TypeVar("T")

SEEDS_APART = 1_000_003
"""Between the seeds of two ranks: far enough that seed + 1 is still another run."""

EXPECTED = (OSError, ValueError)
"""What a job that is done together may fail with, and the run go on: a full disk, a bad checkpoint."""


class Alone:
    """One process: nobody to agree with.

    Attributes:
        number: of this rank, from 0 on. Rank 0 has the guard, logs, evaluates and writes what is shared.
        count: of ranks.
    """

    number = 0
    count = 1

    def seed(self, seed: int) -> int:
        """This rank's own seed; rank 0 has the run's."""
        return seed + SEEDS_APART * self.number

    def share(self, whole: int) -> int:
        """This rank's part of what is the ranks' together, rounded down."""
        return whole // self.count

    def guard(self, run_dir: Path, **options: Any) -> Guard | RankedGuard:
        """The guard of the run, with Guard's options."""
        return Guard(run_dir, **options)

    def any(self, mine: bool) -> bool:  # noqa: FBT001 - it is what the method is about
        """Whether it is so on any rank."""
        return mine

    def all(self, mine: bool) -> bool:  # noqa: FBT001
        """Whether it is so on every rank."""
        return mine

    def gather(self, mine: T) -> list[T]:
        """What each rank has, by number."""
        return [mine]

    def first(self, job: Callable[[], T]) -> T:
        """Do `job` on rank 0 alone; what it returns or raises (of EXPECTED) is so on all."""
        return job()

    def together(self, job: Callable[[], T]) -> T:
        """Do `job` on every rank and return one's own result, or raise on all what one has raised."""
        return job()

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Put the mean over the ranks in place of each."""

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Put rank 0's values in place of one's own."""

    def leave(self) -> None:
        """The run has ended, on all ranks."""

    def part(self) -> None:
        """This process ends, however the run went; more than once is once."""


class Gloo(Alone):
    """One of several ranks, over the default process group, which it joins.

    Raises:
        RuntimeError: from any method, when another rank has died or is out of step.
    """

    def __init__(self) -> None:
        dist.init_process_group("gloo")
        self.number, self.count = dist.get_rank(), dist.get_world_size()

    def guard(self, run_dir: Path, **options: Any) -> RankedGuard:
        return RankedGuard(run_dir, **options)

    def any(self, mine: bool) -> bool:  # noqa: FBT001 - as above
        flag = torch.tensor([mine], dtype=torch.uint8)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())

    def all(self, mine: bool) -> bool:  # noqa: FBT001 - as above
        return not self.any(not mine)

    def gather(self, mine: T) -> list[T]:
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, mine)
        return found

    def first(self, job: Callable[[], T]) -> T:
        box: list[Any] = [_done(job) if self.number == 0 else None]
        dist.broadcast_object_list(box)
        result, error = box[0]
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]  # what travelled as an object is what job returned

    def together(self, job: Callable[[], T]) -> T:
        result, error = _done(job)
        failed = [(number, one) for number, one in enumerate(self.gather(error)) if one is not None]
        if failed:
            kind = type(failed[0][1])
            raise kind("; ".join(f"rank {number}: {one}" for number, one in failed))
        return result  # type: ignore[return-value]  # without an error it is what job returned

    def average(self, gradients: Sequence[Tensor]) -> None:
        # One buffer, one collective: the message of a network costs less than a message a layer.
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients]).cpu()
        dist.all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def spread(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            box = tensor.detach().cpu().contiguous()
            dist.broadcast(box, 0)
            tensor.detach().copy_(box)

    def leave(self) -> None:
        dist.barrier()  # who parted first would break the last collective of the others
        self.part()

    def part(self) -> None:
        # Left to the interpreter's end, gloo's threads are at times still there then, and the process aborts:
        # "terminate called without an active exception", and another exit code than the run's.
        if dist.is_initialized():
            dist.destroy_process_group()


def joined() -> Alone:
    """Join the ranks that torchrun started with this one (its WORLD_SIZE says how many), or be alone."""
    return Gloo() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()


def _done(job: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return job(), None
    except EXPECTED as error:
        return None, _sendable(error)


def _sendable(error: Exception) -> Exception:
    """The error as its message: some (OSError with a file name) do not survive the way as they are."""
    return (OSError if isinstance(error, OSError) else type(error))(str(error))
