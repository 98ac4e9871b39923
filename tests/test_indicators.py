"""The early indicators: what the benchmark counts as found, as ahead, and as a false alarm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import indicator_runs, indicators
from benchmarks.detection_tables import Table
from benchmarks.indicator_runs import Run, plan
from tests.sentinel.event_files import T0, scalar

WELL = Run("sb3", "td3", "Pendulum-v1", "stock", 0)
ILL = Run("sb3", "td3", "Pendulum-v1", "leak", 0)


def write(folder: Path, run: Run, actor_q: list[float], **others: float) -> None:
    """Write a run with the given actor Q every 50 steps from 100 on; each other tag is constant."""
    path = folder / run.name
    path.mkdir(parents=True)
    content = b"".join(
        scalar(tag, 100 + 50 * number, value, T0 + number)
        for number, q in enumerate(actor_q)
        for tag, value in {"debug/actor_q_mean": q, **{f"debug/{k}": v for k, v in others.items()}}.items()
    )
    (path / "events.out.tfevents.1.host").write_bytes(content)


def judged(folder: Path) -> list[Any]:
    """Judge a folder without any corpus."""
    return indicators.judge_all(folder)


def cells(table: Table, says: str) -> dict[str, str]:
    """Return one row by the heads of its columns."""
    (row,) = [row for row in table.rows if row[0].startswith(says)]
    return dict(zip(table.head, row, strict=True))


def test_a_lead_is_counted_from_the_second_point_to_the_harm(tmp_path: Path) -> None:
    """Above the greatest Q1 at 150 and 200, above 50 at 300: fired at 200, 100 steps ahead."""
    write(tmp_path, WELL, [1.0] * 6, q1_mean=1, q1_max=4, target_q_max=9)
    write(tmp_path, ILL, [1, 5, 6, 20, 60, 90], q1_mean=1, q1_max=4, target_q_max=9)
    row = cells(indicators.fault_table(judged(tmp_path)), "mean actor Q > greatest Q1")
    assert row["leak"] == "1/1, 100 (100)"
    assert row["false alarms"] == "0/1"


def test_harm_is_measured_against_the_tasks_healthy_runs(tmp_path: Path) -> None:
    """Where a healthy run's Q reaches 100, harm begins above 200 and below -50."""
    write(tmp_path, WELL, [10.0, 100.0], q1_mean=10)
    write(tmp_path, ILL, [60.0, 190.0, 201.0], q1_mean=10)
    assert [one.harm for one in judged(tmp_path)] == [None, 200]


def test_a_run_without_an_indicators_tags_is_not_counted_against_it(tmp_path: Path) -> None:
    """One that logs no twins neither finds nor misses by them; one found after the harm is missed."""
    write(tmp_path, ILL, [60.0, 70.0, 80.0], q1_mean=1, q1_max=4)
    table = indicators.fault_table(judged(tmp_path))
    assert cells(table, "|Q1 - Q2|")["leak"] == "n/a"
    assert cells(table, "mean actor Q > greatest Q1")["leak"] == "0/1, -50 (-50)"


def test_a_false_alarm_of_a_shipped_indicator_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is named; without one the end is 0, and without runs 2."""
    monkeypatch.delenv("SENTINEL_CORPUS", raising=False)
    monkeypatch.setattr(indicators, "GENERATED_SEEDS", range(1))
    monkeypatch.setattr(indicators, "GENERATED_POINTS", 40)
    write(tmp_path / "well", WELL, [1.0] * 4, q1_mean=1, q1_max=4)
    write(tmp_path / "false", WELL, [5.0] * 4, q1_mean=1, q1_max=4)
    assert indicators.main(["--runs", str(tmp_path / "well"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["harm"] is None
    assert indicators.main(["--runs", str(tmp_path / "false")]) == 1
    assert f"{WELL.name}: td3/actor_q_above_data at step 150" in capsys.readouterr().err
    assert indicators.main(["--runs", str(tmp_path)]) == 2


def test_a_run_that_was_recorded_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan names every run once, and one whose folder is there is left alone."""
    runs = list(plan())
    assert len({run.name for run in runs}) == len(runs)
    monkeypatch.setattr(indicator_runs, "command", lambda run, folder: ["mkdir", str(folder)])
    assert indicator_runs.record(ILL, tmp_path)
    assert not indicator_runs.record(ILL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [ILL.name]
