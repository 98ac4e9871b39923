"""From an alert to an action: ladders, tries, cool-downs, budgets and the rollback's target. Pure.

A ladder is climbed while its alert fires. The climb starts anew each time the alert begins to fire, but what
has been used up stays used up for the whole run: counters that a rollback resets would let a run roll back
for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from rules.alert import Alert, AlertState
from rules.schema import InhibitSpec, LadderSpec, LimitsSpec, RemedySpec, RungSpec, Span, TrySpec, Verb
from rules.verdict import Condition, Mark
from rules.watch import Observation
from sentinel.checkpoints import Checkpoint, newest_good
from sentinel.resume import resolve

Setting: TypeAlias = float | int | bool | str


@dataclass(frozen=True, slots=True)
class Climb:
    """How far one alert has climbed its ladder, and what it has used up in this run.

    Attributes:
        key: the alert.
        fired: where the alert began to fire; a new value starts a new climb.
        rung: index of the rung that comes next.
        waiting_since: from where the next rung's `after` is measured.
        uses: how often each rung was taken in this run.
        next_try: index of the remedy's next try.
        last_target: run step of the checkpoint last rolled back to; an older one comes next within the
            cool-down.
        target_number: the alert's number when that was asked for: the same number is the same trouble.
        target_before: what `last_target` was before the last rollback was asked for; it counts again if that
            comes to nothing.
        exhausted: a rollback was due and none was left.
        told: what was said or done already at a rung that is still due in this climb, so that it is once.
    """

    key: str
    fired: Mark | None = None
    rung: int = 0
    waiting_since: Mark | None = None
    uses: tuple[int, ...] = ()
    next_try: int = 0
    last_target: int | None = None
    target_number: int = 0
    target_before: int | None = None
    exhausted: bool = False
    told: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Declared:
    """What the trainer said of itself: which parameters and verbs a command may name.

    Attributes:
        values: parameters and their present values. reinit: parts that can be given fresh weights.
        verbs: what it can be asked for.
        open: an absolute value may be given to any parameter (it becomes a part of a resume command).
        bounds: (low, high) by parameter, where the sentinel has to see to them; a None is no bound.
        never: verbs that nobody can be asked for here, and why; a ladder passes them over.
    """

    values: Mapping[str, Setting]
    reinit: frozenset[str]
    verbs: frozenset[str]
    open: bool = False
    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    never: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the policy needs to know of a run beside the alert itself.

    Attributes:
        now: wall time of the decision, in seconds since the epoch.
        catalogue: lists the checkpoints on the present line of descent when asked (hashing is not free); None
            where there is no catalogue.
        declared: what the trainer declared; None when nobody did (a replay, a job without the guard).
        rollbacks: run steps (asked at, went back to) of this run's rollbacks, oldest first.
        attempt_began: run step at which the present attempt began.
        suspect: wall-time intervals in which a critical rule was pending or firing; an open one ends with
            None.
        actions: wall times of this run's checkpoints and rollbacks asked for.
        in_flight: verbs of commands without an outcome.
        inhibited_by: the firing rule that mutes this one, if any.
        others_exhausted: another ladder of this run has used up its rollbacks.
        checkpoint_bytes: says, when asked, what the run's checkpoints take on disk.
        unreachable: why no command can reach the trainer; empty where one can.
    """

    now: float
    catalogue: Callable[[], Sequence[Checkpoint]] | None = None
    declared: Declared | None = None
    rollbacks: tuple[tuple[int, int], ...] = ()
    attempt_began: int = 0
    suspect: tuple[tuple[float, float | None], ...] = ()
    actions: tuple[float, ...] = ()
    in_flight: frozenset[str] = frozenset()
    inhibited_by: str | None = None
    others_exhausted: bool = False
    checkpoint_bytes: Callable[[], int] = int
    unreachable: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do, or one that was due and is withheld, with the reason in words.

    Attributes:
        verb: what. withheld: it is told, and not done.
        checkpoint, to_step: a rollback's target; both None where there is no catalogue.
        set, reinit: a rollback's remedy.
        reason: why it is done or not done.
        rung: index of the rung that asked.
    """

    verb: Verb
    reason: str
    withheld: bool = False
    checkpoint: str | None = None
    to_step: int | None = None
    set: Mapping[str, Setting] | None = None
    reinit: tuple[str, ...] = ()
    rung: int = 0


@dataclass(frozen=True, slots=True)
class Book:
    """The parts of a configuration that the policy reads."""

    ladders: Mapping[str, LadderSpec]
    remedies: Mapping[str, RemedySpec]
    limits: LimitsSpec
    inhibit: tuple[InhibitSpec, ...] = ()


def decide(
    observation: Observation, ladder: LadderSpec, climb: Climb, book: Book, facts: RunFacts
) -> tuple[Climb, tuple[Action, ...]]:
    """Say what one evaluation of one alert asks for.

    Args:
        observation: the alert as it now stands, with its transition if it made one.
        ladder: the ladder that its rule names.
        climb: what this alert has climbed and used up so far.
        book: remedies and limits.
        facts: the run.

    Returns:
        The climb after it, and the actions in the order in which they are to be taken.
    """
    alert, at = observation.alert, observation.verdict.at
    if alert.state is not AlertState.FIRING or facts.inhibited_by is not None:
        return climb, ()
    if observation.verdict.condition is Condition.UNKNOWN and observation.transition is None:
        return climb, ()  # nothing is done about what cannot be seen
    if climb.fired != alert.fired:
        first = _start(observation, ladder)
        climb = replace(climb, fired=alert.fired, rung=first, waiting_since=alert.fired, told=())
    actions: tuple[Action, ...] = ()
    go_on = True
    while go_on and climb.rung < len(ladder.rungs):
        rung = ladder.rungs[climb.rung]
        if rung.when == "exhausted":
            go_on = _exhausted(climb, ladder, book.limits, facts)
        else:
            go_on = _waited(rung.after, climb.waiting_since, at)
        if go_on:
            climb, taken, go_on = _take(observation, ladder, climb, book, facts)
            facts = _after(facts, taken)
            actions += taken
    return climb, actions


def refused(climb: Climb, ladder: LadderSpec, rung: int, at: Mark) -> Climb:
    """Go back to a rung whose rollback was refused, failed or never answered: it is tried again while the
    alert fires.

    Its use stays counted, so a trainer that always refuses exhausts the ladder instead of being asked for
    ever. The checkpoint was not gone back to, so it is no worse a target than before.
    """
    if rung >= len(ladder.rungs) or "rollback" not in ladder.rungs[rung].do:
        return climb
    return replace(climb, rung=rung, waiting_since=at, last_target=climb.target_before)


def _start(observation: Observation, ladder: LadderSpec) -> int:
    """Say where a climb begins: at the bottom, or at the first rollback for an alarm that fell silent without
    recovery.
    """
    moved = observation.transition
    suppressed = (
        moved is not None
        and moved.before is AlertState.PROBATION
        and observation.verdict.condition is not Condition.BREACH
    )
    if not suppressed:
        return 0
    return next((i for i, rung in enumerate(ladder.rungs) if "rollback" in rung.do), 0)


def _waited(after: Span | None, since: Mark | None, at: Mark) -> bool:
    if after is None:
        return True
    if since is None:
        return False
    return elapsed(after.unit, since, at) >= after.amount


def elapsed(unit: Literal["points", "steps", "seconds", "checkpoints"], since: Mark, at: Mark) -> float:
    """Measure from one mark to another; steps are run steps, since ladders are about the trainer and not a
    series.
    """
    match unit:
        case "points":
            return at.points - since.points
        case "steps":
            return at.run_step - since.run_step
        case "seconds":
            return at.wall_time - since.wall_time
        case "checkpoints":
            return 0.0


def _limit(rung: RungSpec) -> float:
    """How often a rung may be taken in one run: rollbacks once unless told otherwise."""
    if rung.max is not None:
        return rung.max
    return 1 if "rollback" in rung.do else float("inf")


def _exhausted(climb: Climb, ladder: LadderSpec, limits: LimitsSpec, facts: RunFacts) -> bool:
    """Say whether the rollbacks this ladder could hope for are used up: its own, or for a ladder without one
    the run's.
    """
    if climb.exhausted or _spent(limits, facts):
        return True
    has_own = any("rollback" in rung.do for rung in ladder.rungs)
    return not has_own and facts.others_exhausted


def _spent(limits: LimitsSpec, facts: RunFacts) -> bool:
    return len(facts.rollbacks) >= limits.max_rollbacks


def _take(
    observation: Observation, ladder: LadderSpec, climb: Climb, book: Book, facts: RunFacts
) -> tuple[Climb, tuple[Action, ...], bool]:
    """Take the climb's next rung, or say why it is not taken; the last value says whether the rung after it
    may follow now.

    What asks the trainer to roll back or end is waited for: it stays due while it is withheld. A rollback
    that is used up, or has no try left, is passed over and leaves the ladder exhausted.
    """
    index = climb.rung
    rung = ladder.rungs[index]
    uses = climb.uses + (0,) * (len(ladder.rungs) - len(climb.uses))
    goes_back = "rollback" in rung.do
    if uses[index] >= _limit(rung) or (goes_back and _spent(book.limits, facts)):
        return replace(climb, rung=index + 1, exhausted=climb.exhausted or goes_back), (), True

    actions: list[Action] = []
    next_try, last_target = climb.next_try, climb.last_target
    for verb in rung.do:
        facts = _after(facts, actions[-1:])
        if verb == "rollback":
            action, next_try = _rollback(observation, rung, climb, book, facts)
            last_target = climb.last_target if action.withheld else action.to_step
        else:
            action = _plain(verb, observation, book.limits, facts, index)
        actions.append(action)

    waits = [a for a in actions if a.withheld and a.verb in ("rollback", "terminate")]
    said = tuple(a for a in actions if _once(a) not in climb.told)
    remembered = tuple(_once(a) for a in said if a.withheld or waits)
    climb = replace(climb, told=climb.told + remembered)
    if any(a.reason.startswith(_NO_TRY) or a.reason == _never(a.verb, facts) for a in waits):
        return replace(climb, rung=index + 1, exhausted=climb.exhausted or goes_back), said, True
    if waits:
        return climb, said, False
    climb = replace(
        climb,
        rung=index + 1,
        uses=(*uses[:index], uses[index] + 1, *uses[index + 1 :]),
        next_try=next_try,
        last_target=last_target,
        target_number=observation.alert.number if goes_back else climb.target_number,
        target_before=climb.last_target if goes_back else climb.target_before,
    )
    return climb, said, not goes_back


def _after(facts: RunFacts, taken: Sequence[Action]) -> RunFacts:
    """Count what was just asked for, so that the next rung of the same moment knows of it."""
    asked = [a.verb for a in taken if a.verb != "notify" and not a.withheld]
    if not asked:
        return facts
    counted = tuple(facts.now for verb in asked if verb != "terminate")
    return replace(facts, actions=facts.actions + counted, in_flight=facts.in_flight.union(asked))


def _once(action: Action) -> str:
    """Name what is said or done once while its rung stays due: a reason, or a deed."""
    return f"{action.rung} {action.verb} {action.reason if action.withheld else ''}"


_NO_TRY = "no try of remedy"


def _plain(verb: Verb, observation: Observation, limits: LimitsSpec, facts: RunFacts, index: int) -> Action:
    """Notify, checkpoint or terminate, within the run's limits."""
    why = f"{observation.key} is firing"
    if verb == "notify":
        return Action(verb, why, rung=index)
    blocked = _blocked(verb, limits, facts)
    if blocked:
        return Action(verb, blocked, withheld=True, rung=index)
    return Action(verb, why, rung=index)


