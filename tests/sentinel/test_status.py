"""What `sentinel status` and `sentinel replay` print, for people and for machines."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest

from sentinel.errors import RunGoneError
from sentinel.replay import replay_paths
from sentinel.status import print_status, read_status
from sentinel.tally import tally
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import Scene
from tests.sentinel.test_engine import curve, register


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 70.0])
def test_a_status_is_json_whatever_the_values_are(tmp_path: Path, value: float) -> None:
    """A diverged run's values are not numbers; that is when somebody looks."""
    scene = Scene(tmp_path, FakeClock(T0))
    register(scene.logdir / "a")
    scene.log(curve([1, 60, 60, value, value]))
    scene.settle()
    status = read_status(scene.logdir, scene.state)
    text = json.dumps(status, allow_nan=False)
    (run,) = json.loads(text)["runs"]
    assert run["alerts"]
    out = io.StringIO()
    print_status(status, out)
    assert "NOT RUNNING" in out.getvalue()
    assert "q_high" in out.getvalue()


def test_rules_of_other_runs_are_named_apart_from_those_without_data(tmp_path: Path) -> None:
    """Whose `when` was never True is not blind: it is for runs of another kind."""
    scene = Scene(tmp_path, FakeClock(T0))
    register(scene.logdir / "a")
    scene.log(curve([1, 1]))
    scene.settle()
    status = read_status(scene.logdir, scene.state)
    status["runs"][0]["marks"] = {"td3/x": "inapplicable", "td3/y": "inapplicable", "z": "nodata"}
    out = io.StringIO()
    print_status(status, out)
    assert "  not for this run, by their `when`: td3/x, td3/y\n" in out.getvalue()
    assert "  nodata     z\n" in out.getvalue()


def test_a_folder_that_nobody_watched_has_no_status(tmp_path: Path) -> None:
    """With the command that would change that."""
    with pytest.raises(RunGoneError, match="start one with: sentinel run"):
        read_status(tmp_path, tmp_path / "state")


@pytest.mark.parametrize(("values", "code"), [([1, 60, 60, math.nan, 60], 1), ([1, 60, 1, 1], 0)])
def test_a_replay_is_lines_of_json_and_1_when_something_grave_fired(
    tmp_path: Path, values: list[float], code: int
) -> None:
    """The same however it is printed; pending alone is not fired."""
    scene = Scene(tmp_path, FakeClock(T0))
    scene.log(curve(values))
    outcomes = replay_paths([scene.logdir / "a"], scene.settings)
    lines = [json.dumps(line, allow_nan=False) for o in outcomes for line in o.lines()]
    assert lines
    wanted = {"run", "rule", "from", "to", "step", "onset_step", "wall_time", "value", "severity", "actions"}
    assert wanted <= set(json.loads(lines[0]))
    assert tally(outcomes, scene.settings).exit_code == code


def test_a_replay_of_a_file_a_run_and_a_tree_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the path is `.`."""
    scene = Scene(tmp_path, FakeClock(T0))
    scene.log(curve([1]))
    monkeypatch.chdir(scene.logdir / "a")
    (file,) = (scene.logdir / "a").iterdir()
    paths = [Path(), Path(file.name), scene.logdir]
    assert [o.run for o in replay_paths(paths, scene.settings)] == ["a", "a", "runs/a"]
    with pytest.raises(RunGoneError, match="nothing was judged"):
        replay_paths([tmp_path / "state"], scene.settings)


def test_a_replay_goes_on_behind_a_stretch_without_scalars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images between two points are longer than one read."""
    from tensorboard.compat.proto.event_pb2 import Event

    from tests.sentinel.event_files import record
    from tests.sentinel.test_engine import _in_pieces

    scene = Scene(tmp_path, FakeClock(T0))
    scene.log(curve([1]))
    for _ in range(20):
        scene.write(record(Event(wall_time=T0 + 4, step=1, graph_def=b"x" * 300).SerializeToString()))
    scene.log(curve([60, 60, 60], begin=2))
    monkeypatch.setattr("sentinel.tail.RunTail.read", _in_pieces(500))
    assert tally(replay_paths([scene.logdir], scene.settings), scene.settings).exit_code == 1
