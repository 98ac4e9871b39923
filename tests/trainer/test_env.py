"""The environment: gymnasium's contract, observations, when an episode ends, resuming in mid-episode."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.driving.env import VECTOR_SIZE, DrivingEnv, Observation, Observe, make_env
from trainer.driving.kinematic_world import KinematicWorld

ACTIONS = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=25)


def steer_by_sight(vector: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A plain driver: point the wheels at the fourth waypoint, hold 8 m/s. It sees only the vector."""
    waypoint = vector[3:].reshape(25, 2)[3]
    angle = math.atan2(waypoint[1], waypoint[0])
    return np.array((np.clip(6 * angle, -1, 1), np.clip(8.0 - 30 * vector[0], -1, 1)), np.float32)


@pytest.mark.parametrize("observation", ["state", "image", "both"])
@pytest.mark.parametrize("npcs", [0, None])
def test_gymnasium_finds_no_fault(observation: Observe, npcs: int | None) -> None:
    """gymnasium's own checker: spaces, types, seeding, reset and step."""
    check_env(make_env(observation, npcs=npcs, image_size=48), skip_render_check=True)


def test_rendering_is_what_the_camera_sees() -> None:
    """A state-only agent may be watched too: a colour picture of the camera's grey."""
    env = make_env(render_mode="rgb_array", image_size=48)
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (48, 48, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture[:, :, 0], env.world.frame())


def test_the_vector_is_what_the_docs_say() -> None:
    """speed / 30, lateral / 3.5, heading error / pi, then waypoints in the ego frame / 50: forward, right."""
    env = make_env()
    vector, info = env.reset(seed=3)
    assert isinstance(vector, np.ndarray)
    assert vector.shape == (VECTOR_SIZE,) == (53,)
    assert vector[0] * 30 == pytest.approx(info["speed"], rel=1e-5)
    assert vector[1] * 3.5 == pytest.approx(info["lateral"], rel=1e-5)
    waypoints = vector[3:].reshape(25, 2) * 50
    assert np.all(np.diff(waypoints[:, 0]) > 0)
    steps = np.hypot(*np.diff(waypoints, axis=0).T)
    assert np.allclose(steps, 2.0, atol=0.01)
    # The first waypoint lies on the lane's centre: as far to the other side as the car is off it.
    sideways = waypoints[0, 1] + 2.0 * math.sin(vector[2] * math.pi)
    assert sideways == pytest.approx(-info["lateral"], abs=0.06)


def test_an_image_is_whole_grey_levels_and_the_newest_is_last() -> None:
    """Frames shift by one a step, and uint8 holds them without loss."""
    env = make_env("image", image_size=48)
    before, _ = env.reset(seed=0)
    assert isinstance(before, np.ndarray)
    assert all(np.array_equal(before[0], frame) for frame in before)
    for _ in range(6):
        after, *_ = env.step(np.array((0.3, 0.2), np.float32))
        assert isinstance(after, np.ndarray)
        assert np.array_equal(after[:-1], before[1:])
        assert not np.array_equal(after[-1], before[-1])
        grey = np.rint((after + 1) * 127.5).astype(np.uint8)
        assert np.array_equal(grey.astype(np.float32) / np.float32(127.5) - np.float32(1), after)
        before = after


def test_leaving_the_road_ends_the_episode() -> None:
    """A held wheel leaves the road within 20 steps: terminated, not truncated, and paid for."""
    env = make_env()
    env.reset(seed=0)
    for _ in range(20):
        _, _, terminated, truncated, info = env.step(np.array((1.0, 1.0), np.float32))
        assert not truncated
        if terminated:
            break
    assert terminated
    assert info["off_road"]
    assert abs(info["lateral"]) > 2.5
    assert info["rewards"]["safety"] < 0
    assert info["lane_invasions"] == 1


def test_a_plain_driver_reaches_the_limit() -> None:
    """The task can be done from the vector alone: 300 steps, truncated, about 3 a step."""
    for scenario in range(3):
        env = make_env(scenario=scenario)
        observation, _ = env.reset(seed=scenario)
        total, steps, ended = 0.0, 0, False
        while not ended:
            assert isinstance(observation, np.ndarray)
            observation, reward, terminated, truncated, info = env.step(steer_by_sight(observation))
            total, steps, ended = total + reward, steps + 1, terminated or truncated
            assert reward == pytest.approx(sum(info["rewards"].values()))
        assert (steps, terminated, truncated) == (300, False, True)
        assert total > 800


