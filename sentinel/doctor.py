"""`sentinel doctor`: what of each run the sentinel can see and reach, and what of this machine is in its way.

Everything is looked at and nothing is changed, nothing is signalled, and no sentinel has to run. What would
keep a decision from being made or carried out is a problem; what is merely good to know is a note.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from notifier import picture
from sentinel.attachment import Attached, attach
from sentinel.clock import Clock
from sentinel.clusters.diagnosis import look_at_job
from sentinel.clusters.opening import reach_for
from sentinel.config import Settings
from sentinel.discover import RunFiles, called, scan
from sentinel.errors import StateError, TailError
from sentinel.events import EventFile
from sentinel.holders import Holders
from sentinel.journal import Journal
from sentinel.lives import Lives
from sentinel.machine import Finding, machine
from sentinel.process import Liveness, Process, catches, command_name, liveness, signals_caught
from sentinel.registration import Registration
from sentinel.run_rows import RunRows
from sentinel.state import JOURNAL, state_folder

How: TypeAlias = Literal["guard", "job", "holder", "pid", "nobody"]

VERBS = ("checkpoint", "rollback", "terminate")

SKEW = 5.0
"""Seconds by which a trainer's or a file server's clock may be ahead of ours."""

PAST = 1800.0
"""A run that nothing was written to for so many seconds, and whose trainer is not there, is over."""

LARGEST = 1 << 30
"""Bytes of an event file that are read to see how its writer writes."""

_BLOCK = 4096


@dataclass(slots=True)
class RunReport:
    """What is known of one run.

    Attributes:
        live: it is being trained, as far as anybody can tell.
        how, pid, command: who trains it and how that is known.
        verbs: how each verb is delivered, or `no: ` and why it is not. caught: signals with a handler.
        checkpoints, verified: how many are recognised, and whole. newest: the newest whole one.
        buffered: event files whose writer holds points back. skew: seconds that its clock is ahead of ours.
        findings: what is to be said of it.
    """

    run: str
    live: bool = False
    how: How = "nobody"
    pid: int | None = None
    command: str = ""
    verbs: dict[str, str] = field(default_factory=dict)
    caught: list[str] = field(default_factory=list)
    checkpoints: int = 0
    verified: int = 0
    newest: str = ""
    buffered: list[str] = field(default_factory=list)
    skew: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def problem(self, what: str, text: str) -> None:
        """Note a problem."""
        self.findings.append(Finding("problem", what, text))

    def note(self, what: str, text: str) -> None:
        """Note something that is good to know."""
        self.findings.append(Finding("note", what, text))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything found: by run, and of the machine."""

    logdir: Path
    runs: Sequence[RunReport]
    machine: Sequence[Finding]

    @property
    def exit_code(self) -> int:
        """1 where there is a problem, else 0."""
        found = [*self.machine, *(finding for run in self.runs for finding in run.findings)]
        return int(any(finding.level == "problem" for finding in found))


def diagnose(
    logdir: Path, chosen: Path | None, settings: Settings, clock: Clock, named: Mapping[str, Process]
) -> Diagnosis:
    """Look at every run below a log directory, and at this machine.

    Args:
        logdir: the folder of runs. chosen: the state folder, None for the default.
        settings: what a sentinel would do. clock: time.
        named: processes that were named as trainers, by run; "" for the only live one.
    """
    state = state_folder(logdir, chosen)
    journal = _journal(state)
    holders = Holders(clock)
    try:
        found = scan(logdir)
        reports = [
            _run(name, files, settings, clock, holders, journal, _named(name, found, named))
            for name, files in found.items()
        ]
    finally:
        if journal is not None:
            journal.close()
    findings = [*machine(logdir, state), *_pictures(settings)]
    findings += [Finding("problem", "folder", f"{u.path}: {u.reason}") for u in found.unreadable]
    if not found and not found.unreadable:
        findings.append(Finding("problem", "runs", f"{logdir}: no event file in it, so nothing is watched"))
    return Diagnosis(logdir, reports, findings)


