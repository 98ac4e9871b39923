"""Traffic, above all at the crossing: it keeps apart, it is repeatable, and it lets the ego car pass."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.driving import junction
from trainer.driving.junction import CLAIM, Cars, Lights, middles
from trainer.driving.kinematic_world import SCENARIOS, KinematicWorld, lane_of
from trainer.driving.lanes import Floats
from trainer.driving.traffic import CAR_LENGTH, CAR_WIDTH, ONCOMING_LATERAL, Traffic, boxes_overlap, follow

EIGHT = 3
STEPS = st.lists(st.sampled_from([2.0, 5.0, 9.0]), min_size=4, max_size=8)
"""Speeds of the ego car in m/s, each held for SECONDS."""
SECONDS = 5.0


def overlapping(cars: Floats) -> bool:
    """Whether any two cars touch."""
    apart = np.hypot(cars[:, None, 0] - cars[None, :, 0], cars[:, None, 1] - cars[None, :, 1])
    near = np.argwhere(np.triu(apart < math.hypot(CAR_LENGTH, CAR_WIDTH), 1))
    return any(boxes_overlap(cars[a], cars[b]) for a, b in near)


@settings(max_examples=25, deadline=None)
@given(
    scenario=st.integers(0, len(SCENARIOS) - 1),
    npcs=st.sampled_from([1, 10, 40, 100, 1000]),
    seed=st.integers(0, 99),
    ego_speeds=STEPS,
)
def test_cars_never_touch_and_keep_to_their_lanes(
    scenario: int, npcs: int, seed: int, ego_speeds: list[float]
) -> None:
    """Whatever the ego car does in its lane, no two others overlap, and none leaves its lane's middle."""
    lane, random = lane_of(scenario), np.random.default_rng(seed)
    traffic, ego = Traffic(lane, npcs), float(random.uniform(0.0, lane.length))
    traffic.place(random, ego)
    assert len(traffic) <= npcs
    for step in range(int(len(ego_speeds) * SECONDS * 10)):
        speed = ego_speeds[int(step / 10 / SECONDS)]
        traffic.drive(0.1, ego, 0.0, speed)
        ego = (ego + 0.1 * speed) % lane.length
        cars = traffic.cars()
        assert not overlapping(cars)
        if step % 20 == 0:
            state = traffic.state_dict()
            for (x, y), place, oncoming in zip(cars[:, :2], state["place"], state["oncoming"], strict=True):
                found = lane.project(float(x), float(y), -place if oncoming else place)
                assert found.lateral == pytest.approx(ONCOMING_LATERAL if oncoming else 0.0, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), npcs=st.sampled_from([10, 40, 70]), ego_speeds=STEPS)
def test_nobody_who_can_stop_passes_a_closed_line(seed: int, npcs: int, ego_speeds: list[float]) -> None:
    """Over whole cycles of the lights: whoever crosses its line against red was too near to stop when it
    closed."""
    lane, random = lane_of(EIGHT), np.random.default_rng(seed)
    traffic, ego = Traffic(lane, npcs), float(random.uniform(0.0, lane.length))
    traffic.place(random, ego)
    (crossing,) = traffic._middles
    committed = np.zeros((2, len(traffic)), np.bool_)
    was_open = traffic.lights[0].open
    for step in range(int(len(ego_speeds) * SECONDS * 10)):
        speed = ego_speeds[int(step / 10 / SECONDS)]
        before = traffic._at(crossing)
        traffic.drive(0.1, ego, 0.0, speed)
        ego = (ego + 0.1 * speed) % lane.length
        to_line = before.ahead - junction.STOP_LINE - before.half
        too_near = to_line < before.speed**2 / (2.0 * junction.FIRM_BRAKING)
        is_open = traffic.lights[0].open
        closes = np.array([was and not now for was, now in zip(was_open, is_open, strict=True)])[:, None]
        committed = np.where(closes, too_near, committed)
        after = traffic._at(crossing).ahead - junction.STOP_LINE - before.half
        passed = (to_line >= 0.0) & (to_line < 50.0) & (after < 0.0)
        assert not np.any(passed & ~committed & ~np.array(is_open)[:, None])
        was_open = is_open


@pytest.mark.parametrize("scenario", range(len(SCENARIOS)))
def test_no_two_cars_touch_when_they_are_placed(scenario: int) -> None:
    """However many are asked for, before the first step too."""
    lane = lane_of(scenario)
    for seed in range(20):
        random = np.random.default_rng(seed)
        traffic = Traffic(lane, 1000)
        traffic.place(random, float(random.uniform(0.0, lane.length)))
        assert not overlapping(traffic.cars())


def test_a_fresh_process_drives_the_same_episodes() -> None:
    """A seed is an episode on every road, in this process and in another one."""
    script = "from tests.trainer.test_junction import episodes\nprint(episodes())"
    fresh = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert fresh.stdout.strip() == episodes()


def episodes() -> str:
    """Digest of how an episode with traffic goes on each road, frames included."""
    found = hashlib.sha256()
    for scenario in range(len(SCENARIOS)):
        world = KinematicWorld(scenario, 30, image_size=48)
        world.reset(scenario)
        for _ in range(40):
            world.step(0.02, 0.3)
        found.update(json.dumps(world.state_dict()).encode())
        found.update(world.frame().tobytes())
    return found.hexdigest()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), before=st.integers(0, 60), npcs=st.sampled_from([0, 7, 40]))
