"""Worlds that go wrong in their own process, to be made in a child: nothing heavy is imported here."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from trainer.driving.kinematic_world import KinematicWorld
from trainer.driving.world import Facts, SimulatorFaultError


class Fragile(KinematicWorld):
    """The embedded world, in which every step harms its own process, or a start goes wrong."""

    def __init__(self, harm: str = "", **more: Any) -> None:
        super().__init__(**more)
        self._harm = harm
        if harm == "never starts":
            time.sleep(3600)
        if harm == "not there":
            raise SimulatorFaultError("nothing listens there")
        if harm == "no such town":
            raise ValueError("there is no town 'Atlantis'")

    def step(self, steer: float, throttle: float) -> Facts:
        if self._harm == "hang":
            time.sleep(3600)
        if self._harm == "abort":
            os.abort()
        if self._harm == "fault":
            raise SimulatorFaultError("the tick timed out")
        if self._harm == "bug":
            raise KeyError("speed")
        return super().step(steer, throttle)


class Opaque(Fragile):
    """The embedded world as a simulator: its state is not told, and it aborts in its `dies_at`-th step."""

    def __init__(self, dies_at: int = 0, **more: Any) -> None:
        super().__init__(**more)
        self._left = dies_at

    def step(self, steer: float, throttle: float) -> Facts:
        self._left -= 1
        if self._left == 0:
            os.abort()
        return super().step(steer, throttle)

    def state_dict(self) -> Any:
        return None


def names_of_modules() -> None:
    """Refuse to be made, and say which modules are loaded here."""
    raise ValueError(f"modules: {' '.join(sys.modules)}")
