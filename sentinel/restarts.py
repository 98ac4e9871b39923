"""When a job that died is started again, and when it is given up. Pure.

What has been used up is counted over all lives of a job, which the journal keeps: a sentinel that was started
anew finds the budget as it left it. A life that ended at or before the step that an earlier one had reached
brought nothing, so starting it again costs double: a fault that comes back at the same step is soon given up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Occasion: TypeAlias = Literal["failure", "hang", "never"]

_BUDGET = re.compile(r"\s*([1-9][0-9]{0,3})\s+in\s+(\S.*)")

REPEATED = 2
"""What a restart costs after a life that brought no net progress; any other costs 1."""


@dataclass(frozen=True, slots=True)
class Budget:
    """So many restarts in so many seconds."""

    count: int
    seconds: float

    @classmethod
    def split(cls, text: object) -> tuple[int, str]:
        """Part `5 in 1h` into the count and the text of the time.

        Raises:
            ValueError: it is something else.
        """
        found = _BUDGET.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError(f'{text!r}: this is a budget; write "5 in 1h"')
        return int(found[1]), found[2].strip()


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """What the user configured.

    Attributes:
        on: what a job is started again after: an end with an exit code other than 0 or by a signal; with
            "hang" also a stretch of `hang_after` seconds without a sign of progress.
        max: restarts of a job in its whole life.
        backoff, factor, limit: seconds before the first restart in a row; each further one waits `factor`
            times as long, at most `limit` seconds.
        budget: restarts within a time.
        hang_after: seconds.
    """

    on: Occasion = "never"
    max: int = 3
    backoff: float = 10.0
    factor: float = 2.0
    limit: float = 600.0
    budget: Budget = Budget(5, 3600.0)
    hang_after: float = 600.0


@dataclass(frozen=True, slots=True)
class Life:
    """One process of a job, from its start to its end.

    Attributes:
        restart: it was started because the one before it had failed.
        began: wall time, seconds since the epoch.
        furthest: the greatest run step that it logged; None where it logged none.
    """

    restart: bool
    began: float
    furthest: int | None


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again. `delay`: seconds from now. `reason`: in words."""

    delay: float
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not start it again. `reason`: in words."""

    reason: str


def after_failure(lives: Sequence[Life], policy: RestartPolicy, now: float) -> Again | GiveUp:
    """Say what follows on a job's failure.

    Args:
        lives: all of them, oldest first; the last is the one that has just failed.
        policy: what the user configured; `on` has been asked before.
        now: wall time, seconds since the epoch.
    """
    costs = [_cost(lives[: index + 1]) for index in range(len(lives))]
    # A restart is paid for by the life that made it necessary, the one before it.
    paid = [(life.began, costs[index]) for index, life in enumerate(lives[1:]) if life.restart]
    cost = costs[-1]
    repeated = " It brought no net progress, which counts double." if cost > 1 else ""
    spent = sum(each for _, each in paid)
    if spent + cost > policy.max:
        return GiveUp(
            f"{spent} of {policy.max} restarts are used up, {cost} would be needed, "
            f"[trainer.restart] max.{repeated}"
        )
    recent = sum(each for began, each in paid if 0 <= now - began < policy.budget.seconds)
    if recent + cost > policy.budget.count:
        return GiveUp(
            f"{recent} of {policy.budget.count} restarts in {policy.budget.seconds:g} s are used up, {cost} "
            f"would be needed, [trainer.restart] budget.{repeated}"
        )
    in_a_row = _in_a_row(lives, costs)
    delay = _delay(policy, in_a_row)
    return Again(
        delay, f"in {delay:g} s; with it {spent + cost} of {policy.max} restarts are used up.{repeated}"
    )


def _cost(lives: Sequence[Life]) -> int:
    """What a restart after the last of these lives costs."""
    *before, last = lives
    reached = [life.furthest for life in before if life.furthest is not None]
    if not before:
        return 1
    if last.furthest is None:
        return REPEATED
    return REPEATED if reached and last.furthest <= max(reached) else 1


def _in_a_row(lives: Sequence[Life], costs: Sequence[int]) -> int:
    """Count the restarts since the last life that brought something."""
    count = 0
    for life, cost in zip(reversed(lives), reversed(costs), strict=True):
        if cost == 1:
            break
        count += life.restart
    return count


def _delay(policy: RestartPolicy, in_a_row: int) -> float:
    try:
        return float(min(policy.limit, policy.backoff * policy.factor**in_a_row))
    except OverflowError:
        return policy.limit
