"""What a driving world serves: raw facts, and nothing of observation, reward or done.

The one fact to hold: everything here could be read from a simulator's own API. What an agent sees of it,
what it is paid for and when an episode ends is decided once, in env.py and reward.py, for every world.
Coordinates are CARLA's (see lanes.py): x forward, y right, clockwise angles, metres, seconds, radians.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Facts:
    """The state of the world after a step.

    Attributes:
        x, y: position of the ego car's centre, m.
        heading: of the ego car, rad.
        speed: along its heading, m/s, never negative.
        arc_length: place along the lane, m.
        lateral: offset from the lane's centre, m, right positive.
        heading_error: ego heading less the lane's direction, rad in [-pi, pi).
        advance: way made along the lane in this step, m, negative when driving back; 0 after a reset.
        acceleration: along the heading in this step, m/s^2.
        lateral_acceleration: speed times yaw rate, m/s^2, right positive.
        collision: the ego car touches another one.
        lane_invasion: in this step the car's side came over a marking of its lane.
        waypoints: centreline ahead, float64 [n, 2], x and y in m in the world's frame.
        route_end: the way that was to be driven ends here; a closed lane has no end.
    """

    x: float
    y: float
    heading: float
    speed: float
    arc_length: float
    lateral: float
    heading_error: float
    advance: float
    acceleration: float
    lateral_acceleration: float
    collision: bool
    lane_invasion: bool
    waypoints: NDArray[np.float64]
    route_end: bool = False


class SimulatorFaultError(RuntimeError):
    """The simulator failed, not the driver: what was asked for has no answer, and its episode is over.

    The world that raised it is not to be believed until its next `reset` has returned.
    """


class World(Protocol):
    """A world that a `DrivingEnv` drives in. Time stands still between two calls of `step`.

    `reset`, `step` and `frame` raise SimulatorFaultError where there is a simulator that can fail.
    """

    @property
    def dt(self) -> float:
        """Seconds that one step takes."""

    def reset(self, seed: int) -> Facts:
        """Begin a new episode. The same seed in the same world gives the same episode."""

    def step(self, steer: float, throttle: float) -> Facts:
        """Drive on for `dt`. `steer` in [-1, 1], right positive; `throttle` in [-1, 1], negative brakes."""

    def frame(self) -> NDArray[np.uint8]:
        """Return what the camera sees now: uint8 [height, width] grey."""

    def state_dict(self) -> dict[str, Any] | None:
        """Return everything that decides the future, as JSON types; None where that cannot be known."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the world that `state_dict` was taken from."""

    def close(self) -> None:
        """Let go of what the world holds."""


@runtime_checkable
class RecoverableWorld(World, Protocol):
    """A world whose simulator may be away for a time, and may come back."""

    @property
    def trouble(self) -> str:
        """Why it is not ready, in words for people; empty while it is."""

    def ready(self, within: float) -> bool:
        """Bring the simulator back if it is away, for at most `within` s; whether `reset` may be called.

        To be called again and again while it says no: each call goes on with what the last one began.

        Raises:
            ValueError: it will never be: what was asked for does not exist there.
        """
