"""What a backtest adds up to, and how it is told: quiet, unjudged and unread are three things."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest

from rules.series import Sample
from sentinel.cli import main
from sentinel.replay import Outcome, find, judge_run
from sentinel.report import print_tally
from sentinel.tally import Tally, tally
from sentinel.tally_json import tally_as_json
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import Scene, start_record

RULES = """
version = 1
[metrics]
q = ["q"]
missing = ["never_logged"]
[[rule]]
name = "q_high"
expr = "q > 50"
clear = "q < 20"
severity = "critical"
ladder = "save"
[[rule]]
name = "q_low"
expr = "q < -5"
severity = "warning"
[[rule]]
name = "blind"
expr = "missing > 1"
severity = "critical"
[[rule]]
name = "long"
expr = "mean(q, points=50) > 1000"
severity = "info"
[[rule]]
name = "later"
expr = "q > 1000"
after_step = 100000
severity = "fatal"
[ladders.save]
rungs = [
  { do = ["notify", "checkpoint"] },
  { do = ["rollback"], after = "2 points" },
  { do = ["terminate"], when = "exhausted" },
]
[limits]
require_remedy = false
"""


def series(*values: float, every: int = 100, tag: str = "q") -> list[Sample]:
    """One point every hundred steps and every half hour."""
    return [(tag, every * n, T0 + 1800.0 * n, value) for n, value in enumerate(values)]


def judged(scene: Scene) -> list[Outcome]:
    return [judge_run(recording, [scene.settings])[0] for recording in find([scene.logdir])]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Five runs: lost, recovered by itself, calm, other tags, and no scalar."""
    scene = Scene(tmp_path, FakeClock(T0), RULES)
    scene.log(series(1, 60, 60, 60, 60, 60), "a_lost")
    scene.log(series(1, 2, 60, 60, 60, 1, 1, 60, 1), "b_well")
    scene.log(series(*[1.0] * 60), "c_calm")
    scene.log(series(1, 2, tag="other"), "d_other")
    scene.write(b"", "e_empty")
    return scene


def added(scene: Scene) -> Tally:
    return tally(judged(scene), scene.settings)


def test_a_run_is_fired_quiet_or_unjudged(scene: Scene) -> None:
    """What nobody could look at is not quiet."""
    found = added(scene)
    standings = {run.outcome.run.split("/")[1]: (run.standing, run.judged) for run in found.runs}
    assert standings["a_lost"] == ("fired", 2)
    assert standings["c_calm"] == ("quiet", 3)
    assert standings["d_other"] == standings["e_empty"] == ("unjudged", 0)
    assert found.exit_code == 1


def test_a_rule_counts_the_runs_that_it_could_judge(scene: Scene) -> None:
    """Alarms are per points of these; why it had no answer elsewhere is known."""
    rules = {rule.rule.name: rule for rule in added(scene).rules}
    high = rules["q_high"]
    assert (high.judged, high.touched, high.alarms, high.points) == (3, 2, 3, 75)
    assert high.per_million == pytest.approx(3e6 / 75)
    assert (high.median_step, high.earliest and high.earliest.run) == (150, "runs/a_lost")
    assert high.deeds == {"checkpoint": 2, "rollback": 2}
    assert (rules["long"].judged, rules["long"].touched) == (1, 0)
    assert (rules["blind"].judged, rules["blind"].per_million) == (0, None)
    assert rules["blind"].reasons["the run logs nothing for missing"] == 4
    assert rules["long"].reasons["too few points, or too old ones, for an answer"] == 2
    assert rules["later"].reasons["the run ended before the rule's first step or point"] == 3


def test_what_is_recorded_behind_an_action_is_parted_by_how_the_alert_ended(scene: Scene) -> None:
    """A run that got well by itself had nothing to be saved from."""
    runs = {run.outcome.run.split("/")[1]: run.behind for run in added(scene).runs}
    lost, well = runs["a_lost"], runs["b_well"]
    assert lost is not None
    assert well is not None
    assert (lost.verb, lost.at.run_step, lost.steps, lost.seconds, lost.lasted) == (
        "rollback", 300, 200, 3600.0, True,
    )  # fmt: skip
    assert (well.at.run_step, well.steps, well.lasted) == (400, 400, False)
    assert runs["c_calm"] is None


def test_every_rung_of_a_ladder_in_use_is_counted(scene: Scene) -> None:
    """Also one that was never reached; without checkpoints no target is known."""
    rungs = {(rung.ladder, rung.rung, rung.verb): rung for rung in added(scene).rungs}
    back = rungs["save", 1, "rollback"]
    assert (back.rules, back.runs, back.times, back.targets, back.first) == (1, 2, 2, 0, [300, 400])
    assert (rungs["save", 0, "checkpoint"].times, rungs["save", 0, "checkpoint"].runs) == (3, 2)
    assert rungs["save", 2, "terminate"].times == 0


