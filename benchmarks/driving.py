"""How many steps a second the driving environment makes on one core, and what a frame costs.

The one fact to hold: CPU time of this process is measured, not the wall, so a busy machine changes it little.
Exits 1 when a figure is below its goal: 5,000 state steps and 1,500 camera steps a second.

    python -m benchmarks.driving
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np

from trainer.driving.env import Observe, make_env

STEPS = 4000


@dataclass(frozen=True)
class Case:
    """One line of the table: a road, what is seen on it, other cars; `goal` in steps a second."""

    observation: Observe
    npcs: int
    image_size: int
    goal: int
    scenario: int = 0

    @property
    def name(self) -> str:
        """What the table calls it."""
        seen = (
            "state" if self.observation == "state" else f"{self.image_size}x{self.image_size} frames + state"
        )
        return f"road {self.scenario}, {seen}, {self.npcs} cars"


CASES = (
    Case("state", 0, 84, 5000),
    Case("state", 20, 84, 5000),
    Case("both", 0, 48, 1500),
    Case("both", 0, 84, 1500),
    Case("both", 20, 84, 1500),
    Case("state", 40, 84, 5000, scenario=3),
    Case("both", 40, 84, 1500, scenario=3),
)


def steps_per_second(case: Case) -> float:
    """Drive STEPS steps at random, resets included, and return steps a second of CPU time."""
    env = make_env(case.observation, scenario=case.scenario, npcs=case.npcs, image_size=case.image_size)
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, 2)).astype(np.float32)
    env.reset(seed=0)
    start = time.process_time()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return STEPS / (time.process_time() - start)


def main() -> int:
    """Print the table."""
    missed = False
    for case in CASES:
        speed = max(steps_per_second(case) for _ in range(3))
        missed |= speed < case.goal
        verdict = "" if speed >= case.goal else "   BELOW THE GOAL"
        print(f"{case.name:42} {speed:9,.0f} steps/s   goal {case.goal:,}{verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
