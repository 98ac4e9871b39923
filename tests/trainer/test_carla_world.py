"""The CARLA world through the real client, against our protocol server: facts, frames, episodes, faults."""

from __future__ import annotations

import math
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.carla_server.process import CarlaServer, result_of, running
from trainer.driving import carla_world
from trainer.driving.carla_world import pedals
from trainer.driving.env import DrivingEnv
from trainer.driving.isolated import Isolated
from trainer.driving.kinematic_world import lane_of
from trainer.driving.lanes import wrap_angle
from trainer.driving.traffic import ONCOMING_LATERAL
from trainer.driving.world import Facts, SimulatorFaultError

ACTION = np.zeros(2, np.float32)


@pytest.fixture(scope="module")
def server() -> Iterator[CarlaServer]:
    """A server that the tests share; one that harms it has its own."""
    with running() as one:
        yield one


@contextmanager
def world_of(server: CarlaServer, **more: Any) -> Iterator[Isolated]:
    """A world on Road0, with a short timeout; the client is the child's, this process never has it."""
    settings: dict[str, Any] = {"tm_port": 18000 + server.port % 10000, "town": "Road0", "npcs": 0}
    settings |= {"image_size": None, "timeout": 1.5, "patience": 20.0}
    world = carla_world.isolated(host="localhost", port=server.port, **settings | more)
    try:
        yield world
    finally:
        world.close()


def drive(env: DrivingEnv, seed: int) -> tuple[int, float, dict[str, Any]]:
    """Drive an episode by sight of the fourth waypoint at 8 m/s; return its length, return and last info."""
    seen, _ = env.reset(seed=seed)
    total, length = 0.0, 0
    while True:
        vector = seen["vector"] if isinstance(seen, dict) else seen
        forward, right = vector[3:].reshape(25, 2)[3]
        steer, throttle = 2.0 * math.atan2(right, forward), 8.0 - 30.0 * vector[0]
        seen, reward, terminated, truncated, info = env.step(
            np.clip(np.array((steer, throttle)), -1.0, 1.0).astype(np.float32)
        )
        total, length = total + reward, length + 1
        if terminated or truncated:
            return length, total, info


def check_place(facts: Facts) -> None:
    """The route's coordinates are those of the road that the server made its map from."""
    lane = lane_of(0)
    along = np.arange(0.0, lane.length, 1.0)
    nearest = np.hypot(*(lane.poses(along)[:, :2] - (facts.x, facts.y)).T).argmin()
    place = lane.project(facts.x, facts.y, along[nearest])
    lateral, heading = place.lateral, place.heading
    if lateral < 0.5 * ONCOMING_LATERAL:
        lateral, heading = ONCOMING_LATERAL - lateral, heading + math.pi
    assert facts.lateral == pytest.approx(lateral, abs=0.05)
    assert facts.heading_error == pytest.approx(wrap_angle(facts.heading - heading), abs=0.02)


def test_facts_are_those_of_the_road(server: CarlaServer) -> None:
    """Place, offset, heading, speed and way made, in the units and directions of the embedded world."""
    with world_of(server) as world:
        for seed in range(3):
            last = world.reset(seed)
            check_place(last)
            assert 3.5 < last.speed < 7.5
            assert abs(last.lateral) < 1.0
            assert (last.collision, last.lane_invasion, last.advance) == (False, False, 0.0)
            for _ in range(5):
                facts = world.step(0.1, 0.5)
                check_place(facts)
                way = math.hypot(facts.x - last.x, facts.y - last.y)
                assert way == pytest.approx(0.05 * (last.speed + facts.speed), abs=0.05)
                assert facts.advance == pytest.approx(way, abs=0.1)
                assert facts.acceleration == pytest.approx((facts.speed - last.speed) / 0.1, abs=1e-3)
                assert facts.waypoints.shape == (25, 2)
                ahead = facts.waypoints[0] - (facts.x, facts.y)
                assert math.hypot(*ahead) == pytest.approx(2.0, abs=0.6)
                last = facts
            assert last.heading_error > 0, "positive steering turns to the right"
            assert last.lateral_acceleration > 0


