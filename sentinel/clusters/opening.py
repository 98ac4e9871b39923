"""The cluster that `[trainer] launcher` names, opened."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from sentinel.clusters import Cluster
from sentinel.clusters.api_server import CREDENTIALS, ApiServer
from sentinel.clusters.kubernetes import Kubernetes
from sentinel.clusters.reach import Reach
from sentinel.clusters.slurm import Slurm


def reach_for(launcher: str | None, monotonic: Callable[[], float], wake: Callable[[], object]) -> Reach:
    """Give the way to a launcher's jobs; to none where none is configured."""
    found: dict[str, Cluster] = {}
    if launcher == "slurm":
        found[launcher] = Slurm()
    elif launcher == "kubernetes":
        found[launcher] = _kubernetes(os.environ)
    return Reach(found, monotonic, wake)


def _kubernetes(environ: Mapping[str, str]) -> Kubernetes:
    """The cluster tells every pod where its API server is, and a manifest tells it who it is."""
    host = environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    port = environ.get("KUBERNETES_SERVICE_PORT", "")
    folder = Path(environ.get("KUBERNETES_CREDENTIALS", CREDENTIALS))
    space, name = environ.get("POD_NAMESPACE"), environ.get("POD_NAME")
    server = ApiServer(host, int(port) if port.isascii() and port.isdigit() else 443, folder)
    return Kubernetes(server, f"{space}/{name}" if space and name else "")
