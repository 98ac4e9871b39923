"""The simulated world: roads, actors, time, weather and collisions. It knows nothing of sockets.

The one fact to hold: nothing here is drawn at random. The same requests in the same order give the same
world; what differs between two runs comes from the client. On a collision the vehicle that ran into the
other one stays where it was, without speed: boxes never come to lie in one another by driving.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from tests.carla_server import crossing, wire
from tests.carla_server.blueprints import BY_NAME, SPECTATOR
from tests.carla_server.opendrive import SPEED_LIMIT, opendrive
from tests.carla_server.rpc import Refused
from tests.carla_server.vehicle import AT_REST, MASS, Vehicle, bounding_box
from tests.carla_server.wire import Pose, Wire
from trainer.driving.kinematic_world import LANE_WIDTH, SCENARIOS, lane_of
from trainer.driving.lanes import Lane
from trainer.driving.traffic import CAR_LENGTH, CAR_WIDTH, ONCOMING_LATERAL, boxes_overlap

SPAWN_SPACING = 12.0
"""m between recommended spawn points of a lane."""
SPAWN_HEIGHT = 0.3
"""m above the ground, as stock maps have it; a vehicle stands on the ground from the first."""
DEFAULT_STEP = 0.05
"""s a step where the settings name none."""
BLOCKED = "Spawn failed because of collision at spawn position"
"""The stock server's words."""

SYNCHRONOUS, NO_RENDERING, FIXED_DELTA = range(3)
DEFAULT_SETTINGS: Wire = [
    False,
    False,
    wire.NOTHING,
    True,
    0.01,
    10,
    0.0,
    True,
    3000.0,
    2000.0,
    True,
]
CLEAR_NOON: Wire = [5.0, 0.0, 0.0, 10.0, -1.0, 45.0, 2.0, 0.75, 0.0, 0.1, 1.0, 0.03, 0.0331, 0.0]


@dataclass(frozen=True)
class Map:
    """A map of the simulator; `lane` is that of a driving scenario, if it is the map of one."""

    name: str
    lane: Lane | None
    opendrive: str
    spawn_points: tuple[Pose, ...]


ROADS = tuple(f"Road{number}" for number in range(len(SCENARIOS)) if not lane_of(number).crossings)
MAPS = (*ROADS, crossing.NAME)


@lru_cache(maxsize=len(MAPS))
def map_of(name: str) -> Map:
    """Return a map by the last part of its name.

    Raises:
        Refused: there is none of that name.
    """
    short = name.rsplit("/", 1)[-1]
    if short not in MAPS:
        raise Refused(f"map '{name}' not found; this server has {', '.join(MAPS)}")
    if short == crossing.NAME:
        points = crossing.spawn_points(LANE_WIDTH, SPAWN_SPACING, SPAWN_HEIGHT)
        return Map(short, None, crossing.crossing(LANE_WIDTH), points)
    lane = lane_of(ROADS.index(short))
    return Map(short, lane, opendrive(short, lane, LANE_WIDTH), _spawn_points(lane))


def _spawn_points(lane: Lane) -> tuple[Pose, ...]:
    along = np.arange(0.5 * SPAWN_SPACING, lane.length - 0.5 * SPAWN_SPACING, SPAWN_SPACING)
    headings = lane.poses(along)[:, 2]
    return tuple(
        Pose(float(x), float(y), SPAWN_HEIGHT, 0.0, math.degrees(math.remainder(heading + turn, math.tau)))
        for lateral, turn in ((0.0, 0.0), (ONCOMING_LATERAL, math.pi))
        for (x, y), heading in zip(
            lane.points(along, np.full(along.size, lateral)), headings.tolist(), strict=True
        )
    )


@dataclass
class Actor:
    """Something in the world. `stream` is the number of its stream, 0 for none; `port` the streams' port."""

    number: int
    description: Wire
    place: Pose
    parent: Actor | None = None
    vehicle: Vehicle | None = None
    stream: int = 0
    port: int = 0
    lights: int = 0
    last_image: float = -math.inf

    @property
    def kind(self) -> str:
        """The name of its blueprint."""
        return str(self.description[1])

    def attribute(self, name: str) -> str:
        """Return the value of an attribute, as text."""
        return next(str(value) for key, _, value in self.description[2] if key == name)

    def pose(self) -> Pose:
        """Return where it is in the world."""
        if self.vehicle is not None:
            return self.vehicle.pose()
        return self.place if self.parent is None else self.parent.pose().then(self.place)

    def wire(self) -> Wire:
        """Return it as an Actor struct."""
        empty: Wire = [[0.0] * 3, [0.0] * 3, [0.0] * 3, self.number]
        box = bounding_box(self.number) if self.vehicle is not None else empty
        tags = bytes([14]) if self.vehicle is not None else b""
        stream = wire.token(self.stream, self.port) if self.stream else b""
        parent = 0 if self.parent is None else self.parent.number
        return [self.number, parent, self.description, box, tags, stream]

    def record(self) -> bytes:
        """Return its part of a state message."""
        vehicle = self.vehicle
        if vehicle is None:
            return wire.actor_record(self.number, self.pose())
        state = wire.vehicle_state(vehicle.control, SPEED_LIMIT)
        return wire.actor_record(self.number, vehicle.pose(), vehicle.motion(), state)


