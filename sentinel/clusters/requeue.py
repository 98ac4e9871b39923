"""Commands that a cluster carries out, for a trainer that cannot: a rollback is a restart of its whole job.

What the restarted job is to run stands in a file that its script sources (`RESUME`), and holds only in later
incarnations than the one that was ended. The row is committed first, the file written next, the cluster asked
last, and always about that one incarnation: taken again after a crash, no step happens a second time.

    intended ──▶ stopping (the file is there, the cluster is asked) ──▶ done (a later incarnation runs)
                    └── refused, failed: it was not restarted      terminate: stopping, killing, as everywhere
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from sentinel.checkpoints import Checkpoint
from sentinel.clock import Clock
from sentinel.clusters import NO_ANSWER, RESUME, Standing, Workload
from sentinel.clusters.reach import Reach
from sentinel.config import Settings
from sentinel.control import Letter
from sentinel.dispatch import CANCEL, Settled
from sentinel.job_commands import JobCommands
from sentinel.job_runs import resumable
from sentinel.journal import Journal
from sentinel.policy import Declared
from sentinel.registration import Registration
from sentinel.resume import resolve
from sentinel.run_rows import RunRows

THEIRS = "\0"
"""Stands for the job's own command, which its script has as positional parameters."""

AGAIN = 30.0
"""Seconds after which a cluster that did not answer is asked once more."""

FRESH = 6.0
"""Seconds after an answer within which what is known of the job may be older than it."""


