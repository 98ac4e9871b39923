"""Other cars: each keeps to the middle of its lane and follows the one ahead.

The one fact to hold: a car is an arc length, a speed and a wish, and after `place` nothing is drawn at
random; traffic is as repeatable as the ego car. Odd cars drive in the ego's lane, even ones come towards it
in the lane to the left. Those behind the ego car follow it too, so an agent is never run into from behind
for driving slowly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.driving.lanes import Floats, Lane

CAR_LENGTH, CAR_WIDTH = 4.5, 1.8
ONCOMING_LATERAL = -3.5
"""m from the ego lane's centre to that of the oncoming lane."""

ROOM = 12.0
"""m of lane that a car needs when traffic is placed; more cars than fit are left out."""
CLEAR = 25.0
"""m before and behind the ego car that are left free when an episode begins."""

MAX_ACCELERATION, COMFORTABLE_BRAKING, STANDSTILL_GAP, HEADWAY = 1.5, 2.5, 2.0, 1.2
HARD_BRAKING = 8.0
"""Intelligent driver model: m/s^2, m/s^2, m, s; and the most its braking term may ask for, m/s^2.

Source: Treiber, Hennecke and Helbing 2000, "Congested traffic states in empirical observations and
microscopic simulations", Phys. Rev. E 62, equation 3, exponent 4.
"""


class Traffic:
    """All cars but the ego's.

    Args:
        lane: the ego's lane; the oncoming one lies beside it.
        count: how many cars are wished for.

    Raises:
        ValueError: `count` is negative.
    """

    def __init__(self, lane: Lane, count: int) -> None:
        if count < 0:
            raise ValueError(f"the number of other cars cannot be negative, got {count}")
        self._lane = lane
        self._wished = count
        self._oncoming = np.zeros(0, np.bool_)
        self._arc_length = self._speed = self._wish = np.zeros(0)
        self._cars: Floats | None = None

    def __len__(self) -> int:
        return len(self._arc_length)

    def place(self, random: np.random.Generator, ego: float) -> None:
        """Put the cars on the road, none within CLEAR m of the ego car's arc length."""
        slots = int((self._lane.length - 2 * CLEAR) / ROOM)
        same = random.permutation(slots)[: (self._wished + 1) // 2]
        oncoming = random.permutation(slots)[: self._wished // 2]
        slot = np.concatenate((same, oncoming))
        self._oncoming = np.arange(len(slot)) >= len(same)
        place = CLEAR + (slot + 0.5) * ROOM + random.uniform(-2.0, 2.0, len(slot))
        self._arc_length = np.mod(ego + place, self._lane.length)
        self._wish = random.uniform(5.0, 7.0, len(slot))
        self._speed = self._wish.copy()
        self._cars = None

    def drive(self, dt: float, ego: float, ego_lateral: float, ego_speed: float) -> None:
        """Drive on for `dt` s; the ego car is at arc length `ego`, `ego_lateral` m off its lane, at `ego_speed` m/s."""
        if not len(self):
            return
        length = self._lane.length
        # The ego car is one more in its lane, unless it has left it.
        ego_counts = abs(ego_lateral) < 0.5 * abs(ONCOMING_LATERAL)
        for oncoming in (False, True):
            who = np.flatnonzero(self._oncoming == oncoming)
            if not len(who):
                continue
            place, speed = self._arc_length[who], self._speed[who]
            if not oncoming and ego_counts:
                place, speed = np.append(place, ego), np.append(speed, ego_speed)
            order = np.argsort(-place if oncoming else place, kind="stable")
            ahead = np.empty_like(order)
            ahead[order] = np.roll(order, -1)
            way = place[ahead] - place
            gap = np.mod(-way if oncoming else way, length)
            gap = np.where(ahead == np.arange(len(place)), length, gap) - CAR_LENGTH
            push = _follow(speed, gap, speed - speed[ahead], np.append(self._wish[who], 1.0)[: len(place)])
            faster = np.maximum(speed + push * dt, 0.0)[: len(who)]
            self._speed[who] = faster
            self._arc_length[who] = np.mod(place[: len(who)] + (-faster if oncoming else faster) * dt, length)
        self._cars = None

    def cars(self) -> Floats:
        """Return x, y, heading, length, width of each car: float64 [n, 5], m and rad."""
        if self._cars is None:
            pose = self._lane.poses(self._arc_length)
            lateral = np.where(self._oncoming, ONCOMING_LATERAL, 0.0)
            cars = np.empty((len(self), 5))
            cars[:, 0] = pose[:, 0] - lateral * np.sin(pose[:, 2])
            cars[:, 1] = pose[:, 1] + lateral * np.cos(pose[:, 2])
            cars[:, 2] = pose[:, 2] + np.where(self._oncoming, math.pi, 0.0)
            cars[:, 3:] = CAR_LENGTH, CAR_WIDTH
            self._cars = cars
        return self._cars

    def touches(self, x: float, y: float, heading: float) -> bool:
        """Return whether a car of the common size at (x, y, heading) overlaps any other."""
        if not len(self):
            return False
        cars = self.cars()
        near = np.hypot(cars[:, 0] - x, cars[:, 1] - y) < math.hypot(CAR_LENGTH, CAR_WIDTH)
        ego = np.array((x, y, heading, CAR_LENGTH, CAR_WIDTH))
        return any(boxes_overlap(ego, car) for car in cars[near])

    def state_dict(self) -> dict[str, Any]:
        """Return every car, as JSON types."""
        return {
            "oncoming": self._oncoming.tolist(),
            "arc_length": self._arc_length.tolist(),
            "speed": self._speed.tolist(),
            "wish": self._wish.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the cars of a `state_dict`."""
        self._oncoming = np.array(state["oncoming"], np.bool_)
        self._arc_length = np.array(state["arc_length"], np.float64)
        self._speed = np.array(state["speed"], np.float64)
        self._wish = np.array(state["wish"], np.float64)
        self._cars = None


def _follow(speed: Floats, gap: Floats, closing: Floats, wish: Floats) -> Floats:
    """Return accelerations (m/s^2) for speeds, gaps bumper to bumper (m), closing and wished speeds (m/s), each [n]."""
    room = (
        STANDSTILL_GAP
        + speed * HEADWAY
        + speed * closing / (2 * math.sqrt(MAX_ACCELERATION * COMFORTABLE_BRAKING))
    )
    crowding = (np.maximum(room, 0.0) / np.maximum(gap, 0.1)) ** 2
    return np.maximum(MAX_ACCELERATION * (1.0 - (speed / wish) ** 4 - crowding), -HARD_BRAKING)


def boxes_overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Return whether two boxes overlap; each is x, y, heading, length, width in m and rad.

    Source: separating axis theorem; two convex shapes are apart exactly if a side of one of them separates
    them.
    """
    dx, dy = float(b[0] - a[0]), float(b[1] - a[1])
    turned = float(b[2] - a[2])
    cos, sin = abs(math.cos(turned)), abs(math.sin(turned))
    for (heading, mine), other in (((a[2], a), b), ((b[2], b), a)):
        forward = abs(dx * math.cos(heading) + dy * math.sin(heading))
        sideways = abs(dy * math.cos(heading) - dx * math.sin(heading))
        if forward > 0.5 * (mine[3] + other[3] * cos + other[4] * sin):
            return False
        if sideways > 0.5 * (mine[4] + other[3] * sin + other[4] * cos):
            return False
    return True
