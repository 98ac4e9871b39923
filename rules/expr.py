"""From the text of a rule to a typed tree, or to errors that say where and what to write instead.

The language is a strict subset of Python expressions: `ast.parse` gives precedence and columns, then only
the node kinds named here are let through. Nothing is ever evaluated by Python itself. Names of metrics stay
names: which tag a metric is, is known only in a run.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from rules.calls import WRONG, Calls
from rules.functions import FUNCTIONS, Kind
from rules.syntax import MAX_PARTS, Fault, Span, UnreadableError, nearest, read
from rules.tree import (
    Arithmetic,
    Choice,
    Compare,
    Each,
    Logic,
    Metric,
    Negative,
    Node,
    Not,
    Number,
    StepAny,
    Tag,
    Truth,
    kind,
    walk,
)

MAX_NESTING = 4
_MOST_WITHIN = 32  # lets are followed further than they may be nested, but not as far as the stack goes


@dataclass(frozen=True, slots=True)
class Scope:
    """What the names in an expression may mean.

    Attributes:
        metrics: names of [metrics].
        params: the numbers behind `p.name`.
        lets: the rule's own `let` texts; parsed where they are used.
        each: whether the rule has `each`, and so an `x`.
        captures: names of the pattern's `{captures}`, usable inside m["..."].
        parsed: the lets that have been parsed in this scope, so that each is parsed once.
    """

    metrics: Collection[str] = ()
    params: Mapping[str, float] = field(default_factory=dict)
    lets: Mapping[str, str] = field(default_factory=dict)
    each: bool = False
    captures: Collection[str] = ()
    parsed: dict[str, Let] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Let:
    """A let, parsed: `depth` is how many lets it is made of, one on the other; `size` counts its parts."""

    tree: Node
    faulty: bool
    depth: int
    size: int


def parse(text: str, scope: Scope, expect: Kind | None = None) -> tuple[Node, list[Fault]]:
    """Parse one expression.

    Args:
        text: the expression as the file has it.
        scope: what names may mean.
        expect: what the whole must be; None takes either.

    Returns:
        the tree and every fault found; with faults the tree is not to be used.
    """
    text = re.sub(r"\s", " ", text)
    leading = len(text) - len(text.lstrip(" "))
    parser = _Parser(text, scope)
    try:
        node = parser.node(read(text))
    except UnreadableError as error:
        return Truth(value=False), [error.fault]
    if expect and not parser.faults and kind(node) != expect:
        whole = (leading, len(text.rstrip(" ")))
        if expect == "bool":
            parser.fault("this must be a condition, and is a number", whole, "compare it: ... > 0")
        else:
            parser.fault(
                "this must be a number, and is a condition",
                whole,
                "count a condition with frac(cond, points=n)",
            )
    return node, parser.faults


def _parse_let(name: str, scope: Scope, within: int) -> Let:
    too_deep = Let(WRONG, faulty=True, depth=MAX_NESTING + 1, size=0)
    if within > _MOST_WITHIN:
        return too_deep
    scope.parsed[name] = too_deep  # while it is parsed: it may name itself
    text = re.sub(r"\s", " ", scope.lets[name])
    parser = _Parser(text, scope, within)
    try:
        tree = parser.node(read(text))
        size = 0 if parser.faults else sum(1 for _ in walk(tree))
        let = Let(tree, bool(parser.faults), parser.depth + 1, size)
    except UnreadableError:
        let = Let(WRONG, faulty=True, depth=1, size=0)
    scope.parsed[name] = let
    return let


_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "%", ast.Pow: "**",
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
_FORBIDDEN: dict[type[ast.expr], tuple[str, str]] = {
    ast.Lambda: ("lambda is not allowed", ""),
    ast.ListComp: ("comprehensions are not allowed", ""),
    ast.SetComp: ("comprehensions are not allowed", ""),
    ast.DictComp: ("comprehensions are not allowed", ""),
    ast.GeneratorExp: ("comprehensions are not allowed", ""),
    ast.JoinedStr: ("f-strings are not allowed", ""),
    ast.NamedExpr: ("':=' is not allowed", "give it a name under let = { ... }"),
    ast.Starred: ("starred arguments are not allowed", ""),
    ast.Tuple: ("lists of values are not allowed", ""),
    ast.List: ("lists of values are not allowed", ""),
    ast.Set: ("lists of values are not allowed", ""),
    ast.Dict: ("lists of values are not allowed", ""),
    ast.Await: ("await is not allowed", ""),
}


class _Parser:
    """Turns one syntax tree into ours, collecting faults as it goes."""

    def __init__(self, text: str, scope: Scope, within: int = 0) -> None:
        self.text = text
        self.scope = scope
        self.within = within  # so many lets that are being parsed
        self.depth = 0  # of the deepest let that it names
        self.size = 0  # parts of all lets that it names
        self.faults: list[Fault] = []
        self._bytes = text.encode("utf-8", "surrogatepass")

    def fault(self, what: str, span: Span | None, hint: str = "") -> Node:
        """Tell of a fault; returns what stands for the faulty part."""
        self.faults.append(Fault(what, span, hint))
        return WRONG

    def span(self, node: ast.expr) -> Span:
        """Where a part stands in the text."""
        return self._column(node.col_offset), self._column(node.end_col_offset or node.col_offset)

    def _column(self, offset: int) -> int:
        return len(self._bytes[:offset].decode("utf-8", "replace"))

    def node(self, node: ast.expr) -> Node:
        """A part as a tree."""
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self._name(node)
            case ast.Call():
                return Calls(self).read(node)
            case ast.Attribute():
                return self._attribute(node)
            case ast.Subscript():
                return self._subscript(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp():
                return self._binary(node)
            case ast.BoolOp():
                operands = tuple(self.condition(value) for value in node.values)
                return Logic("and" if isinstance(node.op, ast.And) else "or", operands)
            case ast.Compare():
                return self._compare(node)
            case ast.IfExp():
                return self._choice(node)
            case _:
                what, hint = _FORBIDDEN.get(type(node), (f"{type(node).__name__} is not allowed", ""))
                return self.fault(what, self.span(node), hint)

    def _constant(self, node: ast.Constant) -> Node:
        value = node.value
        if isinstance(value, bool):
            return Truth(value)
        if isinstance(value, int | float):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isinf(number):
                return self.fault("the number is too large", self.span(node), "no number is beyond 1.8e308")
            return Number(number)
        if isinstance(value, str):
            return self.fault(
                "a string is not a value", self.span(node), 'an exact tag is written m["train/loss"]'
            )
        return self.fault(f"{value!r} is not a number", self.span(node))

    def _name(self, node: ast.Name) -> Node:
        name, scope = node.id, self.scope
        if name in scope.lets:
            return self._let(node)
        if name == "step_any":
            return StepAny()
        if name == "x" and scope.each:
            return Each()
        if name in scope.metrics:
            return Metric(name)
        if name in FUNCTIONS:
            return self.fault(
                f"{name} is a function", self.span(node), f"signature: {FUNCTIONS[name].signature}"
            )
        if name == "x":
            return self.fault(
                "unknown metric 'x'", self.span(node), 'x is known in a rule with each = "pattern"'
            )
        known = [*scope.metrics, *scope.lets, "step_any"]
        hint = nearest(name, known) or 'declare it under [metrics], or use m["exact/tag"]'
        return self.fault(f"unknown metric '{name}'", self.span(node), hint)

    def _let(self, node: ast.Name) -> Node:
        name = node.id
        let = self.scope.parsed.get(name) or _parse_let(name, self.scope, self.within + 1)
        if let.depth > MAX_NESTING:
            self.depth = let.depth
            what = f"let '{name}' is nested deeper than {MAX_NESTING}"
            return self.fault(what, self.span(node), "does a let name itself?")
        if let.faulty:
            return WRONG  # the let's own faults are told where it is defined
        self.depth = max(self.depth, let.depth)
        before, self.size = self.size, self.size + let.size
        if self.size <= MAX_PARTS:
            return let.tree
        what = f"with its lets filled in this has more than {MAX_PARTS} parts"
        return self.fault(what, self.span(node), "name less in it") if before <= MAX_PARTS else WRONG

    def _attribute(self, node: ast.Attribute) -> Node:
        if not (isinstance(node.value, ast.Name) and node.value.id == "p"):
            return self.fault("attribute access is not allowed", self.span(node), "only p.<param> is")
        if node.attr not in self.scope.params:
            hint = nearest(node.attr, self.scope.params, "p.") or "declare it under [params]"
            return self.fault(f"unknown parameter 'p.{node.attr}'", self.span(node), hint)
        return Number(float(self.scope.params[node.attr]))

    def _subscript(self, node: ast.Subscript) -> Node:
        if not (isinstance(node.value, ast.Name) and node.value.id == "m"):
            return self.fault("subscripts are not allowed", self.span(node), 'only m["exact/tag"] is')
        if not (isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)):
            return self.fault(
                "m[...] takes an exact tag in quotes", self.span(node), 'for instance m["train/loss"]'
            )
        tag = node.slice.value
        for name in re.findall(r"\{(\w+)\}", tag) if self.scope.each else ():
            if name not in self.scope.captures:
                hint = nearest(name, self.scope.captures) or "captures are the {names} in the pattern of each"
                return self.fault(f"unknown capture '{{{name}}}'", self.span(node), hint)
        return Tag(tag)

    def _unary(self, node: ast.UnaryOp) -> Node:
        if isinstance(node.op, ast.Not):
            return Not(self.condition(node.operand, "'not' needs a condition"))
        if isinstance(node.op, ast.Invert):
            return self.fault("'~' is not allowed", self.span(node), "use 'not'")
        operand = self.number(node.operand)
        if isinstance(node.op, ast.UAdd):
            return operand
        return Number(-operand.value) if isinstance(operand, Number) else Negative(operand)

    def _binary(self, node: ast.BinOp) -> Node:
        op = _BINARY.get(type(node.op))
        if op is None:
            return self.fault("bit operators are not allowed", self.span(node), "use 'and' / 'or' / 'not'")
        before = len(self.faults)
        left = self.number(node.left)
        if op == "/" and len(self.faults) > before:
            return WRONG  # most likely a tag written without m["..."]: one fault says it
        return Arithmetic(op, left, self.number(node.right))

    def _compare(self, node: ast.Compare) -> Node:
        if any(type(op) not in _COMPARE for op in node.ops):
            return self.fault("'is' and 'in' are not allowed", self.span(node), "compare with == or !=")
        sides = [
            self.number(side, "a condition cannot be compared") for side in (node.left, *node.comparators)
        ]
        parts: list[Node] = []
        for op, left, right in zip(node.ops, sides, sides[1:], strict=False):
            parts.append(Compare(_COMPARE[type(op)], left, right))
        return parts[0] if len(parts) == 1 else Logic("and", tuple(parts))

    def _choice(self, node: ast.IfExp) -> Node:
        condition = self.condition(node.test, "the condition of 'if' must be one")
        then, otherwise = self.node(node.body), self.node(node.orelse)
        if WRONG not in (then, otherwise) and kind(then) != kind(otherwise):
            return self.fault("both arms of 'if' must be numbers, or both conditions", self.span(node))
        return Choice(condition, then, otherwise)

    def condition(self, node: ast.expr, what: str = "'and'/'or' need conditions on both sides") -> Node:
        tree = self.node(node)
        if tree != WRONG and kind(tree) != "bool":
            return self.fault(f"{what}, this is a number", self.span(node), "compare it: ... > 0")
        return tree

    def number(self, node: ast.expr, what: str = "a condition is not a number") -> Node:
        tree = self.node(node)
        if tree != WRONG and kind(tree) != "num":
            return self.fault(what, self.span(node), "count conditions with frac(cond, points=n)")
        return tree
