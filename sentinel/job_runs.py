"""The runs that a supervised job trains: whose they are, what can be asked of them, how they are resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sentinel.checkpoints import Checkpoint
from sentinel.clock import Clock
from sentinel.config import Settings
from sentinel.lives import LifeRow
from sentinel.members import everyone, holders, members
from sentinel.policy import Declared
from sentinel.registration import Registration
from sentinel.resume import Setting

LOOK_AGAIN = 2.0
"""Seconds between two looks at whose a run is."""


@dataclass(frozen=True, slots=True)
class Met:
    """What is known of one run.

    Attributes:
        registration: who trains it. checkpoints: lists them. newest_good: the one to go on from.
        end: asks its trainer to end in its own way, given the reason and the wall time.
    """

    registration: Registration
    checkpoints: Callable[[], Sequence[Checkpoint]]
    newest_good: Callable[[], Checkpoint | None]
    end: Callable[[str, float], None]


def resumable(settings: Settings, own: Declared | None, overrides: Mapping[str, Setting]) -> Declared:
    """What a resume command can change: the values in force, and any absolute one."""
    resume = settings.resume
    table = settings.service.trainer.parameters
    values = {name: each.value for name, each in table.items()} | dict(own.values if own else {})
    bounds = {name: (each.low, each.high) for name, each in table.items()}
    takes = resume is not None and resume.takes_overrides
    in_force = {**values, **overrides} if takes else {}
    return Declared(in_force, frozenset(), frozenset(), open=takes, bounds=bounds)


class JobRuns:
    """Every run that has been met, the job's and others."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._met: dict[str, Met] = {}
        self._looked_at: dict[str, float] = {}

    def __contains__(self, run: str) -> bool:
        return run in self._met

    def meet(self, run: str, met: Met) -> None:
        """Take note of a run."""
        self._met[run] = met

    def forget(self, run: str) -> None:
        """Let go of a run, until it is met again."""
        self._met.pop(run, None)
        self._looked_at.pop(run, None)

    def finished(self, life: LifeRow) -> bool:
        """Whether a guard of this life's runs said that the run is over, and not that it failed."""
        trainers = [self._met[run].registration for run in life.runs if run in self._met]
        return any(trainer.finished and trainer.outcome != "failed" for trainer in trainers)

    def own(self, run: str) -> Declared | None:
        """What a run's trainer declared itself."""
        return self._met[run].registration.declared

    def newest_good(self, run: str) -> Checkpoint | None:
        """The checkpoint to go on from; None where there is none."""
        return self._met[run].newest_good() if run in self._met else None

    def checkpoint(self, run: str, name: str | None) -> Checkpoint | None:
        """The whole checkpoint of this name."""
        found = self._met[run].checkpoints()
        return next((each for each in found if each.name == name and each.verified), None)

    def declared(self, life: LifeRow, own: Declared | None) -> Declared:
        """What can be asked of a run that the job trains, beside what its trainer declared itself."""
        resume = self._settings.resume
        verbs = set(own.verbs) if own is not None else set()
        verbs.add("terminate")
        # One process for several runs: a resume would take all of them back.
        resumes = resume is not None and "rollback" not in verbs and len(life.runs) == 1
        if not resumes:
            own = own or Declared({}, frozenset(), frozenset())
            never = {verb: why for verb, why in own.never.items() if verb not in verbs}
            return replace(own, verbs=frozenset(verbs), never=never)
        return replace(self.resumable(life, own), verbs=frozenset({*verbs, "rollback"}))

    def resumable(self, life: LifeRow, own: Declared | None) -> Declared:
        """What a resume command can change."""
        return resumable(self._settings, own, life.overrides)

    def verbs(self, run: str) -> frozenset[str]:
        """What the run's trainer can be asked for, by letter or signal."""
        if run not in self._met:
            return frozenset()
        registration = self._met[run].registration
        if registration.finished or registration.liveness.ended:
            return frozenset()
        declared = registration.declared
        return declared.verbs if declared is not None else frozenset()

    def is_of(self, run: str, files: Sequence[Path], life: LifeRow, mark: str) -> bool:
        """Whether the job trains this run: its guard, or who has its files open, or at least nobody else."""
        now = self._clock.monotonic()
        if now - self._looked_at.get(run, float("-inf")) < LOOK_AGAIN:
            return False
        self._looked_at[run] = now
        family = members(mark)
        registration = self._met[run].registration if run in self._met else None
        trainer = registration.process if registration is not None and not registration.finished else None
        if trainer is not None:
            return any((p.pid, p.start_time) == (trainer.pid, trainer.start_time) for p in family)
        if holders(files, family):
            return True
        return not life.runs and not holders(files, everyone())

    def command(
        self, run: str, target: Checkpoint, overrides: Mapping[str, Setting], first: Sequence[str]
    ) -> list[str]:
        """The resume command. `first`: the job's first command."""
        resume = self._settings.resume
        assert resume is not None, "asked only where there is one"
        folder = self._met[run].registration.control.parent
        return resume.render(
            checkpoint=str(target.path.absolute()),
            step=target.step,
            run=str(folder.absolute()),
            overrides=overrides,
            command=first,
        )

    def ask_to_end(self, run: str, why: str, now: float) -> bool:
        """Ask a trainer that listens to end in its own way; returns whether it was asked."""
        if "terminate" not in self.verbs(run):
            return False
        self._met[run].end(why, now)
        return True