def test_the_driving_task_is_the_same_one(server: CarlaServer) -> None:
    """A plain driver drives it as it drives the embedded world; car, camera and sensors stay for the run."""
    with world_of(server, npcs=6, image_size=48) as world:
        env = DrivingEnv(world, "both", image_size=48)
        for seed in range(2):
            length, total, info = drive(env, seed)
            assert (length, info["collisions"]) == (300, 0)
            assert total > 850
        frame = world.frame()
        assert frame.shape == (48, 48)
        assert frame.std() > 10, "there is something to see"
        seen, *_ = env.step(ACTION)
        assert isinstance(seen, dict)
        assert np.array_equal(seen["image"][-1], world.frame().astype(np.float32) / np.float32(127.5) - 1)


def test_leaving_the_lane_is_told_and_ends_the_episode(server: CarlaServer) -> None:
    """The lane-invasion sensor speaks on the way out; the next episode knows nothing of it."""
    with world_of(server) as world:
        env = DrivingEnv(world)
        env.reset(seed=0)
        for _ in range(100):
            _, _, terminated, _, info = env.step(np.array((1.0, 0.5), np.float32))
            if terminated:
                break
        assert info["off_road"]
        assert info["lane_invasions"] >= 1
        env.reset(seed=1)
        *_, info = env.step(ACTION)
        assert (info["collisions"], info["lane_invasions"]) == (0, 0)


def test_a_collision_is_told_and_is_not_the_next_episodes(server: CarlaServer) -> None:
    """Into dense traffic with the wheel held; it is a fact of that step alone."""
    with world_of(server, npcs=90) as world:
        collided = False
        for seed in range(40):
            facts = world.reset(seed)
            assert not facts.collision
            for _ in range(60):
                facts = world.step(-0.25, 1.0)
                if facts.collision or abs(facts.lateral) > 6:
                    break
            collided = facts.collision
            if collided:
                break
        assert collided
        assert not world.reset(99).collision
        assert not world.step(0.0, 0.0).collision


def left_behind(port: int) -> dict[str, Any]:
    """Return what a run has left in a server."""
    from tests.carla_server.client import carla

    client = carla.Client("localhost", port)
    client.set_timeout(5.0)
    world = client.get_world()
    settings = world.get_settings()
    if not settings.synchronous_mode:
        world.wait_for_tick(5.0)
    kinds = [actor.type_id for actor in world.get_actors() if actor.type_id != "spectator"]
    return {"synchronous": settings.synchronous_mode, "actors": sorted(kinds)}


def test_a_run_that_ends_leaves_the_server_as_it_was(server: CarlaServer) -> None:
    """No actors of ours, and time that goes on by itself."""
    with world_of(server, npcs=4, image_size=48) as world:
        world.reset(0)
    assert world.trouble == "it has been closed", "the client's process ended well"
    assert result_of(left_behind, server.port) == {"synchronous": False, "actors": []}


def test_what_a_killed_child_has_left_is_cleared_up_by_the_next(
    server: CarlaServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """kill -9 under a TrafficManager, with the server alive: a fault, and a fresh world without old cars."""
    with world_of(server, npcs=4) as world:
        world.reset(0)
        assert world.pid is not None
        os.kill(world.pid, signal.SIGKILL)
        with pytest.raises(SimulatorFaultError, match="SIGKILL"):
            world.step(0.0, 0.0)
        world.reset(1)
        assert not world.step(0.0, 0.5).collision
        assert world.starts == 2
    assert "7 actors that an earlier run has left are destroyed" in capfd.readouterr().err
    assert result_of(left_behind, server.port)["actors"] == []


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ("hang-at=8", "tick: time-out of 1500ms"),
        ("kill-at=8", "the connection to the simulator is lost"),
        ("image-lost-at=8", "image of frame"),
    ],
)
def test_a_server_that_fails_in_a_tick_is_a_fault_and_its_successor_is_found(faults: str, words: str) -> None:
    """With a TrafficManager alive; the tick is not repeated, and a fresh client finds a fresh server."""
    with running() as own, world_of(own, npcs=2, image_size=48) as world:
        world.reset(0)
        own.fault(faults)
        for _ in range(7):
            world.step(0.0, 0.5)
        with pytest.raises(SimulatorFaultError, match=words):
            world.step(0.0, 0.5)
        if "image" not in faults:
            assert not world.ready(0.1)
            own.restart()
        world.reset(1)
        assert world.step(0.0, 0.5).advance > 0
        assert world.starts >= 2


