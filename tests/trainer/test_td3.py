"""What TD3 computes, and what the one switch of the incident lets the actor reach."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch

from trainer.config import LIVE
from trainer.td3 import TD3, Batch, Hyperparameters, Observation, Shape

SEPARATE = Shape(vector_dim=5, action_dim=2, hidden=16, feature_dim=8, shared_encoder=False)
SHARED = dataclasses.replace(SEPARATE, shared_encoder=True)
IMAGES = dataclasses.replace(SEPARATE, encoder="cnn", frames=4, image_size=48)
PLAIN = dataclasses.replace(SHARED, encoder="none")
SHAPES = [SEPARATE, SHARED, IMAGES, PLAIN]


def agent_of(shape: Shape, **parameters: object) -> TD3:
    torch.manual_seed(0)
    values = dataclasses.asdict(Hyperparameters()) | parameters
    return TD3(shape, Hyperparameters(**values), torch.device("cpu"))


def batch_of(shape: Shape, size: int = 32, seed: int = 1) -> Batch:
    source = torch.Generator().manual_seed(seed)

    def observation() -> Observation:
        seen = {"vector": torch.randn(size, shape.vector_dim, generator=source)}
        if shape.frames:
            side = (size, shape.frames, shape.image_size, shape.image_size)
            seen["image"] = torch.randint(0, 256, side, dtype=torch.uint8, generator=source)
        return seen

    return Batch(
        observation=observation(),
        action=torch.rand(size, shape.action_dim, generator=source) * 2 - 1,
        reward=torch.randn(size, 1, generator=source),
        next_observation=observation(),
        not_done=(torch.rand(size, 1, generator=source) > 0.2).to(torch.float32),
    )


def weights(agent: TD3) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, net in agent._modules()
        for key, value in net.state_dict().items()
    }


def changed(agent: TD3, before: dict[str, torch.Tensor]) -> set[str]:
    now = weights(agent)
    return {key.split(".")[0] for key in now if not torch.equal(now[key], before[key])}


@pytest.mark.parametrize("shape", SHAPES)
def test_actions_stay_within_the_unit_box(shape: Shape) -> None:
    """Whatever is seen, an action is float32 [action_dim] in [-1, 1]."""
    agent, batch = agent_of(shape), batch_of(shape)
    action = agent.act({name: value[:1] * 9 for name, value in batch.observation.items()})
    assert action.shape == (2,)
    assert action.dtype == torch.float32
    assert bool((action.abs() <= 1).all())


def test_the_target_is_that_of_algorithm_1() -> None:
    """target_q = reward + discount * not_done * min(Q1', Q2') at the smoothed target action."""
    agent, batch = agent_of(SHARED, discount=0.9, policy_noise=0.0), batch_of(SHARED)
    with torch.no_grad():
        features = agent.critic_encoder_target(batch.next_observation)
        q1, q2 = agent.critic_target(features, agent.actor_target(features))
    expected = batch.reward + 0.9 * batch.not_done * torch.minimum(q1, q2)
    assert torch.allclose(agent.target_q(batch), expected)


def test_a_weight_below_one_lets_the_greater_twin_in() -> None:
    """min_weight w gives w min + (1 - w) max: the report's solution 4."""
    batch = batch_of(SHARED)
    low = agent_of(SHARED, policy_noise=0.0).target_q(batch)
    mixed = agent_of(SHARED, policy_noise=0.0, min_weight=0.75).target_q(batch)
    assert bool((mixed >= low).all())
    assert not torch.equal(mixed, low)


def test_the_policy_learns_every_second_update_and_targets_with_it() -> None:
    """policy_freq = 2: after an odd update only the critics and their encoder have moved."""
    agent, batch = agent_of(SEPARATE), batch_of(SEPARATE)
    before = weights(agent)
    agent.update(batch)
    assert changed(agent, before) == {"critic", "critic_encoder"}
    agent.update(batch)
    assert changed(agent, before) == {name for name, _ in agent._modules()}


def test_only_the_fault_scores_the_actor_on_features_that_it_may_shape() -> None:
    """q_features = "actor" hands Q the actor's own encoder with its gradient; "critic" hands it none."""
    batch = batch_of(SEPARATE)
    for choice, reachable in (("actor", True), ("critic", False)):
        policy_features, q_features = agent_of(SEPARATE, q_features=choice).actor_features(batch.observation)
        assert policy_features.requires_grad
        assert q_features.requires_grad is reachable
        assert (q_features is policy_features) is reachable


def test_the_actor_does_not_train_a_shared_encoder() -> None:
    """With one encoder the critics alone shape it: the policy's update leaves it as it was."""
    agent, batch = agent_of(SHARED), batch_of(SHARED)
    before = weights(agent)
    agent._update_actor(batch)
    assert changed(agent, before) == {"actor"}


def test_tau_is_the_share_that_enters_the_targets() -> None:
    """target <- (1 - tau) target + tau net."""
    agent = agent_of(SEPARATE, tau=0.25)
    old = {name: p.clone() for name, p in agent.critic_target.named_parameters()}
    with torch.no_grad():
        for parameter in agent.critic.parameters():
            parameter.add_(1.0)
    agent._update_targets()
    for name, target in agent.critic_target.named_parameters():
        assert torch.allclose(target, old[name] + 0.25, atol=1e-6)


def test_clipping_bounds_the_step_and_reports_the_norm_before() -> None:
    """Encoder and head are clipped together; the logged norms are those before clipping."""
    agent, batch = agent_of(SEPARATE, critic_clip=0.01), batch_of(SEPARATE)
    agent._update_critics(batch)
    grads = [
        p.grad for net in (agent.critic, agent.critic_encoder) for p in net.parameters() if p.grad is not None
    ]
    assert math.isclose(float(torch.nn.utils.get_total_norm(grads)), 0.01, rel_tol=1e-3)
    logged = math.hypot(*map(float, agent.gradient_norms()["critic"]))
    assert logged > 0.1


