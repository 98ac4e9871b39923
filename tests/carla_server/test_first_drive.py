"""The real carla 0.9.16 client against our protocol server: connect, tick, spawn, drive."""

from __future__ import annotations

from typing import Any

from tests.carla_server.process import CarlaServer, result_of
from trainer.driving.kinematic_world import CarModel


def drive(port: int) -> dict[str, Any]:
    """Spawn a car in synchronous mode and drive it for two seconds."""
    import carla

    client = carla.Client("localhost", port)
    client.set_timeout(10.0)
    world = client.get_world()
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.1
    world.apply_settings(settings)
    kept = world.get_settings()
    place = world.get_map().get_spawn_points()[0]
    car = world.spawn_actor(world.get_blueprint_library().filter("vehicle.*")[0], place)
    first = world.tick()
    start = car.get_transform().location
    car.apply_control(carla.VehicleControl(throttle=0.5, steer=-0.2))
    frames = [world.tick() for _ in range(20)]
    at, velocity = car.get_transform(), car.get_velocity()
    snapshot = world.get_snapshot()
    return {
        "versions": [client.get_client_version(), client.get_server_version()],
        "map": world.get_map().name,
        "settings": [kept.synchronous_mode, kept.fixed_delta_seconds],
        "frames": [first, *frames],
        "delta": snapshot.timestamp.delta_seconds,
        "moved": [at.location.x - start.x, at.location.y - start.y],
        "yaw": at.rotation.yaw - place.rotation.yaw,
        "speed": (velocity.x**2 + velocity.y**2) ** 0.5,
        "control": [car.get_control().throttle, car.get_control().steer],
        "destroyed": car.destroy(),
    }


def test_the_real_client_connects_ticks_spawns_and_drives(carla_server: CarlaServer) -> None:
    """Everything that the client reads back is what the server's bicycle did."""
    seen = result_of(drive, carla_server.port)
    assert seen["versions"] == ["0.9.16", "0.9.16"]
    assert seen["map"] == "Carla/Maps/Road0"
    assert seen["settings"] == [True, 0.1]
    assert seen["delta"] == 0.1 or abs(seen["delta"] - 0.1) < 1e-6
    assert seen["frames"] == list(range(seen["frames"][0], seen["frames"][0] + 21))
    car, speed = CarModel(), 0.0
    for _ in range(20):
        speed += (0.5 * car.throttle_limit - car.drag * speed) * 0.1
    assert abs(seen["speed"] - speed) < 1e-4
    assert seen["moved"][0] > 2.0
    assert seen["moved"][1] < -0.1, "steering to the left leads to smaller y"
    assert seen["yaw"] < -5.0
    assert abs(seen["control"][0] - 0.5) < 1e-6
    assert abs(seen["control"][1] + 0.2) < 1e-6
    assert seen["destroyed"]
