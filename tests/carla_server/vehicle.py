"""A vehicle: a kinematic bicycle that a VehicleControl drives, and that may stand and reverse.

The one fact to hold: it is the embedded world's car (`CarModel`) without its governor and its creep, and
its front wheels turn up to MAX_STEER, as the physics control tells the client. One that scales steering by
that number drives the embedded world's car.
"""

from __future__ import annotations

import math

from tests.carla_server.wire import Pose, Wire
from trainer.driving.kinematic_world import CarModel
from trainer.driving.lanes import wrap_angle
from trainer.driving.traffic import CAR_LENGTH, CAR_WIDTH

MAX_STEER = 35.0
"""Degrees."""
CAR_HEIGHT, WHEEL_RADIUS, MASS = 1.5, 0.35, 1500.0
"""m, m, kg."""
AT_REST: Wire = [0.0, 0.0, 0.0, False, False, False, 0]
"""The VehicleControl of a car that nobody has driven yet."""
THROTTLE, STEER, BRAKE, HAND_BRAKE, REVERSE = range(5)

CAR = CarModel()


class Vehicle:
    """The motion of one vehicle, in m, rad and s; x, y, heading are its centre's."""

    def __init__(self, pose: Pose) -> None:
        self.x, self.y, self.heading = pose.x, pose.y, wrap_angle(pose.heading)
        self.speed = self.wheel = self.yaw_rate = self.acceleration = 0.0
        self.control: Wire = AT_REST
        self.simulated = True
        """Whether physics move it; else it stays where it is put."""

    def pose(self) -> Pose:
        """Return where it is; it stands on the ground."""
        return Pose(self.x, self.y, 0.0, 0.0, math.degrees(self.heading), 0.0)

    def put(self, pose: Pose) -> None:
        """Teleport it. It keeps its speed, in the direction that it now looks."""
        self.x, self.y, self.heading = pose.x, pose.y, wrap_angle(pose.heading)

    def push(self, x: float, y: float) -> None:
        """Give it a velocity, m/s in the world's frame; only what lies along its heading moves a bicycle."""
        self.speed = x * math.cos(self.heading) + y * math.sin(self.heading)

    def stop(self) -> None:
        """Take all its speed: it has run into something."""
        self.speed = self.yaw_rate = self.acceleration = 0.0

    def next(self, dt: float) -> tuple[float, float, float, float, float]:
        """Return x, y, heading, speed and wheel angle after `dt` s; nothing has moved yet."""
        if not self.simulated:
            return self.x, self.y, self.heading, 0.0, self.wheel
        throttle, steer, brake = (float(value) for value in self.control[:3])
        throttle, brake = min(max(throttle, 0.0), 1.0), min(max(brake, 0.0), 1.0)
        if self.control[HAND_BRAKE]:
            brake = 1.0
        reach = CAR.steer_rate * dt
        target = math.radians(MAX_STEER) * min(max(steer, -1.0), 1.0)
        wheel = self.wheel + min(max(target - self.wheel, -reach), reach)

        pull = throttle * CAR.throttle_limit * (-1.0 if self.control[REVERSE] else 1.0)
        speed = self.speed + (pull - CAR.drag * self.speed) * dt
        slow = brake * CAR.brake_limit * dt
        speed = math.copysign(max(abs(speed) - slow, 0.0), speed)
        mean = 0.5 * (self.speed + speed)

        slip = math.atan(0.5 * math.tan(wheel))
        turn = mean * math.cos(slip) * math.tan(wheel) / CAR.wheelbase * dt
        course = self.heading + slip + 0.5 * turn
        x, y = self.x + mean * math.cos(course) * dt, self.y + mean * math.sin(course) * dt
        return x, y, wrap_angle(self.heading + turn), speed, wheel

    def move(self, to: tuple[float, float, float, float, float], dt: float) -> None:
        """Be where `next` said."""
        x, y, heading, speed, wheel = to
        self.yaw_rate = wrap_angle(heading - self.heading) / dt
        self.acceleration = (speed - self.speed) / dt
        self.x, self.y, self.heading, self.speed, self.wheel = x, y, heading, speed, wheel

    def motion(self) -> tuple[tuple[float, ...], ...]:
        """Return velocity (m/s), angular velocity (deg/s) and acceleration (m/s^2) as a snapshot has them."""
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        sideways = self.speed * self.yaw_rate
        return (
            (self.speed * cos, self.speed * sin, 0.0),
            (0.0, 0.0, math.degrees(self.yaw_rate)),
            (self.acceleration * cos - sideways * sin, self.acceleration * sin + sideways * cos, 0.0),
        )


def bounding_box(actor: int) -> Wire:
    """Return a vehicle's BoundingBox in its own frame."""
    half = [0.5 * CAR_LENGTH, 0.5 * CAR_WIDTH, 0.5 * CAR_HEIGHT]
    return [[0.0, 0.0, 0.5 * CAR_HEIGHT], half, [0.0, 0.0, 0.0], actor]


def physics_control(pose: Pose) -> Wire:
    """Return a VehiclePhysicsControl. Its mass and its wheels tell the truth; the rest is in nobody's way."""
    half_base, half_track = 0.5 * CAR.wheelbase, 0.5 * CAR_WIDTH - 0.1
    wheels = []
    for forward, side in ((1, -1), (1, 1), (-1, -1), (-1, 1)):
        at = pose.then(Pose(forward * half_base, side * half_track, WHEEL_RADIUS))
        steer = MAX_STEER if forward > 0 else 0.0
        brakes = [700.0, 0.0 if forward > 0 else 1400.0]
        # The stock server gives wheel positions in cm, and the radius too.
        place = [100 * at.x, 100 * at.y, 100 * at.z]
        wheels.append([3.5, 0.25, steer, 100 * WHEEL_RADIUS, *brakes, 2.0, 17.0, 1000.0, place])
    torque, steering = [[0.0, 500.0], [5000.0, 500.0]], [[0.0, 1.0], [120.0, 1.0]]
    gears = [[4.0, 0.5, 0.65]]
    damping = [0.15, 2.0, 0.35]
    gearing = [True, 0.0, 10.0, 4.0, gears]
    return [
        torque,
        5000.0,
        1.0,
        *damping,
        *gearing,
        MASS,
        0.3,
        [0.0, 0.0, 0.0],
        steering,
        wheels,
        True,
    ]
