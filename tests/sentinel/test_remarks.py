"""What keeps rules from being judged is told, once, and however the run was read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.series import Sample
from sentinel.config import load
from sentinel.judge import Judge
from sentinel.remarks import Remark, Remarks
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import RULES, Scene


def q_and(other: str, until: float, last: float = 1e9) -> list[Sample]:
    """q every half a minute, and another tag that falls silent."""
    found: list[Sample] = []
    for n in range(int(until / 30)):
        found.append(("q", 100 * n, T0 + 30 * n, 1.0))
        if 30 * n <= last:
            found.append((other, 100 * n, T0 + 30 * n, 1.0))
    return found


def notices(scene: Scene, title: str) -> list[str]:
    return [m.happened for m in scene.post.messages if m.title == title]


def live(scene: Scene, samples: list[Sample], *, restart_every: int = 10**9) -> None:
    for n, sample in enumerate(samples, 1):
        scene.log([sample])
        scene.tick(0.01)
        if n % restart_every == 0:
            scene.start()
    scene.settle()
    scene.tick(1.1)


def test_a_name_that_nothing_stands_for_is_told_once_with_the_nearest_tag(tmp_path: Path) -> None:
    """Not at the first point: some tags come late. Nor again after a restart."""
    scene = Scene(tmp_path, FakeClock(T0), RULES.replace('r = ["r"]', 'r = ["train/reward"]'))
    live(scene, q_and("train/rewards", 500))
    assert notices(scene, "names without a tag") == []
    live(scene, q_and("train/rewards", 2400)[40:], restart_every=7)
    (text,) = notices(scene, "names without a tag")
    assert "r (the nearest tag is train/rewards)" in text
    assert "ahead" in text


def test_a_rule_that_is_blind_for_ten_minutes_is_told_and_shown(tmp_path: Path) -> None:
    """Its metric was there and has grown old."""
    scene = Scene(tmp_path, FakeClock(T0))
    live(scene, q_and("r", 4200, last=1200))
    (text,) = notices(scene, "rules without data")
    assert text.endswith(": ahead")
    (row,) = scene.journal.rows("SELECT value FROM meta WHERE name = 'marks/a'")
    assert json.loads(row["value"]) == {"ahead": "nodata"}
    assert {m.severity for m in scene.post.messages if m.kind == "notice"} == {"info"}


def test_a_healthy_run_is_told_nothing(tmp_path: Path) -> None:
    """Every rule has what it needs."""
    scene = Scene(tmp_path, FakeClock(T0))
    live(scene, q_and("r", 3600))
    assert [m for m in scene.post.messages if m.kind == "notice"] == []


def test_a_rule_that_fails_is_told_once(tmp_path: Path) -> None:
    """By name and error, at once and not again after a restart; the other rules go on."""
    scene = Scene(tmp_path, FakeClock(T0))
    samples = q_and("r", 300)
    for n, sample in enumerate(samples):
        for run in scene.engine._fleet.live.values():
            run._judge.watch._evaluator.errors["q_high"] = "ZeroDivisionError: by zero"
        scene.log([sample])
        scene.tick(1.1)
        if n == 9:
            scene.start()
    (text,) = notices(scene, "a rule cannot be evaluated")
    assert text == "q_high: ZeroDivisionError: by zero"


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "s.toml"
    path.write_text(RULES)
    return path


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(0, 3000))
def test_how_the_samples_were_cut_changes_no_remark(rules: Path, cuts: list[int], last: int) -> None:
    """In one piece as in a replay, or in any pieces as live, with the memory carried from one to the next."""
    configuration = load(rules)

    def said(pieces: list[list[Sample]]) -> list[Remark]:
        judge = Judge(configuration.program, configuration.book)
        kept: dict[str, Any] = {}
        found: list[Remark] = []
        for piece in pieces:
            judge.remarks = Remarks(configuration.program, json.loads(json.dumps(kept)))
            judge.samples(piece, 0)
            kept = judge.remarks.kept()
            found += judge.remarked
            judge.remarked = []
        return found

    samples = q_and("r", 4800, last=last)
    pieces: list[list[Sample]] = []
    at = 0
    while at < len(samples):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(samples[at : at + size])
        at += size
    assert said(pieces) == said([samples])
