"""Many recorded runs before one or more sets of rules: in this process, in several, or on a cluster.

However the work is spread, the outcomes come back in the order of the runs and are the same. A run that
cannot be judged is an outcome with its error and ends nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

from rules.schema import RuleSpec
from sentinel.config import Settings
from sentinel.replay import Outcome, Recording, judge_run

Outcomes: TypeAlias = list[Outcome]
"""What each set of rules said of one run."""

Progress: TypeAlias = Callable[[int], None]
"""Told how many more bytes have been judged."""

WORTH_A_PROCESS = 1 << 20
"""Bytes of event files for which another process is worth its start: about a second either way."""

DIED = (
    "the process that judged it died (killed for want of memory?), or another one did while this run waited; "
    "replay it alone with --jobs 1"
)


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def fitting_jobs(recordings: Sequence[Recording], most: int) -> int:
    """Return how many processes these runs are worth, at most `most`."""
    size = sum(recording.size for recording in recordings)
    return max(1, min(most, len(recordings), size // WORTH_A_PROCESS))


def backtest(
    recordings: Sequence[Recording], rules: Sequence[Settings], jobs: int, progress: Progress
) -> list[Outcomes]:
    """Judge runs by sets of rules.

    Args:
        recordings: the runs. rules: the sets.
        jobs: how many processes; 1 is this one.
        progress: told of what is done.

    Returns:
        For each run, in order, one outcome for each set.

    Raises:
        KeyboardInterrupt: as it came; the processes are ended.
    """
    if jobs <= 1:
        return [judge_safely(recording, rules, progress) for recording in recordings]
    known = rules_by_name(rules)
    found: list[Outcomes | None] = [None] * len(recordings)
    with _pool(jobs, rules) as pool:
        waiting: dict[Future[Outcomes], int] = {}
        with _undisturbed():
            for index in largest_first(recordings):
                waiting[pool.submit(_in_worker, recordings[index])] = index
        for future in as_completed(waiting):
            index = waiting[future]
            try:
                found[index] = interned(future.result(), known)
            except BrokenProcessPool:
                found[index] = failed(recordings[index], rules, DIED)
            progress(recordings[index].size * len(rules))
    return [outcomes for outcomes in found if outcomes is not None]


def judge_safely(
    recording: Recording, rules: Sequence[Settings], progress: Progress | None = None
) -> Outcomes:
    """Judge one run; whatever goes wrong is its error and nobody else's."""
    try:
        return judge_run(recording, rules, progress)
    except Exception as error:  # noqa: BLE001  one run among thousands must not take the others with it
        return failed(recording, rules, f"{type(error).__name__}: {error}")


def failed(recording: Recording, rules: Sequence[Settings], error: str) -> Outcomes:
    """Return the outcomes of a run that could not be judged."""
    return [Outcome(recording.run, recording.folder, error=error) for _ in rules]


def largest_first(recordings: Sequence[Recording]) -> list[int]:
    """Return the order in which to hand runs out: a large one that comes last is waited for alone."""
    return sorted(range(len(recordings)), key=lambda index: (-recordings[index].size, index))


def rules_by_name(rules: Sequence[Settings]) -> list[Mapping[str, RuleSpec]]:
    """Return the rules of each set by their names."""
    return [{rule.name: rule for rule in settings.rules.rules} for settings in rules]


def interned(outcomes: Outcomes, known: Sequence[Mapping[str, RuleSpec]]) -> Outcomes:
    """Let outcomes from another process share this one's rules: a thousand runs hold one copy of each."""
    for outcome, rules in zip(outcomes, known, strict=True):
        outcome.steps = [
            replace(step, observation=replace(step.observation, rule=rules[step.observation.rule.name]))
            for step in outcome.steps
        ]
    return outcomes


# -- other processes -----------------------------------------------------------


@dataclass(slots=True)
class _Worker:
    rules: Sequence[Settings] = ()


_worker = _Worker()


def _begin(rules: Sequence[Settings]) -> None:
    """Take the rules in, once a process. Ctrl-C reaches every process of a terminal; this one ends mute."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _worker.rules = rules


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put off Ctrl-C while processes are started, here and in them: one half begun would end in a
    traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _in_worker(recording: Recording) -> Outcomes:
    return judge_safely(recording, _worker.rules)


@contextmanager
def _pool(jobs: int, rules: Sequence[Settings]) -> Iterator[ProcessPoolExecutor]:
    """Keep processes for as long as they are needed; if the work is broken off they are ended at once."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(uncompiled(rules),))
    try:
        yield pool
    except BaseException:
        ours = set(multiprocessing.active_children()) - before
        pool.shutdown(wait=False, cancel_futures=True)
        for process in ours:
            process.terminate()
        for process in ours:
            process.join()
        raise
    pool.shutdown()


def uncompiled(rules: Sequence[Settings]) -> list[Settings]:
    """Return the sets without what a process works out for itself, to be sent to it."""
    return [Settings(settings.service, settings.rules) for settings in rules]
