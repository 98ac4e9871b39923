"""A CARLA server as a world, over the real client, carla 0.9.16. The only file that imports it.

The one fact to hold: this lives in a child process (isolated.py), because a client whose server dies under a
TrafficManager aborts its process. So nothing is mended here: whatever the client says that is not an answer
is a SimulatorFaultError, after which the process is thrown away and a fresh one begins with a fresh client.

Only `tick()` and frame numbers tell the truth: a dead server's actors still answer with what they last were.
So places are read from the snapshot of the very frame that was ticked, images are matched by their frame,
and a tick that timed out is never repeated. Sensors live as long as the process does; a new episode
teleports the car. Tested with the real carla 0.9.16 client against our protocol server; not run against the
Unreal server.
"""

from __future__ import annotations

import importlib.util
import math
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.driving.arrivals import Arrivals, Events
from trainer.driving.camera import FIELD_OF_VIEW, MOUNT_FORWARD, MOUNT_HEIGHT
from trainer.driving.carla_session import LOAD, ROLE, Session, answered, watch
from trainer.driving.isolated import Deadlines, Isolated
from trainer.driving.kinematic_world import SCENARIOS, WAYPOINT_SPACING, WAYPOINTS, CarModel
from trainer.driving.lanes import wrap_angle
from trainer.driving.route import Route, plan
from trainer.driving.world import Facts, SimulatorFaultError

VERSION = "0.9.16"
DT = 0.1
"""s a step, the embedded world's."""

WARM_UP, SETTLE = 10, 4
"""Ticks: at most so many until the camera's first image; so many from a teleport to a new episode."""

IMAGE = 5.0
"""s that an image may come after its tick, where the server may take as long for an answer."""

EGO = "vehicle.tesla.model3"

STEER_LIMIT = 0.5
"""rad at the wheels for a full command. The embedded world's 0.22 does not get round a town's corners."""

CREEP_THROTTLE = 0.4
CAR = CarModel()

START_ROOM = 15.0
"""m from the start of an episode to the nearest other car."""

INSTALL = (
    f"the CARLA client is not installed: pip install 'training-sentinel[carla]' (carla {VERSION} has wheels"
    " for Python 3.10 to 3.12 on x86-64 Linux and Windows; this is Python {python} on {machine})"
)


def missing() -> str:
    """Return what to install; empty where the client is there. Does not import it."""
    if importlib.util.find_spec("carla") is not None:
        return ""
    return INSTALL.format(
        python=platform.python_version(), machine=f"{platform.machine()} {platform.system()}"
    )


def client_library() -> Any:
    """Return the `carla` module.

    Raises:
        ValueError: it is not installed; the message says what to do.
    """
    if words := missing():
        raise ValueError(words)
    import carla  # noqa: PLC0415  # where no wheel exists everything else still works

    return carla


def isolated(
    *,
    host: str,
    port: int,
    tm_port: int,
    image_size: int | None,
    timeout: float = 20.0,
    patience: float = 300.0,
    **more: Any,
) -> Isolated:
    """Return a `CarlaWorld` in a child process; arguments as there. `patience` as in `Isolated`.

    Each try has a TrafficManager port of its own, 20 in turn from `tm_port` on: a server remembers the port
    of a client that was killed, and sends the next one there.
    """

    def arguments(number: int) -> Mapping[str, Any]:
        where = {"host": host, "port": port, "tm_port": tm_port + number % 20, "timeout": timeout}
        return more | where | {"image_size": image_size, "watched": True}

    # A step may wait for its tick and then for its image; a reset ticks a few times; a start may load a map.
    limits = Deadlines(LOAD + 4 * timeout, reset=2 * timeout, step=timeout + 2 * IMAGE, close=timeout)
    made = "trainer.driving.carla_world:CarlaWorld"
    return Isolated(made, arguments, dt=DT, image_size=image_size, deadlines=limits, patience=patience)


