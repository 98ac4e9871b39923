"""Test cases as they happen: written, recorded or generated points go through the judge that live runs and
replays go through.

A case has no trainer. What a ladder asks for is noted and not carried out; a rewind that the case itself
brings after a rollback was asked for counts as that rollback.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from rules import generators
from rules.alert import AlertState
from rules.case import Case, checkpoint_steps, rewinds, samples
from rules.evaluate import TICK_GAP
from rules.expectations import Asked, Firing, Seen, Stories, Story
from rules.gate import GateWatch
from rules.notation import seeds, span
from rules.scenario import Scenario
from rules.series import Sample
from rules.watch import Observation
from sentinel.attempts import Attempts
from sentinel.checkpoints import Checkpoint
from sentinel.discover import scan
from sentinel.errors import ConfigError
from sentinel.events import SessionStart
from sentinel.gates import GatedJudge
from sentinel.judge import Step
from sentinel.policy import Book
from sentinel.tail import Chunk, RunTail


@dataclass(frozen=True, slots=True)
class Course:
    """What happens in one run of a case.

    Attributes:
        label: which run, such as `seed 3`; empty where there is one.
        chunks: its points in the order in which they were logged, a tick at a time.
        until: wall time to which silence is judged after them; None: not at all.
    """

    label: str
    chunks: Sequence[Chunk]
    until: float | None = None

    @property
    def points(self) -> int:
        """How many points its longest series has."""
        counts: dict[str, int] = {}
        for chunk in self.chunks:
            for tag, _, _, _ in chunk.samples:
                counts[tag] = counts.get(tag, 0) + 1
        return max(counts.values(), default=0)

    @property
    def tags(self) -> set[str]:
        """The tags of its points."""
        return {sample[0] for chunk in self.chunks for sample in chunk.samples}


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a course.

    Attributes:
        seen: of every alert that was touched, and of the gates. keys: every rule instance that there was.
        resolution: what each metric was. trace: every evaluation of the traced keys.
    """

    seen: Seen
    keys: tuple[str, ...]
    resolution: dict[str, str | None]
    trace: list[Observation]

    @property
    def stories(self) -> Stories:
        """What became of every alert that was touched, by key."""
        return self.seen.stories


# Where points come from


def courses(case: Case, recorded: Sequence[Chunk] = ()) -> Iterator[Course]:
    """Yield each run of a case: one, or one for each seed.

    Args:
        case: a checked case. recorded: the points of its source, if it has one.
    """
    if case.gen is not None:
        family, setting = generators.read(case.gen)
        wanted = [setting.seed] if case.seeds is None else seeds(case.seeds)
        for seed in wanted:
            trace = generators.draw(family, replace(setting, seed=seed))
            announced = [(rewind.wall, rewind.to_step) for rewind in trace.rewinds]
            chunks = _with_rewinds(_ticks(0, trace.samples()), announced)
            label = "" if case.seeds is None else f"seed {seed}"
            yield _course(case, label, chunks, trace.until)
    elif case.source is not None:
        yield _course(case, "", recorded)
    else:
        yield _course(case, "", [Chunk(0, batch) for batch in samples(case)])


def read_source(path: Path) -> list[Chunk]:
    """Read an event file, or all those of a run's folder.

    Raises:
        ConfigError: there is none, it cannot be read, or a part of it is damaged.
    """
    if path.is_dir():
        files = found.event_files if (found := scan(path).get(".")) else []
        folder = path
    else:
        files, folder = [path] if path.is_file() else [], path.parent
    if not files:
        raise ConfigError(f"{path}: no TensorBoard event file")
    tail = RunTail(folder)
    chunks: list[Chunk] = []
    for fresh, hurt in tail.to_the_end(files):
        if hurt:
            what = hurt[0]
            raise ConfigError(f"{folder / what.path} at byte {what.offset}: {what.reason}")
        for chunk in fresh:
            ticks = _ticks(chunk.source, chunk.samples)
            if chunk.start is not None:
                chunks.append(Chunk(chunk.source, (), chunk.start))
            chunks += ticks
    return chunks