def _pictures(settings: Settings) -> list[Finding]:
    """Say where a channel that shows plots is configured and none can be drawn."""
    shows = [name for name, table in settings.service.notify.channels.items() if table.kind == "slack"]
    if not shows or picture.available():
        return []
    return [Finding("note", "plots", f"{', '.join(shows)} gets no plots: {picture.LACKING}")]


def _journal(state: Path) -> Journal | None:
    try:
        return Journal(state / JOURNAL, read_only=True) if (state / JOURNAL).exists() else None
    except StateError:
        return None  # the machine's part says that the state cannot be read


def _named(name: str, runs: Mapping[str, RunFiles], named: Mapping[str, Process]) -> Process | None:
    return named.get(name) or (named.get("") if len(runs) == 1 else None)


def _run(
    name: str,
    files: RunFiles,
    settings: Settings,
    clock: Clock,
    holders: Holders,
    journal: Journal | None,
    named: Process | None,
) -> RunReport:
    report = RunReport(name)
    registration = Registration(files.path, settings.terms(clock, called(name, files.path)))
    known = (
        Attached.from_record(RunRows(journal, name).fact("attached")) if journal is not None else Attached()
    )
    owner = files.event_files[-1].stat().st_uid if files.event_files else None
    found = attach(known, named, lambda: holders.of(files.event_files), owner=owner)
    registration.attach(found)
    registration.refresh()
    newest = max((path.stat().st_mtime for path in files.event_files), default=0.0)
    report.live = not registration.finished and (registration.alive or clock.wall() - newest < PAST)
    _look_at_checkpoints(report, registration)
    if not report.live:
        return report
    _look_at_trainer(report, registration, settings, _job(journal, name))
    _look_at_cluster(report, registration, settings, clock, called(name, files.path))
    _look_at_files(report, files.event_files, clock.wall())
    return report


def _job(journal: Journal | None, run: str) -> Process | None:
    """The process that `sentinel run -- CMD` started for this run."""
    if journal is None:
        return None
    lives = Lives(journal)
    try:
        mine = lives.of_job(lives.last_job())
    except StateError:
        return None  # written by an older sentinel, which knew of no jobs
    current = [
        life
        for life in mine
        if run in life.runs and life.state == "running" and liveness(life.process) is Liveness.ALIVE
    ]
    return current[-1].process if current else None


def _look_at_trainer(
    report: RunReport, registration: Registration, settings: Settings, job: Process | None
) -> None:
    process = registration.process or job
    if process is not None:
        report.pid, report.command = process.pid, command_name(process.pid)
        report.caught = signals_caught(process.pid) if registration.alive or job is not None else []
    if registration.known:
        report.how = "guard"
    elif job is not None:
        report.how = "job"
    elif process is not None:
        report.how = registration.attached.how or "nobody"
    report.verbs = {verb: _way(verb, registration, settings, job) for verb in VERBS}
    asked = settings.mode == "act" or bool(settings.service.trainer.signals.model_dump(exclude_none=True))
    say = report.problem if asked else report.note
    if registration.attached.why_not and not registration.known:
        say("trainer", registration.unreachable)
    elif report.how == "nobody":
        say(
            "trainer",
            "nobody is known to train it: no guard has registered, and no process of its owner holds its "
            "event file open (TensorBoard's own writer opens it for each write); say who with --pid RUN=PID",
        )
    elif registration.known and registration.liveness.ended:
        report.problem("trainer", f"process {report.pid} registered, has ended, and did not say so")
    for verb, way in report.verbs.items():
        if way.startswith("no: process"):
            report.problem("signals", f"{verb}: {way.removeprefix('no: ')}")


def _way(verb: str, registration: Registration, settings: Settings, job: Process | None) -> str:
    """Say how a verb reaches the trainer, or why it does not."""
    declared, process = registration.declared, registration.process
    if (
        registration.known
        and declared is not None
        and verb in declared.verbs
        and not registration.unreachable
    ):
        return f"letter{_bell(registration)}"
    signum = registration.by_signal(verb)
    if signum is not None and process is not None and not registration.unreachable:
        forgiving = verb == "terminate" and signum is signal.SIGTERM
        if forgiving or catches(process.pid, signum):
            return signum.name
        return f"no: process {process.pid} has no handler for {signum.name}, it would be killed"
    if job is not None and verb == "terminate":
        return "SIGTERM, as the sentinel started it"
    if job is not None and verb == "rollback" and settings.resume is not None:
        return "ended and resumed, [trainer] resume"
    never = declared.never.get(verb, "") if declared is not None else ""
    return f"no: {registration.unreachable or never or f'the trainer does not know the command {verb!r}'}"


