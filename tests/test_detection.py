"""What the rules are for is still found, when it was, and healthy runs are still left alone.

A rule that comes a point later or fires once on a healthy run breaks no other test; it breaks these.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from benchmarks import detection
from benchmarks.detection_corpus import EXPLOSION, HEALTHY, judge_corpus
from benchmarks.detection_runs import Task, judge
from benchmarks.detection_statistics import clustered, poisson, quantile, wilson
from benchmarks.detection_tables import Table, markdown, write
from rules.generators import FAMILIES, Setting

VALUE = [name for name, family in FAMILIES.items() if family.healthy and family.area == "value"]


@pytest.mark.parametrize("name", ["incident_a", "incident_b"])
def test_the_incident_is_found_where_it_was(name: str) -> None:
    """Step 1300, a point before actor Q passes 50, and by the rule that names it."""
    found = judge(Task(name, Setting(seed=0, n=7, cadence=100)))
    assert found.signal is not None
    assert (found.signal.key, found.signal.severity) == ("td3/actor_exploits_critic", "critical")
    assert found.signal.step == 1300
    assert found.ahead_of_threshold == 100


@pytest.mark.parametrize(("name", "cadence"), list(product(["incident_a", "incident_b"], [1, 10])))
def test_a_denser_log_does_not_hide_the_incident(name: str, cadence: int) -> None:
    """Logged ten or a hundred times as often, and with noise, it is still found before actor Q passes 50."""
    for seed in (0, 1, 2):
        found = judge(Task(name, Setting(seed=seed, n=301, cadence=cadence)))
        assert found.signal is not None
        assert found.signal.step <= 1350
        assert found.points_ahead is not None
        assert found.points_ahead > 0


def test_healthy_runs_raise_no_critical_alarm() -> None:
    """A small piece of what the benchmark asks of a million points."""
    for name, (seed, cadence) in product(VALUE, [(1000, 100), (1001, 10)]):
        found = judge(Task(name, Setting(seed=seed, n=250, cadence=cadence)))
        assert not [alarm for alarm in found.alarms if alarm.severity == "critical"], name


@pytest.mark.parametrize(
    ("fault", "n", "key"),
    [
        ("actor_leads", 240, "td3/actor_exploits_critic"),
        ("rewind_then_lead", 240, "td3/actor_exploits_critic"),
        ("critic_loss_diverges", 120, "td3/critic_diverging"),
        ("gradient_vanishes", 120, "td3/actor_gradient_vanished"),
        ("nan_once", 40, "generic/nonfinite_loss[train/critic_loss]"),
        ("frozen", 120, "generic/flatlined[train/critic_loss]"),
        ("hang", 60, "generic/stalled"),
        ("episodes_collapse", 120, "td3/episodes_collapse"),
    ],
)
def test_a_grave_fault_is_found_by_the_rule_that_names_it(fault: str, n: int, key: str) -> None:
    """And not before it began."""
    found = judge(Task(fault, Setting(seed=1, n=n, severity=3)))
    assert found.signal is not None
    assert found.signal.key == key
    assert found.seconds_late >= 0


def test_recorded_explosions_are_found_and_recorded_healthy_runs_left_alone(corpus: Path) -> None:
    """Every explosion; all but two no later than actor Q passing 50, and those two within 200 steps."""
    recorded = judge_corpus(corpus)
    exploded = [run for run in recorded if run.label == EXPLOSION]
    assert len(exploded) == 18
    assert all(run.rule for run in exploded)
    late = [run.steps_ahead for run in exploded if (run.seconds_ahead or 0.0) < 0]
    assert len(late) <= 2
    assert all(steps is not None and steps >= -200 for steps in late)
    assert not [run.run for run in recorded if run.label == HEALTHY and run.rule]


def test_the_intervals_are_those_of_the_books() -> None:
    """Wilson for 0, 5 and 10 of 10; Garwood for 0 and 10 events."""
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert poisson(0) == pytest.approx((0.0, 2.9957), abs=1e-4)
    assert poisson(10) == pytest.approx((4.7954, 18.3904), abs=1e-4)
    assert poisson(500) == pytest.approx((457.13, 545.81), abs=0.05)
    assert quantile([3.0, 1.0, 2.0], 0.25) == 1.5


def test_a_bootstrap_draws_clusters_and_not_runs() -> None:
    """Ten runs of one project that agree are one vote: the interval reaches to the other project."""
    low, high = clustered({"one": [0.0] * 10, "other": [100.0]})
    assert (low, high) == (0.0, 100.0)


def test_tables_are_put_between_the_markers_of_a_page(tmp_path: Path) -> None:
    """What stands around them stays, however often they are written."""
    begin, end = "<!-- detection: generated", "<!-- detection: end -->"
    page = tmp_path / "page.md"
    page.write_text(f"before\n{begin} by x -->\nold\n{end}\nafter\n", encoding="utf-8")
    table = Table("title", ("a", "b"), [("1", "x|y")], "note")
    for _ in range(2):
        write(page, "detection", [table])
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{begin} by x -->\n\n**title**")
    assert text.endswith(f"{end}\nafter\n")
    assert "old" not in text
    assert markdown(table) in text
    assert "x\\|y" in text


@pytest.mark.parametrize("seeds", ["", "ten", "5-3", "1--2"])
def test_seeds_that_are_none_are_refused(seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and an example, before anything is measured."""
    assert detection.main(["--seeds", seeds]) == 2
    assert "1000-1059" in capsys.readouterr().err
