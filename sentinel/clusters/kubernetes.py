"""Kubernetes: one incarnation of a pod, seen, evicted and, with its Job, suspended through the API server.

A pod's name is handed out again, its uid never: each request that changes anything carries the uid as a
precondition, which the server checks, so that nothing lies between look and touch. The API signals no
process: a trainer beside the sentinel in one pod is signalled as any process is, another one finds its
letters by itself. A pod that has ended is started anew by its Job; an end for good is therefore the Job's,
which is suspended: a person can undo that.
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from sentinel.clusters import NO_ANSWER, RESUME, Sight, Standing, Workload

PATIENCE = 10.0
"""Seconds for one request."""

CREDENTIALS = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its service account's token and the API server's certificate authority."""

POD = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
"""NAMESPACE/POD, as the API allows both."""

_LARGEST = 8 << 20  # bytes of an answer; a pod's object has some ten thousand
_CONTROLLER = "batch.kubernetes.io/controller-uid"
_OVER = ("Succeeded", "Failed")


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
    """The API server of the cluster that this pod is in, by HTTPS, as the pod's service account."""

    def __init__(self, host: str, port: int, credentials: Path = CREDENTIALS) -> None:
        self._host = host
        self._port = port
        self._credentials = credentials

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Send a request. The token is read each time: the cluster replaces it every hour."""
        patch = method == "PATCH"
        headers = {"Accept": "application/json"}
        headers["Content-Type"] = "application/merge-patch+json" if patch else "application/json"
        try:
            token = (self._credentials / "token").read_text(encoding="ascii").strip()
            trusted = ssl.create_default_context(cafile=str(self._credentials / "ca.crt"))
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            what = getattr(error, "strerror", None) or type(error).__name__
            return Answer(0, {}, f"the service account in {self._credentials} cannot be read: {what}")
        headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=PATIENCE, context=trusted)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return read_answer(response.status, dict(response.headers), response.read(_LARGEST))
        except (OSError, http.client.HTTPException, ValueError) as error:
            # By its kind: the text of a wrong header would hold the token.
            what = getattr(error, "strerror", None) or type(error).__name__
            return Answer(0, {}, f"the API server at {self._host}:{self._port} {NO_ANSWER}: {what}")
        finally:
            connection.close()


def read_answer(status: int, headers: Mapping[str, str], content: bytes) -> Answer:
    """Make an answer of a response. Pure."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = {}
    if not isinstance(body, dict):
        body = {}
    if 200 <= status < 300:
        return Answer(status, body) if body else Answer(status, {}, f"HTTP {status} without an object")
    said = " ".join(str(body.get("message") or body.get("reason") or "").split())[:200]
    trouble = f"HTTP {status}" + (f": {said}" if said else "")
    if status == 429 or status >= 500:
        again = headers.get("Retry-After")
        trouble = f"the API server {NO_ANSWER} for good: {trouble}" + (
            f"; again in {again} s" if again else ""
        )
    return Answer(status, body, trouble)


def judge(workload: Workload, pod: Mapping[str, Any]) -> Sight:
    """Say whether a pod is this very workload, and how it is. Pure."""
    found = facts_of(pod)
    if not found:
        return Sight(Standing.UNKNOWN, "what the API server told is no pod")
    state, known = _table(pod, "status"), workload.facts.get("pod_uid")
    now = _incarnation(workload, pod)
    if known is not None and known != found["pod_uid"]:
        if workload.facts.get("job_uid", "") == found.get("job_uid"):
            return Sight(Standing.SUCCEEDED, f"its job has started {now.id} anew", now)
        return Sight(Standing.FOREIGN, f"{workload.id} is another pod of the same name")
    phase = str(state.get("phase") or "")
    same = replace(now, began=workload.began or now.began, facts={**workload.facts, **found})
    if phase in _OVER:
        return Sight(Standing.ENDED, str(state.get("reason") or phase), same)
    if _table(pod, "metadata").get("deletionTimestamp"):
        return Sight(Standing.HELD, "it is being ended", same)
    if phase == "Running":
        return Sight(Standing.RUNNING, "", same)
    if phase == "Pending":
        return Sight(Standing.HELD, "Pending", same)
    return Sight(Standing.UNKNOWN, f"its phase is {phase or 'not told'}")


