"""Which framework wrote a run and which algorithm it trains, told from the tags alone.

A tag's name is the only thing that event files say about their writer. Signatures are tried against what the
frameworks log out of the box; a run that fits none is still watched by the generic rules.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Signature:
    """Tags by which something is known.

    Attributes:
        name: what it is. marks: patterns over tags. least: how many of them have to be there.
        never: patterns of which none may be.
    """

    name: str
    marks: tuple[str, ...]
    least: int = 1
    never: tuple[str, ...] = ()

    def fits(self, tags: Collection[str]) -> bool:
        """Say whether a run with these tags bears it."""
        there = sum(any(fnmatchcase(tag, mark) for tag in tags) for mark in self.marks)
        return there >= self.least and not any(fnmatchcase(tag, no) for tag in tags for no in self.never)


FRAMEWORKS = (
    Signature("this repository's trainer", ("debug/actor_q_mean", "time/steps_per_second"), least=2),
    Signature(
        "Stable-Baselines3",
        (
            "time/fps",
            "rollout/ep_rew_mean",
            "rollout/ep_len_mean",
            "rollout/exploration_rate",
            "train/n_updates",
            "train/clip_range",
            "train/explained_variance",
            "train/ent_coef",
        ),
        least=2,
    ),
    Signature(
        "CleanRL", ("charts/episodic_return", "charts/SPS", "charts/learning_rate", "losses/*"), least=2
    ),
    Signature("RLlib", ("ray/tune/*",)),
    Signature(
        "Unity ML-Agents", ("Environment/Cumulative Reward", "Environment/Episode Length", "Policy/*"), 2
    ),
    Signature(
        "TRL",
        (
            "objective/*",
            "val/ratio",
            "train/rewards/*",
            "train/completions/*",
            "train/frac_reward_zero_std",
            "train/objective/*",
            "train/num_tokens",
        ),
    ),
    Signature(
        "Hugging Face Trainer",
        ("train/loss", "train/grad_norm", "train/epoch", "eval/runtime", "train/train_runtime"),
        least=3,
    ),
    Signature("Keras", ("epoch_loss", "epoch_*", "evaluation_loss_vs_iterations"), least=2),
    Signature(
        "Megatron-LM", ("lm loss", "grad-norm", "loss-scale", "iteration-time", "learning-rate"), least=2
    ),
    Signature("OLMo-core", ("train/CE loss", "optim/*"), least=2),
    Signature("StyleGAN2-ADA", ("Loss/G/loss", "Loss/D/loss", "Loss/signs/real", "Metrics/fid*"), least=2),
    Signature(
        "Lightning",
        ("hp_metric", "epoch", "*_step", "*_epoch", "train_loss", "val_loss"),
        least=2,
        never=("epoch_loss", "train/*"),
    ),
)
"""In order; a run may bear several (TRL trains with Hugging Face's Trainer), and the first is named first."""

_PPO_OF_TRL = ("objective/*", "policy/approxkl_avg")

ALGORITHMS = (
    Signature(
        "td3",
        ("debug/actor_q_mean", "train/actor_loss", "losses/actor_loss", "train/q1_value"),
        never=("train/ent_coef*", "losses/alpha*", "alpha", "train/approx_kl", "losses/approx_kl"),
    ),
    Signature("sac", ("train/ent_coef", "train/ent_coef_loss", "losses/alpha", "losses/alpha_loss")),
    Signature(
        "ppo",
        (
            "train/approx_kl",
            "train/clip_fraction",
            "losses/approx_kl",
            "losses/clipfrac",
            "Policy/Epsilon",
            "ray/tune/*/mean_kl_loss",
            "ray/tune/*kl",
        ),
        never=_PPO_OF_TRL,
    ),
    Signature(
        "dqn",
        ("rollout/exploration_rate", "losses/q_values", "losses/td_loss", "q_taken_mean"),
    ),
    Signature(
        "rlhf",
        (
            "objective/kl",
            "train/objective/kl",
            "val/ratio",
            "train/completions/*",
            "train/frac_reward_zero_std",
            "train/rewards/*",
        ),
    ),
    Signature(
        "llm",
        (
            "lm loss",
            "train/CE loss",
            "train/num_input_tokens_seen",
            "train/num_tokens",
            "*perplexity*",
            "loss-scale",
        ),
    ),
    Signature(
        "gan", ("Loss/G/loss", "Loss/D/loss", "d_loss", "g_loss", "Loss_D", "Loss_G", "loss/D", "loss/G"), 2
    ),
    Signature(
        "supervised",
        (
            "train/loss",
            "train_loss",
            "loss",
            "Loss/train",
            "epoch_loss",
            "train_loss_step",
            "train_loss_epoch",
            "Training Loss/*",
            "val/loss",
            "val_loss",
            "eval/loss",
        ),
        never=(
            "rollout/*",
            "charts/*",
            "Environment/*",
            "ray/tune/*",
            "train/episode_*",
            "Max. Q",
            "lm loss",
            "train/actor_loss",
            "losses/*",
            "objective/*",
            "train/completions/*",
        ),
    ),
    Signature("carla", ("simulator/faults",)),  # no algorithm, but a simulator beside one
)
"""What a run trains, by the name of the pack that watches it."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What is known of a run's writer: frameworks, and packs that fit what it trains; both may be empty."""

    frameworks: tuple[str, ...]
    packs: tuple[str, ...]


def recognise(tags: Collection[str]) -> Recognised:
    """Tell a run's framework and the packs that fit it from its tags."""
    return Recognised(
        tuple(signature.name for signature in FRAMEWORKS if signature.fits(tags)),
        tuple(signature.name for signature in ALGORITHMS if signature.fits(tags)),
    )