def pedals(throttle: float, speed: float) -> tuple[float, float]:
    """Return throttle and brake in [0, 1] for a command in [-1, 1] at `speed` m/s.

    The embedded world's governor: no throttle above its limit, and brakes that slow to a creep, so that no
    episode can be sat out.
    """
    if throttle >= 0 and speed < CAR.speed_limit:
        return max(throttle, CREEP_THROTTLE if speed < CAR.creep_speed else 0.0), 0.0
    if throttle < 0 and speed > CAR.creep_speed:
        return 0.0, -throttle
    return (CREEP_THROTTLE, 0.0) if speed < CAR.creep_speed else (0.0, 0.0)


def grey(image: Any) -> NDArray[np.uint8]:
    """Return a camera's image, BGRA bytes, as luminance: uint8 [height, width]. Rec. 601 weights."""
    pixels = np.frombuffer(image.raw_data, np.uint8).reshape(image.height, image.width, 4)
    return (pixels[:, :, :3] @ np.array((0.114, 0.587, 0.299), np.float32) + 0.5).astype(np.uint8)


class CarlaWorld:
    """A CARLA server's world; see `World` for what its methods promise.

    Its state cannot be saved, and neither traffic nor physics repeat by the seed: that draws only where an
    episode begins, and where it leads.

    Args:
        host, port: of the server. tm_port: of the TrafficManager, on this machine. town: its map; empty for
        the one that is loaded. weather: a preset of CARLA's (ClearNoon); empty for the weather that is.
        scenario: 0 to 2, which only says how many cars are usual: 20, 50, 100. npcs: how many instead.
        traffic_seed: of the TrafficManager and of where its cars begin. image_size: height and width of the
        frames in pixels; None for no camera, and no rendering. timeout: s for an answer of the server.
        watched: this process is the world's own, and ends with the server.

    Raises:
        SimulatorFaultError, ValueError: see `Session`.
    """

    def __init__(
        self,
        *,
        host: str = "localhost",
        port: int = 2000,
        tm_port: int = 8000,
        town: str = "Town01",
        weather: str = "",
        scenario: int = 0,
        npcs: int | None = None,
        traffic_seed: int = 42,
        image_size: int | None = None,
        dt: float = DT,
        timeout: float = 20.0,
        watched: bool = False,
    ) -> None:
        if watched:
            watch(host, port)
        self.dt = dt
        cars = SCENARIOS[scenario].npcs if npcs is None else npcs
        self.session = Session(
            client_library(),
            host=host,
            port=port,
            tm_port=tm_port,
            town=town,
            weather=weather,
            traffic_seed=traffic_seed,
            traffic=cars > 0,
            dt=dt,
            rendering=image_size is not None,
            timeout=timeout,
        )
        self.images = Arrivals("image")
        self._collisions, self._invasions = Events(), Events()
        self._image: NDArray[np.uint8] | None = None
        self._has_camera = image_size is not None
        with answered("spawning cars and sensors"):
            self._points = self._start_points()
            self._random = np.random.default_rng(traffic_seed)
            self.ego = self._spawn_ego()
            self._steer_scale = self._steering()
            self._listen(image_size)
            self.traffic = self._spawn_traffic(cars) if cars > 0 else []
        """Ids of the other cars."""
        self._warm_up()
        self._route = Route(np.zeros((2, 3)))
        self._arc_length = self._speed = self._heading = 0.0
        self._begun = -1  # the frame at which the episode began: nothing before it counts

    def reset(self, seed: int) -> Facts:
        random = np.random.default_rng(seed)
        carla = self.session.carla
        with answered("a new episode"):
            start = self._free_start(random)
            self._route = plan(start, random)
            lateral, turn = random.uniform(-0.4, 0.4), random.uniform(-0.04, 0.04)
            speed = random.uniform(*CAR.start_speed)
            where = start.transform
            yaw = math.radians(where.rotation.yaw)
            where.location += carla.Location(-lateral * math.sin(yaw), lateral * math.cos(yaw), 0.3)
            where.rotation.yaw += math.degrees(turn)
            forward = carla.Vector3D(math.cos(yaw + turn), math.sin(yaw + turn), 0.0)
            # Held at the place until the wheels are straight and the car has come to rest on them.
            for _ in range(SETTLE):
                self.ego.apply_control(carla.VehicleControl(brake=1.0))
                self.ego.set_target_velocity(carla.Vector3D())
                self.ego.set_target_angular_velocity(carla.Vector3D())
                self.ego.set_transform(where)
                self._tick()
            self.ego.set_target_velocity(forward * speed)
            self.ego.apply_control(carla.VehicleControl(throttle=0.3))
            self._tick()
        self._begun = self.session.frame
        self._arc_length, self._speed = 0.0, speed
        x, y, heading, _ = self._motion()
        if math.hypot(x - where.location.x, y - where.location.y) > 5.0:
            raise SimulatorFaultError(f"the car is at {x:.1f}, {y:.1f} after a teleport to {where.location}")
        self._heading = heading
        self._arc_length = self._route.place(x, y, 0.0).arc_length
        return self._facts(fresh=True)

    def step(self, steer: float, throttle: float) -> Facts:
        steer, throttle = min(max(steer, -1.0), 1.0), min(max(throttle, -1.0), 1.0)
        gas, brake = pedals(throttle, self._speed)
        control = self.session.carla.VehicleControl(gas, steer * self._steer_scale, brake)
        with answered("step"):
            self.ego.apply_control(control)
        self._tick()
        return self._facts(fresh=False)

    def frame(self) -> NDArray[np.uint8]:
        if self._image is None:
            raise RuntimeError("this world was made without a camera; make it with image_size=84")
        return self._image

    def state_dict(self) -> dict[str, Any] | None:
        """Return None: nobody can ask a CARLA server for its state."""
        return None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise ValueError(f"a CARLA server cannot take over a state ({len(state)} parts of one were given)")

    def close(self) -> None:
        """Leave the server as it was found: no actors of ours, asynchronous, rendering."""
        self.session.close()

    def _tick(self) -> None:
        self.session.tick()
        if self._has_camera:
            self._image = grey(self.images.take(self.session.frame, min(IMAGE, self.session.timeout)))

    def _motion(self) -> tuple[float, float, float, float]:
        """Return x, y (m), heading (rad) and speed along it (m/s) in the frame that was ticked."""
        actor = self.session.snapshot.find(self.ego.id)
        if actor is None:
            raise SimulatorFaultError(f"the car is not in frame {self.session.frame}: it has been destroyed")
        where, velocity = actor.get_transform(), actor.get_velocity()
        heading = math.radians(where.rotation.yaw)
        speed = velocity.x * math.cos(heading) + velocity.y * math.sin(heading)
        return where.location.x, where.location.y, wrap_angle(heading), max(speed, 0.0)

    def _facts(self, *, fresh: bool) -> Facts:
        x, y, heading, speed = self._motion()
        place = self._route.place(x, y, self._arc_length)
        advance, turned = place.arc_length - self._arc_length, wrap_angle(heading - self._heading)
        acceleration = (speed - self._speed) / self.dt
        self._arc_length, self._speed, self._heading = place.arc_length, speed, heading
        return Facts(
            x=x,
            y=y,
            heading=heading,
            speed=speed,
            arc_length=place.arc_length,
            lateral=place.lateral,
            heading_error=wrap_angle(heading - place.heading),
            advance=0.0 if fresh else advance,
            acceleration=0.0 if fresh else acceleration,
            lateral_acceleration=0.0 if fresh else speed * turned / self.dt,
            collision=self._collisions.since(self._begun),
            lane_invasion=self._invasions.since(self._begun),
            waypoints=self._route.waypoints(place.arc_length, WAYPOINTS, WAYPOINT_SPACING),
            route_end=place.arc_length >= self._route.length,
        )

    # -- setting up ---------------------------------------------------------------------------------

    def _start_points(self) -> list[Any]:
        """Return where cars may begin: the map's own places."""
        points = list(self.session.map.get_spawn_points())
        if not points:
            raise ValueError(f"the map {self.session.map.name} has no spawn points to begin at")
        return points

    def _spawn_ego(self) -> Any:
        library = self.session.world.get_blueprint_library()
        cars = [b.id for b in library.filter("vehicle.*") if _is_car(b)]
        for k in self._random.permutation(len(self._points)):
            ego = self.session.spawn(EGO if EGO in cars else cars[0], self._points[k])
            if ego is not None:
                self._taken = int(k)
                return ego
        raise SimulatorFaultError("every spawn point is taken; does somebody else drive there?")

    def _steering(self) -> float:
        """Return the command that turns the wheels by STEER_LIMIT."""
        wheels = self.ego.get_physics_control().wheels
        largest = math.radians(max(wheel.max_steer_angle for wheel in wheels))
        return min(STEER_LIMIT / largest, 1.0) if largest > 0 else 1.0

    def _listen(self, image_size: int | None) -> None:
        carla, spawn = self.session.carla, self.session.spawn
        middle = carla.Transform()
        spawn("sensor.other.collision", middle, self.ego).listen(lambda e: self._collisions.put(e.frame))
        spawn("sensor.other.lane_invasion", middle, self.ego).listen(self._note_invasion)
        if image_size is not None:
            mount = carla.Transform(carla.Location(x=MOUNT_FORWARD, z=MOUNT_HEIGHT))
            size = {"image_size_x": image_size, "image_size_y": image_size}
            camera = spawn("sensor.camera.rgb", mount, self.ego, **size, fov=FIELD_OF_VIEW)
            camera.listen(lambda image: self.images.put(image.frame, image))

    def _note_invasion(self, event: Any) -> None:
        if event.crossed_lane_markings:
            self._invasions.put(event.frame)

    def _spawn_traffic(self, count: int) -> list[int]:
        """Spawn cars for the TrafficManager, as many as there is room for; return their ids."""
        session, command = self.session, self.session.carla.command
        cars = [b for b in session.world.get_blueprint_library().filter("vehicle.*") if _is_car(b)]
        pilot, port = command.FutureActor, session.traffic_manager.get_port()
        batch = []
        places = self._random.permutation(len(self._points))
        for k in places[places != self._taken][:count]:
            blueprint = cars[int(self._random.integers(len(cars)))]
            blueprint.set_attribute("role_name", ROLE)
            spawned = command.SpawnActor(blueprint, self._points[k])
            batch.append(spawned.then(command.SetAutopilot(pilot, True, port)))  # noqa: FBT003  # the client's own signature
        # With `True` for "and tick" it may time out while sensors listen, and nobody knows what was done.
        answers = session.client.apply_batch_sync(batch, False)  # noqa: FBT003  # the client's own signature
        ids = [answer.actor_id for answer in answers if not answer.has_error()]
        session.tick()
        session.spawned += list(session.world.get_actors(ids))
        return ids

    def _warm_up(self) -> None:
        """Tick until the camera's stream has been opened: what is sent before is lost."""
        if not self._has_camera:
            self._tick()
            return
        for _ in range(WARM_UP):
            frame = self.session.tick().frame
            try:
                self._image = grey(self.images.take(frame, 0.5))
            except SimulatorFaultError:
                continue
            return
        raise SimulatorFaultError(f"the camera gave no image in {WARM_UP} ticks")

    def _free_start(self, random: np.random.Generator) -> Any:
        """Return the waypoint of a spawn point that no other car is near; of the freest where all are."""
        others = [
            actor.get_transform().location
            for actor in map(self.session.snapshot.find, self.traffic)
            if actor is not None
        ]
        places = [self._points[k].location for k in random.permutation(len(self._points))]
        rooms = [min((p.distance(other) for other in others), default=math.inf) for p in places]
        free = next((k for k, room in enumerate(rooms) if room > START_ROOM), int(np.argmax(rooms)))
        return self.session.map.get_waypoint(places[free])


def _is_car(blueprint: Any) -> bool:
    return bool(
        blueprint.has_attribute("number_of_wheels") and int(blueprint.get_attribute("number_of_wheels")) == 4
    )
