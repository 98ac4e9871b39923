"""What a run is: one dataclass, which is also the command line, the presets, and the bounds of what may
change live.

The one fact to hold: a field is named once. Its flag, its help, its place in `config.json` and, for
hyperparameters, its bounds in trainer.json follow from here. A flag given on the command line beats the
preset.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from sentinel.guard import Parameter
from trainer import envs, film
from trainer.driving.kinematic_world import SCENARIOS
from trainer.td3 import Hyperparameters, Shape


def _option(default: Any, explanation: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": explanation, **more})


@dataclass(frozen=True)
class Config:
    """A run. Steps are environment steps of training; those of warm-up count, those of evaluation do not."""

    env: str = _option(
        "driving",
        "the embedded driving world; carla, a CARLA server's; or any gymnasium environment (Pendulum-v1)",
    )
    preset: str = _option(
        "",
        "healthy: learns. incident: the fault that killed the runs of the report (q_features = actor). "
        "paper: Fujimoto's values. Default: healthy for driving, paper for other environments",
        choices=("healthy", "incident", "paper"),
    )
    observation: Literal["state", "image"] = _option(
        "state",
        "state: a vector. image: 4 stacked camera frames beside it (driving and carla only)",
        choices=("state", "image"),
    )
    image_size: int = _option(84, "side of the square camera frame in pixels (48 or 84)")
    scenario: int = _option(
        0,
        "which road of the driving world, 0 to 3; with carla, 0 to 2, only the usual number of cars: "
        "20, 50, 100",
    )
    npcs: int = _option(20, "other cars on it; as many are put on the road as fit")
    carla_host: str = _option(
        "localhost", "where the CARLA server is; several machines, of several servers: with commas between"
    )
    carla_port: int = _option(
        2000, "and its RPC port; of several servers on one machine each next one's is higher by 10"
    )
    tm_port: int = _option(8000, "port of CARLA's TrafficManager on this machine; restarts take the next 19")
    town: str = _option("Town01", "CARLA's map")
    weather: str = _option("", "CARLA's weather preset (ClearNoon); none leaves it as it is")
    traffic_seed: int = _option(42, "of CARLA's traffic: where it begins and what it decides")
    carla_timeout: float = _option(20.0, "seconds that a CARLA server may take for one answer")
    carla_patience: float = _option(
        600.0, "seconds without a step after which a CARLA server that is away is given up: exit code 75"
    )
    max_timesteps: int = _option(5000, "environment steps of the whole run, warm-up included")
    start_timesteps: int = _option(1000, "warm-up: steps of random actions before learning begins")
    eval_freq: int = _option(1000, "steps between evaluations without exploration noise; 0 for none")
    eval_episodes: int = _option(3, "episodes of one evaluation")
    log_interval: int = _option(50, "steps between logged points of the debug/, train/ and gradients/ tags")
    checkpoint_interval: int = _option(100, "steps between checkpoints; there is one of step 0 too")
    keep_checkpoints: int = _option(
        20, "newest checkpoints that are kept; older ones thin out to one in 1000 steps"
    )
    seed: int = _option(0, "of networks, exploration, replay and environment: the same seed is the same run")
    logdir: str = _option(
        "", "the run's folder: event files, checkpoints, control. Default: runs/ENV-PRESET-sSEED"
    )
    resume: str = _option(
        "",
        "go on, bit for bit, from a checkpoint: latest, a name, or a path; other flags default to the run's",
    )
    device: str = _option("cpu", "torch device; bit-exact resume is promised on cpu")
    threads: int = _option(1, "torch threads; more than 1 helps only on an otherwise idle machine")
    bf16: bool = _option(
        default=False,
        explanation="matrix products of the updates in bfloat16: faster where the CPU or GPU has them",
    )
    actors: int = _option(
        0, "so many processes act, on Ray, and this one learns from what they send; 0: it acts itself"
    )
    actor_steps: int = _option(25, "steps that an actor makes with the same weights, and sends together")
    ray: str = _option("local", "the actors' Ray cluster: local (this machine), auto, or host:port")
    steps_per_update: int = _option(1, "environment steps per update: more where acting outruns learning")
    batch_size: int = _option(64, "transitions per update")
    replay_size: int = _option(100_000, "rows of the replay ring")
    expl_noise: float = _option(
        0.1, "standard deviation of exploration noise, in units of half the action range"
    )
    hidden: int = _option(256, "width of the two hidden layers of actor and critics")
    feature_dim: int = _option(256, "width of what the encoder gives")
    encoder: Literal["none", "mlp", "cnn"] = _option(
        "mlp", "before actor and critics; images need cnn", choices=("none", "mlp", "cnn")
    )
    shared_encoder: bool = _option(
        default=True, explanation="one encoder, trained by the critics alone; else the incident's two"
    )
    discount: float = _option(0.9, "gamma")
    tau: float = _option(0.02, "share of the networks that enters the targets at each policy update")
    policy_noise: float = _option(0.2, "standard deviation of target policy smoothing")
    noise_clip: float = _option(0.5, "and its limit")
    policy_freq: int = _option(2, "critic updates per policy update")
    actor_lr: float = _option(3e-4, "Adam rate of the actor")
    critic_lr: float = _option(1e-3, "Adam rate of the critics")
    actor_encoder_lr: float = _option(1e-3, "Adam rate of the actor's own encoder")
    critic_encoder_lr: float = _option(1e-3, "Adam rate of the critics' encoder")
    actor_clip: float = _option(0.0, "largest gradient norm of actor and its encoder; 0 for no clipping")
    critic_clip: float = _option(0.0, "largest gradient norm of critics and their encoder; 0 for no clipping")
    q_clamp: float = _option(
        0.0, "the report's solution 1: clamp Q in the actor's loss to +- this; 0 for not at all"
    )
    min_weight: float = _option(
        1.0, "the report's solution 4: weight of min(Q1, Q2) against max in the target"
    )
    preactivation_penalty: float = _option(
        0.0, "weight of the squared input of the actor's tanh in its loss: keeps it from saturating"
    )
    critic_batch_norm: bool = _option(
        default=False, explanation="the report's solution 3: batch normalisation in the critics"
    )
    q_features: Literal["critic", "actor"] = _option(
        "critic",
        "whose features the actor's loss is scored on; actor is the fault",
        choices=("critic", "actor"),
    )
    skip_replay: int = _option(
        0, "with --resume: so many of the checkpoint's newest transitions are never drawn again"
    )

    def hyperparameters(self) -> Hyperparameters:
        """The part that commands may change."""
        return Hyperparameters(**{f.name: getattr(self, f.name) for f in fields(Hyperparameters)})

    def shape(self, vector_dim: int, action_dim: int, frames: int, image_size: int) -> Shape:
        """The architecture for an environment of these dimensions."""
        return Shape(
            vector_dim=vector_dim,
            action_dim=action_dim,
            frames=frames,
            image_size=image_size,
            hidden=self.hidden,
            encoder=self.encoder,
            feature_dim=self.feature_dim,
            shared_encoder=self.shared_encoder,
        )

    def carla_server(self, number: int = 0) -> envs.CarlaServer:
        """Of several servers the one of that number: machine by machine, then the machines' next ports."""
        hosts = self.carla_host.split(",")
        port = self.carla_port + 10 * (
            number // len(hosts)
        )  # a server takes the two ports behind its own too
        return envs.CarlaServer(
            host=hosts[number % len(hosts)].strip(),
            port=port,
            tm_port=self.tm_port + 20 * number,
            town=self.town,
            weather=self.weather,
            traffic_seed=self.traffic_seed + number,
            timeout=self.carla_timeout,
        )

    def make_env(self, number: int = 0) -> envs.Env:
        """Make the environment of a rank or an actor.

        Raises:
            UnknownEnvironmentError: as envs.make.
        """
        return envs.make(
            self.env,
            observation=self.observation,
            image_size=self.image_size,
            scenario=self.scenario,
            npcs=self.npcs,
            carla=self.carla_server(number),
        )

    @property
    def run_dir(self) -> Path:
        """Where the run lives."""
        images = f"-image{self.image_size}" if self.observation == "image" else ""
        return Path(self.logdir or f"runs/{self.env}-{self.preset}{images}-s{self.seed}")


