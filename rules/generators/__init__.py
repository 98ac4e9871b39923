"""Generated runs: healthy and sick ones, from a line such as `cheetah(seed=3, n=2000)`.

The same text gives the same numbers, on every machine. A sick family knows where its fault began, exactly,
which no recorded run does; recorded runs are needed beside it, since a generator knows only the faults that
somebody thought of.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rules.generators.learning import SHAPES, run
from rules.generators.trace import Place, Point, Rewind, Setting, Trace
from rules.source import nearest

__all__ = [
    "FAMILIES",
    "MOST_POINTS",
    "Family",
    "Place",
    "Point",
    "Rewind",
    "Setting",
    "Trace",
    "generate",
    "trace",
]

MOST_POINTS = 100_000
"""Longest driving series that one line may ask for."""


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of run.

    Attributes:
        name: as it is asked for. what: one sentence. build: draws one.
        healthy: whether it has no fault.
    """

    name: str
    what: str
    build: Callable[[random.Random, Setting], Trace]
    healthy: bool = True


FAMILIES: Mapping[str, Family] = {
    name: Family(name, (shape.__doc__ or name).partition("\n")[0], partial(run, shape))
    for name, shape in SHAPES.items()
}


def generate(text: str) -> dict[str, list[Point]]:
    """Return (step, wall time, value) by tag for a line such as `cheetah(seed=3, n=2000)`.

    Arguments are seed=, n= (points of the driving series), cadence= (steps between them), and for faults
    severity= (1, 2 or 3) and at= (share of the run before the fault); all have defaults.

    Raises:
        ValueError: no such family or argument, or a value that it cannot have.
    """
    return trace(text).series


def trace(text: str) -> Trace:
    """Return the whole run for such a line: its series, its onset, its rewinds.

    Raises:
        ValueError: as `generate`.
    """
    family, setting = read(text)
    return draw(family, setting)


def draw(family: Family, setting: Setting) -> Trace:
    """Draw one run of a family; the same setting gives the same run."""
    return family.build(random.Random(f"{family.name}/{setting.seed}"), setting)


def read(text: str) -> tuple[Family, Setting]:
    """Read `name` or `name(argument=number, ...)`.

    Raises:
        ValueError: as `generate`.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(f"{text!r} is no generator; write cheetah(seed=3, n=2000)") from error
    call = node if isinstance(node, ast.Call) else None
    name = call.func if call else node
    if not isinstance(name, ast.Name) or (call and call.args):
        raise ValueError(f"{text!r} is no generator; write cheetah(seed=3, n=2000)")
    family = FAMILIES.get(name.id)
    if family is None:
        raise ValueError(f"no generator {name.id!r}{_hint(name.id, FAMILIES)}")
    given: dict[str, Any] = {}
    for keyword in call.keywords if call else ():
        key = keyword.arg or "**"
        if key not in Setting.__slots__:
            raise ValueError(f"{family.name}() has no argument {key!r}{_hint(key, Setting.__slots__)}")
        given[key] = _number(family.name, key, keyword.value)
    return family, _checked(family.name, Setting(**given))


def _number(family: str, key: str, node: ast.expr) -> float | int:
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if key == "at" else value
    if isinstance(value, float) and key == "at":
        return value
    raise ValueError(f"{family}({key}=...) must be a {'number' if key == 'at' else 'whole number'}")


def _checked(family: str, setting: Setting) -> Setting:
    if not 1 <= setting.n <= MOST_POINTS:
        raise ValueError(f"{family}(n={setting.n}) must be from 1 to {MOST_POINTS}")
    if not 1 <= setting.cadence <= 1_000_000:
        raise ValueError(f"{family}(cadence={setting.cadence}) must be from 1 to 1000000")
    if setting.severity not in (1, 2, 3):
        raise ValueError(f"{family}(severity={setting.severity}) must be 1, 2 or 3")
    if not 0 <= setting.at < 1:
        raise ValueError(f"{family}(at={setting.at:g}) must be at least 0 and below 1")
    return setting


def _hint(name: str, known: Collection[str]) -> str:
    return f"; {nearest(name, known)}"
