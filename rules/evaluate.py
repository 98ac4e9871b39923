"""The evaluator: points in, verdicts out. One per run; live, replay, scenario tests and gates all use it.

Nothing depends on when or in what pieces points arrive, only on their order: ticks close by the points' own
steps and wall times. The quiet path (a point that breaches nothing) allocates nothing and looks up one dict
entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping

from rules.compile import Alias, Compiled, CompiledRule, compile_all
from rules.explain import Part, Scene, explain
from rules.instances import Instance
from rules.judging import Judging, Verdicts
from rules.memory import MOST_HELD, memory
from rules.merge import RuleSet
from rules.progress import MOST_KEPT, Progress
from rules.roster import Roster
from rules.schema import RuleSpec
from rules.series import Sample
from rules.source import Problem, RuleErrors
from rules.store import Answer, emit_all
from rules.tree import Node
from rules.verdict import Mark
from rules.windows import MOST_POINTS

TICK_GAP = 2.0
"""Seconds without a point that close a tick."""
RESOLVE_BY = 200
"""Ticks after which a metric that is nothing yet is told, and a rule that does not apply yet is called so."""


class Program:
    """All rules, parsed and checked; makes an evaluator for each run."""

    def __init__(self, compiled: Compiled) -> None:
        self.rules: tuple[CompiledRule, ...] = compiled.rules
        self.metrics: Mapping[str, Alias] = compiled.metrics
        self.has_timers = any(rule.timed for rule in self.rules)

    def evaluator(self) -> Evaluator:
        """A new run's evaluator."""
        return Evaluator(self)


def compile_rules(rules: RuleSet) -> Program:
    """Make a program.

    Raises:
        RuleErrors: with all problems of all rules; or their windows could hold more than is allowed.
    """
    compiled = compile_all(rules)
    held = memory(compiled.rules, compiled.metrics).points.most
    if held > MOST_HELD:
        what = f"the windows of all rules may come to hold {held:,} points; at most {MOST_HELD:,} are allowed"
        hint = (
            f"windows of points= hold no more than they say, those of steps= and time= up to {MOST_POINTS:,}"
        )
        raise RuleErrors([Problem(rules.where("", ""), what, hint)])
    return Program(compiled)


class _Tick:
    """The points of one source that belong together, while they still come."""

    __slots__ = ("dirty", "fresh", "number", "step", "wall")

    def __init__(self, number: int) -> None:
        self.number = number
        self.step: int | None = None
        self.wall = -math.inf
        self.dirty: set[Instance] = set()
        self.fresh = False