PRESETS: dict[str, dict[str, Any]] = {
    "healthy": {},
    "incident": {
        "shared_encoder": False,
        "q_features": "actor",
        "tau": 0.001,
        "actor_encoder_lr": 3e-4,  # at 1e-3 Q passes 50 within 250 updates, faster than any run of the report
        "actor_clip": 1.0,
        "critic_clip": 10.0,
    },
    "paper": {"encoder": "none", "discount": 0.99, "tau": 0.005, "batch_size": 256, "actor_lr": 1e-3},
}
"""What a preset changes in the defaults, which are those of `healthy`; docs/td3.md gives the reasons."""

IMAGE_PRESETS: dict[str, dict[str, Any]] = {
    "healthy": {"encoder": "cnn"},
    # The rates of the report's own run; with these the curve of its actor Q is met at step 1200.
    "incident": {
        "encoder": "cnn",
        "feature_dim": 64,
        "critic_lr": 3e-4,
        "actor_encoder_lr": 1e-4,
        "critic_encoder_lr": 1e-4,
    },
    "paper": {"encoder": "cnn"},
}
"""The same on top, with --observation image."""


@dataclass(frozen=True)
class Bounds:
    """What a command may set a number to, both ends included."""

    low: float
    high: float
    integer: bool = False


LIVE: dict[str, Bounds | tuple[str, ...] | None] = {
    "discount": Bounds(0.0, 0.9999),
    "tau": Bounds(1e-4, 1.0),
    "policy_noise": Bounds(0.0, 1.0),
    "noise_clip": Bounds(0.0, 1.0),
    "policy_freq": Bounds(1, 20, integer=True),
    "actor_lr": Bounds(0.0, 0.01),
    "critic_lr": Bounds(0.0, 0.01),
    "actor_encoder_lr": Bounds(0.0, 0.01),
    "critic_encoder_lr": Bounds(0.0, 0.01),
    "actor_clip": Bounds(0.0, 1e6),
    "critic_clip": Bounds(0.0, 1e6),
    "q_clamp": Bounds(0.0, 1e6),
    "min_weight": Bounds(0.5, 1.0),
    "preactivation_penalty": Bounds(0.0, 1.0),
    "critic_batch_norm": None,
    "q_features": ("critic", "actor"),
    "skip_replay": Bounds(0, 10_000_000, integer=True),
}
"""What a command may set while the run lives: bounds, choices, or None for true or false."""


