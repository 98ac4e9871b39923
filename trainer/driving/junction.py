"""The crossing of a road with itself: where cars wait, and for whom the lights are green.

The one fact to hold: the lights are green for the ego car. It cannot stand, so a red light would only be a
collision; from CLAIM m before the crossing until it has left it, its own road is the one that may pass, as
before an ambulance. All others obey: who can stop before a closed crossing does, who cannot drives on, and
the crossing road waits until the last of those is out. Only the start of an episode is drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.driving.lanes import Crossing, Floats

BOX = 4.5
"""m from the middle of the crossing to where the crossing road's cars are out of reach."""
STOP_LINE = 6.0
"""m from the middle of the crossing to the line at which cars wait."""
GREEN = 10.0
"""s for which each road may pass in turn."""
CLAIM = 120.0
"""m before the crossing at which the ego car's road gets its green: a queue there has mostly gone by then."""
SIGHT = 100.0
"""m from the line at which a closed crossing is seen."""
FIRM_BRAKING = 4.0
"""m/s^2: who would have to brake harder than this to stop at the line drives on."""
FREE = 32.0
"""m before and behind the crossing in which no car stands when an episode begins: each can still stop."""


def middles(crossing: Crossing, road_middle: float) -> tuple[float, float]:
    """Return at which arc lengths the two passes meet the middle of the crossing, m.

    Args:
        crossing: where the lane's centre crosses itself.
        road_middle: lateral offset from the lane's centre to the middle of its road, m.
    """
    first, second = crossing.places
    return first - crossing.turn * road_middle, second + crossing.turn * road_middle


@dataclass(frozen=True, slots=True)
class Cars:
    """All cars as a crossing sees them.

    Attributes:
        ahead: way to the middle of the crossing on each of the two roads, negative beyond it: float64
        [2, n], m. speed: float64 [n], m/s. half: half a car's length, m.
    """

    ahead: Floats
    speed: Floats
    half: float


class Lights:
    """The lights of one crossing.

    Attributes:
        road: the one that may pass, 0 or 1: of the lane's first or second pass.
        since: for how long, s.
        open: which roads may pass now; none while the last cars of the other one leave.
    """

    def __init__(self) -> None:
        self.road = 0
        self.since = 0.0
        self.open = (True, False)

    def begin(self, random: np.random.Generator) -> None:
        """Begin an episode somewhere in the cycle."""
        self.road = int(random.integers(2))
        self.since = float(random.uniform(0.0, GREEN))
        self.open = (self.road == 0, self.road == 1)

    def held(self, dt: float, cars: Cars, ego: tuple[float, float]) -> tuple[NDArray[np.bool_], Floats]:
        """Let `dt` s pass and tell the cars.

        Args:
            dt: s. cars: the others. ego: way to the middle of the crossing on each road for the ego car, m.

        Returns:
            Which cars must wait, bool [n], and how far their front is from the line, float64 [n], m.
        """
        self._change(dt, ego, cars.half)
        to_line = cars.ahead - STOP_LINE - cars.half
        coming = to_line >= cars.speed**2 / (2.0 * FIRM_BRAKING)
        inside = ~coming & (cars.ahead > -BOX - cars.half)
        busy_first, busy_second = (bool(road.any()) for road in inside)
        self.open = (self.road == 0 and not busy_second, self.road == 1 and not busy_first)
        waits = coming & (to_line < SIGHT) & ~np.array(self.open)[:, None]
        return np.any(waits, axis=0), np.min(np.where(waits, to_line, np.inf), axis=0)

    def _change(self, dt: float, ego: tuple[float, float], half: float) -> None:
        self.since += dt
        wanted = 1 - self.road if self.since >= GREEN else self.road
        for road, ahead in enumerate(ego):
            if -BOX - half < ahead <= CLAIM:
                wanted = road
        if wanted != self.road:
            self.road, self.since = wanted, 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return what decides their future, as JSON types."""
        return {"road": self.road, "since": self.since, "open": list(self.open)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the lights that `state_dict` was taken from."""
        self.road, self.since = state["road"], state["since"]
        self.open = (state["open"][0], state["open"][1])
