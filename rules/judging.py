"""What the rules say at one moment: verdicts of those that breach, and of those that somebody watches."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias

from rules.deciders import decider
from rules.fits import NAN
from rules.instances import Instance
from rules.roster import Roster
from rules.verdict import Condition, Mark, Verdict

MAX_FAILURES = 3
"""Evaluations of a rule that may fail; then it is asked no more."""

_FAILURES = (ArithmeticError, ValueError, LookupError, TypeError)
"""What the evaluation of one rule may raise without ending the watch over the others."""

Verdicts: TypeAlias = list[tuple[str, Verdict]]


class Judging:
    """Asks rule instances, and puts those aside that fail.

    Attributes:
        watching: keys to be reported at every evaluation. probation: those whose recovery is evaluated.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self.watching: set[str] = set()
        self.probation: set[str] = set()

    def judge(self, instances: Iterable[Instance], now: float, run_step: int, out: Verdicts) -> None:
        """Judge instances as of `now`; `out` gets the verdicts of those that breach or are watched."""
        watching, before = self.watching, len(out)
        if self._roster.out:
            instances = self.applicable(instances, now)
        for instance in instances:
            try:
                answer = instance.answer(now)
                if (
                    answer is True
                    or (watching and instance.key in watching)
                    or (answer is None and instance.fires_blind)
                ):
                    out.append((instance.key, self._verdict(instance, now, run_step, answer=answer)))
                    instance.said = self.read_names(
                        instance, now
                    )  # the next point may come before it is told
                    watching.add(instance.key)
            except _FAILURES as error:
                self._failed(instance, error)
        if len(out) - before > 1:  # a set has no order of its own
            out[before:] = sorted(out[before:], key=lambda pair: self._roster.instances[pair[0]].order)

    def applicable(self, instances: Iterable[Instance], now: float) -> list[Instance]:
        """Those that are to be judged: whose `when` is True, or has been once in this run."""
        found = []
        for instance in instances:
            if instance.key in self._roster.out:
                try:
                    applies = not instance.applies and instance.when is not None and instance.when(now)
                except _FAILURES as error:
                    self._failed(instance, error)
                    continue
                if not applies:
                    continue
                instance.applies = True
                del self._roster.out[instance.key]
            found.append(instance)
        return found

    def _verdict(self, instance: Instance, now: float, run_step: int, *, answer: bool | None) -> Verdict:
        no_data = instance.rule.spec.no_data
        if answer is None and no_data != "hold":
            answer = no_data == "fire"
        if instance.decide is None:
            self._roster.builder.driver = instance.driver
            tree = instance.trees[0]
            assert tree is not None
            instance.decide = decider(self._roster.builder, tree)
            self._roster.builder.attached.clear()
        value, limit = instance.decide(now)
        cleared = None if answer is None else not answer
        if instance.clear is not None:
            cleared = instance.clear(now)
        recovered = None
        if instance.recovered is not None and instance.key in self.probation:
            recovered = instance.recovered(now)
        driver = instance.driver
        condition = Condition.UNKNOWN if answer is None else Condition.BREACH if answer else Condition.OK
        at = Mark(driver.step, now, driver.count, max(run_step, 0))
        return Verdict(condition, cleared, recovered, value, limit, at)

    def _failed(self, instance: Instance, error: Exception) -> None:
        """A rule that fails must not end the watch over the others."""
        instance.failures += 1
        self._roster.errors[instance.key] = f"{type(error).__name__}: {error}"
        if instance.failures >= MAX_FAILURES:
            instance.applies, instance.when = False, None
            self._roster.out[instance.key] = instance

    def read_names(self, instance: Instance, now: float) -> dict[str, float | None]:
        """Every number that a rule's messages may name, as of `now`; None is unknown."""
        found: dict[str, float | None] = dict(instance.rule.params)
        if instance.tag is not None:
            found["x"] = self._roster.series[instance.tag].value
        for name, reading in instance.named.items():
            try:
                value = reading(now)
            except (ArithmeticError, ValueError):
                value = NAN
            found[name] = None if math.isnan(value) else value
        return found
