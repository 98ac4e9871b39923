"""`python -m trainer render`: a film of somebody driving in the embedded world, for people to look at.

The one fact to hold: what is filmed is the environment that is trained in, step for step; an agent sees its
own observation, not the film. The same arguments give the same film.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from trainer import checkpoint as checkpoints
from trainer import config as configuration
from trainer import envs, film
from trainer.checkpoint import CheckpointError
from trainer.config import Config, ConfigError
from trainer.driving.dashboard import Gauges
from trainer.driving.driver import drive
from trainer.driving.env import DrivingEnv
from trainer.driving.kinematic_world import LANE_WIDTH, KinematicWorld
from trainer.driving.lanes import Floats
from trainer.driving.picture import VIVID, Painter, Shot
from trainer.driving.traffic import CAR_LENGTH, CAR_WIDTH
from trainer.td3 import TD3, Hyperparameters, Shape

USAGE, STATE = 2, 4
"""Exit codes: arguments that do not fit; a checkpoint that cannot be used."""

HOLD = 10
"""Frames for which the end of an episode stays to be seen."""
EVALUATION_SEEDS = 10_000
"""Above the run's seed: the episodes of its evaluations."""

Action = NDArray[np.float32]


class Policy(Protocol):
    """Somebody who drives."""

    def __call__(self, seen: Any, env: DrivingEnv, /) -> Action:
        """Return steer and throttle, float32 [2] in [-1, 1], for an observation."""


class RuleDriver:
    """Drives by rule (driving/driver.py)."""

    def __init__(self) -> None:
        self._before: Floats | None = None

    def __call__(self, _seen: Any, env: DrivingEnv, /) -> Action:
        """Steer for the lane and keep the distance; nothing of the observation is used."""
        world, facts = world_of(env), env.facts
        cars = world.cars()
        before = cars if self._before is None or len(self._before) != len(cars) else self._before
        self._before = cars.copy()
        return np.array(drive(facts, cars, before, world.dt, world.car), np.float32)


class RandomDriver:
    """Draws both controls uniformly, as a run's warm-up does."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, _seen: Any, _env: DrivingEnv, /) -> Action:
        """Draw."""
        return self._random.uniform(-1.0, 1.0, 2).astype(np.float32)


class AgentDriver:
    """A trained agent, without exploration noise."""

    def __init__(self, agent: TD3, device: torch.device) -> None:
        self._agent, self._device = agent, device

    def __call__(self, seen: Any, _env: DrivingEnv, /) -> Action:
        """Act on what it sees."""
        observation = {
            name: torch.as_tensor(value, device=self._device)[None] for name, value in envs.see(seen).items()
        }
        action: Action = self._agent.act(observation).cpu().numpy()
        return action


@dataclass(frozen=True)
class Take:
    """What is filmed: who drives where, for how long, from which seed, and how large the picture is.

    Attributes:
        title: what stands in the picture. seconds: of the film. episodes: after which it ends, if sooner.
    """

    env: DrivingEnv
    policy: Policy
    title: str
    seed: int
    seconds: float = 1e9
    episodes: int = 1 << 30
    width: int = 640
    height: int = 360
    chase: bool = False


@dataclass
class Ending:
    """How the filmed episodes went: their returns and what ended them."""

    returns: list[float]
    events: list[str]


def frames(take: Take, ending: Ending) -> Iterator[NDArray[np.uint8]]:
    """Drive, and give a picture of every step: uint8 [height, width, 3]; `ending` is filled in."""
    world = world_of(take.env)
    painter = Painter(world.lane, LANE_WIDTH, width=take.width, height=take.height, chase=take.chase)
    left = round(take.seconds / world.dt)
    for episode in range(take.episodes):
        seen, _ = take.env.reset(seed=take.seed + episode)
        total, steps, event = 0.0, 0, ""
        speeds = None
        while not event:
            action = take.policy(seen, take.env)
            before = world.cars().copy()
            seen, reward, terminated, truncated, info = take.env.step(action)
            total, steps = total + reward, steps + 1
            if terminated or truncated:
                event = _event(info)
                ending.returns.append(total)
                ending.events.append(event)
            now = np.hypot(*(world.cars()[:, :2] - before[:, :2]).T)
            braking = np.zeros(len(now), np.bool_) if speeds is None else now < speeds - 0.1 * world.dt
            speeds = now
            gauges = Gauges(
                title=take.title,
                seconds=steps * world.dt,
                speed=take.env.facts.speed,
                steer=float(action[0]),
                throttle=float(action[1]),
                reward=reward,
                total=total,
                event=event,
            )
            picture = painter.picture(_shot(take.env, braking, gauges))
            for _ in range(HOLD if event else 1):
                if left <= 0:
                    return
                yield picture
                left -= 1


def _shot(env: DrivingEnv, braking: NDArray[np.bool_], gauges: Gauges) -> Shot:
    world, facts = world_of(env), env.facts
    return Shot(
        pose=(facts.x, facts.y, facts.heading),
        size=(CAR_LENGTH, CAR_WIDTH),
        arc_length=facts.arc_length,
        cars=world.cars(),
        braking=braking,
        open_roads=tuple(lights.open for lights in world.lights),
        gauges=gauges,
    )


def _event(info: dict[str, Any]) -> str:
    if info["collision"]:
        return "collision"
    return "off the road" if info["off_road"] else "end of the episode"


def world_of(env: DrivingEnv) -> KinematicWorld:
    """Return the embedded world of an environment; a simulator's has no geometry to draw."""
    assert isinstance(env.world, KinematicWorld)
    return env.world


