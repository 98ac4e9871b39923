"""Other cars: each keeps to the middle of its lane and follows the one ahead.

The one fact to hold: a car is a place, a speed and a wish, and after `place` nothing is drawn at random;
traffic is as repeatable as the ego car. One half drives in the ego's lane, the other comes towards it in
the lane to the left. Traffic wishes to be a little faster than the ego car can be: one that drives well
catches up with nobody, one that dawdles is followed and never run into from behind, and one that strays to
the left meets the oncoming. So the task can also be learnt from a state vector in which no other car
appears. Where the road crosses itself they obey lights (junction.py), and one that waits there can be
caught up with.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.driving.junction import FREE, Cars, Lights, middles
from trainer.driving.lanes import Floats, Lane

CAR_LENGTH, CAR_WIDTH = 4.5, 1.8
ONCOMING_LATERAL = -3.5
"""m from the ego lane's centre to that of the oncoming lane."""

ROOM = 12.0
"""m of lane that a car needs when traffic is placed; more cars than fit are left out."""
CLEAR = 25.0
"""m before and behind the ego car that are left free when an episode begins."""
WISHED_SPEED = (9.5, 11.0)
"""m/s, drawn for each car."""

MAX_ACCELERATION, COMFORTABLE_BRAKING, STANDSTILL_GAP, HEADWAY = 1.5, 2.5, 2.0, 1.2
HARD_BRAKING = 8.0
"""Intelligent driver model: m/s^2, m/s^2, m, s; and the most that it may brake, m/s^2.

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
        # Places are counted in each car's own direction, so that "ahead" means "greater" in both lanes.
        self._place = self._speed = self._wish = np.zeros(0)
        self._leader = np.zeros(0, np.int64)
        self._cars: Floats | None = None
        self._middles = [middles(crossing, 0.5 * ONCOMING_LATERAL) for crossing in lane.crossings]
        self.lights = [Lights() for _ in lane.crossings]

    def __len__(self) -> int:
        return len(self._place)

    def place(self, random: np.random.Generator, ego: float) -> None:
        """Put the cars on the road, none within CLEAR m of the ego car's arc length."""
        slots = self._slots(ego)
        same = random.permutation(slots)[: (self._wished + 1) // 2]
        oncoming = random.permutation(slots)[: self._wished // 2]
        slot = np.concatenate((same, oncoming))
        self._oncoming = np.arange(len(slot)) >= len(same)
        arc_length = ego + CLEAR + (slot + 0.5) * ROOM + random.uniform(-2.0, 2.0, len(slot))
        self._place = np.mod(np.where(self._oncoming, -arc_length, arc_length), self._lane.length)
        self._wish = random.uniform(*WISHED_SPEED, len(slot))
        self._speed = self._wish.copy()
        self._leader = _leaders(self._place, self._oncoming)
        self._cars = None
        for lights in self.lights:
            lights.begin(random)

    def _slots(self, ego: float) -> NDArray[np.int64]:
        """Return the numbers of the places of ROOM m, counted from the ego car on, that may hold a car."""
        slots = np.arange(int((self._lane.length - 2 * CLEAR) / ROOM))
        middle = ego + CLEAR + (slots.astype(np.float64) + 0.5) * ROOM
        free = np.ones(len(slots), np.bool_)
        for crossing in self._middles:
            for place in crossing:
                free &= np.abs(_shorter(place - middle, self._lane.length)) > FREE
        return slots[free]

    def drive(self, dt: float, ego: float, ego_lateral: float, ego_speed: float) -> None:
        """Drive on for `dt` s. The ego car is at arc length `ego`, `ego_lateral` m aside, at `ego_speed`."""
        if not len(self):
            return
        length, speed = self._lane.length, self._speed
        # Counted backwards, so that the only car of a lane is a lap behind itself, not at its own bumper.
        gap = length - np.mod(self._place - self._place[self._leader], length)
        leading = speed[self._leader]
        if abs(ego_lateral) < 0.5 * abs(ONCOMING_LATERAL):
            to_ego = length - np.mod(self._place - ego, length)
            behind_ego = ~self._oncoming & (to_ego < gap)
            gap = np.where(behind_ego, to_ego, gap)
            leading = np.where(behind_ego, ego_speed, leading)
        for lights, crossing in zip(self.lights, self._middles, strict=True):
            waits, to_line = lights.held(dt, self._at(crossing), self._ego_at(crossing, ego))
            # A car that follows stops STANDSTILL_GAP short of what is before it; at a line, half as far.
            line = to_line + 0.5 * STANDSTILL_GAP + CAR_LENGTH
            waits &= line < gap
            gap, leading = np.where(waits, line, gap), np.where(waits, 0.0, leading)
        push = follow(speed, gap - CAR_LENGTH, speed - leading, self._wish)
        self._speed = np.maximum(speed + push * dt, 0.0)
        self._place = np.mod(self._place + self._speed * dt, length)
        self._cars = None

    def _at(self, crossing: tuple[float, float]) -> Cars:
        # Places are counted in each car's own direction; so are those of the crossing.
        places: Floats = np.where(self._oncoming, -1.0, 1.0) * np.array(crossing)[:, None]
        ahead = _shorter(places - self._place, self._lane.length)
        return Cars(ahead, self._speed, 0.5 * CAR_LENGTH)

    def _ego_at(self, crossing: tuple[float, float], ego: float) -> tuple[float, float]:
        first, second = (self._lane.ahead(ego, place) for place in crossing)
        return first, second

    def cars(self) -> Floats:
        """Return x, y, heading, length, width of each car: float64 [n, 5], m and rad."""
        if self._cars is None:
            pose = self._lane.poses(np.where(self._oncoming, -self._place, self._place))
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
        reach = CAR_LENGTH**2 + CAR_WIDTH**2
        near = np.flatnonzero((cars[:, 0] - x) ** 2 + (cars[:, 1] - y) ** 2 < reach)
        if not len(near):
            return False
        ego = np.array((x, y, heading, CAR_LENGTH, CAR_WIDTH))
        return any(boxes_overlap(ego, car) for car in cars[near])

    def state_dict(self) -> dict[str, Any]:
        """Return every car, and the lights of a road that has some, as JSON types."""
        state: dict[str, Any] = {
            "oncoming": self._oncoming.tolist(),
            "place": self._place.tolist(),
            "speed": self._speed.tolist(),
            "wish": self._wish.tolist(),
        }
        if self.lights:
            state["lights"] = [lights.state_dict() for lights in self.lights]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the cars of a `state_dict`."""
        self._oncoming = np.array(state["oncoming"], np.bool_)
        self._place = np.array(state["place"], np.float64)
        self._speed = np.array(state["speed"], np.float64)
        self._wish = np.array(state["wish"], np.float64)
        self._leader = _leaders(self._place, self._oncoming)
        self._cars = None
        for lights, saved in zip(self.lights, state.get("lights", ()), strict=True):
            lights.load_state_dict(saved)


def _shorter(way: Floats, lap: float) -> Floats:
    """Return ways along a closed lane, m, taken the shorter way round: negative is back."""
    shorter: Floats = np.mod(way + 0.5 * lap, lap) - 0.5 * lap
    return shorter


def _leaders(place: Floats, oncoming: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for each car the index of the one ahead in its lane. Nobody overtakes, so it stays so."""
    leader = np.arange(len(place))
    for lane in (False, True):
        who = np.flatnonzero(oncoming == lane)
        order = who[np.argsort(place[who], kind="stable")]
        leader[order] = np.roll(order, -1)
    return leader


def follow(speed: Floats, gap: Floats, closing: Floats, wish: Floats) -> Floats:
    """Return accelerations for speeds, gaps between bumpers, closing and wished speeds; all [n], SI."""
    braking = 2.0 * math.sqrt(MAX_ACCELERATION * COMFORTABLE_BRAKING)
    room = STANDSTILL_GAP + speed * HEADWAY + speed * closing / braking
    crowding = (np.maximum(room, 0.0) / np.maximum(gap, 0.1)) ** 2
    push: Floats = np.maximum(MAX_ACCELERATION * (1.0 - (speed / wish) ** 4 - crowding), -HARD_BRAKING)
    return push


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