def _never(verb: Verb, facts: RunFacts) -> str:
    return facts.declared.never.get(verb, "") if facts.declared is not None else ""


def _blocked(verb: Verb, limits: LimitsSpec, facts: RunFacts) -> str:
    """Give the reason why a verb may not be asked of the trainer now, or an empty string."""
    if facts.unreachable:
        return facts.unreachable
    if "terminate" in facts.in_flight:
        return "the run is being ended"
    if _never(verb, facts):
        return _never(verb, facts)
    if verb == "terminate":
        return ""
    if facts.declared is not None and verb not in facts.declared.verbs:
        return f"the trainer does not know the command {verb!r}"
    if "rollback" in facts.in_flight:
        return "a rollback is under way"
    if verb == "checkpoint" and "checkpoint" in facts.in_flight:
        return "a checkpoint is under way"
    recent = sum(1 for wall in facts.actions if facts.now - wall < 3600)
    if recent >= limits.max_actions_per_hour:
        return (
            f"the hour's actions are used up, [limits] max_actions_per_hour = {limits.max_actions_per_hour}"
        )
    if verb == "checkpoint" and facts.checkpoint_bytes() > limits.checkpoint_budget_gb * 1e9:
        return (
            "the run's checkpoints take more than [limits] checkpoint_budget_gb = "
            f"{limits.checkpoint_budget_gb:g}"
        )
    return ""


