"""An API server of Kubernetes on loopback, by real HTTPS, that answers with recorded bodies.

The bodies have the fields that the API's reference documents for Pod, PodList, Job, Eviction and Status, cut
down to those that mean something here; no cluster was run. What was asked is kept.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import trustme

TOKEN = "eyJhbGciOiJSUzI1NiIs.a-service-accounts-token.c2lnbmF0dXJl"
POD_UID, NEXT_UID, JOB_UID = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
SCRIPT = 'run=/runs/td3\nset -- python train.py\n. "$run/control/resume.sh"\nexec "$@"\n'


def pod(uid: str = POD_UID, name: str = "td3-x7k2p", phase: str = "Running", **about: Any) -> dict[str, Any]:
    """A pod of the job."""
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": "training",
            "uid": uid,
            "creationTimestamp": "2026-11-20T12:08:50Z" if uid == POD_UID else "2026-11-20T12:20:00Z",
            "labels": {
                "batch.kubernetes.io/controller-uid": JOB_UID,
                "batch.kubernetes.io/job-name": "td3",
            },
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": "td3",
                    "uid": JOB_UID,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            **about,
        },
        "spec": {
            "securityContext": {"runAsUser": 1000},
            "containers": [
                {
                    "name": "train",
                    "command": ["sh", "-c"],
                    "args": [SCRIPT],
                    "env": [{"name": name} for name in ("POD_NAME", "POD_UID", "JOB_UID")],
                }
            ],
        },
        "status": {"phase": phase, "startTime": "2026-11-20T12:08:54Z"},
    }


def job(**spec: Any) -> dict[str, Any]:
    """The job, running."""
    return {
        "kind": "Job",
        "apiVersion": "batch/v1",
        "metadata": {"name": "td3", "namespace": "training", "uid": JOB_UID},
        "spec": {
            "backoffLimit": 3,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "suspend": False,
            **spec,
        },
        "status": {"active": 1},
    }


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    """A Status, as the API answers what it does not grant."""
    outcome = "Success" if code < 300 else "Failure"
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": outcome, "code": code}
    return body | ({"reason": reason, "message": message} if code >= 300 else {})


Given = tuple[int, dict[str, Any], dict[str, str]]

GONE: Given = (404, status(404, "NotFound", 'pods "td3-x7k2p" not found'), {})
FORBIDDEN: Given = (
    403,
    status(
        403,
        "Forbidden",
        'pods "td3-x7k2p" is forbidden: User "system:serviceaccount:training:sentinel" cannot create '
        'resource "pods/eviction" in API group "" in the namespace "training"',
    ),
    {},
)
BUDGET: Given = (
    429,
    status(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.")
    | {
        "details": {
            "causes": [
                {
                    "reason": "DisruptionBudget",
                    "message": "The disruption budget td3 needs 1 healthy pods and has 1 currently",
                }
            ],
            "retryAfterSeconds": 10,
        }
    },
    {"Retry-After": "10"},
)
CONFLICT: Given = (
    409,
    status(
        409,
        "Conflict",
        'Operation cannot be fulfilled on Pod "td3-x7k2p": Precondition failed: '
        f"UID in precondition: {POD_UID}, UID in object meta: {NEXT_UID}",
    ),
    {},
)


class ApiServerOnLoopback:
    """What it answers, by method and path, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Given] = {}
        self.asked: list[tuple[str, str, dict[str, Any] | None, dict[str, str]]] = []
        self.hangs = threading.Event()
        self.trickles = threading.Event()
        self.closes = threading.Event()
        self.port = 0
        self.is_well()

    def is_well(self) -> None:
        """A running pod of a running job; every request is granted."""
        home = "/api/v1/namespaces/training/pods"
        jobs = "/apis/batch/v1/namespaces/training/jobs/td3"
        chosen = f"{home}?labelSelector=batch.kubernetes.io%2Fcontroller-uid%3D{JOB_UID}"
        self.answers = {
            ("GET", f"{home}/td3-x7k2p"): (200, pod(), {}),
            ("GET", chosen): (200, {"kind": "PodList", "apiVersion": "v1", "items": [pod()]}, {}),
            ("GET", jobs): (200, job(), {}),
            ("PATCH", jobs): (200, job(suspend=True), {}),
            ("POST", f"{home}/td3-x7k2p/eviction"): (201, status(201, "", ""), {}),
        }
        self.pods, self.pod, self.job = chosen, f"{home}/td3-x7k2p", jobs

    def say(self, method: str, path: str, given: Given) -> None:
        """Answer so from now on."""
        self.answers[method, path] = given

    def changes(self) -> list[tuple[str, str, dict[str, Any] | None]]:
        """What was asked that changes anything."""
        return [(method, path, body) for method, path, body, _ in self.asked if method != "GET"]

    def trickle(self, wire: BufferedIOBase) -> None:
        """Answer a byte now and then, and never to the end."""
        with suppress(OSError):
            wire.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not self.closes.wait(0.02):
                wire.write(b".")
                wire.flush()

    @contextmanager
    def serve(self, credentials: Path) -> Iterator[None]:
        """Serve on a free port, with a certificate by an authority of its own; write what a pod finds."""
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        credentials.mkdir(parents=True, exist_ok=True)
        authority.cert_pem.write_to_path(str(credentials / "ca.crt"))
        (credentials / "token").write_text(TOKEN)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                outer.asked.append((self.command, self.path, body, dict(self.headers)))
                if outer.hangs.is_set():
                    return  # the connection closes without an answer
                if outer.trickles.is_set():
                    outer.trickle(self.wfile)
                    return
                code, content, headers = outer.answers.get((self.command, self.path), GONE)
                sent = json.dumps(content).encode()
                self.send_response(code)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = do_PATCH = _answer  # noqa: N815  the names that http.server calls

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            self.closes.set()
            server.shutdown()
            thread.join()
            server.server_close()
