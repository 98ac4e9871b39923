"""Calls of the function table: arguments, windows and options, and what is wrong with them."""

from __future__ import annotations

import ast
import math
import re
from typing import Protocol

from rules.functions import FUNCTIONS, WINDOW_UNITS, Function, WindowUnit
from rules.syntax import Fault, Span, nearest
from rules.tree import Call, Each, Metric, Missing, Node, Number, StepAny, Tag, Window, walk

MAX_POINTS = 100_000

WRONG = Missing()
"""Stands where a faulty part was, so that the rest is still checked; no fault is told about it twice."""

_NO_WINDOW = Window("points", 0)
"""Stands where a window was wrong."""


class Parsing(Protocol):
    """What reading a call asks of the parser of the text around it."""

    faults: list[Fault]

    def fault(self, what: str, span: Span | None, hint: str = "") -> Node:
        """Tell of a fault; returns what stands for the faulty part."""

    def span(self, node: ast.expr) -> Span:
        """Where a part stands in the text."""

    def node(self, node: ast.expr) -> Node:
        """A part as a tree."""

    def condition(self, node: ast.expr, what: str = ...) -> Node:
        """A part that has to be a condition."""

    def number(self, node: ast.expr, what: str = ...) -> Node:
        """A part that has to be a number."""


def seconds(text: str) -> float | None:
    """The seconds of a duration such as "90s", "5m" or "1.5h"; None when it is not one."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d)\s*", text)
    if not found:
        return None
    return float(found[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[found[2]]


class Calls:
    """Reads calls for a parser."""

    def __init__(self, parser: Parsing) -> None:
        self._parser = parser

    def _fault(self, what: str, node: ast.expr, hint: str = "") -> Node:
        return self._parser.fault(what, self._parser.span(node), hint)

    def read(self, node: ast.Call) -> Node:
        """The tree of a call; what is wrong with it is told to the parser."""
        if not isinstance(node.func, ast.Name):
            return self._fault(
                "only functions of the table can be called",
                node,
                "see the list of functions",
            )
        function = FUNCTIONS.get(node.func.id)
        if function is None:
            hint = (
                nearest(node.func.id, FUNCTIONS, suffix="()")
                or f"the functions are {', '.join(sorted(FUNCTIONS))}"
            )
            return self._fault(f"unknown function '{node.func.id}'", node.func, hint)
        before = len(self._parser.faults)
        arguments = self._arguments(node, function)
        window, options = self._keywords(node, function)
        if len(self._parser.faults) > before or window is _NO_WINDOW:
            return WRONG
        return Call(function.name, arguments, window, tuple(sorted(options.items())))

    def _arguments(self, node: ast.Call, function: Function) -> tuple[Node, ...]:
        kinds = [argument for _, argument in function.arguments]
        given = len(node.args)
        if given < len(kinds) or (given > len(kinds) and not function.variadic):
            many = "at least " if function.variadic else ""
            noun = "argument" if len(kinds) == 1 else "arguments"
            self._fault(
                f"{function.name}() takes {many}{len(kinds)} {noun}, {given} given",
                node,
                f"signature: {function.signature}",
            )
            return ()
        kinds += kinds[-1:] * (given - len(kinds))
        return tuple(
            self._argument(value, kind, function) for value, kind in zip(node.args, kinds, strict=True)
        )

    def _argument(self, node: ast.expr, wanted: str, function: Function) -> Node:
        if wanted == "cond":
            return self._parser.condition(node, f"{function.name}() needs a condition")
        tree = self._parser.number(node)
        if wanted == "const" and tree != WRONG and not isinstance(tree, Number):
            return self._fault(
                "this argument must be a constant",
                node,
                f"signature: {function.signature}",
            )
        if function.name == "quantile" and isinstance(tree, Number) and not 0 <= tree.value <= 1:
            return self._fault("a quantile lies between 0 and 1", node)
        no_history = not any(isinstance(part, Metric | Tag | Each | StepAny | Missing) for part in walk(tree))
        if wanted == "series" and no_history:
            return self._fault(f"{function.name}() needs a metric, this is a constant", node)
        return tree

    def _keywords(self, node: ast.Call, function: Function) -> tuple[Window | None, dict[str, float | str]]:
        before = len(self._parser.faults)
        windows: list[Window | None] = []
        options: dict[str, float | str] = {}
        for keyword in node.keywords:
            name, value = keyword.arg, keyword.value
            if name is None:
                self._fault("starred arguments are not allowed", value)
            elif name not in function.keywords:
                hint = nearest(name, function.keywords) or f"signature: {function.signature}"
                self._fault(f"{function.name}() has no argument '{name}'", value, hint)
            elif name in WINDOW_UNITS:
                windows.append(self._window(WINDOW_UNITS[name], value))
            else:
                self._option(function, name, value, options)
        if not function.windows:
            return None, options
        if len(windows) != 1 and len(self._parser.faults) == before:
            units = [f"{unit}=" for unit in function.windows]
            listed = " or ".join([", ".join(units[:-1]), units[-1]] if len(units) > 1 else units)
            self._fault(
                f"{function.name}() needs exactly one window: {listed}",
                node,
                f"signature: {function.signature}",
            )
            return _NO_WINDOW, options
        return windows[0] if len(windows) == 1 else _NO_WINDOW, options

    def _window(self, unit: WindowUnit, node: ast.expr) -> Window | None:
        if unit == "time":
            size = (
                seconds(node.value)
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
                else None
            )
            if size is None or size <= 0:
                self._fault(
                    "time= takes a duration in quotes",
                    node,
                    "for instance time='5m' (ms, s, m, h, d)",
                )
                return _NO_WINDOW
            return Window(unit, size)
        value = self._constant_number(node)
        if value is None:
            return _NO_WINDOW
        whole = value >= 1 and value == math.floor(value)
        if unit == "points" and not (whole and value <= MAX_POINTS):
            self._fault(f"points= takes a whole number from 1 to {MAX_POINTS}", node)
            return _NO_WINDOW
        if unit == "steps" and not (value > 0 and math.isfinite(value)):
            self._fault("steps= takes a number greater than 0", node)
            return _NO_WINDOW
        return Window(unit, value)

    def _option(self, function: Function, name: str, node: ast.expr, options: dict[str, float | str]) -> None:
        option = function.option(name)
        assert option is not None
        if option.choices:
            word = node.value if isinstance(node, ast.Constant) else None
            if isinstance(word, str) and word in option.choices:
                options[name] = word
                return
            listed = " or ".join(repr(choice) for choice in option.choices)
            hint = nearest(str(word), option.choices) if isinstance(word, str) else ""
            self._fault(f"{name}= takes {listed}", node, hint)
            return
        value = self._constant_number(node)
        if value is None:
            return
        if not option.low <= value <= option.high:
            bounds = (
                f"at least {option.low:g}"
                if math.isinf(option.high)
                else f"from {option.low:g} to {option.high:g}"
            )
            self._fault(f"{name}= must be {bounds}", node)
        else:
            options[name] = value

    def _constant_number(self, node: ast.expr) -> float | None:
        before = len(self._parser.faults)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            self._fault("this must be a number without quotes", node)
            return None
        tree = self._parser.node(node)
        if isinstance(tree, Number):
            return tree.value
        if len(self._parser.faults) == before:
            self._fault("this must be a constant", node, "a number or p.<param>")
        return None
