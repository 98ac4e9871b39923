"""Slurm: one incarnation of a job, seen by squeue, rung and ended by scancel, started again by scontrol.

scancel signals every process of a step, not one of them, and a process without a handler dies of SIGUSR2. The
bell is therefore SIGURG, which a process ignores unless it says otherwise: it kills nobody. A job's number is
handed out again by a requeue and by a controller that has lost its state, so number, cluster, user, count of
restarts and start time are compared before each call that touches anything. All of that is read from fields
that squeue prints as numbers or from lists of its own: a job's name may hold anything, and is not asked for.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from sentinel.clusters import NO_ANSWER, RESUME, Sight, Standing, Workload

PATIENCE = 10.0
"""Seconds for one of Slurm's commands."""

SKEW = 60.0
"""Seconds by which a trainer may seem to have begun before its job has: two machines, two clocks."""

BELL = signal.SIGURG
"""What a guard within a Slurm job listens to besides; ignored by every process without a handler."""

JOB_ID = re.compile(r"[1-9][0-9]{0,9}(_[0-9]{1,9})?")

_FIELDS = ("JobArrayID", "UserID", "State", "RestartCnt", "StartTime", "SubmitTime", "Cluster", "Requeue")
_FORMAT = ",".join(f"{name}:|" for name in _FIELDS)
_FAILED = ("BOOT_FAIL", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
_ENDED = frozenset(("CANCELLED", "COMPLETED", "PREEMPTED", "REVOKED", *_FAILED))
_WAITING = frozenset(("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING"))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has said. `code`: its exit code; None where it did not end in time or is not there."""

    code: int | None
    out: str
    err: str

    @property
    def trouble(self) -> str:
        """Why it failed, on one line; empty where it did not."""
        if self.code == 0:
            return ""
        return " ".join(self.err.split())[:200] or f"exit code {self.code}"


Execute: TypeAlias = Callable[[Sequence[str]], Answer]
"""Runs a command and waits for it, for some time; never raises."""


def execute(command: Sequence[str]) -> Answer:
    """Run one of Slurm's commands without the variables that would change what it does."""
    kept = {name: value for name, value in os.environ.items() if not _changes(name)}
    try:
        done = subprocess.run(
            list(command),
            env={**kept, "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer(None, "", f"{command[0]} {NO_ANSWER} within {PATIENCE:g} s")
    except OSError as error:
        return Answer(None, "", f"{command[0]}: {error.strerror}")
    return Answer(
        done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    )


def _changes(name: str) -> bool:
    slurm = name.startswith(("SLURM_", "SQUEUE_", "SCANCEL_", "SCONTROL_"))
    return slurm and name not in ("SLURM_CONF", "SLURM_JWT")


@dataclass(frozen=True, slots=True)
class Job:
    """What squeue says of one job. Times are wall seconds; 0 where there is none."""

    id: str
    uid: int
    state: str
    restarts: int
    start: float
    submit: float
    cluster: str
    requeue: bool


def read_jobs(text: str) -> list[Job]:
    """Read what squeue printed in our format; a line that is something else is no job."""
    return [job for line in text.splitlines() if (job := _read_job(line)) is not None]


def _read_job(line: str) -> Job | None:
    cells = [cell.strip() for cell in line.split("|")]
    if len(cells) != len(_FIELDS) + 1 or cells[-1]:
        return None
    name, uid, state, restarts, start, submit, cluster, requeue = cells[:-1]
    if not (JOB_ID.fullmatch(name) and uid.isdecimal() and restarts.isdecimal() and state.isupper()):
        return None
    began, asked = (float(time) if time.isdecimal() else 0.0 for time in (start, submit))
    return Job(name, int(uid), state, int(restarts), began, asked, cluster, requeue == "1")


def judge(workload: Workload, job: Job) -> Sight:
    """Say whether a job is this very workload, and how it is. Pure."""
    facts = workload.facts
    began = 0.0 if job.state in _WAITING else job.start  # until then it is an estimate
    now = Workload("slurm", job.id, job.uid, began, _facts(job))
    same = replace(now, began=workload.began or began, facts={**facts, **now.facts})
    if job.id != workload.id:
        return Sight(Standing.UNKNOWN, f"squeue told of job {job.id}")
    if facts.get("cluster", job.cluster) != job.cluster:
        return Sight(Standing.FOREIGN, f"this is cluster {job.cluster}, the job is one of {facts['cluster']}")
    if workload.uid not in (-1, job.uid):
        return Sight(Standing.FOREIGN, f"job {job.id} belongs to user {job.uid}, the run to {workload.uid}")
    known = facts.get("restarts", str(job.restarts))
    before = int(known) if known.isdecimal() else -1
    if job.restarts < before:
        return Sight(
            Standing.FOREIGN,
            f"job {job.id} is another one of the same number: it has been restarted "
            f"{job.restarts} times, the registered one {before} times",
        )
    if job.restarts > before >= 0:
        if job.state in _ENDED:
            return Sight(Standing.ENDED, f"it was started again since and is {job.state}")
        if job.state == "COMPLETING" and job.restarts == before + 1:
            return Sight(Standing.HELD, "it is being ended, to be started again")
        waits = "waits to be started again" if job.state in _WAITING else "was started again"
        return Sight(Standing.SUCCEEDED, f"job {job.id} {waits}", now)
    if workload.began and job.start > workload.began + SKEW and job.state not in _WAITING:
        return Sight(
            Standing.FOREIGN,
            f"job {job.id} began after the trainer that had registered: the number was handed out again",
        )
    if "submit" in facts and facts["submit"] != now.facts["submit"]:
        return Sight(
            Standing.FOREIGN, f"job {job.id} was submitted at another time: the number was handed out again"
        )
    if job.state in _ENDED:
        return Sight(Standing.ENDED, job.state)
    standing = Standing.RUNNING if job.state == "RUNNING" else Standing.HELD
    return Sight(standing, "" if standing is Standing.RUNNING else job.state, same)


def _facts(job: Job) -> Mapping[str, str]:
    return {"restarts": str(job.restarts), "cluster": job.cluster, "submit": f"{job.submit:.0f}"}


class Slurm:
    """Slurm's own commands, of the cluster that this machine is a part of."""

    kind = "slurm"

    def __init__(self, run: Execute = execute) -> None:
        self._run = run

    def look(self, workload: Workload) -> Sight:
        """Ask squeue. A number that it does not know is an end only where this is the job's cluster."""
        return self._look(workload)[0]

    def _look(self, workload: Workload) -> tuple[Sight, Job | None]:
        if workload.kind != self.kind or not JOB_ID.fullmatch(workload.id):
            return Sight(Standing.UNKNOWN, f"{workload.id!r} is no number of a Slurm job"), None
        said = self._run(
            [
                "squeue",
                "--noheader",
                "--states=all",
                "--array",
                f"--jobs={workload.id}",
                f"--Format={_FORMAT}",
            ]
        )
        if said.code != 0 and "Invalid job id" not in said.err:
            return Sight(Standing.UNKNOWN, said.trouble), None
        found = read_jobs(said.out)
        if len(found) == 1:
            return judge(workload, found[0]), found[0]
        if found or said.out.strip():
            return Sight(Standing.UNKNOWN, f"squeue's answer on job {workload.id} cannot be understood"), None
        return self._missing(workload), None

    def _missing(self, workload: Workload) -> Sight:
        """Slurm forgets a job some minutes after its end; a job of another cluster it never knew."""
        theirs, ours = workload.facts.get("cluster"), self._cluster()
        if theirs is None or theirs != ours:
            return Sight(Standing.UNKNOWN, f"cluster {ours or '?'} knows no job {workload.id}")
        return Sight(Standing.ENDED, "Slurm has forgotten it")

    def _cluster(self) -> str:
        said = self._run(["scontrol", "show", "config"])
        found = re.search(r"^ClusterName\s*=\s*(\S+)", said.out, re.MULTILINE) if said.code == 0 else None
        return found[1] if found else ""

    def _now(self, workload: Workload) -> str:
        """Why this incarnation may not be touched now; empty where it may."""
        seen = self.look(workload)
        if seen.standing is Standing.RUNNING:
            return ""
        return f"{seen.standing}" + (f": {seen.words}" if seen.words else "")

    def ring(self, workload: Workload) -> str:
        """Signal the trainer's step with what every process ignores that does not listen to it."""
        if workload.facts.get("bell") != BELL.name:
            return f"not rung: its guard does not listen to {BELL.name}; it looks into the folder by itself"
        return self._signal(workload, BELL)

    def ask(self, workload: Workload, signum: signal.Signals) -> str:
        """Signal the trainer's step; where none is known, all steps, the batch script and its children."""
        return self._signal(workload, signum)

    def _signal(self, workload: Workload, signum: signal.Signals) -> str:
        why_not = self._now(workload)
        if why_not:
            return f"{signum.name} not sent: {workload} is {why_not}"
        step = workload.facts.get("step", "")
        whom = [f"{workload.id}.{step}"] if step.isdecimal() else ["--full", workload.id]
        said = self._run(["scancel", f"--signal={signum.name.removeprefix('SIG')}", *whom])
        return f"{signum.name} not sent: {said.trouble}" if said.trouble else ""

    def end(self, workload: Workload) -> str:
        """Cancel it: Slurm sends SIGCONT and SIGTERM, and SIGKILL after KillWait, to everything it runs."""
        seen = self.look(workload)
        if seen.standing not in (Standing.RUNNING, Standing.HELD):
            return f"not cancelled: {workload} is {seen.standing}" + (f": {seen.words}" if seen.words else "")
        said = self._run(["scancel", workload.id])
        return f"not cancelled: {said.trouble}" if said.trouble else ""

    def restart(self, workload: Workload) -> str:
        """Requeue it: the same batch script begins anew, under the same number, with one restart more."""
        why_not = self.restartable(workload)
        if why_not:
            return why_not
        said = self._run(["scontrol", "requeue", workload.id])
        return f"not requeued: {said.trouble}" if said.trouble else ""

    def restartable(self, workload: Workload) -> str:
        """Say why a requeue would not do: it is not allowed, or the script would begin from nothing."""
        if not workload.facts.get("restarts", "").isdecimal():
            return f"not requeued: how often {workload} was restarted is not known"
        seen, job = self._look(workload)
        if seen.standing is not Standing.RUNNING or job is None:
            return f"not requeued: {workload} is {seen.standing}" + (f": {seen.words}" if seen.words else "")
        if not job.requeue:
            return f"not requeued: {workload} was submitted without --requeue"
        script = self._run(["scontrol", "write", "batch_script", workload.id, "-"])
        if script.trouble or not script.out.strip():
            return f"not requeued: its batch script cannot be read ({script.trouble or 'there is none'})"
        if RESUME not in script.out:
            return f"not requeued: its batch script does not source {RESUME}, so it would begin from nothing"
        return ""

    def successor_test(self, workload: Workload) -> str:
        """Compare number and count of restarts, which Slurm gives to a batch script."""
        job = "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
        later = int(workload.facts.get("restarts", "0")) + 1
        return f'[ "{job}" = "{workload.id}" ] && [ "${{SLURM_RESTART_COUNT:-0}}" -ge {later} ]'
