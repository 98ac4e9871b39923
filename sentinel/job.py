"""The job that `sentinel run -- CMD` started: when its process ends, is ended, is started again or resumed.

Only `terminate` and a restart that the user configured end a process, and nothing starts one but the command
line and those two. Each step is a row before it is done, inside the tick's transaction (`look`); what follows
from it leaves after the commit (`perform`). A sentinel that was killed between the two takes the step again:
a signal may come twice, a start may not, which is what the claims of `sentinel.launch` are for.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentinel import job_words as words
from sentinel.clock import Clock
from sentinel.config import Settings
from sentinel.dispatch import Settled
from sentinel.ending import EndingOf, Phase, begin, step
from sentinel.errors import ConfigError
from sentinel.job_commands import JobCommands
from sentinel.job_next import NextLives
from sentinel.job_runs import JobRuns, Met
from sentinel.job_starts import JobStarts
from sentinel.journal import Journal
from sentinel.lives import OPEN, After, LifeRow, Lives
from sentinel.mail import Mail
from sentinel.members import members
from sentinel.policy import Declared
from sentinel.process import Process, send
from sentinel.supervise import Processes

UNKNOWN_CODE = 3
"""Our exit code where the job's own cannot be known: it was not our child when it ended."""


class Job:
    """The newest job of one state folder, if there is one.

    Attributes:
        code: our exit code once the job is over; None while there is something to wait for.
    """

    def __init__(
        self,
        journal: Journal,
        mail: Mail,
        state: Path,
        settings: Settings,
        processes: Processes,
        clock: Clock,
        *,
        act: bool,
    ) -> None:
        """Take up the job as the journal knows it."""
        self._journal = journal
        self._mail = mail
        self._settings = settings
        self._processes = processes
        self._clock = clock
        self._act = act
        self._rows = Lives(journal)
        self._ending: EndingOf | None = None
        self._commands = JobCommands(journal)
        self._runs = JobRuns(settings, clock)
        self._starts = JobStarts(journal, mail, state, processes, self._commands)
        self._next = NextLives(self._rows, mail, settings, self._runs, self._commands)
        self._to_send: list[tuple[Process, signal.Signals]] = []
        self._end_seen = False
        self._lively = True
        self._now = clock.wall()
        self._sign = clock.monotonic()
        self._beats: dict[str, int | None] = {}
        self.lives: list[LifeRow] = []
        self._reload()

    # ── the command line's part ──

    def begin(self, command: Sequence[str], folder: Path) -> str:
        """Wish for a job; only inside a transaction. One that still goes on is taken up instead.

        Returns:
            What is to be said about that, in words; empty for a plain start.

        Raises:
            ConfigError: another command of this state still goes on.
        """
        for life in self.lives:
            if life.state in OPEN:
                if self.lives[0].command != tuple(command) or life.folder != folder:
                    raise ConfigError(words.another(self.lives[0], life))
                return words.taken_up(life)
        self._starts.begin_job(command, folder)
        self._reload()
        return ""

    @property
    def code(self) -> int | None:
        """Our exit code once the job is over."""
        if not self.lives or any(life.state in OPEN for life in self.lives):
            return None
        ended = [life for life in self.lives if life.state == "ended"]
        if not ended:
            return UNKNOWN_CODE
        code = ended[-1].code
        return UNKNOWN_CODE if code is None else code

    # ── what the runs ask ──

    @property
    def life(self) -> LifeRow | None:
        """The process that trains, if one does."""
        return next((life for life in reversed(self.lives) if life.state in ("running", "stopping")), None)

    @property
    def runs(self) -> list[str]:
        """The runs that the job trains or has just trained, so that they are looked at in every tick."""
        return sorted({run for life in self.lives for run in life.runs}) if self._lively else []

    def trains(self, run: str) -> bool:
        """Whether the job's present process trains this run."""
        return self.life is not None and run in self.life.runs

    def saw(self, run: str, files: Sequence[Path], run_step: int, last_wall: float | None) -> None:
        """Take note of new points of a run; only inside a transaction."""
        life = self.life
        if life is None or life.began is None or last_wall is None or last_wall < life.began - 1:
            return
        if run not in life.runs:
            if not self._runs.is_of(run, files, life, self._starts.mark(life)):
                return
            self._rows.change(life.id, runs=(*life.runs, run))
        self._sign = self._clock.monotonic()
        if life.furthest is None or run_step > life.furthest:
            self._rows.change(life.id, furthest=run_step)
        self._reload()

    def meet(self, run: str, met: Met) -> None:
        """Take note of a run and of what its trainer says."""
        self._runs.meet(run, met)
        beat = met.registration.heartbeat_step()
        if self.trains(run) and beat != self._beats.get(run):
            self._beats[run], self._sign = beat, self._clock.monotonic()

    def knows(self, run: str) -> bool:
        """Whether a process of the job trains this run, or has."""
        return any(run in life.runs or run == life.run for life in self.lives)

    def forget(self, run: str) -> None:
        """Let go of a run that is none of the job's."""
        self._runs.forget(run)
        self._beats.pop(run, None)

    def carries(self, run: str, verb: str) -> bool:
        """Whether this verb is ours to carry out for a run, since its trainer cannot."""
        if not self.trains(run):
            return False
        verbs = self._runs.verbs(run)
        if verb == "rollback":
            return verb not in verbs and self._settings.resume is not None
        return verb == "terminate" and verb not in verbs

    def declared(self, run: str, own: Declared | None) -> Declared | None:
        """What can be asked of a run that the job trains, beside what its trainer declared itself."""
        life = self.life
        return own if life is None or not self.trains(run) else self._runs.declared(life, own)

    def take_over(self, run: str, row: Mapping[str, Any]) -> bool:
        """Carry out a rollback that the trainer cannot do; returns whether that can be done here."""
        life = self.life
        if life is None or life.state != "running" or self._settings.resume is None or life.runs != (run,):
            return False
        self._journal.change("UPDATE commands SET carrier = 'job' WHERE run = ? AND id = ?", run, row["id"])
        self._commands.note(
            row, "intended", f"the trainer refused ({row['reason']}); it is ended and resumed", self._now
        )
        return True

    def settled(self, run: str) -> list[Settled]:
        """Take what has come of the commands that were carried out here."""
        return self._commands.settled(run)

    def in_flight(self, run: str) -> set[str]:
        """The verbs that are under way here."""
        return self._commands.in_flight(run)

    def starts(self, run: str) -> list[tuple[float, int | None]]:
        """When each further life began (wall time), and the step it was resumed at where one is known."""
        found = []
        for life in self.lives[1:]:
            if life.began is not None and (run in life.runs or run == life.run or not life.runs):
                found.append((life.began, life.step if life.run == run else None))
        return found

    # ── the tick ──

    def look(self, now: float) -> None:
        """Take the job one step further; only inside a transaction, before the runs are looked at."""
        self._reload()
        self._now = now
        self._lively = self._commands.untold or any(life.state in OPEN for life in self.lives)
        if not self.lives or self.code is not None:
            for row in self._commands.open():
                self._commands.settle(
                    row, "done" if row["verb"] == "terminate" else "failed", "the job has ended", now
                )
            return
        self._carry(now)
        for life in list(self.lives):
            match life.state:
                case "due":
                    self._starts.wait(life, now)
                case "intended":
                    if self._starts.find(life, now):
                        self._end_seen, self._sign = False, self._clock.monotonic()
                case "running":
                    self._look_at(life, now)
                case "stopping":
                    self._end(life, now)
        self._reload()

    def perform(self) -> None:
        """Do what has been committed."""
        for life in self.lives:
            self._starts.make(life)
        to_send, self._to_send = self._to_send, []
        for process, signum in to_send:
            send(process, signum)

    # ── ending ──

    def _look_at(self, life: LifeRow, now: float) -> None:
        assert life.process is not None, "a life that runs has a process"
        self._processes.current, self._processes.mark = life.process, self._starts.mark(life)
        if self._processes.lives(life.process):
            self._processes.adopt(life.process)
            self._end_seen = False
            hung = self._clock.monotonic() - self._sign
            policy = self._settings.restart
            if self._commands.ended_by(life, "done"):
                self._stop(life, "end", "the trainer has ended as it was asked to", asked=True)
            elif self._act and policy.on == "hang" and hung > policy.hang_after:
                self._stop(life, "restart", f"no sign of progress for {policy.hang_after:g} s", asked=False)
            return
        if not self._end_seen:  # its last points are read first
            self._end_seen = True
            return
        code = self._processes.exits.get(life.process.pid)
        self._rows.change(life.id, code=code)
        life = replace(life, code=code)
        if self._commands.ended_by(life):
            self._stop(life, "end", "the end was asked for", asked=False)
            self._end(self._row(life.id), now)
        elif self._was_asked(life) or code == 0 or code is None or self._settings.restart.on == "never":
            self._close(life, now)
        else:
            self._stop(life, "restart", words.how(code), asked=False)  # what it left behind is ended first
            self._end(self._row(life.id), now)

    def _was_asked(self, life: LifeRow) -> bool:
        """Whether a person, a rule or the trainer itself meant this end."""
        if self._processes.asked_to_stop is not None or self._commands.ended_by(life):
            return True
        return self._runs.finished(life)

    def _stop(self, life: LifeRow, after: After, reason: str, *, asked: bool) -> None:
        self._ending = begin(self._clock.monotonic(), asked=asked)
        self._rows.change(life.id, state="stopping", after=after, reason=reason)

    def _end(self, life: LifeRow, now: float) -> None:
        process = life.process
        assert process is not None, "a life that is being ended has a process"
        if self._processes.asked_to_stop is not None and life.after != "end":
            self._drop_next("the end of the job was asked for", now)
            self._rows.change(life.id, after="end")
            life = self._row(life.id)
        left = members(self._starts.mark(life))
        if self._processes.lives(process) and all(each.pid != process.pid for each in left):
            left.append(process)
        asked = self._commands.letters_open(life)
        before = self._ending or begin(self._clock.monotonic(), asked=asked)
        self._ending, signals = step(
            before,
            left=bool(left),
            being_asked=asked,
            now=self._clock.monotonic(),
            grace=self._settings.patience.grace,
            gentle=signal.SIGTERM,
        )
        self._to_send += [(each, signum) for each in left for signum in signals]
        if signals:
            self._commands.note_phase(life, self._ending.phase, now)
        if self._ending.phase is Phase.OUTLIVED:
            self._ending = None
            self._drop_next("its processes outlive SIGKILL", now)
            self._rows.change(life.id, state="running", after="")
            self._commands.fail_all(life, "a process outlives SIGKILL", now)
        elif self._ending.phase is Phase.OVER:
            self._processes.reap()
            self._ending = None
            known = self._processes.exits.get(process.pid)
            self._close(replace(life, code=life.code if life.code is not None else known), now)

    def _close(self, life: LifeRow, now: float) -> None:
        """A life is over, and so is everything that belonged to it; say what follows."""
        self._rows.change(life.id, state="ended", ended=now, code=life.code)
        self._commands.settle_ended(life, now)
        self._reload()
        self._end_seen = False
        if life.after == "resume":
            for each in self.lives:
                if each.state == "waiting":
                    self._starts.mean(each)
        elif life.after == "restart":
            self._next.after_failure(self.lives, self._row(life.id), now)
        elif self._processes.asked_to_stop is not None:
            left = members(self._starts.mark(life))  # the job is gone and its family was not told
            self._to_send += [(process, self._processes.asked_to_stop) for process in left]
        elif life.code is None and not self._was_asked(life):
            self._mail.post(words.ended_unseen(life, now), now)
        elif life.code and not self._was_asked(life):
            self._mail.post(words.failed(life, now, members(self._starts.mark(life))), now)
        self._reload()

    # ── commands that are carried out here ──

    def _carry(self, now: float) -> None:
        for row in self._commands.open():
            life = self.life
            if row["state"] != "intended" or row["run"] not in self._runs:
                continue  # under way, or not yet met again after a restart
            if life is None:
                self._commands.settle(row, "failed", "the job has ended", now)
            elif row["verb"] == "terminate":
                self._commands.note(row, "stopping", row["reason"], now)
                self._drop_next("the end of the job was asked for", now)
                self._stop(life, "end", row["reason"], asked=False)
                self._reload()
            elif life.state == "stopping":
                self._commands.settle(row, "failed", "the job is being ended", now)
            else:
                if (found := self._next.by_resume(row, self.lives, life, now)) is not None:
                    why, asked = found
                    self._stop(life, "resume", why, asked=asked)
                self._reload()

    def _drop_next(self, reason: str, now: float) -> None:
        """The life that was to follow is not wanted any more."""
        for life in self.lives:
            if life.state == "waiting":
                self._rows.change(life.id, state="void", reason=reason)
                self._commands.settle_request(life, "failed", reason, now)

    # ── who is who ──

    def mark(self, life: LifeRow) -> str:
        """What every process of this life carries among its variables."""
        return self._starts.mark(life)

    def _row(self, number: int) -> LifeRow:
        self._reload()
        return next(life for life in self.lives if life.id == number)

    def _reload(self) -> None:
        self.lives = self._rows.of_job(self._rows.last_job())
