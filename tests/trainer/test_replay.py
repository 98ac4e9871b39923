"""The ring gives back what was stored, and the past as it was."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainer.envs import Seen
from trainer.replay import DamagedReplayError, Journal, Replay

CPU = torch.device("cpu")


def seen(number: int, *, size: int = 0) -> Seen:
    """An observation that says which it is."""
    observation: dict[str, Any] = {"vector": np.full(3, number, np.float32)}
    if size:
        observation["image"] = np.full((4, size, size), number % 256, np.uint8)
    return observation


class World:
    """Episodes of given lengths whose observations are numbered; the stacks it shows are the truth."""

    def __init__(self, replay: Replay, size: int = 0) -> None:
        self.replay, self.size, self.number = replay, size, 0
        self.stack: list[int] = []
        self.stacks: dict[int, list[int]] = {}
        self._begin()

    def _begin(self) -> None:
        self.stack = [self.number] * 4
        self._show(self.replay.begin)

    def _show(self, to: Any, **more: Any) -> None:
        self.stacks[self.number] = list(self.stack)
        to(after=self._seen(), **more) if more else to(self._seen())
        self.number += 1

    def interrupt(self) -> None:
        """Rows of another episode come between, and this one goes on behind them."""
        self.replay.abandon()
        self.replay.begin(seen(77, size=self.size))
        self.replay.abandon()
        self.replay.go_on(self.last)

    def _seen(self) -> Seen:
        observation = seen(self.number, size=self.size)
        if self.size:
            observation["image"] = np.stack(
                [np.full((self.size, self.size), n % 256, np.uint8) for n in self.stack]
            )
        self.last = observation
        return observation

    def step(self, *, terminated: bool = False, truncated: bool = False) -> None:
        """The action and reward of a transition carry the number of its observation."""
        here = self.number - 1
        self.stack = [*self.stack[1:], self.number]
        self._show(
            self.replay.add,
            action=np.full(2, here, np.float32),
            reward=float(here),
            terminated=terminated,
            ended=terminated or truncated,
        )
        if terminated or truncated:
            self._begin()

    def fail(self) -> None:
        """The simulator fails under a step: what was seen last gets no answer."""
        self.replay.abandon()
        self._begin()


def ring(capacity: int, size: int = 0, seed: int = 0) -> Replay:
    return Replay(
        capacity,
        vector_dim=3,
        action_dim=2,
        frames=4 if size else 0,
        image_size=size,
        rng=np.random.default_rng(seed),
    )


STEPS = st.lists(
    st.sampled_from(["on", "on", "on", "terminated", "truncated", "fault", "interrupted"]),
    min_size=1,
    max_size=120,
)


def play(world: World, steps: list[str]) -> None:
    for step in [*steps, "on"]:  # a ring of nothing but faults has nothing to draw
        if step == "fault":
            world.fail()
        elif step == "interrupted":
            world.interrupt()
        else:
            world.step(terminated=step == "terminated", truncated=step == "truncated")


@settings(deadline=None, max_examples=60)
@given(steps=STEPS, capacity=st.integers(24, 60), size=st.sampled_from([0, 2]))
@example(steps=[*["on"] * 6, "interrupted", *["on"] * 3], capacity=40, size=2)
def test_a_drawn_transition_is_one_that_happened(steps: list[str], capacity: int, size: int) -> None:
    """Observation, action, reward and successor belong together, also after the ring has wrapped."""
    world = World(ring(capacity, size), size)
    play(world, steps)
    batch = world.replay.sample(64, CPU)
    here = batch.observation["vector"][:, 0]
    assert torch.equal(batch.reward[:, 0], here)
    assert torch.equal(batch.action[:, 0], here)
    assert torch.equal(batch.next_observation["vector"][:, 0], here + 1)
    if size:
        for observation in (batch.observation, batch.next_observation):
            for vector, image in zip(observation["vector"], observation["image"], strict=True):
                stack = [number % 256 for number in world.stacks[int(vector[0])]]
                assert image[:, 0, 0].tolist() == stack


def test_a_step_limit_is_no_end_but_a_crash_is() -> None:
    """not_done is 0 only where nothing comes after: a truncated episode still bootstraps."""
    world = World(ring(50))
    play(world, ["on", "truncated", "on", "terminated"])
    batch = world.replay.sample(64, CPU)
    for reward, not_done in zip(batch.reward[:, 0].tolist(), batch.not_done[:, 0].tolist(), strict=True):
        assert not_done == (0.0 if reward == 4.0 else 1.0)


def test_an_empty_replay_says_so() -> None:
    """Drawing from nothing is an error, not an endless search."""
    with pytest.raises(ValueError, match="replay is empty"):
        ring(50).sample(4, CPU)


@settings(deadline=None, max_examples=60)
@given(first=STEPS, then=STEPS, newest=st.integers(0, 130), capacity=st.integers(24, 300))
def test_what_is_skipped_is_never_drawn_again(
    first: list[str], then: list[str], newest: int, capacity: int
) -> None:
    """The newest transitions go, a few old ones stay, later ones are drawn; a saved ring knows it too."""
    with tempfile.TemporaryDirectory() as folder:
        world, fresh = World(ring(capacity)), ring(capacity)
        play(world, first)
        there = {int(n) for n in world.replay.sample(2000, CPU).reward[:, 0]}
        skipped = world.replay.skip(newest, keep=4)
        assert skipped <= newest
        left = {int(n) for n in world.replay.sample(500, CPU).reward[:, 0]}
        assert len(there) - len(left) >= skipped - 1  # a rare one may not have been drawn before
        assert not skipped or max(left) < max(there)
        play(world, then)
        fresh.load(world.replay.state_dict(), Journal(Path(folder)).save(world.replay, 0), Path(folder))
        gone = there - left
        for replay in (world.replay, fresh):
            assert not gone & {int(n) for n in replay.sample(500, CPU).reward[:, 0]}


@settings(deadline=None, max_examples=60)
@given(first=STEPS, then=STEPS, again=STEPS, capacity=st.integers(24, 300), size=st.sampled_from([0, 2]))
def test_a_rewound_ring_is_the_one_that_never_went_on(
    first: list[str], then: list[str], again: list[str], capacity: int, size: int
) -> None:
    """Either rewind() refuses because older rows are lost, and load() restores them, or it is exact."""
    with tempfile.TemporaryDirectory() as folder:
        plain, moved = World(ring(capacity, size), size), World(ring(capacity, size), size)
        journal = Journal(Path(folder))
        for world in (plain, moved):
            play(world, first)
        state, segments = moved.replay.state_dict(), journal.save(moved.replay, 0)
        mark = (moved.number, list(moved.stack), moved.last)
        play(moved, then)
        journal.save(moved.replay, 0)
        wrapped = moved.replay.oldest > max(0, state["written"] + 1 - capacity)
        assert moved.replay.rewind(state) is not wrapped
        if wrapped:
            moved.replay.load(state, segments, journal.folder)
        moved.number, moved.stack, moved.last = mark
        for world in (plain, moved):
            play(world, again)
            world.replay._rng = np.random.default_rng(7)
        one, other = plain.replay.sample(32, CPU), moved.replay.sample(32, CPU)
        assert torch.equal(one.reward, other.reward)
        assert torch.equal(one.not_done, other.not_done)
        for name, value in one.observation.items():
            assert torch.equal(value, other.observation[name])


@settings(deadline=None, max_examples=40)
@given(
    parts=st.lists(STEPS, min_size=1, max_size=5),
    capacity=st.integers(24, 300),
    segment_bytes=st.integers(1, 4000),
)
def test_each_save_can_be_loaded_by_a_fresh_process(
    parts: list[list[str]], capacity: int, segment_bytes: int
) -> None:
    """Every checkpoint's segments give its own ring, however much was appended after it."""
    with tempfile.TemporaryDirectory() as folder:
        world, journal = World(ring(capacity)), Journal(Path(folder), segment_bytes=segment_bytes)
        saved = []
        for part in parts:
            play(world, part)
            live = np.arange(world.replay.oldest, world.replay.written) % capacity
            saved.append(
                (world.replay.state_dict(), journal.save(world.replay, 0), world.replay.rows[live].copy())
            )
        for state, segments, rows in saved:
            fresh = ring(capacity)
            fresh.load(state, segments, journal.folder)
            live = np.arange(fresh.oldest, fresh.written) % capacity
            assert fresh.rows[live].tobytes() == rows.tobytes()