class Evaluator:
    """One run's series, windows and rule instances.

    Attributes:
        watching: keys to be reported at every evaluation, whatever it says. A breach puts its key there, so
            that its end is seen in the same call of `feed`; the caller takes out what is at rest.
        probation: keys for which recovery is evaluated; the caller keeps it.
        errors: key to the last failure of a rule that failed; after three it is evaluated no more. What is
            left out for being too many is told here as well.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._roster = roster = Roster(program.rules, program.metrics)
        self._judging = Judging(roster)
        self.watching = self._judging.watching
        self.probation = self._judging.probation
        self.errors = roster.errors
        self._reached = -1
        self._last_wall = -math.inf
        self._progress = Progress()
        self._ticks: dict[int, _Tick] = {}
        self._numbers = 0

    @property
    def has_timers(self) -> bool:
        """Whether some rule's answer changes between points."""
        return self.program.has_timers

    @property
    def run_step(self) -> int:
        """The greatest step that any series has logged; 0 before the first."""
        return max(self._reached, 0)

    @property
    def tags(self) -> Collection[str]:
        """Every tag that was ever logged."""
        return self._roster.series.keys()

    # Points

    def feed(self, samples: Iterable[Sample], source: int = 0, *, judge: bool = True) -> Verdicts:
        """Take points in, in order of arrival, and judge every tick that they close.

        Args:
            samples: (tag, step, wall time, value).
            source: which file they come from; ticks are of one source.
            judge: False only fills windows.
        """
        out: Verdicts = []
        tick = self._ticks.get(source)
        if tick is None:
            self._numbers += 1
            tick = self._ticks[source] = _Tick(self._numbers)
        roster, watching, put_aside = self._roster, self.watching, self._roster.out
        get, step_any, joins, decide = (
            roster.series.get,
            roster.step_any,
            roster.builder.queue,
            self._judging.judge,
        )
        number, at, last, dirty, run_step = tick.number, tick.step, tick.wall, tick.dirty, self._reached
        advances = self._progress.advances
        for tag, step, wall, value in samples:
            series = get(tag)
            if step != at or wall - last > TICK_GAP or (series is not None and series.tick == number):
                if at is not None and (tick.fresh or watching):  # None: it was closed and judged before
                    self._settle(tick)
                if joins:
                    emit_all(joins)
                if dirty:
                    if judge:
                        decide(dirty, last, run_step, out)
                    elif put_aside:
                        self._judging.applicable(dirty, last)
                    dirty.clear()
                self._numbers = number = self._numbers + 1
                tick.number = number
                at = step
            if series is None:
                series = roster.appear(tag, wall)
                tick.fresh = True
            series.tick = number
            if step != series.step:
                series.step = step
                series.arrivals.append(wall)
            series.wall = wall
            series.value = value
            series.count += 1
            if step > run_step and not series.probe:
                self._reached = run_step = step
                advances.append((step, wall, last if last > -math.inf else self._last_wall))
                step_any.tick = number
                step_any.step = step
                step_any.wall = wall
                step_any.value = float(step)
                step_any.count += 1
                step_any.arrivals.append(wall)
                for push in step_any.pushes:
                    push(step, wall, step_any.value)
                if step_any.rules:
                    dirty.update(step_any.rules)
            last = wall
            if value - value == 0.0:  # finite, in one subtraction
                for push in series.pushes:
                    push(step, wall, value)
            else:
                for push in series.skips:
                    push(step, wall, value)
                dirty.update(series.alarms)
            if series.rules:
                dirty.update(series.rules)
        tick.step, tick.wall = at, last
        self._last_wall = last
        if len(advances) > MOST_KEPT:
            self._progress.thin()
        return out

    @property
    def open_sources(self) -> tuple[int, ...]:
        """The sources whose last tick is still open, and so not judged."""
        return tuple(sorted(source for source, tick in self._ticks.items() if tick.step is not None))

    def flush(self, *, judge: bool = True, but: Collection[int] = ()) -> Verdicts:
        """Close every open tick, but those of the sources `but`: the file ends, or two seconds have gone
        by.
        """
        out: Verdicts = []
        for source, tick in self._ticks.items():
            if tick.step is not None and source not in but:
                self._settle(tick)
                emit_all(self._roster.builder.queue)
                if judge:
                    self._judging.judge(tick.dirty, tick.wall, self.run_step, out)
                elif self._roster.out:
                    self._judging.applicable(tick.dirty, tick.wall)
                tick.dirty.clear()
                tick.step = None
        return out

    def alive(self, wall: float) -> None:
        """Note that the run lived at `wall`, the beginning of an attempt: the points that it keeps are old,
        and yet it has not been silent since them.
        """
        for series in self._roster.series.values():
            if not series.probe:
                series.wall = max(series.wall, wall)

    def timer(self, now: float) -> Verdicts:
        """Evaluate the rules whose answer changes between points, as of `now`."""
        out: Verdicts = []
        self._judging.judge(self._roster.timed, now, self.run_step, out)
        return out

    def _settle(self, tick: _Tick) -> None:
        """Before a tick is judged: let its new tags take effect; see to the watched rules that are lazy."""
        if tick.fresh:
            tick.fresh = False
            tick.dirty.update(self._roster.settle({open_.number for open_ in self._ticks.values()}))
        if self.watching:
            tick.dirty.update(self._lazy_ones(tick))

    def _lazy_ones(self, tick: _Tick) -> list[Instance]:
        """Instances that are passed over while quiet, but must be seen to end once they are not."""
        instances, step_any = self._roster.instances, self._roster.step_any
        found = [instances[key] for key in self.watching if key in instances]
        return [
            instance
            for instance in found
            if instance.lazy
            and any(series is step_any or series.tick == tick.number for series in instance.inputs)
        ]

    # What the caller asks

    def rule(self, key: str) -> RuleSpec:
        """The rule of a key."""
        return self._roster.instances[key].rule.spec

    def applies(self, key: str) -> bool:
        """Whether a rule is for this run: its `when` has been True, or it has none."""
        return self._roster.instances[key].applies

    @property
    def ticks(self) -> int:
        """How many ticks have begun."""
        return self._numbers

    @property
    def first_wall(self) -> float:
        """Wall time of the run's first point; NaN before it."""
        return self._roster.first_wall

    def condition(self, key: str) -> Answer:
        """A rule's own condition, to be asked at a moment; as it stands until new tags appear."""
        return self._roster.instances[key].answer

    def place(self, key: str, now: float) -> Mark:
        """Where a rule stands at a moment, on the axis of its driver."""
        driver = self._roster.instances[key].driver
        return Mark(driver.step if driver.count else 0, now, driver.count, max(self.run_step, 0))

    def captures(self, key: str) -> dict[str, str]:
        """The captures of an `each` rule's instance, with its tag under "tag"; empty for other rules."""
        instance = self._roster.instances[key]
        return {} if instance.tag is None else {"tag": instance.tag, **instance.captures}

    def explain(self, key: str, now: float) -> Part:
        """Take a rule's condition apart as of `now` (wall time, seconds)."""
        part = explain(self._roster.instances[key].rule.expr, self.scene(key), now)
        self._roster.builder.attached.clear()
        return part

    def scene(self, key: str) -> Scene:
        """Where a rule stands: this run's names and windows, to look into; they are the rule's own."""
        instance = self._roster.instances[key]
        self._roster.builder.driver = instance.driver
        return Scene(
            self._roster.names, self._roster.builder, self.program.metrics, instance.tag, instance.captures
        )

    def subject(self, key: str) -> tuple[Node, Callable[[Node], Node]] | None:
        """A rule's condition as written, and what a name, a tag or `x` in it stands for in this run."""
        instance = self._roster.instances.get(key)
        if instance is None:
            return None
        names, tag, captures = self._roster.names, instance.tag, instance.captures
        return instance.rule.expr, lambda name: names.settled(name, tag, captures)

    def driver(self, key: str) -> str:
        """The tag on whose axis a rule's steps are; `step_any` where it goes by the run as a whole."""
        return self._roster.instances[key].driver.name

    def keys(self) -> list[str]:
        """Every rule instance that exists in this run."""
        return list(self._roster.instances)

    def names(self, key: str) -> dict[str, float | None]:
        """Every metric, let and param that a rule's messages may name: as of its last verdict, else as of
        now.
        """
        instance = self._roster.instances[key]
        return dict(instance.said or self._judging.read_names(instance, self._last_wall))

    def resolution(self) -> dict[str, str | None]:
        """What each metric is in this run: a tag, or "=expression"; None while it is unresolved."""
        return {name: self._roster.names.chosen(name) for name in self.program.metrics}

    def run_step_at(self, wall_time: float) -> int:
        """The greatest run step logged at or before a wall time; 0 if none."""
        return self._progress.step_at(wall_time)

    def wall_at(self, run_step: int) -> float | None:
        """The last wall time at which the run step was at most `run_step`: what a rewind keeps. None: all
        of it.
        """
        return self._progress.wall_at(run_step)
