"""The driving task as a gymnasium environment: observation, reward and done, shared by every world.

The one fact to hold: this file alone decides what the agent sees and when an episode ends; a world only
reports. A collision or a lateral offset above 2.5 m ends an episode, the step limit, the end of the route
and a fault of the simulator truncate it.
`state_dict` is complete in mid-episode and made of JSON types, so a checkpoint can hold it and a fresh
process goes on bit for bit.
"""

from __future__ import annotations

import base64
import math
from dataclasses import asdict
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from trainer.driving.kinematic_world import WAYPOINTS, KinematicWorld
from trainer.driving.reward import reward
from trainer.driving.world import Facts, RecoverableWorld, SimulatorFaultError, World

Observe = Literal["state", "image", "both"]
Observation = NDArray[np.float32] | dict[str, NDArray[np.float32]]

VECTOR_SIZE = 3 + 2 * WAYPOINTS
OFF_ROAD_LATERAL = 2.5
"""m of lateral offset at which the episode ends."""
SPEED_SCALE, LATERAL_SCALE, HEADING_SCALE, WAYPOINT_SCALE = 30.0, 3.5, math.pi, 50.0
"""What the vector is divided by: m/s, m, rad, m."""
FRAMES = 4


class DrivingEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """Drive along a lane.

    Observation: "state" is the vector, float32 [53]: speed / 30, lateral offset / 3.5, heading error / pi,
    then 25 waypoints x 2 in the ego frame (forward, right) / 50, clipped to [-2, 2]. "image" is float32 [4,
    H, W] in [-1, 1], the newest frame last; every value is a whole grey level, so `round((image + 1) *
    127.5)` gives it back as uint8 without loss. "both" is a dict of `image` and `vector`.

    Action: float32 [2] in [-1, 1]: steer (right positive), throttle (positive) or brake (negative).

    Info, each step: `rewards` by term, `collision`, `lane_invasion`, `off_road` (bool, this step),
    `collisions` and `lane_invasions` (int, this episode), `lateral` (m), `speed` (m/s), `arc_length` (m).

    A fault of the simulator truncates the episode: reward 0, the last observation again, and the reason in
    info `simulator_fault`; such a transition never happened. `reset` raises SimulatorFaultError. The end of
    a world's route truncates too.

    Args:
        world: where to drive.
        observation: what the agent sees.
        max_steps: steps after which an episode is truncated.
        image_size: height and width of its frames; asked of the world where not given, which must be up.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # gymnasium declares it so

    def __init__(
        self,
        world: World,
        observation: Observe = "state",
        *,
        max_steps: int = 300,
        render_mode: str | None = None,
        image_size: int | None = None,
    ) -> None:
        self.world = world
        self.observation = observation
        self.max_steps = max_steps
        self.render_mode = render_mode
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        vector = spaces.Box(-2.0, 2.0, (VECTOR_SIZE,), np.float32)
        self._frames: NDArray[np.uint8] | None = None
        space: spaces.Space[Any] = vector
        if observation != "state":
            height, width = world.frame().shape if image_size is None else (image_size, image_size)
            image = spaces.Box(-1.0, 1.0, (FRAMES, height, width), np.float32)
            self._frames = np.zeros((FRAMES, height, width), np.uint8)
            space = image if observation == "image" else spaces.Dict({"image": image, "vector": vector})
        self.observation_space = space
        self._steps = self._collisions = self._lane_invasions = 0
        self._last_steer = 0.0
        self._facts: Facts | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._facts = self.world.reset(int(self.np_random.integers(2**63)))
        self._steps = self._collisions = self._lane_invasions = 0
        self._last_steer = 0.0
        if self._frames is not None:
            self._frames[:] = self.world.frame()
        return self._observe(self._facts), self._info(self._facts)

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        steer, throttle = min(max(float(action[0]), -1.0), 1.0), min(max(float(action[1]), -1.0), 1.0)
        try:
            facts = self.world.step(steer, throttle)
            frame = None if self._frames is None else self.world.frame()
        except SimulatorFaultError as error:
            return self._cut_short(error)
        self._facts = facts
        self._steps += 1
        self._collisions += facts.collision
        self._lane_invasions += facts.lane_invasion
        off_road = abs(facts.lateral) > OFF_ROAD_LATERAL
        earned = reward(facts, steering_change=steer - self._last_steer, off_road=off_road)
        self._last_steer = steer
        if self._frames is not None and frame is not None:
            self._frames[:-1] = self._frames[1:]
            self._frames[-1] = frame
        info = self._info(facts)
        info["off_road"] = off_road
        info["rewards"] = earned.terms()
        terminated = facts.collision or off_road
        return (
            self._observe(facts),
            earned.total,
            terminated,
            not terminated and (facts.route_end or self._steps >= self.max_steps),
            info,
        )

    def _cut_short(self, fault: SimulatorFaultError) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """End the episode by a fault that is not the driver's: nothing earned, nothing new seen, truncated.

        Whoever stores transitions leaves out one whose info has `simulator_fault`.
        """
        assert self._facts is not None, "step() before reset()"
        info = self._info(self._facts) | {"simulator_fault": str(fault)}
        return self._observe(self._facts), 0.0, False, True, info

    @property
    def facts(self) -> Facts:
        """The world after the last step."""
        assert self._facts is not None, "no episode has begun"
        return self._facts

    def render(self) -> NDArray[np.uint8]:
        """Return what the camera sees, uint8 [H, W, 3]."""
        return np.repeat(self.world.frame()[:, :, None], 3, axis=2)

    def close(self) -> None:
        self.world.close()

    def ready(self, within: float) -> bool:
        """Bring the world's simulator back, for at most `within` s; a world without one is always ready.

        Raises:
            ValueError: what was asked for does not exist there.
        """
        return not isinstance(self.world, RecoverableWorld) or self.world.ready(within)

    def beside(self) -> DrivingEnv:
        """Return another environment over the same world: an episode of one ends the other's."""
        size = None if self._frames is None else self._frames.shape[1]
        return DrivingEnv(self.world, self.observation, max_steps=self.max_steps, image_size=size)

    def state_dict(self) -> dict[str, Any] | None:
        """Return everything that decides the future, as JSON types; the current observation is in it.

        None where the world cannot tell its own state: a simulator's, for one.
        """
        world = self.world.state_dict()
        if world is None:
            return None
        frames = None if self._frames is None else base64.b64encode(self._frames.tobytes()).decode("ascii")
        return {
            "world": world,
            "random": self.np_random.bit_generator.state,
            "counts": [self._steps, self._collisions, self._lane_invasions],
            "last_steer": self._last_steer,
            "frames": frames,
            "facts": None
            if self._facts is None
            else asdict(self._facts) | {"waypoints": self._facts.waypoints.tolist()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> Observation | None:
        """Become the environment that `state_dict` was taken from.

        Returns:
            Its current observation; None if it had not been reset yet.
        """
        self.world.load_state_dict(state["world"])
        self.np_random.bit_generator.state = state["random"]
        self._steps, self._collisions, self._lane_invasions = state["counts"]
        self._last_steer = state["last_steer"]
        if self._frames is not None:
            frames = np.frombuffer(base64.b64decode(state["frames"]), np.uint8)
            self._frames = frames.reshape(self._frames.shape).copy()
        facts = state["facts"]
        if facts is None:
            self._facts = None
            return None
        self._facts = Facts(**facts | {"waypoints": np.array(facts["waypoints"])})
        return self._observe(self._facts)

    def _observe(self, facts: Facts) -> Observation:
        if self._frames is None:
            return vector_of(facts)
        image = self._frames.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
        return image if self.observation == "image" else {"image": image, "vector": vector_of(facts)}

    def _info(self, facts: Facts) -> dict[str, Any]:
        return {
            "collision": facts.collision,
            "lane_invasion": facts.lane_invasion,
            "collisions": self._collisions,
            "lane_invasions": self._lane_invasions,
            "lateral": facts.lateral,
            "speed": facts.speed,
            "arc_length": facts.arc_length,
        }


def vector_of(facts: Facts) -> NDArray[np.float32]:
    """Return the vector observation, float32 [53]; see `DrivingEnv`."""
    vector = np.empty(VECTOR_SIZE, np.float32)
    vector[0] = facts.speed / SPEED_SCALE
    vector[1] = facts.lateral / LATERAL_SCALE
    vector[2] = facts.heading_error / HEADING_SCALE
    cos, sin = math.cos(facts.heading) / WAYPOINT_SCALE, math.sin(facts.heading) / WAYPOINT_SCALE
    ego_frame = np.array(((cos, -sin), (sin, cos)))
    vector[3:] = ((facts.waypoints - (facts.x, facts.y)) @ ego_frame).ravel()
    return np.clip(vector, -2.0, 2.0, out=vector)


def make_env(
    observation: Observe = "state",
    *,
    scenario: int = 0,
    npcs: int | None = 0,
    image_size: int = 84,
    max_steps: int = 300,
    render_mode: str | None = None,
) -> DrivingEnv:
    """Return the driving task in the embedded world.

    Args:
        observation: "state", "image" or "both"; see `DrivingEnv`. scenario: which road, 0 to 3. npcs: how
        many other cars; None for the scenario's own number (20, 50, 100, 40). image_size: height and width of
        the frames, pixels. Not used with "state" unless `render_mode` asks for pictures. max_steps: steps
        after which an episode is truncated. render_mode: "rgb_array" or None.
    """
    camera = image_size if observation != "state" or render_mode is not None else None
    world = KinematicWorld(scenario, npcs, image_size=camera)
    return DrivingEnv(world, observation, max_steps=max_steps, render_mode=render_mode)
