"""Every tag of the report is logged, at the environment step; a rollback voids what it should."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from trainer import config, metrics
from trainer.loop import Trainer
from trainer.metrics import Metrics

REPORT = {
    f"debug/{who}_{what}" for who in ("actor_q", "q1", "q2") for what in ("mean", "max", "min", "std")
} | {
    "debug/td_error_q1",
    "debug/td_error_q2",
    "train/actor_loss",
    "train/critic_loss",
    "gradients/actor_mlp_norm",
    "gradients/critic_mlp_norm",
    *(f"rewards/{term}" for term in metrics.REWARD_TERMS),
    "train/episode_length",
    "train/episode_reward",
    "train/collisions",
    "train/lane_invasions",
    "eval/mean_reward",
    "eval/mean_length",
    "time/steps_per_second",
}
INDICATORS = {
    "debug/target_q_mean",
    "debug/target_q_max",
    "debug/twin_gap_policy",
    "debug/twin_gap_replay",
    "debug/action_saturation",
    "debug/actor_feature_norm",
    "debug/critic_feature_norm",
    "debug/return_bound",
}
SMALL: dict[str, Any] = {
    "npcs": 0,
    "start_timesteps": 40,
    "max_timesteps": 200,
    "batch_size": 8,
    "hidden": 16,
    "feature_dim": 8,
    "log_interval": 10,
    "eval_freq": 80,
    "eval_episodes": 1,
    "checkpoint_interval": 50,
}


def events(folder: Path) -> list[Any]:
    files = sorted(folder.glob("events.out.tfevents.*"), key=lambda path: int(path.name.split(".")[-1]))
    return [event for file in files for event in LegacyEventFileLoader(str(file)).Load()]


def series(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = defaultdict(list)
    for event in events(folder):
        for value in event.summary.value:
            found[value.tag].append((event.step, value.simple_value))
    return found


@pytest.mark.parametrize("preset", ["healthy", "incident"])
@pytest.mark.parametrize("observation", ["state", "image"])
def test_every_tag_of_the_report_is_logged(preset: str, observation: str, tmp_path: Path) -> None:
    """All of them and no unknown ones; an encoder's gradients only from the optimiser that trains it."""
    asked = SMALL | {"preset": preset, "observation": observation, "logdir": str(tmp_path)}
    Trainer(config.build(asked), say=lambda _: None).run()
    encoder = "cnn" if observation == "image" else "encoder"
    expected = REPORT | INDICATORS | {f"gradients/critic_{encoder}_norm"}
    expected |= {f"gradients/actor_{encoder}_norm"} if preset == "incident" else set()
    found = series(tmp_path)
    assert found.keys() == expected
    steps = [step for step, _ in found["debug/actor_q_mean"]]
    assert steps == list(range(50, 201, 10))


def test_tags_mean_what_they_say(tmp_path: Path) -> None:
    """Actor loss is minus actor Q, lengths add up to the step, and the terms add up to the reward."""
    asked = SMALL | {"preset": "incident", "logdir": str(tmp_path), "eval_freq": 0}
    Trainer(config.build(asked), say=lambda _: None).run()
    found = series(tmp_path)
    for (_, loss), (_, q) in zip(found["train/actor_loss"], found["debug/actor_q_mean"], strict=True):
        assert math.isclose(loss, -q, rel_tol=1e-5)
    total = 0.0
    for step, length in found["train/episode_length"]:
        total += length
        assert step == total
    for index, (_, reward) in enumerate(found["train/episode_reward"]):
        terms = [found[f"rewards/{term}"][index][1] for term in metrics.REWARD_TERMS]
        assert math.isclose(math.fsum(terms), reward, rel_tol=1e-4, abs_tol=1e-3)
    for name in ("actor_q", "q1"):
        for (_, low), (_, mean), (_, high) in zip(
            *(found[f"debug/{name}_{what}"] for what in ("min", "mean", "max")), strict=True
        ):
            assert low <= mean <= high


def test_a_point_is_readable_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    """log() flushes: a watchdog must not wait for a buffer."""
    writer = Metrics(tmp_path)
    for step in range(3):
        writer.log({"train/x": float(step)}, step)
        assert series(tmp_path)["train/x"][-1] == (step, float(step))
    writer.close()


def test_a_new_attempt_voids_from_the_step_after_its_checkpoint(tmp_path: Path) -> None:
    """SessionLog.START carries C + 1, in a file of its own: TensorBoard drops steps at or above it."""
    writer = Metrics(tmp_path)
    writer.log({"train/x": 1.0}, 20)
    writer.begin_attempt(21)
    writer.log({"train/x": 2.0}, 22)
    writer.close()
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 2
    starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert starts == [21]


def test_a_diverged_value_is_logged_as_what_it_is(tmp_path: Path) -> None:
    """NaN is the message: it is written, not skipped."""
    writer = Metrics(tmp_path)
    writer.log({"train/critic_loss": math.nan}, 1)
    writer.close()
    assert math.isnan(series(tmp_path)["train/critic_loss"][0][1])
