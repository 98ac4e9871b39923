"""The reward: each term pays for what its name says, and for nothing else."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.driving.reward import COLLISION, LANE_INVASION, OFF_ROAD, TARGET_SPEED, Reward, reward
from trainer.driving.world import Facts

WELL = Facts(
    x=0.0,
    y=0.0,
    heading=0.0,
    speed=TARGET_SPEED,
    arc_length=10.0,
    lateral=0.0,
    heading_error=0.0,
    advance=0.8,
    acceleration=0.0,
    lateral_acceleration=0.0,
    collision=False,
    lane_invasion=False,
    waypoints=np.zeros((25, 2)),
)


def earned(steering_change: float = 0.0, *, off_road: bool = False, **facts: object) -> Reward:
    """The reward of driving well, but for `facts`."""
    return reward(replace(WELL, **facts), steering_change=steering_change, off_road=off_road)  # type: ignore[arg-type]  # the tests name real fields


def test_driving_well_earns_about_three() -> None:
    """At the target speed in the middle of the lane, and only progress and efficiency pay."""
    well = earned()
    assert well.total == pytest.approx(3.4)
    assert (well.safety, well.lane_keeping, well.comfort) == (0.0, 0.0, 0.0)


def test_speeding_does_not_pay() -> None:
    """A step at 9 m/s earns less than one at 8: the way is capped, and efficiency falls."""
    assert earned(speed=9.0, advance=0.9).total < earned().total


def test_standing_costs() -> None:
    """No way and no speed is worse than nothing."""
    assert earned(speed=0.0, advance=0.0).total == pytest.approx(-1.0)


def test_driving_back_is_paid_back() -> None:
    """Way made against the lane is negative progress."""
    assert earned(advance=-0.5).progress == -earned(advance=0.5).progress


def test_accidents_are_safety() -> None:
    """Collision, leaving the road and an invasion cost what their names say, in the safety term alone."""
    assert earned(collision=True).safety == COLLISION
    assert earned(off_road=True).safety == OFF_ROAD
    assert earned(lane_invasion=True).safety == LANE_INVASION
    assert earned(collision=True, lane_invasion=True).total == pytest.approx(3.4 + COLLISION + LANE_INVASION)


@given(
    lateral=st.floats(-2.5, 2.5),
    heading=st.floats(-3.1, 3.1),
    speed=st.floats(0, 12),
    advance=st.floats(-1.2, 1.2),
    sideways=st.floats(-1e3, 1e3),
    change=st.floats(-2, 2),
)
def test_nothing_beats_driving_well(
    *, lateral: float, heading: float, speed: float, advance: float, sideways: float, change: float
) -> None:
    """Nothing earns more, so a Q above 3.4 / (1 - gamma) is impossible; left is as good as right."""
    facts = replace(WELL, speed=speed, advance=advance)
    right = replace(facts, lateral=lateral, heading_error=heading, lateral_acceleration=sideways)
    left = replace(facts, lateral=-lateral, heading_error=-heading, lateral_acceleration=-sideways)
    a = reward(right, steering_change=change, off_road=False)
    b = reward(left, steering_change=-change, off_road=False)
    assert a == b
    assert -12.0 < a.total <= earned().total + 1e-9


def test_the_terms_are_all_there_is() -> None:
    """Every field has its name among the terms, and together they are the reward."""
    judged = earned(lane_invasion=True)
    assert judged.terms() == asdict(judged)
    assert sum(judged.terms().values()) == pytest.approx(judged.total)
