"""What keeps rules from working in recorded runs: the run is judged as in a replay, and looked at afterwards.

A rule that never had an answer is not quiet; it is blind. Whether one had is asked every few hundred samples
of all rules that had none so far, and of those that remain once more at every evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rules.axis_facts import AxisFacts
from rules.lint import Silence, lints
from rules.lint_found import Lint
from rules.verdict import Condition
from sentinel.attempts import Attempts
from sentinel.config import Settings
from sentinel.discover import RunFiles, scan
from sentinel.errors import RunGoneError
from sentinel.judge import Judge
from sentinel.tail import Chunk, RunTail

STILL_GOING = 900.0
"""Seconds since its last point for which a run is taken to go on."""

_PIECE = 512  # samples between two looks at the rules that had no answer so far


@dataclass(frozen=True, slots=True)
class LintedRun:
    """One run.

    Attributes:
        name: as found. finished: nothing has been logged for a while. points: how many scalars it holds.
        rules: how many are in force. lints: what was found, most useful first.
        unread: stretches of its files that could not be read.
    """

    name: str
    finished: bool
    points: int
    rules: int
    lints: tuple[Lint, ...]
    unread: int = 0

    @property
    def clean(self) -> bool:
        """Whether there is nothing but information."""
        return not any(lint.severity == "warning" for lint in self.lints)


def lint_runs(paths: Iterable[Path], settings: Settings, now: float) -> Iterator[LintedRun]:
    """Look at every run at or below some paths, one after the other.

    Args:
        paths: folders of runs, or event files.
        settings: the rules.
        now: seconds since the epoch; tells runs that go on from those that are over.

    Raises:
        RunGoneError: there is no event file at or below one of the paths; said before any run is read.
    """
    found = [(path, scan(path) if path.exists() else {}) for path in paths]
    for path, runs in found:
        if not runs:
            raise RunGoneError(f"{path}: no TensorBoard event file (events.out.tfevents.*) at or below it")
    for path, runs in found:
        for name, run in runs.items():
            yield lint_run(path.resolve().name if name == "." else name, run, settings, now)


def lint_run(name: str, run: RunFiles, settings: Settings, now: float) -> LintedRun:
    """Judge one run and say what keeps rules from working in it."""
    facts, unjudged = AxisFacts(), _Unjudged()
    judge, unread = _judged(run, settings, facts, unjudged)
    watch, gathered = judge.watch, facts.facts()
    last = max((series.last_wall for series in gathered.series.values()), default=0.0)
    finished = now - last > STILL_GOING
    failed = {failure.key: failure.what for failure in watch.failures()}
    keys = sorted(unjudged.keys(judge) - set(failed))
    marks = watch.marks(keys)
    silent = {key: Silence(marks[key], watch.explain(key, last)) for key in _never(run, settings, keys)}
    found = lints(settings.program, watch, gathered, silent, failed, finished=finished)
    points = sum(series.count for series in gathered.series.values())
    return LintedRun(name, finished, points, len(settings.program.rules), tuple(found), unread)


class _Unjudged:
    """Which rule instances have had no answer at any look so far."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def look(self, judge: Judge) -> None:
        marks = judge.watch.marks(self.keys(judge))
        self._known.update(key for key, mark in marks.items() if mark == "")

    def keys(self, judge: Judge) -> set[str]:
        return set(judge.watch.keys()) - self._known


def _judged(run: RunFiles, settings: Settings, facts: AxisFacts, unjudged: _Unjudged) -> tuple[Judge, int]:
    judge = Judge(settings.program, settings.book)
    attempts = Attempts(judge, (tail := RunTail(run.path)))
    rewound = hurt = 0
    for chunk, damaged in _pieces(tail, run.event_files):
        hurt += damaged
        attempts.take(chunk)
        if len(attempts.rewinds) > rewound:
            rewound = len(attempts.rewinds)
            facts.rewound()
        facts.take(chunk.samples, chunk.source)
        unjudged.look(judge)
    judge.flush()
    unjudged.look(judge)
    return judge, hurt


def _never(run: RunFiles, settings: Settings, keys: Sequence[str]) -> list[str]:
    """Return those of some rule instances that had no known answer at any evaluation."""
    if not keys:
        return []
    known: set[str] = set()
    judge = Judge(settings.program, settings.book, traced=keys)
    attempts = Attempts(judge, (tail := RunTail(run.path)))

    def note() -> None:
        known.update(seen.key for seen in judge.trace if seen.verdict.condition is not Condition.UNKNOWN)
        judge.trace.clear()

    for chunk, _ in _pieces(tail, run.event_files):
        attempts.take(chunk)
        note()
    judge.flush()
    note()
    return [key for key in keys if key not in known]


def _pieces(tail: RunTail, files: Sequence[Path]) -> Iterator[tuple[Chunk, int]]:
    """Yield a run's chunks in small pieces, each with how many stretches could not be read before it."""
    damaged = 0
    for chunks, hurt in tail.to_the_end(files):
        damaged += len(hurt)
        for chunk in chunks:
            for at in range(0, max(len(chunk.samples), 1), _PIECE):
                start = chunk.start if at == 0 else None
                yield Chunk(chunk.source, chunk.samples[at : at + _PIECE], start), damaged
                damaged = 0
    if damaged:
        yield Chunk(0, ()), damaged
