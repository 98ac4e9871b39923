"""Change a learning rate so that it lasts: in the optimisers, and in what a schedule will make of it.

Duck-typed: it knows the names that torch gives these things, and imports nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

RATES = ("lr", "initial_lr", "max_lr", "min_lr")  # of a parameter group; the last two are OneCycleLR's
BASES = ("base_lrs", "max_lrs")  # of a scheduler; the second is CyclicLR's


def scale(optimizers: Iterable[Any], schedulers: Iterable[Any], factor: float) -> None:
    """Multiply the rates in force, and all that torch's schedulers compute the next ones from.

    A floor that a schedule was given (`eta_min`, `min_lr` of ReduceLROnPlateau) stays where it is.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.update({name: group[name] * factor for name in RATES if name in group})
    for scheduler in schedulers:
        for name in BASES:
            if hasattr(scheduler, name):
                setattr(scheduler, name, [rate * factor for rate in getattr(scheduler, name)])
        scale(
            (), getattr(scheduler, "_schedulers", ()), factor
        )  # SequentialLR and ChainedScheduler hold others