def facts_of(pod: Mapping[str, Any]) -> dict[str, str]:
    """Return what tells a pod from others: its uid, and name and uid of the Job that controls it."""
    about = _table(pod, "metadata")
    if not isinstance(about.get("uid"), str):
        return {}
    facts = {"pod_uid": about["uid"]}
    for owner in about.get("ownerReferences") or []:
        if isinstance(owner, Mapping) and owner.get("kind") == "Job" and owner.get("controller"):
            facts |= {"job": str(owner.get("name")), "job_uid": str(owner.get("uid"))}
    return facts


def _incarnation(workload: Workload, pod: Mapping[str, Any]) -> Workload:
    about, state = _table(pod, "metadata"), _table(pod, "status")
    name = f"{about.get('namespace')}/{about.get('name')}"
    began = _time(state.get("startTime")) if state.get("phase") != "Pending" else 0.0
    return Workload("kubernetes", name, workload.uid, began, facts_of(pod))


def _time(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def _table(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = of.get(key)
    return found if isinstance(found, Mapping) else {}


class Kubernetes:
    """The pods of the cluster that this one is a part of."""

    kind = "kubernetes"

    def __init__(self, api: Api) -> None:
        self._api = api

    def look(self, workload: Workload) -> Sight:
        """Ask for the pod; where it is over or gone, for the one that its Job has started in its place."""
        if workload.kind != self.kind or not POD.fullmatch(workload.id):
            return Sight(Standing.UNKNOWN, f"{workload.id!r} is no NAMESPACE/POD")
        said = self._api("GET", _pod_path(workload.id))
        if said.status == 404:
            return self._successor(workload) or Sight(Standing.ENDED, "there is no such pod any more")
        if said.trouble:
            return Sight(Standing.UNKNOWN, said.trouble)
        seen = judge(workload, said.body)
        if seen.standing is Standing.ENDED and seen.now is not None:
            return self._successor(seen.now) or seen
        return seen

    def _successor(self, workload: Workload) -> Sight | None:
        """Look for a later pod of the same Job; None where there is none and will be none."""
        job, uid = workload.facts.get("job"), workload.facts.get("job_uid")
        if job is None or uid is None:
            return None
        space = workload.id.partition("/")[0]
        chosen = urlencode({"labelSelector": f"{_CONTROLLER}={uid}"})
        said = self._api("GET", f"/api/v1/namespaces/{space}/pods?{chosen}")
        if said.trouble:
            return Sight(Standing.UNKNOWN, said.trouble)
        for pod in _newest_first(said.body.get("items")):
            found, over = facts_of(pod), _table(pod, "status").get("phase") in _OVER
            if found.get("job_uid") == uid and found["pod_uid"] != workload.facts.get("pod_uid") and not over:
                now = _incarnation(workload, pod)
                return Sight(Standing.SUCCEEDED, f"its job has started {now.id}", now)
        theirs = self._job(workload)
        if theirs.status == 404:
            return None
        if theirs.trouble:
            return Sight(Standing.UNKNOWN, theirs.trouble)
        if _table(theirs.body, "spec").get("suspend") or _is_over(theirs.body):
            return None
        return Sight(Standing.HELD, f"job {job} has not started its next pod yet")

    def _job(self, workload: Workload) -> Answer:
        return self._api("GET", _job_path(workload))

    def ring(self, workload: Workload) -> str:
        """Say that there is no bell: the API signals no process."""
        return (
            f"not rung: the API signals no process of {workload}; its guard looks into the folder by itself"
        )

    def ask(self, workload: Workload, signum: signal.Signals) -> str:
        """End it as SIGTERM would: what else a signal may mean cannot be said through the API."""
        if signum is not signal.SIGTERM:
            return f"{signum.name} not sent: the API signals no process of {workload}"
        return self._end(workload, grace=None)

    def end(self, workload: Workload) -> str:
        """End it for good without waiting for it."""
        return self._end(workload, grace=0)

    def _end(self, workload: Workload, *, grace: int | None) -> str:
        seen = self.look(workload)
        if seen.standing not in (Standing.RUNNING, Standing.HELD) or seen.now is None:
            return f"not ended: {workload} is {seen.standing}" + (f": {seen.words}" if seen.words else "")
        if "job" in seen.now.facts:
            why_not = self._suspend(seen.now)
            if why_not or grace is None:
                return why_not
        return self._evict(seen.now, grace)

    def _suspend(self, workload: Workload) -> str:
        """Suspend its Job, which ends its pods with the grace of their own and starts no other."""
        body = {"metadata": {"uid": workload.facts["job_uid"]}, "spec": {"suspend": True}}
        said = self._api("PATCH", _job_path(workload), body)
        return f"job {workload.facts['job']} not suspended: {said.trouble}" if said.trouble else ""

    def _evict(self, workload: Workload, grace: int | None) -> str:
        space, _, name = workload.id.partition("/")
        options: dict[str, Any] = {"preconditions": {"uid": workload.facts["pod_uid"]}}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": space},
            "deleteOptions": options,
        }
        said = self._api("POST", f"{_pod_path(workload.id)}/eviction", body)
        return f"not evicted: {said.trouble}" if said.trouble else ""

    def restart(self, workload: Workload) -> str:
        """Evict it: its Job starts another pod, which sources what has been written for it."""
        why_not = self.restartable(workload)
        return why_not or self._evict(workload, None)

    def restartable(self, workload: Workload) -> str:
        """Say why an eviction would not do: no Job would start it anew, or it would begin from nothing."""
        if not {"pod_uid", "job_uid", "job"} <= set(workload.facts):
            return (
                f"not evicted: uid and Job of {workload} are not known; "
                "its manifest has to tell it POD_UID, JOB_NAME and JOB_UID"
            )
        said = self._api("GET", _pod_path(workload.id))
        seen = judge(workload, said.body) if not said.trouble else Sight(Standing.UNKNOWN, said.trouble)
        if seen.standing is not Standing.RUNNING:
            return f"not evicted: {workload} is {seen.standing}" + (f": {seen.words}" if seen.words else "")
        if not any(RESUME in text for text in _texts(_table(said.body, "spec"))):
            return f"not evicted: no command of {workload} sources {RESUME}, so it would begin from nothing"
        job = self._job(workload)
        if job.trouble:
            return f"not evicted: job {workload.facts['job']} cannot be read: {job.trouble}"
        if _table(job.body, "metadata").get("uid") != workload.facts["job_uid"]:
            return f"not evicted: job {workload.facts['job']} is another one of the same name"
        return _why_not_again(job.body)

    def successor_test(self, workload: Workload) -> str:
        """Compare the Job's uid, and see that the pod is another one."""
        job, pod = workload.facts["job_uid"], workload.facts["pod_uid"]
        return f'[ "${{JOB_UID:-}}" = {_quoted(job)} ] && [ "${{POD_UID:-}}" != {_quoted(pod)} ]'


def _why_not_again(job: Mapping[str, Any]) -> str:
    """Say why a Job would start no pod in the place of an evicted one; empty where it would."""
    spec, state = _table(job, "spec"), _table(job, "status")
    name = _table(job, "metadata").get("name")
    if spec.get("suspend"):
        return f"not evicted: job {name} is suspended"
    rules = _table(spec, "podFailurePolicy").get("rules") or []
    forgiven = any(_ignores_disruption(rule) for rule in rules if isinstance(rule, Mapping))
    left = int(spec.get("backoffLimit", 6)) - int(state.get("failed") or 0)
    if left <= 0 and not forgiven:
        return (
            f"not evicted: job {name} counts it as a failure and has none left (backoffLimit); raise it, or "
            "let podFailurePolicy ignore DisruptionTarget"
        )
    return ""


def _ignores_disruption(rule: Mapping[str, Any]) -> bool:
    kinds = [c.get("type") for c in rule.get("onPodConditions") or [] if isinstance(c, Mapping)]
    return rule.get("action") == "Ignore" and "DisruptionTarget" in kinds


def _is_over(job: Mapping[str, Any]) -> bool:
    conditions = _table(job, "status").get("conditions") or []
    return any(c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions)


def _newest_first(items: object) -> list[Mapping[str, Any]]:
    pods = [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    return sorted(
        pods, key=lambda pod: str(_table(pod, "metadata").get("creationTimestamp") or ""), reverse=True
    )


def _texts(of: object) -> Iterator[str]:
    """Yield the commands and arguments of a pod's containers."""
    spec = of if isinstance(of, Mapping) else {}
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        yield from map(str, [*(container.get("command") or []), *(container.get("args") or [])])


def _pod_path(name: str) -> str:
    space, _, pod = name.partition("/")
    return f"/api/v1/namespaces/{quote(space, safe='')}/pods/{quote(pod, safe='')}"


def _job_path(workload: Workload) -> str:
    space = workload.id.partition("/")[0]
    return f"/apis/batch/v1/namespaces/{quote(space, safe='')}/jobs/{quote(workload.facts['job'], safe='')}"


def _quoted(uid: str) -> str:
    return "'" + uid.replace("'", "") + "'"