def _rollback(
    observation: Observation, rung: RungSpec, climb: Climb, book: Book, facts: RunFacts
) -> tuple[Action, int]:
    """Choose target and remedy of a rollback; returns it (perhaps withheld) and the index of the try after
    it.
    """

    def withhold(reason: str) -> tuple[Action, int]:
        return Action("rollback", reason, withheld=True, rung=climb.rung), climb.next_try

    limits, at = book.limits, observation.verdict.at
    blocked = _blocked("rollback", limits, facts)
    if blocked:
        return withhold(blocked)
    if facts.rollbacks:
        progress = at.run_step - facts.attempt_began
        if progress < limits.min_progress_between.amount:
            return withhold(
                "too little progress since the last rollback, [limits] min_progress_between = "
                f"{limits.min_progress_between.amount:g} steps"
            )
    choice = _choose_try(rung, climb, book, facts, observation.alert)
    if isinstance(choice, str):
        return withhold(choice)
    number, chosen, skipped = choice

    onset = observation.alert.onset or at
    before = onset.run_step - _margin_steps(rung)
    target: Checkpoint | None = None
    if facts.catalogue is not None:
        older_than = climb.last_target if _repeats(rung, climb, observation.alert) else None
        good = newest_good(facts.catalogue(), before, facts.suspect, older_than=older_than)
        target = _skip(good, rung, facts, before)
        if target is None:
            return withhold(_no_target(facts.catalogue(), before, older_than))
    reason = "; ".join([f"{observation.key} still firing, onset at step {onset.run_step}", *skipped])
    action = Action(
        "rollback",
        reason,
        checkpoint=target.name if target else None,
        to_step=target.step if target else None,
        set=dict(chosen.set) if chosen else {},
        reinit=chosen.reinit if chosen else (),
        rung=climb.rung,
    )
    return action, number + 1


