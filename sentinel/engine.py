"""The tick: from what is new on disk to what is decided, in one transaction; then, and only then, the world
is touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path

from rules.gate import Ending
from sentinel.attachment import Named
from sentinel.attention import Attention, Changes, stamp
from sentinel.clock import STANDSTILL, Clock
from sentinel.clusters.reach import Reach
from sentinel.config import Settings
from sentinel.discover import CONTROL, TRAINER, Runs, Scanner
from sentinel.fleet import Fleet
from sentinel.gate_watch import GatePlan, LiveGates
from sentinel.holders import Holders
from sentinel.inbox import Ack, Answer, Command, Expire, Request, Silence, pending, remove
from sentinel.job import Job
from sentinel.journal import Journal, to_json
from sentinel.live_run import LiveRun, Tools
from sentinel.mail import Mail
from sentinel.process import Process, myself
from sentinel.questions import find, open_questions, settled
from sentinel.round import ROUND_SECONDS
from sentinel.silences import Outcome
from sentinel.story import notice
from sentinel.supervise import Processes
from sentinel.watchdog_alert import WatchdogAlert

SCAN_EVERY = 1.0
"""Seconds between two walks through the log directory at the least; where changes are announced and none was,
ROUND_SECONDS.
"""

SILENCE_FOR = 7200.0
"""Seconds for which an alert is silent whose question was answered by that."""

BEAT_EVERY = 5.0
"""Seconds between two heartbeats of the sentinel."""

GONE_AFTER = 3600.0
"""Seconds after which a run whose folder is gone is let go; till then keeping costs less than reading."""

STAND_EVERY = 60.0
"""Seconds between two looks at what goes on: whether to repeat it, and calls to channels that forget;
notifier.alertmanager counts on it.
"""

TAKE_UP_FOR = 0.5
"""Seconds of a tick in which runs are looked at for the first time; those left over wait for the next tick,
so that a thousand old runs do not keep those that are being trained from being judged.
"""

PATIENCE = 30.0
"""Seconds without a heartbeat after which a trainer may say that its sentinel is gone."""


class Engine:
    """Watches every run below one log directory.

    Attributes:
        is_behind: the last tick left runs for the next one.
    """

    def __init__(
        self,
        logdir: Path,
        state: Path,
        settings: Settings,
        journal: Journal,
        mail: Mail,
        clock: Clock,
        *,
        act: bool,
        gates: GatePlan | None = None,
        processes: Processes | None = None,
        named: Mapping[str, Process] | None = None,
        reach: Reach | None = None,
        pulse: Callable[[], object] = int,
    ) -> None:
        self._pulse = pulse
        self._logdir = logdir
        self._state = state
        self._settings = settings
        self._journal = journal
        self._mail = mail
        self._clock = clock
        self.job = Job(journal, mail, state, settings, processes or Processes(), clock, act=act)
        self._watchdog = WatchdogAlert(journal, settings.service.sentinel.watchdog_every)
        self._rules = [rule.name for rule in settings.rules.rules if rule.enabled]
        self._named = Named(named or {})
        self._tools = Tools(
            settings, journal, mail, clock, act, gates, self.job, Holders(clock), self._named, reach
        )
        self._fleet = Fleet(self._tools)
        self._gone: dict[str, float] = {}
        self._scanner = Scanner(logdir)
        self._found = Runs()
        self._attention = Attention()
        self._offset: float | None = None
        self._to_deliver: list[LiveRun] = []
        self._anew = True
        self._scanned = float("-inf")
        self._beaten = float("-inf")
        self._stood = float("-inf")
        self._unreadable: set[str] = set()
        self._me = myself()
        self.is_behind = False

    @property
    def sees(self) -> bool:
        """Whether the last tick could read the log directory and every run in it."""
        return not self.blind and not any(u.path == str(self._logdir) for u in self._found.unreadable)

    @property
    def blind(self) -> tuple[str, ...]:
        """Names of the runs that are there and cannot be read."""
        return tuple(name for name, run in self._fleet.live.items() if run.is_blind and name in self._found)

    def tick(self, changes: Changes | None = None) -> bool:
        """Do everything that is due; returns whether there were new points.

        Args:
            changes: what has been announced since the last tick; None where nobody can say, so that every run
                is looked at.

        Raises:
            StateError: the journal cannot be written; nothing of this tick was done and nothing may be done
            after it.
        """
        now, monotonic = self._clock.wall(), self._clock.monotonic()
        self._take(changes, monotonic)
        if not self._has_work(now, monotonic):
            return False
        answered: list[str] = []
        grew = False
        with self._journal.transaction():
            self._mind_the_clock(now, monotonic)
            self._find_runs(now, monotonic)
            self.job.look(now)
            for name in self.job.runs:
                self._attention.wake(name)
            self.is_behind = False
            self._note_answers()
            for name in self._fleet.in_turn(self._attention.due(monotonic, self._files)):
                if self._fleet.is_new(name) and self._clock.monotonic() - monotonic > TAKE_UP_FOR:
                    self.is_behind = True
                    break
                self._pulse()
                grew |= self._look(name, now, monotonic)
            self._settle_named(now)
            for name, request in pending(self._state):  # after the looks, which tell who the trainer is
                self._grant(name, request, now)
                answered.append(name)
            minute = monotonic - self._stood >= STAND_EVERY
            self._mail.look(now, self._going, minute=minute)
            if self._watchdog.due(now) and self.sees:
                self._mail.post(self._watchdog.take(self._fleet.standings, now), now, everywhere=True)
            beat_due = monotonic - self._beaten >= BEAT_EVERY
            if beat_due:
                self._journal.put("meta", name="last_tick", value=repr(now))
                self._journal.put("meta", name="channels", value=to_json(self._mail.health()))
        for name in answered:
            remove(self._state, name)
        for run in self._to_deliver:
            run.trainer.deliver()
        self._to_deliver.clear()
        self.job.perform()
        self._mail.submit()
        if minute:
            self._stood = monotonic
            self._mail.stand(self._going(), now)
        if beat_due:
            self._beat(now, monotonic)
        return grew

    def close_gates(self, ending: Ending) -> list[LiveGates]:
        """Settle the gates of every run that was trained while it was watched; `ending` is the job's."""
        now = self._clock.wall()
        with self._journal.transaction():
            for run in self._fleet.live.values():
                run.close_gates(ending, now)
        self._mail.submit()
        return [run.gates for run in self._fleet.live.values() if run.gates is not None and run.gates.trained]

    def _mind_the_clock(self, now: float, monotonic: float) -> None:
        """Tell a wall clock that was set, or a machine that stood still, from time that has passed."""
        before, self._offset = self._offset, now - monotonic
        if before is None or abs(self._offset - before) <= STANDSTILL:
            return
        jump = self._offset - before
        self._fleet.skip_time(jump)
        for name in self._fleet.live:
            self._attention.wake(name)
        text = (
            f"It went {abs(jump):.0f} s {'on' if jump > 0 else 'back'} at once: it was set, or the machine "
            "or the sentinel stood still. That time counts as no silence of any run, and no command's "
            "patience has run out by it."
        )
        self._mail.post(notice("", "clock", "info", "the clock has jumped", text, now), now)

    def _take(self, changes: Changes | None, monotonic: float) -> None:
        """Take note of what was announced, and of what the slow rounds have come by."""
        self._anew |= changes is None or changes.anew or self._scanner.has_changed(monotonic)
        if changes is None:
            for name in self._fleet.live:
                self._attention.wake(name)
            self._attention.check(self._fleet.over, monotonic, self._files)
        else:
            self._attention.heed(changes.paths)

    def _has_work(self, now: float, monotonic: float) -> bool:
        """Whether a tick would do anything at all: most do not, and cost no transaction."""
        return bool(
            self._offset is None
            or abs(now - monotonic - self._offset) > STANDSTILL
            or self._must_scan(monotonic)
            or self._attention.due(monotonic, self._files)
            or monotonic - self._beaten >= BEAT_EVERY
            or self.job.lives
            or self._mail.has_work
            or monotonic - self._stood >= STAND_EVERY
            or self._mail.is_due(now)
            or self._watchdog.due(now)
            or pending(self._state)
        )

    def _going(self) -> list[str]:
        """Name the stories that go on."""
        return [thread for run in self._fleet.live.values() for thread in run.open_threads]

    def _must_scan(self, monotonic: float) -> bool:
        since = monotonic - self._scanned
        return since >= SCAN_EVERY and (self._anew or (since >= ROUND_SECONDS and not self._scanner.is_sure))

    def _files(self, name: str) -> list[Path]:
        """The files of a run whose change matters: what it logs, and its trainer's entry."""
        found = self._found.get(name)
        if found is None:
            return []
        if not found.has_control:
            return found.event_files
        return [*found.event_files, found.path / CONTROL / TRAINER]

    def _look(self, name: str, now: float, monotonic: float) -> bool:
        found = self._found.get(name)
        if found is None and self._fleet.is_new(name):
            self._fleet.drop(name)
            self._attention.forget(name)
            return False
        if found is None:
            self._fleet.vanish(name, now)
            self._attention.looked(name, monotonic, math.inf, ())
            return False
        seen = stamp(self._files(name))
        run = self._fleet.take_up(name, found, now)
        grew = run.look(found.event_files, now, monotonic)
        self._to_deliver.append(run)
        rest = math.inf if self._fleet.settle(name) else run.rest(now, monotonic)
        self._attention.looked(name, monotonic, rest, seen)
        return grew

    def _find_runs(self, now: float, monotonic: float) -> None:
        if not self._must_scan(monotonic):
            return
        self._scanned, self._anew = monotonic, False
        before, self._found = self._found, self._scanner.scan(monotonic)
        for name, found in self._found.items():
            if name in self._fleet:
                if before.get(name) != found:
                    self._attention.wake(name)
            elif self._is_wanted(name):
                self._pulse()
                self._attention.meet(name, found.path)
                seen = stamp(self._files(name))
                if self._fleet.meet(name, found) is not None:
                    self._attention.looked(name, monotonic, math.inf, seen)
        for name in before.keys() - self._found.keys():
            self._attention.wake(name)
        self._let_go(monotonic)
        for folder in self._found.unreadable:
            awaited = folder.path == str(self._logdir) and not len(self._fleet) and not self._logdir.exists()
            if folder.path not in self._unreadable and not awaited:
                self._unreadable.add(folder.path)
                name, text = f"unreadable/{folder.path}", f"{folder.path}: {folder.reason}"
                self._mail.post(notice("", name, "warning", "a folder cannot be read", text, now), now)

    def _let_go(self, monotonic: float) -> None:
        """Keep no run in memory whose folder has long been gone; the journal knows it if it comes back."""
        missing = [name for name in self._fleet.gone if name not in self._found]
        self._gone = {name: self._gone.get(name, monotonic) for name in missing}
        for name, since in self._gone.items():
            run = self._fleet.live.get(name)
            if monotonic - since >= GONE_AFTER and (run is None or run.gates is None):
                self._fleet.drop(name)
                self._attention.forget(name)

    def _settle_named(self, now: float) -> None:
        """Give a process that was named without a run to the run that it can only be."""
        if self._named.is_settled:
            return
        live = {name: run.process for name, run in self._fleet.live.items() if run.phase == "live"}
        why_not = self._named.settle(live)
        if why_not:
            self._mail.post(notice("", "pid", "warning", "a process was not attached", why_not, now), now)

    def _is_wanted(self, name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in self._settings.match)

    def _grant(self, name: str, request: Request | str, now: float) -> None:
        """Do what a request asks for, or say why not; its name keeps it from being done twice."""
        if self._journal.rows("SELECT 1 FROM requests WHERE name = ?", name):
            return
        state, outcome = self._answer(name, request, now)
        self._journal.add("requests", name=name, wall_time=now, state=state, outcome=outcome)

    def _answer(self, name: str, request: Request | str, now: float) -> Outcome:
        match request:
            case Command():
                refusal = self._command(name, request, now)
                return Outcome("refused", refusal) if refusal else Outcome("taken", "taken")
            case Silence():
                return self._mail.silences.begin(request, self._fleet, now, self._rules)
            case Expire():
                return self._mail.silences.expire(request, now)
            case Ack():
                return self._mail.ack(request, self._fleet, now)
            case Answer():
                return self._decide(request, now)
            case str():
                return Outcome("refused", request)

    def _note_answers(self) -> None:
        """Know which questions are answered in this tick, so that no deadline comes between."""
        asked = (request for _, request in pending(self._state))
        answers = {request.question for request in asked if isinstance(request, Answer)}
        self._tools.answering.clear()
        self._tools.answering.update(answers)

    def _decide(self, asked: Answer, now: float) -> Outcome:
        """Carry out an answer to a question, or say why not; each one is a row, the refused ones too."""
        outcome = self._weigh(asked, now)
        self._journal.add(
            "answers",
            question=asked.question,
            wall_time=now,
            choice=asked.choice,
            who=asked.by,
            why=asked.why,
            outcome=outcome.text,
        )
        return outcome

    def _weigh(self, asked: Answer, now: float) -> Outcome:
        if asked.refused:
            return Outcome("refused", asked.refused)
        row = find(self._journal, asked.question)
        if row is None:
            known = ", ".join(str(each["id"]) for each in open_questions(self._journal)) or "none"
            return Outcome(
                "refused", f"there is no question {asked.question} (open: {known}); nothing was done"
            )
        if row["state"] != "open":
            return Outcome("refused", f"question {row['id']} is settled: {settled(row)}; nothing was done")
        found = self._found.get(row["run"])
        if found is None or row["run"] not in self._fleet:
            return Outcome("refused", f"run {row['run']} is not there; nothing was done")
        self._attention.wake(row["run"])
        run = self._fleet.take_up(row["run"], found, now)
        self._to_deliver.append(run)
        outcome = run.answer(row, asked, now)
        if asked.choice != "silence" or outcome.state != "done":
            return outcome
        silence = Silence(
            row["run"], now + SILENCE_FOR, asked.by, asked.why or "asked first", rule=row["key"]
        )
        begun = self._mail.silences.begin(silence, self._fleet, now)
        return Outcome("done", f"{outcome.text}; {begun.text}")

    def _command(self, name: str, request: Command, now: float) -> str:
        """Turn a command into its row; returns the reason where it cannot be."""
        found = self._found.get(request.run)
        if request.run not in self._fleet or found is None:
            known = ", ".join(sorted(self._fleet)) or "none"
            return f"no run {request.run!r} is watched (there are: {known}); nothing was asked"
        self._attention.wake(request.run)
        run = self._fleet.take_up(request.run, found, now)
        self._to_deliver.append(run)
        return run.trainer.command(
            request.verb, request.checkpoint, dict(request.set), request.reinit, request.why, name, now
        )

    def _beat(self, now: float, monotonic: float) -> None:
        self._beaten = monotonic
        record = {
            "pid": self._me.pid,
            "start_time": self._me.start_time,
            "boot_id": self._me.boot_id,
            "wall_time": now,
            "patience": PATIENCE,
        }
        for run in self._fleet.live.values():
            if not run.is_blind:  # who cannot see must not look alive to the trainer
                run.beat(record)