@pytest.mark.parametrize("faults", ["first-image-lost", "image-late=0.05,image-late-every=3"])
def test_images_that_are_lost_at_first_or_come_late_belong_to_their_frames(faults: str) -> None:
    """The camera is warmed up, and a late image is waited for."""
    with running(faults) as own, world_of(own, image_size=48) as world:
        world.reset(0)
        frames = []
        for _ in range(6):
            world.step(0.0, 1.0)
            frames.append(world.frame())
        assert all(not np.array_equal(a, b) for a, b in pairwise(frames))


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ("wrong-delta=0.3", r"steps by 0\.3 s, it was told 0\.1 s"),
        ("settings-ignored", "settings|time-out|steps by"),
        pytest.param("images-end-at=1", "gave no image in 10 ticks", marks=pytest.mark.slow),
        ("spawn-failure=1000", "every spawn point is taken"),
    ],
)
def test_a_server_that_is_not_fit_is_told_in_words(faults: str, words: str) -> None:
    """A world that would drive wrongly does not begin."""
    with running(faults) as own, world_of(own, image_size=48, patience=12.0) as world:
        until = time.monotonic() + 30
        while not re.search(words, world.trouble):
            assert time.monotonic() < until, world.trouble
            assert not world.ready(0.5)


@pytest.mark.parametrize(
    ("faults", "settings", "words"),
    [
        ("version=0.9.15", {}, r"of version 0\.9\.15, the client of 0\.9\.16"),
        ("", {"town": "Road9"}, "no town 'Road9'; did you mean 'Road"),
        ("", {"weather": "ClearNon"}, "no weather 'ClearNon'; did you mean 'ClearNoon'"),
    ],
)
def test_what_a_server_does_not_have_is_not_asked_for_again(
    faults: str, settings: dict[str, Any], words: str
) -> None:
    """Another version, a town or a weather that is not there: an error, not a fault."""
    with running(faults) as own, world_of(own, **settings) as world:
        with pytest.raises(ValueError, match=words):
            world.reset(0)
        assert world.starts == 1


def test_a_server_that_comes_late_is_waited_for_with_a_reason() -> None:
    """A client made before its server listens never recovers: each try is a fresh one."""
    with running() as own:
        own.kill()
        with world_of(own, town="Road1", weather="WetNoon") as world:
            assert not world.ready(1.0)
            assert "no CARLA server at localhost" in world.trouble
            own.start()
            assert world.ready(15.0)
            world.reset(0)
            assert world.starts > 1


def test_pedals_are_the_embedded_worlds() -> None:
    """No throttle above the limit, brakes down to a creep, and no standing still."""
    assert pedals(0.7, 5.0) == (0.7, 0.0)
    assert pedals(1.0, 9.5) == (0.0, 0.0)
    assert pedals(-0.6, 5.0) == (0.0, 0.6)
    assert pedals(-1.0, 1.0)[0] > 0
    assert pedals(0.0, 0.5)[0] > 0


def test_without_the_client_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command, the Pythons and the platforms."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert "pip install 'training-sentinel[carla]'" in carla_world.missing()
    assert "Python 3.10 to 3.12" in carla_world.missing()
    with pytest.raises(ValueError, match="not installed"):
        carla_world.client_library()
