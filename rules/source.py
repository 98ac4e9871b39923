"""Rule files as text with positions: every problem can say `file:line:column`.

`tomllib` forgets where things stood, and an error without a line is a search through a file. A second, small scan of the
text finds where each table and key begins; what stands inside an inline table is found by its outermost key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_KEY = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a configuration.

    Attributes:
        where: `file:line:column`, or the file alone.
        what: the problem, in one line.
        hint: what to write instead.
        excerpt: the expression it is in.
        span: start and end column within the excerpt, 0-based.
    """

    where: str
    what: str
    hint: str = ""
    excerpt: str = ""
    span: tuple[int, int] | None = None

    def render(self) -> str:
        """Return the lines that a person reads."""
        lines = [f"{self.where}: error: {self.what}"]
        if self.excerpt:
            lines.append(f"  | {self.excerpt}")
            if self.span is not None:
                start, end = self.span
                lines.append(f"  | {' ' * start}{'^' * max(1, end - start)}")
        if self.hint:
            lines.append(f"  = help: {self.hint}")
        return "\n".join(lines)


class RuleErrors(Exception):  # noqa: N818  it carries many
    """Everything that is wrong with a set of rule files.

    Attributes:
        problems: at least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(problem.render() for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Document:
    """One TOML file.

    Attributes:
        file: its name, as problems give it.
        data: what it says.
        positions: where each table and key begins: (line, column), from 1.
    """

    file: str
    data: Mapping[str, Any]
    positions: Mapping[Path, tuple[int, int]] = field(default_factory=dict)

    def locate(self, path: Path) -> tuple[int, int]:
        """Return line and column of the innermost known part of `path`; (1, 1) where nothing of it is known."""
        for length in range(len(path), 0, -1):
            found = self.positions.get(path[:length])
            if found is not None:
                return found
        return 1, 1

    def where(self, path: Path) -> str:
        """Return `file:line:column` of `path`."""
        line, column = self.locate(path)
        return f"{self.file}:{line}:{column}"


def parse(text: str, file: str) -> Document:
    """Read TOML.

    Raises:
        RuleErrors: it is not TOML; with the place.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        where = f"{file}:{found[1]}:{found[2]}" if found else file
        what = re.sub(r"\s*\(at .*\)$", "", str(error))
        raise RuleErrors([Problem(where, f"this is not TOML: {what}")]) from error
    return Document(file, data, positions(text))


def positions(text: str) -> dict[Path, tuple[int, int]]:
    """Find where each table header and each key at the beginning of a line stands."""
    found: dict[Path, tuple[int, int]] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, line in _logical_lines(text):
        stripped = line.lstrip()
        column = len(line) - len(stripped) + 1
        if stripped.startswith("[["):
            path = _resolve(_keys(stripped[2:]), counts)
            counts[path] = counts.get(path, -1) + 1
            table = (*path, counts[path])
            found.setdefault(path, (number, column))
            found[table] = (number, column)
        elif stripped.startswith("["):
            table = _resolve(_keys(stripped[1:]), counts)
            found.setdefault(table, (number, column))
        elif stripped and not stripped.startswith("#"):
            keys = _keys(stripped)
            for length in range(1, len(keys) + 1):
                found.setdefault((*table, *keys[:length]), (number, column))
    return found


def _resolve(keys: Path, counts: Mapping[Path, int]) -> Path:
    """Put in the index of the newest element where a header goes through an array of tables."""
    path: Path = ()
    for index, key in enumerate(keys):
        path = (*path, key)
        if path in counts and index < len(keys) - 1:
            path = (*path, counts[path])
    return path


def _keys(text: str) -> Path:
    """Read a dotted key from the beginning of `text`."""
    keys: list[str | int] = []
    at = 0
    while (match := _KEY.match(text, at)) is not None:
        keys.append(next(group for group in match.groups() if group is not None))
        at = match.end()
        if text[at : at + 1] != ".":
            break
        at += 1
    return tuple(keys)


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Return (number, text) of the lines on which a header or key may begin: not inside strings, arrays or inline tables."""
    begun: list[tuple[int, str]] = []
    depth, at, number = 0, 0, 1
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    fresh = True
    while at < len(text):
        if fresh and depth == 0:
            begun.append((number, lines[number - 1]))
            if lines[number - 1].lstrip().startswith("["):
                at = starts[number]
                number += 1
                continue
        fresh = False
        character = text[at]
        if character == "#":
            at = starts[number] - 1
            continue
        if character in "\"'":
            end = _end_of_string(text, at)
            number += text.count("\n", at, end)
            at = end
            continue
        if character in "[{":
            depth += 1
        elif character in "]}":
            depth = max(0, depth - 1)
        elif character == "\n":
            number += 1
            fresh = True
        at += 1
    return begun


def _end_of_string(text: str, at: int) -> int:
    quote = text[at]
    if text.startswith(quote * 3, at):
        end = text.find(quote * 3, at + 3)
        while quote == '"' and end > 0 and _escaped(text, end):
            end = text.find(quote * 3, end + 1)
        return len(text) if end < 0 else end + 3
    end = text.find(quote, at + 1)
    while quote == '"' and end > 0 and _escaped(text, end):
        end = text.find(quote, end + 1)
    return len(text) if end < 0 else end + 1


def _escaped(text: str, at: int) -> bool:
    count = 0
    while text[at - 1 - count] == "\\":
        count += 1
    return count % 2 == 1