class Requeue:
    """The commands of one run that its cluster carries out."""

    def __init__(
        self,
        run: str,
        folder: Path,
        settings: Settings,
        journal: Journal,
        reach: Reach,
        clock: Clock,
        *,
        act: bool,
    ) -> None:
        """Take up what has no outcome yet."""
        self._run = run
        self._folder = folder
        self._settings = settings
        self._journal = journal
        self._reach = reach
        self._clock = clock
        self._act = act
        self._rows = RunRows(journal, run)
        self._commands = JobCommands(journal, "cluster")
        kept = self._rows.fact("requeue")
        self._plan: dict[str, Any] = kept.get("plan", {})
        self._overrides: dict[str, Any] = kept.get("overrides", {})
        self._starts: list[list[Any]] = kept.get("starts", [])
        self._since: dict[int, float] = {}
        self._answers: dict[tuple[int, str], tuple[str, float]] = {}
        self._to_do: list[tuple[int, str, Callable[[], str]]] = []

    # ── what can be asked ──

    def carries(self, registration: Registration, verb: str) -> bool:
        """Whether the cluster carries this verb out, since the trainer cannot."""
        if not self._reach.serves(registration.workload) or registration.finished:
            return False
        declared = registration.declared
        if declared is not None and verb in declared.verbs:
            return False
        return verb == "terminate" or (verb == "rollback" and self._settings.resume is not None)

    def declared(self, registration: Registration, own: Declared | None) -> Declared | None:
        """What can be asked of a run, beside what its trainer declared itself."""
        mine = {verb for verb in ("rollback", "terminate") if self.carries(registration, verb)}
        if not mine:
            return own
        base = own or Declared({}, frozenset(), frozenset())
        if "rollback" in mine:
            base = replace(resumable(self._settings, own, self._overrides), never=base.never)
        never = {verb: why for verb, why in base.never.items() if verb not in mine}
        verbs = mine | set(own.verbs if own is not None else ())
        return replace(base, verbs=frozenset(verbs), never=never)

    def take_over(self, registration: Registration, row: Mapping[str, Any], now: float) -> bool:
        """Carry out a rollback that the trainer refused since it cannot; returns whether that can be done."""
        if self._settings.resume is None or not self._reach.serves(registration.workload):
            return False
        change = "UPDATE commands SET carrier = 'cluster' WHERE run = ? AND id = ?"
        self._journal.change(change, self._run, row["id"])
        why = f"the trainer refused ({row['reason']}); its job is restarted"
        self._commands.note(row, "intended", why, now)
        return True

    def starts(self) -> list[tuple[float, int]]:
        """When each restarted job began (wall time), and the step it went on from."""
        return [(float(wall), int(step)) for wall, step in self._starts]

    @property
    def in_flight(self) -> set[str]:
        """The verbs that are under way here."""
        return self._commands.in_flight(self._run)

    # ── the tick ──

    def follow(
        self, registration: Registration, checkpoints: Callable[[], Sequence[Checkpoint]], now: float
    ) -> list[Settled]:
        """Take every command one step further; only inside a transaction. Returns those with an outcome."""
        for told in self._reach.told(self._asker):
            self._answers[told.number, told.what] = (told.said, self._clock.monotonic())
            said = f"{told.what}: {told.said or 'the cluster took it'}"
            self._journal.add("command_steps", run=self._run, id=told.number, wall_time=now, what=said)
        for row in self._commands.open():
            if row["run"] != self._run:
                continue
            if not self._act and row["request"] is None and row["state"] == "intended":
                self._commands.settle(row, "expired", "the sentinel was started again in mode observe", now)
            elif row["verb"] == "terminate":
                self._end(row, now)
            elif row["state"] == "intended":
                self._prepare(row, registration, checkpoints, now)
            else:
                self._await(row, now)
        return self._commands.settled(self._run)

    def perform(self) -> None:
        """Do what has been committed: write the file, then ask the cluster."""
        to_do, self._to_do = self._to_do, []
        for number, what, call in to_do:
            try:
                if what == "requeued":
                    self._write()
            except OSError as error:
                answer = f"{self._folder / RESUME} could not be written: {error.strerror}"
                self._answers[number, what] = (answer, self._clock.monotonic())
                continue
            self._reach.do(self._asker, number, what, call)

    # ── a rollback ──

    def _prepare(
        self,
        row: Mapping[str, Any],
        registration: Registration,
        checkpoints: Callable[[], Sequence[Checkpoint]],
        now: float,
    ) -> None:
        letter = Letter.from_json(row["letter"])
        workload = letter.workload or registration.workload
        target = next((c for c in checkpoints() if c.name == letter.to_checkpoint and c.verified), None)
        resume = self._settings.resume
        if target is None or resume is None or workload is None or not self._reach.serves(workload):
            why = f"checkpoint {letter.to_checkpoint} cannot be gone back to by a restart of the job"
            self._commands.settle(row, "refused", why, now)
            return
        terms = resumable(self._settings, registration.declared, self._overrides)
        changed = resolve(letter.set, terms.values, terms.bounds)
        if isinstance(changed, str):
            self._commands.settle(row, "refused", changed, now)
            return
        overrides = {**self._overrides, **changed}
        words = resume.render(
            checkpoint=str(target.path.absolute()),
            step=target.step,
            run=str(self._folder.absolute()),
            overrides=overrides,
            command=(THEIRS,),
        )
        self._plan = {
            "id": letter.id,
            "words": words,
            "overrides": overrides,
            "step": target.step,
            "workload": asdict(workload),
        }
        self._keep()
        self._commands.note(row, "stopping", f"{workload} is restarted, to go on from {target.name}", now)
        self._ask_restart(letter.id, workload)

    def _ask_restart(self, number: int, workload: Workload) -> None:
        self._since.setdefault(number, self._clock.monotonic())
        self._answers.pop((number, "requeued"), None)
        restart = partial(self._reach.clusters[workload.kind].restart, workload)
        self._to_do.append((number, "requeued", restart))

    def _await(self, row: Mapping[str, Any], now: float) -> None:
        """Learn what became of a restart that was asked for, or ask if that was cut off."""
        number, monotonic = row["id"], self._clock.monotonic()
        workload = Workload.from_record(self._plan.get("workload"))
        if self._plan.get("id") != number or workload is None or not self._reach.serves(workload):
            self._commands.settle(row, "failed", "its plan is lost; the job was left as it is", now)
            return
        sight = self._reach.sight(workload, eager=True)
        if sight.standing is Standing.SUCCEEDED and sight.now is not None:
            if sight.now.began:
                self._overrides = dict(self._plan["overrides"])
                self._starts.append([sight.now.began, self._plan["step"]])
                self._finish(row, "done", "", now)
            return
        if sight.standing in (Standing.ENDED, Standing.FOREIGN):
            self._finish(row, "failed", f"{workload} is {sight.standing}: {sight.words}", now)
            return
        answer = self._answers.get((number, "requeued"))
        if answer is None:
            if not self._reach.asked(self._asker, number, "requeued") and sight.standing is Standing.RUNNING:
                self._ask_restart(number, workload)
            return
        said, when = answer
        if not said or monotonic - when < FRESH:
            return
        unclear = NO_ANSWER in said
        if unclear and monotonic - self._since.get(number, monotonic) < self._settings.patience.work:
            if monotonic - when >= AGAIN:
                self._ask_restart(number, workload)
            return
        self._finish(row, "unanswered" if unclear else "refused", said, now)

    def _finish(self, row: Mapping[str, Any], state: str, reason: str, now: float) -> None:
        if state != "done":
            (self._folder / RESUME).unlink(missing_ok=True)
        self._plan = {}
        self._keep()
        self._commands.settle(row, state, reason, now)

    def _keep(self) -> None:
        body = {"plan": self._plan, "overrides": self._overrides, "starts": self._starts}
        self._rows.note("requeue", body)

    def _write(self) -> None:
        """Write the file whole or not at all; it is sourced by a shell.

        Raises:
            OSError: it could not be written.
        """
        workload = Workload.from_record(self._plan.get("workload"))
        assert workload is not None, "a restart that is asked for has a plan"
        test = self._reach.clusters[workload.kind].successor_test(workload)
        path = self._folder / RESUME
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(script(self._plan["words"], test))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    # ── an end ──

    def _end(self, row: Mapping[str, Any], now: float) -> None:
        number, monotonic = row["id"], self._clock.monotonic()
        workload = Letter.from_json(row["letter"]).workload
        if workload is None or not self._reach.serves(workload):
            self._commands.settle(row, "refused", "no job of a cluster is known for it", now)
            return
        cluster, grace = self._reach.clusters[workload.kind], self._settings.patience.grace
        sight = self._reach.sight(workload, eager=True)
        if row["state"] != "intended" and sight.standing.liveness.ended:
            self._commands.settle(row, "done", "", now)
        elif row["state"] == "intended" or number not in self._since:
            self._since[number] = monotonic
            if row["state"] == "killing":
                self._to_do.append((number, "cancelled", partial(cluster.end, workload)))
                return
            self._commands.note(row, "stopping", row["reason"], now)
            self._to_do.append((number, "SIGTERM sent", partial(cluster.ask, workload, signal.SIGTERM)))
        elif row["state"] == "stopping" and monotonic - self._since[number] >= grace:
            self._since[number] = monotonic
            self._commands.note(row, "killing", f"it goes on {grace:g} s after SIGTERM", now)
            self._to_do.append((number, "cancelled", partial(cluster.end, workload)))
        elif row["state"] == "killing" and monotonic - self._since[number] >= grace + CANCEL:
            said, _ = self._answers.get((number, "cancelled"), ("", 0.0))
            why = f"the job goes on {grace + CANCEL:g} s after it was cancelled"
            self._commands.settle(row, "failed", said or why, now)
        elif row["state"] == "killing":
            said, when = self._answers.get((number, "cancelled"), ("", monotonic))
            if NO_ANSWER in said and monotonic - when >= AGAIN:
                del self._answers[number, "cancelled"]
                self._to_do.append((number, "cancelled", partial(cluster.end, workload)))

    @property
    def _asker(self) -> str:
        return f"cluster/{self._run}"


def script(words: Sequence[str], test: str) -> str:
    """Make the file: a shell that sources it has the command as its positional parameters.

    Args:
        words: of the command. test: holds where the command is meant.
    """
    quoted = " ".join('"$@"' if word == THEIRS else shlex.quote(word) for word in words)
    return (
        f"# Written by sentinel; sourced by the job's own script.\nif {test}; then\n    set -- {quoted}\nfi\n"
    )
