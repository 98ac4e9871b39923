"""docs/rule-tests.md is true: its examples pass, its failure fails like that, and every key is explained."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from rules.case import Axis, Bounds, Case, Deed, Expect, Rate, Rewind
from rules.generators import FAMILIES
from rules.schema import Strict
from sentinel.scenario_report import run_scenarios
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0, scalar

PAGE = (Path(__file__).parents[2] / "docs" / "rule-tests.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_there_are_the_examples_that_are_spoken_of() -> None:
    """And the pattern finds them."""
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("text", EXAMPLES, ids=["own rule", "ladder", "generated", "recorded"])
def test_an_example_passes(text: str, tmp_path: Path) -> None:
    """Whoever copies it begins with a green test."""
    run = tmp_path / "runs" / "tuesday"
    run.mkdir(parents=True)
    points = [scalar("policy/q", step, step / 25, T0 + step) for step in range(0, 3000, 100)]
    (run / "events.out.tfevents.1700000000.host").write_bytes(b"".join(points))
    (tmp_path / "rules.toml").write_text(text, encoding="utf-8")
    out = io.StringIO()
    assert run_scenarios([tmp_path / "rules.toml"], out, FakeClock()) == 0, out.getvalue()


def test_the_failure_that_is_shown_looks_like_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last column."""
    shown = re.search(r"<!-- output -->\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    monkeypatch.chdir(tmp_path)
    Path("rules.toml").write_text(FAILS, encoding="utf-8")
    out = io.StringIO()
    assert run_scenarios([Path("rules.toml")], out, FakeClock()) == 1
    assert out.getvalue() == shown[1]


FAILS = """\
[metrics]
lr = ["train/learning_rate"]
[[rule]]
name = "lr_high"
expr = "lr > 0.01"
for = "2 points"
clear = "lr < 0.005"
summary = "lr {lr}"
[[test]]
name = "stays high"
steps = "100+100x3"
series = { "train/learning_rate" = "0.001 0.02x1 0.001" }
[[test.expect]]
rule = "lr_high"
fires_at = 200
"""


@pytest.mark.parametrize("model", [Axis, Bounds, Case, Deed, Expect, Rate, Rewind], ids=lambda m: m.__name__)
def test_every_key_is_explained(model: type[Strict]) -> None:
    """A key that the page does not name can only be found in the source."""
    missing = [key for key in model.model_fields if not re.search(rf"`{key}`|[{{,] {key} = ", PAGE)]
    assert not missing


def test_every_generator_is_named() -> None:
    """By the name it is asked for."""
    assert [name for name in FAMILIES if f"`{name}`" not in PAGE] == []
