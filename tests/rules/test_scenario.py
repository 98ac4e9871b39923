"""Every scenario file passes; the notation says what it says; and a wrong expectation is told in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from rules.scenario import Scenario, load

FOLDER = Path(__file__).parents[1] / "scenarios"
FILES = sorted(FOLDER.glob("*.toml"))


def scenario(path: Path) -> Scenario:
    return load(path.read_text(encoding="utf-8"), path.name, lambda name: (path.parent / name).read_text(encoding="utf-8"))


CASES = [(path, number, case.name) for path in FILES for number, case in enumerate(scenario(path).cases)]


@pytest.mark.parametrize(("path", "number"), [(p, n) for p, n, _ in CASES], ids=[f"{p.stem}: {n}" for p, _, n in CASES])
def test_a_scenario_passes(path: Path, number: int) -> None:
    """The rules we ship do what their scenarios say."""
    assert scenario(path).failures(number) == []