def test_a_collision_ends_the_episode() -> None:
    """Straying into the oncoming lane of a busy road ends, at times, with a collision that is counted."""
    env = DrivingEnv(KinematicWorld(2, 100))
    seen = set()
    for seed in range(30):
        env.reset(seed=seed)
        for _ in range(40):
            _, _, terminated, _, info = env.step(np.array((-0.35, 1.0), np.float32))
            if terminated:
                seen.add((info["collision"], info["collisions"]))
                break
    assert (True, 1) in seen
    assert (False, 0) in seen


def test_random_driving_crashes_early_and_a_dead_policy_earlier() -> None:
    """Lengths that the rules are calibrated on: about 50-100 steps at random, 10-30 with the wheel held."""
    env = make_env()

    def mean_length(policy: Any) -> float:
        lengths = []
        for seed in range(40):
            env.reset(seed=seed)
            steps, ended = 0, False
            while not ended:
                _, _, terminated, truncated, _ = env.step(policy())
                steps, ended = steps + 1, terminated or truncated
            lengths.append(steps)
        return float(np.mean(lengths))

    rng = np.random.default_rng(0)
    assert 50 < mean_length(lambda: rng.uniform(-1, 1, 2).astype(np.float32)) < 110
    for steer in (-1.0, 1.0):
        for throttle in (-1.0, 0.0, 1.0):
            action = np.array((steer, throttle), np.float32)
            assert 8 < mean_length(lambda action=action: action) < 35


@settings(max_examples=25, deadline=None)
@given(
    observation=st.sampled_from(["state", "both"]),
    npcs=st.sampled_from([0, 20]),
    seed=st.integers(0, 5),
    past=ACTIONS,
    future=ACTIONS,
)
def test_a_resumed_episode_has_the_same_future(
    observation: Observe,
    npcs: int,
    seed: int,
    past: list[tuple[float, float]],
    future: list[tuple[float, float]],
) -> None:
    """Through JSON into a fresh environment: this observation, every later step, the next episode."""
    one, other = (make_env(observation, npcs=npcs, image_size=48) for _ in range(2))
    seen: Observation | None = one.reset(seed=seed)[0]
    for action in past:
        seen = one.step(np.array(action, np.float32))[0]
    assert digest(other.load_state_dict(json.loads(json.dumps(one.state_dict())))) == digest(seen)
    for action in future:
        a, b = (env.step(np.array(action, np.float32)) for env in (one, other))
        assert digest(a[0]) == digest(b[0])
        assert a[1:] == b[1:]
    assert json.dumps(one.state_dict()) == json.dumps(other.state_dict())
    assert digest(one.reset()[0]) == digest(other.reset()[0])


def test_an_environment_that_was_never_reset_can_be_saved() -> None:
    """A checkpoint of step 0 restores, and the first episode is the same."""
    one, other = make_env(), make_env()
    one.reset(seed=11)
    fresh = make_env()
    assert other.load_state_dict(fresh.state_dict()) is None
    assert digest(other.reset(seed=11)[0]) == digest(make_env().reset(seed=11)[0])


def test_a_seed_is_a_run() -> None:
    """The same seed gives the same episodes one after another; another seed gives others."""

    def run(seed: int) -> list[bytes]:
        env = make_env(npcs=20)
        seen = [digest(env.reset(seed=seed)[0])]
        for episode in range(3):
            for _ in range(10):
                seen.append(digest(env.step(np.array((0.1 * episode, 0.4), np.float32))[0]))
            seen.append(digest(env.reset()[0]))
        return seen

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_actions_beyond_the_limits_are_clipped() -> None:
    """A policy whose noise leaves [-1, 1] drives as at the limit."""
    one, other = make_env(), make_env()
    one.reset(seed=0)
    other.reset(seed=0)
    wild, limit = np.array((9.0, -9.0), np.float32), np.array((1.0, -1.0), np.float32)
    assert one.step(wild)[1] == other.step(limit)[1]


def digest(observation: Observation | None) -> bytes:
    """The bytes of an observation."""
    if observation is None:
        return b""
    if isinstance(observation, dict):
        return b"".join(observation[key].tobytes() for key in sorted(observation))
    return observation.tobytes()
