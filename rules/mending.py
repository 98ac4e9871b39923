"""What is well in a faulty rule file, so that its other problems can be told in the same go.

Whoever mends one problem at a time starts the sentinel ten times. So an unknown key is left out, a faulty
rule keeps the parts that are well, and any other faulty entry is replaced by one that has its name and says
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rules.schema import GATE_NAME, NAME, RuleFile, mistakes
from rules.source import Path

_STAND_INS: Mapping[str, Any] = {
    "params": 0.0,
    "metrics": "",
    "ladders": {"rungs": [{"do": ["notify"]}]},
    "remedies": {"tries": [{"reinit": ["nothing"]}]},
}
"""What stands for a faulty entry while the rest of its file is checked: it has a name and says nothing."""

_LISTED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "rule": (NAME, {"expr": "False", "enabled": False}),
    "gate": (GATE_NAME, {"at": "1 steps", "forbid": ["fatal"]}),
}
"""The same of the entries that carry their names themselves, with the pattern of those names."""

_PARTS: Mapping[str, Any] = {"expr": "False", "for": "1000 points"}
"""What stands for a faulty part of a rule; it must raise no problem of its own. Other parts are left out."""

_NAMING = frozenset({"name", "let", "each"})
"""Parts of a rule without which the others cannot be read: they name what those speak of."""


def mended(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a faulty file's data with what is wrong in it left out or replaced."""
    unknown, _ = mistakes(RuleFile, data)
    mended = _without(data, unknown)
    _, wrong = mistakes(RuleFile, mended)
    mended = _with_parts(mended, wrong)
    _, wrong = mistakes(RuleFile, mended)
    return _with_stand_ins(mended, wrong)


def _without(data: Any, paths: Iterable[Path]) -> Any:
    """Return tables and lists without the keys at those paths."""
    here = {path[0] for path in paths if len(path) == 1}
    deeper = {path[0]: [other[1:] for other in paths if other[:1] == path[:1]] for path in paths if path}
    if isinstance(data, Mapping):
        return {
            key: _without(value, deeper[key]) if key in deeper else value
            for key, value in data.items()
            if key not in here
        }
    if isinstance(data, list):
        return [_without(value, deeper[n]) if n in deeper else value for n, value in enumerate(data)]
    return data


def _with_parts(data: dict[str, Any], wrong: Iterable[Path]) -> dict[str, Any]:
    """Replace the faulty parts of rules, where the others can be read without them."""
    faulty: dict[int, set[str]] = {}
    for place in wrong:
        if len(place) > 2 and place[0] == "rule":  # rule, index, key
            faulty.setdefault(int(place[1]), set()).add(str(place[2]))
    if not faulty:
        return data
    rules = list(data["rule"])
    for index, keys in faulty.items():
        if isinstance(rules[index], Mapping) and not keys & _NAMING:
            well = {key: value for key, value in rules[index].items() if key not in keys}
            rules[index] = {**well, **{key: _PARTS[key] for key in keys if key in _PARTS}}
    return {**data, "rule": rules}


def _with_stand_ins(data: dict[str, Any], wrong: Iterable[Path]) -> dict[str, Any]:
    places = {place[:2] for place in wrong}
    mended = dict(data)
    for place in places:
        table = data.get(str(place[0]))
        if len(place) < 2 or place[0] not in (*_STAND_INS, *_LISTED) or not isinstance(table, dict | list):
            mended.pop(str(place[0]), None)
        elif isinstance(table, list):
            pattern, body = _LISTED.get(str(place[0]), (NAME, {}))
            index = int(place[1])
            entries = list(mended[str(place[0])])
            name = table[index].get("name") if isinstance(table[index], dict) else None
            well = name if isinstance(name, str) and re.fullmatch(pattern, name) else f"faulty{index}"
            entries[index] = {"name": well, **body}
            mended[str(place[0])] = entries
        elif re.fullmatch(NAME, str(place[1])):
            mended[str(place[0])] = {**mended[str(place[0])], place[1]: _STAND_INS[str(place[0])]}
        else:
            mended[str(place[0])] = {k: v for k, v in mended[str(place[0])].items() if k != place[1]}
    return mended
