"""One run's trainer: what it has said of itself, and what is asked of it.

The registration is read anew at every look, before anything is judged: the ladders must know which verbs,
parameters and checkpoints there are. What is asked becomes a row inside the tick's transaction; letters and
signals leave in `deliver`, after its commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentinel.attempts import Attempts
from sentinel.checkpoints import Checkpoint
from sentinel.clusters.requeue import Requeue
from sentinel.control import announced
from sentinel.dispatch import Dispatch, Settled
from sentinel.job import Job
from sentinel.job_runs import Met
from sentinel.judge import Judge, Step
from sentinel.policy import Action, Declared
from sentinel.registration import Registration, Terms
from sentinel.run_rows import gone_back


class TrainerLink:
    """Meets the trainer and carries commands to it.

    Attributes:
        registration: what it has said of itself.
    """

    def __init__(
        self,
        run: str,
        folder: Path,
        judge: Judge,
        dispatch: Dispatch,
        job: Job | None = None,
        terms: Terms | None = None,
        requeue: Requeue | None = None,
        *,
        act: bool,
    ) -> None:
        """Take up the commands that have no outcome yet.

        Args:
            run: its name. folder: its folder. judge: is told of whatever the ladders need to know.
            dispatch: holds its commands. job: what we supervise, and so can end and resume; None for nothing.
            terms: what is agreed with a trainer without guard.
            requeue: carries out what a cluster can do for a trainer that cannot; None for nothing.
            act: whether what rules ask for is sent at all.
        """
        self._job = job
        self._run = run
        self._judge = judge
        self._dispatch = dispatch
        self._act = act
        self._requeue = requeue
        self.registration = Registration(folder, terms)
        judge.checkpoint_bytes = self.registration.checkpoint_bytes
        judge.sends = act

    def meet(self, attempts: Attempts, now: float) -> bool:
        """Read what the trainer says of itself; returns whether that is new."""
        known, before = self.registration.known, self.registration.attempt
        fresh = self.registration.refresh()
        self._judge.unreachable = self.registration.unreachable if self._act else ""
        if fresh:
            if known and self.registration.attempt > before:
                attempts.announce(now, None)
            self.hear_of_attempts(attempts)
            self._judge.declared = self._declared
            self._judge.catalogue = self.registration.catalogue
        if self._job is not None:
            self._job.meet(
                self._run, Met(self.registration, self.checkpoints, self._good, self._end_by_letter)
            )
            if self._job.trains(self._run):
                self._judge.unreachable = self.unreachable if self._act else ""
                self._judge.declared = self._job.declared(self._run, self.registration.declared)
                self._judge.catalogue = self.checkpoints
        return fresh

    @property
    def unreachable(self) -> str:
        """Why nothing can be asked of who trains this run, in words; empty where something can."""
        if self._job is not None and self._job.trains(self._run):
            return ""
        return self.registration.unreachable

    @property
    def _declared(self) -> Declared | None:
        own = self.registration.declared
        return own if self._requeue is None else self._requeue.declared(self.registration, own)

    def _good(self) -> Checkpoint | None:
        """The newest checkpoint that a restart may go on from."""
        self._judge.catalogue = self.checkpoints
        return self._judge.newest_good()

    def date_letters(self, ahead: float) -> None:
        """Date letters by a clock that is `ahead` seconds ahead of ours."""
        self._dispatch.skew = ahead

    def checkpoints(self) -> Sequence[Checkpoint]:
        """List the run's checkpoints."""
        return self.registration.catalogue() if self.registration.catalogue is not None else ()

    def hear_of_attempts(self, attempts: Attempts) -> None:
        """Take the trainer's word for the attempts that its files tell of."""
        for wall, step in announced(self.registration.control):
            attempts.announce(wall, step)
        for wall, step in self._job.starts(self._run) if self._job is not None else ():
            attempts.announce(wall, step)
        for wall, step in self._requeue.starts() if self._requeue is not None else ():
            attempts.announce(wall, step)

    @property
    def awaits(self) -> bool:
        """Whether a command has no outcome yet."""
        return bool(self._in_flight())

    def follow(self, attempts: Attempts, now: float) -> list[Settled]:
        """Take every command one step further; returns those with something to tell."""
        followed = self._dispatch.follow(self.registration, now)
        told = [each for each in followed if not self._resumes(each, now)]
        if self._requeue is not None:
            told += self._requeue.follow(self.registration, self.checkpoints, now)
        told += self._job.settled(self._run) if self._job is not None else []
        for settled in told:
            row = settled.row
            if not settled.final or row["verb"] != "rollback":
                continue
            if row["state"] == "done":
                self.hear_of_attempts(attempts)
                self._judge.ledger.rollbacks.append(gone_back(row))
            elif row["key"] is not None:
                alert = self._judge.watch.alerts.get(row["key"])
                if alert is not None and alert.last is not None:
                    self._judge.refused(row["key"], row["rung"], alert.last)
        self._judge.ledger.in_flight = self._in_flight()
        return told

    def _resumes(self, settled: Settled, now: float) -> bool:
        """Take over a rollback that the trainer cannot do, where the job can be ended and resumed instead."""
        row = settled.row
        cannot = row["state"] == "refused" and str(row["reason"]).startswith("cannot")
        if not cannot or row["verb"] != "rollback":
            return False
        if self._job is not None and self._job.take_over(self._run, row):
            return True
        return self._requeue is not None and self._requeue.take_over(self.registration, row, now)

    def _in_flight(self) -> set[str]:
        carried = self._job.in_flight(self._run) if self._job is not None else set()
        requeued = self._requeue.in_flight if self._requeue is not None else set()
        return self._dispatch.in_flight | carried | requeued

    def _carrier(self, verb: str) -> str:
        """Who carries a command out: the trainer, by letter, or we, or its cluster."""
        if self._job is not None and self._job.carries(self._run, verb):
            return "job"
        if self._requeue is not None and self._requeue.carries(self.registration, verb):
            return "cluster"
        return "letter"

    def ask(self, step: Step, action: Action, thread: str, now: float) -> None:
        """Ask for what a rung asks for."""
        self._dispatch.ask(
            action.verb,
            checkpoint=action.checkpoint,
            to_step=action.to_step,
            set=dict(action.set or {}),
            reinit=action.reinit,
            reason=action.reason,
            asked_step=step.observation.verdict.at.run_step,
            attempt=self.registration.attempt,
            now=now,
            key=step.observation.key,
            rung=action.rung,
            thread=thread,
            carrier=self._carrier(action.verb),
        )
        self._judge.ledger.in_flight = self._in_flight()

    def command(
        self,
        verb: str,
        checkpoint: str | None,
        changes: dict[str, Any],
        reinit: Sequence[str],
        why: str,
        request: str,
        now: float,
    ) -> str:
        """Ask the trainer for something that a person wants; returns an empty string, or why it is
        impossible.
        """
        to_step = None
        if verb == "rollback":
            found = self._wanted(checkpoint)
            if found is None:
                which = f"no verified checkpoint {checkpoint}" if checkpoint else "no good checkpoint"
                return f"{which} in {self._run}; nothing was asked"
            checkpoint, to_step = found.name, found.step
        carrier = self._carrier(verb)
        if carrier == "letter" and not self.registration.takes(verb):
            return f"{self._run}: {self._no_way(verb)}; nothing was asked"
        self._dispatch.ask(
            verb,
            checkpoint=checkpoint,
            to_step=to_step,
            set=changes,
            reinit=tuple(reinit),
            reason=why,
            asked_step=self._judge.watch.run_step,
            attempt=self.registration.attempt,
            now=now,
            request=request,
            carrier=carrier,
        )
        return ""

    def _no_way(self, verb: str) -> str:
        """Why nobody can be asked for a verb, in words."""
        declared = self._declared
        never = declared.never.get(verb, "") if declared is not None else ""
        return self.unreachable or never or f"the trainer does not know the command {verb!r}"

    def end(self, why: str, now: float) -> None:
        """Ask for the end of the training, because of no single alert."""
        self._end(why, now, self._carrier("terminate"))

    def _end_by_letter(self, why: str, now: float) -> None:
        self._end(why, now, "letter")

    def _end(self, why: str, now: float, carrier: str) -> None:
        self._dispatch.ask(
            "terminate",
            checkpoint=None,
            to_step=None,
            set={},
            reinit=(),
            reason=why,
            asked_step=self._judge.watch.run_step,
            attempt=self.registration.attempt,
            now=now,
            carrier=carrier,
        )
        self._judge.ledger.in_flight = self._in_flight()

    def _wanted(self, name: str | None) -> Checkpoint | None:
        """The checkpoint a person named, however suspect, or the newest good one."""
        if name is None:
            return self._judge.newest_good()
        known = self._judge.catalogue() if self._judge.catalogue else ()
        return next((c for c in known if c.name == name and c.verified), None)

    def deliver(self) -> None:
        """Carry out what the commit has made certain: write letters, ring, escalate."""
        self._dispatch.perform()
        if self._requeue is not None:
            self._requeue.perform()
