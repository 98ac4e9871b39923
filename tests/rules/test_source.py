"""TOML with positions: every key is found where it stands, and every problem says where it is."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rules.positions import Path, positions
from rules.source import Document, Problem, RuleErrors, parse

SAMPLE = """\
# a comment with [brackets] and = signs
version = 1
params = { q_limit = 50.0, "odd key" = { deep = 1 } }

[override."td3/actor_q_high"]
  severity = "info"   # trailing [comment]

[[rule]]
name = "a"
expr = '''
x = 1
[not.a.table]
'''
let.ratio = "a / b"

[[rule]]
name = "b"
rungs = [
  { do = ["notify", "rolback"] },   # a misspelt verb
  { do = ["terminate"], when = "exhausted" },
]
[rule.labels]
area = "value"
"""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("version",), (2, 1)),
        (("params", "q_limit"), (3, 12)),
        (("params", "odd key", "deep"), (3, 42)),
        (("override",), (5, 1)),
        (("override", "td3/actor_q_high", "severity"), (6, 3)),
        (("rule", 0), (8, 1)),
        (("rule", 0, "let", "ratio"), (14, 5)),
        (("rule", 1, "name"), (17, 1)),
        (("rule", 1, "rungs", 0, "do", 1), (19, 21)),
        (("rule", 1, "rungs", 1, "when"), (20, 25)),
        (("rule", 1, "labels", "area"), (23, 1)),
    ],
)
def test_every_key_is_found_where_it_stands(path: Path, place: tuple[int, int]) -> None:
    """Tables, arrays of tables, inline tables, dotted and quoted keys; strings and comments hide nothing."""
    assert parse(SAMPLE, "f.toml").locate(path) == place


def test_what_is_not_there_is_placed_at_what_it_would_be_in() -> None:
    """A missing key has no place of its own: the table that lacks it has."""
    document = parse(SAMPLE, "f.toml")
    assert document.where(("rule", 1, "expr")) == "f.toml:16:1"
    assert document.where(("nowhere", 3)) == "f.toml:1:1"


@pytest.mark.parametrize(
    ("text", "where"),
    [("a = 1\nb = = 2\n", "f.toml:2:5"), ("a = 1\na = 2\n", "f.toml:2:"), ("[a\n", "f.toml:1:")],
)
def test_what_is_not_toml_says_where(text: str, where: str) -> None:
    """The place comes first, then that it is not TOML, then why."""
    with pytest.raises(RuleErrors) as caught:
        parse(text, "f.toml")
    (problem,) = caught.value.problems
    assert problem.where.startswith(where)
    assert problem.what.startswith("this is not TOML: ")
    assert "(at" not in problem.what


def test_a_problem_reads_like_a_compilers() -> None:
    """Where, what, the expression with a caret below it, and what to write instead."""
    problem = Problem(
        "sentinel.toml:12:8",
        "td3/rule.expr: unknown metric 'actr_q'",
        "did you mean 'actor_q'?",
        "actr_q > 50",
        (0, 6),
    )
    assert problem.render() == (
        "sentinel.toml:12:8: error: td3/rule.expr: unknown metric 'actr_q'\n"
        "  | actr_q > 50\n"
        "  | ^^^^^^\n"
        "  = help: did you mean 'actor_q'?"
    )


# Documents are drawn as trees and written down in one of TOML's several ways, so that the tree is known
# beforehand.

BARE = re.compile(r"[A-Za-z0-9_-]+")
KEYS = st.one_of(
    st.from_regex(r"[a-z][a-z0-9_-]{0,4}", fullmatch=True),
    st.sampled_from(["a.b", "td3/x", "", "é", 'q"q', "#", "a]b"]),
)
TEXTS = st.text(alphabet="ab\"'[]{}=#,\\\n\t é", max_size=12)
SCALARS = st.one_of(st.integers(-99, 99), st.booleans(), st.floats(-9, 9), TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
LEAVES = st.dictionaries(KEYS, VALUES, max_size=4)


def quoted(text: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'


def written_key(key: str) -> str:
    return key if BARE.fullmatch(key) else quoted(key)


def written(value: Any, draw: st.DrawFn) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            ways = [quoted(value), '"""\n' + value.replace("\\", "\\\\").replace('"', '\\"') + '"""']
            if "'" not in value and "\n" not in value:
                ways.append(f"'{value}'")
            if "'" not in value:
                ways.append(f"'''\n{value}'''")
            return draw(st.sampled_from(ways))
        case list():
            gap = draw(st.sampled_from([" ", "\n", " # ] }\n\t"]))
            return "[" + gap + "".join(f"{written(v, draw)},{gap}" for v in value) + "]"
        case dict():
            return "{ " + ", ".join(f"{written_key(k)} = {flat(v, draw)}" for k, v in value.items()) + " }"
        case _:
            return str(value)


def flat(value: Any, draw: st.DrawFn) -> str:
    """Inline tables hold no line breaks of their own, but strings and arrays in them may."""
    return written(value, draw)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A root, then tables and arrays of tables with tables below them, in the order of their drawing."""
    lines: list[str] = []

    def body(leaves: dict[str, Any]) -> None:
        for key, value in leaves.items():
            if isinstance(value, dict) and value and draw(st.booleans()):
                lines.extend(
                    f"{written_key(key)} . {written_key(k)}\t= {written(v, draw)}" for k, v in value.items()
                )
            else:
                lines.append(
                    f"{draw(st.sampled_from(['', '  ']))}{written_key(key)} = {written(value, draw)} # [x]"
                )

    root = draw(LEAVES)
    body(root)
    names = draw(st.lists(KEYS.filter(lambda k: k not in root), max_size=3, unique=True))
    for name in names:
        head = written_key(name)
        if draw(st.booleans()):
            lines.append(f"[ {head} ]")
            body(draw(LEAVES))
            continue
        for _ in range(draw(st.integers(1, 3))):
            lines.append(f"[[{head}]]")
            leaves = draw(LEAVES)
            body(leaves)
            below = draw(KEYS)
            if below not in leaves:
                lines.append(f"[{head}.{written_key(below)}]")
                body(draw(LEAVES))
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines)