def test_the_crossings_future_is_in_its_state(seed: int, before: int, npcs: int) -> None:
    """Through JSON into a fresh world in mid-episode: cars, lights and frames go on bit for bit."""
    worlds = [KinematicWorld(EIGHT, npcs, image_size=48) for _ in range(2)]
    worlds[0].reset(seed)
    for _ in range(before):
        worlds[0].step(0.02, 0.4)
    worlds[1].load_state_dict(json.loads(json.dumps(worlds[0].state_dict())))
    for _ in range(40):
        a, b = (world.step(-0.02, 0.3) for world in worlds)
        assert repr(a) == repr(b)
    assert np.array_equal(worlds[0].frame(), worlds[1].frame())
    assert json.dumps(worlds[0].state_dict()) == json.dumps(worlds[1].state_dict())


def test_a_seed_is_an_episode_at_the_crossing_too() -> None:
    """The same seed places and drives the same cars under the same lights."""
    states = []
    for seed in (4, 4, 5):
        world = KinematicWorld(EIGHT, 40)
        world.reset(seed)
        for _ in range(50):
            world.step(0.0, 0.2)
        states.append(json.dumps(world.state_dict()))
    assert states[0] == states[1] != states[2]


def cars(*ahead: tuple[float, float], speed: float = 9.0) -> Cars:
    """Cars so far before the middle of the crossing on the two roads."""
    return Cars(np.array(ahead).T.reshape(2, -1), np.full(len(ahead), speed), 0.5 * CAR_LENGTH)


FAR = 400.0
NO_EGO = (FAR, -FAR)


def test_one_road_waits_while_the_other_has_green() -> None:
    """A car of the closed road is told how far the line is; one of the open road is not told to wait."""
    waits, to_line = Lights().held(0.1, cars((40.0, FAR), (FAR, 40.0)), NO_EGO)
    assert waits.tolist() == [False, True]
    assert to_line[1] == pytest.approx(40.0 - junction.STOP_LINE - 0.5 * CAR_LENGTH)


def test_the_lights_change_and_wait_for_the_last_one_out() -> None:
    """After GREEN s the other road's turn comes, and opens when nobody is left in the crossing."""
    lights, inside = Lights(), cars((0.0, FAR))
    for _ in range(int(junction.GREEN / 0.1) + 1):
        lights.held(0.1, inside, NO_EGO)
    assert lights.road == 1
    assert lights.open == (False, False)
    lights.held(0.1, cars((-20.0, FAR)), NO_EGO)
    assert lights.open == (False, True)


def test_who_cannot_stop_drives_on() -> None:
    """At 9 m/s and 4 m/s^2 a car needs 10 m: nearer than that to the line it is not told to stop."""
    front = junction.STOP_LINE + 0.5 * CAR_LENGTH
    waits, _ = Lights().held(0.1, cars((FAR, front + 10.0), (FAR, front + 10.3)), NO_EGO)
    assert waits.tolist() == [False, True]


@pytest.mark.parametrize("road", [0, 1])
def test_the_ego_car_has_green(road: int) -> None:
    """From CLAIM m before the crossing until it is through, its road is the one that may pass."""
    for ahead in (CLAIM, 30.0, 0.0, -junction.BOX):
        lights = Lights()
        ego = (ahead, FAR) if road == 0 else (FAR, ahead)
        for _ in range(300):
            lights.held(0.1, cars((FAR, FAR)), ego)
            assert lights.open[road]
    assert not Lights().held(0.1, cars((FAR, -60.0)), (FAR, -30.0))[0].any()


def test_the_middle_of_the_crossing_is_one_place() -> None:
    """Seen from either pass, the middle of its road there is the same point."""
    lane = lane_of(EIGHT)
    for place, other in zip(*(middles(lane.crossings[0], ONCOMING_LATERAL / 2),) * 2, strict=True):
        assert place == other
    places = np.array(middles(lane.crossings[0], ONCOMING_LATERAL / 2))
    first, second = lane.points(places, np.full(2, ONCOMING_LATERAL / 2))
    assert np.allclose(first, second, atol=1e-9)


def test_nobody_crosses_the_ego_cars_way() -> None:
    """An ego car that keeps its lane and its distance crosses a busy junction untouched."""
    lane = lane_of(EIGHT)
    for seed in range(6):
        random = np.random.default_rng(seed)
        traffic, ego, speed = Traffic(lane, 40), float(random.uniform(0.0, lane.length)), 6.0
        traffic.place(random, ego)
        passed = 0
        for _ in range(700):
            traffic.drive(0.1, ego, 0.0, speed)
            state = traffic.state_dict()
            own = ~np.array(state["oncoming"])
            gaps = np.mod(np.array(state["place"])[own] - ego, lane.length)
            nearest = int(gaps.argmin())
            closing = speed - np.array(state["speed"])[own][nearest]
            push = follow(*(np.array([v]) for v in (speed, gaps[nearest] - CAR_LENGTH, closing, 10.0)))[0]
            speed = min(max(speed + 0.1 * float(np.clip(push, -5.0, 3.0)), 2.0), 9.0)
            before, ego = ego, (ego + 0.1 * speed) % lane.length
            passed += any(before < place <= ego for place in lane.crossings[0].places)
            assert not traffic.touches(*lane.poses(np.array([ego]))[0])
        assert passed
