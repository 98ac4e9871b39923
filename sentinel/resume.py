"""The command that goes on from a checkpoint: `python train.py --resume {checkpoint} {overrides}`. Pure.

A template is split into words first and filled in afterwards, and no shell ever sees it: a path with blanks
or a value with a quote in it stays one word, whatever is in it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rules.source import nearest
from rules.template import TemplateField, parts

Setting: TypeAlias = float | int | bool | str

WORD_NAMES = ("checkpoint", "step", "run")
"""What may stand anywhere in a word: the checkpoint's path, its step, the run's folder."""

LIST_NAMES = ("overrides", "command")
"""What is a word by itself and becomes any number of words: the remedy's parameters, the first command."""

STYLE = "--{name} {value}"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-/]*")
_RELATIVE = re.compile(r"x([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+\.)")


@dataclass(frozen=True, slots=True)
class ResumeTemplate:
    """A resume command, and how a parameter is written in it.

    Attributes:
        words: of the template. style: words for one parameter.
    """

    words: tuple[str, ...]
    style: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, style: str = STYLE) -> ResumeTemplate:
        """Read and check a template.

        Raises:
            ValueError: all that is wrong with it, in words.
        """
        words, wrong = _words(text)
        if not wrong and not words:
            wrong = ["the command is empty"]
        for word in words:
            wrong += _faults(word)
        if not wrong and "checkpoint" not in _names_in(words):
            wrong = ["it names no {checkpoint}, so it would go on from anywhere"]
        if wrong:
            raise ValueError("; ".join(wrong))
        return cls(tuple(words), parse_style(style))

    @property
    def takes_overrides(self) -> bool:
        """Whether a remedy's parameters have a place in it."""
        return "{overrides}" in self.words

    def render(
        self,
        *,
        checkpoint: str,
        step: int,
        run: str,
        overrides: Mapping[str, Setting],
        command: Sequence[str],
    ) -> list[str]:
        """Make the command.

        Args:
            checkpoint: its path. step: its step. run: the run's folder.
            overrides: parameters and their values, absolute. command: the job's first command.

        Raises:
            ValueError: a parameter's name is not fit for a command line.
        """
        values: dict[str, str | int] = {"checkpoint": checkpoint, "step": step, "run": run}
        made: list[str] = []
        for word in self.words:
            if word == "{overrides}":
                for name, value in sorted(overrides.items()):
                    made += self._override(name, value)
            elif word == "{command}":
                made += command
            else:
                made.append(_fill(word, values))
        return made

    def _override(self, name: str, value: Setting) -> list[str]:
        if not fits_a_command_line(name):
            raise ValueError(f"{name!r} is no name of a parameter for a command line")
        return [_fill(word, {"name": name, "value": spoken(value)}) for word in self.style]


def parse_style(text: str) -> tuple[str, ...]:
    """Read how one parameter is written: `--{name} {value}`, `{name}={value}`.

    Raises:
        ValueError: all that is wrong with it, in words.
    """
    words, wrong = _words(text)
    known = ("name", "value")
    for word in words:
        wrong += _faults(word, known, ())
    if not wrong:
        wrong = [f"it names no {{{each}}}" for each in known if each not in _names_in(words)]
    if wrong:
        raise ValueError("; ".join(wrong))
    return tuple(words)


def fits_a_command_line(name: str) -> bool:
    """Whether a parameter's name can be taken for nothing else where it becomes part of a command."""
    return _NAME.fullmatch(name) is not None


def spoken(value: Setting) -> str:
    """Write a value as a word."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def resolve(
    wanted: Mapping[str, Setting],
    known: Mapping[str, Setting],
    bounds: Mapping[str, tuple[float | None, float | None]],
) -> dict[str, Setting] | str:
    """Turn a remedy into absolute values, or say why that cannot be done.

    Args:
        wanted: by name; `x0.3` scales the present value.
        known: the present values. bounds: (low, high) by name; a None is no bound.
    """
    found: dict[str, Setting] = {}
    for name, value in wanted.items():
        scale = _RELATIVE.fullmatch(value) if isinstance(value, str) else None
        if scale is not None:
            present = known.get(name)
            if isinstance(present, (bool, str)) or present is None:
                needs = f"{name} = {value!r} needs the present value of {name}"
                return f"{needs}, which [trainer.parameters] can give"
            value = present * float(scale[1])  # noqa: PLW2901  the relative value becomes the absolute one
        low, high = bounds.get(name, (None, None))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            beyond = (low is not None and value < low) or (high is not None and value > high)
            if beyond:
                return f"{name} = {value:g} lies outside of its bounds"
        if not fits_a_command_line(name):
            return f"{name!r} is no name of a parameter for a command line"
        found[name] = value
    return found


def _words(text: str) -> tuple[list[str], list[str]]:
    try:
        return shlex.split(text), []
    except ValueError as error:
        return [], [f"it cannot be split into words: {str(error).lower()}"]


def _fields(word: str) -> list[TemplateField]:
    return [field for _, field in parts(word) if field is not None]


def _names_in(words: Sequence[str]) -> set[str]:
    return {field.name for word in words for field in _fields(word)}


def _faults(word: str, in_words: Sequence[str] = WORD_NAMES, alone: Sequence[str] = LIST_NAMES) -> list[str]:
    try:
        fields = _fields(word)
    except ValueError as error:
        return [f"{word!r}: {error}; write {{name}}, and {{{{ and }}}} for braces"]
    wrong = []
    for name, spec in fields:
        if name in alone and word != f"{{{name}}}":
            wrong.append(f"{word!r}: {{{name}}} is a word by itself; it becomes any number of words")
        elif name not in in_words and name not in alone:
            wrong.append(f"nothing is named {{{name}}}; {nearest(name, [*in_words, *alone])}")
        elif spec and name != "step":
            wrong.append(f"{{{name}:{spec}}}: only {{step}} takes a format, such as {{step:08d}}")
        elif spec and not _formats(spec):
            wrong.append(f"{{{name}:{spec}}}: {spec!r} formats no step")
    return wrong


def _formats(spec: str) -> bool:
    return re.fullmatch(r"0?[0-9]{0,2}d", spec) is not None


def _fill(word: str, values: Mapping[str, str | int]) -> str:
    shown = []
    for literal, field in parts(word):
        shown.append(literal)
        if field is not None:
            shown.append(format(values[field.name], field.spec))
    return "".join(shown)
