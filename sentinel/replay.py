"""Judge one recorded run: the same tail, rules and ladders as live, with nothing sent and nothing remembered.

Several sets of rules may judge a run in one reading of it. What comes out is plain data that can be sent from
one process to another. Of a run whose folder holds checkpoints a rollback's target is known: the newest good
one that was there at the time and still is; else the target stays null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from rules.coverage import coverage
from rules.series import Sample
from rules.watch import Observation
from sentinel.attempts import Attempts
from sentinel.checkpoints import Catalogue, Checkpoint
from sentinel.config import Settings
from sentinel.control import announced
from sentinel.discover import CHECKPOINTS, CONTROL, scan
from sentinel.errors import RunGoneError
from sentinel.judge import Judge, Step
from sentinel.policy import Action, RunFacts
from sentinel.tail import Chunk, Hurt, RunTail

_PIECES = 8  # how often, while a chunk is judged, it is looked which rules have an answer


@dataclass(frozen=True, slots=True)
class Recording:
    """One run that is to be judged.

    Attributes:
        run: its name. folder: where it is. files: its event files, oldest first.
        size: their bytes. error: why it cannot be judged, else empty.
    """

    run: str
    folder: Path
    files: tuple[Path, ...]
    size: int = 0
    error: str = ""


@dataclass(slots=True)
class Outcome:
    """What one set of rules said of one run.

    Attributes:
        run: its name. folder: where it is.
        steps: every change of an alert and every rung taken, in order.
        hurt: what could not be read.
        points, tags: how many there are.
        began, ended: wall times of the first and the last point, seconds since the epoch; None without one.
        last_step: the run step at its end.
        left: for each attempt after the first, (run step that was reached, run step it went on from).
        unjudged: each rule that never had an answer in this run, and why not.
        error: why nothing of the run could be read, else empty. A run without a scalar has none: it was read.
    """

    run: str
    folder: Path = Path()
    steps: list[Step] = field(default_factory=list)
    hurt: list[Hurt] = field(default_factory=list)
    points: int = 0
    tags: int = 0
    began: float | None = None
    ended: float | None = None
    last_step: int = 0
    left: list[tuple[int, int]] = field(default_factory=list)
    unjudged: dict[str, str] = field(default_factory=dict)
    error: str = ""

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield one JSON-ready object per transition, and per rung taken while an alert stayed as it was."""
        for step in self.steps:
            yield step_as_json(self.run, step)

    def behind(self, step: Step) -> tuple[int, float]:
        """Return what the record holds behind a step: run steps, over all later attempts, and seconds."""
        at = step.observation.verdict.at
        reached = [reached for reached, _ in self.left[step.attempt :]] + [self.last_step]
        began = [at.run_step] + [went_on for _, went_on in self.left[step.attempt :]]
        steps = sum(max(0, end - begin) for begin, end in zip(began, reached, strict=True))
        return steps, max(0.0, (self.ended or at.wall_time) - at.wall_time)