def test_a_rollback_leaves_the_abandoned_rows_to_the_checkpoints_that_know_them(tmp_path: Path) -> None:
    """The new attempt writes a segment of its own; the old one is neither cut nor overwritten."""
    world, journal = World(ring(100)), Journal(tmp_path)
    play(world, ["on"] * 10)
    early = (world.replay.state_dict(), journal.save(world.replay, 0))
    play(world, ["on"] * 10)
    late = (world.replay.state_dict(), journal.save(world.replay, 0))
    world.replay.rewind(early[0])
    journal.rewind(early[1], world.replay.written)
    play(world, ["on"] * 30)
    again = (world.replay.state_dict(), journal.save(world.replay, 1))
    assert [segment.name[:2] for segment in again[1]] == ["00", "01"]
    for state, segments in (early, late, again):
        ring(100).load(state, segments, tmp_path)
    journal.prune({segment.name for segment in late[1]})
    ring(100).load(*late, tmp_path)


def test_old_segments_leave_the_disk_when_their_rows_have_left_the_ring(tmp_path: Path) -> None:
    """Disk stays bounded: what neither the ring nor a kept checkpoint needs is deleted."""
    world, journal = World(ring(30)), Journal(tmp_path, segment_bytes=1)
    for _ in range(20):
        play(world, ["on"] * 10)
        journal.save(world.replay, 0)
        journal.prune(set())
    assert len(list(tmp_path.glob("*.rows"))) <= 4


@pytest.mark.parametrize("harm", ["cut", "flip", "missing"])
def test_damaged_rows_are_refused_and_the_ring_stays(tmp_path: Path, harm: str) -> None:
    """A segment that is short, changed or gone is named; the ring is as it was."""
    world, journal = World(ring(100)), Journal(tmp_path)
    play(world, ["on"] * 20)
    state, segments = world.replay.state_dict(), journal.save(world.replay, 0)
    path = tmp_path / segments[0].name
    content = bytearray(path.read_bytes())
    if harm == "missing":
        path.unlink()
    else:
        content[100] ^= 1
        path.write_bytes(content if harm == "flip" else content[:-1])
    before = world.replay.rows.copy()
    with pytest.raises(DamagedReplayError, match=segments[0].name):
        world.replay.load(state, segments, tmp_path)
    assert world.replay.rows.tobytes() == before.tobytes()
