"""One run that is being watched: what is new in it goes through the judge, and what follows goes into the
journal.

Everything here happens inside the tick's transaction; letters, signals and messages leave only after its
commit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rules.gate import Ending
from rules.series import Sample
from rules.watch import Judged
from sentinel.attachment import Attached, Named, attach, owner_of
from sentinel.attempts import Attempts
from sentinel.clock import Clock
from sentinel.clusters import Standing, Workload
from sentinel.clusters.reach import NOT_YET, Reach
from sentinel.clusters.requeue import Requeue
from sentinel.config import Settings
from sentinel.discover import called
from sentinel.dispatch import Dispatch, Settled
from sentinel.far_clock import AGREES, FarClock
from sentinel.gate_watch import GatePlan, LiveGates
from sentinel.gates import GatedJudge
from sentinel.holders import Holders
from sentinel.job import Job
from sentinel.job_words import FAMILY
from sentinel.journal import Journal
from sentinel.judge import Step
from sentinel.mail import Mail
from sentinel.over import OVER, Over, gone
from sentinel.probes import DEAD_EVERY, Probes
from sentinel.process import Process
from sentinel.questions import Questions
from sentinel.remarks import Remarks
from sentinel.requests import Answer
from sentinel.run_rows import RunRows
from sentinel.silences import GOING, Outcome
from sentinel.story import ADVICE, notice, outcome, tell
from sentinel.tail import Chunk, Hurt, RunTail
from sentinel.telling import Telling
from sentinel.trainer_link import TrainerLink
from sentinel.watchdog_alert import RESTING, Phase, RunStanding

QUIET_SECONDS = 2.0
"""A tick is over when its file has been silent for this long (rules: ticks)."""

MARKS_EVERY = 30.0
"""Seconds between two looks at what keeps the rules of an idle run from being judged."""

RECENT_SECONDS = 30.0
"""A run that grew within so many seconds is looked at in every tick, announced or not."""

FRESH_SECONDS = 60.0
"""At first sight of a run, only points younger than this may lead to actions; older ones are history."""

PAST_SECONDS = 1800.0
"""A run whose newest point is older than this at first sight, and whose trainer is not there, is over.

