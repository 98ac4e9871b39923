"""TD3 (Fujimoto, van Hoof and Meger 2018), in the paper's names, with encoders in front of actor and critics.

The one fact to hold: `q_features` decides which encoder's features the actor's loss is scored on. "critic" is
correct. "actor" is the incident's fault, kept as a switch: the critics are then asked about features that the
actor's own optimiser shapes, so Q on the policy's actions rises without bound while Q on replay stays right.

Why it exists: the sentinel must be shown on a run that really dies, and a remedy must really rescue it.
Actions are normalised to [-1, 1]; the loop scales them to the environment. docs/td3.md lists each difference
from Fujimoto's code.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

Net = TypeVar("Net", bound=nn.Module)
Observation = dict[str, Tensor]
"""`vector`: float32 [batch, vector_dim]; with images also `image`: uint8 [batch, frames, size, size]."""


NO_NORM = torch.tensor(math.nan)
"""The norm of an encoder that this optimiser does not train: nothing to log."""


@dataclass
class Hyperparameters:
    """What may change while the run lives; bounds are in config.LIVE. Clips are L2 norms of gradients."""

    discount: float = 0.99
    tau: float = 0.005
    policy_noise: float = 0.2
    noise_clip: float = 0.5
    policy_freq: int = 2
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    actor_encoder_lr: float = 3e-4
    critic_encoder_lr: float = 3e-4
    actor_clip: float = 0.0
    critic_clip: float = 0.0
    q_clamp: float = 0.0
    min_weight: float = 1.0
    preactivation_penalty: float = 0.0
    critic_batch_norm: bool = False
    q_features: Literal["critic", "actor"] = "critic"
    skip_replay: int = 0


@dataclass(frozen=True)
class Shape:
    """The architecture: what a checkpoint must agree on with the networks it is loaded into."""

    vector_dim: int
    action_dim: int
    frames: int = 0
    image_size: int = 0
    hidden: int = 256
    encoder: Literal["none", "mlp", "cnn"] = "mlp"
    feature_dim: int = 128
    shared_encoder: bool = True

    @property
    def features(self) -> int:
        """Width of what actor and critics see."""
        match self.encoder:
            case "none":
                return self.vector_dim
            case "mlp":
                return self.feature_dim
            case "cnn":
                return self.feature_dim + self.vector_dim


@dataclass(frozen=True)
class Batch:
    """Transitions; `reward` and `not_done` are float32 [batch, 1], `action` float32 [batch, action_dim]."""

    observation: Observation
    action: Tensor
    reward: Tensor
    next_observation: Observation
    not_done: Tensor


class NoEncoder(nn.Module):
    """The paper's own case: the networks see the state as it is."""

    def forward(self, observation: Observation) -> Tensor:
        """[batch, vector_dim], unchanged."""
        return observation["vector"]


class StateEncoder(nn.Module):
    """Two layers over the state vector: the state-only stand-in for the incident's CNN.

    One layer alone lets the actor's features raise Q only linearly; the incident grew exponentially.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.hidden = nn.Linear(shape.vector_dim, 64)
        self.layer = nn.Linear(64, shape.feature_dim)

    def forward(self, observation: Observation) -> Tensor:
        """[batch, vector_dim] -> [batch, feature_dim]."""
        return _relu(self.layer(_relu(self.hidden(observation["vector"]))))


class ImageEncoder(nn.Module):
    """A small CNN over the stacked frames, its features beside the state vector as in the incident's code."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(shape.frames, 16, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        side = ((shape.image_size - 8) // 4 + 1 - 4) // 2 + 1
        self.layer = nn.Linear(32 * side * side, shape.feature_dim)

    def forward(self, observation: Observation) -> Tensor:
        """uint8 [batch, frames, size, size] and [batch, vector_dim] -> [batch, feature_dim + vector_dim]."""
        image = observation["image"].to(torch.float32).mul_(1 / 127.5).sub_(1)
        seen = _relu(self.layer(self.convolutions(image)))
        return torch.cat((seen, observation["vector"]), dim=1)


def make_encoder(shape: Shape) -> nn.Module:
    """The encoder that `shape` asks for, with fresh weights."""
    if shape.encoder == "none":
        return NoEncoder()
    return ImageEncoder(shape) if shape.encoder == "cnn" else StateEncoder(shape)


class Actor(nn.Module):
    """pi(features) -> action in [-1, 1]; [batch, features] -> [batch, action_dim]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.l1 = nn.Linear(shape.features, shape.hidden)
        self.l2 = nn.Linear(shape.hidden, shape.hidden)
        self.l3 = nn.Linear(shape.hidden, shape.action_dim)

    def forward(self, features: Tensor) -> Tensor:
        """The action. The tanh saturates when what precedes it grows, and so the incident's actor died."""
        return torch.tanh(self.preactivation(features))

    def preactivation(self, features: Tensor) -> Tensor:
        """What the tanh is applied to; [batch, features] -> [batch, action_dim], unbounded."""
        hidden = _relu(self.l2(_relu(self.l1(features))))
        preactivation: Tensor = self.l3(hidden).float()
        return preactivation


