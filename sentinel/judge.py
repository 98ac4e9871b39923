"""One run's alerts and ladders: samples in, consequences out.

Live and replay both go through here and nowhere else, so the same log gives the same decisions. The judge
keeps what the policy needs to know of a run (rollbacks, suspect stretches, what is under way) and touches no
file and no clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from rules.alert import Alert, AlertState, Transition
from rules.evaluate import Program
from rules.schema import LadderSpec, RuleSpec, Severity
from rules.series import Sample
from rules.verdict import Condition, Mark, Verdict
from rules.watch import Observation, RunWatch
from sentinel.approvals import withdraw
from sentinel.checkpoints import Checkpoint, newest_good, on_descent
from sentinel.climb import Asked
from sentinel.curves import Curves
from sentinel.policy import Action, Book, Climb, Declared, RunFacts, answer, decide, refused
from sentinel.remarks import Remark, Remarks

GRAVE = ("critical", "fatal")
SEVERITIES = get_args(Severity)


@dataclass(frozen=True, slots=True)
class Step:
    """One observation that led to something: a change of state, actions, or both."""

    observation: Observation
    attempt: int
    actions: tuple[Action, ...]

    @property
    def thread(self) -> str:
        """Name the incident within its run: one story per alert and episode."""
        return f"{self.observation.key}#{self.observation.alert.number}"


@dataclass(slots=True)
class Ledger:
    """What a run has been through, as far as the policy asks.

    Attributes:
        rollbacks: (asked at run step, went back to run step), oldest first.
        rewinds: (run step gone back to, wall time) of each attempt after the first.
        actions: wall times of the checkpoints and rollbacks asked for.
        in_flight: verbs of commands without an outcome.
        suspect: closed stretches of wall time under a grave alert.
        open_suspect: where such a stretch began, by alert.
    """

    rollbacks: list[tuple[int, int]] = field(default_factory=list)
    rewinds: list[tuple[int, float]] = field(default_factory=list)
    actions: list[float] = field(default_factory=list)
    in_flight: set[str] = field(default_factory=set)
    suspect: list[tuple[float, float | None]] = field(default_factory=list)
    open_suspect: dict[str, float] = field(default_factory=dict)

    def follow(self, moved: Transition, severity: str) -> None:
        """Open or close a suspect stretch as a grave alert changes state."""
        if severity not in GRAVE:
            return
        if moved.after in (AlertState.PENDING, AlertState.FIRING):
            since = (moved.onset or moved.at).wall_time
            self.open_suspect.setdefault(moved.key, since)
        elif moved.after in (AlertState.INACTIVE, AlertState.RESOLVED, AlertState.PROBATION):
            since_then = self.open_suspect.pop(moved.key, None)
            if since_then is not None:
                self.suspect.append((since_then, moved.at.wall_time))

    def suspicions(self) -> tuple[tuple[float, float | None], ...]:
        """Return every stretch whose checkpoints are not to be trusted."""
        return (*self.suspect, *((since, None) for since in self.open_suspect.values()))


class Judge:
    """The rules, alerts and ladders of one run.

    Attributes:
        watch: the rules and their alerts. climbs: how far each alert has climbed its ladder, by key.
        ledger: what the run has been through.
        catalogue, declared, checkpoint_bytes, unreachable: what is known of the trainer; see RunFacts.
        act: whether ladders are climbed; not while history is caught up with.
        present: the time by which people's time to answer runs out, seconds since the epoch; see RunFacts.
        spared: alerts whose question is being answered, so that no deadline comes between.
        rests: says what a person has asked for that lets an alert's ladder rest; None for nothing.
        sends: whether what is decided is really asked of the trainer, and so under way from then on.
        curves: keeps what was logged, for plots; None where nobody draws. It may be fed by others too.
        remarks: looks for rules that cannot be judged; None where nobody is told of them. remarked: what it
            has found, for the caller to take.
        trace: every observation of the traced keys, for whoever wants to look at them afterwards.
    """

    def __init__(
        self,
        program: Program,
        book: Book,
        *,
        alerts: Iterable[Alert] = (),
        climbs: Iterable[Climb] = (),
        ledger: Ledger | None = None,
        attempt: int = 0,
        attempt_began: int = 0,
        traced: Collection[str] = (),
    ) -> None:
        self.ledger = ledger or Ledger()
        began = self.ledger.rewinds[-1] if self.ledger.rewinds else None
        self.watch = RunWatch(program, book.ladders, alerts, attempt=attempt, began=began, traced=traced)
        self.trace: list[Observation] = []
        self._traced = frozenset(traced)
        self.book = book
        self.climbs: dict[str, Climb] = {climb.key: climb for climb in climbs}
        self.attempt = attempt
        self.attempt_began = attempt_began
        # As of the observation being judged; the watch is already at the end of its batch by then.
        self._firing = {key for key, alert in self.watch.alerts.items() if alert.state is AlertState.FIRING}
        self.catalogue: Callable[[], Sequence[Checkpoint]] | None = None
        self.declared: Declared | None = None
        self.checkpoint_bytes: Callable[[], int] = int
        self.unreachable = ""
        self.present = -math.inf
        self.spared: frozenset[str] = frozenset()
        self.rests: Callable[[str], str | None] = lambda _key: None
        self.act = True
        self.sends = False
        self.curves: Curves | None = None
        self.remarks: Remarks | None = None
        self.remarked: list[Remark] = []

    def samples(self, samples: Sequence[Sample], source: int) -> list[Step]:
        """Judge new samples of one event file, in file order."""
        steps: list[Step] = []
        if self.curves is not None:
            self.curves.take(samples)
        remarks, begin = self.remarks, 0
        if remarks is not None:
            if samples and samples[-1][2] >= remarks.due:
                for index, sample in enumerate(samples):
                    if sample[2] >= remarks.due:
                        steps += self._decide(self.watch.observe(samples[begin : index + 1], source))
                        self.remarked += remarks.look(self.watch, sample[2], tell=self.act)
                        begin = index + 1
            self.remarked += remarks.failures(self.watch)
        return steps + self._decide(self.watch.observe(samples[begin:] if begin else samples, source))

    def silence(self, now: float) -> list[Step]:
        """Judge the passing of time up to `now` (wall time, seconds): staleness, ages, deadlines."""
        return self._decide(self.watch.advance_to(now)) + self._lapse(now)

    def flush(self) -> list[Step]:
        """Close open ticks: no further point belongs to them."""
        return self._decide(self.watch.flush())

    def rewind(
        self, to_step: int, at_wall: float, history: Iterable[tuple[int, Sequence[Sample]]]
    ) -> list[Step]:
        """Begin a new attempt at run step `to_step`; `history` is what stays valid, oldest first."""
        self.attempt += 1
        self.attempt_began = to_step
        self.ledger.rewinds.append((to_step, at_wall))
        return self._decide(self.watch.rewind(to_step, at_wall, history))

    def warm(self, samples: Sequence[Sample], source: int) -> None:
        """Fill the windows from samples that were judged before."""
        self.watch.warm(samples, source)

    def newest_good(self) -> Checkpoint | None:
        """Return the newest checkpoint fit for a rollback by hand: whole, on this line, unsuspected."""
        if self.catalogue is None:
            return None
        return newest_good(self._descent(), math.inf, self.ledger.suspicions())

    def refused(self, key: str, rung: int, at: Mark) -> None:
        """Let a rung whose rollback came to nothing be tried again while its alert fires."""
        climb = self.climbs.get(key)
        if climb is not None:
            self.climbs[key] = refused(climb, self.ladder(self.watch.rule(key)), rung, at)

    @property
    def deadline(self) -> float:
        """When the next question lapses, in seconds since the epoch; infinite where none is open."""
        return min((asked.deadline for asked in self._open().values()), default=math.inf)

    def answer(
        self, key: str, number: int, choice: Literal["act", "hold", "terminate"], who: str, now: float
    ) -> Step | str:
        """Take people's answer to an alert's open question.

        Args:
            key, number: the alert and its episode. choice: see sentinel.policy.answer.
            who: answers, in words. now: wall time by the clock that dates the run's points.

        Returns:
            What follows from it; or why nothing does.
        """
        climb, alert = self.climbs.get(key), self.watch.alerts.get(key)
        if climb is None or alert is None or not self.watch.knows(key) or alert.number != number:
            return "nothing is asked there any more"
        observation = self._standing(key, now)
        ladder, facts = self.ladder(observation.rule), self._facts(observation)
        found = answer(observation, ladder, climb, self.book, facts, choice, who)
        if isinstance(found, str):
            return found
        self.climbs[key], actions = found
        self._count(actions, observation)
        return Step(observation, self.attempt, actions)

    def withdraw(self, why: str, now: float) -> list[Step]:
        """Take back every open question: the run is over."""
        steps = []
        for key in self._open():
            self.climbs[key], actions = withdraw(self.climbs[key], why)
            steps.append(Step(self._standing(key, now), self.attempt, actions))
        return steps

    @property
    def asking(self) -> frozenset[str]:
        """The alerts that wait for people to answer."""
        return frozenset(self._open())

    def _open(self) -> dict[str, Asked]:
        """The questions that wait for people, by alert."""
        asked = {key: climb.asked for key, climb in self.climbs.items() if self.watch.knows(key)}
        return {key: each for key, each in asked.items() if each is not None and not each.lapsed}

    def _lapse(self, now: float) -> list[Step]:
        """Let defaults follow where nobody has answered up to `now`."""
        if not self.act:
            return []
        steps = []
        for key, asked in self._open().items():
            if asked.deadline > now or key in self.spared:
                continue
            observation = self._standing(key, now)
            actions = self._climb(observation)
            if actions:
                steps.append(Step(observation, self.attempt, actions))
        return steps

    def _standing(self, key: str, now: float) -> Observation:
        """An alert as it stands now, where nothing new was logged."""
        alert = self.watch.alerts[key]
        last = alert.last or alert.fired or Mark(0, now, 0, 0)
        at = last._replace(wall_time=max(now, last.wall_time), run_step=self.watch.run_step)
        verdict = Verdict(Condition.BREACH, None, None, alert.value, alert.limit, at)
        return Observation(key, self.watch.rule(key), alert, None, verdict)

    def ladder(self, rule: RuleSpec) -> LadderSpec:
        """Return the ladder a rule climbs: its own, or that of its severity."""
        return self.book.ladders[rule.ladder or "notify"]

    def _decide(self, observations: Iterable[Observation]) -> list[Step]:
        steps = []
        for observation in observations:
            if any(climb.asked is not None for climb in self.climbs.values()):
                steps += self._lapse(observation.verdict.at.wall_time)
            if observation.key in self._traced:
                self.trace.append(observation)
            moved = observation.transition
            firing = observation.alert.state is AlertState.FIRING
            (self._firing.add if firing else self._firing.discard)(observation.key)
            if moved is not None:
                self.ledger.follow(moved, observation.rule.severity)
            actions: tuple[Action, ...] = ()
            if self.act:
                actions = self._climb(observation)
            if moved is not None or actions:
                steps.append(Step(observation, self.attempt, actions))
        return steps

    def _climb(self, observation: Observation) -> tuple[Action, ...]:
        key = observation.key
        climb = self.climbs.get(key, Climb(key))
        if observation.alert.state is not AlertState.FIRING:
            if climb.asked is None or observation.alert.state is AlertState.RECOVERING:
                return ()
            self.climbs[key], actions = withdraw(climb, f"the alert is {observation.alert.state.value}")
            return actions
        if key in self.spared:
            return ()
        ladder, facts = self.ladder(observation.rule), self._facts(observation)
        after, actions = decide(observation, ladder, climb, self.book, facts)
        approval = self.book.approval
        if approval is not None and any(action.asks for action in actions):
            choice: Literal["act", "hold"] = "act" if approval == "all" else "hold"
            who = f"--approve {approval}"
            found = answer(observation, ladder, after, self.book, facts, choice, who)
            if not isinstance(found, str):
                after, actions = found[0], actions + found[1]
        if after is not climb:
            self.climbs[key] = after
        self._count(actions, observation)
        return actions

    def _count(self, actions: Sequence[Action], observation: Observation) -> None:
        """Note what was asked of the trainer, as far as the policy asks."""
        for action in actions:
            if action.withheld or action.verb == "notify":
                continue
            if self.sends:  # at once, since the next observation of this very batch must know
                self.ledger.in_flight.add(action.verb)
            if action.verb != "terminate":
                self.ledger.actions.append(observation.verdict.at.wall_time)

    def _facts(self, observation: Observation) -> RunFacts:
        ledger = self.ledger
        return RunFacts(
            now=observation.verdict.at.wall_time,
            catalogue=None if self.catalogue is None else self._descent,
            declared=self.declared,
            rollbacks=tuple(ledger.rollbacks),
            attempt_began=self.attempt_began,
            suspect=ledger.suspicions(),
            actions=tuple(wall for wall in ledger.actions if observation.verdict.at.wall_time - wall < 3600),
            in_flight=frozenset(ledger.in_flight),
            inhibited_by=self.rests(observation.key) or self._inhibitor(observation.rule),
            others_exhausted=any(climb.exhausted for climb in self.climbs.values()),
            checkpoint_bytes=self.checkpoint_bytes,
            unreachable=self.unreachable,
            present=self.present,
        )

    def _descent(self) -> list[Checkpoint]:
        """List the checkpoints on the present line of descent."""
        assert self.catalogue is not None, "asked only where there is one"
        return on_descent(self.catalogue(), self.ledger.rewinds)

    def _inhibitor(self, rule: RuleSpec) -> str | None:
        """Name a firing rule that mutes this one; a fatal rule is never muted."""
        if rule.severity == "fatal":
            return None
        muting = (key for key in sorted(self._firing) if self._mutes(self.watch.rule(key), rule))
        return next((key for key in muting if not self._yields(self.watch.rule(key), rule)), None)

    def _yields(self, firing: RuleSpec, rule: RuleSpec) -> bool:
        """Of two rules that mute each other the milder one is muted, or the second by name; never both."""
        if not self._mutes(rule, firing):
            return False
        return (SEVERITIES.index(firing.severity), rule.name) < (SEVERITIES.index(rule.severity), firing.name)

    def _mutes(self, firing: RuleSpec, rule: RuleSpec) -> bool:
        if firing.name == rule.name:
            return False
        return rule.name in firing.inhibits or any(
            spec.when.get("rule") == firing.name
            and (rule.severity in spec.mute.get("severity", ()) or rule.name in spec.mute.get("rule", ()))
            for spec in self.book.inhibit
        )
