"""Why a rule fired or did not: what is shown is what the rule itself saw at that moment."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.explain import Part
from rules.verdict import Condition
from sentinel.cli import main
from sentinel.config import Settings, load
from sentinel.errors import CommandError
from sentinel.explain import Explanation, explain_rule
from tests.sentinel.event_files import T0, scalar

CONFIG = """
[metrics]
q = ["q"]
other = ["other"]
lead = ["=q - other"]
[[rule]]
name = "high"
expr = "q > 50"
for = "2 points"
[[rule]]
name = "mean_high"
expr = "mean(q, points=3) > 20 and lead > 0"
[[rule]]
name = "blind"
expr = "lead > 0"
[[rule]]
name = "any_high"
each = "part/{name}"
expr = "x > 50"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sentinel.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def write_run(folder: Path, **series: Sequence[float]) -> Path:
    folder.mkdir()
    length = max(map(len, series.values()))
    points = [
        scalar(tag.replace("__", "/"), 100 * (n + 1), values[n], T0 + 10 * n)
        for n in range(length)
        for tag, values in series.items()
        if n < len(values)
    ]
    (folder / "events.out.tfevents.1").write_bytes(b"".join(points))
    return folder


def part(told: Explanation, text: str) -> Part:
    return next(found for _, found in told.part.walk() if found.text == text)


@pytest.fixture
def loaded(config: Path) -> Settings:
    return load(config)


def test_a_rule_that_fired_is_taken_apart_where_it_first_fired(tmp_path: Path, loaded: Settings) -> None:
    """Not at the end, where everything may look otherwise."""
    run = write_run(tmp_path / "a", q=[1, 60, 70, 2, 3])
    told = explain_rule("high", run, loaded)
    assert told.moment.step == 300
    assert told.part.value is True
    assert part(told, "q").value == 70
    assert "q: 3 points, the last at step 300" in part(told, "q").note
    assert told.answers == {Condition.BREACH: 2, Condition.OK: 3}


def test_a_rule_that_did_not_fire_is_taken_apart_at_the_end(tmp_path: Path, loaded: Settings) -> None:
    """And where a single comparison is all it asks, it is said how near it came."""
    run = write_run(tmp_path / "a", q=[1, 49, 2])
    told = explain_rule("high", run, loaded)
    assert (told.moment.step, told.part.value, told.moves) == (300, False, ())
    assert told.nearest is not None
    assert (told.nearest.verdict.value, told.nearest.verdict.at.step) == (49, 200)


def test_any_step_can_be_asked_for(tmp_path: Path, loaded: Settings) -> None:
    """What is shown is as of that step, with the window as it was."""
    run = write_run(tmp_path / "a", q=[10, 20, 60, 90], other=[0, 0, 0, 0])
    told = explain_rule("mean_high", run, loaded, at=350)
    assert told.moment.step == 300
    mean = part(told, "mean(q, points=3)")
    assert (mean.value, mean.note) == (30, "3 of 3 points, steps 100 to 300")
    with pytest.raises(CommandError, match="no evaluation in a up to step 50 of q; the first is at 100"):
        explain_rule("high", run, loaded, at=50)


def test_what_is_unknown_says_why(tmp_path: Path, loaded: Settings) -> None:
    """A window that is not full, a tag that is not logged, a NaN."""
    run = write_run(tmp_path / "a", q=[10, math.nan])
    told = explain_rule("mean_high", run, loaded)
    assert "1 of 3 points" in part(told, "mean(q, points=3)").note
    assert "fewer than n points" in part(told, "mean(q, points=3)").note
    assert "NaN, at step 200" in part(told, "q").note
    assert part(told, "lead").note == "not logged: the run has none of =q - other"
    blind = explain_rule("blind", run, loaded)
    assert blind.badge == "nodata"
    assert blind.part.value is None


def test_of_an_each_rule_the_instance_that_fired_is_shown(tmp_path: Path, loaded: Settings) -> None:
    """Unless one is named; the others are listed, and one that is not there is an error."""
    run = write_run(tmp_path / "a", part__a=[1, 2], part__b=[1, 60], part__c=[1, 1])
    told = explain_rule("any_high", run, loaded)
    assert told.key == "any_high[b]"
    assert told.others == ("any_high[a]", "any_high[c]")
    assert explain_rule("any_high[c]", run, loaded).part.value is False
    with pytest.raises(CommandError, match="no tag of a fits"):
        explain_rule("any_high[d]", run, loaded)


def test_names_and_folders_that_mean_nothing_are_errors(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the nearest right word, and the exit codes of every command."""
    write_run(tmp_path / "a", q=[1])
    write_run(tmp_path / "b", q=[1])
    assert main(["explain", "hihg", str(tmp_path / "a"), "-c", str(config)]) == 1
    assert "did you mean 'high'?" in capsys.readouterr().err
    assert main(["explain", "high", str(tmp_path), "-c", str(config)]) == 1
    assert f"2 runs ({tmp_path / 'a'}, {tmp_path / 'b'})" in capsys.readouterr().err
    assert main(["explain", "high", str(tmp_path / "nowhere"), "-c", str(config)]) == 5


def test_it_is_told_to_people_and_to_machines(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both have every part with its value."""
    run = write_run(tmp_path / "a", q=[1, 60, 70])
    assert main(["explain", "high", str(run), "-c", str(config)]) == 0
    shown = capsys.readouterr().out
    assert "inactive -> pending, onset 200" in shown
    assert "At step 300 (20.0 s) of q: firing" in shown
    assert "\x1b" not in shown
    assert main(["explain", "high", str(run), "-c", str(config), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["condition"]["text"] == "q > 50"
    assert told["condition"]["parts"][0]["value"] == 70
    assert [move["to"] for move in told["transitions"]] == ["pending", "firing"]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([1.0, 40.0, 60.0, 90.0, math.nan, math.inf]), min_size=1, max_size=12))
def test_an_explanation_never_disagrees_with_the_verdict(values: list[float]) -> None:
    """At every step at which a rule was evaluated, its condition taken apart is what it answered."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "sentinel.toml")
        config.write_text(CONFIG, encoding="utf-8")
        loaded = load(config)
        run = write_run(Path(folder, "a"), q=values, other=[5.0] * len(values))
        whole = explain_rule("mean_high", run, loaded)
        said: dict[object, Condition] = {True: Condition.BREACH, False: Condition.OK, None: Condition.UNKNOWN}
        answers = [
            said[explain_rule("mean_high", run, loaded, at=100 * (n + 1)).part.value]
            for n in range(len(values))
        ]
        assert {c: answers.count(c) for c in set(answers)} == dict(whole.answers)


def test_the_incident_is_explained(corpus: Path) -> None:
    """The recorded run fires at 1300, by doubling alone; the lead was not yet beyond its limit."""
    told = explain_rule("actor_exploits_critic", corpus / "SEED047", load(None))
    assert told.moment.step == 1300
    lead = "relgap(mean(actor_q, steps=200), mean(critic_q, steps=200)) > 2"
    assert part(told, lead).value is False
    assert part(told, "doubling_steps(actor_ratio, steps=500, min_r2=0.8)").value == pytest.approx(
        84.54, abs=0.01
    )
    assert "train/q1_value" in part(told, "q1").note
