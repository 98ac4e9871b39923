"""The reward: five named terms, each a pure function of one step's facts.

The one fact to hold: a car that drives well earns about 3 a step, all of it from progress and efficiency;
the other terms only take away. So a discounted value cannot pass 3 / (1 - gamma), which is what makes a Q
far above that an impossible number. The terms are the incident report's (progress, safety, lane keeping,
efficiency, comfort), at about its proportions.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.driving.world import Facts

TARGET_SPEED = 8.0
"""m/s. Town traffic; 0.8 m a step of 0.1 s."""

PROGRESS_PER_METRE = 3.0
PROGRESS_CAP = 0.8
"""m a step: the target speed's own way, so that speeding is not the cheapest way to a high return."""
EFFICIENCY = 1.0
LANE_KEEPING_LATERAL = 0.5
"""Per (m of offset)^2."""
LANE_KEEPING_HEADING = 2.0
"""Per rad of heading error."""
COMFORT_LATERAL = 0.01
"""Per (m/s^2)^2 of lateral acceleration."""
COMFORT_STEERING = 0.05
"""Per unit of change of the steering command, which spans [-1, 1]."""
COLLISION = -5.0
OFF_ROAD = -3.0
LANE_INVASION = -0.5
"""Each is paid once, in the step in which it happens."""


@dataclass(frozen=True, slots=True)
class Reward:
    """What one step earned, by term. Dimensionless; the sum is the reward."""

    progress: float
    safety: float
    lane_keeping: float
    efficiency: float
    comfort: float

    @property
    def total(self) -> float:
        """The reward of the step."""
        return self.progress + self.safety + self.lane_keeping + self.efficiency + self.comfort

    def terms(self) -> dict[str, float]:
        """Each term by name. Written out: dataclasses.asdict is a tenth of a step's time."""
        return {
            "progress": self.progress,
            "safety": self.safety,
            "lane_keeping": self.lane_keeping,
            "efficiency": self.efficiency,
            "comfort": self.comfort,
        }


def reward(facts: Facts, *, steering_change: float, off_road: bool) -> Reward:
    """Judge one step.

    Args:
        facts: the world after the step.
        steering_change: this step's steering command less the last one's, in [-2, 2].
        off_road: the step ended the episode by leaving the road.
    """
    safety = COLLISION * facts.collision + OFF_ROAD * off_road + LANE_INVASION * facts.lane_invasion
    return Reward(
        progress=PROGRESS_PER_METRE * min(facts.advance, PROGRESS_CAP),
        safety=safety,
        lane_keeping=-LANE_KEEPING_LATERAL * facts.lateral**2
        - LANE_KEEPING_HEADING * abs(facts.heading_error),
        efficiency=EFFICIENCY * (1.0 - 2.0 * min(abs(facts.speed - TARGET_SPEED) / TARGET_SPEED, 1.0)),
        comfort=-COMFORT_LATERAL * min(facts.lateral_acceleration**2, 100.0)
        - COMFORT_STEERING * abs(steering_change),
    )
