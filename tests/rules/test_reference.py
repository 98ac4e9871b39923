"""docs/rules.md is true: its tables are those of the code, and every example on it is read by the code."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from rules import packs, scenario
from rules.compile import MESSAGE_NUMBERS, MESSAGE_WORDS
from rules.functions import FUNCTIONS
from rules.reference import fill, table
from rules.schema import LimitsSpec, RuleSpec, RungSpec
from sentinel.config import load
from sentinel.scenarios import failures

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_tables_are_those_of_the_code() -> None:
    """If this fails: `python -m rules.reference < docs/rules.md`, and read what changed."""
    assert fill(PAGE) == PAGE


def test_every_function_has_a_row() -> None:
    """With its whole signature."""
    for row in FUNCTIONS.values():
        signature = row.signature.replace("|", "\\|")
        assert f"\n| `{signature}` |" in PAGE


def test_every_shipped_rule_has_a_row() -> None:
    """Also those that are shipped switched off."""
    for pack in packs.names():
        for rule in packs.read(pack).data["rule"]:
            assert f"\n| `{pack}/{rule['name']}`" in PAGE


def test_every_key_is_explained() -> None:
    """Of rules, rungs and limits, and every name of a message."""
    for model in (RuleSpec, RungSpec, LimitsSpec):
        for name, field in model.model_fields.items():
            key = field.alias or name
            assert f"`{key}`" in PAGE or f"\n{key} = " in PAGE, key
    for name in MESSAGE_NUMBERS | MESSAGE_WORDS:
        assert f"`{{{name}}}`" in PAGE, name


def test_there_are_examples() -> None:
    """And the pattern finds them."""
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.splitlines()[0][:30])
def test_an_example_is_read(text: str, tmp_path: Path) -> None:
    """As a configuration beside the shipped packs, or as a scenario that passes."""
    if "[[test]]" in text:
        found = scenario.load(text, "rules.md", str)
        assert [failures(found, number) for number in range(len(found.cases))] == [[]] * len(found.cases)
        return
    if "include" not in text:
        text = f'include = ["pack:generic", "pack:td3"]\n{text}'
    (tmp_path / "team.toml").write_text("", encoding="utf-8")
    (tmp_path / "sentinel.toml").write_text(text, encoding="utf-8")
    assert load(tmp_path / "sentinel.toml").program.rules


def test_a_table_that_is_not_there_is_not_made_up() -> None:
    """A pack's name is looked up."""
    with pytest.raises(LookupError, match="no pack"):
        table("td4")


def test_filling_in_twice_changes_nothing() -> None:
    """What is outside the marks is left alone, inside all is made anew."""
    page = textwrap.dedent(
        """\
        before
        <!-- table: functions -->
        stale rows
        <!-- end -->
        after
        """
    )
    once = fill(page)
    assert once.startswith("before\n")
    assert once.endswith("<!-- end -->\nafter\n")
    assert "stale rows" not in once
    assert fill(once) == once
