"""Change a learning rate so that it lasts: in the optimisers, and in what a schedule will make of it.

Duck-typed: it knows the names that torch gives these things, and imports nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def scale(optimizers: Iterable[Any], schedulers: Iterable[Any], factor: float) -> None:
    """Multiply the rates in force, and the base that torch's schedulers compute the next ones from."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] *= factor
            if "initial_lr" in group:
                group["initial_lr"] *= factor
    for scheduler in schedulers:
        if hasattr(scheduler, "base_lrs"):
            scheduler.base_lrs = [rate * factor for rate in scheduler.base_lrs]
