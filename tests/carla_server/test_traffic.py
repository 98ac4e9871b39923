"""The client's own TrafficManager drives cars of ours, in batches, the same way for the same seed."""

from __future__ import annotations

from typing import Any

from tests.carla_server.process import CarlaServer, free_port, result_of

CARS = 10


def lap(port: int, manager_port: int, road: str, ticks: int) -> dict[str, Any]:
    """Let the TrafficManager drive cars round the map; return how far off their lane they were, and where."""
    import carla

    from tests.carla_server.client import connect, listen, synchronous

    client, world = connect(port)
    world = client.load_world(road)  # before there is a manager: it would go on driving by the map before
    synchronous(world)
    manager = client.get_trafficmanager(manager_port)
    manager.set_synchronous_mode(True)
    manager.set_random_device_seed(42)
    lanes = world.get_map()
    kinds = world.get_blueprint_library().filter("vehicle.*")
    points = lanes.get_spawn_points()
    then = carla.command.SetAutopilot(carla.command.FutureActor, True, manager_port)
    commands = [
        carla.command.SpawnActor(kinds[k % len(kinds)], point).then(then)
        for k, point in enumerate(points[:: len(points) // CARS][:CARS])
    ]
    occupied = carla.command.SpawnActor(kinds[0], points[0])
    answers = client.apply_batch_sync([*commands, occupied], True)
    cars = [world.get_actor(answer.actor_id) for answer in answers[:CARS]]
    _sensor, hits = listen(world, cars[0], "sensor.other.collision")
    off = far = 0.0
    before = [car.get_location() for car in cars]
    for tick in range(ticks):
        world.tick()
        here = [car.get_location() for car in cars]
        far += sum(a.distance(b) for a, b in zip(before, here, strict=True))
        before = here
        if tick % 4 == 0:
            off = max(off, *(place.distance(lanes.get_waypoint(place).transform.location) for place in here))
    places = [[place.x, place.y] for place in before]
    manager.set_synchronous_mode(False)
    gone = client.apply_batch_sync([carla.command.DestroyActor(car.id) for car in cars], True)
    return {
        "errors": [answer.error for answer in answers],
        "off": off,
        "mean_speed": far / ticks / CARS / 0.1,
        "places": places,
        "hits": hits.qsize(),
        "gone": [bool(answer.error) for answer in gone],
        "left": len(world.get_actors().filter("vehicle.*")),
    }


def test_the_traffic_manager_drives_cars_round_our_map_repeatably(carla_server: CarlaServer) -> None:
    """They keep their lanes at their speed without a hit, and the same seed gives the same places."""
    first = result_of(lap, carla_server.port, free_port(), "Road0", 300)
    assert first["errors"][:CARS] == [""] * CARS
    assert first["errors"][CARS] == "Spawn failed because of collision at spawn position"
    assert first["off"] < 0.5
    assert first["mean_speed"] > 8.0
    assert first["hits"] == 0
    assert not any(first["gone"])
    assert first["left"] == 0
    again = result_of(lap, carla_server.port, free_port(), "Road0", 300)
    assert again["places"] == first["places"]


def test_the_traffic_manager_finds_its_way_through_a_junction(carla_server: CarlaServer) -> None:
    """Cars that choose among three ways, give way to one another and touch nobody."""
    seen = result_of(lap, carla_server.port, free_port(), "Crossing", 400)
    assert seen["errors"][:CARS] == [""] * CARS
    assert seen["off"] < 1.0
    assert seen["mean_speed"] > 2.0
    assert seen["hits"] == 0
