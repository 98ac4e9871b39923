"""Roads 0 to 2 are what they were when the figures of docs/ were measured on them."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.driving.env import make_env
from trainer.driving.kinematic_world import KinematicWorld

RECORDED = {
    0: (113.42286779843437, 11.814100250601768, 320.0795674803148, 3825.8083186209615),
    1: (76.85226745646517, 11.86361038684845, 288.62330799498494, 8744.482958228582),
    2: (71.90705153305389, 13.17008051276207, 922.7458089838149, 25950.159375623094),
}
"""By road, of 60 steps with its usual cars, recorded before there was a road 3: the rewards, the mean grey of
the newest frames, the ego car's place and the sum of the others' places."""


@pytest.mark.parametrize("scenario", RECORDED)
def test_an_episode_is_what_it_was(scenario: int) -> None:
    """Motion, traffic, reward and picture have not moved since, but for the last bits of another processor's
    sine: checkpoints, recorded runs and the seeds of docs/incident.md depend on them."""
    env = make_env("both", scenario=scenario, npcs=None, image_size=48)
    env.reset(seed=scenario)
    total = grey = 0.0
    for action in np.random.default_rng(scenario).uniform(-0.3, 0.6, (60, 2)).astype(np.float32):
        seen, reward, terminated, truncated, info = env.step(action)
        assert isinstance(seen, dict)
        total, grey = total + reward, grey + float(seen["image"].mean())
        if terminated or truncated:
            _, info = env.reset()
    world = env.world
    assert isinstance(world, KinematicWorld)
    places = float(world.cars()[:, :2].sum())
    rewards, mean, place, others = RECORDED[scenario]
    assert (total, info["arc_length"], places) == pytest.approx((rewards, place, others), rel=1e-9)
    assert grey == pytest.approx(mean, rel=1e-3)  # a pixel on an edge may go either way