def paths(value: Any, path: Path = ()) -> list[Path]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for k, v in inner for p in ((*path, k), *paths(v, (*path, k)))]


@settings(max_examples=300, deadline=None)
@given(documents())
@example('a = """x"" """""\nb = [\'\'\'y\'\'\'\'\', 1]\nc = """\\"""" # " ]"""\n')
@example("a = [ # ]\n1, # }\n2]\nb = 1 # [[c]]\n")
@example('a = [[1, 2], [{ b = "]" }]]\n"" = 1\n')
@example("[a.b.c]\n[a]\nd = 1979-05-27 07:32:00\n[[a.e]]\n[a.e.f]\n[[a.e]]\n[a.e.f]\ng = 1\n")
def test_every_path_of_tomllib_has_its_place(text: str) -> None:
    """What tomllib reads is found: each key at its own letters, each table at a header or key, nothing
    besides.
    """
    data = tomllib.loads(text)
    found = positions(text)
    assert set(found) == set(paths(data))
    lines = text.split("\n")
    for path, (line, column) in found.items():
        rest = lines[line - 1][column - 1 :]
        key = path[-1]
        if isinstance(key, int) or rest.startswith("["):
            continue
        token = rest if rest[0] in "\"'" else (BARE.match(rest) or [""])[0]
        assert token == key or token.startswith(quoted(key)), (path, rest)


@settings(max_examples=100, deadline=None)
@given(documents())
def test_places_are_in_the_order_of_the_text(text: str) -> None:
    """Elements of one array come one after the other."""
    found = positions(text)
    for path, place in found.items():
        if isinstance(path[-1], int) and path[-1] > 0:
            assert found[(*path[:-1], path[-1] - 1)] < place


def test_a_document_without_positions_still_says_its_file() -> None:
    """Defaults that stand in no file have no lines."""
    assert Document("defaults", {}).where(("rule", 0)) == "defaults:1:1"
