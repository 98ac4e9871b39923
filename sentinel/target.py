"""Where a rollback goes and what it changes: the newest good checkpoint before the onset, the next try. Pure.

The same trouble again gets an older checkpoint and the next try; other trouble begins anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rules.alert import Alert
from rules.schema import RungSpec, TrySpec
from rules.watch import Observation
from sentinel.checkpoints import Checkpoint, newest_good
from sentinel.climb import Action, Book, Climb, Declared, RunFacts, Setting
from sentinel.resume import resolve

NO_TRY = "no try of remedy"
"""How the reason begins where a remedy is used up."""


def choose(
    observation: Observation, rung: RungSpec, climb: Climb, book: Book, facts: RunFacts
) -> tuple[Action, int]:
    """Choose target and remedy of a rollback; returns it (perhaps withheld) and the index of the try after
    it.
    """

    def withhold(reason: str) -> tuple[Action, int]:
        return Action("rollback", reason, withheld=True, rung=climb.rung), climb.next_try

    limits, at = book.limits, observation.verdict.at
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
    return f"{NO_TRY} {rung.remedy!r} is left: {detail}"


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
