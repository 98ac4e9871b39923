"""One dataclass is flags, presets and bounds; what does not fit is said before anything is written."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from trainer import config
from trainer.__main__ import main
from trainer.config import LIVE, PRESETS, Bounds, Config
from trainer.td3 import Hyperparameters


def test_every_field_is_a_flag_and_every_live_parameter_a_field() -> None:
    """Nothing is named twice: orders for this one start aside, flags and bounds are exactly the fields."""
    flags = {action.dest for action in config.parser()._actions} - {"help", "reinit", "render"}
    assert flags == {f.name for f in fields(Config)}
    assert LIVE.keys() == {f.name for f in fields(Hyperparameters)}


def test_the_users_own_command_line_is_understood() -> None:
    """The validation command of the report, word for word."""
    asked = config.from_arguments(
        [
            "--max_timesteps",
            "2000",
            "--scenario",
            "0",
            "--npcs",
            "20",
            "--eval_freq",
            "1000",
            "--log_interval",
            "100",
        ]
    )
    made = asked.config
    assert (made.max_timesteps, made.npcs, made.eval_freq, made.log_interval) == (2000, 20, 1000, 100)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("observation", ["state", "image"])
def test_every_preset_is_valid_and_starts_within_the_bounds(preset: str, observation: str) -> None:
    """A guard would refuse a parameter that begins outside its declared bounds."""
    made = config.build({"preset": preset, "observation": observation})
    for parameter in config.declaration(made.hyperparameters(), shared=made.shared_encoder):
        assert parameter.value == getattr(made, parameter.name)


def test_the_incident_preset_is_the_fault_and_the_reports_settings() -> None:
    """td3.md's words for it: q_features = actor, separate encoders, tau 0.001, clips 1 and 10."""
    made = config.build({"preset": "incident"})
    assert made.q_features == "actor"
    assert not made.shared_encoder
    assert (made.tau, made.actor_clip, made.critic_clip) == (0.001, 1.0, 10.0)


def test_a_flag_beats_the_preset_and_other_environments_get_the_papers_values() -> None:
    """Default, then preset, then what was given."""
    assert config.build({"preset": "incident", "tau": 0.5}).tau == 0.5
    assert config.build({"env": "Pendulum-v1"}).preset == "paper"
    assert config.build({"env": "Pendulum-v1"}).discount == 0.99


def test_a_carla_run_has_the_scenarios_cars_unless_told_otherwise() -> None:
    """20, 50 or 100; hyphens and underscores are the same flag, and the task is the driving one."""
    assert [config.build({"env": "carla", "scenario": k}).npcs for k in (0, 1, 2)] == [20, 50, 100]
    asked = config.from_arguments(["--env", "carla", "--npcs", "7", "--carla-port", "2345"]).config
    assert (asked.npcs, asked.carla_port, asked.preset) == (7, 2345, "healthy")
    assert config.from_arguments(["--carla_port", "2345"]).config.carla_port == 2345
    assert config.build({"env": "carla", "observation": "image"}).encoder == "cnn"


def test_a_shared_encoder_declares_only_the_answer_it_has() -> None:
    """With one encoder q_features = "actor" would be a switch without effect, so it is not offered."""
    declared = {p.name: p for p in config.declaration(Hyperparameters(), shared=True)}
    assert declared["q_features"].choices == ("critic",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tau", "7"], "--tau must lie in"),
        (["--max_timesteps", "0"], "--max_timesteps must be at least 1"),
        (["--env", "Pendulum-v1", "--observation", "image"], "Pendulum-v1 has no camera"),
        (["--encoder", "cnn"], "--encoder cnn does not fit --observation state"),
        (["--resume", "latest"], "--resume needs --logdir"),
        (["--reinit", "actor"], "--reinit needs --resume"),
        (["--env", "NoSuch-v0"], "NoSuch"),
        (["--env", "CartPole-v1"], "vector of numbers"),
        (["--scenario", "9"], "scenario"),
        (["--env", "carla", "--scenario", "3"], "--scenario must be 0 to 2"),
        (["--carla-port", "70000"], "--carla_port must be 1 to 65535"),
    ],
)
def test_what_does_not_fit_exits_with_2_and_says_which_flag(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written, the exit code is 2, and the message names the flag."""
    where = [] if "--resume" in arguments else ["--logdir", str(tmp_path / "run")]
    assert main([*arguments, *where]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_help_teaches_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """--help names each flag with its meaning and default, examples and exit codes."""
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"--{f.name}" in text and f.metadata["help"] for f in fields(Config))
    assert "exit codes" in text
    assert "Pendulum-v1" in text


def test_bounds_are_ordered() -> None:
    """A parameter whose low end lies above its high end could never be set."""
    assert all(b.low < b.high for b in LIVE.values() if isinstance(b, Bounds))
