"""The environment by name, seen the one way the agent sees it, and its state in mid-episode.

The one fact to hold: `snapshot` is complete or says that it is not. An environment with state_dict() (the
driving world) gives its own; any other is read layer by layer through its wrappers, and one that hides state
in what we cannot read (a physics engine, a CARLA server) yields None: a resumed run then starts a new
episode there, and says so. Why it exists: a resume that is bit-exact must go on in mid-episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from trainer.driving import carla_world
from trainer.driving.env import DrivingEnv, Observe
from trainer.driving.env import make_env as make_driving_env
from trainer.driving.world import RecoverableWorld

Env = gymnasium.Env[Any, Any]
Seen = dict[str, NDArray[Any]]
"""`vector`: float32 [vector_dim]; with images also `image`: uint8 [frames, size, size], newest frame last."""

_NOT_STATE = {
    "env",
    "spec",
    "metadata",
    "render_mode",
    "np_random",
    "_np_random",
    "_np_random_seed",
    "reward_range",
}
_PLAIN = (bool, int, float, str, type(None), np.ndarray, np.generic)


class UnknownEnvironmentError(ValueError):
    """No environment of that name, or one that TD3 cannot act in."""


@dataclass(frozen=True)
class CarlaServer:
    """Where a CARLA server is and what it shall show; see `CarlaWorld`."""

    host: str
    port: int
    tm_port: int
    town: str
    weather: str
    traffic_seed: int
    timeout: float


def make(
    name: str, *, observation: str, image_size: int, scenario: int, npcs: int, carla: CarlaServer
) -> Env:
    """Make the environment: "driving" is the embedded world, "carla" a server's, others are gymnasium's.

    The simulator of "carla" is not asked for here: see `ready`.

    Raises:
        UnknownEnvironmentError: gymnasium does not know it, its spaces are not vectors of numbers, or the
        client of CARLA is not installed.
    """
    kind: Observe = "both" if observation == "image" else "state"
    if name == "driving":
        return make_driving_env(kind, scenario=scenario, npcs=npcs, image_size=image_size)
    if name == "carla":
        if words := carla_world.missing():
            raise UnknownEnvironmentError(f"--env carla: {words}")
        camera = image_size if observation == "image" else None
        world = carla_world.isolated(
            host=carla.host,
            port=carla.port,
            tm_port=carla.tm_port,
            town=carla.town,
            weather=carla.weather,
            traffic_seed=carla.traffic_seed,
            timeout=carla.timeout,
            scenario=scenario,
            npcs=npcs,
            image_size=camera,
            patience=0.0,
        )
        return DrivingEnv(world, kind, image_size=camera)
    if observation != "state":
        raise UnknownEnvironmentError(
            f"--observation {observation} needs --env driving; {name} has no camera here"
        )
    try:
        env = gymnasium.make(name, disable_env_checker=True)
    except gymnasium.error.Error as error:
        raise UnknownEnvironmentError(f"--env {name}: {error}") from error
    for what, space in (("actions", env.action_space), ("observations", env.observation_space)):
        if not (isinstance(space, spaces.Box) and len(space.shape) == 1):
            raise UnknownEnvironmentError(
                f"--env {name}: TD3 needs {what} that are a vector of numbers, not {space}"
            )
    return env


def has_simulator(env: Env) -> bool:
    """Whether there is a simulator that may fail or be away: then there is one world, and `ready` to ask."""
    return isinstance(getattr(env.unwrapped, "world", None), RecoverableWorld)


def ready(env: Env, within: float) -> bool:
    """Bring the simulator back, for at most `within` s; whether a reset will find it.

    Raises:
        UnknownEnvironmentError: what was asked for does not exist there.
    """
    try:
        return cast("DrivingEnv", env.unwrapped).ready(within)
    except ValueError as error:
        raise UnknownEnvironmentError(str(error)) from error


def trouble(env: Env) -> str:
    """Why the simulator is not ready, in words."""
    return cast("RecoverableWorld", cast("DrivingEnv", env.unwrapped).world).trouble


def beside(env: Env) -> Env:
    """Another environment of the same kind over the same world: an episode of one ends the other's."""
    return cast("DrivingEnv", env.unwrapped).beside()


def unseen(env: Env) -> Seen:
    """What is seen where there is nothing to see yet: of the right shape, and nothing in it."""
    space = env.observation_space
    if isinstance(space, spaces.Dict):
        return see({name: np.zeros(part.shape or (), np.float32) for name, part in space.items()})
    return see(np.zeros(space.shape or (), np.float32))


def dimensions(seen: Seen) -> tuple[int, int, int]:
    """Of an observation: the vector's length, how many frames, and their side; 0 and 0 without images."""
    image = seen.get("image")
    frames, size = (image.shape[0], image.shape[1]) if image is not None else (0, 0)
    return seen["vector"].shape[0], frames, size


def see(observation: object) -> Seen:
    """What an environment returned, as replay and agent hold it: images as the grey levels they are.

    The driving world gives images as float32 in [-1, 1] whose values are whole grey levels, so uint8 loses
    nothing.
    """
    if not isinstance(observation, Mapping):
        return {"vector": np.asarray(observation, np.float32)}
    image = np.rint((observation["image"] + np.float32(1)) * np.float32(127.5)).astype(np.uint8)
    return {"vector": np.asarray(observation["vector"], np.float32), "image": image}


def to_env(action: NDArray[np.float32], space: gymnasium.Space[Any]) -> NDArray[np.float32]:
    """[-1, 1] to the environment's own range."""
    box = cast("spaces.Box", space)
    return (box.low + (action + np.float32(1)) * np.float32(0.5) * (box.high - box.low)).astype(np.float32)


def from_env(action: NDArray[np.float32], space: gymnasium.Space[Any]) -> NDArray[np.float32]:
    """The environment's own range to [-1, 1]."""
    box = cast("spaces.Box", space)
    return ((action - box.low) / (box.high - box.low) * 2 - 1).astype(np.float32)


def snapshot(env: Env) -> dict[str, Any] | None:
    """All that decides the environment's future, in plain types and arrays; None when it cannot be known."""
    if hasattr(env.unwrapped, "state_dict"):
        own = env.unwrapped.state_dict()
        return None if own is None else {"own": own}
    layers = []
    for layer in _layers(env):
        state = {}
        for name, value in vars(layer).items():
            if name in _NOT_STATE or isinstance(value, spaces.Space):
                continue
            if not _is_plain(value):
                return None
            state[name] = np.array(value) if isinstance(value, np.ndarray) else value
        layers.append(state)
    return {"layers": layers, "random": env.unwrapped.np_random.bit_generator.state}


def restore(env: Env, state: Mapping[str, Any]) -> None:
    """Become the environment that `snapshot` was taken from.

    Raises:
        ValueError: it was taken from another environment.
    """
    if "own" in state:
        cast("Any", env.unwrapped).load_state_dict(state["own"])
        return
    layers = list(_layers(env))
    if len(layers) != len(state["layers"]):
        raise ValueError(
            f"the state is of {len(state['layers'])} wrapped layers, this environment has {len(layers)}"
        )
    for layer, saved in zip(layers, state["layers"], strict=True):
        for name, value in saved.items():
            setattr(layer, name, np.array(value) if isinstance(value, np.ndarray) else value)
    env.unwrapped.np_random.bit_generator.state = state["random"]


def _layers(env: Env) -> list[Any]:
    layers: list[Any] = [env]
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    return layers


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return isinstance(value, _PLAIN)
