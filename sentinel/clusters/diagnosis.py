"""What `sentinel doctor` says of a trainer that runs in a cluster's job: looked at once, nothing touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from sentinel.clusters import Cluster, Standing, Workload
from sentinel.registration import Registration

Level: TypeAlias = Literal["problem", "note"]


@dataclass(slots=True)
class ClusterReport:
    """What was found.

    Attributes:
        verbs: how verbs are delivered that the trainer itself does not take. bell: how a letter is announced.
        findings: level, what, and in words.
    """

    verbs: dict[str, str] = field(default_factory=dict)
    bell: str = ""
    findings: list[tuple[Level, str, str]] = field(default_factory=list)


def look_at_job(
    registration: Registration, named: Workload | None, cluster: Cluster | None, *, resumes: bool
) -> ClusterReport | None:
    """Say what can be done with the job that a trainer runs in; None where it runs in none.

    Args:
        registration: who trains. named: the job that was named for the run.
        cluster: the way to jobs; None where no launcher is configured. resumes: a resume command is there.
    """
    workload = registration.workload or (named if not registration.known else None)
    if workload is None:
        return None
    report = ClusterReport()
    if cluster is None or cluster.kind != workload.kind:
        text = (
            f"it runs in {workload}, and [trainer] launcher is not set: letters are found within a second, "
            f'and that is all; launcher = "{workload.kind}" lets the sentinel see, ring, end and restart it'
        )
        report.findings.append(("note", "cluster", text))
        return report
    sight = cluster.look(workload)
    words = f": {sight.words}" if sight.words else ""
    lost = sight.standing in (Standing.UNKNOWN, Standing.FOREIGN)
    report.findings.append(
        ("problem" if lost else "note", "cluster", f"{workload} is {sight.standing}{words}")
    )
    if sight.now is not None and not registration.known:
        registration.pin(sight.now)
    if sight.standing is not Standing.RUNNING:
        return report
    own = registration.declared.verbs if registration.declared is not None else frozenset()
    report.bell = f", rung through {workload.kind}" if workload.facts.get("bell") else ""
    if "terminate" not in own:
        report.verbs["terminate"] = f"SIGTERM through {workload.kind}, then the job is cancelled"
    if "rollback" not in own and resumes:
        why_not = cluster.restartable(sight.now or workload)
        report.verbs["rollback"] = f"no: {why_not}" if why_not else "the job is restarted, [trainer] resume"
        if why_not:
            report.findings.append(("problem", "rollback", why_not))
    return report
