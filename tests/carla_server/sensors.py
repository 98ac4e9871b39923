"""What a camera of the server sees: the embedded world's picture, as BGRA.

The one fact to hold: it is the embedded world's camera, so it is level, 1.5 m high and has a field of view
of 90 degrees; one that is asked for otherwise is refused, rather than shown something else.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tests.carla_server import wire
from tests.carla_server.rpc import Refused
from tests.carla_server.simulation import ROADS, Actor, Map, Simulation
from tests.carla_server.wire import Pose, Wire
from trainer.driving.camera import FIELD_OF_VIEW, MOUNT_FORWARD, MOUNT_HEIGHT, Camera, road_map
from trainer.driving.kinematic_world import LANE_WIDTH
from trainer.driving.traffic import CAR_LENGTH, CAR_WIDTH


class Cameras:
    """Renders for every camera of the world."""

    def check(self, road: Map, description: Wire, pose: Pose) -> None:
        """Raise Refused unless the embedded world's camera can stand in for this one."""
        if road.lane is None:
            raise Refused(f"there is no picture of map {road.name}; load one of {', '.join(ROADS)}")
        attributes = {name: value for name, _, value in description[2]}
        if float(attributes["fov"]) != FIELD_OF_VIEW:
            raise Refused(f"this server's cameras have a fov of {FIELD_OF_VIEW:g}, not {attributes['fov']}")
        if abs(pose.z - MOUNT_HEIGHT) > 1e-3 or pose.pitch or pose.roll:
            raise Refused(f"this server's cameras are level and {MOUNT_HEIGHT} m above the car's ground")

    def image(self, world: Simulation, camera: Actor) -> bytes:
        """Return what follows the header of an image message."""
        width, height = int(camera.attribute("image_size_x")), int(camera.attribute("image_size_y"))
        # The embedded camera is told where a car is, and sits ahead of its centre.
        car = camera.pose().then(Pose(x=-MOUNT_FORWARD))
        others = [
            (vehicle.x, vehicle.y, vehicle.heading, CAR_LENGTH, CAR_WIDTH)
            for actor in world.actors.values()
            if (vehicle := actor.vehicle) is not None and actor is not camera.parent
        ]
        grey = _camera(world.map, height, width).frame(
            car.x, car.y, car.heading, np.array(others, np.float64).reshape(-1, 5)
        )
        bgra = np.full((height, width, 4), 255, np.uint8)
        bgra[..., :3] = grey[..., None] if grey.ndim == 2 else grey[..., ::-1]
        return wire.image(width, height, FIELD_OF_VIEW, bgra.tobytes())


@lru_cache(maxsize=8)
def _camera(road: Map, height: int, width: int) -> Camera:
    assert road.lane is not None, "check() has refused it"
    return Camera(road_map(road.lane, LANE_WIDTH), height, width)
