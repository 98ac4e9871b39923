"""The wire types of CARLA 0.9.16: what its structs, sensor messages and stream tokens are made of.

The one fact to hold: a struct is an array of its fields in order, everything binary is little-endian and
packed. A wrong shape surfaces in the client as `std::bad_cast` and nothing more, so all shapes are here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

Wire = list[Any]
"""A struct as msgpack carries it."""

COLLISION, RGB_CAMERA, WORLD_OBSERVER = 0, 13, 17
"""Sensor types of 0.9.16; other versions number them in another order."""

_HEADER = struct.Struct("<QQd6f")
_EPISODE = struct.Struct("<Qdf3iI")
_ACTOR = struct.Struct("<IB15f54s")
_VEHICLE = struct.Struct("<3f3BifBBIB")
_IMAGE = struct.Struct("<IIf")
_TOKEN = struct.Struct("<IHBB16x")

ACTIVE = 1
TRAFFIC_LIGHT_GREEN = 2
TCP = 1


@dataclass(frozen=True, slots=True)
class Pose:
    """A carla.Transform: metres and degrees, left-handed."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0

    @property
    def heading(self) -> float:
        """The yaw in rad."""
        return math.radians(self.yaw)

    def wire(self) -> Wire:
        """Return it as a Transform struct."""
        return [[self.x, self.y, self.z], [self.pitch, self.yaw, self.roll]]

    @staticmethod
    def of(wire: Wire) -> Pose:
        """Read a Transform struct."""
        (x, y, z), (pitch, yaw, roll) = wire
        return Pose(x, y, z, pitch, yaw, roll)

    def then(self, relative: Pose) -> Pose:
        """Return where something fixed to this pose is. Flat ground: only the yaw turns what is fixed."""
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        return Pose(
            self.x + relative.x * cos - relative.y * sin,
            self.y + relative.x * sin + relative.y * cos,
            self.z + relative.z,
            self.pitch + relative.pitch,
            self.yaw + relative.yaw,
            self.roll + relative.roll,
        )


def some(value: object) -> Wire:
    """Return an optional that holds a value."""
    return [True, value]


NOTHING: Wire = [False]
"""An optional that holds nothing."""


def optional(wire: Wire) -> Any:  # whatever the optional holds
    """Return what an optional holds, or None."""
    return wire[1] if wire[0] else None


def success(value: object) -> Wire:
    """Return a Response that holds a value."""
    return [[1, value]]


def failure(message: str) -> Wire:
    """Return a Response that holds an error."""
    return [[0, [message]]]


DONE: Wire = [[False]]
"""A Response without a value: success."""


def failed(message: str) -> Wire:
    """Return a Response without a value: error."""
    return [[True, [message]]]


def token(stream: int, port: int) -> bytes:
    """Return a stream token, 24 bytes. It names no address: the client takes the host it is connected to."""
    return _TOKEN.pack(stream, port, TCP, 0)


def header(sensor_type: int, frame: int, elapsed: float, pose: Pose) -> bytes:
    """Return the 48 bytes that every sensor message begins with."""
    return _HEADER.pack(sensor_type, frame, elapsed, pose.x, pose.y, pose.z, pose.pitch, pose.yaw, pose.roll)


def episode_state(episode: int, wall: float, delta: float) -> bytes:
    """Return what follows the header of a state message; the records of the actors come after it."""
    return _EPISODE.pack(episode, wall, delta, 0, 0, 0, 0)


def actor_record(
    actor: int,
    pose: Pose,
    motion: Sequence[Sequence[float]] = ((0.0,) * 3,) * 3,
    state: bytes = b"",
) -> bytes:
    """Return the 119 bytes of one actor.

    Args:
        motion: velocity (m/s), angular velocity (deg/s) and acceleration (m/s^2). state: of its kind.
    """
    place = (pose.x, pose.y, pose.z, pose.pitch, pose.yaw, pose.roll)
    return _ACTOR.pack(actor, ACTIVE, *place, *chain(*motion), state)


def vehicle_state(control: Wire, speed_limit: float) -> bytes:
    """Return a vehicle's state: its last VehicleControl, and its speed limit in km/h. No traffic light."""
    throttle, steer, brake, hand_brake, reverse, manual, gear = control
    return _VEHICLE.pack(
        throttle,
        steer,
        brake,
        hand_brake,
        reverse,
        manual,
        gear,
        speed_limit,
        TRAFFIC_LIGHT_GREEN,
        0,
        0,
        0,
    )


def image(width: int, height: int, fov: float, bgra: bytes) -> bytes:
    """Return what follows the header of an image: sizes in pixels, degrees, rows from the top."""
    assert len(bgra) == 4 * width * height
    return _IMAGE.pack(width, height, fov) + bgra