def test_norms_are_known_without_clipping_and_gone_after_a_load() -> None:
    """They are computed when they are asked for; a state that was taken over has had no update yet."""
    agent = agent_of(SEPARATE)
    agent.update(batch_of(SEPARATE))
    agent.update(batch_of(SEPARATE))
    clipped = agent_of(SEPARATE, critic_clip=1e6, actor_clip=1e6)
    clipped.update(batch_of(SEPARATE))
    clipped.update(batch_of(SEPARATE))
    assert set(agent.gradient_norms()) == {"actor", "critic"}
    for who, norms in agent.gradient_norms().items():
        torch.testing.assert_close(norms, clipped.gradient_norms()[who])
    agent.load_state_dict(clipped.state_dict())
    assert agent.gradient_norms() == {}


def test_a_clamped_q_gives_the_actor_no_gradient_beyond_the_limit() -> None:
    """The report's solution 1: all Q outside +-limit, and the actor stands still: silenced, not healed."""
    agent, batch = agent_of(SEPARATE, q_clamp=1e-6, q_features="actor"), batch_of(SEPARATE)
    agent._update_actor(batch)
    assert float(agent.gradient_norms()["actor"][1]) == 0.0


OTHER_VALUES = {
    "actor_clip": 1e-6,
    "actor_encoder_lr": 1e-2,
    "actor_lr": 1e-2,
    "critic_batch_norm": True,
    "critic_clip": 1e-6,
    "critic_encoder_lr": 1e-2,
    "critic_lr": 1e-2,
    "discount": 0.5,
    "min_weight": 0.75,
    "noise_clip": 0.01,
    "policy_freq": 1,
    "policy_noise": 0.0,
    "preactivation_penalty": 0.5,
    "q_clamp": 1e-6,
    "q_features": "actor",
    "tau": 0.5,
}


@pytest.mark.parametrize("name", sorted(set(LIVE) - {"skip_replay"}))  # that one is the replay's
def test_each_live_parameter_changes_what_is_learnt(name: str) -> None:
    """Nothing is declared to the guard that has no effect."""
    outcomes = []
    for changes in ({}, {name: OTHER_VALUES[name]}):
        agent = agent_of(SEPARATE)
        agent.apply(dataclasses.replace(agent.parameters, **changes))
        for seed in range(4):
            agent.update(batch_of(SEPARATE, seed=seed))
        outcomes.append(weights(agent))
    assert any(not torch.equal(outcomes[0][key], outcomes[1][key]) for key in outcomes[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_loaded_agent_goes_on_bit_for_bit(shape: Shape) -> None:
    """Networks, targets, both Adams and the parity of the policy's updates are all of the state."""
    agent = agent_of(shape)
    for seed in range(3):  # an odd number: the next update is the policy's
        agent.update(batch_of(shape, seed=seed))
    other = agent_of(shape)
    saved = copy.deepcopy(agent.state_dict())  # as a file would
    other.load_state_dict(saved)
    for each in (agent, other):
        torch.manual_seed(5)
        for seed in range(3, 7):
            each.update(batch_of(shape, seed=seed))
    now, then = weights(agent), weights(other)
    assert all(torch.equal(now[key], then[key]) for key in now)


def test_bfloat16_products_leave_float32_answers_near_the_exact_ones() -> None:
    """Rounding of 2^-8 a factor moves Q by a few percent; all that is kept or logged stays float32."""
    exact, rounded = (
        TD3(SEPARATE, agent_of(SEPARATE).parameters, torch.device("cpu"), bf16=bf16) for bf16 in (False, True)
    )
    rounded.load_state_dict(exact.state_dict())
    for agent in (exact, rounded):
        torch.manual_seed(0)
        agent.update(batch_of(SEPARATE))
        agent.update(batch_of(SEPARATE, seed=1))
    for name in ("q1", "target_q", "actor_q", "critic_loss"):
        assert rounded.seen[name].dtype == torch.float32
        torch.testing.assert_close(rounded.seen[name], exact.seen[name], rtol=0.1, atol=0.05)
    assert not torch.equal(rounded.seen["q1"], exact.seen["q1"])
    assert {value.dtype for value in weights(rounded).values()} == {torch.float32}


def test_fresh_weights_come_with_a_fresh_target_and_no_adam_moments() -> None:
    """Reinitialising the actor leaves the critics alone and forgets what its optimiser remembered."""
    agent = agent_of(SEPARATE)
    for seed in range(2):
        agent.update(batch_of(SEPARATE, seed=seed))
    before = weights(agent)
    agent.reinitialise("actor")
    agent.reinitialise("actor_encoder")
    assert changed(agent, before) == {"actor", "actor_target", "actor_encoder", "actor_encoder_target"}
    assert not agent.actor_optimizer.state
    assert all(
        torch.equal(a, b)
        for a, b in zip(agent.actor.parameters(), agent.actor_target.parameters(), strict=True)
    )


@pytest.mark.parametrize(("shape", "parts"), [(SEPARATE, 2), (SHARED, 1), (PLAIN, 1)])
def test_a_part_that_is_not_the_actors_own_cannot_be_reinitialised(shape: Shape, parts: int) -> None:
    """A shared encoder belongs to the critics; asking for it is refused by name."""
    agent = agent_of(shape)
    assert len(agent.reinitialisable) == parts
    with pytest.raises(ValueError, match="cannot reinitialise 'critic'"):
        agent.reinitialise("critic")
