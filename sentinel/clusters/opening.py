"""The cluster that `[trainer] launcher` names, opened."""

from __future__ import annotations

from collections.abc import Callable

from sentinel.clusters import Cluster
from sentinel.clusters.reach import Reach
from sentinel.clusters.slurm import Slurm


def reach_for(launcher: str | None, monotonic: Callable[[], float], wake: Callable[[], object]) -> Reach:
    """Give the way to a launcher's jobs; to none where none is configured."""
    found: dict[str, Cluster] = {}
    if launcher == "slurm":
        found[launcher] = Slurm()
    return Reach(found, monotonic, wake)
