"""The server: what each RPC does to the simulation, and what a tick publishes.

The one fact to hold: a tick steps the world, publishes the sensors' messages, then the state of the frame,
and only then is it answered. Between ticks of the synchronous mode the world stands still.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgpack

from tests.carla_server import wire
from tests.carla_server.blueprints import BLUEPRINTS, CAMERA, COLLISION_SENSOR, LANE_INVASION_SENSOR
from tests.carla_server.commands import Commands
from tests.carla_server.faults import Faults
from tests.carla_server.rpc import Method, Refused, Requests
from tests.carla_server.sensors import Cameras
from tests.carla_server.simulation import BLOCKED, MAPS, NO_RENDERING, Actor, Collision, Simulation
from tests.carla_server.streams import WORLD_STREAM, Streams
from tests.carla_server.vehicle import bounding_box, physics_control
from tests.carla_server.wire import Pose, Wire

VERSION = "0.9.16"
ASYNCHRONOUS_PERIOD = 0.05
"""s of the wall clock a step, where no client ticks."""


class Server:
    """One simulator.

    Args:
        simulation: the world it serves. faults: what goes wrong with it.
    """

    def __init__(self, simulation: Simulation, faults: Faults) -> None:
        self.simulation = simulation
        self.faults = faults
        self.ticks = 0
        self.streams = Streams()
        self._cameras = Cameras()
        self._stream_port = 0
        self._next_stream = WORLD_STREAM + 1
        self._spawned = self._batches = 0
        self._traffic_managers: dict[int, tuple[str, int]] = {}
        self._commands = Commands(simulation, self.spawn)
        self.requests = Requests(dict(self._methods()))

    async def serve(self, host: str, port: int) -> None:
        """Open both ports, say so on standard output, and serve until cancelled."""
        await asyncio.sleep(self.faults.listen_after)
        beside = port + 1 if port else 0
        streams = await asyncio.start_server(self.streams.serve, host, beside)
        self._stream_port = streams.sockets[0].getsockname()[1]
        requests = await asyncio.start_server(self.requests.serve, host, port)
        port = requests.sockets[0].getsockname()[1]
        # Who started this process waits for this line.
        print(f"ready port={port} streams={self._stream_port}", flush=True)
        self._publish_state()
        while True:
            await asyncio.sleep(ASYNCHRONOUS_PERIOD)
            if not self.simulation.synchronous:
                self._step()

    def _step(self) -> None:
        """Let one step pass and publish what came of it."""
        world = self.simulation
        collisions = world.step(self.faults.wrong_delta or world.delta)
        if not world.settings[NO_RENDERING]:
            for actor in tuple(world.actors.values()):
                if actor.kind == CAMERA:
                    self._send_image(actor)
        for collision in collisions:
            self._send_collision(collision)
        self._publish_state()

    def _publish_state(self) -> None:
        self.streams.publish(WORLD_STREAM, self.simulation.state(), keep=True)

    def _send_image(self, camera: Actor) -> None:
        world = self.simulation
        if not self.streams.listeners(camera.stream):
            return
        if world.elapsed - camera.last_image < float(camera.attribute("sensor_tick")) - 1e-6:
            return
        first, camera.last_image = camera.last_image < 0, world.elapsed
        if self.faults.image_lost(self.ticks, first=first):
            return
        head = wire.header(wire.RGB_CAMERA, world.frame, world.elapsed, camera.pose())
        send = partial(self.streams.publish, camera.stream, head + self._cameras.image(world, camera))
        delay = self.faults.image_delay(self.ticks)
        if delay < 0:
            send()
        else:
            asyncio.get_running_loop().call_later(delay, send)

    def _send_collision(self, collision: Collision) -> None:
        world = self.simulation
        x, y, z = collision.impulse
        for mine, other, impulse in (
            (collision.first, collision.second, [x, y, z]),
            (collision.second, collision.first, [-x, -y, -z]),
        ):
            for sensor in world.actors.values():
                if sensor.kind == COLLISION_SENSOR and sensor.parent is mine:
                    head = wire.header(wire.COLLISION, world.frame, world.elapsed, sensor.pose())
                    event = msgpack.packb([mine.wire(), other.wire(), impulse])
                    self.streams.publish(sensor.stream, head + event)

    def arm(self, faults: Faults) -> None:
        """Let other faults come; ticks are counted from here."""
        self.faults, self.ticks, self._batches, self._spawned = faults, 0, 0, 0

    def tick(self) -> int:
        """Carry out one tick of the synchronous mode and return its frame; faults strike first."""
        self.ticks += 1
        faults = self.faults
        if self.ticks == faults.kill_at:
            _die()
        if self.ticks == faults.hang_at:
            _hang()
        if self.ticks == faults.pause_at:
            time.sleep(faults.pause_for)
        self._step()
        return self.simulation.frame

    def spawn(self, description: Wire, pose: Pose, parent: int | None = None) -> Actor:
        """Spawn an actor and give sensors their streams.

        Raises:
            Refused: see `Simulation.spawn` and `Cameras.check`; or the fault says so.
        """
        kind = description[1]
        if kind.startswith("vehicle."):
            self._spawned += 1
            if self._spawned <= self.faults.spawn_failure:
                raise Refused(BLOCKED)
        attached = None if parent is None else self.simulation.actor(parent)
        if kind == CAMERA:
            self._cameras.check(self.simulation.map, description, pose)
        actor = self.simulation.spawn(description, pose, attached)
        if kind in {CAMERA, COLLISION_SENSOR, LANE_INVASION_SENSOR}:
            actor.stream, actor.port = self._next_stream, self._stream_port
            self._next_stream += 1
        return actor

    def _token(self, stream: int) -> Wire:
        return [wire.token(stream, self._stream_port)]

    def _methods(self) -> Iterator[tuple[str, Method]]:
        """Yield every RPC: those with a value in their answer, those without, and the batch."""
        for name, method in (self._questions() | self._traffic_manager_methods()).items():
            yield name, partial(_value, method)
        for name, method in self._orders().items():
            yield name, partial(_void, method)
        for name, order in self._commands.orders.items():
            yield name, partial(_void, order)
        yield "apply_batch", self._apply_batch

    def _questions(self) -> dict[str, Callable[..., object]]:
        world = self.simulation
        return {
            "version": lambda: self.faults.version or VERSION,
            "get_episode_info": lambda: [world.episode, self._token(WORLD_STREAM)],
            "get_sensor_token": self._token,
            "get_episode_settings": lambda: world.settings,
            "set_episode_settings": self._set_settings,
            "get_map_info": lambda: [
                f"Carla/Maps/{world.map.name}",
                [pose.wire() for pose in world.map.spawn_points],
            ],
            "get_required_files": lambda _folder: [],
            "get_map_data": lambda: world.map.opendrive,
            "get_available_maps": lambda: [f"/Game/Carla/Maps/{name}" for name in MAPS],
            "get_actor_definitions": lambda: [blueprint.definition() for blueprint in BLUEPRINTS],
            "get_spectator": self._spectator,
            "get_actors_by_id": lambda numbers: [
                world.actors[number].wire() for number in numbers if number in world.actors
            ],
            "get_weather_parameters": lambda: world.weather,
            "spawn_actor": lambda description, pose: self.spawn(description, Pose.of(pose)).wire(),
            "spawn_actor_with_parent": lambda description, pose, parent, _attachment, _bone: self.spawn(
                description, Pose.of(pose), parent
            ).wire(),
            "destroy_actor": world.destroy,
            "get_physics_control": lambda number: physics_control(world.driven(number).pose()),
            "get_actor_bounding_box": lambda number: bounding_box(world.actor(number).number),
            "get_vehicle_light_states": lambda: [
                [actor.number, actor.lights] for actor in world.actors.values() if actor.vehicle
            ],
            "get_vehicle_light_state": lambda number: [world.actor(number).lights],
            "query_lights_state": lambda _client: [],
            "tick_cue": self.tick,
        }

    def _traffic_manager_methods(self) -> dict[str, Callable[..., object]]:
        running = self._traffic_managers
        return {
            "is_traffic_manager_running": lambda port: port in running,
            "get_traffic_manager_running": lambda port: [*running.get(port, ("", 0))],
            "add_traffic_manager_running": self._add_traffic_manager,
            "destroy_traffic_manager": lambda port: running.pop(port, None) is not None,
        }

    def _orders(self) -> dict[str, Callable[..., object]]:
        return {
            "set_weather_parameters": self._set_weather,
            "load_new_episode": self._load,
            "reset_all_traffic_lights": lambda: None,
            "draw_debug_shape": lambda _shape: None,
        }

    def _spectator(self) -> Wire:
        return self.simulation.spectator.wire()

    def _set_settings(self, settings: Wire) -> int:
        if not self.faults.settings_ignored:
            self.simulation.settings = settings
        self._publish_state()
        return self.simulation.frame

    def _set_weather(self, weather: Wire) -> None:
        self.simulation.weather = weather

    def _add_traffic_manager(self, where: tuple[str, int]) -> bool:
        host, port = where
        if port in self._traffic_managers:
            return False
        self._traffic_managers[port] = (host, port)
        return True

    def _load(self, name: str, reset_settings: bool, _layers: int) -> None:  # as it comes on the wire
        if self.faults.load_hangs:
            _hang()
        self.simulation.load(name, reset_settings=reset_settings)
        # The state of the new episode comes with the next step. Before the answer it would take the client
        # unawares: one with a TrafficManager then crashed in each of 40 runs; as it is, in 1 of 116.
        self.streams.forget(WORLD_STREAM)

    def _apply_batch(self, commands: list[Wire], do_tick: bool) -> list[Wire]:  # as it comes on the wire
        self._batches += 1
        if self._batches == self.faults.kill_at_batch:
            _die()
        answers = self._commands.batch(commands)
        if do_tick:
            self.tick()
        return answers


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    """Stop, as a simulator whose main thread waits for something that never comes."""
    while True:
        time.sleep(3600)


def _value(method: Callable[..., Any], *arguments: object) -> Wire:
    try:
        return wire.success(method(*arguments))
    except Refused as error:
        return wire.failure(str(error))


def _void(method: Callable[..., Any], *arguments: object) -> Wire:
    try:
        method(*arguments)
    except Refused as error:
        return wire.failed(str(error))
    return wire.DONE
