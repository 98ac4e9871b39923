"""Orders to actors, one by one or as a batch.

The one fact to hold: a command of a batch is the same order as the RPC of its name, told by a number; a
command that fails answers for itself and the ones after it are still carried out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.carla_server import wire
from tests.carla_server.rpc import Refused
from tests.carla_server.simulation import Actor, Simulation
from tests.carla_server.vehicle import Vehicle
from tests.carla_server.wire import Pose, Wire

SPAWN, DESTROY, AUTOPILOT = 0, 1, 16
ORDERS = {
    2: "apply_control_to_vehicle",
    6: "set_actor_transform",
    8: "set_actor_target_velocity",
    14: "set_actor_simulate_physics",
    15: "set_actor_enable_gravity",
    18: "set_vehicle_light_state",
    19: "set_actor_location",
}
"""Commands of one actor and one value, by their number in 0.9.16."""

Spawn = Callable[[Wire, Pose, int | None], Actor]


class Commands:
    """Carries out orders. `spawn` is the server's, since sensors get streams."""

    def __init__(self, world: Simulation, spawn: Spawn) -> None:
        self._world = world
        self._spawn = spawn
        self.orders: dict[str, Callable[[int, Any], None]] = {
            "apply_control_to_vehicle": self._control,
            "set_actor_transform": self._transform,
            "set_actor_location": self._location,
            "set_actor_target_velocity": lambda number, value: world.driven(number).push(*value[:2]),
            # Its turning follows from wheels and speed.
            "set_actor_target_angular_velocity": lambda number, _value: _nothing(world.driven(number)),
            "set_actor_simulate_physics": self._simulate,
            "set_actor_enable_gravity": lambda number, _on: _nothing(world.actor(number)),
            "set_vehicle_light_state": self._lights,
        }

    def batch(self, commands: list[Wire]) -> list[Wire]:
        """Carry out commands in order and return an answer for each: the actor's number, or why not."""
        return [self._answer(index, payload) for ((index, payload),) in commands]

    def _answer(self, index: int, payload: Wire, new: int = 0) -> Wire:
        """Carry out one command; an actor numbered 0 is the `new` one."""
        try:
            if index == SPAWN:
                return wire.success(self._spawn_with(payload))
            number = payload[0] or new
            if index == DESTROY:
                self._world.destroy(number)
            elif index == AUTOPILOT:
                self._world.driven(number)  # the client's TrafficManager drives it, by its controls
            elif index in ORDERS:
                value = payload[1] if index != 18 else [payload[1]]
                self.orders[ORDERS[index]](number, value)
            else:
                raise Refused(f"this server does not carry out command {index}")
        except Refused as error:
            return wire.failure(str(error))
        return wire.success(number)

    def _spawn_with(self, payload: Wire) -> int:
        description, pose, parent, _attachment, _bone, then = payload
        actor = self._spawn(description, Pose.of(pose), wire.optional(parent))
        for ((index, order),) in then:
            self._answer(index, order, actor.number)
        return actor.number

    def _control(self, number: int, control: Wire) -> None:
        self._world.driven(number).control = control

    def _transform(self, number: int, transform: Wire) -> None:
        actor, pose = self._world.actor(number), Pose.of(transform)
        if actor.vehicle is not None:
            actor.vehicle.put(pose)
        else:
            actor.place = pose

    def _location(self, number: int, location: Wire) -> None:
        self._transform(number, [location, self._world.actor(number).pose().wire()[1]])

    def _simulate(self, number: int, on: bool) -> None:  # as it comes on the wire
        self._world.driven(number).simulated = on

    def _lights(self, number: int, flags: Wire) -> None:
        (self._world.actor(number).lights,) = flags


def _nothing(_it: Actor | Vehicle) -> None:
    """Do nothing to an actor that exists: the ground holds everything."""
