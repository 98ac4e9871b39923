"""Every tag that the trainer logs, and the only file that knows TensorBoard.

The one fact to hold: the step axis of every tag is the environment step, and each logged point is flushed, so
that whoever tails the file sees it at once. docs/metrics.md gives each tag's unit, formula and healthy range.

After a rollback to step C a new event file begins with SessionLog.START at C + 1. TensorBoard drops what has
a step *at or above* the START's (torch's `purge_step`), and the points of step C were logged before its
checkpoint was written: C + 1 is the first step that is void.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from trainer.td3 import TD3

Scalars = dict[str, float]

REWARD_TERMS = ("progress", "safety", "lane_keeping", "efficiency", "comfort")


class Metrics:
    """The event files of one run; one file per attempt.

    Args:
        folder: the run's folder. first_void_step: None for a new run; after a rollback or a resume, the
        first step that is not to be believed.
    """

    def __init__(self, folder: Path, first_void_step: int | None = None) -> None:
        self._folder = folder
        self._writer = SummaryWriter(str(folder), purge_step=first_void_step)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Write points of one step and flush."""
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def begin_attempt(self, first_void_step: int) -> None:
        """Close the file and begin another that voids what was logged from `first_void_step` on."""
        self._writer.close()
        self._writer = SummaryWriter(str(self._folder), purge_step=first_void_step)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class Unwritten(Metrics):
    """The log of a rank that does not log: rank 0's stands for the run."""

    def __init__(self, folder: Path, first_void_step: int | None = None) -> None:  # noqa: ARG002 - as Metrics
        self._folder = folder

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Nothing."""

    def begin_attempt(self, first_void_step: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@torch.no_grad()
def of_agent(agent: TD3, *, images: bool, reward_bound: float) -> Scalars:
    """The scalars of the last updates, and those indicators of divergence that cost one more forward pass.

    Args:
        agent: has been updated at least policy_freq times since it was made or loaded; else what is missing
        is left out. images: names the encoder's gradients `cnn`, as the report does, instead of `encoder`.
        reward_bound: the largest absolute reward seen.
    """
    seen = agent.seen
    scalars: Scalars = {}
    for name, tag in (("actor_q", "actor_q"), ("q1", "q1"), ("q2", "q2")):
        if name in seen:
            scalars |= spread(f"debug/{tag}", seen[name])
    if "q1" in seen:
        scalars["debug/td_error_q1"] = float((seen["target_q"] - seen["q1"]).abs().mean())
        scalars["debug/td_error_q2"] = float((seen["target_q"] - seen["q2"]).abs().mean())
        scalars["debug/target_q_mean"] = float(seen["target_q"].mean())
        scalars["debug/target_q_max"] = float(seen["target_q"].max())
        scalars["train/critic_loss"] = float(seen["critic_loss"])
    if "actor_loss" in seen:
        scalars["train/actor_loss"] = float(seen["actor_loss"])
    encoder = "cnn" if images else "encoder"
    for who, (of_encoder, of_head) in agent.gradient_norms().items():
        if not agent.has_no_encoder(who):
            scalars[f"gradients/{who}_{encoder}_norm"] = float(of_encoder)
        scalars[f"gradients/{who}_mlp_norm"] = float(of_head)
    if reward_bound > 0 and agent.parameters.discount < 1:
        scalars["debug/return_bound"] = reward_bound / (1 - agent.parameters.discount)
    return scalars | _indicators(agent)


def _indicators(agent: TD3) -> Scalars:
    """Early signs: twins that disagree on the policy's actions, saturated actions, grown features."""
    if agent.last_batch is None:
        return {}
    policy_features, q_features = agent.actor_features(agent.last_batch.observation)
    action = agent.actor(policy_features)
    q1, q2 = agent.critic(q_features, action)
    scalars = {
        "debug/twin_gap_policy": float((q1 - q2).abs().mean()),
        "debug/twin_gap_replay": float((agent.seen["q1"] - agent.seen["q2"]).abs().mean()),
        "debug/action_saturation": float((action.abs() > 0.98).to(torch.float32).mean()),
        "debug/actor_feature_norm": float(policy_features.norm(dim=1).mean()),
    }
    critic_features = agent.critic_encoder(agent.last_batch.observation)
    return scalars | {"debug/critic_feature_norm": float(critic_features.norm(dim=1).mean())}


def spread(tag: str, values: Tensor) -> Scalars:
    """Mean, max, min and (population) std over the batch."""
    return {
        f"{tag}_mean": float(values.mean()),
        f"{tag}_max": float(values.max()),
        f"{tag}_min": float(values.min()),
        f"{tag}_std": float(values.std(correction=0)),
    }


@dataclass
class Episode:
    """Sums over the episode so far; the five reward terms add up to the reward."""

    length: int = 0
    reward: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, reward: float, info: Mapping[str, Any]) -> None:
        """One more step. The driving world tells the reward by term, and counts that are sums already."""
        self.length += 1
        self.reward += reward
        for name, value in info.get("rewards", {}).items():
            self.terms[name] = self.terms.get(name, 0.0) + value
        self.counts = {name: info[name] for name in ("collisions", "lane_invasions") if name in info}

    def scalars(self) -> Scalars:
        """What is logged at its end; an environment without terms or counts logs none of them."""
        scalars: Scalars = {"train/episode_length": self.length, "train/episode_reward": self.reward}
        scalars |= {f"rewards/{name}": self.terms[name] for name in REWARD_TERMS if name in self.terms}
        return scalars | {f"train/{name}": count for name, count in self.counts.items()}


def of_evaluation(returns: list[float], lengths: list[int]) -> Scalars:
    """Means over the episodes of one evaluation."""
    return {
        "eval/mean_reward": math.fsum(returns) / len(returns),
        "eval/mean_length": math.fsum(lengths) / len(lengths),
    }
