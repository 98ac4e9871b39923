"""One request to the API server of the Kubernetes cluster that this pod is in, as the pod's service account.

The token opens whatever the account may do: it is read for each request, since the cluster replaces it every
hour, goes to the server whose certificate the cluster's own authority has signed and to no other (no redirect
and no proxy is followed), and stands in no error, log or repr. A request ends in time whatever the server
does, and its answer is data of somebody else's: its words are cut, made printable and freed of the token.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sentinel.clusters import NO_ANSWER

PATIENCE = 10.0
"""Seconds to connect, and seconds from then to the end of the answer."""

CREDENTIALS = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its service account's token and the API server's certificate authority."""

_LARGEST = 8 << 20  # bytes of an answer; a pod's object has some ten thousand
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # as RFC 6750 has a bearer's


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server has said.

    Attributes:
        status: of HTTP; 0 where there was no answer. body: the object; empty where there was none.
        trouble: why it failed, on one line; empty where it did not.
    """

    status: int
    body: Mapping[str, Any]
    trouble: str = ""


class Api(Protocol):
    """One request to the API server; never raises."""

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Send it and wait for the answer, for some time."""
        ...


class ApiServer:
    """An API server, by HTTPS."""

    def __init__(
        self, host: str, port: int, credentials: Path = CREDENTIALS, patience: float = PATIENCE
    ) -> None:
        """Name it; nothing is asked yet.

        Args:
            host: name or address, as its certificate has it. port: of HTTPS.
            credentials: folder with `token` and `ca.crt`. patience: as `PATIENCE`.
        """
        self._host = host
        self._port = port
        self._credentials = credentials
        self._patience = patience

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Send a request and wait for its answer."""
        try:
            token = (self._credentials / "token").read_text(encoding="ascii").strip()
            trusted = ssl.create_default_context(cafile=str(self._credentials / "ca.crt"))
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            return Answer(0, {}, f"the service account in {self._credentials} cannot be read: {_kind(error)}")
        if not _TOKEN.fullmatch(token):  # as a header it would be quoted by the error
            return Answer(0, {}, f"{self._credentials / 'token'} holds no token")
        server, late = f"the API server at {self._host}:{self._port}", threading.Event()
        try:
            status, headers, content = self._send(method, path, body, token, trusted, late)
        except ssl.SSLCertVerificationError as error:
            return Answer(0, {}, f"{server} is not the one of {self._credentials}: {error.verify_message}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                return Answer(0, {}, f"{server} {NO_ANSWER} within {self._patience:g} s")
            return Answer(0, {}, f"{server} {NO_ANSWER}: {_kind(error)}")
        return read_answer(status, headers, content, token)

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        token: str,
        trusted: ssl.SSLContext,
        late: threading.Event,
    ) -> tuple[int, Mapping[str, str], bytes]:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": kind, "Authorization": f"Bearer {token}"}
        plain = socket.create_connection((self._host, self._port), timeout=self._patience)
        with trusted.wrap_socket(plain, server_hostname=self._host, do_handshake_on_connect=False) as wire:

            def give_up() -> None:
                late.set()
                with contextlib.suppress(OSError):  # it has just ended by itself
                    socket.socket.shutdown(wire, socket.SHUT_RDWR)

            # A socket's own patience is for each byte: who sends one now and then would hold us for ever.
            alarm = threading.Timer(self._patience, give_up)
            alarm.daemon = True
            alarm.start()
            try:
                wire.do_handshake()
                connection = http.client.HTTPConnection(self._host, self._port)
                connection.sock = wire
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                response = connection.getresponse()
                found = response.status, dict(response.headers), response.read(_LARGEST)
            finally:
                alarm.cancel()
            if late.is_set():  # what was cut off may look like an answer
                raise TimeoutError
            return found


def read_answer(status: int, headers: Mapping[str, str], content: bytes, token: str = "") -> Answer:
    """Make an answer of a response. Pure.

    Args:
        status: of HTTP. headers, content: as they came. token: what no word of it may hold.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = {}
    if not isinstance(body, dict):
        body = {}
    if 200 <= status < 300:
        return Answer(status, body, "" if body else f"the API server {NO_ANSWER} in full: HTTP {status}")
    trouble = f"HTTP {status}" + "".join(f": {word}" for word in _words(body, token))
    if status == 429 or status >= 500:
        again = headers.get("Retry-After", "")
        trouble = f"the API server {NO_ANSWER} for good: {trouble}"
        trouble += f"; again in {again} s" if re.fullmatch("[0-9]{1,5}", again) else ""
    return Answer(status, body, trouble)


def _words(body: Mapping[str, Any], token: str) -> list[str]:
    """What a Status says, and the first of its causes, which names the disruption budget that forbids it."""
    details = body.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    cause = (
        causes[0].get("message")
        if isinstance(causes, list) and causes and isinstance(causes[0], dict)
        else ""
    )
    found = []
    for text in (body.get("message") or body.get("reason") or "", cause or ""):
        said = str(text).replace(token, "…") if token else str(text)
        plain = " ".join("".join(c if c.isprintable() else " " for c in said).split())[:200]
        found += [plain] if plain else []
    return found


def _kind(error: Exception) -> str:
    """Say what went wrong by its kind alone: the text of an error may hold what was sent."""
    return getattr(error, "strerror", None) or type(error).__name__
