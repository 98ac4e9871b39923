"""Healthy losses, and a healthy policy-gradient run: noise of every kind around curves that fall or rest."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from typing import TypeAlias

from rules.generators.trace import Clock, Series, Setting, Trace, autoregressive, clock, student

LOSS, NORM = "train/loss", "train/grad_norm"

Noise: TypeAlias = Callable[[random.Random, int], Iterable[float]]
"""Draws n numbers of a standard deviation near 1."""


def loss_gauss(rng: random.Random, n: int) -> Iterable[float]:
    """A falling loss with Gaussian noise."""
    return (rng.gauss(0, 1) for _ in range(n))


def loss_ar(rng: random.Random, n: int) -> Iterable[float]:
    """A falling loss whose noise remembers: AR(1), rho 0.7."""
    return autoregressive(rng, n, 0.7)


def loss_t3(rng: random.Random, n: int) -> Iterable[float]:
    """A falling loss with heavy tails: Student's t with three degrees of freedom."""
    return (student(rng) / math.sqrt(3) for _ in range(n))


def loss_small_batch(rng: random.Random, n: int) -> Iterable[float]:
    """A falling loss of small batches: skewed, a tenth of them hard ones."""
    return (rng.expovariate(1) - 1 + (rng.expovariate(1) if rng.random() < 0.1 else 0) for _ in range(n))


NOISES: dict[str, Noise] = {
    noise.__name__: noise for noise in (loss_gauss, loss_ar, loss_t3, loss_small_batch)
}


def loss_level(rng: random.Random, n: int) -> list[float]:
    """Draw a loss without noise: a power law down from 2-10 to a floor."""
    top, power = rng.uniform(2, 10), rng.uniform(0.1, 0.3)
    return [top * (1 + 20 * index / n) ** -power for index in range(n)]


def loss(noise: Noise, rng: random.Random, setting: Setting) -> Trace:
    """Draw a falling loss with one kind of noise, 1-4 % of its level, and a gradient norm beside it."""
    axis = clock(rng, setting.n, setting.cadence)
    level = loss_level(rng, setting.n)
    spread = rng.uniform(0.01, 0.04)
    values = [at * max(0.05, 1 + spread * z) for at, z in zip(level, noise(rng, setting.n), strict=False)]
    norm = math.exp(rng.gauss(0, 0.5))
    norms = [norm * math.exp(0.2 * rng.gauss(0, 1)) for _ in values]
    return Trace({LOSS: axis.zip(values), NORM: axis.zip(norms)}, points=setting.n)


def trend(rho: float, rng: random.Random, setting: Setting) -> Trace:
    """Draw a reward with AR noise around a slow rise, as the trend tests of gates were tried on."""
    axis = clock(rng, setting.n, setting.cadence)
    rise = rng.uniform(0, 3)
    noise = autoregressive(rng, setting.n, rho)
    values = [10 + rise * index / setting.n + z for index, z in enumerate(noise)]
    return Trace({"train/episode_reward": axis.zip(values)}, points=setting.n)


def policy_series(rng: random.Random, axis: Clock) -> Series:
    """Draw what PPO logs of one healthy run: KL, clipping, entropy, explained variance, loss, rewards."""
    n = len(axis.steps)
    kl, clip = rng.uniform(0.003, 0.015), rng.uniform(0.05, 0.2)
    first, last = rng.uniform(1.0, 2.5), rng.uniform(0.2, 0.8)
    top, value_loss = rng.uniform(50, 2000), rng.uniform(5, 100)
    share = [index / n for index in range(n)]
    reward_noise = list(autoregressive(rng, n, 0.8, 0.05))
    gauss = rng.gauss
    return {
        "train/approx_kl": axis.zip([kl * math.exp(0.3 * gauss(0, 1)) for _ in share]),
        "train/clip_fraction": axis.zip([min(1.0, clip * math.exp(0.2 * gauss(0, 1))) for _ in share]),
        "train/entropy_loss": axis.zip(
            [-first * (1 - (1 - last) * s) * (1 + 0.02 * gauss(0, 1)) for s in share]
        ),
        "train/explained_variance": axis.zip(
            [min(0.99, 0.9 * -math.expm1(-8 * s) + 0.05 * gauss(0, 1)) for s in share]
        ),
        "train/value_loss": axis.zip([value_loss * math.exp(0.3 * gauss(0, 1)) for _ in share]),
        "rollout/ep_rew_mean": axis.zip(
            [
                top * (0.05 - 0.95 * math.expm1(-4 * s)) * (1 + z)
                for s, z in zip(share, reward_noise, strict=True)
            ]
        ),
        "rollout/ep_len_mean": axis.zip([200 * (1 + s) * math.exp(0.05 * gauss(0, 1)) for s in share]),
    }


def ppo(rng: random.Random, setting: Setting) -> Trace:
    """A PPO run with discrete actions: entropy falls to a fifth or more, KL stays near its target."""
    return Trace(policy_series(rng, clock(rng, setting.n, setting.cadence)), points=setting.n)
