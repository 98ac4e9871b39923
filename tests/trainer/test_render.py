"""Films for people: things are where a driver would see them, and a film is whole or not there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer import config as configuration
from trainer import film, render
from trainer.driving.dashboard import Gauges
from trainer.driving.env import make_env
from trainer.driving.junction import middles
from trainer.driving.kinematic_world import LANE_WIDTH, SCENARIOS, lane_of
from trainer.driving.picture import Painter, Shot
from trainer.driving.view import DRIVER, NEAR, View
from trainer.driving.world import Facts
from trainer.loop import Trainer

WIDTH, HEIGHT = 320, 180
NOBODY = np.zeros((0, 5))
GAUGES = Gauges("", 0.0, 5.0, 0.0, 0.0, 0.0, 0.0)
METRES = st.floats(-80.0, 80.0)


@pytest.fixture(scope="module")
def painter() -> Painter:
    """Draws the road that crosses itself."""
    return Painter(lane_of(3), LANE_WIDTH, width=WIDTH, height=HEIGHT)


def seen_from(painter: Painter, place: float, cars: np.ndarray = NOBODY, *, green: bool = True) -> np.ndarray:
    """The picture from the middle of the lane, and the colour at a place ahead of there is `at`'s."""
    x, y, heading = painter.lane.poses(np.array([place]))[0].tolist()
    braking = np.zeros(len(cars), np.bool_)
    shot = Shot((x, y, heading), (4.5, 1.8), place, cars, braking, ((green, not green),), GAUGES)
    return painter.picture(shot).astype(int)


def at(painter: Painter, place: float, ahead: float, right: float, up: float = 0.0) -> tuple[int, int]:
    """Row and column at which something so far ahead of the car at a place is seen."""
    pose = painter.lane.poses(np.array([place]))[0].tolist()
    view = View(DRIVER, (pose[0], pose[1], pose[2]), WIDTH, HEIGHT)
    point = painter.lane.points(np.array([place + ahead]), np.array([right]))
    ((column, row),) = view.polygon(point, up)
    return int(row), int(column)


@settings(max_examples=300, deadline=None)
@given(corners=st.lists(st.tuples(METRES, METRES), min_size=3, max_size=6))
def test_nothing_behind_a_camera_is_seen_before_it(corners: list[tuple[float, float]]) -> None:
    """What is cut away lies behind; what is left is finite, below the horizon, and all of it is ahead."""
    view = View(DRIVER, (0.0, 0.0, 0.0), WIDTH, HEIGHT)
    places = np.array(corners)
    pixels = view.polygon(places)
    slope = math.cos(DRIVER.pitch), math.sin(DRIVER.pitch)
    depth = (places[:, 0] - DRIVER.forward) * slope[0] + DRIVER.height * slope[1]
    if depth.max() < NEAR:
        assert pixels == []
    if depth.min() >= NEAR:
        assert len(pixels) == len(corners)
    for column, row in pixels:
        assert math.isfinite(column)
        assert row > view.horizon


def test_right_is_right_and_far_is_high() -> None:
    """A place to the right is seen to the right, one further away nearer to the horizon."""
    view = View(DRIVER, (10.0, 5.0, 0.5 * math.pi), WIDTH, HEIGHT)  # looks along y; right of it is -x
    ((left, near), (right, far)) = view.polygon(np.array([(11.0, 15.0), (9.0, 45.0)]))
    assert left < WIDTH / 2 < right
    assert near > far > view.horizon


def test_a_pixel_of_the_ground_is_where_the_ground_is() -> None:
    """Casting a pixel onto the ground undoes projecting a place of it."""
    view = View(DRIVER, (3.0, -7.0, 0.3), WIDTH, HEIGHT)
    x, y, ahead = view.ground(WIDTH, HEIGHT)
    for row, column in ((HEIGHT - 1, 10), (HEIGHT - 40, 200), (HEIGHT - 70, 319)):
        ((across, down),) = view.polygon(np.array([(x[row, column], y[row, column])]))
        assert (across, down) == pytest.approx((column + 0.5, row + 0.5), abs=1e-6)
        assert ahead[row, column] > 0.0


