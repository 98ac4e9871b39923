"""The embedded world: it moves as a car does, it is repeatable, and a restored one lives the same future."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.driving.kinematic_world import SCENARIOS, CarModel, KinematicWorld, lane_of
from trainer.driving.traffic import CAR_LENGTH, CAR_WIDTH, Traffic, boxes_overlap, follow

PEDALS = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=30)


def test_a_held_wheel_drives_a_circle_to_its_side() -> None:
    """Steering right turns right, on the circle that wheelbase and wheel angle give."""
    world = KinematicWorld(0)
    world.reset(1)
    for _ in range(20):
        world.step(1.0, 0.0)
    headings, ways = [], []
    for _ in range(10):
        before = (world._x, world._y)
        heading = world._heading
        facts = world.step(1.0, 0.0)
        headings.append((facts.heading - heading) % (2 * math.pi))
        ways.append(math.hypot(facts.x - before[0], facts.y - before[1]))
    car = CarModel()
    slip = math.atan(0.5 * math.tan(car.steer_limit))
    radius = car.wheelbase / (math.cos(slip) * math.tan(car.steer_limit))
    assert sum(ways) / sum(headings) == pytest.approx(radius, rel=1e-3)


def test_a_car_keeps_between_creep_and_governor() -> None:
    """Brakes slow it to a creep and no further; full throttle ends at the governor."""
    world, car = KinematicWorld(0), CarModel()
    world.reset(0)
    slow = [world.step(0.0, -1.0).speed for _ in range(60)]
    fast = [world.step(0.0, 1.0).speed for _ in range(60)]
    assert slow[-1] == car.creep_speed
    assert fast[-1] == car.speed_limit
    assert min(slow) >= car.creep_speed


def test_a_lane_invasion_is_one_event() -> None:
    """A car that stays over its marking invaded once, at the moment its side came over it."""
    world = KinematicWorld(0)
    facts = world.reset(3)
    events = []
    while abs(facts.lateral) < 4.0:
        facts = world.step(1.0, 0.0)
        events.append((facts.lane_invasion, abs(facts.lateral) + CAR_WIDTH / 2 > 1.75))
    assert sum(invasion for invasion, _ in events) == 1
    first = next(i for i, (invasion, _) in enumerate(events) if invasion)
    assert [over for _, over in events] == [i >= first for i in range(len(events))]


@settings(max_examples=40, deadline=None)
@given(
    scenario=st.integers(0, 2),
    npcs=st.sampled_from([0, 1, 20]),
    seed=st.integers(0, 9),
    past=PEDALS,
    future=PEDALS,
)
def test_a_restored_world_lives_the_same_future(
    scenario: int, npcs: int, seed: int, past: list[tuple[float, float]], future: list[tuple[float, float]]
) -> None:
    """Through JSON into a fresh world, in mid-episode: every later fact is the same bit for bit."""
    world = KinematicWorld(scenario, npcs)
    world.reset(seed)
    for steer, throttle in past:
        world.step(steer, throttle)
    other = KinematicWorld(scenario, npcs)
    other.load_state_dict(json.loads(json.dumps(world.state_dict())))
    for steer, throttle in future:
        a, b = world.step(steer, throttle), other.step(steer, throttle)
        assert np.array_equal(a.waypoints, b.waypoints)
        assert repr(a) == repr(b)
    assert json.dumps(world.state_dict()) == json.dumps(other.state_dict())
    assert repr(world.reset(5)) == repr(other.reset(5))


def test_a_seed_is_an_episode() -> None:
    """The same seed gives the same episode, whatever was driven before; another seed another."""
    world = KinematicWorld(1, 20)
    first = repr(world.reset(7))
    for _ in range(10):
        world.step(0.3, 0.5)
    assert repr(world.reset(7)) == first
    assert repr(world.reset(8)) != first


def test_a_state_of_another_road_is_refused() -> None:
    """A checkpoint of scenario 1 does not load into scenario 0."""
    with pytest.raises(ValueError, match="scenario 1"):
        KinematicWorld(0).load_state_dict(KinematicWorld(1).state_dict())


@pytest.mark.parametrize("scenario", range(len(SCENARIOS)))
def test_traffic_never_runs_into_itself_or_into_a_slow_ego(scenario: int) -> None:
    """The ego creeps in its lane for 40 s: everyone behind queues up, nobody touches anybody."""
    lane = lane_of(scenario)
    traffic = Traffic(lane, SCENARIOS[scenario].npcs)
    ego = 10.0
    traffic.place(np.random.default_rng(scenario), ego)
    assert len(traffic) == SCENARIOS[scenario].npcs
    for _ in range(400):
        traffic.drive(0.1, ego, 0.0, 2.0)
        ego = (ego + 0.2) % lane.length
        x, y, heading = lane.poses(np.array([ego]))[0]
        assert not traffic.touches(x, y, heading)
        cars = traffic.cars()
        apart = np.hypot(cars[:, None, 0] - cars[None, :, 0], cars[:, None, 1] - cars[None, :, 1])
        assert apart[~np.eye(len(cars), dtype=bool)].min() > 3.0


def test_a_blind_car_at_the_governor_is_not_blocked() -> None:
    """Traffic of scenario 0 is no slower than the ego, so a driver that sees no cars can finish."""
    lane, speed = lane_of(0), CarModel().speed_limit
    for seed in range(5):
        traffic = Traffic(lane, SCENARIOS[0].npcs)
        ego = 0.0
        traffic.place(np.random.default_rng(seed), ego)
        for _ in range(300):
            traffic.drive(0.1, ego, 0.0, speed)
            ego = (ego + 0.1 * speed) % lane.length
            assert not traffic.touches(*lane.poses(np.array([ego]))[0])


def test_a_lonely_car_does_not_follow_itself() -> None:
    """One car on a loop reaches its wished speed: a lap ahead is not a bumper ahead."""
    assert follow(np.array([9.0]), np.array([600.0]), np.array([0.0]), np.array([10.0]))[0] > 0.4
    traffic = Traffic(lane_of(0), 1)
    traffic.place(np.random.default_rng(0), 0.0)
    for _ in range(100):
        traffic.drive(0.1, 0.0, 9.0, 0.0)
    assert traffic.state_dict()["speed"][0] > 9.0


def test_an_ego_that_strays_left_meets_the_oncoming() -> None:
    """A collision is told when boxes touch, and only then."""
    world = KinematicWorld(0, 20)
    world.reset(0)
    x, y, heading, length, _ = world._traffic.cars()[-1]  # the last is oncoming
    assert world._traffic.touches(x + 1.0, y, heading)
    ego = np.array((0.0, 0.0, 0.0, CAR_LENGTH, CAR_WIDTH))
    assert boxes_overlap(ego, np.array((length - 0.1, 0.0, math.pi, CAR_LENGTH, CAR_WIDTH)))
    assert not boxes_overlap(ego, np.array((length + 0.1, 0.0, math.pi, CAR_LENGTH, CAR_WIDTH)))
    assert not boxes_overlap(ego, np.array((0.0, CAR_WIDTH + 0.1, 0.0, CAR_LENGTH, CAR_WIDTH)))


@settings(max_examples=200, deadline=None)
@given(
    x=st.floats(-6, 6),
    y=st.floats(-6, 6),
    turn=st.floats(-math.pi, math.pi),
    heading=st.floats(-math.pi, math.pi),
)
def test_boxes_overlap_as_their_points_do(x: float, y: float, turn: float, heading: float) -> None:
    """If a point of one box lies within the other they overlap; and it does not matter who asks."""
    a = np.array((0.0, 0.0, turn, 4.5, 1.8))
    b = np.array((x, y, heading, 4.5, 1.8))
    along, across = np.meshgrid(np.linspace(-2.25, 2.25, 19), np.linspace(-0.9, 0.9, 9))
    px = x + along * math.cos(heading) - across * math.sin(heading)
    py = y + along * math.sin(heading) + across * math.cos(heading)
    forward, right = px * math.cos(turn) + py * math.sin(turn), py * math.cos(turn) - px * math.sin(turn)
    inside = bool(np.any((np.abs(forward) < 2.25) & (np.abs(right) < 0.9)))
    assert boxes_overlap(a, b) == boxes_overlap(b, a)
    if inside:
        assert boxes_overlap(a, b)


def test_a_negative_number_of_cars_is_refused() -> None:
    """--npcs -1 is an error."""
    with pytest.raises(ValueError, match="cannot be negative"):
        KinematicWorld(0, -1)


def test_a_world_without_a_camera_says_so() -> None:
    """Asking a state-only world for a picture names the way to get one."""
    with pytest.raises(RuntimeError, match="image_size"):
        KinematicWorld(0).frame()
