"""The rules we ship: one TOML file a pack, read like any rule file of a user's own.

Every pack speaks in the canonical names of `_aliases.toml`, so whoever includes a pack includes those first.
"""

from __future__ import annotations

from importlib.resources import files

from rules.source import Document, nearest, parse

ALIASES = "_aliases"


def names() -> list[str]:
    """Return the names of all packs; the file of canonical names is none."""
    found = [entry.name for entry in files(__name__).iterdir()]
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml") and name[0] != "_")


def read(name: str) -> Document:
    """Read one pack.

    Raises:
        LookupError: there is none of that name; with the nearest one.
        RuleErrors: it is not TOML.
    """
    if name != ALIASES and name not in names():
        raise LookupError(f"no pack {name!r}; {nearest(name, names())}")
    text = (files(__name__) / f"{name}.toml").read_text(encoding="utf-8")
    return parse(text, f"pack:{name}")


def with_aliases(name: str) -> list[tuple[str, Document]]:
    """Read a pack and the names it speaks in, as `rules.merge.build` takes them.

    Raises:
        LookupError: there is none of that name.
    """
    return [("", read(ALIASES)), (name, read(name))]
