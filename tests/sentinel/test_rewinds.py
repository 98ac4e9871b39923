"""Which steps back are a new attempt, and which are a file's own way of counting."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.series import Sample
from sentinel.events import EventFile
from sentinel.rewinds import LEAST_SILENCE, Found, Rewinds

W0 = 1_700_000_000.0


def log(steps: Iterable[int], tags: Sequence[str] = ("loss", "lr"), wall: float = 0.0) -> list[Sample]:
    """One point of every tag at each step, a second apart."""
    return [(tag, step, W0 + wall + n, 0.0) for n, step in enumerate(steps) for tag in tags]


def found(samples: Sequence[Sample], *more: tuple[int, Sequence[Sample]]) -> list[Found]:
    watcher = Rewinds()
    seen = list(watcher.observe(0, samples))
    for source, others in more:
        seen += watcher.observe(source, others)
    return seen


# One file


def test_series_that_go_back_together_and_go_on_from_there_are_a_new_attempt() -> None:
    """It is dated from its first sample, whenever it was settled."""
    samples = log(range(100)) + log(range(90, 200), wall=100)
    (rewind,) = found(samples)
    assert (rewind.first, rewind.step, rewind.wall_time) == (200, 90, W0 + 100)
    assert rewind.index < 200 + 2 * 7


def test_a_run_may_go_back_more_than_once() -> None:
    """Also to the same checkpoint."""
    samples = log(range(100)) + log(range(40, 100), wall=100) + log(range(40, 120), wall=200)
    assert [(f.step, f.wall_time) for f in found(samples)] == [(40, W0 + 100), (40, W0 + 200)]


def test_a_run_that_begins_from_the_start_does_so_once() -> None:
    """What falls back to its own beginning again and again counts batches of an epoch."""
    samples = [s for epoch in range(6) for s in log(range(50), wall=50 * epoch)]
    assert [f.step for f in found(samples)] == [0]


def test_duplicate_steps_are_no_rewind() -> None:
    """Several episodes end at one step."""
    assert found(log(sorted(list(range(80)) * 3))) == []


def test_episodes_counted_anew_beside_a_run_that_goes_on_are_no_rewind() -> None:
    """One file mixes axes; the run's own is the one that goes furthest."""
    steps = [s for n in range(200) for s in log([100 * n], ("loss",), n) + log([n % 50], ("ep_len",), n)]
    assert found(steps) == []


def test_one_tag_of_two_loggers_is_no_rewind() -> None:
    """Bursts on another axis, while the rest of the file goes on."""
    samples: list[Sample] = []
    for n in range(20):
        samples += log(range(100 * n, 100 * n + 100, 10), ("loss", "lr", "grad"), 20 * n)
        samples += log(range(9), ("loss",), 20 * n + 10)
    assert found(samples) == []


def test_a_late_tag_is_no_rewind() -> None:
    """A worker thread that evaluates logs for a step that is past."""
    samples = [s for n in range(90) for s in log([n], wall=n) + log([max(n - 30, 0)], ("eval",), n)]
    assert found(samples) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 24), st.integers(1, 50), st.randoms(use_true_random=False))
def test_workers_that_count_for_themselves_are_no_rewind(n: int, lag: int, chance: random.Random) -> None:
    """They write one tag in any order, each at its own step: up and down all the time."""
    at = [chance.randint(0, lag) for _ in range(n)]
    steps = []
    for _ in range(60):
        order = chance.sample(range(n), n)
        for worker in order:
            at[worker] += chance.randint(1, 3)
            steps.append(at[worker])
    assert found(log(steps, ("ep_len", "ep_rew"))) == []


@pytest.mark.parametrize("workers", [2, 4, 7])
def test_workers_in_ascending_order_are_no_rewind(workers: int) -> None:
    """A fixed order is the hardest case: up to eight of them the zig-zag is never steady."""
    steps = [10 * worker + turn for turn in range(50) for worker in range(workers)]
    assert found(log(steps)) == []


scripts = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(-60, 6), st.integers(1, 14)), min_size=1, max_size=12
)


def scripted(script: list[tuple[str, int, int]]) -> list[Sample]:
    at = dict.fromkeys("abc", 0)
    samples: list[Sample] = []
    for tag, jump, count in script:
        for name in "abc" if jump < -20 else tag:
            at[name] = max(at[name] + jump, 0)
        for n in range(count):
            for name in "abc" if jump < -20 or n % 2 else tag:
                at[name] += 1
                samples.append((name, at[name], W0 + len(samples), 0.0))
    return samples


@settings(max_examples=150, deadline=None)
@given(scripts, st.lists(st.integers(1, 9), min_size=1))
def test_how_a_file_is_cut_changes_nothing(script: list[tuple[str, int, int]], cuts: list[int]) -> None:
    """The same attempts, settled by the same samples."""
    samples = log(range(12), tuple("abc"), -50) + scripted(script)
    whole = [(f.index, f.first, f.step, f.wall_time) for f in Rewinds().observe(0, samples)]
    watcher, parts, at = Rewinds(), [], 0
    while at < len(samples):
        size = cuts[at % len(cuts)]
        parts += [
            (at + f.index, f.first, f.step, f.wall_time) for f in watcher.observe(0, samples[at : at + size])
        ]
        at += size
    assert parts == whole