def test_steps_behind_an_action_are_counted_over_all_attempts(tmp_path: Path) -> None:
    """A run that came from 500 to 900, went back to 400 and on to 1000 has trained 1000 steps behind 500."""
    scene = Scene(tmp_path, FakeClock(T0), RULES)
    first = series(1, 1, 1, 60, 60, 60, 60, 60, 60, 60)
    scene.log(first, "a")
    again = first[-1][2] + 60
    scene.write(start_record(401, again), "a")
    scene.log([("q", 400 + 100 * n, again + 1800.0 * n, 1.0) for n in range(1, 7)], "a")
    (found,) = added(scene).runs
    assert found.outcome.left == [(900, 400)]
    assert found.behind is not None
    assert (found.behind.at.run_step, found.behind.steps, found.behind.lasted) == (500, 400 + 600, False)


def checkpoint(run: Path, step: int, wall: float) -> None:
    """Write a checkpoint as the trainer does."""
    folder = run / "checkpoints" / f"00-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state").write_bytes(b"x")
    files = {"state": {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}}
    manifest = {"version": 1, "step": step, "attempt": 0, "wall_time": wall, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize("severity", ["warning", "critical"])
def test_a_rollback_goes_to_the_newest_good_checkpoint_of_its_time(tmp_path: Path, severity: str) -> None:
    """Not to one of a smaller step than the onset's that was written later, in another attempt."""
    rules = RULES.replace('"critical"\nladder', f'"{severity}"\nladder')
    scene = Scene(tmp_path, FakeClock(T0), rules)
    scene.log(series(1, 60, 60, 60, 60, 60), "a_lost")
    run = scene.logdir / "a_lost"
    checkpoint(run, 50, T0 + 900)
    checkpoint(run, 20, T0 + 300)
    checkpoint(run, 90, T0 + 99_999)
    found = added(scene)
    (action,) = [
        action
        for step in found.runs[0].outcome.steps
        for action in step.actions
        if action.verb == "rollback" and not action.withheld
    ]
    assert (action.checkpoint, action.to_step) == ("00-00000050", 50)
    assert next(rung for rung in found.rungs if rung.verb == "rollback").targets == 1


def test_the_report_tells_quiet_from_unjudged(scene: Scene) -> None:
    """In plain text without a terminal; with -v every change and every rule."""
    short, long = io.StringIO(), io.StringIO()
    found = added(scene)
    print_tally(found, short)
    print_tally(found, long, verbose=True)
    said = short.getvalue()
    assert "\x1b" not in said
    assert (
        "runs/a_lost        6    500     2.5 h  critical q_high at 100; rollback at 300, after it 200" in said
    )
    assert "runs/c_calm       60   5900    29.5 h  quiet: 3 of 5 rules had an answer" in said
    assert "not judged: no rule had an answer" in said
    assert "not judged: no scalar in its event files" in said
    assert "q_low (3), long (1)" in said
    assert "blind, later" in said
    assert "5 runs, 77 points: 2 with an alarm, 1 quiet, 1 that no rule had an answer for, 1 without" in said
    assert "inactive -> firing" not in said
    assert "inactive -> firing, value 60 limit 50, onset 100  [would ask checkpoint]" in long.getvalue()
    assert "blind  the run logs nothing for missing" in long.getvalue()


def test_a_run_that_could_not_be_read_is_neither_fine_nor_bad(scene: Scene) -> None:
    """Three: it may have been well."""
    calm = [outcome for outcome in judged(scene) if outcome.run == "runs/c_calm"]
    assert tally(calm, scene.settings).exit_code == 0
    gone = Outcome("gone", error="permission denied")
    found = tally([*calm, gone], scene.settings)
    assert found.exit_code == 3
    out = io.StringIO()
    print_tally(found, out)
    assert "not read: permission denied" in out.getvalue()
    assert "1 that could not be read" in out.getvalue()


def test_json_has_a_line_for_each_thing(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints what the library gives, and ends as without --json."""
    config = tmp_path / "sentinel.toml"
    config.write_text(RULES, encoding="utf-8")
    assert main(["replay", "-c", str(config), "--jobs", "1", "--json", str(scene.logdir)]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == json.loads(json.dumps(list(tally_as_json(added(scene)))))
    types = [line["type"] for line in lines]
    assert types.count("run") == 5
    assert types.count("rule") == 5
    assert types.count("total") == 1
    run = next(line for line in lines if line["type"] == "run")
    assert run["after_action"]["alert_lasted"] is True
    assert run["unjudged"]["blind"] == "the run logs nothing for missing"
