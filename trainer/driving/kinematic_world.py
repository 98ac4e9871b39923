"""The embedded world: a kinematic bicycle on a closed lane, with other cars that follow one another.

The one fact to hold: it is deterministic. The random generator is used when an episode begins and never in
between, and `state_dict` holds all of it, so a world restored in mid-episode lives the same future bit for
bit. It exists so that a whole training run, its death and its rescue fit into minutes on one core, without
a simulator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.driving.camera import Camera, road_map
from trainer.driving.junction import Lights
from trainer.driving.lanes import Floats, Lane, wrap_angle
from trainer.driving.traffic import CAR_WIDTH, Traffic
from trainer.driving.world import Facts

LANE_WIDTH = 3.5
WAYPOINTS, WAYPOINT_SPACING = 25, 2.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A road and the traffic that is usual on it. `corners` in m, `radii` in m, `npcs` a count."""

    corners: tuple[tuple[float, float], ...]
    radii: tuple[float, ...]
    npcs: int


SCENARIOS = (
    # Wide bends to both sides.
    Scenario(((0, 0), (220, 0), (260, 110), (150, 135), (80, 110), (-30, 120)), (60, 60, 50, 80, 80, 50), 20),
    # More bends, and tighter ones.
    Scenario(
        ((0, 0), (150, 20), (230, -20), (270, 80), (190, 120), (120, 80), (60, 150), (-30, 90)),
        (30, 60, 25, 30, 40, 30, 25, 30),
        50,
    ),
    # Blocks of a town: right angles.
    Scenario(
        (
            (0, 0),
            (120, 0),
            (120, 60),
            (200, 60),
            (200, 0),
            (330, 0),
            (330, 140),
            (200, 140),
            (200, 200),
            (0, 200),
        ),
        (20, 18, 18, 20, 20, 25, 20, 18, 25, 25),
        100,
    ),
    # A figure of eight: the road crosses itself, at lights.
    Scenario(
        ((-130, 0), (150, 0), (150, 60), (110, 130), (0, 130), (0, -120), (-70, -150), (-130, -100)),
        (25, 25, 40, 30, 25, 25, 30, 30),
        40,
    ),
)


@dataclass(frozen=True, slots=True)
class CarModel:
    """The ego car. Lengths in m, angles in rad, speeds in m/s, accelerations in m/s^2, drag in 1/s.

    It never stands: brakes slow it to `creep_speed` and no further. A car that may stand can sit out an
    episode, and then the length of an episode says nothing about how well it drives.

    Source of the motion: Kong et al. 2015, "Kinematic and dynamic vehicle models for autonomous driving
    control design", IEEE IV, equations 1a-1e, with the centre of mass halfway between the axles.
    """

    wheelbase: float = 2.7
    steer_limit: float = 0.22
    steer_rate: float = 1.3
    throttle_limit: float = 3.0
    brake_limit: float = 5.0
    drag: float = 0.05
    speed_limit: float = 9.0
    creep_speed: float = 2.0
    start_speed: tuple[float, float] = (4.0, 7.0)


@lru_cache(maxsize=len(SCENARIOS))
def lane_of(scenario: int) -> Lane:
    """Return the lane of a scenario; built once, since it never changes.

    Raises:
        ValueError: there is no such scenario.
    """
    if not 0 <= scenario < len(SCENARIOS):
        raise ValueError(f"no driving scenario {scenario}; there are 0 to {len(SCENARIOS) - 1}")
    return Lane(SCENARIOS[scenario].corners, SCENARIOS[scenario].radii)