A sentinel that comes back to a run it knows does not act upon older points than this either.
"""


@dataclass(frozen=True, slots=True)
class Tools:
    """What every watched run shares."""

    settings: Settings
    journal: Journal
    mail: Mail
    clock: Clock
    act: bool
    gates: GatePlan | None = None
    job: Job | None = None
    holders: Holders | None = None
    named: Named | None = None
    reach: Reach | None = None
    answering: set[int] = field(default_factory=set)


class LiveRun:
    """A run under watch.

    Attributes:
        name: of the run. phase: what is known of its life.
        trainer: who trains it, and what is asked of them.
        is_blind: nothing of it could be read at the last look.
        gates: what it is held against; None for nothing.
    """

    def __init__(
        self, name: str, folder: Path, tools: Tools, now: float, *, history_ends: float | None = None
    ) -> None:
        """Take up a run: as it was left, if the journal knows it, else from its beginning.

        Args:
            name: of the run. folder: where it lies. tools: shared by all runs. now: wall time.
            history_ends: points older than this lead to no action; None for what holds at first sight.
        """
        self.name = name
        self._tools = tools
        self._rows = rows = RunRows(tools.journal, name)
        run, judged, rewinds = rows.run(), rows.fact("judged"), rows.rewinds()
        self._new = bool(judged.get("new", run is None))
        self._skipped = float(judged.get("skipped", 0.0))
        self._far, self._ahead = FarClock(), 0.0
        self._who: Process | None = None
        self._history_ends = now - (FRESH_SECONDS if self._new else PAST_SECONDS)
        if history_ends is not None:
            self._history_ends = history_ends
        self.phase: Phase = run["phase"] if run else "live"
        self._first_seen = run["first_seen"] if run else now
        self._last_wall: float | None = run["last_wall"] if run else None
        self._judge = GatedJudge(
            tools.settings.program,
            tools.settings.book,
            alerts=rows.alerts(),
            climbs=rows.climbs(),
            ledger=rows.ledger(rewinds),
            attempt=len(rewinds),
            attempt_began=rewinds[-1].to_step if rewinds else 0,
        )
        self._judge.rests = self._rests
        self._judge.remarks = self._remarks = Remarks(tools.settings.program, rows.fact("remarks"))
        self._tail = RunTail(folder, rows.cursors())
        self._attempts = Attempts(self._judge, self._tail, rewinds, rows.probes())
        settings, journal, clock, reach = tools.settings, tools.journal, tools.clock, tools.reach
        dispatch = Dispatch(name, folder, journal, settings.patience, clock, reach, act=tools.act)
        terms = settings.terms(clock, called(name, folder), reach)
        requeue = None
        if reach is not None and reach.clusters:
            requeue = Requeue(name, folder, settings, journal, reach, clock, act=tools.act)
        self.trainer = TrainerLink(
            name, folder, self._judge, dispatch, tools.job, terms, requeue, act=tools.act
        )
        state = journal.path.parent
        self._telling = Telling(name, folder, self._judge, self.trainer.registration, settings, state)
        self.trainer.registration.pin(Workload.from_record(rows.fact("workload")))
        self._out_of_sight = ""
        self._attached = Attached.from_record(rows.fact("attached"))
        self.trainer.hear_of_attempts(self._attempts)
        self.gates: LiveGates | None = None
        if tools.gates is not None:
            self.gates = LiveGates(name, tools.gates, self._judge, rows.fact("gates"), now, act=tools.act)
        self._attempts.refill()
        self._judge.watch.resume(Judged(judged.get("due"), tuple(judged.get("open", ()))))
        self._probes = Probes(folder)
        self._threads = tools.mail.threads(name)
        self._questions = Questions(journal, name)
        self._folder = folder
        self._last_growth: float | None = None
        self._flushed = not self._judge.watch.judged.open
        self._blind: set[Hurt] = set()
        self._blind_since = now
        self._marked = float("-inf")
        self.is_blind = False

    # ── one look, inside the transaction ──

    def look(self, files: Sequence[Path], now: float, monotonic: float) -> bool:
        """Read, judge and record whatever is new; returns whether there was anything."""
        if self._last_growth is None:
            self._last_growth = monotonic - self._silent_before(now)
            self._questions.drop_all_but(self._judge.asking, now)
        self._judge.spared = self._questions.keys(self._tools.answering)
        if self.phase == "gone":
            self.phase = "live"
        self._find_trainer(files, now)
        self._meet_trainer(now)
        self._hear_clock(now, monotonic)
        self._judge.present = self._their_time(now)
        self._follow_commands(now)
        chunks, hurt = self._tail.read(files)
        self._record_damage(hurt, now)
        blind = bool(hurt) and not chunks and all(stretch.length == 0 for stretch in hurt)
        self._tell_sight(blind=blind, now=now)
        if chunks and self._skipped:
            self._end_the_jump(chunks[0], now)
        for chunk in chunks:
            for part, may_act in self._by_age(chunk.samples):
                self._judge.act = may_act
                self._record(self._attempts.take(dataclasses.replace(chunk, samples=part)), now)
                chunk = dataclasses.replace(chunk, start=None)  # noqa: PLW2901  only the first part begins an attempt
        self._judge.act = True
        self._tell_remarks(now)
        if chunks:
            self._last_growth, self._flushed = monotonic, False
            self._last_wall = max((c.samples[-1][2] for c in chunks if c.samples), default=self._last_wall)
            if self._tools.job is not None:
                self._tools.job.saw(self.name, files, self._judge.watch.run_step, self._last_wall)
            self._wake_up()
        quiet = not chunks and monotonic - self._last_growth >= QUIET_SECONDS
        if not self._flushed and (quiet or self._was_old(files, now)):
            self._flushed = True
            self._judge.act = self._last_wall is not None and self._last_wall >= self._history_ends
            self._record(self._judge.flush(), now)
            self._judge.act = True
            self._marked = float("-inf")
        # What lies between may hold points: it is no silence yet, and no present; nor is there one by a clock
        # that is not known yet.
        if not self._tail.behind and not self._awaits_clock(monotonic):
            self._let_time_pass(now)
            self._new = False
            self._ask_gates(now)
        self._follow_commands(now)  # what was just asked goes out with this commit
        if chunks or monotonic - self._marked >= MARKS_EVERY:
            self._marked = monotonic
            self._save_marks()
        self._save()
        return bool(chunks)

    def rest(self, now: float, monotonic: float) -> float:
        """Return the seconds for which only a change in the run's files can matter; call it after a look.

        Args:
            now: wall time. monotonic: seconds from any origin.
        """
        if self._tail.behind or self._new or not self._flushed or self.is_blind or self.trainer.awaits:
            return 0.0
        if self.phase != "live":
            return math.inf
        if self.gates is not None or monotonic - (self._last_growth or 0.0) < RECENT_SECONDS:
            return 0.0
        due = self._judge.watch.judged.due
        due = min(self._judge.deadline, math.inf if due is None else due)
        rest = min(max(due - self._their_time(now), 0.0), MARKS_EVERY)
        registration = self.trainer.registration
        watched = registration.process is not None or registration.known or registration.sight is not None
        return min(rest, DEAD_EVERY) if watched and not registration.finished else rest

    def as_over(self) -> Over | None:
        """Return what has to be held of it if it is over and all of it was judged, else None; call it after a
        look.
        """
        waits = self._tail.behind or self._new or not self._flushed or self.is_blind or self.trainer.awaits
        registration = self.trainer.registration
        asked = self.gates is not None or registration.sight is not None
        if self.phase == "past" and registration.known:
            asked |= not registration.liveness.ended  # on another host it may train, and log once in an hour
        if waits or asked or self.phase not in OVER or (self._tools.job and self._tools.job.knows(self.name)):
            return None
        alerts = self.standing.alerts
        return Over(self.name, self._folder, self.phase, self._last_wall, alerts, self._history_ends)

    def answer(self, row: Any, asked: Answer, now: float) -> Outcome:
        """Carry out an answer to an open question of this run; `row` is the question's."""
        choice: Literal["act", "hold", "terminate"] = "hold"
        if asked.choice in ("act", "terminate"):
            choice = "act" if asked.choice == "act" else "terminate"
        if choice != "hold" and not self._tools.act:
            return Outcome(
                "refused", "the sentinel watches in mode observe, so nothing is sent to any trainer"
            )
        found = self._judge.answer(row["key"], row["number"], choice, asked.by, self._their_time(now))
        if isinstance(found, str):
            return Outcome("refused", f"question {row['id']}: {found}; nothing was done, and it stands")
        self._record([found], now, by=asked.by, why=asked.why)
        self._follow_commands(now)  # what was just asked goes out with this commit
        self._save()
        return Outcome("done", f"question {row['id']}, {row['run']}: {found.actions[0].reason}")

    def beat(self, record: dict[str, Any]) -> None:
        """Leave the sentinel's heartbeat where the trainer's guard looks for it."""
        self.trainer.registration.leave_heartbeat(record)

    def vanish(self, now: float) -> None:
        """Note that the run's folder is gone."""
        if self.phase != "gone":
            self.phase = "gone"
            self._post(gone(self.name, self._folder, now), now)
            self._save()

    def skip_time(self, seconds: float) -> None:
        """Let a jump of the wall clock be no silence: until the run's next point, time goes on without it."""
        if self._far.known:
            return  # their clock was not set: by that, no time was jumped over
        self._skipped += seconds
        self._history_ends += min(seconds, 0.0)  # what is logged from now on is new, however old it looks

    # ── parts of a look ──

    def _their_time(self, now: float) -> float:
        """Return the present by the clock that dates the run's points, without what was jumped over."""
        return now - self._skipped + self._ahead

    def _hear_clock(self, now: float, monotonic: float) -> None:
        """Learn how far the clock of a trainer on another host is from ours; say so where that matters."""
        registration = self.trainer.registration
        if registration.far != self._who:
            self._who = registration.far
            self._far.forget()
        if self._who is not None:
            self._far.hear(registration.heartbeat_wall(), monotonic)
        before = self._ahead
        if self._far.known or self._who is None:
            self._ahead = self._far.ahead(now, monotonic)
        if abs(self._ahead - before) <= AGREES:
            return
        self._history_ends += self._ahead - before
        self.trainer.date_letters(self._ahead)
        how = f"{abs(self._ahead):.0f} s {'ahead of' if self._ahead > 0 else 'behind'} this machine's"
        text = (
            f"Its clock is {how if self._ahead else 'in step with ours again'}. The run is judged by its own."
        )
        advice = "Keep the clocks of both hosts in step (NTP, chrony)." if self._ahead else ""
        self._say("far-clock", "info", "the trainer's clock is another", text, now, advice)

    def _awaits_clock(self, monotonic: float) -> bool:
        return self._far.is_awaited(monotonic) and not self.trainer.registration.finished

    def _end_the_jump(self, chunk: Chunk, now: float) -> None:
        """Judge a silence that lies between two points because of the clock, as a replay does; but nothing is
        done about it, since nobody was silent.
        """
        self._skipped = 0.0
        ended = chunk.start.wall_time if chunk.start is not None else chunk.samples[0][2]
        if self._judge.watch.judged.due is not None:
            self._judge.act = False
            self._record(self._judge.silence(math.nextafter(ended, 0.0)), now)
            self._judge.act = True

    @property
    def standing(self) -> RunStanding:
        """How it stands, for those who are told at an interval that all is watched."""
        alerts = {k: a.state for k, a in self._judge.watch.alerts.items() if a.state not in RESTING}
        return RunStanding(self.name, self.phase, self.is_blind, alerts, self._last_wall)

    @property
    def open_threads(self) -> list[str]:
        """The stories that go on: of a run being trained, every alert that fires or may fire again."""
        if self.phase != "live":
            return []
        alerts = self._judge.watch.alerts
        return [f"{self.name}/{key}#{a.number}" for key, a in alerts.items() if a.state in GOING]

    @property
    def process(self) -> Process | None:
        """Who trains without a guard, as far as that is known."""
        return self._attached.process

    def _find_trainer(self, files: Sequence[Path], now: float) -> None:
        """Look for the process of a job that has no guard."""
        registration, holders = self.trainer.registration, self._tools.holders
        if registration.known or holders is None or (self.phase != "live" and not self._new):
            return
        named = self._tools.named.of(self.name) if self._tools.named is not None else None
        owner = owner_of(files) if named is not None else None
        found = attach(self._attached, named, partial(holders.of, files), owner=owner)
        if not registration.attach(found):
            return
        if found.process is not None:
            self._attached = found
            self._rows.note("attached", found.to_record())
        signals = self._tools.settings.service.trainer.signals.model_dump(exclude_none=True)
        if not signals and named is None:
            return  # nothing can be asked of it: who it is matters to its liveness alone
        can = ", ".join(f"{verb} ({name})" for verb, name in signals.items()) or "nothing"
        severity = "warning" if found.why_not else "info"
        title = "who trains is not known" if found.why_not else "trainer found"
        text = f"{found.words}." if found.why_not else f"{found.words}. It can be asked for: {can}."
        self._say("trainer", severity, title, text, now)

    def _meet_trainer(self, now: float) -> None:
        registration, before = self.trainer.registration, self.trainer.registration.workload
        fresh = self.trainer.meet(self._attempts, now + self._ahead)
        self._tell_of_cluster(now)
        if not fresh:
            return
        if registration.workload is not None and registration.workload != before:
            self._rows.note("workload", dataclasses.asdict(registration.workload))
        if registration.finished and self.phase == "live":
            self.phase = "finished"
            word = registration.outcome or "finished"
            severity = "info" if word == "finished" else "warning"
            error = f": {registration.error}" if registration.error else ""
            text = f"the trainer said that the run is {word}{error}"
            told = notice(self.name, "end", severity, f"run {word}", text, now)
            self._post(dataclasses.replace(told, family="" if word == "finished" else FAMILY), now)
        elif (
            not registration.finished and self.phase != "live" and (registration.known or registration.alive)
        ):
            self.phase = "live"

    def _tell_of_cluster(self, now: float) -> None:
        """Tell once that a cluster does not say how the trainer's job is, or that it is somebody else's."""
        sight = self.trainer.registration.sight
        if sight is None or self.phase != "live":
            return
        lost = sight.standing in (Standing.UNKNOWN, Standing.FOREIGN)
        words = sight.words if lost and sight.words != NOT_YET else ""
        if words and not self._out_of_sight:
            text = f"{words}. It is not touched until that is known; letters still reach a guard."
            self._say("cluster", "warning", "the trainer's job is out of sight", text, now)
        if not lost or words:
            self._out_of_sight = words

    def _follow_commands(self, now: float) -> None:
        for settled in self.trainer.follow(self._attempts, now):
            self._tell_outcome(settled, now)

    def _tell_remarks(self, now: float) -> None:
        """Tell what keeps rules from being judged; each once."""
        found, self._judge.remarked = self._judge.remarked, []
        for each in found:
            self._say(each.name, each.severity, each.title, each.text, now, each.advice)

    def _tell_outcome(self, settled: Settled, now: float) -> None:
        row = settled.row
        known = row["key"] is not None and self._judge.watch.knows(row["key"])
        if not known or row["thread"] not in self._threads:
            title, state = f"{row['verb']} {row['state']}", str(row["state"])
            severity = "warning" if state in ADVICE else "info"
            self._say(f"command-{row['id']}", severity, title, settled.sentence, now, ADVICE.get(state, ""))
            return
        severity = self._judge.watch.rule(row["key"]).severity
        kept = self._telling.last_checkpoint() if row["verb"] == "terminate" else None
        cost = self._telling.cost(row)
        told = outcome(self.name, row["thread"], row["key"], severity, row, now, cost, kept)
        self._post(self._questions.tell(self._telling.of_ending(told, row["key"], row)), now)

    def _by_age(self, samples: Sequence[Sample]) -> list[tuple[Sequence[Sample], bool]]:
        """Part history, while it is caught up with, from what is fresh enough to act upon."""
        if not samples or samples[0][2] >= self._history_ends:
            return [(samples, True)]
        cut = next((i for i, s in enumerate(samples) if s[2] >= self._history_ends), len(samples))
        parts: list[tuple[Sequence[Sample], bool]] = [(samples[:cut], False), (samples[cut:], True)]
        return [(part, may_act) for part, may_act in parts if part] or [(samples, True)]

    def _wake_up(self) -> None:
        if self.phase in ("past", "gone") and not self.trainer.registration.finished:
            self.phase = "live"

    def _let_time_pass(self, now: float) -> None:
        if self._new and self.phase == "live" and self._is_past(now):
            self.phase = "past"
        if self.phase != "live":
            if self._questions.any_open:
                self._record(self._judge.withdraw(f"the run is {self.phase}", self._their_time(now)), now)
            return
        now = self._their_time(now)
        found = self._probes.measure(self.trainer.registration, now, self._judge.watch.run_step)
        if found:
            self._rows.add_probes(found)
            self._record(self._attempts.probe(found), now)
        self._record(self._judge.silence(now), now)

    def _ask_gates(self, now: float) -> None:
        if self.gates is None:
            return
        registration = self.trainer.registration
        ended = self.phase == "finished" or (registration.known and registration.liveness.ended)
        over = self.phase == "past" or (ended and self._flushed)
        for message in self.gates.look(
            self.trainer, last_wall=self._last_wall, past=self.phase == "past", over=over, now=now
        ):
            self._post(message, now)

    def close_gates(self, ending: Ending, now: float) -> None:
        """Settle the gates: the supervised job has ended."""
        if self.gates is not None and self.gates.trained:
            for message in self.gates.close(self.trainer, ending, now):
                self._post(message, now)
            self._save()

    def _silent_before(self, now: float) -> float:
        """Seconds for which the file was silent before this process began, as far as they matter."""
        silent = QUIET_SECONDS if self._last_wall is None else now - self._last_wall
        return min(max(silent, 0.0), QUIET_SECONDS)  # the trainer's clock may be another

    def _is_past(self, now: float) -> bool:
        silent = self._last_wall is None or now + self._ahead - self._last_wall > PAST_SECONDS
        return (
            silent
            and not self.trainer.registration.alive
            and (self._last_wall is not None or not self.trainer.registration.known)
        )

    def _was_old(self, files: Sequence[Path], now: float) -> bool:
        """Whether a run is past at first sight, and nobody writes its files: then its last tick is over."""
        if not self._new or self._tail.behind or not self._is_past(now):
            return False
        try:
            return all(now - path.stat().st_mtime >= QUIET_SECONDS for path in files)
        except OSError:
            return False

    def _record_damage(self, hurt: Sequence[Hurt], now: float) -> None:
        """Write down what cannot be read, each stretch once, and tell it: of one look one message, because a
        second one of the same moment would go by the same key.
        """
        told = []
        for stretch in hurt:
            if stretch in self._blind:
                continue
            self._blind.add(stretch)
            self._rows.add_damage(stretch, now)
            what = f"{stretch.length} bytes at byte {stretch.offset}" if stretch.length else "all of it"
            when = f", within {stretch.seconds:.3g} s," if stretch.seconds is not None else ""
            told.append(
                f"{stretch.path}: {what}: {stretch.reason}. What was logged there{when} was not judged."
            )
        if told:
            title = "part of the metrics cannot be read"
            self._say("blind", "warning", title, "\n".join(told), now)

    def _tell_sight(self, *, blind: bool, now: float) -> None:
        """Note that nothing of the run can be read, and tell when it can be again, and how long that was."""
        if blind and not self.is_blind:
            self._blind_since = now
        elif self.is_blind and not blind:
            self._blind = {stretch for stretch in self._blind if stretch.length}  # the next time is told too
            text = (
                f"For {now - self._blind_since:.0f} s nothing of this run could be read. What was logged "
                "meanwhile and is there has now been judged."
            )
            self._say("sight", "info", "the metrics can be read again", text, now)
        self.is_blind = blind

    def _rests(self, key: str) -> str | None:
        return self._tools.mail.silences.rests(self.name, key, self._tools.clock.wall())

    # ── rows ──

    def _record(self, steps: Sequence[Step], now: float, *, by: str = "", why: str = "") -> None:
        for step in steps:
            self._rows.add_transition(step, now)
            thread = f"{self.name}/{step.thread}"
            if not self._judge.act and thread not in self._threads:
                continue  # history; but a story that people have been told goes on
            if self._tools.act or self._questions.any_open:
                self._questions.take(step, thread, now, by=by, why=why)
            for action in step.actions:
                if self._tools.act and not action.withheld and action.verb != "notify":
                    self.trainer.ask(step, action, thread, now)
            message = tell(
                self.name,
                step,
                self._judge.watch.message(step.observation.key),
                mode="act" if self._tools.act else "observe",
                known=thread in self._threads,
            )
            if message is not None:
                self._threads.add(thread)
                self._post(self._questions.tell(self._telling.of_step(message, step)), now)

    def _save(self) -> None:
        """Write what has changed since the last commit."""
        watch, rows = self._judge.watch, self._rows
        rows.note_cursors(self._tail.cursors())
        rows.note_states("alerts", watch.alerts)
        rows.note_states("climbs", self._judge.climbs)
        rows.note_rewinds(self._attempts.rewinds)
        if self.gates is not None:
            rows.note("gates", self.gates.body())
        rows.note("remarks", self._remarks.kept())
        rows.note("judged", {**dataclasses.asdict(watch.judged), "new": self._new, "skipped": self._skipped})
        rows.note_run(
            {
                "path": str(self._folder),
                "attempt": self._judge.attempt,
                "attempt_began": self._judge.attempt_began,
                "phase": self.phase,
                "first_seen": self._first_seen,
                "last_step": watch.run_step if self._last_wall is not None else None,
                "last_wall": self._last_wall,
                "trainer": self.trainer.registration.summary,
            }
        )

    def _save_marks(self) -> None:
        """Write which rules cannot be judged; asking them all is dear, so an idle run is asked rarely."""
        self._rows.note("marks", {key: mark for key, mark in self._judge.watch.marks().items() if mark})

    def _post(self, message: Any, now: float) -> None:
        self._tools.mail.post(message, now)

    def _say(self, name: str, severity: str, title: str, text: str, now: float, advice: str = "") -> None:
        self._post(notice(self.name, name, severity, title, text, now, advice), now)
