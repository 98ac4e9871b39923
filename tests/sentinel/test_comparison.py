"""What a change of rules changes on recorded runs: only what is different, and all of it."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.cli import main
from sentinel.comparison import Comparison, compare, comparison_as_json
from sentinel.comparison_report import print_comparison
from sentinel.config import load
from sentinel.replay import Outcome, find, judge_run
from sentinel.tally import tally
from tests.sentinel.event_files import T0
from tests.sentinel.scene import encode

HEAD = """
version = 1
[metrics]
q = ["q"]
r = ["r"]
[limits]
require_remedy = false
[ladders.save]
rungs = [{ do = ["notify", "checkpoint"] }, { do = ["rollback"], after = "2 points" }]
"""


def rule(name: str, expr: str, severity: str = "critical", ladder: str = "save") -> str:
    text = f'[[rule]]\nname = "{name}"\nexpr = "{expr}"\nseverity = "{severity}"\n'
    return text + (f'ladder = "{ladder}"\n' if ladder else "")


def compared(folder: Path, before: str, after: str) -> Comparison:
    """Judge the runs below `folder`/runs by both."""
    settings = []
    for name, body in (("A.toml", before), ("B.toml", after)):
        (folder / name).write_text(HEAD + body, encoding="utf-8")
        settings.append(load(folder / name))
    both = [judge_run(recording, settings) for recording in find([folder / "runs"])]
    sides: list[list[Outcome]] = [[outcomes[side] for outcomes in both] for side in (0, 1)]
    return compare(tally(sides[0], settings[0]), tally(sides[1], settings[1]))


def log(folder: Path, run: str, *values: float, tag: str = "q") -> None:
    path = folder / "runs" / run / "events.out.tfevents.1700000000.t"
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = [(tag, 100 * n, T0 + 60.0 * n, value) for n, value in enumerate(values)]
    path.write_bytes(encode(samples))


def said(found: Comparison) -> str:
    out = io.StringIO()
    print_comparison(found, ("A.toml", "B.toml"), out)
    return out.getvalue()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One run that climbs, one that stays calm."""
    log(tmp_path, "climbs", 1, 20, 40, 60, 80, 100, 120)
    log(tmp_path, "calm", 1, 1, 1, 1)
    return tmp_path


def test_the_same_rules_change_nothing(runs: Path) -> None:
    """Zero, and it says of how many runs."""
    found = compared(runs, rule("high", "q > 50"), rule("high", "q > 50"))
    assert (found.exit_code, found.differences) == (0, ())
    assert "nothing changes in 2 runs" in said(found)


def test_a_higher_bound_fires_later_and_acts_later(runs: Path) -> None:
    """By steps and seconds; what lies behind the rollback shrinks by as much."""
    found = compared(runs, rule("high", "q > 50"), rule("high", "q > 70"))
    (difference,) = found.differences
    assert (difference.run, difference.kind, difference.by) == ("runs/climbs", "later", (100, 60.0))
    assert found.exit_code == 1
    assert [(a and a.steps, b and b.steps) for _, a, b in found.behind()] == [(100, 0)]
    text = said(found)
    assert "later: +100 steps, +60 s; acts at 300, 500 -> 400, 600" in text
    assert "1 of 2 runs come out otherwise" in text


@pytest.mark.parametrize(
    ("before", "after", "kind", "words"),
    [
        (rule("high", "q > 50"), rule("high", "q > 500"), "only_a", "fires only under A"),
        (rule("high", "q > 500"), rule("high", "q > 50"), "only_b", "fires only under B"),
        (rule("high", "q > 70"), rule("high", "q > 50"), "earlier", "earlier: -100 steps, -60 s"),
        (rule("high", "q > 50"), rule("high", "q > 50", "fatal"), "same", "another severity"),
        (rule("high", "q > 50"), rule("high", "q > 50", ladder=""), "same", "-> no action"),
    ],
)
def test_each_kind_of_change_is_told(runs: Path, before: str, after: str, kind: str, words: str) -> None:
    """Of a rule of both sets."""
    found = compared(runs, before, after)
    assert [difference.kind for difference in found.differences] == [kind]
    assert words in said(found)


def test_a_rule_of_one_set_only_is_named(runs: Path) -> None:
    """One that stays quiet changes nothing; one that fires does."""
    high = rule("high", "q > 50")
    quiet = compared(runs, high, high + rule("never", "q > 500"))
    assert quiet.exit_code == 0
    assert "only in B: never" in said(quiet)
    loud = compared(runs, high, high + rule("more", "q > 90"))
    assert [(found.key, found.kind) for found in loud.differences] == [("more", "only_b")]
    assert "no such rule" in said(loud)


def test_a_rule_that_loses_its_answer_is_a_change(runs: Path) -> None:
    """It was quiet because it looked, and is quiet because it is blind."""
    found = compared(runs, rule("high", "q > 500"), rule("high", "r > 500"))
    assert [found.run for found in found.differences] == ["runs/calm", "runs/climbs"]
    assert found.exit_code == 1
    assert "answers only under A" in said(found)


def test_the_command_compares_two_files(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As lines of JSON too, and with the library's exit code."""
    found = compared(runs, rule("high", "q > 50"), rule("high", "q > 70"))
    a, b = str(runs / "A.toml"), str(runs / "B.toml")
    assert main(["replay", "--compare", a, b, "--json", str(runs / "runs")]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == json.loads(json.dumps(list(comparison_as_json(found))))
    assert [line["type"] for line in lines] == ["difference", "rule", "total"]
    assert main(["replay", "--compare", a, a, str(runs / "runs")]) == 0


def test_both_files_are_read_before_either_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every problem of both at once; and two ways to name the rules are one too many."""
    for name in ("A.toml", "B.toml"):
        (runs / name).write_text('[[rule]]\nname = "x"\nexpr = "q >"\n', encoding="utf-8")
    a, b = str(runs / "A.toml"), str(runs / "B.toml")
    assert main(["replay", "--compare", a, b, str(runs / "runs")]) == 2
    errors = capsys.readouterr().err
    assert "A.toml:3" in errors
    assert "B.toml:3" in errors
    assert main(["replay", "--compare", a, b, "--pack", "td3", str(runs / "runs")]) == 2
    assert "leave out -c and --pack" in capsys.readouterr().err


@given(st.lists(st.sampled_from([1.0, 30.0, 60.0, 90.0]), max_size=30), st.sampled_from([20, 50, 80]))
def test_a_comparison_turned_round_is_its_mirror(values: list[float], bound: int) -> None:
    """What A alone fires, B alone fires when they change places; earlier is later; and by as much."""
    mirror = {"only_a": "only_b", "only_b": "only_a", "earlier": "later", "later": "earlier"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log(folder, "a", *values)
        rules = rule("x", f"q > {bound}"), rule("x", "q > 50") + rule("y", "q > 80", "warning", "")
        there, back = compared(folder, *rules), compared(folder, *reversed(rules))
        assert there.exit_code == back.exit_code
        assert [(d.key, mirror.get(d.kind, d.kind)) for d in there.differences] == [
            (d.key, d.kind) for d in sorted(back.differences, key=lambda d: d.key)
        ]
        for one, other in zip(there.differences, sorted(back.differences, key=lambda d: d.key), strict=True):
            assert one.by is None or (other.by is not None and one.by[0] == -other.by[0])
