"""From text to Python's syntax tree, within limits: the only place where Python reads a rule.

`ast.parse` gives precedence and columns for nothing; it runs no code. Columns count characters, while
Python counts bytes.
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

MAX_CHARACTERS = 2000
MAX_NODES = 200
MAX_DEPTH = 24
MAX_PARTS = 2000
"""Parts of an expression with all lets and metrics filled in: names that name names grow without end."""

Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fault:
    """One static error: what, where in the text (start and end columns, 0-based), what to write instead."""

    what: str
    span: Span | None = None
    hint: str = ""


class UnreadableError(Exception):
    """The text cannot be looked at any further.

    Attributes:
        fault: why.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.what)
        self.fault = fault


def read(text: str) -> ast.expr:
    """The syntax tree of an expression, its columns those of the whole text.

    Raises:
        UnreadableError: it is no expression, or exceeds a limit.
    """
    if len(text) > MAX_CHARACTERS:
        what = f"longer than {MAX_CHARACTERS} characters"
        raise UnreadableError(Fault(what, None, "split it with let = { ... }"))
    leading = len(text) - len(text.lstrip(" "))
    tree = _python(text.strip(" "), leading)  # blanks in front would be an indentation error
    whole = (leading, len(text.rstrip(" ")))
    count = sum(1 for node in ast.walk(tree) if isinstance(node, ast.expr))
    if count > MAX_NODES:
        what = f"more than {MAX_NODES} parts ({count})"
        raise UnreadableError(Fault(what, whole, "split it into several rules"))
    if _depth(tree) > MAX_DEPTH:
        what = f"nested deeper than {MAX_DEPTH}"
        raise UnreadableError(Fault(what, whole, "name parts of it under let = { ... }"))
    for node in ast.walk(tree):
        if isinstance(node, ast.expr | ast.keyword):
            node.col_offset += leading
            node.end_col_offset = (node.end_col_offset or 0) + leading
    return tree


def _python(body: str, leading: int) -> ast.expr:
    if not body:
        raise UnreadableError(
            Fault("the expression is empty", None, "write a condition such as actor_q > 50")
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(body, mode="eval").body
    except SyntaxError as error:
        # Python points before or past the text when something is missing at its end.
        inside = error.lineno == 1 and error.offset and error.offset <= len(body)
        column = leading + (error.offset - 1 if inside and error.offset else len(body))
        end = leading + (error.end_offset or 0) - 1 if inside and error.end_lineno == 1 else 0
        span = (column, max(end, column + 1))
        raise UnreadableError(Fault(f"syntax: {error.msg}", span, _syntax_hint(body))) from None
    except (ValueError, RecursionError, MemoryError) as error:
        what = f"syntax: {error or type(error).__name__}"
        raise UnreadableError(Fault(what, None, "simplify it")) from None


def _depth(tree: ast.AST) -> int:
    """Levels of nesting, without recursion: the text may be as deep as Python's parser allows."""
    deepest, level = 0, [tree]
    while level:
        deepest += 1
        level = [
            child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)
        ]
        level += [keyword.value for node in level if isinstance(node, ast.Call) for keyword in node.keywords]
    return deepest


def nearest(name: str, known: Collection[str], prefix: str = "", suffix: str = "") -> str:
    """The hint that names the nearest known word, or nothing."""
    within = [word for word in known if len(name) > 1 and name in word]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6) or within
    return f"did you mean '{prefix}{near[0]}{suffix}'?" if near else ""


def _syntax_hint(text: str) -> str:
    if "&&" in text or "||" in text or re.search(r"![^=]", text):
        return "use 'and' / 'or' / 'not'"
    if re.search(r"(?<![=<>!])=(?!=)", text):
        return "compare with =="
    return "the language is described in docs/rules.md"
