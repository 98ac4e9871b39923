"""Sensor messages and the ticks that they belong to."""

from __future__ import annotations

import threading

import pytest

from trainer.driving.arrivals import Arrivals, Events
from trainer.driving.world import SimulatorFaultError


def test_the_value_of_the_frame_is_taken_and_older_ones_thrown_away() -> None:
    """What an earlier frame saw is never taken for the present."""
    images = Arrivals("image")
    for frame in (3, 4, 5):
        images.put(frame, f"seen at {frame}")
    assert images.take(5, 0.0) == "seen at 5"
    assert images.late == 0


def test_a_late_value_is_waited_for_and_counted() -> None:
    """It comes on a thread of the sensor's, after its tick was answered."""
    images = Arrivals("image")
    images.put(6, "old")
    later = threading.Timer(0.05, images.put, (7, "seen"))
    later.start()
    assert images.take(7, 5.0) == "seen"
    later.join()
    assert images.late == 1


def test_a_value_that_does_not_come_or_is_lost_is_a_fault() -> None:
    """Nothing within the time, or a later frame's instead."""
    images = Arrivals("image")
    with pytest.raises(SimulatorFaultError, match="no image of frame 7 within 0 s"):
        images.take(7, 0.0)
    images.put(9, "later")
    with pytest.raises(SimulatorFaultError, match="of frame 8 is lost; that of 9 came"):
        images.take(8, 1.0)


def test_an_event_counts_once_and_only_in_its_own_episode() -> None:
    """A collision of before the reset is not the new episode's, however late it comes."""
    collisions = Events()
    collisions.put(9)
    collisions.put(10)
    assert not collisions.since(10)
    collisions.put(8)
    collisions.put(12)
    assert collisions.since(10)
    assert not collisions.since(10)
