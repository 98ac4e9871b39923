"""Sensors over the wire: the camera's picture, collisions, and lane markings that the client itself sees."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import pytest

from tests.carla_server.process import CarlaServer, result_of
from trainer.driving.kinematic_world import KinematicWorld

SIZE = 84


def picture(port: int, x: float, y: float, heading: float) -> dict[str, Any]:
    """Put a car somewhere and return what its camera sees there."""
    import carla

    from tests.carla_server.client import camera, connect, image_of, spawn

    _client, world = connect(port)
    world.set_weather(carla.WeatherParameters.HardRainSunset)
    car = spawn(world)
    _camera, images = camera(world, car, SIZE)
    there = carla.Transform(carla.Location(x, y, 0.0), carla.Rotation(yaw=math.degrees(heading)))
    car.set_transform(there)
    image = image_of(images, world.tick())
    late = 0
    for _ in range(200):
        frame = world.tick()
        late += images.empty()
        assert image_of(images, frame) is not None, "every frame has its image"
    return {
        "bgra": base64.b64encode(bytes(image.raw_data)).decode(),
        "size": [image.width, image.height, image.fov],
        "at": [image.transform.location.x, image.transform.location.y, image.transform.location.z],
        "late": late,
    }


def test_the_camera_shows_the_embedded_worlds_picture_upright_and_opaque(carla_server: CarlaServer) -> None:
    """Pixel for pixel, but for the few that lie on an edge and round otherwise; each frame has its image."""
    embedded = KinematicWorld(image_size=SIZE)
    facts = embedded.reset(3)
    seen = result_of(picture, carla_server.port, facts.x, facts.y, facts.heading)
    bgra = np.frombuffer(base64.b64decode(seen["bgra"]), np.uint8).reshape(SIZE, SIZE, 4)
    assert seen["size"] == [SIZE, SIZE, 90.0]
    mount = [facts.x + 2 * math.cos(facts.heading), facts.y + 2 * math.sin(facts.heading), 1.5]
    assert seen["at"] == pytest.approx(mount, abs=1e-3)
    assert (bgra[..., 3] == 255).all()
    expected = embedded.frame()
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=2)
    same = (bgra[..., 2::-1] == expected).all(axis=2)
    assert same.mean() > 0.99
    assert bgra[0].mean() > bgra[-1].mean(), "the sky is above the road"


def crash(port: int) -> dict[str, Any]:
    """Drive one car into the back of another."""
    import carla

    from tests.carla_server.client import connect, listen, spawn

    _client, world = connect(port)
    standing, moving = spawn(world, 1), spawn(world, 0)
    world.tick()
    _sensor, hits = listen(world, moving, "sensor.other.collision")
    _other, suffered = listen(world, standing, "sensor.other.collision")
    moving.apply_control(carla.VehicleControl(throttle=1.0))
    event = None
    for _ in range(100):
        frame = world.tick()
        if not hits.empty():
            event = hits.get()
            break
    assert event is not None, "no collision in 100 ticks"
    world.tick()
    mirrored = suffered.get(timeout=2.0)
    gap = standing.get_location().distance(moving.get_location())
    return {
        "frames": [frame, event.frame, mirrored.frame],
        "who": [event.actor.id == moving.id, event.other_actor.id == standing.id],
        "whom": [mirrored.actor.id == standing.id, mirrored.other_actor.id == moving.id],
        "impulse": [event.normal_impulse.x, mirrored.normal_impulse.x],
        "gap": gap,
        "type": event.other_actor.type_id,
    }


def test_a_collision_tells_both_cars_who_and_when_and_stops_the_one_that_ran(
    carla_server: CarlaServer,
) -> None:
    """The event has the frame of its tick, the two actors and an impulse against the motion."""
    seen = result_of(crash, carla_server.port)
    frame = seen["frames"][0]
    assert seen["frames"][1] in {frame - 1, frame}, "it may arrive just after its tick has returned"
    assert seen["frames"][2] == seen["frames"][1]
    assert seen["who"] == [True, True]
    assert seen["whom"] == [True, True]
    assert seen["impulse"][0] < -1000.0
    assert seen["impulse"][1] == pytest.approx(-seen["impulse"][0])
    assert 4.5 <= seen["gap"] < 6.0, "the boxes never come to lie in one another"
    assert seen["type"] == "vehicle.tesla.model3"


def stray(port: int, steer: float) -> list[list[Any]]:
    """Steer out of the lane; return each crossing with where the car's centre was in that tick."""
    import carla

    from tests.carla_server.client import connect, listen, spawn

    _client, world = connect(port)
    car = spawn(world, 0)
    _sensor, crossed = listen(world, car, "sensor.other.lane_invasion")
    world.tick()
    car.set_target_velocity(carla.Vector3D(5.0, 0.0, 0.0))
    car.apply_control(carla.VehicleControl(throttle=0.1, steer=steer))
    lateral = {}
    for _ in range(20):
        frame = world.tick()
        lateral[frame] = car.get_location().y
    events = []
    while not crossed.empty():
        event = crossed.get()
        events.append([lateral[event.frame], [str(mark.type) for mark in event.crossed_lane_markings]])
    return events


@pytest.mark.parametrize(("steer", "mark"), [(-0.1, "Broken"), (0.1, "Solid")])
def test_the_client_sees_the_marking_that_a_car_crosses_on_our_map(
    carla_server: CarlaServer, steer: float, mark: str
) -> None:
    """Broken to the left, solid to the right, first when the car's front corner comes over it."""
    events = result_of(stray, carla_server.port, steer)
    assert events, "no crossing was seen"
    assert {kind for _, kinds in events for kind in kinds} == {mark}
    where = math.copysign(events[0][0], events[0][0] * steer)
    assert 0.4 < where < 0.85, "0.9 m of the car and its yaw reach the marking 1.75 m from the lane's centre"
