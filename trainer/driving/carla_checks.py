"""Whether a CARLA server does what the CARLA world relies on: checks over the real client.

The one fact to hold: these are the assertions of our tests, for a server that we have never seen. They run in
a process of their own (trainer/carla_doctor.py), which tells each check before it begins: where the client
aborts, the last one told is the one that failed.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from trainer.driving.carla_session import Session, connect
from trainer.driving.carla_world import DT, CarlaWorld, client_library
from trainer.driving.world import Facts, SimulatorFaultError

CARS, IMAGE_SIZE = 5, 84
IMAGES, MOVES, SPEED_STEPS = 50, 30, 100
"""Ticks of a check."""

Check = tuple[str, Callable[[], str]]
"""What is checked, and how: returns what was found, raises AssertionError or a fault."""


class Checks:
    """The checks of one server, in the order in which each needs those before it."""

    def __init__(self, *, host: str, port: int, tm_port: int, town: str, timeout: float) -> None:
        self._where: dict[str, Any] = {"host": host, "port": port}
        self._more: dict[str, Any] = {"tm_port": tm_port, "town": town, "timeout": timeout}
        self._timeout = timeout
        self._world: CarlaWorld | None = None

    def __iter__(self) -> Iterator[Check]:
        yield "connects, and is of the client's version", self._connects
        yield "a world in synchronous mode, with car, sensors and traffic", self._begins
        yield "frame numbers rise by one, and a step is as long as asked", self._ticks
        yield "each tick's image comes, and is the tick's own", self._camera
        yield "a car starts where it is put, at rest in its lane", self._teleports
        yield "the controls move it: throttle forward, steering to the right", self._drives
        yield "coming over a marking is told", self._lane_invasion
        yield "a collision is told", self._collides
        yield "the TrafficManager drives the others", self._traffic
        yield "steps a second", self._speed
        yield "it is left as it was found", self._leaves
        yield "it loads its map anew", self._reloads

    @property
    def _up(self) -> CarlaWorld:
        assert self._world is not None
        return self._world

    def _connects(self) -> str:
        client = connect(client_library(), timeout=self._timeout, **self._where)
        return f"client {client.get_client_version()}, server {client.get_server_version()}"

    def _begins(self) -> str:
        began = time.perf_counter()
        self._world = CarlaWorld(npcs=CARS, image_size=IMAGE_SIZE, **self._where, **self._more)
        return f"{self._world.session.map.name}, in {time.perf_counter() - began:.1f} s"

    def _ticks(self) -> str:
        session = self._up.session
        frames, deltas = [session.frame], []
        for _ in range(20):
            snapshot = session.tick()
            frames.append(snapshot.frame)
            deltas.append(snapshot.timestamp.delta_seconds)
        assert frames == list(range(frames[0], frames[0] + 21)), f"frames {frames}"
        assert max(abs(delta - DT) for delta in deltas) < 1e-3, f"steps of {sorted(set(deltas))} s"
        return f"frames {frames[0]} to {frames[-1]}, {DT:g} s each"

    def _camera(self) -> str:
        world = self._up
        world.reset(0)
        late = world.images.late
        for _ in range(IMAGES):
            world.step(0.0, 0.0)
        frame = world.frame()
        assert frame.shape == (IMAGE_SIZE, IMAGE_SIZE), f"an image of {frame.shape}"
        assert frame.std() > 1, "the image is of one colour; does the server render?"
        return f"{IMAGES} of {IMAGES}; {(world.images.late - late) / IMAGES:.0%} came after their tick"

    def _teleports(self) -> str:
        found = [self._up.reset(seed) for seed in range(3)]
        offset = max(abs(facts.lateral) for facts in found)
        turn = max(abs(facts.heading_error) for facts in found)
        assert offset < 1.0, f"{offset:.2f} m off the lane's centre"
        assert turn < 0.3, f"turned by {turn:.2f} rad"
        return f"3 starts, at most {offset:.2f} m and {math.degrees(turn):.0f} degrees off"

    def _drives(self) -> str:
        first = self._up.reset(1)
        facts = self._follow(0.0, first, MOVES)
        way = facts.arc_length - first.arc_length
        assert way > 5.0, f"{way:.1f} m in {MOVES * DT:g} s at full throttle"
        before = facts.heading
        for _ in range(8):
            facts = self._up.step(0.3, 0.2)
        turned = math.remainder(facts.heading - before, math.tau)
        assert turned > 0.01, f"steering to the right turned it by {turned:.3f} rad"
        return f"{way:.0f} m in {MOVES * DT:g} s, then {math.degrees(turned):.0f} degrees to the right"

    def _lane_invasion(self) -> str:
        for seed in range(5):
            self._up.reset(10 + seed)
            for step in range(60):
                facts = self._up.step(-0.15, 0.5)
                if facts.lane_invasion:
                    return f"after {step + 1} steps to the left, {facts.lateral:.1f} m off the centre"
        raise AssertionError("no word of it in 5 drives to the left over 6 s each")

    def _collides(self) -> str:
        """Drive into a car that is put in the way."""
        world, carla = self._up, self._up.session.carla
        for seed in range(5):
            facts = world.reset(20 + seed)
            x, y = facts.waypoints[8]
            ahead = world.session.map.get_waypoint(carla.Location(float(x), float(y), 0.0)).transform
            ahead.location.z += 0.3
            other = world.session.spawn(world.ego.type_id, ahead)
            if other is None:
                continue
            for step in range(60):
                facts = self._follow(0.0, facts, 1)
                if facts.collision:
                    world.session.destroy(other)
                    return f"after {step + 1} steps towards a standing car"
            world.session.destroy(other)
        raise AssertionError("no word of it in 5 drives into a standing car")

    def _traffic(self) -> str:
        world = self._up
        assert world.traffic, "no car could be spawned"
        world.reset(2)
        starts = self._places()
        for _ in range(100):
            world.step(0.0, 0.0)
        ways = [
            math.hypot(place[0] - starts[car][0], place[1] - starts[car][1])
            for car, place in self._places().items()
            if car in starts
        ]
        moving = sum(way > 2.0 for way in ways)
        assert moving, f"none of {len(ways)} cars has moved in {100 * DT:g} s"
        return f"{moving} of {len(ways)} cars on their way, the farthest {max(ways):.0f} m in {100 * DT:g} s"

    def _speed(self) -> str:
        facts = self._up.reset(3)
        began = time.perf_counter()
        self._follow(0.0, facts, SPEED_STEPS)
        return f"{SPEED_STEPS / (time.perf_counter() - began):.1f} with {CARS} cars and {IMAGE_SIZE} pixels"

    def _leaves(self) -> str:
        ours = [self._up.ego.id, *self._up.traffic]
        self._up.close()
        client = connect(client_library(), timeout=self._timeout, **self._where)
        world = client.get_world()
        assert not world.get_settings().synchronous_mode, "still in synchronous mode"
        world.wait_for_tick(self._timeout)
        left = [actor.id for actor in world.get_actors(ours)]
        assert not left, f"actors {left} are still there"
        return "asynchronous, without our actors"

    def _reloads(self) -> str:
        """With a TrafficManager in synchronous mode, as a run has it."""
        session = Session(
            client_library(), **self._where, **self._more, weather="", traffic_seed=0,
            traffic=True, dt=DT, rendering=False,
        )  # fmt: skip
        began = time.perf_counter()
        session.reload()
        session.tick()
        session.close()
        return f"in {time.perf_counter() - began:.1f} s"

    def _follow(self, throttle: float, facts: Facts, steps: int) -> Facts:
        """Drive along the route, at full throttle unless told otherwise."""
        for _ in range(steps):
            x, y = facts.waypoints[3] - (facts.x, facts.y)
            aim = math.remainder(math.atan2(y, x) - facts.heading, math.tau)
            facts = self._up.step(float(np.clip(2.0 * aim, -1.0, 1.0)), throttle or 1.0)
        return facts

    def _places(self) -> dict[int, tuple[float, float]]:
        snapshot = self._up.session.snapshot
        found = ((car, snapshot.find(car)) for car in self._up.traffic)
        at = {car: actor.get_transform().location for car, actor in found if actor is not None}
        return {car: (where.x, where.y) for car, where in at.items()}


def main(arguments: str) -> None:
    """Be the process that checks: two lines of JSON a check, before it and after it; ends at the first fault.

    After a check that found something wrong the next one goes on; a fault leaves nothing to go on with.
    """
    for name, check in Checks(**json.loads(arguments)):
        _tell(begins=name)
        try:
            found = check()
        except AssertionError as error:
            _tell(fails=str(error))
        except (SimulatorFaultError, ValueError, RuntimeError) as error:
            _tell(fails=str(error))
            break
        else:
            _tell(passes=found)
    os._exit(0)  # the client may abort while the interpreter is taken down


def _tell(**line: str) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
