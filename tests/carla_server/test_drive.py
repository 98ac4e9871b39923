"""The real carla 0.9.16 client against our protocol server: connect, tick, spawn, drive."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.carla_server.process import CarlaServer, result_of
from tests.carla_server.simulation import MAPS
from tests.carla_server.vehicle import MAX_STEER
from trainer.driving.kinematic_world import CarModel, KinematicWorld


def drive(port: int) -> dict[str, Any]:
    """Spawn a car in synchronous mode and drive it for two seconds."""
    import carla

    from tests.carla_server.client import connect, spawn

    client, world = connect(port)
    kept = world.get_settings()
    place = world.get_map().get_spawn_points()[0]
    car = spawn(world)
    first, start = world.get_snapshot().frame, car.get_transform().location
    car.apply_control(carla.VehicleControl(throttle=0.5, steer=-0.2))
    frames = [world.tick() for _ in range(20)]
    at, velocity = car.get_transform(), car.get_velocity()
    return {
        "versions": [client.get_client_version(), client.get_server_version()],
        "map": world.get_map().name,
        "settings": [kept.synchronous_mode, kept.fixed_delta_seconds],
        "frames": [first, *frames],
        "delta": world.get_snapshot().timestamp.delta_seconds,
        "moved": [at.location.x - start.x, at.location.y - start.y],
        "yaw": at.rotation.yaw - place.rotation.yaw,
        "speed": velocity.length(),
        "control": [car.get_control().throttle, car.get_control().steer],
        "destroyed": car.destroy(),
    }


def test_the_real_client_connects_ticks_spawns_and_drives(carla_server: CarlaServer) -> None:
    """Everything that the client reads back is what the server's bicycle did."""
    seen = result_of(drive, carla_server.port)
    assert seen["versions"] == ["0.9.16", "0.9.16"]
    assert seen["map"] == "Carla/Maps/Road0"
    assert seen["settings"] == [True, 0.1]
    assert seen["delta"] == pytest.approx(0.1)
    assert seen["frames"] == list(range(seen["frames"][0], seen["frames"][0] + 21))
    car, speed = CarModel(), 0.0
    for _ in range(20):
        speed += (0.5 * car.throttle_limit - car.drag * speed) * 0.1
    assert seen["speed"] == pytest.approx(speed, rel=1e-4)
    assert seen["moved"][0] > 2.0
    assert seen["moved"][1] < -0.1, "steering to the left leads to smaller y"
    assert seen["yaw"] < -5.0
    assert seen["control"] == pytest.approx([0.5, -0.2])
    assert seen["destroyed"]


def follow(port: int, start: list[float], actions: list[list[float]]) -> dict[str, Any]:
    """Drive a car by the embedded world's actions from a place with a speed; return where it was."""
    import carla

    from tests.carla_server.client import connect, spawn

    _client, world = connect(port)
    car = spawn(world)
    x, y, heading, speed = start
    there = carla.Transform(carla.Location(x, y, 0.0), carla.Rotation(yaw=math.degrees(heading)))
    car.set_transform(there)
    car.set_target_velocity(carla.Vector3D(speed * math.cos(heading), speed * math.sin(heading), 0.0))
    limit = car.get_physics_control().wheels[0].max_steer_angle
    places = []
    for steer, throttle in actions:
        turned = steer * math.degrees(CarModel().steer_limit) / limit
        car.apply_control(carla.VehicleControl(max(throttle, 0.0), turned, max(-throttle, 0.0)))
        world.tick()
        at = car.get_transform()
        places.append([at.location.x, at.location.y, at.rotation.yaw, car.get_velocity().length()])
    return {"places": places, "limit": limit}


def test_a_client_that_scales_steering_drives_the_embedded_worlds_car(carla_server: CarlaServer) -> None:
    """The same actions lead to the same places and speeds, to the precision of the wire's float32."""
    embedded, random = KinematicWorld(), np.random.default_rng(4)
    first = embedded.reset(7)
    actions = np.stack((random.uniform(-1, 1, 60), random.uniform(-0.2, 0.2, 60)), axis=1)
    facts = [embedded.step(*action) for action in actions.tolist()]
    assert min(f.speed for f in facts) > 2.0, "neither creep"
    assert max(f.speed for f in facts) < 9.0, "nor governor took part"
    start = [first.x, first.y, first.heading, first.speed]
    seen = result_of(follow, carla_server.port, start, actions.tolist())
    assert seen["limit"] == MAX_STEER
    for place, fact in zip(seen["places"], facts, strict=True):
        assert place[:2] == pytest.approx([fact.x, fact.y], abs=2e-3)
        assert math.remainder(math.radians(place[2]) - fact.heading, math.tau) == pytest.approx(0, abs=1e-4)
        assert place[3] == pytest.approx(fact.speed, abs=1e-4)


def refusals(port: int) -> dict[str, Any]:
    """Ask for what the server does not do."""
    import carla

    from tests.carla_server.client import connect, failing, spawn

    client, world = connect(port)
    car = spawn(world)
    library = world.get_blueprint_library()
    wide = library.find("sensor.camera.rgb")
    wide.set_attribute("fov", "110")
    place = world.get_map().get_spawn_points()[0]
    return {
        "occupied": failing(lambda: world.spawn_actor(library.find("vehicle.audi.a2"), place)),
        "tried": world.try_spawn_actor(library.find("vehicle.audi.a2"), place) is None,
        "fov": failing(lambda: world.spawn_actor(wide, carla.Transform(), attach_to=car)),
        "map": failing(lambda: client.load_world("Town99")),
        "maps": client.get_available_maps(),
        "vehicles": [blueprint.id for blueprint in library.filter("vehicle.*")],
        "actors": [actor.type_id for actor in world.get_actors()],
    }


def test_what_the_server_does_not_do_is_refused_in_words(carla_server: CarlaServer) -> None:
    """A second car on a spawn point, another camera, a map that is not there."""
    seen = result_of(refusals, carla_server.port)
    assert seen["occupied"] == "Spawn failed because of collision at spawn position"
    assert seen["tried"]
    assert "fov of 90, not 110" in seen["fov"]
    assert "'Town99' not found; this server has Road0, Road1, Road2, Crossing" in seen["map"]
    assert seen["maps"] == [f"/Game/Carla/Maps/{name}" for name in MAPS]
    assert len(seen["vehicles"]) == 4
    assert sorted(seen["actors"]) == ["spectator", "vehicle.tesla.model3"]
