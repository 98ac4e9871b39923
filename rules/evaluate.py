"""The evaluator: points in, verdicts out. One per run; live, replay, scenario tests and gates all use it.

Nothing depends on when or in what pieces points arrive, only on their order: ticks close by the points' own
steps and wall times. The quiet path (a point that breaches nothing) allocates nothing and looks up one dict
entry.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from rules.closures import Builder
from rules.compile import Alias, Compiled, CompiledRule, compile_all
from rules.deciders import decider
from rules.explain import Part, Scene, explain
from rules.fits import NAN
from rules.instances import Instance
from rules.memory import MOST_HELD, memory
from rules.merge import RuleSet
from rules.names import Names
from rules.progress import MOST_KEPT, Progress
from rules.schema import RuleSpec
from rules.series import Sample
from rules.source import Problem, RuleErrors
from rules.store import Answer, Point, Push, Series, StepAny, emit_all
from rules.verdict import Condition, Mark, Verdict
from rules.windows import MOST_POINTS

TICK_GAP = 2.0
"""Seconds without a point that close a tick."""
MAX_FAILURES = 3
"""Evaluations of a rule that may fail; then it is asked no more."""
RESOLVE_BY = 200
"""Ticks after which a metric that is nothing yet is told, and a rule that does not apply yet is called so."""
MAX_INSTANCES = 20_000
MOST_TAGS = 50_000
"""Tags of a run that are kept: one that logs new ones at every step must not take all memory."""

_FAILURES = (ArithmeticError, ValueError, LookupError, TypeError)
"""What the evaluation of one rule may raise without ending the watch over the others."""

Verdicts = list[tuple[str, Verdict]]


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
        most_tags: how many tags are kept.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.watching: set[str] = set()
        self.probation: set[str] = set()
        self.errors: dict[str, str] = {}
        self.most_tags = MOST_TAGS
        self._reached = -1
        self._series: dict[str, Series] = {}
        self._any = StepAny(self._series)
        self._first_wall = NAN
        self._last_wall = -math.inf
        self._progress = Progress()
        self._builder = Builder(self._series, self._any, lambda: self._first_wall)
        self._ticks: dict[int, _Tick] = {}
        self._numbers = 0
        self._early: dict[Series, list[Point]] = {}
        self._names = Names(program.metrics, self._series)
        self._instances: dict[str, Instance] = {}
        self._timed: list[Instance] = []
        self._out: dict[str, Instance] = {}  # not judged: they do not apply (yet), or have failed too often
        for rule in program.rules:
            if rule.pattern is None:
                self._add(Instance(rule, rule.spec.name, None, {}))
        for instance in self._instances.values():
            instance.build(self._names, self._builder)
        self._builder.attached.clear()

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
        return self._series.keys()

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
        get, step_any, watching, joins = self._series.get, self._any, self.watching, self._builder.queue
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
                        self._judge(dirty, last, out)
                    elif self._out:
                        self._judged(dirty, last)
                    dirty.clear()
                self._numbers = number = self._numbers + 1
                tick.number = number
                at = step
            if series is None:
                series = self._appear(tag, wall)
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
                emit_all(self._builder.queue)
                if judge:
                    self._judge(tick.dirty, tick.wall, out)
                elif self._out:
                    self._judged(tick.dirty, tick.wall)
                tick.dirty.clear()
                tick.step = None
        return out

    def alive(self, wall: float) -> None:
        """Note that the run lived at `wall`, the beginning of an attempt: the points that it keeps are old,
        and yet it has not been silent since them.
        """
        for series in self._series.values():
            if not series.probe:
                series.wall = max(series.wall, wall)

    def timer(self, now: float) -> Verdicts:
        """Evaluate the rules whose answer changes between points, as of `now`."""
        out: Verdicts = []
        self._judge(self._timed, now, out)
        return out

    def _settle(self, tick: _Tick) -> None:
        """Before a tick is judged: let its new tags take effect; see to the watched rules that are lazy."""
        if tick.fresh:
            tick.fresh = False
            tick.dirty.update(self._settle_tags())
        if self.watching:
            tick.dirty.update(self._lazy_ones(tick))

    def _lazy_ones(self, tick: _Tick) -> list[Instance]:
        """Instances that are passed over while quiet, but must be seen to end once they are not."""
        found = [self._instances[key] for key in self.watching if key in self._instances]
        return [
            instance
            for instance in found
            if instance.lazy
            and any(series is self._any or series.tick == tick.number for series in instance.inputs)
        ]

    def _judge(self, instances: Iterable[Instance], now: float, out: Verdicts) -> None:
        watching, before = self.watching, len(out)
        if self._out:
            instances = self._judged(instances, now)
        for instance in instances:
            try:
                answer = instance.answer(now)
                if (
                    answer is True
                    or (watching and instance.key in watching)
                    or (answer is None and instance.fires_blind)
                ):
                    out.append((instance.key, self._verdict(instance, now, answer=answer)))
                    instance.said = self._read_names(
                        instance, now
                    )  # the next point may come before it is told
                    watching.add(instance.key)
            except _FAILURES as error:
                self._failed(instance, error)
        if len(out) - before > 1:  # a set has no order of its own
            out[before:] = sorted(out[before:], key=lambda pair: self._instances[pair[0]].order)

    def _judged(self, instances: Iterable[Instance], now: float) -> list[Instance]:
        """Those that are to be judged: whose `when` is True, or has been once in this run."""
        found = []
        for instance in instances:
            if instance.key in self._out:
                try:
                    applies = not instance.applies and instance.when is not None and instance.when(now)
                except _FAILURES as error:
                    self._failed(instance, error)
                    continue
                if not applies:
                    continue
                instance.applies = True
                del self._out[instance.key]
            found.append(instance)
        return found

    def _verdict(self, instance: Instance, now: float, *, answer: bool | None) -> Verdict:
        no_data = instance.rule.spec.no_data
        if answer is None and no_data != "hold":
            answer = no_data == "fire"
        if instance.decide is None:
            self._builder.driver = instance.driver
            tree = instance.trees[0]
            assert tree is not None
            instance.decide = decider(self._builder, tree)
            self._builder.attached.clear()
        value, limit = instance.decide(now)
        cleared = None if answer is None else not answer
        if instance.clear is not None:
            cleared = instance.clear(now)
        recovered = None
        if instance.recovered is not None and instance.key in self.probation:
            recovered = instance.recovered(now)
        driver = instance.driver
        condition = Condition.UNKNOWN if answer is None else Condition.BREACH if answer else Condition.OK
        at = Mark(driver.step, now, driver.count, self.run_step)
        return Verdict(condition, cleared, recovered, value, limit, at)

    def _failed(self, instance: Instance, error: Exception) -> None:
        """A rule that fails must not end the watch over the others."""
        instance.failures += 1
        self.errors[instance.key] = f"{type(error).__name__}: {error}"
        if instance.failures >= MAX_FAILURES:
            instance.applies, instance.when = False, None
            self._out[instance.key] = instance

    # Tags and names

    def _appear(self, tag: str, wall: float) -> Series:
        """A new tag: its points are kept until it takes effect, for whatever will then want them."""
        if len(self._series) >= self.most_tags:
            what = (
                f"more than {self.most_tags} tags; what the others log, beginning with {tag!r}, is left out"
            )
            self.errors.setdefault("tags", what)
            return Series(tag)
        series = self._series[tag] = Series(tag)
        early = self._early[series] = []

        def keep(step: int, wall: float, value: float) -> None:
            early.append((step, wall, value))

        series.pushes = series.skips = (keep,)
        if math.isnan(self._first_wall):
            self._first_wall = wall
        return series

    def _settle_tags(self) -> list[Instance]:
        """Let new tags take effect: metrics resolve, instances appear; the open ticks' points are handed to
        them.
        """
        early, self._early = self._early, {}
        if not early:
            return []
        for series in early:
            series.pushes, series.skips = (), ()
        self._builder.open_ticks = {tick.number for tick in self._ticks.values()}
        for name in self.program.metrics:
            self._names.metric(name)
        for rule in self.program.rules:
            for series in early if rule.pattern is not None else ():
                self._instantiate(rule, series.name)
        built = [
            instance
            for instance in self._instances.values()
            if instance.waiting and instance.build(self._names, self._builder)
        ]
        self._hand_on(early)
        return [instance for instance in built if not instance.lazy or instance.ends_badly()]

    def _hand_on(self, early: Mapping[Series, Sequence[Point]]) -> None:
        """Give what was just attached the points that its series has had in ticks that are still open."""
        attached, self._builder.attached = self._builder.attached, []
        open_ticks = self._builder.open_ticks
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
        if len(self._instances) >= MAX_INSTANCES:
            self.errors[rule.spec.name] = (
                f"more than {MAX_INSTANCES} instances; {tag!r} is not watched by this rule"
            )
            return
        self._add(Instance(rule, key, tag, captures))

    def _add(self, instance: Instance) -> None:
        self._instances[instance.key] = instance
        if not instance.applies:
            self._out[instance.key] = instance
        if instance.rule.timed:
            self._timed.append(instance)

    # What the caller asks

    def rule(self, key: str) -> RuleSpec:
        """The rule of a key."""
        return self._instances[key].rule.spec

    def applies(self, key: str) -> bool:
        """Whether a rule is for this run: its `when` has been True, or it has none."""
        return self._instances[key].applies

    @property
    def ticks(self) -> int:
        """How many ticks have begun."""
        return self._numbers

    @property
    def first_wall(self) -> float:
        """Wall time of the run's first point; NaN before it."""
        return self._first_wall

    def condition(self, key: str) -> Answer:
        """A rule's own condition, to be asked at a moment; as it stands until new tags appear."""
        return self._instances[key].answer

    def place(self, key: str, now: float) -> Mark:
        """Where a rule stands at a moment, on the axis of its driver."""
        driver = self._instances[key].driver
        return Mark(driver.step if driver.count else 0, now, driver.count, max(self.run_step, 0))

    def captures(self, key: str) -> dict[str, str]:
        """The captures of an `each` rule's instance, with its tag under "tag"; empty for other rules."""
        instance = self._instances[key]
        return {} if instance.tag is None else {"tag": instance.tag, **instance.captures}

    def explain(self, key: str, now: float) -> Part:
        """Take a rule's condition apart as of `now` (wall time, seconds)."""
        part = explain(self._instances[key].rule.expr, self.scene(key), now)
        self._builder.attached.clear()
        return part

    def scene(self, key: str) -> Scene:
        """Where a rule stands: this run's names and windows, to look into; they are the rule's own."""
        instance = self._instances[key]
        self._builder.driver = instance.driver
        return Scene(self._names, self._builder, self.program.metrics, instance.tag, instance.captures)

    def driver(self, key: str) -> str:
        """The tag on whose axis a rule's steps are; `step_any` where it goes by the run as a whole."""
        return self._instances[key].driver.name

    def keys(self) -> list[str]:
        """Every rule instance that exists in this run."""
        return list(self._instances)

    def names(self, key: str) -> dict[str, float | None]:
        """Every metric, let and param that a rule's messages may name: as of its last verdict, else as of
        now.
        """
        instance = self._instances[key]
        return dict(instance.said or self._read_names(instance, self._last_wall))

    def _read_names(self, instance: Instance, now: float) -> dict[str, float | None]:
        found: dict[str, float | None] = dict(instance.rule.params)
        if instance.tag is not None:
            found["x"] = self._series[instance.tag].value
        for name, reading in instance.named.items():
            try:
                value = reading(now)
            except (ArithmeticError, ValueError):
                value = NAN
            found[name] = None if math.isnan(value) else value
        return found

    def resolution(self) -> dict[str, str | None]:
        """What each metric is in this run: a tag, or "=expression"; None while it is unresolved."""
        return {name: self._names.chosen(name) for name in self.program.metrics}

    def run_step_at(self, wall_time: float) -> int:
        """The greatest run step logged at or before a wall time; 0 if none."""
        return self._progress.step_at(wall_time)

    def wall_at(self, run_step: int) -> float | None:
        """The last wall time at which the run step was at most `run_step`: what a rewind keeps. None: all
        of it.
        """
        return self._progress.wall_at(run_step)
