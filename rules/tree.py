"""The typed tree of the rule language: what the parser makes and the evaluator reads.

Trees are values: two equal subtrees compare and hash equal, wherever they were written. That is what lets
rules share their windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from rules.functions import FUNCTIONS, Function, Kind, WindowUnit


@dataclass(frozen=True, slots=True)
class Number:
    """A constant; parameters become one."""

    value: float


@dataclass(frozen=True, slots=True)
class Truth:
    """True or False, written out."""

    value: bool


@dataclass(frozen=True, slots=True)
class Metric:
    """A name of [metrics]; which tag or expression it stands for is settled in each run."""

    name: str


@dataclass(frozen=True, slots=True)
class Tag:
    """An exact tag, `m["train/loss"]`; in an `each` rule it may hold `{captures}` to fill in."""

    name: str


@dataclass(frozen=True, slots=True)
class Each:
    """`x`: the tag that an instance of an `each` rule stands for."""


@dataclass(frozen=True, slots=True)
class StepAny:
    """`step_any`: one point whenever the run as a whole has come further."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A metric or tag that the run has not logged (yet). Never written: put in when a run is looked at."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """A metric with align = "step": its inputs join at equal steps only. Never written in an expression."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a series: the last `size` points, steps or seconds."""

    unit: WindowUnit
    size: float


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the function table; `options` are the keyword constants that were given, sorted by name."""

    function: str
    arguments: tuple[Node, ...]
    window: Window | None
    options: tuple[tuple[str, float | str], ...]

    @property
    def row(self) -> Function:
        """The function's row in the table."""
        return FUNCTIONS[self.function]

    def number(self, name: str) -> float:
        """A numeric option's value, given or by default."""
        value = dict(self.options).get(name)
        if value is None:
            option = self.row.option(name)
            value = option.default if option else None
        return float("nan") if value is None or isinstance(value, str) else value

    def word(self, name: str) -> str:
        """A worded option's value, given or by default."""
        option = self.row.option(name)
        return str(dict(self.options).get(name, option.default if option else ""))


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`left op right` on numbers, op one of + - * / % **."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Negative:
    """`-operand`."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Compare:
    """`left op right`, a condition; op one of < <= > >= == !=."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Logic:
    """`and` or `or` over conditions, in Kleene's three-valued logic."""

    op: Literal["and", "or"]
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`not operand`."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Choice:
    """`then if condition else otherwise`."""

    condition: Node
    then: Node
    otherwise: Node


Node: TypeAlias = (
    Number
    | Truth
    | Metric
    | Tag
    | Each
    | StepAny
    | Missing
    | Aligned
    | Call
    | Arithmetic
    | Negative
    | Compare
    | Logic
    | Not
    | Choice
)


def kind(node: Node) -> Kind:
    """Whether a tree is a number or a condition; every tree is one of the two."""
    if isinstance(node, Call):
        return node.row.returns
    if isinstance(node, Choice):
        return kind(node.then)
    return "bool" if isinstance(node, Compare | Logic | Not | Truth) else "num"


def children(node: Node) -> tuple[Node, ...]:
    """The direct parts of a tree, in the order of the text."""
    match node:
        case Call():
            return node.arguments
        case Arithmetic() | Compare():
            return (node.left, node.right)
        case Negative() | Not() | Aligned():
            return (node.operand,)
        case Logic():
            return node.operands
        case Choice():
            return (node.condition, node.then, node.otherwise)
        case _:
            return ()


def with_children(node: Node, parts: Sequence[Node]) -> Node:
    """The same tree with other direct parts, in the order of `children`."""
    match node:
        case Call():
            return replace(node, arguments=tuple(parts))
        case Logic():
            return replace(node, operands=tuple(parts))
        case Arithmetic() | Compare():
            return replace(node, left=parts[0], right=parts[1])
        case Negative() | Not() | Aligned():
            return replace(node, operand=parts[0])
        case Choice():
            return Choice(*parts)
        case _:
            return node


def walk(node: Node) -> Iterator[Node]:
    """A tree and all its parts, in the order of the text."""
    yield node
    for child in children(node):
        yield from walk(child)
