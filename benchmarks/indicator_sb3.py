"""One run of Stable-Baselines3's TD3, DDPG or SAC, healthy or sabotaged, that logs our trainer's tags.

The one fact to hold: nothing here is drawn. A sabotage changes how the algorithm learns, by the few lines
below, and what is logged is computed from its networks and a batch of its replay, by the formulas of
docs/metrics.md.

The sabotages:

- `leak`: the incident's fault. Actor and critics have encoders of their own, and the actor's loss asks Q
  about the *actor's* features, which the actor's optimiser shapes. The critics learn on theirs, as they
  should.
- `unbounded`: no tanh behind the actor and its target, and no clip of the target's action, which SB3 has.
  What is replayed stays clipped: the actor climbs Q where no data is, and the targets follow it there.
- `hot`: the critics' rate times five and no lag of the targets (tau 1): both Qs go together.

Two healthy kinds: `stock`, the algorithm as it comes, and `encoders`, the leak's networks without the leak.

`python -m benchmarks.indicator_sb3 ALGORITHM TASK KIND SEED STEPS FOLDER` is what `indicator_runs` starts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn import functional

from trainer.metrics import Metrics, Scalars, spread

ALGORITHMS: dict[str, Any] = {"td3": TD3, "ddpg": DDPG, "sac": SAC}
RATES = {"td3": 1e-3, "ddpg": 1e-3, "sac": 3e-4}
"""SB3's own defaults."""
GAMMA, BATCH, WARMUP, EVERY, HEAT = 0.99, 64, 500, 50, 5
OVER = (-2000.0, 300.0)
"""A sabotaged run whose mean actor Q is out of here is over: no harm is looked for further out."""