def test_a_person_sees_sky_road_lines_and_grass(painter: Painter) -> None:
    """Sky is blue, grass green, asphalt grey, and the solid line white where half a lane's width is."""
    picture = seen_from(painter, 40.0)
    red, green, blue = picture[HEIGHT // 3, WIDTH // 2]
    assert blue > green > red
    red, green, blue = picture[at(painter, 40.0, 14.0, 9.0)]
    assert green > red > blue
    asphalt = picture[at(painter, 40.0, 14.0, 0.0)]
    assert asphalt.max() - asphalt.min() < 20
    assert asphalt.max() < 130
    assert picture[at(painter, 40.0, 8.0, 0.5 * LANE_WIDTH)].min() > 170


def test_a_car_is_seen_where_it_is_and_hides_what_is_behind(painter: Painter) -> None:
    """A car ahead changes the picture at its place, the more so the nearer; a nearer one hides a further."""
    empty = seen_from(painter, 20.0)
    changed = []
    for ahead in (40.0, 20.0, 10.0):
        x, y, heading = painter.lane.poses(np.array([20.0 + ahead]))[0]
        picture = seen_from(painter, 20.0, np.array([(x, y, heading, 4.5, 1.8)]))
        different = np.abs(picture - empty).max(axis=2) > 30
        assert different[at(painter, 20.0, ahead - 2.25, 0.0, 0.7)]
        changed.append(int(different[HEIGHT // 3 :].sum()))
    assert changed[2] > 2 * changed[1] > 4 * changed[0]
    places = painter.lane.poses(np.array([30.0, 38.0]))
    cars = np.array([(*pose, 4.5, 1.8) for pose in places])
    alone, both = seen_from(painter, 20.0, cars[:1]), seen_from(painter, 20.0, cars)
    row, column = at(painter, 20.0, 7.75, 0.0, 0.7)
    assert np.array_equal(alone[row, column], both[row, column])


def test_the_lights_show_who_may_pass(painter: Painter) -> None:
    """Before the crossing the lamp is green for the open road, and red for the closed one."""
    place = middles(painter.lane.crossings[0], -0.5 * LANE_WIDTH)[0] - 20.0
    green, red = (seen_from(painter, place, green=state) for state in (True, False))
    change = red - green
    assert (change[:, :, 0] > 100).any()
    assert (change[:, :, 1] < -100).any()


@pytest.mark.parametrize("scenario", range(len(SCENARIOS)))
def test_the_driver_by_rule_drives_on_every_road(scenario: int) -> None:
    """With the usual cars it reaches the end of its episodes."""
    env, driver = make_env(scenario=scenario, npcs=None), render.RuleDriver()
    for seed in range(3):
        seen, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            seen, _, terminated, ended, info = env.step(driver(seen, env))
            assert not terminated, (seed, info)


def test_the_same_arguments_give_the_same_film(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Byte for byte, of as many pictures as asked for; the end of an episode does not end the film."""
    films = []
    for name in ("a.gif", "b.gif"):
        asked = [
            "--policy",
            "random",
            "--scenario",
            "3",
            "--npcs",
            "8",
            "--seconds",
            "2",
            "--size",
            "160x160",
        ]
        assert render.main([*asked, "--seed", "5", str(tmp_path / name)]) == 0
        films.append((tmp_path / name).read_bytes())
    assert films[0] == films[1]
    assert "20 frames" in capsys.readouterr().out
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.size == (160, 160)
        assert getattr(picture, "n_frames", 1) > 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "b.gif"]


def test_a_film_of_an_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint's agent drives, in its run's world unless told otherwise; and so does a run's last one."""
    given = {"max_timesteps": 6, "start_timesteps": 3, "eval_freq": 0, "npcs": 3, "batch_size": 2}
    config = configuration.build({**given, "hidden": 16, "feature_dim": 16, "logdir": str(tmp_path / "run")})
    trainer = Trainer(config, say=lambda _text: None)
    trainer.run()
    render.film_evaluation(config, trainer.agent, tmp_path / "end.gif", print)
    checkpoint = max((tmp_path / "run" / "checkpoints").iterdir())
    again, agent = render.load_agent(checkpoint, {"scenario": 3})
    assert (again.npcs, again.scenario) == (3, 3)
    seen, _ = (env := make_env()).reset(seed=0)
    loaded, last = (render.AgentDriver(each, trainer.device) for each in (agent, trainer.agent))
    assert np.array_equal(loaded(seen, env), last(seen, env))
    asked = ["--checkpoint", str(checkpoint), "--seconds", "0.5", "--view", "chase", "--size", "160x160"]
    assert render.main([*asked, str(tmp_path / "film.gif")]) == 0
    assert (tmp_path / "end.gif").stat().st_size > 0
    assert "film.gif: 5 frames" in capsys.readouterr().out


def test_an_interrupted_film_leaves_the_last_one(tmp_path: Path) -> None:
    """Half a film is not there: what was under its name still is."""
    path = tmp_path / "film.gif"
    path.write_bytes(b"the last one")

    def pictures() -> Iterator[np.ndarray]:
        yield np.zeros((16, 16, 3), np.uint8)
        yield np.ones((16, 16, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        film.write(path, pictures(), size=(16, 16), rate=10, expected=None)
    assert path.read_bytes() == b"the last one"
    assert list(tmp_path.iterdir()) == [path]


def test_an_mp4_has_the_pictures(tmp_path: Path) -> None:
    """With imageio-ffmpeg a film is an MP4 of the size and length asked for."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra `video` is not installed")
    path = tmp_path / "film.mp4"
    pictures = (np.full((90, 160, 3), 20 * k, np.uint8) for k in range(10))
    assert film.write(path, pictures, size=(160, 90), rate=10, expected=10) == 10
    assert next(ffmpeg.read_frames(str(path)))["size"] == (160, 90)


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (["film.avi"], 2, "ends in .gif or .mp4"),
        (["nowhere/film.gif"], 2, "there is no folder"),
        (["--size", "big", "film.gif"], 2, "--size must be like 640x360"),
        (["--size", "161x90", "film.gif"], 2, "even and from 160"),
        (["--seconds", "0", "film.gif"], 2, "more than 0"),
        (["--scenario", "9", "film.gif"], 2, "0 to 3"),
        (["--checkpoint", "none", "film.gif"], 4, "none cannot be used"),
    ],
)
def test_what_cannot_be_filmed_is_said_first(
    asked: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each refusal has its exit code, names what is wrong, and leaves no file."""
    monkeypatch.chdir(tmp_path)
    assert render.main(asked) == code
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_training_learns_of_a_bad_film_before_it_begins(tmp_path: Path) -> None:
    """--render is looked at with the other flags, not after the last step."""
    for asked, words in (
        (["--render", str(tmp_path / "a.avi")], "ends in"),
        (["--env", "Pendulum-v1", "--render", "a.gif"], "--render needs --env driving"),
    ):
        with pytest.raises(configuration.ConfigError, match=words):
            configuration.from_arguments(asked)
    film_path = tmp_path / "a.gif"
    assert configuration.from_arguments(["--render", str(film_path)]).render == film_path


def test_facts_before_an_episode_are_an_error() -> None:
    """There are none; asking says so."""
    with pytest.raises(AssertionError, match="no episode"):
        _ = make_env().facts
    env = make_env()
    env.reset(seed=0)
    assert isinstance(env.facts, Facts)
