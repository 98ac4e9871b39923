"""Rule files as text with positions: every problem can say `file:line:column`.

A problem says where, what and what to write instead; and all problems of all files are told at once, since
whoever corrects one at a time starts the sentinel ten times.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rules.positions import Path, positions

__all__ = ["Document", "Path", "Problem", "RuleErrors", "nearest", "parse"]


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
        positions: where each key, table and array element begins: (line, column), from 1.
    """

    file: str
    data: Mapping[str, Any]
    positions: Mapping[Path, tuple[int, int]] = field(default_factory=dict)

    def locate(self, path: Path) -> tuple[int, int]:
        """Return line and column of the innermost known part of `path`; (1, 1) where nothing of it is
        known.
        """
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
        return Document(file, tomllib.loads(text), positions(text))
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        where = f"{file}:{found[1]}:{found[2]}" if found else file
        what = re.sub(r"\s*\(at .*\)$", "", str(error))
        raise RuleErrors([Problem(where, f"this is not TOML: {what}")]) from error
    except RecursionError as error:
        what, hint = (
            "tables or lists are nested too deeply to be read",
            "two or three levels are all there is",
        )
        raise RuleErrors([Problem(file, what, hint)]) from error
    except ValueError as error:  # an integer of thousands of digits
        raise RuleErrors([Problem(file, f"this cannot be read: {error}")]) from error


def nearest(word: str, known: Collection[str]) -> str:
    """Return `did you mean 'x'?`, or the list of what is known where nothing is near."""
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return "known: " + (", ".join(sorted(known)) or "none")