def declaration(parameters: Hyperparameters, *, shared: bool) -> list[Parameter]:
    """What trainer.json says of LIVE; `shared` where actor and critics have one encoder."""
    declared = []
    for name, bounds in LIVE.items():
        value = getattr(parameters, name)
        if isinstance(bounds, Bounds):
            low, high = bounds.low, bounds.high
            declared.append(Parameter.number(name, value, low=low, high=high, integer=bounds.integer))
        elif bounds is None:
            declared.append(Parameter.boolean(name, value))
        else:
            # With one encoder there is only one answer, and a remedy that asks for it is in force already.
            declared.append(Parameter.enum(name, value, ("critic",) if shared else bounds))
    return declared


CARS = ("driving", "carla")
"""The environments that are the driving task."""

CARLA_SCENARIOS = 3
"""Those of a CARLA server: the fourth is a road of the embedded world, and says nothing of another's."""


class ConfigError(ValueError):
    """The run cannot be as asked; the message names the flag and what to do."""


def parser() -> argparse.ArgumentParser:
    """The command line; a flag that is not given leaves no trace, so presets and --resume can fill it."""
    made = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Train TD3, log to TensorBoard, beat for the sentinel and obey its commands "
        "(checkpoint, rollback, terminate) at step boundaries.",
        epilog="examples:\n"
        "  python -m trainer --max_timesteps 5000                      learns to drive in about ten seconds\n"
        "  python -m trainer --preset incident --seed 1                 reproduces the incident\n"
        "  python -m trainer --env Pendulum-v1 --max_timesteps 8000\n"
        "  python -m trainer --env carla --scenario 0 --npcs 20          a CARLA server at localhost:2000\n"
        "  python -m trainer doctor --carla                              whether that server is fit for it\n"
        "  python -m trainer --logdir runs/driving-healthy-s0 --resume latest\n"
        "  python -m trainer render --scenario 3 film.gif                 somebody driving, to look at\n"
        "  python -m trainer verify runs/driving-healthy-s0/checkpoints/00-00001000\n\n"
        "exit codes: 0 finished, or ended by a `terminate` command; 2 flags or folder do not fit;\n"
        "4 the checkpoint to resume from is damaged or missing; 75 the CARLA server stayed away, after a\n"
        "checkpoint; 130, 143 SIGINT, SIGTERM, after a checkpoint",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    for option in fields(Config):
        default = "" if option.default == "" else f" (default {option.default})"
        flag, explanation = f"--{option.name}", option.metadata["help"].replace("%", "%%") + default
        # Underscores as in the incident's project; hyphens, as elsewhere on a command line, mean the same.
        flags = dict.fromkeys((flag, flag.replace("_", "-")))
        if isinstance(option.default, bool):
            made.add_argument(*flags, action=argparse.BooleanOptionalAction, help=explanation)
        else:
            made.add_argument(
                *flags,
                dest=option.name,
                type=type(option.default),
                choices=option.metadata.get("choices"),
                metavar=None if option.metadata.get("choices") else type(option.default).__name__.upper(),
                help=explanation,
            )
    made.add_argument(
        "--reinit",
        nargs="+",
        choices=("actor", "actor_encoder"),
        help="with --resume: parts that get fresh weights",
    )
    made.add_argument(
        "--render",
        type=Path,
        metavar="FILE",
        help="at the end, film the agent's first evaluation episode: .gif, or .mp4 with the extra `video`",
    )
    return made