class Encoder(BaseFeaturesExtractor):  # type: ignore[misc]  # SB3 is not followed, so it is Any
    """Two layers over the state vector, as in our trainer."""

    def __init__(self, observation_space: gymnasium.Space[Any]) -> None:
        super().__init__(observation_space, features_dim=64)
        assert observation_space.shape is not None
        self.layers = nn.Sequential(
            nn.Linear(observation_space.shape[0], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()
        )

    def forward(self, observation: Tensor) -> Tensor:
        """[batch, vector_dim] -> [batch, 64]."""
        features: Tensor = self.layers(observation)
        return features


def train(algorithm: str, task: str, kind: str, seed: int, steps: int, folder: Path) -> None:
    """Train one run to its end, or until it is over, and log it to `folder`."""
    torch.set_num_threads(1)
    env = Monitor(gymnasium.make(task))
    size = env.action_space.shape
    assert size is not None
    policy: dict[str, Any] = {"net_arch": [256, 256], "optimizer_kwargs": {"fused": True}}
    if kind in ("encoders", "leak"):
        policy["features_extractor_class"] = Encoder
    options: dict[str, Any] = {"tau": 1.0} if kind == "hot" else {}
    if algorithm != "sac":
        options["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, 0.1))
    model = ALGORITHMS[algorithm](
        "MlpPolicy",
        env,
        learning_rate=RATES[algorithm],
        gamma=GAMMA,
        buffer_size=steps,
        learning_starts=WARMUP,
        batch_size=BATCH,
        train_freq=(1, "step"),
        gradient_steps=1,
        policy_kwargs=policy,
        seed=seed,
        device="cpu",
        **options,
    )
    if kind in SABOTAGES:
        SABOTAGES[kind](model)
    metrics = Metrics(folder)
    model.learn(steps, callback=Log(metrics, kind))
    metrics.close()
    env.close()


# -- sabotages -----------------------------------------------------------------------------------------


def leak(model: Any) -> None:
    """Score the actor on features of its own: TD3 and DDPG ask by q1_forward, SAC by the critic itself."""
    actor, critic, right = model.actor, model.critic, model.critic.forward

    def asked_of_actors(observation: Tensor, action: Tensor) -> list[Tensor]:
        features = actor.extract_features(observation, actor.features_extractor)
        return [q(torch.cat([features, action], dim=1)) for q in critic.q_networks]

    def forward(observation: Tensor, action: Tensor) -> Any:
        # Only the actor's loss has actions with a gradient: the critics' own loss stays as it is.
        return asked_of_actors(observation, action) if action.requires_grad else right(observation, action)

    critic.forward = forward
    critic.q1_forward = lambda observation, action: asked_of_actors(observation, action)[0]


def unbound(model: Any) -> None:
    """Take the tanh from the actor and its target, and let the target's own action past SB3's clip."""
    for net in (model.actor.mu, model.actor_target.mu):
        assert isinstance(net[-1], nn.Tanh), "the last layer of SB3's TD3 actor"
        net[-1] = nn.Identity()
    critic, actor, right = model.critic_target, model.actor_target, model.critic_target.forward
    critic.forward = lambda observation, _: right(observation, actor(observation))


def heat(model: Any) -> None:
    """Five times the critics' rate; SB3 sets one rate for all before every update, so that is replaced."""

    def rates(_: object) -> None:
        for group in model.critic.optimizer.param_groups:
            group["lr"] = HEAT * model.learning_rate

    model._update_learning_rate = rates


SABOTAGES = {"leak": leak, "unbounded": unbound, "hot": heat}


# -- what is logged ------------------------------------------------------------------------------------


class Log(BaseCallback):  # type: ignore[misc]  # the same
    """Logs the trainer's tags every 50 steps, and episodes at their end.

    The batch is one more of the replay: the last of training is gone by then. Gradients are of the losses on
    that batch, before any clipping.
    """

    def __init__(self, metrics: Metrics, kind: str) -> None:
        super().__init__()
        self._metrics, self._leaks, self._sabotaged = metrics, kind == "leak", kind in SABOTAGES

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                ended = {"train/episode_length": info["episode"]["l"]}
                ended["train/episode_reward"] = info["episode"]["r"]
                self._metrics.log(ended, self.num_timesteps)
        if self.num_timesteps % EVERY or self.num_timesteps <= WARMUP:
            return True
        scalars = self._scalars()
        self._metrics.log(scalars, self.num_timesteps)
        return not self._sabotaged or OVER[0] < scalars["debug/actor_q_mean"] < OVER[1]

    def _scalars(self) -> Scalars:
        model: Any = self.model
        batch = model.replay_buffer.sample(BATCH)
        actor, critic = model.actor, model.critic
        seen_by_actor = actor.extract_features(batch.observations, actor.features_extractor)
        seen_by_critic = critic.extract_features(batch.observations, critic.features_extractor)
        action, bonus = _policy(model, actor, batch.observations)
        asked = seen_by_actor if self._leaks else seen_by_critic.detach()
        of_policy = [q(torch.cat([asked, action], dim=1)) for q in critic.q_networks]
        of_replay = critic(batch.observations, batch.actions)
        target = _target(model, batch)
        critic_loss = torch.stack([functional.mse_loss(q, target) for q in of_replay]).sum()
        lesser = torch.min(torch.cat(of_policy, dim=1), dim=1).values if bonus is not None else of_policy[0]
        actor_loss = (-lesser if bonus is None else -lesser.unsqueeze(1) - bonus).mean()
        bound = float(np.abs(model.replay_buffer.rewards[: model.replay_buffer.size()]).max()) / (1 - GAMMA)
        scalars = {
            **spread("debug/actor_q", of_policy[0].detach()),
            "debug/target_q_mean": float(target.mean()),
            "debug/target_q_max": float(target.max()),
            "debug/return_bound": bound,
            "debug/action_saturation": float(
                (_greedy(actor, batch.observations).abs() > 0.98).float().mean()
            ),
            "debug/actor_feature_norm": float(seen_by_actor.detach().norm(dim=1).mean()),
            "debug/critic_feature_norm": float(seen_by_critic.detach().norm(dim=1).mean()),
            "train/critic_loss": float(critic_loss.detach()),
            "train/actor_loss": float(actor_loss.detach()),
            **_gradients("actor", actor_loss, actor),
            **_gradients("critic", critic_loss, critic),
        }
        for name, q in zip(("q1", "q2"), of_replay, strict=False):
            scalars |= spread(f"debug/{name}", q.detach())
            scalars[f"debug/td_error_{name}"] = float((target - q.detach()).abs().mean())
        if len(of_replay) == 2:  # DDPG has no twin
            scalars["debug/twin_gap_policy"] = float((of_policy[0] - of_policy[1]).detach().abs().mean())
            scalars["debug/twin_gap_replay"] = float((of_replay[0] - of_replay[1]).detach().abs().mean())
        return scalars


def _policy(model: Any, actor: Any, observation: Tensor) -> tuple[Tensor, Tensor | None]:
    """The policy's actions, and SAC's bonus for their entropy: [batch, action_dim], [batch, 1]."""
    if not isinstance(model, SAC):
        return actor(observation), None
    action, log_probability = actor.action_log_prob(observation)
    coefficient = model.log_ent_coef.exp().detach()
    return action, -coefficient * log_probability.reshape(-1, 1)


def _greedy(actor: Any, observation: Tensor) -> Tensor:
    with torch.no_grad():
        action: Tensor = actor._predict(observation, deterministic=True)
    return action


@torch.no_grad()
def _target(model: Any, batch: Any) -> Tensor:
    """What SB3's train() computes: the targets' lesser Q of the next action, smoothed or with its bonus."""
    bonus: Tensor | float | None
    if isinstance(model, SAC):
        action, bonus = _policy(model, model.actor, batch.next_observations)
    else:
        noise = torch.randn_like(batch.actions) * model.target_policy_noise
        noise = noise.clamp(-model.target_noise_clip, model.target_noise_clip)
        action, bonus = (model.actor_target(batch.next_observations) + noise).clamp(-1, 1), 0.0
    q = torch.cat(model.critic_target(batch.next_observations, action), dim=1).min(dim=1, keepdim=True).values
    target: Tensor = batch.rewards + (1 - batch.dones) * GAMMA * (q + (0.0 if bonus is None else bonus))
    return target


def _gradients(who: str, loss: Tensor, net: Any) -> Scalars:
    """The norms of a loss's gradient in the encoder, where there is one, and behind it."""
    encoder = list(net.features_extractor.parameters())
    inside = {id(parameter) for parameter in encoder}
    head = [parameter for parameter in net.parameters() if id(parameter) not in inside]
    found = torch.autograd.grad(loss, [*encoder, *head], retain_graph=True, allow_unused=True)
    scalars = {f"gradients/{who}_mlp_norm": _norm(found[len(encoder) :])}
    if encoder:
        scalars[f"gradients/{who}_encoder_norm"] = _norm(found[: len(encoder)])
    return scalars


def _norm(gradients: Iterable[Tensor | None]) -> float:
    return float(torch.stack([g.norm() for g in gradients if g is not None]).norm())


if __name__ == "__main__":
    _, name, env_name, how, number, length, where = sys.argv
    train(name, env_name, how, int(number), int(length), Path(where))
