"""Where each key of a TOML text stands: tomllib forgets it, and an error without a line is a search through a
file.

The text has been read by tomllib before, so it is known to be TOML: this scan only has to walk it, never to
judge it.
"""

from __future__ import annotations

import re
import tomllib
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[int, int]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[ \t]*("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)[ \t]*""")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*""""{0,2}'
    r"|'''(?:[^']|'(?!''))*''''{0,2}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_PLAIN = re.compile(r"[^,\]}#\n]*")


def positions(text: str) -> dict[Path, Place]:
    """Find where every key, table and array element of a TOML text begins: (line, column), both from 1.

    Args:
        text: valid TOML.

    Returns:
        A table is found at its first header, an element of an array of tables at its own, a key at its first
        letter.
    """
    return _Scan(text).document()


class _Scan:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._found: dict[Path, Place] = {}
        self._newest: dict[Path, int] = {}
        self._lines = [0, *(m.end() for m in re.finditer("\n", text))]
        self._line = 0

    def document(self) -> dict[Path, Place]:
        table: Path = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._found

    def _header(self) -> Path:
        place = self._place(self._at)
        array = self._text.startswith("[[", self._at)
        self._at += 2 if array else 1
        keys = self._keys()
        self._at += 2 if array else 1
        path: Path = ()
        for index, (key, _) in enumerate(keys):
            path = (*path, key)
            self._found.setdefault(path, place)
            if index < len(keys) - 1 and path in self._newest:
                path = (*path, self._newest[path])
        if array:
            self._newest[path] = self._newest.get(path, -1) + 1
            path = (*path, self._newest[path])
            self._found[path] = place
        return path

    def _pair(self, table: Path) -> None:
        path = table
        for key, place in self._keys():
            path = (*path, key)
            self._found.setdefault(path, place)
        self._at += 1  # the equals sign
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        match self._text[self._at : self._at + 1]:
            case "[":
                self._array(path)
            case "{":
                self._inline(path)
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_PLAIN)

    def _array(self, path: Path) -> None:
        index = 0
        self._at += 1
        self._skip(_BLANK)
        while self._text[self._at : self._at + 1] not in ("]", ""):
            self._found[(*path, index)] = self._place(self._at)
            self._value((*path, index))
            index += 1
            self._skip(_BLANK)
            if self._text.startswith(",", self._at):
                self._at += 1
                self._skip(_BLANK)
        self._at += 1

    def _inline(self, path: Path) -> None:
        self._at += 1
        self._skip(_BLANK)
        while self._text[self._at : self._at + 1] not in ("}", ""):
            self._pair(path)
            self._skip(_BLANK)
            if self._text.startswith(",", self._at):
                self._at += 1
                self._skip(_BLANK)
        self._at += 1

    def _keys(self) -> list[tuple[str, Place]]:
        """Read a dotted key, each part with its place."""
        keys = []
        while (found := _KEY.match(self._text, self._at)) is not None:
            keys.append((_decoded(found[1]), self._place(found.start(1))))
            self._at = found.end()
            if not self._text.startswith(".", self._at):
                break
            self._at += 1
        return keys

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        # Valid TOML always matches; if it did not, moving on by one character ends the scan all the same.
        self._at = found.end() if found is not None else self._at + 1

    def _place(self, at: int) -> Place:
        """Places are asked for from front to back, so the line is found by going on from the last one."""
        while self._line + 1 < len(self._lines) and self._lines[self._line + 1] <= at:
            self._line += 1
        return self._line + 1, at - self._lines[self._line] + 1


def _decoded(key: str) -> str:
    """A key as tomllib reads it; a bare one is itself."""
    return next(iter(tomllib.loads(f"{key} = 0"))) if key[0] in "\"'" else key