def film_evaluation(config: Config, agent: TD3, path: Path, say: Callable[[str], None]) -> None:
    """Film the first evaluation episode of a run with the agent as it is now.

    Raises:
        OSError: the film cannot be written.
    """
    env = config.make_env()
    assert isinstance(env, DrivingEnv), "only the embedded world can be filmed"
    title = f"scenario {config.scenario}, {config.preset}, seed {config.seed}"
    policy = AgentDriver(agent, torch.device(config.device))
    take = Take(env, policy, title, config.seed + EVALUATION_SEEDS, episodes=1)
    shoot(take, path, say)


def shoot(take: Take, path: Path, say: Callable[[str], None]) -> None:
    """Film, write the file and say what is in it.

    Raises:
        OSError: the file cannot be written.
    """
    ending = Ending([], [])
    count = film.write(
        path,
        frames(take, ending),
        size=(take.width, take.height),
        rate=round(1.0 / world_of(take.env).dt),
        colours=VIVID,
        expected=None if take.seconds > 1e8 else round(take.seconds / world_of(take.env).dt),
    )
    told = ", ".join(
        f"{event} (return {total:.0f})" for event, total in zip(ending.events, ending.returns, strict=True)
    )
    size = path.stat().st_size / 1e6
    say(f"trainer: {path}: {count} frames, {size:.1f} MB; {told or 'the episode went on'}")


def main(arguments: Sequence[str]) -> int:
    """Film as the command line says, and return the exit code."""
    asked = parser().parse_args(arguments)
    try:
        film.check(asked.out)
        take = _take(asked)
        shoot(take, asked.out, lambda text: print(text, flush=True))
    except CheckpointError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return STATE
    except (ConfigError, film.FilmError, ValueError, OSError) as error:
        print(f"trainer: {error}", file=sys.stderr)
        return USAGE
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line of `render`."""
    made = argparse.ArgumentParser(
        prog="python -m trainer render",
        description="Film somebody driving in the embedded world: the road ahead, a map, the instruments.",
        epilog="exit codes: 0 written, 2 arguments that do not fit or a file that cannot be written, 4 the "
        "checkpoint cannot be used",
    )
    made.add_argument("out", type=Path, metavar="FILE", help="film.gif, or film.mp4 with the extra `video`")
    who = made.add_mutually_exclusive_group()
    who.add_argument(
        "--policy", choices=("driver", "random"), default="driver", help="who drives: a rule, or chance"
    )
    who.add_argument("--checkpoint", type=Path, metavar="DIR", help="an agent of this trainer drives")
    made.add_argument("--scenario", type=int, help="which road, 0 to 3 (default 0, or the run's)")
    made.add_argument("--npcs", type=int, help="other cars on it (default 20, or the run's)")
    made.add_argument("--seconds", type=float, default=30.0, help="length of the film (default 30)")
    made.add_argument("--seed", type=int, default=0, help="of the first episode; the next has the next")
    made.add_argument("--size", default="640x360", metavar="WxH", help="of the picture (default 640x360)")
    made.add_argument(
        "--view", choices=("driver", "chase"), default="driver", help="from the seat, or from behind the car"
    )
    return made


def _take(asked: argparse.Namespace) -> Take:
    width, height = _size(asked.size)
    if asked.seconds <= 0:
        raise ConfigError(f"--seconds must be more than 0, got {asked.seconds}")
    given = {name: getattr(asked, name) for name in ("scenario", "npcs") if getattr(asked, name) is not None}
    policy: Policy
    if asked.checkpoint is None:
        config = configuration.build(given)
        policy = RuleDriver() if asked.policy == "driver" else RandomDriver(asked.seed)
        who = "driver by rule" if asked.policy == "driver" else "random"
    else:
        config, agent = load_agent(asked.checkpoint, given)
        policy, who = AgentDriver(agent, torch.device("cpu")), asked.checkpoint.name
    env = config.make_env()
    assert isinstance(env, DrivingEnv)
    title = f"scenario {config.scenario}, {config.npcs} cars, {who}"
    return Take(
        env,
        policy,
        title,
        asked.seed,
        seconds=asked.seconds,
        width=width,
        height=height,
        chase=asked.view == "chase",
    )


def load_agent(path: Path, given: dict[str, Any]) -> tuple[Config, TD3]:
    """Return a run's configuration under what is given now, and the agent of one of its checkpoints.

    Raises:
        CheckpointError: it is missing or damaged. ConfigError: its run drove elsewhere.
    """
    found = checkpoints.read(path)
    request = configuration.from_arguments(
        [f"--resume={path.resolve()}", *(f"--{name}={value}" for name, value in given.items())]
    )
    config = request.config
    if config.env != "driving":
        raise ConfigError(f"{path} is of --env {config.env}; only the embedded world can be filmed")
    agent = TD3(
        Shape(**found.state["shape"]), Hyperparameters(**found.state["parameters"]), torch.device("cpu")
    )
    agent.load_state_dict(found.state["agent"])
    return config, agent


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"--size must be like 640x360, got {text!r}")
    size = int(width), int(height)
    if not all(160 <= side <= 3840 and side % 2 == 0 for side in size):
        raise ConfigError(f"--size: both sides must be even and from 160 to 3840, got {text}")
    return size