class RecordedJudge(Judge):
    """A judge of a run that is over: what is known of it afterwards is known to it no sooner than it was
    true.

    Attributes:
        left: see Outcome.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        super().__init__(settings.program, settings.book)
        self.left: list[tuple[int, int]] = []
        if (folder / CHECKPOINTS).is_dir():
            self.catalogue = cache(Catalogue(folder / CHECKPOINTS).list)

    def rewind(
        self, to_step: int, at_wall: float, history: Iterable[tuple[int, Sequence[Sample]]]
    ) -> list[Step]:
        """Begin a new attempt, and note how far the last one had come."""
        self.left.append((self.watch.run_step, to_step))
        return super().rewind(to_step, at_wall, history)

    def _facts(self, observation: Observation) -> RunFacts:
        facts = super()._facts(observation)
        listed = facts.catalogue
        if listed is None:
            return facts

        def by_then() -> list[Checkpoint]:
            return [checkpoint for checkpoint in listed() if checkpoint.wall_time <= facts.now]

        return replace(facts, catalogue=by_then)


class _Bench:
    """One set of rules before which a run is brought."""

    def __init__(self, settings: Settings, recording: Recording, tail: RunTail) -> None:
        self._program = settings.program
        self._judge = RecordedJudge(settings, recording.folder)
        self._attempts = Attempts(self._judge, tail)
        for wall, step in announced(recording.folder / CONTROL):
            self._attempts.announce(wall, step)
        self._unjudged = {rule.spec.name for rule in settings.program.rules}
        self.steps: list[Step] = []

    def take(self, chunk: Chunk) -> None:
        """Judge a chunk, in pieces: which does not change what is said of it."""
        length = max(len(chunk.samples) // _PIECES, 64)
        for begin in range(0, max(len(chunk.samples), 1), length):
            start = chunk.start if begin == 0 else None
            piece = Chunk(chunk.source, chunk.samples[begin : begin + length], start)
            self.steps += self._attempts.take(piece)
            self._look()

    def close(self, outcome: Outcome, tags: Iterable[str]) -> None:
        """Write down what was found."""
        self.steps += self._judge.flush()
        watch = self._judge.watch
        self._look()
        outcome.steps, outcome.left = self.steps, self._judge.left
        outcome.last_step = watch.run_step
        if self._unjudged:
            sights = {sight.rule: sight for sight in coverage(self._program, list(tags))}
            marks = watch.marks(self._waiting())
            failures = {failure.key.partition("[")[0]: failure.what for failure in watch.failures()}
            for rule in self._program.rules:  # in the order of the rules
                name = rule.spec.name
                if name not in self._unjudged:
                    continue
                if name in failures:
                    reason = f"it failed: {failures[name]}"
                elif sights[name].sight == "inapplicable" or any(
                    mark == "inapplicable" for key, mark in marks.items() if key.partition("[")[0] == name
                ):
                    reason = "it is not for this run: its `when` was never True"
                elif sights[name].sight == "blind":
                    reason = "the run logs nothing for " + ", ".join(sorted(sights[name].missing))
                elif any(mark == "warming" for key, mark in marks.items() if key.partition("[")[0] == name):
                    reason = "the run ended before the rule's first step or point"
                else:
                    reason = "too few points, or too old ones, for an answer"
                outcome.unjudged[name] = reason

    def _waiting(self) -> list[str]:
        existing = self._judge.watch.keys()
        return [key for key in existing if key.partition("[")[0] in self._unjudged]

    def _look(self) -> None:
        """Note which rules have an answer by now; what has breached had one."""
        self._unjudged -= {key.partition("[")[0] for key in self._judge.watch.alerts}
        if self._unjudged:
            marks = self._judge.watch.marks(self._waiting())
            self._unjudged -= {key.partition("[")[0] for key, mark in marks.items() if not mark}


def judge_run(
    recording: Recording, rules: Sequence[Settings], progress: Callable[[int], None] | None = None
) -> list[Outcome]:
    """Judge one run by one or more sets of rules, in one reading.

    Args:
        recording: the run. rules: the sets.
        progress: told now and then how many more bytes were judged, each set's counted.

    Returns:
        One outcome for each set of rules. A run that cannot be read has its reason in `error`.
    """
    common = Outcome(recording.run, recording.folder, error=recording.error)
    if recording.error:
        return [replace(common, unjudged=_unseen(settings)) for settings in rules]
    tail = RunTail(recording.folder)
    benches: list[_Bench] = []
    tags: set[str] = set()
    done = 0
    for chunks, hurt in tail.to_the_end(recording.files):
        common.hurt += [h for h in hurt if h not in common.hurt]
        if chunks and not benches:
            benches = [_Bench(settings, recording, tail) for settings in rules]
        for chunk in chunks:
            _count(common, chunk, tags)
            for bench in benches:
                bench.take(chunk)
        if progress is not None:
            come = sum(cursor.offset for cursor in tail.cursors())
            progress((come - done) * len(rules))
            done = come
    common.tags = len(tags)
    if not common.points:
        common.error = "; ".join(f"{hurt.path}: {hurt.reason}" for hurt in common.hurt)
        return [replace(common, unjudged=_unseen(settings)) for settings in rules]
    outcomes = []
    for bench in benches:
        outcome = replace(common, unjudged={})
        bench.close(outcome, tags)
        outcomes.append(outcome)
    return outcomes


def _unseen(settings: Settings) -> dict[str, str]:
    return {rule.spec.name: "the run logs no scalar" for rule in settings.program.rules}


def _count(outcome: Outcome, chunk: Chunk, tags: set[str]) -> None:
    if not chunk.samples:
        return
    outcome.points += len(chunk.samples)
    tags.update([sample[0] for sample in chunk.samples])
    walls = [sample[2] for sample in chunk.samples]
    low, high = min(walls), max(walls)
    outcome.began = low if outcome.began is None else min(outcome.began, low)
    outcome.ended = high if outcome.ended is None else max(outcome.ended, high)


def find(paths: Sequence[Path]) -> list[Recording]:
    """List every run at and below the given paths; a folder that cannot be looked into is one with its error.

    Raises:
        RunGoneError: a path holds no event file.
    """
    found = []
    for path in paths:
        if _is(path.is_file):
            found.append(_recording(path.resolve().parent.name, path.parent, [path]))
            continue
        runs = scan(path) if _is(path.exists) else None
        if not runs and not (runs is not None and runs.unreadable):
            raise RunGoneError(
                f"{path}: no TensorBoard event file (events.out.tfevents.*) at or below it; "
                "nothing was judged"
            )
        found += [_recording(_name(path, name), run.path, run.event_files) for name, run in runs.items()]
        found += [
            Recording(_name(path, _below(path, blind.path)), Path(blind.path), (), error=blind.reason)
            for blind in runs.unreadable
        ]
    return found


def replay_paths(paths: Sequence[Path], settings: Settings) -> list[Outcome]:
    """Judge every run below the given paths, one after the other in this process.

    Raises:
        RunGoneError: a path holds no event file.
    """
    return [judge_run(recording, [settings])[0] for recording in find(paths)]


def _is(question: Callable[[], bool]) -> bool:
    """Ask about a path; one that may not be looked at is nothing."""
    try:
        return question()
    except OSError:
        return False


def _recording(run: str, folder: Path, files: Sequence[Path]) -> Recording:
    size = 0
    for file in files:
        try:
            size += file.stat().st_size
        except OSError:  # gone since it was listed: the tail will say so
            continue
    return Recording(run, folder, tuple(files), size)


def _name(path: Path, run: str) -> str:
    return path.resolve().name if run == "." else f"{path.resolve().name}/{run}"


def _below(path: Path, folder: str) -> str:
    try:
        return Path(folder).relative_to(path).as_posix()
    except ValueError:  # its name is no text, and stands here in another form
        return folder


# -- for machines --------------------------------------------------------------


def step_as_json(run: str, step: Step) -> dict[str, Any]:
    """Render a judged step; `from` equals `to` where a rung was taken without a change of state."""
    alert, at, moved = step.observation.alert, step.observation.verdict.at, step.observation.transition
    onset = moved.onset if moved else alert.onset
    return {
        "run": run,
        "rule": step.observation.key,
        "from": (moved.before if moved else alert.state).value,
        "to": (moved.after if moved else alert.state).value,
        "step": at.step,
        "run_step": at.run_step,
        "onset_step": onset.step if onset else None,
        "onset_run_step": onset.run_step if onset else None,
        "wall_time": at.wall_time,
        "value": finite(moved.value if moved else alert.value),
        "limit": finite(moved.limit if moved else alert.limit),
        "severity": step.observation.rule.severity,
        "attempt": step.attempt,
        "reason": moved.reason if moved else "",
        "actions": [action_as_json(action) for action in step.actions],
    }


def action_as_json(action: Action) -> dict[str, Any]:
    """Render an action; `withheld` gives the reason where it was due and not taken, `asks` what people are
    asked about first, `settles` what became of that.
    """
    body: dict[str, Any] = {"verb": action.verb}
    if action.verb == "rollback" and not action.withheld:
        body |= {
            "target": action.checkpoint,
            "target_step": action.to_step,
            "set": dict(action.set or {}),
            "reinit": list(action.reinit),
        }
    if action.withheld:
        body["withheld"] = action.reason
    if action.asks is not None:
        body["asks"] = [action_as_json(deed) for deed in action.asks.deeds]
    if action.settles:
        body["settles"] = action.settles
    return body


def finite(value: float | None) -> float | str | None:
    """Return a number as JSON can hold it. JSON has no NaN and no infinity: they are told in words."""
    return value if value is None or math.isfinite(value) else str(value)
