"""The function table is complete: every row can be computed, and says what it means."""

from __future__ import annotations

import pytest

from rules.functions import FUNCTIONS, Function
from rules.measures import CONDITIONS, MEASURES


def test_every_function_is_computed_by_exactly_one_maker() -> None:
    """The table and the makers name the same functions."""
    numbers = {name for name, row in FUNCTIONS.items() if row.returns == "num"}
    assert set(MEASURES) == numbers
    assert set(CONDITIONS) == set(FUNCTIONS) - numbers


@pytest.mark.parametrize("row", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_a_row_says_what_it_means(row: Function) -> None:
    """Meaning, when unknown, and a signature that begins with the name."""
    assert row.meaning
    assert row.unknown
    assert row.signature.startswith(f"{row.name}(")
    assert all(option.default is not None for option in row.options)


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("mean", "mean(series, steps=|points=|time=)"),
        ("doubling_steps", "doubling_steps(series, steps=|points=|time=, min_r2=0.9)"),
        ("relgap", "relgap(a, b, floor=1)"),
        ("best", 'best(series, mode="max")'),
        ("stale", "stale(series, time=)"),
        ("max", "max(a, ...)"),
    ],
)
def test_signatures_read_like_calls(name: str, signature: str) -> None:
    """As error messages show them."""
    assert FUNCTIONS[name].signature == signature