def _look_at_cluster(
    report: RunReport, registration: Registration, settings: Settings, clock: Clock, run: str
) -> None:
    """Say what its cluster can do for a trainer that runs in a job."""
    launcher, terms = settings.service.trainer.launcher, settings.terms(clock, run)
    cluster = reach_for(launcher, clock.monotonic, int).clusters.get(launcher or "")
    found = look_at_job(registration, terms.workload, cluster, resumes=settings.resume is not None)
    if found is None:
        return
    report.findings = [f for f in report.findings if f.what != "trainer" or registration.workload is None]
    report.findings += [Finding(level, what, text) for level, what, text in found.findings]
    for verb, way in found.verbs.items():
        if report.verbs.get(verb, "no:").startswith("no:"):
            report.verbs[verb] = way
    if found.bell:
        report.verbs = {
            v: way.replace(", found within a second", found.bell) for v, way in report.verbs.items()
        }


def _bell(registration: Registration) -> str:
    bell, process = registration.doorbell, registration.process
    if bell is None or process is None or liveness(process) is Liveness.OTHER_HOST:
        return ", found within a second"
    return (
        f", rung by {bell.name}" if catches(process.pid, bell) else f", not rung: no handler for {bell.name}"
    )


def _look_at_checkpoints(report: RunReport, registration: Registration) -> None:
    found = registration.catalogue() if registration.catalogue is not None else ()
    whole = [c for c in found if c.verified]
    report.checkpoints, report.verified = len(found), len(whole)
    newest = max(whole, key=lambda c: (c.wall_time, c.step), default=None)
    report.newest = newest.name if newest is not None else ""
    for checkpoint in found:
        if not checkpoint.verified and "may still be written" not in checkpoint.reason:
            report.problem("checkpoint", f"{checkpoint.name} is never gone back to: {checkpoint.reason}")


def _look_at_files(report: RunReport, files: Sequence[Path], now: float) -> None:
    for path in files[-1:]:  # what is written to now
        try:
            size, changed, file = path.stat().st_size, path.stat().st_mtime, EventFile(path)
            last, partial = changed, False
            if size <= LARGEST:
                last, partial = _read(file)
        except (TailError, OSError) as error:
            report.problem("event file", str(error))
            continue
        if partial and size and size % _BLOCK == 0:
            report.buffered.append(path.name)
            report.problem(
                "buffered",
                f"{path.name} ends within a record at a block's end: its writer holds points back, and they "
                "are judged late; flush() after each step, or SummaryWriter(flush_secs=1)",
            )
        report.skew = round(max(last, changed) - now, 1)
        if report.skew > SKEW:
            whose = "the trainer's clock" if last > changed else "the file server's clock"
            report.problem(
                "clock",
                f"{whose} is {report.skew:g} s ahead of ours; rules over time judge wrongly by as much",
            )
        report.skew = max(0.0, report.skew)


def _read(file: EventFile) -> tuple[float, bool]:
    """Return the newest sample's wall time, and whether the file ends within a record."""
    last = 0.0
    while True:
        batch = file.read()
        last = max([last, *(sample[2] for sample in batch.samples)])
        if not batch.more:
            return last, batch.partial


def as_json(found: Diagnosis) -> dict[str, Any]:
    """The whole diagnosis as one object."""
    return {
        "logdir": str(found.logdir),
        "exit_code": found.exit_code,
        "runs": [
            {
                **{name: getattr(run, name) for name in RunReport.__slots__ if name != "findings"},
                "findings": [_finding(finding) for finding in run.findings],
            }
            for run in found.runs
        ],
        "machine": [_finding(finding) for finding in found.machine],
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {"level": finding.level, "what": finding.what, "text": finding.text}