@dataclass(frozen=True)
class Collision:
    """Vehicle `first` ran into `second`; the impulse on the first, N s in the world's frame."""

    first: Actor
    second: Actor
    impulse: tuple[float, float, float]


@dataclass
class Simulation:
    """The world. `frame` never goes back, not even when another map is loaded."""

    map: Map
    episode: int = 1
    frame: int = 1
    elapsed: float = 0.0
    last_step: float = DEFAULT_STEP
    settings: Wire = field(default_factory=lambda: [*DEFAULT_SETTINGS])
    weather: Wire = field(default_factory=lambda: [*CLEAR_NOON])
    actors: dict[int, Actor] = field(default_factory=dict)
    _next_actor: int = 1

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.actors = {}
        self.spectator = self.spawn(BY_NAME[SPECTATOR].description(), Pose(z=20.0))
        self.elapsed = 0.0
        self.weather = [*CLEAR_NOON]

    @property
    def synchronous(self) -> bool:
        """Whether time waits for a client's tick."""
        return bool(self.settings[SYNCHRONOUS])

    @property
    def delta(self) -> float:
        """Seconds a step."""
        fixed = wire.optional(self.settings[FIXED_DELTA])
        return float(fixed) if fixed else DEFAULT_STEP

    def load(self, name: str, *, reset_settings: bool) -> None:
        """Begin a new episode on a map, on the same one if the name is empty. All actors are gone.

        Raises:
            Refused: there is no such map; nothing has changed.
        """
        if name:
            self.map = map_of(name)
        self.episode += 1
        self.frame += 1
        if reset_settings:
            self.settings = [*DEFAULT_SETTINGS]
        self._begin()

    def spawn(self, description: Wire, pose: Pose, parent: Actor | None = None) -> Actor:
        """Put an actor into the world; `pose` is relative to the parent, if there is one.

        Raises:
            Refused: the blueprint is unknown, or another vehicle stands there.
        """
        name = description[1]
        if name not in BY_NAME:
            raise Refused(f"this server has no blueprint {name}")
        vehicle = None
        if name.startswith("vehicle."):
            vehicle = Vehicle(pose)
            box = _box(vehicle.x, vehicle.y, vehicle.heading)
            if any(
                boxes_overlap(box, _box_of(other.vehicle)) for other in self.actors.values() if other.vehicle
            ):
                raise Refused(BLOCKED)
        actor = Actor(self._next_actor, description, pose, parent, vehicle)
        self._next_actor += 1
        self.actors[actor.number] = actor
        return actor

    def actor(self, number: int) -> Actor:
        """Return an actor.

        Raises:
            Refused: there is none of that number.
        """
        if number not in self.actors:
            raise Refused(f"unable to find actor {number}: not found in the episode")
        return self.actors[number]

    def driven(self, number: int) -> Vehicle:
        """Return the motion of a vehicle.

        Raises:
            Refused: there is no actor of that number, or it is no vehicle.
        """
        vehicle = self.actor(number).vehicle
        if vehicle is None:
            raise Refused(f"actor {number} is no vehicle")
        return vehicle

    def destroy(self, number: int) -> bool:
        """Take an actor out of the world. What is attached to it stays where it is, as Unreal leaves it.

        Raises:
            Refused: there is none of that number.
        """
        gone = self.actor(number)
        del self.actors[number]
        for actor in self.actors.values():
            if actor.parent is gone:
                actor.place, actor.parent = actor.pose(), None
        return True

    def step(self, dt: float) -> list[Collision]:
        """Let `dt` s pass and return the collisions in it."""
        self.frame += 1
        self.elapsed += dt
        self.last_step = dt
        driving = [(actor, actor.vehicle) for actor in self.actors.values() if actor.vehicle is not None]
        boxes = np.array([_box_of(vehicle) for _, vehicle in driving]).reshape(-1, 5)
        collisions = []
        for k, (actor, vehicle) in enumerate(driving):
            ahead = vehicle.next(dt)
            box = _box(*ahead[:3])
            near = np.hypot(boxes[:, 0] - box[0], boxes[:, 1] - box[1]) < math.hypot(CAR_LENGTH, CAR_WIDTH)
            hit = [int(j) for j in np.flatnonzero(near) if j != k and boxes_overlap(box, boxes[j])]
            for j in hit:
                collisions.append(Collision(actor, driving[j][0], _impulse(vehicle)))
            # Boxes that a teleport put into one another may drive apart again.
            if all(boxes_overlap(boxes[k], boxes[j]) for j in hit):
                vehicle.move(ahead, dt)
                boxes[k] = box
            else:
                vehicle.stop()
        return collisions

    def state(self) -> bytes:
        """Return the state message of this frame."""
        head = wire.header(wire.WORLD_OBSERVER, self.frame, self.elapsed, Pose())
        episode = wire.episode_state(self.episode, time.time(), self.last_step)
        return b"".join((head, episode, *(actor.record() for actor in self.actors.values())))


def _box(x: float, y: float, heading: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array((x, y, heading, CAR_LENGTH, CAR_WIDTH))


def _box_of(vehicle: Vehicle) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return _box(vehicle.x, vehicle.y, vehicle.heading)


def _impulse(vehicle: Vehicle) -> tuple[float, float, float]:
    push = -MASS * vehicle.speed
    return push * math.cos(vehicle.heading), push * math.sin(vehicle.heading), 0.0


__all__ = ["AT_REST", "MAPS", "Actor", "Collision", "Map", "Simulation", "map_of"]