class KinematicWorld:
    """The embedded world; see `World` for what its methods promise.

    Args:
        scenario: which road, 0 to 3.
        npcs: how many other cars; None for the scenario's own number. As many are put on the road as fit.
        dt: seconds a step.
        car: the ego car.
        image_size: height and width of the camera's frames in pixels; None for a world without a camera.

    Raises:
        ValueError: there is no such scenario, or a negative number of cars was asked for.
    """

    def __init__(
        self,
        scenario: int = 0,
        npcs: int | None = 0,
        *,
        dt: float = 0.1,
        car: CarModel | None = None,
        image_size: int | None = None,
    ) -> None:
        self.scenario = scenario
        self.lane = lane_of(scenario)
        self.dt = dt
        self.car = car if car is not None else CarModel()
        self._traffic = Traffic(self.lane, SCENARIOS[scenario].npcs if npcs is None else npcs)
        self._camera: Camera | None = None
        if image_size is not None:
            self._camera = Camera(road_map(self.lane, LANE_WIDTH), image_size, image_size)
        self._random = np.random.default_rng(0)
        self._x = self._y = self._heading = self._speed = self._wheel = 0.0
        self._arc_length = self._lateral = self._heading_error = 0.0
        self._over_marking = False

    def reset(self, seed: int) -> Facts:
        self._random = np.random.default_rng(seed)
        draw = self._random.uniform
        arc_length = draw(0.0, self.lane.length)
        lateral, heading_error = draw(-0.4, 0.4), draw(-0.04, 0.04)
        ((x, y),) = self.lane.points(np.array([arc_length]), np.array([lateral]))
        direction = float(self.lane.poses(np.array([arc_length]))[0, 2])
        self._x, self._y, self._heading = float(x), float(y), wrap_angle(direction + heading_error)
        self._speed, self._wheel = draw(*self.car.start_speed), 0.0
        self._over_marking = False
        self._arc_length = arc_length
        self._locate()
        self._traffic.place(self._random, arc_length)
        return self._facts(advance=0.0, acceleration=0.0, yaw_rate=0.0, invasion=False)

    def step(self, steer: float, throttle: float) -> Facts:
        car, dt = self.car, self.dt
        steer, throttle = min(max(steer, -1.0), 1.0), min(max(throttle, -1.0), 1.0)
        reach = car.steer_rate * dt
        self._wheel += min(max(steer * car.steer_limit - self._wheel, -reach), reach)

        pull = throttle * (car.throttle_limit if throttle > 0 else car.brake_limit)
        before = self._speed
        self._speed = min(max(before + (pull - car.drag * before) * dt, car.creep_speed), car.speed_limit)
        mean_speed = 0.5 * (before + self._speed)

        slip = math.atan(0.5 * math.tan(self._wheel))
        yaw_rate = mean_speed * math.cos(slip) * math.tan(self._wheel) / car.wheelbase
        course = self._heading + slip + 0.5 * yaw_rate * dt
        self._x += mean_speed * math.cos(course) * dt
        self._y += mean_speed * math.sin(course) * dt
        self._heading = wrap_angle(self._heading + yaw_rate * dt)

        self._traffic.drive(dt, self._arc_length, self._lateral, before)

        came_from = self._arc_length
        self._locate()
        over = abs(self._lateral) + 0.5 * CAR_WIDTH > 0.5 * LANE_WIDTH
        invasion, self._over_marking = over and not self._over_marking, over
        return self._facts(
            advance=self.lane.ahead(came_from, self._arc_length),
            acceleration=(self._speed - before) / dt,
            yaw_rate=yaw_rate,
            invasion=invasion,
        )

    def _locate(self) -> None:
        place = self.lane.project(self._x, self._y, self._arc_length)
        self._arc_length, self._lateral = place.arc_length, place.lateral
        self._heading_error = wrap_angle(self._heading - place.heading)

    def _facts(self, *, advance: float, acceleration: float, yaw_rate: float, invasion: bool) -> Facts:
        return Facts(
            x=self._x,
            y=self._y,
            heading=self._heading,
            speed=self._speed,
            arc_length=self._arc_length,
            lateral=self._lateral,
            heading_error=self._heading_error,
            advance=advance,
            acceleration=acceleration,
            lateral_acceleration=self._speed * yaw_rate,
            collision=self._traffic.touches(self._x, self._y, self._heading),
            lane_invasion=invasion,
            waypoints=self.lane.waypoints(self._arc_length, WAYPOINTS, WAYPOINT_SPACING),
        )

    def cars(self) -> Floats:
        """Return x, y, heading, length, width of the other cars: float64 [n, 5], m and rad."""
        return self._traffic.cars()

    @property
    def lights(self) -> tuple[Lights, ...]:
        """The lights of the road's crossings."""
        return tuple(self._traffic.lights)

    def frame(self) -> NDArray[np.uint8]:
        if self._camera is None:
            raise RuntimeError("this world was made without a camera; make it with image_size=84")
        return self._camera.frame(self._x, self._y, self._heading, self._traffic.cars())

    def state_dict(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "random": self._random.bit_generator.state,
            "ego": [self._x, self._y, self._heading, self._speed, self._wheel, self._arc_length],
            "place": [self._lateral, self._heading_error],
            "over_marking": self._over_marking,
            "traffic": self._traffic.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["scenario"] != self.scenario:
            raise ValueError(
                f"the state is of scenario {state['scenario']}, this world is scenario {self.scenario}"
            )
        self._random.bit_generator.state = state["random"]
        self._x, self._y, self._heading, self._speed, self._wheel, self._arc_length = state["ego"]
        self._lateral, self._heading_error = state["place"]
        self._over_marking = state["over_marking"]
        self._traffic.load_state_dict(state["traffic"])

    def close(self) -> None:
        """Hold nothing, so let go of nothing."""
