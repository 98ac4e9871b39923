"""One run that is being watched: what is new in it goes through the judge, and what follows goes into the
journal.

Everything here happens inside the tick's transaction; letters, signals and messages leave only after its
commit.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rules.alert import Alert, AlertState, Held, Transition
from rules.series import Sample
from rules.verdict import Mark
from rules.watch import Judged
from sentinel.attempts import Attempts, Rewind
from sentinel.checkpoints import Checkpoint
from sentinel.clock import Clock
from sentinel.config import Settings
from sentinel.control import announced
from sentinel.dispatch import Dispatch, Settled
from sentinel.journal import Journal, to_json
from sentinel.judge import GRAVE, Judge, Ledger, Step
from sentinel.mail import Mail
from sentinel.policy import Action, Climb
from sentinel.probes import Probes
from sentinel.registration import Registration
from sentinel.replay import action_as_json
from sentinel.story import notice, outcome, tell
from sentinel.tail import Hurt, RunTail

Phase: TypeAlias = Literal["live", "finished", "past", "gone"]

QUIET_SECONDS = 2.0
"""A tick is over when its file has been silent for this long (rules: ticks)."""

MARKS_EVERY = 30.0
"""Seconds between two looks at what keeps the rules of an idle run from being judged."""

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


class LiveRun:
    """A run under watch."""

    def __init__(self, name: str, folder: Path, tools: Tools, now: float) -> None:
        """Take up a run: as it was left, if the journal knows it, else from its beginning."""
        self.name = name
        self._tools = tools
        self._journal = tools.journal
        rows = self._journal.rows("SELECT * FROM runs WHERE run = ?", name)
        judged = self._load_judged()
        self._new = bool(judged.get("new", not rows))
        self._history_ends = now - (FRESH_SECONDS if self._new else PAST_SECONDS)
        self.phase: Phase = rows[0]["phase"] if rows else "live"
        self._first_seen = rows[0]["first_seen"] if rows else now
        rewinds = self._load_rewinds()
        self._judge = Judge(
            tools.settings.program,
            tools.settings.book,
            alerts=[read_alert(r["body"]) for r in self._bodies("alerts")],
            climbs=[read_climb(r["body"]) for r in self._bodies("climbs")],
            ledger=self._load_ledger(rewinds),
            attempt=len(rewinds),
            attempt_began=rewinds[-1].to_step if rewinds else 0,
        )
        self._tail = RunTail(folder, self._journal.cursors(name).values())
        self._attempts = Attempts(self._judge, self._tail, rewinds, self._load_probes())
        self._registration = Registration(folder)
        self._hear_of_attempts()
        self._attempts.refill()
        self._judge.watch.resume(Judged(judged.get("due"), tuple(judged.get("open", ()))))
        self._saved: dict[str, Any] = {}
        self._judge.checkpoint_bytes = self._registration.checkpoint_bytes
        self._judge.sends = tools.act
        self._probes = Probes(folder)
        self._dispatch = Dispatch(
            name, folder, self._journal, tools.settings.patience, tools.clock, act=tools.act
        )
        self._threads = tools.mail.threads(name)
        self._folder = folder
        self._last_wall: float | None = rows[0]["last_wall"] if rows else None
        self._last_growth: float | None = None
        self._flushed = not self._judge.watch.judged.open
        self._blind: set[str] = set()

        self._marked = float("-inf")
        self.is_blind = False

    # ── one look, inside the transaction ──

    def look(self, files: Sequence[Path], now: float, monotonic: float) -> bool:
        """Read, judge and record whatever is new; returns whether there was anything."""
        if self._last_growth is None:
            self._last_growth = monotonic - self._silent_before(now)
        if self.phase == "gone":
            self.phase = "live"
        self._meet_trainer(now)
        self._follow_commands(now)
        chunks, hurt = self._tail.read(files)
        self._record_damage(hurt, now)
        self.is_blind = bool(hurt) and not chunks and all(stretch.length == 0 for stretch in hurt)
        for chunk in chunks:
            for part, may_act in self._by_age(chunk.samples):
                self._judge.act = may_act
                self._record(self._attempts.take(dataclasses.replace(chunk, samples=part)), now)
                chunk = dataclasses.replace(chunk, start=None)  # noqa: PLW2901  only the first part begins an attempt
        self._judge.act = True
        if chunks:
            self._last_growth, self._flushed = monotonic, False
            self._last_wall = max((c.samples[-1][2] for c in chunks if c.samples), default=self._last_wall)
            self._wake_up()
        elif not self._flushed and monotonic - self._last_growth >= QUIET_SECONDS:
            self._flushed = True
            self._judge.act = self._last_wall is not None and self._last_wall >= self._history_ends
            self._record(self._judge.flush(), now)
            self._judge.act = True
        if not self._tail.behind:  # what lies between may hold points: it is no silence yet, and no present
            self._let_time_pass(now)
            self._new = False
        self._follow_commands(now)  # what was just asked goes out with this commit
        if chunks or monotonic - self._marked >= MARKS_EVERY:
            self._marked = monotonic
            self._save_marks()
        self._save()
        return bool(chunks)

    def deliver(self) -> None:
        """Carry out what the commit has made certain: write letters, ring, escalate."""
        self._dispatch.perform()

    def beat(self, record: dict[str, Any]) -> None:
        """Leave the sentinel's heartbeat where the trainer's guard looks for it."""
        self._registration.leave_heartbeat(record)

    def vanish(self, now: float) -> None:
        """Note that the run's folder is gone."""
        if self.phase != "gone":
            self.phase = "gone"
            self._say(
                "gone", "warning", "the run's folder is gone", f"{self._folder} is not there any more", now
            )
            self._save()

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
                return f"{which} in {self.name}; nothing was asked"
            checkpoint, to_step = found.name, found.step
        if self._registration.record is None:
            return f"{self.name}: {self._registration.unreachable}; nothing was asked"
        self._dispatch.ask(
            verb,
            checkpoint=checkpoint,
            to_step=to_step,
            set=changes,
            reinit=tuple(reinit),
            reason=why,
            asked_step=self._judge.watch.run_step,
            attempt=self._registration.attempt,
            now=now,
            request=request,
        )
        return ""

    def _wanted(self, name: str | None) -> Checkpoint | None:
        """The checkpoint a person named, however suspect, or the newest good one."""
        if name is None:
            return self._judge.newest_good()
        known = self._judge.catalogue() if self._judge.catalogue else ()
        return next((c for c in known if c.name == name and c.verified), None)

    # ── parts of a look ──

    def _meet_trainer(self, now: float) -> None:
        known, before = self._registration.known, self._registration.attempt
        fresh = self._registration.refresh()
        self._judge.unreachable = self._registration.unreachable if self._tools.act else ""
        if not fresh:
            return
        if known and self._registration.attempt > before:
            self._attempts.announce(now, None)
        self._hear_of_attempts()
        self._judge.declared = self._registration.declared
        self._judge.catalogue = self._registration.catalogue
        if self._registration.finished and self.phase == "live":
            self.phase = "finished"
            word = self._registration.outcome or "finished"
            severity = "info" if word == "finished" else "warning"
            self._say("end", severity, f"run {word}", f"the trainer said that the run is {word}", now)
        elif not self._registration.finished and self.phase != "live":
            self.phase = "live"

    def _hear_of_attempts(self) -> None:
        for wall, step in announced(self._registration.control):
            self._attempts.announce(wall, step)

    def _follow_commands(self, now: float) -> None:
        for settled in self._dispatch.follow(self._registration, now):
            self._settle(settled, now)
        self._judge.ledger.in_flight = self._dispatch.in_flight

    def _settle(self, settled: Settled, now: float) -> None:
        row = settled.row
        if settled.final and row["verb"] == "rollback":
            if row["state"] == "done":
                self._hear_of_attempts()
                self._judge.ledger.rollbacks.append(_gone_back(row))
            elif row["key"] is not None:
                alert = self._judge.watch.alerts.get(row["key"])
                if alert is not None and alert.last is not None:
                    self._judge.refused(row["key"], row["rung"], alert.last)
        known = row["key"] is not None and self._judge.watch.knows(row["key"])
        if not known or row["thread"] not in self._threads:
            self._say(f"command-{row['id']}", "info", f"{row['verb']} {row['state']}", settled.sentence, now)
            return
        severity = self._judge.watch.rule(row["key"]).severity
        self._post(outcome(self.name, row["thread"], row["key"], severity, row, now), now)

    def _by_age(self, samples: Sequence[Sample]) -> list[tuple[Sequence[Sample], bool]]:
        """Part history, while it is caught up with, from what is fresh enough to act upon."""
        if not samples or samples[0][2] >= self._history_ends:
            return [(samples, True)]
        cut = next((i for i, s in enumerate(samples) if s[2] >= self._history_ends), len(samples))
        parts: list[tuple[Sequence[Sample], bool]] = [(samples[:cut], False), (samples[cut:], True)]
        return [(part, may_act) for part, may_act in parts if part] or [(samples, True)]

    def _wake_up(self) -> None:
        if self.phase in ("past", "gone") and not self._registration.finished:
            self.phase = "live"

    def _let_time_pass(self, now: float) -> None:
        if self._new and self.phase == "live" and self._is_past(now):
            self.phase = "past"
        if self.phase != "live":
            return
        found = self._probes.measure(self._registration, now)
        for tag, step, wall, value in found:
            self._journal.add("probes", run=self.name, tag=tag, step=step, wall_time=wall, value=value)
        if found:
            self._record(self._attempts.probe(found), now)
        self._record(self._judge.silence(now), now)

    def _silent_before(self, now: float) -> float:
        """Seconds for which the file was silent before this process began, as far as they matter."""
        silent = QUIET_SECONDS if self._last_wall is None else now - self._last_wall
        return min(max(silent, 0.0), QUIET_SECONDS)  # the trainer's clock may be another

    def _is_past(self, now: float) -> bool:
        silent = self._last_wall is None or now - self._last_wall > PAST_SECONDS
        return (
            silent
            and not self._registration.alive
            and (self._last_wall is not None or not self._registration.known)
        )

    def _record_damage(self, hurt: Sequence[Hurt], now: float) -> None:
        for stretch in hurt:
            seen = f"{stretch.path}/{stretch.offset}/{stretch.length}/{stretch.reason}"
            if seen in self._blind:
                continue
            self._blind.add(seen)
            self._journal.add(
                "damage",
                run=self.name,
                path=stretch.path,
                offset=stretch.offset,
                length=stretch.length,
                reason=stretch.reason,
                wall_time=now,
            )
            what = f"{stretch.length} bytes at byte {stretch.offset}" if stretch.length else "all of it"
            self._say(
                "blind",
                "warning",
                "part of the metrics cannot be read",
                f"{stretch.path}: {what}: {stretch.reason}. What was logged there was not judged.",
                now,
            )

    # ── rows ──

    def _record(self, steps: Sequence[Step], now: float) -> None:
        for step in steps:
            self._record_transition(step, now)
            thread = f"{self.name}/{step.thread}"
            if not self._judge.act and thread not in self._threads:
                continue  # history; but a story that people have been told goes on
            for action in step.actions:
                if self._tools.act and not action.withheld and action.verb != "notify":
                    self._ask(step, action, now)
            message = tell(
                self.name,
                step,
                self._judge.watch.message(step.observation.key),
                mode="act" if self._tools.act else "observe",
                known=thread in self._threads,
            )
            if message is not None:
                self._threads.add(thread)
                self._post(message, now)

    def _ask(self, step: Step, action: Action, now: float) -> None:
        self._dispatch.ask(
            action.verb,
            checkpoint=action.checkpoint,
            to_step=action.to_step,
            set=dict(action.set or {}),
            reinit=action.reinit,
            reason=action.reason,
            asked_step=step.observation.verdict.at.run_step,
            attempt=self._registration.attempt,
            now=now,
            key=step.observation.key,
            rung=action.rung,
            thread=f"{self.name}/{step.thread}",
        )
        self._judge.ledger.in_flight = self._dispatch.in_flight

    def _record_transition(self, step: Step, now: float) -> None:
        alert, at, moved = step.observation.alert, step.observation.verdict.at, step.observation.transition
        onset = moved.onset if moved else alert.onset
        self._journal.add(
            "transitions",
            run=self.name,
            attempt=step.attempt,
            key=step.observation.key,
            number=alert.number,
            before=(moved.before if moved else alert.state).value,
            after=(moved.after if moved else alert.state).value,
            step=at.step,
            run_step=at.run_step,
            wall_time=at.wall_time,
            onset_step=onset.step if onset else None,
            onset_run_step=onset.run_step if onset else None,
            onset_wall=onset.wall_time if onset else None,
            value=alert.value,
            bound=alert.limit,
            severity=step.observation.rule.severity,
            reason=moved.reason if moved else "",
            actions=to_json([action_as_json(action) for action in step.actions]),
            recorded=now,
        )

    def _save(self) -> None:
        """Write what has changed since the last commit, and nothing else: an idle tick costs no disk."""
        watch = self._judge.watch
        for cursor in self._tail.cursors():
            self._put(f"cursor/{cursor.path}", cursor, "cursors", run=self.name, **dataclasses.asdict(cursor))
        kept: dict[str, Mapping[str, Alert | Climb]] = {"alerts": watch.alerts, "climbs": self._judge.climbs}
        for table, states in kept.items():
            for key, state in states.items():
                if state is not self._saved.get(f"{table}/{key}"):  # spares the encoding of what stands still
                    body = to_json(dataclasses.asdict(state))
                    self._put(f"{table}/{key}", state, table, run=self.name, key=key, body=body)
        for rewind in self._attempts.rewinds:
            self._put(
                f"rewind/{rewind.attempt}", rewind, "rewinds", run=self.name, **dataclasses.asdict(rewind)
            )
        judged = {**dataclasses.asdict(watch.judged), "new": self._new}
        self._put("judged", judged, "meta", name=f"judged/{self.name}", value=to_json(judged))
        row = {
            "path": str(self._folder),
            "attempt": self._judge.attempt,
            "attempt_began": self._judge.attempt_began,
            "phase": self.phase,
            "first_seen": self._first_seen,
            "last_step": watch.run_step if self._last_wall is not None else None,
            "last_wall": self._last_wall,
            "trainer": self._registration.summary,
        }
        self._put("run", row, "runs", run=self.name, **row)

    def _save_marks(self) -> None:
        """Write which rules cannot be judged; asking them all is dear, so an idle run is asked rarely."""
        marks = {key: mark for key, mark in self._judge.watch.marks().items() if mark}
        self._put("marks", marks, "meta", name=f"marks/{self.name}", value=to_json(marks))

    def _put(self, slot: str, state: object, table: str, **columns: object) -> None:
        if self._saved.get(slot) != state:
            self._saved[slot] = state
            self._journal.put(table, **columns)

    def _post(self, message: Any, now: float) -> None:
        self._tools.mail.post(message, now)

    def _say(self, name: str, severity: str, title: str, text: str, now: float) -> None:
        self._post(notice(self.name, name, severity, title, text, now), now)

    # ── taking up where the last process stopped ──

    def _bodies(self, table: str) -> Sequence[Any]:
        return self._journal.rows(f"SELECT body FROM {table} WHERE run = ?", self.name)  # noqa: S608  our own two names

    def _load_judged(self) -> dict[str, Any]:
        rows = self._journal.rows("SELECT value FROM meta WHERE name = ?", f"judged/{self.name}")
        found: dict[str, Any] = json.loads(rows[0]["value"]) if rows else {}
        return found

    def _load_rewinds(self) -> list[Rewind]:
        rows = self._journal.rows("SELECT * FROM rewinds WHERE run = ? ORDER BY attempt", self.name)
        return [Rewind(r["attempt"], r["to_step"], r["kept_until"], r["wall_time"]) for r in rows]

    def _load_probes(self) -> list[Sample]:
        rows = self._journal.rows("SELECT * FROM probes WHERE run = ? ORDER BY wall_time", self.name)
        return [(r["tag"], r["step"], r["wall_time"], r["value"]) for r in rows]

    def _load_ledger(self, rewinds: Sequence[Rewind]) -> Ledger:
        """Build the ledger again from the rows that recorded what it stands for."""
        ledger = Ledger(rewinds=[(r.to_step, r.wall_time) for r in rewinds])
        for row in self._journal.rows("SELECT * FROM transitions WHERE run = ? ORDER BY id", self.name):
            if row["before"] != row["after"] and row["severity"] in GRAVE:
                ledger.follow(_as_transition(row), row["severity"])
            for action in json.loads(row["actions"]):
                if action["verb"] in ("checkpoint", "rollback") and "withheld" not in action:
                    ledger.actions.append(row["wall_time"])
        for row in self._journal.rows(
            "SELECT * FROM commands WHERE run = ? AND verb = 'rollback' AND state = 'done' ORDER BY id",
            self.name,
        ):
            ledger.rollbacks.append(_gone_back(row))
        return ledger