class QNetwork(nn.Module):
    """One of the twins: Q(features, action); the norms are used only while `critic_batch_norm` is set.

    They keep no running statistics: Q is only ever asked about whole batches, so a norm that is switched on
    in mid-run has no stale average to start from.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.l1 = nn.Linear(shape.features + shape.action_dim, shape.hidden)
        self.l2 = nn.Linear(shape.hidden, shape.hidden)
        self.l3 = nn.Linear(shape.hidden, 1)
        self.norm1 = nn.BatchNorm1d(shape.hidden, track_running_stats=False)
        self.norm2 = nn.BatchNorm1d(shape.hidden, track_running_stats=False)
        self.batch_norm = False

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """[batch, features], [batch, action_dim] -> [batch, 1]."""
        hidden = self.l1(torch.cat((features, action), dim=1))
        hidden = _relu(self.norm1(hidden) if self.batch_norm else hidden)
        hidden = self.l2(hidden)
        hidden = _relu(self.norm2(hidden) if self.batch_norm else hidden)
        return cast("Tensor", self.l3(hidden).float())


class Critic(nn.Module):
    """The twin critics of clipped double Q-learning."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.q1 = QNetwork(shape)
        self.q2 = QNetwork(shape)

    def forward(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Both Qs, each [batch, 1]."""
        return self.q1(features, action), self.q2(features, action)


class TD3:
    """The agent: networks, targets, optimisers, and `updates`, whose parity says when the policy learns.

    Args:
        bf16: matrix products of the updates in bfloat16. Weights, gradients, Adam, what comes out of the
            networks, targets and losses stay float32; acting does too.
        average: called with the gradients of each update before they are clipped, to put their mean over
            several ranks in place; None with one rank.
    """

    def __init__(
        self,
        shape: Shape,
        parameters: Hyperparameters,
        device: torch.device,
        *,
        bf16: bool = False,
        average: Callable[[list[Tensor]], None] | None = None,
    ) -> None:
        self.shape = shape
        self._average = average
        self.bf16 = bf16
        self.parameters = parameters
        self.device = device
        self.updates = 0
        self.critic_encoder = make_encoder(shape).to(device)
        self.critic = Critic(shape).to(device)
        # One encoder, trained by the critics alone, or the incident's two.
        self.actor_encoder = self.critic_encoder if shape.shared_encoder else make_encoder(shape).to(device)
        self.actor = Actor(shape).to(device)
        self.critic_encoder_target = _frozen_copy(self.critic_encoder)
        self.critic_target = _frozen_copy(self.critic)
        self.actor_encoder_target = (
            self.critic_encoder_target if shape.shared_encoder else _frozen_copy(self.actor_encoder)
        )
        self.actor_target = _frozen_copy(self.actor)
        self.actor_optimizer = self._adam(self.actor, None if shape.shared_encoder else self.actor_encoder)
        self.critic_optimizer = self._adam(self.critic, self.critic_encoder)
        self.seen: dict[str, Tensor] = {}
        """What the last updates computed (detached): read by metrics(), never by training."""
        self.last_batch: Batch | None = None
        self._norms: dict[str, tuple[Tensor, Tensor] | None] = {}
        self.apply(parameters)

    # -- acting ------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Observation) -> Tensor:
        """The policy's action for one observation (batch of 1): float32 [action_dim] in [-1, 1]."""
        return cast("Tensor", self.actor(self.actor_encoder(observation)))[0]

    # -- learning ----------------------------------------------------------------------------------

    def update(self, batch: Batch) -> None:
        """One step of Algorithm 1: critics always, actor and targets every `policy_freq`-th time."""
        self.updates += 1
        self.last_batch = batch
        self._update_critics(batch)
        if self.updates % self.parameters.policy_freq == 0:
            self._update_actor(batch)
            self._update_targets()

    def _update_critics(self, batch: Batch) -> None:
        with self._products():
            target_q = self.target_q(batch)
            q1, q2 = self.critic(self.critic_encoder(batch.observation), batch.action)
        critic_loss = functional.mse_loss(q1, target_q) + functional.mse_loss(q2, target_q)
        self.critic_optimizer.zero_grad(set_to_none=True)
        critic_loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._share_gradients(self.critic_encoder, self.critic)
        norms = _clip(self.critic_encoder, self.critic, self.parameters.critic_clip)
        self.critic_optimizer.step()
        self.seen |= {
            "q1": q1.detach(),
            "q2": q2.detach(),
            "target_q": target_q,
            "critic_loss": critic_loss.detach(),
        }
        self._norms["critic"] = norms

    @torch.no_grad()
    def target_q(self, batch: Batch) -> Tensor:
        """reward + discount * not_done * (w min(Q1', Q2') + (1 - w) max(Q1', Q2')), float32 [batch, 1].

        w = min_weight = 1 is the paper's clipped double Q; below 1 is the report's weighted variant.
        """
        p = self.parameters
        action = self.actor_target(self.actor_encoder_target(batch.next_observation))
        noise = (torch.randn_like(action) * p.policy_noise).clamp_(-p.noise_clip, p.noise_clip)
        q1, q2 = self.critic_target(
            self.critic_encoder_target(batch.next_observation), (action + noise).clamp_(-1, 1)
        )
        q = torch.min(q1, q2)
        if p.min_weight < 1:
            q = p.min_weight * q + (1 - p.min_weight) * torch.max(q1, q2)
        target_q: Tensor = batch.reward + p.discount * batch.not_done * q
        return target_q

    def _update_actor(self, batch: Batch) -> None:
        # Frozen, so that no gradient is computed that nothing uses.
        self.critic.requires_grad_(requires_grad=False)
        with self._products():
            policy_features, q_features = self.actor_features(batch.observation)
            preactivation = self.actor.preactivation(policy_features)
            actor_q = self.critic.q1(q_features, torch.tanh(preactivation))
        limit, penalty = self.parameters.q_clamp, self.parameters.preactivation_penalty
        actor_loss = -(actor_q.clamp(-limit, limit) if limit > 0 else actor_q).mean()
        if penalty > 0:
            actor_loss = actor_loss + penalty * preactivation.square().mean()
        self.actor_optimizer.zero_grad(set_to_none=True)
        actor_loss.backward()
        self._share_gradients(self._actors_own_encoder, self.actor)
        norms = _clip(self._actors_own_encoder, self.actor, self.parameters.actor_clip)
        self.actor_optimizer.step()
        self.critic.requires_grad_(requires_grad=True)
        self.seen |= {"actor_q": actor_q.detach(), "actor_loss": actor_loss.detach()}
        self._norms["actor"] = norms

    def actor_features(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """What the policy sees and what its Q is asked about, each [batch, features].

        Only with separate encoders and q_features = "actor" are the two one tensor that the actor's optimiser
        may shape: the fault. Otherwise no gradient of the actor's loss reaches what Q is asked about.
        """
        if self.shape.shared_encoder:
            with torch.no_grad():
                features = self.critic_encoder(observation)
            return features, features
        features = self.actor_encoder(observation)
        if self.parameters.q_features == "actor":
            return features, features
        with torch.no_grad():
            return features, self.critic_encoder(observation)

    def gradient_norms(self) -> dict[str, tuple[Tensor, Tensor]]:
        """L2 norms of the last updates' gradients before they were clipped: who -> (encoder's, head's).

        NO_NORM for an encoder that this optimiser does not train. Without clipping they are computed here,
        from the gradients that are still there: a step that is not logged need not pay for them.
        """
        nets = {"actor": (self._actors_own_encoder, self.actor), "critic": (self.critic_encoder, self.critic)}
        return {who: norms or _norms(*nets[who]) for who, norms in self._norms.items()}

    def _share_gradients(self, encoder: nn.Module | None, head: nn.Module) -> None:
        if self._average is not None:
            self._average([*_gradients(encoder), *_gradients(head)])

    @property
    def _actors_own_encoder(self) -> nn.Module | None:
        return None if self.shape.shared_encoder else self.actor_encoder

    def _products(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @torch.no_grad()
    def _update_targets(self) -> None:
        for net, target in self._pairs():
            # One call for all tensors of a network: a fifth of the time of a loop over them.
            torch._foreach_lerp_(list(target.parameters()), list(net.parameters()), self.parameters.tau)

    # -- what may change in mid-run ----------------------------------------------------------------

    def apply(self, parameters: Hyperparameters) -> None:
        """Take over `parameters`: rates into optimisers, the norm into critics; the others are read live."""
        self.parameters = parameters
        for optimizer, rates in (
            (self.actor_optimizer, (parameters.actor_lr, parameters.actor_encoder_lr)),
            (self.critic_optimizer, (parameters.critic_lr, parameters.critic_encoder_lr)),
        ):
            for group, rate in zip(optimizer.param_groups, rates, strict=False):
                group["lr"] = rate
        for critic in (self.critic, self.critic_target):
            for q in (critic.q1, critic.q2):
                q.batch_norm = parameters.critic_batch_norm

    def has_no_encoder(self, who: str) -> bool:
        """Whether the optimiser of `who` ("actor" or "critic") trains no encoder: it has no gradient then."""
        return self.shape.encoder == "none" or (who == "actor" and self.shape.shared_encoder)

    @property
    def reinitialisable(self) -> tuple[str, ...]:
        """The parts that reinitialise() knows here; a shared encoder belongs to the critics and stays."""
        return ("actor",) if self.has_no_encoder("actor") else ("actor", "actor_encoder")

    def reinitialise(self, part: str) -> None:
        """Give `part` and its target the same fresh weights, from torch's generator; forget its Adam moments.

        Raises:
            ValueError: `part` is not one of `reinitialisable`.
        """
        if part not in self.reinitialisable:
            raise ValueError(
                f"cannot reinitialise {part!r}: this agent has {', '.join(self.reinitialisable)}"
            )
        net, target = {
            "actor": (self.actor, self.actor_target),
            "actor_encoder": (self.actor_encoder, self.actor_encoder_target),
        }[part]
        fresh = Actor(self.shape) if part == "actor" else make_encoder(self.shape)
        net.load_state_dict(fresh.state_dict())
        target.load_state_dict(fresh.state_dict())
        for parameter in net.parameters():
            self.actor_optimizer.state.pop(parameter, None)

    # -- state -------------------------------------------------------------------------------------

    def tensors(self) -> list[Tensor]:
        """The weights of all networks and targets, as they are in them: writing to these changes them."""
        return [tensor for _, net in self._modules() for tensor in net.state_dict().values()]

    def state_dict(self) -> dict[str, object]:
        """All that the next update depends on, except torch's generator."""
        return {
            "nets": {name: net.state_dict() for name, net in self._modules()},
            "actor_optimizer": self.actor_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over a state_dict(); the rates of the present parameters stay.

        Raises:
            RuntimeError, KeyError, ValueError: it is another architecture's.
        """
        nets = cast("dict[str, dict[str, Tensor]]", state["nets"])
        for name, net in self._modules():
            net.load_state_dict(nets[name])
        self.actor_optimizer.load_state_dict(cast("dict[str, object]", state["actor_optimizer"]))
        self.critic_optimizer.load_state_dict(cast("dict[str, object]", state["critic_optimizer"]))
        self.updates = cast("int", state["updates"])
        self.seen, self.last_batch, self._norms = {}, None, {}
        self.apply(self.parameters)

    # -- parts -------------------------------------------------------------------------------------

    def _pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        pairs = [
            (self.critic_encoder, self.critic_encoder_target),
            (self.critic, self.critic_target),
            (self.actor, self.actor_target),
        ]
        if not self.shape.shared_encoder:
            pairs.append((self.actor_encoder, self.actor_encoder_target))
        return [(net, target) for net, target in pairs if any(True for _ in net.parameters())]

    def _modules(self) -> list[tuple[str, nn.Module]]:
        names = ["critic_encoder", "critic", "actor"]
        names += [] if self.shape.shared_encoder else ["actor_encoder"]
        return [(n, getattr(self, n)) for name in names for n in (name, f"{name}_target")]

    def _adam(self, head: nn.Module, encoder: nn.Module | None) -> torch.optim.Adam:
        groups: list[dict[str, object]] = [{"params": list(head.parameters())}]
        if encoder is not None and any(True for _ in encoder.parameters()):
            groups.append({"params": list(encoder.parameters())})
        return torch.optim.Adam(groups, fused=True)


def _frozen_copy(net: Net) -> Net:
    return copy.deepcopy(net).requires_grad_(requires_grad=False)


def _relu(hidden: Tensor) -> Tensor:
    """In place: what comes out of a layer is read by nothing else."""
    return functional.relu(hidden, inplace=True)


def _clip(encoder: nn.Module | None, head: nn.Module, limit: float) -> tuple[Tensor, Tensor] | None:
    """Clip encoder and head together to L2 norm `limit`; return their norms before that. 0: do nothing."""
    if limit <= 0:
        return None
    of_encoder, of_head = norms = _norms(encoder, head)
    total = of_head if of_encoder is NO_NORM else torch.linalg.vector_norm(torch.stack(norms))
    gradients = [*_gradients(encoder), *_gradients(head)]
    torch._foreach_mul_(gradients, torch.clamp(limit / (total + 1e-6), max=1.0))
    return norms


def _norms(encoder: nn.Module | None, head: nn.Module) -> tuple[Tensor, Tensor]:
    of_encoder = _gradients(encoder)
    norm = nn.utils.get_total_norm(of_encoder) if of_encoder else NO_NORM
    return norm, nn.utils.get_total_norm(_gradients(head))


def _gradients(net: nn.Module | None) -> list[Tensor]:
    return [] if net is None else [p.grad for p in net.parameters() if p.grad is not None]
