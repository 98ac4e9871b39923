"""What is drawn of an alert: the rule's own series in this run, what they are held against, what happened."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier import picture
from notifier.plot import Plot, bounded
from rules.evaluate import compile_rules
from rules.merge import build
from rules.series import Sample
from rules.source import parse
from rules.watch import RunWatch
from sentinel.checkpoints import Checkpoint
from sentinel.cli import main
from sentinel.curves import Curves
from sentinel.plots import LINES, Scene, draw
from tests.sentinel.scene import encode


def watched(rules: str, samples: list[Sample]) -> tuple[RunWatch, Curves]:
    """A run that has logged these samples under these rules."""
    made = build([("", parse(f"version = 1\n{rules}", "t.toml"))])
    program = compile_rules(made)
    watch, curves = RunWatch(program, made.ladders), Curves(program)
    for sample in samples:
        curves.take([sample])
        watch.observe([sample])
    watch.flush()
    return watch, curves


def drawn(rules: str, samples: list[Sample], key: str = "r", scene: Scene | None = None) -> Plot | None:
    """The plot of a rule's alert, as it stands."""
    watch, curves = watched(rules, samples)
    alert = watch.alerts[key]
    assert alert.last is not None
    return draw(watch, curves, alert, "title", scene or Scene("run"), now=alert.last)


def rising(tag: str, factor: float = 1.0) -> list[Sample]:
    return [(tag, step, float(step), factor * step) for step in range(0, 100, 10)]


def rule(expr: str, more: str = "") -> str:
    return f'[[rule]]\nname = "r"\nexpr = "{expr}"\nseverity = "warning"\n{more}'


def test_a_threshold_is_drawn_with_its_series() -> None:
    """The plainest rule of all."""
    plot = drawn(rule("m['q'] > 50"), rising("q"))
    assert plot is not None
    assert [line.label for line in plot.lines] == ["q"]
    assert (plot.limit, plot.limit_label, plot.axis) == (50, "limit 50", "step")
    assert [(mark.kind, mark.step) for mark in plot.marks] == [("fired", 60)]


def test_a_relative_limit_is_a_curve_of_its_own() -> None:
    """relgap(a, b) > 2 is a above three times b, wherever b goes."""
    samples = sorted([*rising("a", 5.0), *rising("b")], key=lambda sample: sample[2])
    plot = drawn(rule("relgap(mean(m['a'], points=1), mean(m['b'], points=1)) > 2"), samples)
    assert plot is not None
    assert [line.label for line in plot.lines] == ["a", "b", "limit: 3 x b"]
    assert plot.lines[2].is_limit
    assert plot.lines[2].parts[0][-1] == (90, 270)
    assert plot.limit is None


def test_a_metric_that_is_an_expression_is_drawn_as_one_line() -> None:
    """`critic_q = min(q1, q2)` is one thing to who reads the rule."""
    metrics = "[metrics]\nq = [\"=min(m['q1'], m['q2'])\"]\n"
    samples = sorted([*rising("q1"), *rising("q2", 2.0)], key=lambda sample: sample[2])
    plot = drawn(metrics + rule("q > 50"), samples)
    assert plot is not None
    assert [line.label for line in plot.lines] == ["q"]
    assert plot.lines[0].parts[0][-1] == (90, 90)


def test_what_cannot_be_computed_point_by_point_is_drawn_as_its_tags() -> None:
    """Windows are the judge's; a picture shows what they were made of."""
    plot = drawn(rule("slope(m['q'], points=5) > 0.1"), rising("q"))
    assert plot is not None
    assert [line.label for line in plot.lines] == ["q"]
    assert plot.limit is None, "a slope is not in the unit of the series"


def test_an_instance_draws_its_own_tag() -> None:
    """Of a rule over every tag it is the one that fired."""
    plot = drawn(rule("x > 50", 'each = "train/{part}"\n'), rising("train/loss"), "r[loss]")
    assert plot is not None
    assert [line.label for line in plot.lines] == ["train/loss"]


def test_a_series_of_another_axis_is_left_out() -> None:
    """An episode's number is no step of training; drawn on one axis both would be a lie."""
    steps = [("q", 1000 * n, float(n), 10.0 * n) for n in range(10)]
    episodes = [("ep", n, n + 0.5, 1.0) for n in range(10)]
    samples = sorted([*steps, *episodes], key=lambda sample: sample[2])
    plot = drawn(rule("m['q'] > 50 and m['ep'] > 0"), samples)
    assert plot is not None
    assert [line.label for line in plot.lines] == ["q"]


def test_checkpoints_are_told_apart_by_trust() -> None:
    """One that was written under a grave alert is hollow."""
    checkpoints = [
        Checkpoint(f"00-{step}", step, 0, float(step), Path(), verified=False) for step in (20, 60, 80)
    ]
    scene = Scene("run", checkpoints=checkpoints, suspicions=[(55.0, 70.0)])
    plot = drawn(rule("m['q'] > 50"), rising("q"), scene=scene)
    assert plot is not None
    shown = [(mark.kind, mark.step) for mark in plot.marks if mark.kind in ("checkpoint", "suspect")]
    assert shown == [("checkpoint", 20), ("suspect", 60), ("checkpoint", 80)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "d"]),
            st.integers(0, 10**6),
            st.floats(0, 100),
            st.floats(allow_nan=True, allow_infinity=True),
        ),
        max_size=60,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_was_logged_a_plot_is_bounded(samples: list[Sample]) -> None:
    """Steps that jump about, NaN, tags that come and go: a picture or none, and never an error."""
    expr = "m['a'] > 5 or relgap(m['b'], m['c']) > 2 or m['a'] / m['d'] > 1"
    watch, curves = watched(rule(expr), samples)
    for alert in watch.alerts.values():
        assert alert.last is not None
        plot = draw(watch, curves, alert, "t", Scene("r", rewinds=[(10, 50.0)]), now=alert.last)
        if plot is not None:
            assert len(plot.lines) <= LINES + 1
            assert bounded(plot) == plot


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A run whose actor Q passes its limit."""
    folder = tmp_path / "run"
    folder.mkdir()
    samples = [("debug/actor_q_mean", step, 1.7e9 + step, step / 10) for step in range(100, 1000, 100)]
    (folder / "events.out.tfevents.1700000000.t").write_bytes(encode(samples))
    return folder


@pytest.mark.skipif(not picture.available(), reason=picture.LACKING)
def test_explain_writes_the_plot_of_a_recorded_run(tmp_path: Path, recorded: Path) -> None:
    """Who has no Slack has the same picture."""
    file = tmp_path / "plot.png"
    assert main(["explain", "actor_q_high", str(recorded), "--plot", str(file)]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not picture.available(), reason=picture.LACKING)
def test_a_plot_that_cannot_be_written_is_said(
    tmp_path: Path, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what there was to say was said."""
    file = tmp_path / "nowhere" / "plot.png"
    assert main(["explain", "actor_q_high", str(recorded), "--plot", str(file)]) == 1
    said = capsys.readouterr()
    assert "actor_q > 50" in said.out
    assert "No such file or directory; the plot was not written" in said.err


def test_a_plot_of_nothing_is_refused(
    tmp_path: Path, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No empty axes; the reason is said."""
    file = tmp_path / "plot.png"
    assert main(["explain", "td_error_rising", str(recorded), "--plot", str(file)]) == 1
    assert "there is nothing to draw" in capsys.readouterr().err
    assert not file.exists()