def test_all_that_real_files_hold_are_three_that_were_made_to_go_back(corpus: Path) -> None:
    """197 files of other people's: two tags of three fixtures go from 99 to 90 and on; see decision 5."""
    seen: dict[str, list[int]] = {}
    for path in sorted(corpus.glob("*/*tfevents*")):
        file, watcher, more = EventFile(path), Rewinds(), True
        while more:
            batch = file.read()
            for rewind in watcher.observe(0, batch.samples):
                seen.setdefault(path.parent.name, []).append(rewind.step)
            more = batch.more
    assert seen == {"JAN000": [90], "JAN001": [90], "JAN002": [90]}


# Several files


def test_a_file_that_takes_up_an_older_ones_steps_once_that_is_silent_resumes_it() -> None:
    """A job that is started again from its checkpoint says so only by its steps."""
    (rewind,) = found(log(range(0, 800, 10)), (1, log(range(500, 900, 10), wall=1000)))
    assert (rewind.index, rewind.first, rewind.step, rewind.wall_time) == (0, 160, 500, W0 + 1000)


def test_a_quick_resume_is_settled_by_the_older_files_silence() -> None:
    """Writers hold back what they have for two minutes: until then it may yet write."""
    (rewind,) = found(log(range(100)), (1, log(range(80, 300), wall=101)))
    assert rewind.wall_time == W0 + 101
    assert rewind.index == 2 * 119  # the first sample more than 120 s after the older file's last
    assert LEAST_SILENCE == 120.0


def test_two_live_loggers_are_no_rewind() -> None:
    """The second begins at a lower step of a tag that they share, and both keep writing."""
    watcher = Rewinds()
    seen = list(watcher.observe(0, log(range(0, 500, 10))))
    for n in range(40):
        seen += watcher.observe(1, log([n], wall=50 + 10 * n))
        seen += watcher.observe(0, log([500 + n], wall=55 + 10 * n))
    seen += watcher.observe(1, log(range(40, 400), wall=1000))  # also once the first has come to its end
    assert seen == []


def test_a_file_that_writes_rarely_is_given_its_own_time() -> None:
    """An evaluation every ten minutes is not silent after two."""
    evaluations = [s for n in range(5) for s in log([1000 * n], wall=600 * n)]
    watcher = Rewinds()
    seen = list(watcher.observe(0, evaluations))
    seen += watcher.observe(1, log(range(300), wall=2401))
    seen += watcher.observe(0, log([5000], wall=3000))
    seen += watcher.observe(1, log(range(300, 2000), wall=3001))
    assert seen == []


def test_a_file_that_goes_on_where_the_other_was_resumes_nothing() -> None:
    """A rotated file is no rollback, and what it does later is its own affair."""
    assert found(log(range(100)), (1, log(range(100, 300), wall=1000))) == []


def test_what_logged_first_resumes_nobody() -> None:
    """An old file that takes up a tag of a younger one has been written all along."""
    watcher = Rewinds()
    seen = list(watcher.observe(0, log(range(10), ("a",))))
    seen += watcher.observe(1, log(range(500, 600), ("a", "b"), 5))
    seen += watcher.observe(0, log(range(10, 20), ("a", "b"), 2000))
    assert seen == []


# What is said


def test_the_trainers_word_settles_it_at_once() -> None:
    """It names the checkpoint as well; what was logged at its step stays."""
    watcher = Rewinds()
    watcher.announce(W0 + 99.5, 85)
    assert list(watcher.observe(0, log(range(100)))) == []
    (rewind,) = watcher.observe(0, log([90, 91], wall=100))
    assert (rewind.index, rewind.step) == (0, 86)
    assert list(watcher.observe(0, log(range(92, 300), wall=102))) == []


def test_an_announcement_is_used_once_and_not_kept_for_later() -> None:
    """Neither a START that says the same nor a run that goes straight on leaves one behind."""
    for told in (True, False):
        watcher = Rewinds()
        watcher.announce(W0 + 30, None)
        assert list(watcher.observe(0, log(range(4)))) == []
        if told:
            watcher.began(0, 3, W0 + 30)
        assert list(watcher.observe(0, log(range(4, 8), wall=31))) == []
        assert list(watcher.observe(0, log([5, 8, 6, 9, 7], wall=36))) == []


def test_a_start_is_no_step_back() -> None:
    """What a file says of itself is not found a second time."""
    watcher = Rewinds()
    assert list(watcher.observe(0, log(range(100)))) == []
    watcher.began(1, 50, W0 + 100)
    assert list(watcher.observe(1, log(range(50, 300), wall=400))) == []


def test_what_is_suspected_is_known_by_its_first_sample() -> None:
    """It is forgotten when the run goes on."""
    watcher = Rewinds()
    assert list(watcher.observe(0, log(range(50)) + log([20, 21], wall=50))) == []
    assert watcher.suspected == 100
    assert list(watcher.observe(0, log([51], wall=60))) == []
    assert watcher.suspected is None
