"""A tree as text again: what the parser would read back as the same tree.

Explanations show the parts of a rule one by one, and a part has no text of its own: lets are filled in and
parameters are numbers by then.
"""

from __future__ import annotations

from rules.tree import (
    Aligned,
    Arithmetic,
    Call,
    Choice,
    Compare,
    Each,
    Logic,
    Metric,
    Missing,
    Negative,
    Node,
    Not,
    Number,
    StepAny,
    Tag,
    Truth,
    Window,
)

_CHOICE, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(10)
_RANKS = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "%": _PRODUCT, "**": _POWER}


def written(node: Node) -> str:
    """Write a tree as an expression of the rule language."""
    return _text(node, _CHOICE)


def _text(node: Node, least: int) -> str:
    text, rank = _ranked(node)
    return text if rank >= least else f"({text})"


def _ranked(node: Node) -> tuple[str, int]:
    """Return a tree's text, and how tightly it binds."""
    match node:
        case Number(value):
            return _number(value), _ATOM if value >= 0 else _UNARY
        case Truth(value):
            return str(value), _ATOM
        case Metric(name):
            return name, _ATOM
        case Tag(name):
            return f"m[{name!r}]", _ATOM
        case Each():
            return "x", _ATOM
        case StepAny():
            return "step_any", _ATOM
        case Missing():
            return "(not logged)", _ATOM
        case Aligned(operand):
            return _ranked(operand)
        case Call():
            return _call(node), _ATOM
        case Negative(operand):
            return f"-{_text(operand, _UNARY)}", _UNARY
        case Arithmetic(op, left, right):
            rank = _RANKS[op]
            if op == "**":  # binds to the right, and its right side may carry a sign
                return f"{_text(left, _ATOM)} ** {_text(right, _UNARY)}", rank
            return f"{_text(left, rank)} {op} {_text(right, rank + 1)}", rank
        case Compare(op, left, right):
            return f"{_text(left, _SUM)} {op} {_text(right, _SUM)}", _COMPARE
        case Not(operand):
            return f"not {_text(operand, _NOT)}", _NOT
        case Logic(op, operands):
            rank = _OR if op == "or" else _AND
            return f" {op} ".join(_text(operand, rank + 1) for operand in operands), rank
        case Choice(condition, then, otherwise):
            parts = (_text(then, _OR), _text(condition, _OR), _text(otherwise, _CHOICE))
            return "{} if {} else {}".format(*parts), _CHOICE


def _call(call: Call) -> str:
    arguments = [written(argument) for argument in call.arguments]
    if call.window is not None:
        arguments.append(_window(call.window))
    for name, value in call.options:
        arguments.append(f"{name}={repr(value) if isinstance(value, str) else _number(value)}")
    return f"{call.function}({', '.join(arguments)})"


def _window(window: Window) -> str:
    size = _number(window.size)
    return f"time='{size}s'" if window.unit == "time" else f"{window.unit}={size}"


def _number(value: float) -> str:
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else repr(value)
