"""From an alert to an action: ladders, tries, cool-downs, budgets. Pure.

A ladder is climbed while its alert fires. The climb starts anew each time the alert begins to fire, but what
has been used up stays used up for the whole run: counters that a rollback resets would let a run roll back
for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from rules.alert import AlertState
from rules.schema import LadderSpec, LimitsSpec, RungSpec, Span, Verb
from rules.verdict import Condition, Mark
from rules.watch import Observation
from sentinel import approvals
from sentinel.climb import Action, Book, Climb, Declared, RunFacts, Setting, Settled
from sentinel.target import NO_TRY, choose

__all__ = [
    "Action",
    "Book",
    "Climb",
    "Declared",
    "RunFacts",
    "Setting",
    "answer",
    "decide",
    "elapsed",
    "refused",
]


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
    actions: tuple[Action, ...] = ()
    if climb.fired != alert.fired:
        first = _start(observation, ladder)
        climb, actions = approvals.withdraw(climb, "it has begun to fire anew")
        climb = replace(climb, fired=alert.fired, rung=first, waiting_since=alert.fired, told=())
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
    if climb.rung >= len(ladder.rungs):
        climb, settled = approvals.withdraw(climb, "the ladder was changed")
        actions += settled
    return climb, actions


def refused(climb: Climb, ladder: LadderSpec, rung: int, at: Mark) -> Climb:
    """Go back to a rung whose rollback was refused, failed or never answered: it is tried again while the
    alert fires.

    Its use stays counted, so a trainer that always refuses exhausts the ladder instead of being asked for
    ever. The checkpoint was not gone back to, so it is no worse a target than before.
    """
    if rung >= len(ladder.rungs) or "rollback" not in ladder.rungs[rung].do:
        return climb
    return replace(climb, rung=rung, waiting_since=at, last_target=climb.target_before, asked=None)


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
    observation: Observation,
    ladder: LadderSpec,
    climb: Climb,
    book: Book,
    facts: RunFacts,
    *,
    approved: bool = False,
) -> tuple[Climb, tuple[Action, ...], bool]:
    """Take the climb's next rung, or say why it is not taken; the last value says whether the rung after it
    may follow now.

    What asks the trainer to roll back or end is waited for: it stays due while it is withheld. A rollback
    that is used up, or has no try left, is passed over and leaves the ladder exhausted. A rung that people
    have to approve is asked about and waits; `approved` says that they have.
    """
    index = climb.rung
    rung = ladder.rungs[index]
    uses = climb.uses + (0,) * (len(ladder.rungs) - len(climb.uses))
    goes_back = "rollback" in rung.do
    if uses[index] >= _limit(rung) or (goes_back and _spent(book.limits, facts)):
        climb, settled = approvals.withdraw(climb, "it is used up in this run")
        return replace(climb, rung=index + 1, exhausted=climb.exhausted or goes_back), settled, True

    settled = ()
    asked = climb.asked
    if asked is not None and asked.rung == index and rung.approve and not approved:
        if approvals.waits(asked, facts):
            return climb, (), False
        if not asked.lapsed:
            climb, said = approvals.lapse(climb, asked)
            settled = (said,)
            if climb.rung != index:
                return climb, settled, True
        approved = True
    elif asked is not None and not approved:
        climb, settled = approvals.withdraw(climb, "the ladder was changed")

    actions, next_try, last_target = _propose(observation, rung, climb, book, facts)
    waits = [a for a in actions if a.withheld and a.verb in ("rollback", "terminate")]
    if rung.approve and not approved and not waits and any(_is_deed(a) for a in actions):
        climb, question = approvals.put(climb, rung, actions, facts)
        told = [a for a in actions if not _is_deed(a) and _once(a) not in climb.told]
        climb = replace(climb, told=climb.told + tuple(_once(a) for a in told))
        return climb, (*settled, *told, question), False
    said_now = tuple(a for a in actions if _once(a) not in climb.told)
    remembered = tuple(_once(a) for a in said_now if a.withheld or waits)
    climb = replace(climb, told=climb.told + remembered)
    if any(a.reason.startswith(NO_TRY) or a.reason == _never(a.verb, facts) for a in waits):
        climb = replace(climb, rung=index + 1, exhausted=climb.exhausted or goes_back, asked=None)
        return climb, settled + said_now, True
    if waits:
        return climb, settled + said_now, False
    climb = replace(
        climb,
        rung=index + 1,
        uses=(*uses[:index], uses[index] + 1, *uses[index + 1 :]),
        next_try=next_try,
        last_target=last_target,
        target_number=observation.alert.number if goes_back else climb.target_number,
        target_before=climb.last_target if goes_back else climb.target_before,
        asked=None,
    )
    return climb, settled + said_now, not goes_back


def _is_deed(action: Action) -> bool:
    return action.verb != "notify" and not action.withheld


def _propose(
    observation: Observation, rung: RungSpec, climb: Climb, book: Book, facts: RunFacts
) -> tuple[list[Action], int, int | None]:
    """Say what a rung asks for as things stand; returns with it the try after it, and the target."""
    actions: list[Action] = []
    next_try, last_target = climb.next_try, climb.last_target
    for verb in rung.do:
        facts = _after(facts, actions[-1:])
        if verb == "rollback":
            blocked = _blocked(verb, book.limits, facts)
            if blocked:
                action = Action(verb, blocked, withheld=True, rung=climb.rung)
            else:
                action, next_try = choose(observation, rung, climb, book, facts)
            last_target = climb.last_target if action.withheld else action.to_step
        else:
            action = _plain(verb, observation, book.limits, facts, climb.rung)
        actions.append(action)
    return actions, next_try, last_target


def answer(
    observation: Observation,
    ladder: LadderSpec,
    climb: Climb,
    book: Book,
    facts: RunFacts,
    choice: Literal["act", "hold", "terminate"],
    who: str,
) -> tuple[Climb, tuple[Action, ...]] | str:
    """Carry out what people have answered to the climb's open question.

    Args:
        observation: the alert as it now stands. ladder, climb, book, facts: as in `decide`.
        choice: take the rung; leave it undone in this episode; or end the run in its place.
        who: has answered, in words.

    Returns:
        The climb and what is to be done; or why nothing can be done now, and then the question stands. Where
        what would be done has changed since it was asked, that is asked anew.
    """
    asked = climb.asked
    if asked is None or asked.lapsed or asked.rung != climb.rung or asked.rung >= len(ladder.rungs):
        return "nothing is asked there any more"
    if choice == "hold":
        return approvals.hold(climb), (approvals.settle(asked, Settled.HOLD, f"{who}: leave it undone"),)
    if facts.inhibited_by is not None:
        return f"it is muted while {facts.inhibited_by} fires"
    if choice == "terminate":
        end = _plain("terminate", observation, book.limits, facts, climb.rung)
        if end.withheld:
            return end.reason
        said = approvals.settle(asked, Settled.TERMINATE, f"{who}: end the run instead")
        return approvals.hold(climb), (said, end)
    rung = ladder.rungs[asked.rung]
    proposed = _propose(observation, rung, climb, book, facts)[0]
    held = [a for a in proposed if a.withheld and a.verb in ("rollback", "terminate")]
    if held:
        return held[0].reason
    if not approvals.same(asked, proposed):
        said = approvals.settle(
            asked, Settled.CHANGED, f"{who}: do it; but it has changed, and is asked anew"
        )
        after, question = approvals.put(replace(climb, asked=None), rung, proposed, facts)
        return after, (said, question)
    after, taken, _ = _take(observation, ladder, climb, book, facts, approved=True)
    if after.rung == climb.rung or not any(_is_deed(a) for a in taken):
        return "it is used up in this run"
    return after, (approvals.settle(asked, Settled.ACT, f"{who}: do it"), *taken)


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
