"""Kubernetes: one incarnation of a pod, seen, evicted and, with its Job, suspended through the API server.

A pod's name is handed out again, its uid never: each request that changes anything carries the uid as a
precondition, which the server checks, so that nothing lies between look and touch. The API signals no
process: a trainer beside the sentinel in one pod is signalled as any process is, another one finds its
letters by itself. A pod that has ended is started anew by its Job; an end for good is therefore the Job's,
which is suspended: a person can undo that.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from sentinel.clusters import RESUME, Sight, Standing, Workload
from sentinel.clusters.api_server import Answer, Api

SELF = "self"
"""Names the pod that the sentinel itself runs in."""

POD = re.compile(rf"{SELF}|[a-z0-9]([-a-z0-9]{{0,61}}[a-z0-9])?/[a-z0-9]([-.a-z0-9]{{0,251}}[a-z0-9])?")
"""NAMESPACE/POD, as the API allows both; or the sentinel's own."""

SHORT = 1
"""Seconds of grace for an end by force. With 0 the server forgets a pod before its node has ended it."""

ENVIRONMENT = ("POD_UID", "JOB_UID")
"""What a script has to be told of its pod, to know that it is a later one."""

_CONTROLLER = "batch.kubernetes.io/controller-uid"
_OVER = ("Succeeded", "Failed")


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
        return Sight(Standing.ENDED, phase, same)
    acts_as = user_of(pod)
    if workload.uid >= 0 and acts_as not in (None, workload.uid):
        return Sight(
            Standing.FOREIGN, f"{now.id} acts as user {acts_as}, the run belongs to user {workload.uid}"
        )
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
    for owner in _items(about, "ownerReferences"):
        if owner.get("kind") == "Job" and owner.get("controller"):
            facts |= {"job": str(owner.get("name")), "job_uid": str(owner.get("uid"))}
    return facts


def user_of(pod: Mapping[str, Any]) -> int | None:
    """Return the user that a pod's containers act as; None where its manifest does not say, or several."""
    spec = _table(pod, "spec")
    common = _table(spec, "securityContext").get("runAsUser")
    users = {
        _table(container, "securityContext").get("runAsUser", common)
        for container in _items(spec, "containers")
        if isinstance(_table(container, "securityContext").get("runAsUser", common), int | None)
    }
    return next(iter(users)) if len(users) == 1 else None


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


def _items(of: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = of.get(key)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _table(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = of.get(key)
    return found if isinstance(found, Mapping) else {}


class Kubernetes:
    """The pods of the cluster that this one is a part of."""

    kind = "kubernetes"

    def __init__(self, api: Api, me: str = "") -> None:
        """Take the way to the API server.

        Args:
            api: makes a request. me: the pod that this process runs in, `namespace/pod`; empty if not known.
        """
        self._api = api
        self._me = me

    def look(self, workload: Workload) -> Sight:
        """Ask for the pod; where it is over or gone, for the one that its Job has started in its place."""
        if workload.id == SELF:
            workload = replace(workload, id=self._me)
            if not self._me:
                return Sight(
                    Standing.UNKNOWN, "the sentinel was not told its own pod: POD_NAME, POD_NAMESPACE"
                )
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
        for pod in _newest_first(_items(said.body, "items")):
            found, over = facts_of(pod), _table(pod, "status").get("phase") in _OVER
            beside = _time(_table(pod, "metadata").get("creationTimestamp")) <= workload.began
            other = found.get("job_uid") == uid and found["pod_uid"] != workload.facts.get("pod_uid")
            if other and not over and not beside:  # a pod that is older trains beside it
                now = _incarnation(workload, pod)
                return Sight(Standing.SUCCEEDED, f"its job has started {now.id}", now)
        theirs = self._job(workload)
        if theirs.status == 404:
            return None
        if theirs.trouble:
            return Sight(Standing.UNKNOWN, theirs.trouble)
        another = _table(theirs.body, "metadata").get("uid") != uid
        if another or _table(theirs.body, "spec").get("suspend") or _is_over(theirs.body):
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
        return self._end(workload, grace=SHORT)

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
        why_not = _why_not_resumed(said.body)
        if why_not:
            return f"not evicted: {why_not}, so {workload} would begin from nothing"
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


def _why_not_resumed(pod: Mapping[str, Any]) -> str:
    """Say why a pod's successor would not go on from a checkpoint; empty where it would."""
    sourcing = [c for c in _items(_table(pod, "spec"), "containers") if any(RESUME in t for t in _texts(c))]
    if not sourcing:
        return f"no command sources {RESUME}"
    told = {str(each.get("name")) for container in sourcing for each in _items(container, "env")}
    missing = [name for name in ENVIRONMENT if name not in told]
    return f"its container is not told {' and '.join(missing)}" if missing else ""


def _why_not_again(job: Mapping[str, Any]) -> str:
    """Say why a Job would start no pod in the place of an evicted one; empty where it would."""
    spec, state = _table(job, "spec"), _table(job, "status")
    name = _table(job, "metadata").get("name")
    if spec.get("suspend"):
        return f"not evicted: job {name} is suspended"
    if _number(spec.get("parallelism"), 1) > 1:
        return f"not evicted: job {name} trains in several pods at once, and one of them cannot go back alone"
    if spec.get("podReplacementPolicy") != "Failed":
        return (
            f"not evicted: job {name} may start the next pod while this one still trains; "
            "podReplacementPolicy: Failed has it wait"
        )
    forgiven = any(_ignores_disruption(rule) for rule in _items(_table(spec, "podFailurePolicy"), "rules"))
    if _number(spec.get("backoffLimit"), 6) <= _number(state.get("failed"), 0) and not forgiven:
        return (
            f"not evicted: job {name} counts it as a failure and has none left (backoffLimit); raise it, or "
            "let podFailurePolicy ignore DisruptionTarget"
        )
    return ""


def _number(value: object, default: int) -> int:
    return value if type(value) is int else default


def _ignores_disruption(rule: Mapping[str, Any]) -> bool:
    kinds = [condition.get("type") for condition in _items(rule, "onPodConditions")]
    return rule.get("action") == "Ignore" and "DisruptionTarget" in kinds


def _is_over(job: Mapping[str, Any]) -> bool:
    conditions = _items(_table(job, "status"), "conditions")
    return any(c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions)


def _newest_first(pods: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(
        pods, key=lambda pod: str(_table(pod, "metadata").get("creationTimestamp") or ""), reverse=True
    )


def _texts(container: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words of a container's command."""
    for key in ("command", "args"):
        words = container.get(key)
        yield from map(str, words if isinstance(words, list) else [])


def _pod_path(name: str) -> str:
    space, _, pod = name.partition("/")
    return f"/api/v1/namespaces/{quote(space, safe='')}/pods/{quote(pod, safe='')}"


def _job_path(workload: Workload) -> str:
    space = workload.id.partition("/")[0]
    return f"/apis/batch/v1/namespaces/{quote(space, safe='')}/jobs/{quote(workload.facts['job'], safe='')}"


def _quoted(uid: str) -> str:
    return "'" + uid.replace("'", "") + "'"
