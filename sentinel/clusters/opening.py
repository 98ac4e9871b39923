"""The cluster that `[trainer] launcher` names, opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sentinel.clusters import Cluster
from sentinel.clusters.kubernetes import CREDENTIALS, ApiServer, Kubernetes
from sentinel.clusters.reach import Reach
from sentinel.clusters.slurm import Slurm


def reach_for(launcher: str | None, monotonic: Callable[[], float], wake: Callable[[], object]) -> Reach:
    """Give the way to a launcher's jobs; to none where none is configured."""
    found: dict[str, Cluster] = {}
    if launcher == "slurm":
        found[launcher] = Slurm()
    elif launcher == "kubernetes":
        # The cluster tells every pod where its API server is.
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
        port = int(os.environ.get("KUBERNETES_SERVICE_PORT", "443"))
        folder = Path(os.environ.get("KUBERNETES_CREDENTIALS", CREDENTIALS))
        found[launcher] = Kubernetes(ApiServer(host, port, folder))
    return Reach(found, monotonic, wake)
