"""Scenarios: series written down in a few characters, and what the rules are to make of them.

A rule is data, so its test is data too: `1x3 50x8 _ nan` is a series, and `fires_at = 1400` is what is
expected. A scenario runs through the same watch as a live run and a replay: what it shows, a run would see.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rules import packs
from rules.alert import AlertState
from rules.compile import CompiledRule
from rules.evaluate import TICK_GAP, Program, compile_rules
from rules.merge import RuleSet, merge
from rules.schema import Severity, Strict, validate
from rules.series import Sample
from rules.source import Document, Problem, RuleErrors, nearest, parse
from rules.watch import Observation, RunWatch

MAX_POINTS = 100_000
"""Longest series that one line may stand for."""

BETWEEN_POINTS = 10.0
"""Seconds between two points of an axis that gives no wall times."""

TOLERANCE = 1e-3
"""How far a `value` may lie from what is written, relative to it: figures are written with a few digits."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"(?P<start>{_NUMBER})(?P<step>[+-](?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)?x(?P<more>\d+)")
_GAP = re.compile(r"_(?:x(?P<count>\d+))?")
_WORDS = {"nan": math.nan, "inf": math.inf, "+inf": math.inf, "-inf": -math.inf}
_SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical", "fatal")

Values = list[float | None]


class Axis(Strict):
    """Series whose points come together; `steps` and `wall` are written like the values."""

    steps: str | None = None
    wall: str | None = None
    series: dict[str, str] = {}  # noqa: RUF012  # a model's default is copied for each instance


class Rewind(Strict):
    """A new attempt: at `wall` the run goes on from run step `to_step`."""

    wall: float
    to_step: int


class Expect(Strict):
    """What one rule is to do. Steps are on the axis of the rule's own series.

    Attributes:
        rule: a rule, or one instance of an `each` rule (`generic/nonfinite[train/loss]`); without brackets,
            any instance.
        fires_at, fires_by: the step at which it first fires, exactly or at the latest.
        never: it does not fire. times: how often it fires.
        onset, value, message: of the first firing; the message holds this text.
        before: a rule that fires later than this one in wall time, or never.
        state: how the alert stands in the end. reason: why it last changed its state.
    """

    rule: str
    fires_at: int | None = None
    fires_by: int | None = None
    never: bool = False
    times: int | None = None
    onset: int | None = None
    value: float | None = None
    message: str | None = None
    before: str | None = None
    state: AlertState | None = None
    reason: str | None = None


class Case(Axis):
    """One test of a scenario file.

    Attributes:
        axis: further series with steps and wall times of their own, such as episodes.
        until: wall time to which silence is judged, after the last point.
        quiet: no rule of this severity or a higher one fires.
    """

    name: str
    axis: tuple[Axis, ...] = ()
    rewind: tuple[Rewind, ...] = ()
    until: float | None = None
    quiet: Severity | None = None
    expect: tuple[Expect, ...] = ()


class _File(Strict):
    include: tuple[str, ...] = ()
    test: tuple[Case, ...] = ()


@dataclass(frozen=True, slots=True)
class Firing:
    """One time an alert began to fire."""

    step: int
    wall: float
    onset: int | None
    value: float | None
    message: str


@dataclass(slots=True)
class Story:
    """What became of one alert."""

    firings: list[Firing] = field(default_factory=list)
    state: AlertState = AlertState.INACTIVE
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario file, checked.

    Attributes:
        document: the file. rules, program: what it tests. cases: how.
    """

    document: Document
    rules: RuleSet
    program: Program
    cases: tuple[Case, ...]

    def failures(self, number: int) -> list[str]:
        """Run one case; return what did not come as expected, a sentence each."""
        stories = play(self.cases[number], self.program, self.rules)
        return list(_compare(self.cases[number], stories, {r.spec.name: r for r in self.program.rules}))

    def report(self) -> list[str]:
        """Run every case; return its failures with their places."""
        return [
            f"{self.document.where(('test', number))}: {case.name!r}: {failure}"
            for number, case in enumerate(self.cases)
            for failure in self.failures(number)
        ]


def expand(notation: str) -> Values:
    """Read a series: `2.5`, `nan`, `inf`, `_` for no point, `_x3` for three of them, `1x3` for 1 and three
    more, `1+2x3` for 1 3 5 7, `1-2x3` for 1 -1 -3 -5. As promtool has it.

    Raises:
        ValueError: a word is none of these, or there are too many points.
    """
    values: Values = []
    for word in notation.split():
        values += _word(word)
        if len(values) > MAX_POINTS:
            raise ValueError(f"more than {MAX_POINTS} points")
    return values


def _word(word: str) -> Values:
    if word in _WORDS:
        return [_WORDS[word]]
    if gap := _GAP.fullmatch(word):
        return [None] * _count(gap["count"] or "1")
    if found := _RANGE.fullmatch(word):
        start, step = float(found["start"]), float(found["step"] or 0)
        return [start + step * n for n in range(_count(found["more"]) + 1)]
    if re.fullmatch(_NUMBER, word):
        return [float(word)]
    raise ValueError(f'{word!r} is no value; write "2.5", "nan", "inf", "_", "_x3", "1x3" or "1+2x3"')


def _count(digits: str) -> int:
    if len(digits) > len(str(MAX_POINTS)) or int(digits) > MAX_POINTS:
        raise ValueError(f"more than {MAX_POINTS} points")
    return int(digits)


def load(text: str, file: str, read: Callable[[str], str]) -> Scenario:
    """Read a scenario file: `include`, `[[test]]`, and whatever a rule file may hold.

    Args:
        text: its TOML. file: its name, for problems.
        read: gives the text of another rule file that it includes.

    Raises:
        RuleErrors: with every problem of the file and of what it includes.
    """
    document = parse(text, file)
    own = {key: value for key, value in document.data.items() if key in _File.model_fields}
    rest = {key: value for key, value in document.data.items() if key not in own}
    model, problems = validate(_File, own, document)
    documents: list[tuple[str, Document]] = []
    named = document.data.get("include")
    for item in model.include if model else named if isinstance(named, list) else ():
        try:
            documents += _included(item, documents, read)
        except (LookupError, OSError) as error:
            problems.append(Problem(document.where(("include",)), str(error)))
        except RuleErrors as error:
            problems += error.problems
    documents.append(("", Document(file, rest, document.positions)))
    rules, found = merge(documents)
    problems += found
    try:
        program = compile_rules(rules)
    except RuleErrors as error:
        raise RuleErrors([*problems, *error.problems]) from error
    if model is not None:
        problems += _faults(model, document, {rule.spec.name for rule in program.rules})
    if problems or model is None:
        raise RuleErrors(problems)
    return Scenario(document, rules, program, model.test)


def _included(
    item: object, so_far: Sequence[tuple[str, Document]], read: Callable[[str], str]
) -> list[tuple[str, Document]]:
    if not isinstance(item, str):
        return []
    if not item.startswith("pack:"):
        return [("", parse(read(item), item))]
    found = packs.with_aliases(item.removeprefix("pack:"))
    have = {document.file for _, document in so_far}
    return [(namespace, document) for namespace, document in found if document.file not in have]


def _faults(file: _File, document: Document, rules: set[str]) -> Iterator[Problem]:
    for number, case in enumerate(file.test):
        path = ("test", number)
        for index, axis in enumerate((case, *case.axis)):
            place = path if index == 0 else (*path, "axis", index - 1)
            try:
                _points(axis)
            except ValueError as error:
                yield Problem(document.where(place), f"test {case.name!r}: {error}")
        for index, expect in enumerate(case.expect):
            for name in (expect.rule, expect.before):
                if name is not None and name.partition("[")[0] not in rules:
                    where = document.where((*path, "expect", index, "rule"))
                    yield Problem(where, f"test {case.name!r}: no rule {name!r}", nearest(name, rules))


def play(case: Case, program: Program, rules: RuleSet) -> dict[str, Story]:
    """Let a case happen; return what became of every alert it touched, by key."""
    watch = RunWatch(program, rules.ladders)
    stories: dict[str, Story] = {}
    seen: list[Sample] = []
    rewinds = sorted(case.rewind, key=lambda rewind: rewind.wall)
    last = -math.inf
    for batch in samples(case):
        if batch[0][2] - last > TICK_GAP:
            _note(watch, watch.flush(), stories)  # as live, where nothing is waited for longer than that
        while rewinds and batch[0][2] >= rewinds[0].wall:
            seen = _rewind(watch, rewinds.pop(0), seen, stories)
        _note(watch, watch.observe(batch), stories)
        seen += batch
        last = batch[-1][2]
    _note(watch, watch.flush(), stories)
    for rewind in rewinds:
        seen = _rewind(watch, rewind, seen, stories)
    if case.until is not None:
        _note(watch, watch.advance_to(case.until), stories)
    for key, alert in watch.alerts.items():
        stories.setdefault(key, Story()).state = alert.state
    return stories


def _rewind(watch: RunWatch, rewind: Rewind, seen: list[Sample], stories: dict[str, Story]) -> list[Sample]:
    """Begin a new attempt, as a session that starts at an earlier step does; return what stays valid."""
    _note(watch, watch.flush(), stories)
    until = watch.wall_at(rewind.to_step)
    kept = seen if until is None else [sample for sample in seen if sample[2] <= until]
    _note(watch, watch.rewind(rewind.to_step, rewind.wall, [(0, kept)]), stories)
    return kept


def _note(watch: RunWatch, observations: Iterable[Observation], stories: dict[str, Story]) -> None:
    for observation in observations:
        moved = observation.transition
        if moved is None:
            continue
        story = stories.setdefault(observation.key, Story())
        story.state, story.reason = moved.after, moved.reason
        if moved.after is AlertState.FIRING:
            onset = moved.onset.step if moved.onset else None
            message = watch.message(observation.key)
            story.firings.append(Firing(moved.at.step, moved.at.wall_time, onset, moved.value, message))


def samples(case: Case) -> list[list[Sample]]:
    """Return the points of a case in the order of their wall times: one list for each place on an axis."""
    batches = [batch for axis in (case, *case.axis) for batch in _points(axis)]
    return sorted(batches, key=lambda batch: batch[0][2])


def _points(axis: Axis) -> list[list[Sample]]:
    series = {tag: _expand(tag, text) for tag, text in axis.series.items()}
    longest = max((len(values) for values in series.values()), default=0)
    steps = _places("steps", axis.steps, [float(n) for n in range(1, longest + 1)], longest)
    walls = _places("wall", axis.wall, [n * BETWEEN_POINTS for n in range(1, longest + 1)], longest)
    batches = []
    for index in range(longest):
        found = [(tag, values[index]) for tag, values in series.items() if index < len(values)]
        batch = [(tag, int(steps[index]), walls[index], value) for tag, value in found if value is not None]
        if batch:
            batches.append(batch)
    return batches


def _expand(name: str, text: str) -> Values:
    try:
        return expand(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _places(name: str, text: str | None, usual: list[float], needed: int) -> list[float]:
    if text is None:
        return usual
    found = _expand(name, text)
    known = [place for place in found if place is not None and math.isfinite(place)]
    if len(known) < len(found):
        raise ValueError(f"{name}: every place must be a number")
    if len(known) < needed:
        raise ValueError(f"{name}: {len(known)} places for {needed} points")
    return known


def _compare(case: Case, stories: Mapping[str, Story], rules: Mapping[str, CompiledRule]) -> Iterator[str]:
    for expect in case.expect:
        found = _of(stories, expect.rule)
        yield from (f"{expect.rule}: {failure}" for failure in _judge(expect, found))
        if expect.before is not None:
            yield from _order(expect, found.firings, _of(stories, expect.before).firings)
    if case.quiet is not None:
        least = _SEVERITIES.index(case.quiet)
        for key, story in stories.items():
            severity = rules[key.partition("[")[0]].spec.severity
            if story.firings and _SEVERITIES.index(severity) >= least:
                yield f"{key}: expected quiet; it {_told(story.firings)}"


def _of(stories: Mapping[str, Story], rule: str) -> Story:
    """Return one alert's story, or that of all instances of a rule as one."""
    found = [story for key, story in stories.items() if rule in (key, key.partition("[")[0])]
    if len(found) == 1:
        return found[0]
    firings = sorted((f for story in found for f in story.firings), key=lambda firing: firing.wall)
    newest = found[-1] if found else Story()
    return Story(firings, newest.state, newest.reason)


def _judge(expect: Expect, story: Story) -> Iterator[str]:
    fired = story.firings
    first = fired[0] if fired else None
    told = _told(fired)
    if expect.never and fired:
        yield f"expected never to fire; it {told}"
    if expect.times is not None and len(fired) != expect.times:
        yield f"expected to fire {expect.times} times; it {told}"
    if expect.fires_at is not None and (first is None or first.step != expect.fires_at):
        yield f"expected to fire at step {expect.fires_at}; it {told}"
    if expect.fires_by is not None and (first is None or first.step > expect.fires_by):
        yield f"expected to fire by step {expect.fires_by}; it {told}"
    if expect.onset is not None and (first is None or first.onset != expect.onset):
        yield f"expected its onset at step {expect.onset}; it {told}"
    if expect.value is not None and not (first is not None and _is_near(first.value, expect.value)):
        yield f"expected the value {expect.value:g}; it {told}"
    if expect.message is not None and not (first is not None and expect.message in first.message):
        yield f"expected a message with {expect.message!r}; it {told}"
    if expect.state is not None and story.state is not expect.state:
        reason = story.reason or "it never began"
        yield f"expected to end {expect.state.value}; it is {story.state.value} ({reason})"
    if expect.reason is not None and expect.reason not in story.reason:
        yield f"expected the reason {expect.reason!r}; it was {story.reason!r}"


def _order(expect: Expect, fired: Sequence[Firing], other: Sequence[Firing]) -> Iterator[str]:
    if not fired or (other and other[0].wall <= fired[0].wall):
        others = f"{expect.before} {_told(other)}"
        yield f"{expect.rule}: expected to fire before {expect.before}; it {_told(fired)}, {others}"


def _told(firings: Sequence[Firing]) -> str:
    if not firings:
        return "did not fire"
    first = firings[0]
    value = "" if first.value is None else f", value {first.value:.6g}"
    often = "" if len(firings) == 1 else f", {len(firings)} times in all"
    return f"first fired at step {first.step} (wall {first.wall:g}{value}, {first.message!r}){often}"


def _is_near(found: float | None, wanted: float) -> bool:
    if found is None:
        return False
    if math.isnan(wanted):
        return math.isnan(found)
    return math.isclose(found, wanted, rel_tol=TOLERANCE, abs_tol=1e-12)