def _repeats(rung: RungSpec, climb: Climb, alert: Alert) -> bool:
    """Say whether this is the trouble that was rolled back before: the same episode, which a rollback did not
    end, or one that began to fire within the cool-down.
    """
    if climb.last_target is None or alert.fired is None:
        return False
    if rung.cooldown is None or alert.number == climb.target_number:
        return True
    return alert.fired.run_step - climb.last_target <= rung.cooldown.amount


def _choose_try(
    rung: RungSpec, climb: Climb, book: Book, facts: RunFacts, alert: Alert
) -> tuple[int, TrySpec | None, list[str]] | str:
    """Pick the first try that the trainer can carry out and that changes something, or say why there is none.

    Returns:
        The try's index, the try, and in words what was skipped on the way to it; or the reason.
    """
    if rung.remedy is None:
        if book.limits.require_remedy:
            return "a rollback without a remedy repeats the failure, [limits] require_remedy = true"
        return 0, None, []
    tries = book.remedies[rung.remedy].tries
    first = climb.next_try if _repeats(rung, climb, alert) else 0
    skipped: list[str] = []
    for number, candidate in enumerate(tries[first:], start=first):
        why_not = _cannot(candidate, facts.declared)
        if not why_not:
            return number, candidate, [f"{said}, skipped" for said in skipped]
        skipped.append(f"try {number + 1} {why_not}")
    detail = "; ".join(skipped) if skipped else f"all {len(tries)} were used"
    return f"{_NO_TRY} {rung.remedy!r} is left: {detail}"


def _cannot(candidate: TrySpec, declared: Declared | None) -> str:
    if declared is None:
        return ""
    unknown = sorted(set(candidate.set) - set(declared.values)) if not declared.open else []
    unknown += sorted(set(candidate.reinit) - declared.reinit)
    if unknown:
        return f"names {', '.join(unknown)}, which the trainer has not declared"
    if declared.open:
        found = resolve(candidate.set, declared.values, declared.bounds)
        if isinstance(found, str):
            return f"cannot be carried out: {found}"
    changes = any(
        name not in declared.values or _differs(declared.values[name], value)
        for name, value in candidate.set.items()
    )
    return "" if changes or candidate.reinit else "would change nothing"


def _differs(now: Setting, wanted: Setting) -> bool:
    """Whether setting a parameter to `wanted` (perhaps relative, `x0.3`) changes it."""
    scale = _SCALE.fullmatch(wanted) if isinstance(wanted, str) else None
    if scale is None or isinstance(now, (str, bool)):
        return now != wanted
    return now * float(scale[1]) != now


_SCALE = re.compile(r"x([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)")


def _margin_steps(rung: RungSpec) -> float:
    return rung.margin.amount if rung.margin is not None and rung.margin.unit == "steps" else 0.0


def _skip(good: Checkpoint | None, rung: RungSpec, facts: RunFacts, before: float) -> Checkpoint | None:
    """Go further back where the margin is counted in checkpoints."""
    if rung.margin is None or rung.margin.unit != "checkpoints" or facts.catalogue is None:
        return good
    for _ in range(int(rung.margin.amount)):
        if good is None:
            break
        good = newest_good(facts.catalogue(), before, facts.suspect, older_than=good.step)
    return good


def _no_target(checkpoints: Sequence[Checkpoint], before: float, older_than: int | None) -> str:
    kept = [c.step for c in checkpoints if c.verified]
    have = f"the oldest verified one is of step {min(kept)}" if kept else "no verified one is kept"
    older = f" and older than the one used last (step {older_than})" if older_than is not None else ""
    return (
        f"no good checkpoint before step {before:g}{older}: {have}; what was written while a critical rule "
        "was pending or firing does not count"
    )