def _gone_back(row: Any) -> tuple[int, int]:
    """Return from where and to where a rollback went, in run steps."""
    return row["asked_step"], row["asked_step"] if row["checkpoint_step"] is None else row["checkpoint_step"]


def _as_transition(row: Any) -> Transition:
    at = Mark(row["step"], row["wall_time"], 0, row["run_step"])
    onset = None
    if row["onset_wall"] is not None:
        onset = Mark(row["onset_step"], row["onset_wall"], 0, row["onset_run_step"])
    return Transition(
        row["key"],
        AlertState(row["before"]),
        AlertState(row["after"]),
        at,
        onset,
        row["value"],
        row["bound"],
        row["reason"],
    )


def _mark(value: list[Any] | None) -> Mark | None:
    return None if value is None else Mark(*value)


def read_alert(text: str) -> Alert:
    """Read an alert back from its row."""
    body = json.loads(text)
    marks = {name: _mark(body[name]) for name in ("onset", "last", "fired", "quiet_since", "probation_since")}
    return Alert(**{**body, **marks, "state": AlertState(body["state"]), "held": Held(**body["held"])})


def read_climb(text: str) -> Climb:
    """Read a climb back from its row."""
    body = json.loads(text)
    marks = {name: _mark(body[name]) for name in ("fired", "waiting_since")}
    return Climb(**{**body, **marks, "uses": tuple(body["uses"]), "told": tuple(body["told"])})
