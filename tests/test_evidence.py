"""Two pages promise by naming tests; here it is seen that each of these tests is there.

A promise whose test was renamed or taken out is an opinion again, and nobody notices.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("threat-model", "reliability")

TEST = re.compile(r"`((?:tests/)?[\w/]*test_\w+\.py|tests/[\w/]+)(?:::(\w+))?`")


def rows(page: str) -> list[str]:
    """The rows of the tables that have a column `test`, without their heads."""
    found, inside = [], False
    for line in (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            inside = False
        elif line.rstrip().endswith("| test |"):
            inside = True
        elif inside and not line.startswith("|---"):
            found.append(line)
    return found


def named(text: str) -> list[tuple[str, str]]:
    """Every test that a text names: (path, function), the function "" where the whole file is meant."""
    return [(path, function) for path, function in TEST.findall(text)]


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", PAGES)
def test_every_row_names_a_test(page: str) -> None:
    """A threat or a fault without one is a hope."""
    lines = rows(page)
    assert len(lines) > 5, "the table was found"
    assert not [line for line in lines if not named(line.split("|")[-2])]


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_is_named_is_there(page: str) -> None:
    """By its whole path from the root, and by the function's name where one is given."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    for path, function in named(text):
        place = ROOT / path
        assert place.exists(), f"docs/{page}.md names {path}, which is not there"
        if place.is_dir():
            assert list(place.glob("test_*.py")), f"docs/{page}.md names {path}, which holds no test"
        elif function:
            assert function in functions(place), f"docs/{page}.md names {function}, which {path} lacks"


def test_a_row_without_a_test_would_be_noticed() -> None:
    """The check above is worth something only if it can fail."""
    assert named("| a | b | c | `tests/e2e/test_faults.py` |") == [("tests/e2e/test_faults.py", "")]
    assert named("`tests/e2e/test_faults.py::test_x` (slow)") == [("tests/e2e/test_faults.py", "test_x")]
    assert named("| a | b | c | in `sentinel status` |") == []
