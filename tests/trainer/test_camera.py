"""The camera: things are where a pinhole camera sees them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.driving.camera import (
    ASPHALT,
    CAR_REAR,
    CAR_WINDOW,
    GRASS,
    MARKING,
    MOUNT_FORWARD,
    MOUNT_HEIGHT,
    SKY_HORIZON,
    Camera,
    paint_road,
)
from trainer.driving.kinematic_world import LANE_WIDTH, KinematicWorld
from trainer.driving.lanes import Lane

NO_CARS = np.zeros((0, 5))


@pytest.fixture(scope="module")
def square() -> Lane:
    """A square of 200 m with right-hand bends; its first side runs along x."""
    return Lane(((0, 0), (200, 0), (200, 200), (0, 200)), 20)


@pytest.fixture(scope="module", params=[48, 84])
def camera(request: pytest.FixtureRequest, square: Lane) -> Camera:
    """A camera over that road, in the two sizes that training uses."""
    return Camera(paint_road(square, LANE_WIDTH), request.param, request.param)


def pixel(camera: Camera, ahead: float, right: float) -> tuple[int, int]:
    """Row and column at which a pinhole camera sees a place on the ground, m from the car's centre."""
    depth = ahead - MOUNT_FORWARD
    half = 0.5 * camera.width
    return int(half + half * MOUNT_HEIGHT / depth), int(half + half * right / depth)


def test_the_frame_has_sky_above_and_road_below(camera: Camera) -> None:
    """From the middle of the lane: sky above, asphalt before the bonnet, grass at the far right."""
    frame = camera.frame(60.0, 0.0, 0.0, NO_CARS)
    assert frame.shape == (camera.height, camera.width)
    assert frame.dtype == np.uint8
    assert frame[: camera.height // 2].min() >= SKY_HORIZON
    assert frame[-1, camera.width // 2] == ASPHALT
    assert frame[pixel(camera, 10.0, 7.0)] == GRASS


def test_the_right_hand_line_is_where_optics_say(camera: Camera) -> None:
    """The solid line at half a lane's width to the right meets each near row at the pinhole's column."""
    for lateral in (-1.0, 0.0, 1.0):
        frame = camera.frame(60.0, lateral, 0.0, NO_CARS)
        for ahead in (4.5, 5.0, 6.0):
            row, column = pixel(camera, ahead, LANE_WIDTH / 2 - lateral)
            if column < camera.width - 1:
                assert frame[row, column - 1 : column + 2].max() == MARKING


def test_turning_right_moves_the_world_left(camera: Camera) -> None:
    """A car that points to the right sees its right-hand line further left."""
    row = pixel(camera, 6.0, 0.0)[0]

    def line(heading: float) -> float:
        bright = np.flatnonzero(camera.frame(60.0, 0.0, heading, NO_CARS)[row] > 200)
        return float(bright[bright > camera.width // 4].mean())

    assert line(0.15) < line(0.0) - 2


def test_a_picture_does_not_depend_on_where_the_road_lies() -> None:
    """Same lane, same place in it, elsewhere and turned: nearly the same picture."""
    frames = []
    for turn, dx in ((0.0, 0.0), (0.7, 300.0)):
        cos, sin = math.cos(turn), math.sin(turn)
        corners = [(0, 0), (200, 0), (200, 200), (0, 200)]
        lane = Lane([(dx + x * cos - y * sin, x * sin + y * cos) for x, y in corners], 20)
        x, y, heading = lane.poses(np.array([60.0]))[0]
        frames.append(Camera(paint_road(lane, LANE_WIDTH), 84, 84).frame(x, y, heading, NO_CARS).astype(int))
    assert np.abs(frames[0] - frames[1]).mean() < 6


def test_a_car_ahead_is_seen_and_grows(camera: Camera) -> None:
    """The rear of a car ahead covers what its size and distance say, and more when it is nearer."""
    shares = []
    empty = camera.frame(60.0, 0.0, 0.0, NO_CARS)
    for ahead in (25.0, 15.0, 8.0):
        frame = camera.frame(60.0, 0.0, 0.0, np.array([[60.0 + ahead, 0.0, 0.0, 4.5, 1.8]]))
        shares.append(int((frame != empty).sum()))
        row, column = pixel(camera, ahead - 2.25, 0.0)
        assert set(np.unique(frame[row - 2 : row + 1, column])) & {CAR_REAR, CAR_WINDOW}
    assert shares == sorted(shares)
    assert shares[-1] > 4 * shares[0]


def test_cars_behind_and_far_away_are_not_drawn(camera: Camera) -> None:
    """A car behind the camera does not appear upside down before it."""
    empty = camera.frame(60.0, 0.0, 0.0, NO_CARS)
    cars = np.array([[50.0, 0.0, 0.0, 4.5, 1.8], [160.0, 0.0, 0.0, 4.5, 1.8], [61.0, 3.5, 0.0, 4.5, 1.8]])
    assert np.array_equal(camera.frame(60.0, 0.0, 0.0, cars), empty)


def test_a_near_car_hides_a_far_one(camera: Camera) -> None:
    """Cars are painted far to near, whatever their order."""
    cars = np.array([[69.0, 0.0, 0.0, 4.5, 1.8], [85.0, 0.4, 0.0, 4.5, 1.8]])
    there = camera.frame(60.0, 0.0, 0.0, cars)
    assert np.array_equal(there, camera.frame(60.0, 0.0, 0.0, cars[::-1]))


@pytest.mark.parametrize(("x", "y"), [(-500.0, 0.0), (1e4, 1e4), (100.0, -200.0)])
def test_a_camera_off_the_map_sees_grass(camera: Camera, x: float, y: float) -> None:
    """Beyond the map there is no crash and no road."""
    frame = camera.frame(x, y, 1.0, NO_CARS)
    assert np.all(frame[camera.height // 2 + 1 :] == GRASS)


def test_one_world_one_picture() -> None:
    """The same episode gives the same frames, and driving changes them."""
    frames = []
    for _ in range(2):
        world = KinematicWorld(0, 20, image_size=48)
        world.reset(4)
        first = world.frame()
        for _ in range(5):
            world.step(0.2, 0.5)
        frames.append((first, world.frame()))
    assert np.array_equal(frames[0], frames[1])
    assert not np.array_equal(*frames[0])