def _course(case: Case, label: str, chunks: Sequence[Chunk], silent_until: float | None = None) -> Course:
    taken = list(_taken(case, chunks))
    whole = _with_rewinds(taken, [(rewind.wall, rewind.to_step) for rewind in rewinds(case)])
    until = case.until if case.until is not None else silent_until
    if case.silence is not None:
        last = max((chunk.samples[-1][2] for chunk in taken if chunk.samples), default=0.0)
        until = max(last + case.silence.amount, until or -math.inf)
    return Course(label, whole, until)


def _taken(case: Case, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Leave out what a case does not take, and rename the rest; steps are cut by the run's own."""
    low, high = (0, math.inf) if case.only_steps is None else span(case.only_steps)
    end = math.inf if case.until is None else case.until
    reached = 0
    for chunk in chunks:
        if chunk.start is not None:
            reached = min(reached, chunk.start.step)
        kept: list[Sample] = []
        for tag, step, wall, value in chunk.samples:
            reached = max(reached, step)
            if low <= reached <= high and wall <= end and _is_wanted(tag, case.tags):
                kept.append((case.rename.get(tag, tag), step, wall, value))
        if kept or chunk.start is not None:
            yield Chunk(chunk.source, kept, chunk.start)


def _is_wanted(tag: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(tag, pattern) for pattern in patterns)


def _ticks(source: int, points: Iterable[Sample]) -> list[Chunk]:
    """Cut points where a tick ends, so that every alert is seen as it stood then."""
    ticks: list[Chunk] = []
    tick: list[Sample] = []
    for sample in points:
        if tick and (sample[1] != tick[-1][1] or sample[2] - tick[-1][2] > TICK_GAP):
            ticks.append(Chunk(source, tick))
            tick = []
        tick.append(sample)
    return [*ticks, Chunk(source, tick)] if tick else ticks


def _with_rewinds(chunks: Sequence[Chunk], announced: Iterable[tuple[float, int]]) -> list[Chunk]:
    """Put session starts in front of the first points that are not older."""
    waiting = sorted(announced)
    whole: list[Chunk] = []
    for chunk in chunks:
        while waiting and chunk.samples and chunk.samples[0][2] >= waiting[0][0]:
            whole.append(_rewind(*waiting.pop(0)))
        whole.append(chunk)
    return whole + [_rewind(*rewind) for rewind in waiting]


def _rewind(wall: float, to_step: int) -> Chunk:
    return Chunk(0, (), SessionStart(0, to_step + 1, wall))


# Playing


def play(scenario: Scenario, case: Case, course: Course, traced: Collection[str] = ()) -> Played:
    """Let a course happen.

    Args:
        scenario: whose rules judge. case: says which checkpoints there are.
        course: what happens. traced: keys whose every evaluation is wanted.
    """
    return _Play(scenario, case, traced).run(course)


class _Play:
    """One course while it happens."""

    def __init__(self, scenario: Scenario, case: Case, traced: Collection[str]) -> None:
        rules = scenario.rules
        book = Book(rules.ladders, rules.remedies, rules.limits, rules.inhibit)
        self._judge = GatedJudge(scenario.program, book, traced=traced)
        if scenario.gates is not None:
            self._judge.gates = GateWatch(scenario.gates)
        self._ending = case.ending
        self._memory = _Memory()
        self._attempts = Attempts(self._judge, self._memory)
        self._stories: dict[str, Story] = {}
        self._asked_back: int | None = None
        steps = checkpoint_steps(case)
        self._checkpoints = None if steps is None else _Checkpoints(steps)
        if self._checkpoints is not None:
            self._judge.catalogue = self._checkpoints.written

    def run(self, course: Course) -> Played:
        judge = self._judge
        last = -math.inf
        for chunk in course.chunks:
            if chunk.samples and chunk.samples[0][2] - last > TICK_GAP:
                self._note(judge.flush())  # as live, where nothing is waited for longer than that
            self._take(chunk)
            if chunk.samples:
                last = chunk.samples[-1][2]
        self._note(judge.flush())
        if course.until is not None:
            self._note(judge.silence(course.until))
        for key, alert in judge.watch.alerts.items():
            self._stories.setdefault(key, Story()).state = alert.state
        keys = tuple(judge.watch.marks())
        return Played(Seen(self._stories, self._gates()), keys, judge.watch.resolution(), judge.trace)

    def _gates(self) -> dict[str, tuple[str, str]]:
        gates = self._judge.gates
        if gates is None:
            return {}
        gates.end()
        return {found.gate.name: (found.verdict, found.reason) for found in gates.outcomes(self._ending)}

    def _take(self, chunk: Chunk) -> None:
        before = len(self._attempts.rewinds)
        if self._checkpoints is not None and chunk.samples:
            self._checkpoints.reach(max(sample[1] for sample in chunk.samples), chunk.samples[-1][2])
        self._note(self._attempts.take(chunk))
        self._memory.remember(chunk)
        if len(self._attempts.rewinds) == before:
            return
        began = self._attempts.rewinds[-1]
        if self._asked_back is not None:
            self._judge.ledger.rollbacks.append((self._asked_back, began.to_step))
            self._asked_back = None
        if self._checkpoints is not None:
            self._checkpoints.back(began.to_step, began.wall_time)

    def _note(self, steps: Iterable[Step]) -> None:
        for step in steps:
            seen = step.observation
            story = self._stories.setdefault(seen.key, Story())
            at = seen.verdict.at
            for action in step.actions:
                if action.verb == "rollback" and not action.withheld:
                    self._asked_back = at.run_step
                withheld = action.reason if action.withheld else ""
                story.asked.append(
                    Asked(
                        action.verb,
                        at.step,
                        at.wall_time,
                        action.to_step,
                        action.set or {},
                        action.reinit,
                        withheld,
                    )
                )
            self._note_change(story, seen)

    def _note_change(self, story: Story, seen: Observation) -> None:
        moved = seen.transition
        if moved is None:
            return
        story.state, story.reason = moved.after, moved.reason
        story.changes.append((moved.at.step, moved.after))
        if moved.after is AlertState.FIRING:
            onset = moved.onset.step if moved.onset else None
            message = self._judge.watch.message(seen.key)
            story.firings.append(Firing(moved.at.step, moved.at.wall_time, onset, moved.value, message))


class _Memory(RunTail):
    """A tail that needs no files: what it was told of is its history."""

    def __init__(self) -> None:
        super().__init__(Path())
        self._given: list[Chunk] = []

    def remember(self, chunk: Chunk) -> None:
        """Take in what has been judged."""
        self._given.append(chunk)

    def history(self) -> Iterator[Chunk]:
        """Give it back, in its order."""
        yield from self._given


class _Checkpoints:
    """Checkpoints that a trainer would have written by now: whole ones, at the steps that a case names."""

    def __init__(self, steps: Iterable[int]) -> None:
        self._steps = sorted(set(steps))
        self._waiting = list(self._steps)
        self._found: list[Checkpoint] = []
        self._attempt = 0
        self._at: tuple[int, float] | None = None

    def written(self) -> list[Checkpoint]:
        """Those that there are by now."""
        return list(self._found)

    def reach(self, step: int, wall: float) -> None:
        """Write those up to a run step; between two points the time is shared out evenly."""
        before, since = self._at or (step, wall)
        if step <= before and self._at is not None:
            return
        while self._waiting and self._waiting[0] <= step:
            due = self._waiting.pop(0)
            share = (due - before) / (step - before) if before < due <= step else 0.0
            self._write(due, since + share * (wall - since))
        self._at = (step, wall)

    def back(self, to_step: int, wall: float) -> None:
        """Begin a new attempt: those behind `to_step` are written again when it gets there."""
        self._attempt += 1
        self._waiting = [step for step in self._steps if step > to_step]
        self._at = (to_step, wall)

    def _write(self, step: int, wall: float) -> None:
        name = f"{self._attempt:02}-{step:08}"
        self._found.append(Checkpoint(name, step, self._attempt, wall, Path(name), verified=True))
