"""The server's own world and its wire types, without a client."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.carla_server import wire
from tests.carla_server.blueprints import BY_NAME
from tests.carla_server.rpc import Refused
from tests.carla_server.simulation import BLOCKED, MAPS, Simulation, map_of
from tests.carla_server.wire import Pose
from trainer.driving.traffic import CAR_LENGTH

CAR = BY_NAME["vehicle.tesla.model3"].description()


def test_binary_messages_have_the_sizes_that_the_client_reads() -> None:
    """48 bytes of header, 36 of episode, 119 an actor, 12 before an image's pixels, 24 a token."""
    assert len(wire.header(wire.RGB_CAMERA, 1, 0.5, Pose())) == 48
    assert len(wire.episode_state(1, 0.0, 0.1)) == 36
    assert len(wire.actor_record(1, Pose())) == 119
    assert len(wire.image(2, 3, 90.0, bytes(24))) == 12 + 24
    assert len(wire.token(7, 2001)) == 24
    simulation = Simulation(map_of("Road0"))
    simulation.spawn(CAR, Pose())
    assert len(simulation.state()) == 48 + 36 + 2 * 119


@given(st.floats(-200, 200), st.floats(-200, 200), st.floats(-180, 180), st.floats(-5, 5), st.floats(-5, 5))
def test_what_is_fixed_to_a_car_turns_with_it(
    x: float, y: float, yaw: float, ahead: float, right: float
) -> None:
    """Its distance from the car's centre stays; ahead is along the heading, right is clockwise of it."""
    place = Pose(x, y, yaw=yaw).then(Pose(ahead, right))
    dx, dy, heading = place.x - x, place.y - y, math.radians(yaw)
    assert dx * math.cos(heading) + dy * math.sin(heading) == pytest.approx(ahead, abs=1e-9)
    assert dy * math.cos(heading) - dx * math.sin(heading) == pytest.approx(right, abs=1e-9)


def drive(simulation: Simulation, number: int, throttle: float, steps: int) -> list[Any]:
    """Hold a throttle for some steps and return all collisions."""
    simulation.actor(number).vehicle.control = [throttle, 0.0, 0.0, False, False, False, 0]  # type: ignore[union-attr]  # a car
    return [collision for _ in range(steps) for collision in simulation.step(0.1)]


def test_a_car_that_runs_into_another_stops_before_it_and_tells_so_while_it_pushes() -> None:
    """The gap never closes, the hit car is not moved, and without throttle there is silence."""
    simulation = Simulation(map_of("Road0"))
    standing, moving = simulation.spawn(CAR, Pose(x=20.0)), simulation.spawn(CAR, Pose())
    hits = drive(simulation, moving.number, 1.0, 100)
    assert hits
    assert {(hit.first.number, hit.second.number) for hit in hits} == {(moving.number, standing.number)}
    assert hits[0].impulse[0] < 0.0
    assert 20.0 - moving.pose().x >= CAR_LENGTH
    assert standing.pose().x == 20.0
    assert drive(simulation, moving.number, 0.0, 10) == []


def test_cars_that_a_teleport_put_into_one_another_may_drive_apart() -> None:
    """They tell of the collision until they are apart."""
    simulation = Simulation(map_of("Road0"))
    first, second = simulation.spawn(CAR, Pose()), simulation.spawn(CAR, Pose(x=20.0))
    assert second.vehicle is not None
    second.vehicle.put(Pose(x=2.0))
    assert drive(simulation, second.number, 1.0, 3)
    assert (
        drive(simulation, second.number, 1.0, 60)[-1:] == [] or second.pose().x - first.pose().x > CAR_LENGTH
    )
    assert drive(simulation, second.number, 1.0, 5) == []


def test_a_car_cannot_be_spawned_into_another_nor_from_an_unknown_blueprint() -> None:
    """The stock server's words for the one, the name for the other."""
    simulation = Simulation(map_of("Road0"))
    simulation.spawn(CAR, Pose())
    with pytest.raises(Refused, match=BLOCKED):
        simulation.spawn(CAR, Pose(x=3.0))
    with pytest.raises(Refused, match=r"vehicle\.bus"):
        simulation.spawn([99, "vehicle.bus", []], Pose(x=50.0))


def test_sensors_outlive_their_car_where_they_were() -> None:
    """Whoever destroys a car must destroy its sensors; they are not gone with it."""
    simulation = Simulation(map_of("Road0"))
    car = simulation.spawn(CAR, Pose(x=10.0))
    sensor = simulation.spawn(BY_NAME["sensor.other.collision"].description(), Pose(x=2.0), car)
    simulation.destroy(car.number)
    assert sensor.number in simulation.actors
    assert sensor.pose().x == 12.0
    with pytest.raises(Refused, match="unable to find actor"):
        simulation.destroy(car.number)


@pytest.mark.parametrize("name", MAPS)
def test_a_car_fits_on_every_spawn_point_of_a_map(name: str) -> None:
    """All at once, on both lanes, each in its lane's direction."""
    simulation = Simulation(map_of(name))
    for point in simulation.map.spawn_points:
        simulation.spawn(CAR, point)
    assert len(simulation.map.spawn_points) > 100
    assert simulation.step(0.1) == []
