"""A run's framework and algorithm, by what each framework logs out of the box."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rules import packs
from sentinel.events import EventFile
from sentinel.frameworks import ALGORITHMS, recognise

SB3 = "time/fps, rollout/ep_rew_mean, rollout/ep_len_mean"


@pytest.mark.parametrize(
    ("tags", "framework", "pack"),
    [
        (f"{SB3}, train/actor_loss, train/critic_loss, train/learning_rate", "Stable-Baselines3", "td3"),
        (
            f"{SB3}, train/actor_loss, train/critic_loss, train/ent_coef, train/ent_coef_loss",
            "Stable-Baselines3",
            "sac",
        ),
        (
            f"{SB3}, train/approx_kl, train/clip_fraction, train/loss, train/entropy_loss",
            "Stable-Baselines3",
            "ppo",
        ),
        (f"{SB3}, rollout/exploration_rate, train/loss", "Stable-Baselines3", "dqn"),
        (
            "charts/episodic_return, charts/SPS, losses/qf1_values, losses/actor_loss, losses/qf_loss",
            "CleanRL",
            "td3",
        ),
        (
            "charts/episodic_return, charts/SPS, losses/alpha, losses/actor_loss, losses/qf_loss",
            "CleanRL",
            "sac",
        ),
        ("charts/episodic_return, charts/SPS, losses/approx_kl, losses/clipfrac", "CleanRL", "ppo"),
        ("charts/episodic_return, charts/SPS, losses/td_loss, losses/q_values", "CleanRL", "dqn"),
        (
            "Environment/Cumulative Reward, Policy/Epsilon, Policy/Entropy, Losses/Value Loss",
            "Unity ML-Agents",
            "ppo",
        ),
        (
            "train/loss, train/grad_norm, train/epoch, eval/loss, eval/runtime",
            "Hugging Face Trainer",
            "supervised",
        ),
        (
            "train/loss, train/grad_norm, train/epoch, train/completions/mean_length, train/reward",
            "TRL",
            "rlhf",
        ),
        ("objective/kl, objective/scores, policy/approxkl_avg, val/ratio", "TRL", "rlhf"),
        ("epoch_loss, epoch_accuracy, evaluation_loss_vs_iterations", "Keras", "supervised"),
        ("train_loss_step, train_loss_epoch, val_loss, epoch", "Lightning", "supervised"),
        ("lm loss, grad-norm, loss-scale, learning-rate", "Megatron-LM", "llm"),
        ("Loss/G/loss, Loss/D/loss, Loss/signs/real", "StyleGAN2-ADA", "gan"),
    ],
)
def test_what_frameworks_log_out_of_the_box_is_recognised(tags: str, framework: str, pack: str) -> None:
    """One line for each framework and algorithm; tags as its own sources have them."""
    found = recognise(tags.split(", "))
    assert found.frameworks[0] == framework
    assert found.packs == (pack,)


def test_what_is_nobodys_is_called_nobodys() -> None:
    """Tags of somebody's own name no framework and no pack."""
    assert recognise({"Cumulative Reward/info", "Episodic Reward/episode"}) == recognise(())
    assert recognise(()).packs == ()


def test_a_simulator_is_recognised_beside_the_algorithm() -> None:
    """A training in CARLA needs both packs."""
    assert recognise({"debug/actor_q_mean", "simulator/faults"}).packs == ("td3", "carla")


def test_every_algorithm_has_its_pack() -> None:
    """What is recognised is a pack that can be included."""
    assert {signature.name for signature in ALGORITHMS} | {"generic"} == set(packs.names())


NAMED = {
    "HF Trainer": "Hugging Face Trainer",
    "Stable-Baselines3": "Stable-Baselines3",
    "Unity ML-Agents (torch SummaryWriter)": "Unity ML-Agents",
}


def test_recorded_runs_are_recognised_as_their_labels_say(corpus: Path) -> None:
    """Every recorded run of a known framework, and no other, is told to be of it."""
    with (corpus / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    known = 0
    for row in rows:
        tags = {sample[0] for sample in EventFile(corpus / row["run"] / row["file"]).read(1 << 30).samples}
        expected = NAMED.get(row["framework"])
        found = recognise(tags).frameworks
        if tags and expected is not None:
            known += 1
            assert found[:1] == (expected,), f"{row['run']}: {sorted(tags)}"
        else:
            assert not set(found) & set(NAMED.values()), f"{row['run']}: {sorted(tags)}"
    assert known > 25
