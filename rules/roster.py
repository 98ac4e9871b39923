"""What a run has: its tags, what the metrics mean by them, and the rule instances that read them.

A tag takes effect when its tick closes: metrics resolve, instances appear, windows are made. The points that
came before that are handed to whatever is then made, so that nothing is lost by appearing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rules.closures import Builder
from rules.compile import Alias, CompiledRule
from rules.fits import NAN
from rules.instances import Instance
from rules.names import Names
from rules.store import Point, Push, Series, StepAny

MAX_INSTANCES = 20_000
MOST_TAGS = 50_000
"""Tags of a run that are kept: one that logs new ones at every step must not take all memory."""


class Roster:
    """One run's series and rule instances; both only grow.

    Attributes:
        series: by tag. step_any: the run as a whole. first_wall: of the first point; NaN before it.
        instances: by key. timed: those whose answer changes between points.
        out: those that are not judged: they do not apply (yet), or have failed too often.
        errors: key to the last failure of a rule that failed; and what was left out for being too many.
        builder, names: what instances are made with.
        most_tags: how many tags are kept.
    """

    def __init__(self, rules: Sequence[CompiledRule], metrics: Mapping[str, Alias]) -> None:
        self._rules = rules
        self._metrics = metrics
        self._early: dict[Series, list[Point]] = {}
        self.series: dict[str, Series] = {}
        self.step_any = StepAny(self.series)
        self.first_wall = NAN
        self.instances: dict[str, Instance] = {}
        self.timed: list[Instance] = []
        self.out: dict[str, Instance] = {}
        self.errors: dict[str, str] = {}
        self.builder = Builder(self.series, self.step_any, lambda: self.first_wall)
        self.names = Names(metrics, self.series)
        self.most_tags = MOST_TAGS
        for rule in rules:
            if rule.pattern is None:
                self._add(Instance(rule, rule.spec.name, None, {}))
        for instance in self.instances.values():
            instance.build(self.names, self.builder)
        self.builder.attached.clear()

    def appear(self, tag: str, wall: float) -> Series:
        """A new tag: its points are kept until it takes effect, for whatever will then want them."""
        if len(self.series) >= self.most_tags:
            what = (
                f"more than {self.most_tags} tags; what the others log, beginning with {tag!r}, is left out"
            )
            self.errors.setdefault("tags", what)
            return Series(tag)
        series = self.series[tag] = Series(tag)
        early = self._early[series] = []

        def keep(step: int, wall: float, value: float) -> None:
            early.append((step, wall, value))

        series.pushes = series.skips = (keep,)
        if math.isnan(self.first_wall):
            self.first_wall = wall
        return series

    def settle(self, open_ticks: set[int]) -> list[Instance]:
        """Let new tags take effect: metrics resolve, instances appear; the open ticks' points are handed to
        them.
        """
        early, self._early = self._early, {}
        if not early:
            return []
        for series in early:
            series.pushes, series.skips = (), ()
        self.builder.open_ticks = open_ticks
        for name in self._metrics:
            self.names.metric(name)
        for rule in self._rules:
            for series in early if rule.pattern is not None else ():
                self._instantiate(rule, series.name)
        built = [
            instance
            for instance in self.instances.values()
            if instance.waiting and instance.build(self.names, self.builder)
        ]
        self._hand_on(early)
        return [instance for instance in built if not instance.lazy or instance.ends_badly()]

    def _hand_on(self, early: Mapping[Series, Sequence[Point]]) -> None:
        """Give what was just attached the points that its series has had in ticks that are still open."""
        attached, self.builder.attached = self.builder.attached, []
        open_ticks = self.builder.open_ticks
        late: list[tuple[Push, Point]] = []
        for series, push, for_finite in attached:
            points = early.get(series)
            if points is None:
                points = [(series.step, series.wall, series.value)] if series.tick in open_ticks else []
            late += [(push, point) for point in points if math.isfinite(point[2]) is for_finite]
        for push, point in late:
            push(*point)

    def _instantiate(self, rule: CompiledRule, tag: str) -> None:
        assert rule.pattern is not None
        captures = rule.pattern.match(tag)
        if captures is None:
            return
        key = f"{rule.spec.name}[{rule.pattern.label(tag, captures)}]"
        if len(self.instances) >= MAX_INSTANCES:
            self.errors[rule.spec.name] = (
                f"more than {MAX_INSTANCES} instances; {tag!r} is not watched by this rule"
            )
            return
        self._add(Instance(rule, key, tag, captures))

    def _add(self, instance: Instance) -> None:
        self.instances[instance.key] = instance
        if not instance.applies:
            self.out[instance.key] = instance
        if instance.rule.timed:
            self.timed.append(instance)