@dataclass(frozen=True)
class Request:
    """What a command line asks for: the run, what to change in the checkpoint it resumes from, a film."""

    config: Config
    changes: Mapping[str, Any] = field(default_factory=dict)
    reinit: tuple[str, ...] = ()
    render: Path | None = None


def from_arguments(arguments: Sequence[str] | None = None) -> Request:
    """Read a command line.

    Raises:
        ConfigError: values that do not fit together.
        SystemExit: argparse's own, on unknown flags and --help.
    """
    given = vars(parser().parse_args(arguments))
    reinit, film_path = tuple(given.pop("reinit", ())), given.pop("render", None)
    if not given.get("resume"):
        if reinit:
            raise ConfigError("--reinit needs --resume: a new run has fresh weights anyway")
        return Request(_filmable(build(given), film_path), render=film_path)
    changes = {name: value for name, value in given.items() if name in LIVE}
    return Request(_filmable(build(_resumed(given)), film_path), changes, reinit, film_path)


def _filmable(config: Config, path: Path | None) -> Config:
    """Return the run; what it would be told after hours of training about its film is told now."""
    if path is None:
        return config
    if config.env != "driving":
        raise ConfigError(f"--render needs --env driving; {config.env} cannot be filmed")
    try:
        film.check(path)
    except film.FilmError as error:
        raise ConfigError(f"--render {error}") from error
    return config


def build(given: Mapping[str, Any]) -> Config:
    """Defaults, then the preset, then what is `given`.

    Raises:
        ConfigError: values that do not fit together.
    """
    env = given.get("env", "driving")
    preset = given.get("preset") or ("healthy" if env in CARS else "paper")
    values = dict(PRESETS[preset])
    scenario = given.get("scenario", 0)
    if env == "carla" and 0 <= scenario < len(SCENARIOS):
        values["npcs"] = SCENARIOS[scenario].npcs
    if given.get("observation") == "image":
        values |= IMAGE_PRESETS[preset]
    config = Config(**values | dict(given) | {"preset": preset})
    _check(config)
    return config


def _resumed(given: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the run that goes on, under what was given now; its folder without --logdir."""
    checkpoint = Path(given["resume"])
    is_path = len(checkpoint.parts) > 1
    if not is_path and not given.get("logdir"):
        raise ConfigError(
            "--resume needs --logdir, the folder of the run that goes on, or a checkpoint's path"
        )
    run = checkpoint.absolute().parents[1] if is_path else Path(given["logdir"])
    path = run / "config.json"
    try:
        saved = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--resume: {path} cannot be read ({error}); is {run} a run's folder?") from error
    given = {"logdir": str(run)} | given
    known = {f.name for f in fields(Config)}
    return {key: value for key, value in saved.items() if key in known} | given


def save(config: Config, path: Path) -> None:
    """Write config.json, which --resume reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n", encoding="utf-8")


def _check(config: Config) -> None:
    problems = [
        f"--{name} must be {'at least 1' if low else 'not negative'}, got {getattr(config, name)}"
        for low, names in (
            (
                1,
                (
                    "max_timesteps",
                    "log_interval",
                    "checkpoint_interval",
                    "keep_checkpoints",
                    "batch_size",
                    "threads",
                    "actor_steps",
                    "steps_per_update",
                ),
            ),
            (
                0,
                ("start_timesteps", "eval_freq", "eval_episodes", "npcs", "seed", "carla_patience", "actors"),
            ),
        )
        for name in names
        if getattr(config, name) < low
    ]
    for name, bounds in LIVE.items():
        value = getattr(config, name)
        if isinstance(bounds, Bounds) and not bounds.low <= value <= bounds.high:
            problems.append(f"--{name} must lie in [{bounds.low}, {bounds.high}], got {value}")
    if config.observation == "image" and config.env not in CARS:
        problems.append(f"--observation image needs --env driving or carla; {config.env} has no camera here")
    scenarios = CARLA_SCENARIOS if config.env == "carla" else len(SCENARIOS)
    if config.env in CARS and not 0 <= config.scenario < scenarios:
        problems.append(f"--scenario must be 0 to {scenarios - 1}, got {config.scenario}")
    problems += [
        f"--{name} must be 1 to 65535, got {getattr(config, name)}"
        for name in ("carla_port", "tm_port")
        if not 1 <= getattr(config, name) <= 65535
    ]
    if (config.observation == "image") != (config.encoder == "cnn"):
        problems.append(f"--encoder {config.encoder} does not fit --observation {config.observation}")
    if config.replay_size < 2 * config.batch_size:
        problems.append(
            f"--replay_size {config.replay_size} is too small for --batch_size {config.batch_size}"
        )
    if problems:
        raise ConfigError("; ".join(problems))
