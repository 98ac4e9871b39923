"""Episodes, weather, and clients one after another."""

from __future__ import annotations

from typing import Any

import pytest

from tests.carla_server.process import CarlaServer, free_port, result_of


def reload(port: int, manager_port: int) -> dict[str, Any]:
    """Reload the world ten times with a TrafficManager at work, then load another map."""

    from tests.carla_server.client import connect, spawn, synchronous

    client, world = connect(port)
    manager = client.get_trafficmanager(manager_port)
    manager.set_synchronous_mode(True)
    episodes, modes, cars, frames = [world.id], [], [], []
    for k in range(10):
        old = spawn(world)
        old.set_autopilot(True, manager_port)
        frames += [world.tick() for _ in range(5)]
        world = client.reload_world(k % 2 == 0)
        modes.append(world.get_settings().synchronous_mode)
        synchronous(world)
        frames.append(world.tick())
        episodes.append(world.id)
        cars.append(len(world.get_actors().filter("vehicle.*")))
    alive = old.is_alive
    stale = old.get_transform().location
    world = client.load_world("Road1")
    synchronous(world)
    world.tick()
    name, other = world.get_map().name, world.get_map().get_spawn_points()
    manager.set_synchronous_mode(False)
    return {
        "episodes": episodes,
        "modes": modes,
        "cars": cars,
        "frames": frames,
        "alive": alive,
        "stale": [stale.x, stale.y],
        "map": name,
        "points": len(other),
    }


def test_ten_reloads_with_a_traffic_manager_and_another_map(carla_server: CarlaServer) -> None:
    """Each begins another episode without actors, keeps or resets the settings; frames never go back."""
    seen = result_of(reload, carla_server.port, free_port())
    assert seen["episodes"] == list(range(seen["episodes"][0], seen["episodes"][0] + 11))
    assert seen["modes"] == [False, True] * 5
    assert seen["cars"] == [0] * 10
    assert seen["frames"] == sorted(set(seen["frames"]))
    assert not seen["alive"] or seen["stale"] == [0.0, 0.0]
    assert seen["map"] == "Carla/Maps/Road1"
    assert seen["points"] > 100


def leave_a_car(port: int) -> dict[str, Any]:
    """Set the weather, leave a car behind in a synchronous world and go without a word."""
    import carla

    from tests.carla_server.client import connect, spawn

    _client, world = connect(port)
    weather = world.get_weather()
    weather.cloudiness, weather.sun_altitude_angle, weather.dust_storm = 80.0, -10.0, 5.0
    world.set_weather(weather)
    car = spawn(world)
    car.apply_control(carla.VehicleControl(throttle=1.0))
    for _ in range(10):
        frame = world.tick()
    return {"frame": frame, "car": car.id, "x": car.get_location().x}


def come_after(port: int) -> dict[str, Any]:
    """Find what the client before left, as a fresh client does, and end the synchronous mode."""
    import time

    import carla

    client = carla.Client("localhost", port)
    client.set_timeout(5.0)
    begin = time.monotonic()
    world = client.get_world()
    mode = world.get_settings().synchronous_mode
    frame = world.tick()
    (car,) = world.get_actors().filter("vehicle.*")
    x = car.get_location().x
    weather = world.get_weather()
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = False, None
    world.apply_settings(settings)
    took = time.monotonic() - begin
    snapshots = [world.wait_for_tick(2.0) for _ in range(3)]
    return {
        "mode": mode,
        "frame": frame,
        "car": car.id,
        "x": x,
        "weather": [weather.cloudiness, weather.sun_altitude_angle, weather.dust_storm, weather.fog_density],
        "took": took,
        "frames": [snapshot.frame for snapshot in snapshots],
        "delta": snapshots[-1].timestamp.delta_seconds,
    }


def test_clients_one_after_another_find_the_same_world(carla_server: CarlaServer) -> None:
    """A client that goes leaves its actors, its weather and its mode; the world waits for the next tick."""
    first = result_of(leave_a_car, carla_server.port)
    second = result_of(come_after, carla_server.port)
    assert second["mode"], "still synchronous"
    assert second["frame"] == first["frame"] + 1, "time stood still in between"
    assert second["car"] == first["car"]
    assert second["x"] > first["x"], "and its car drives on with its last control"
    assert second["weather"] == pytest.approx([80.0, -10.0, 5.0, 2.0])
    assert second["took"] < 3.0
    assert second["frames"] == list(range(second["frames"][0], second["frames"][0] + 3))
    assert second["delta"] == pytest.approx(0.05)
