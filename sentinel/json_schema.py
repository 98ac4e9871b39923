"""The JSON Schema of sentinel.toml, rule files and rule tests, by which an editor completes and checks them.

It is made from the very models that read the files, and so knows every key they know and no other. What a
schema cannot say (an expression's grammar, a rule's name that exists) `sentinel check` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from rules.scenario import ScenarioFile
from rules.schema import NAME, RuleFile, Span
from sentinel.config import Service

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft that TOML editors read."""

_PARTIAL_RULE = "ChangedRule"


def sentinel_schema() -> dict[str, Any]:
    """Return the schema of sentinel.toml: how the sentinel runs, and every table of a rule file."""
    return _schema("sentinel.toml", Service, RuleFile)


def rules_schema() -> dict[str, Any]:
    """Return the schema of a rule file that another one includes, or of a pack."""
    return _schema("a sentinel rule file", RuleFile)


def scenario_schema() -> dict[str, Any]:
    """Return the schema of a scenario file: tests, beside whatever a rule file may hold."""
    whole = _schema("a file of rule tests", ScenarioFile, RuleFile)
    definitions = whole["$defs"]
    # Short forms, which are written out before the models see them.
    actions = definitions["Expect"]["properties"]["actions"]
    actions["items"] = {"anyOf": [actions["items"], definitions["Deed"]["properties"]["do"]]}
    back = definitions["Case"]["properties"]["rewind_at"]
    definitions["Case"]["properties"]["rewind_at"] = {"anyOf": [back, back["items"]]}
    return whole


def _schema(title: str, *models: type[BaseModel]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for model in models:
        made = model.model_json_schema()
        properties |= made["properties"]
        definitions |= made.get("$defs", {})
    if RuleFile in models:
        definitions[_PARTIAL_RULE] = _partial(definitions["_RuleTable"])
        properties["override"]["additionalProperties"] = {"$ref": f"#/$defs/{_PARTIAL_RULE}"}
    whole = {
        "$schema": DRAFT,
        "title": title,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": definitions,
    }
    for part in _parts(whole):
        _mend(part)
    return whole


def _partial(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an override: any key of a rule but its name, and none of them required."""
    keys = {key: part for key, part in rule["properties"].items() if key != "name"}
    return {
        **{key: part for key, part in rule.items() if key != "required"},
        "title": _PARTIAL_RULE,
        "description": "What is to be different about a rule of a pack.",
        "properties": keys,
    }


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a schema, the outer before the inner."""
    if isinstance(schema, dict):
        yield schema
        for part in list(schema.values()):
            yield from _parts(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _parts(part)


def _mend(part: dict[str, Any]) -> None:
    """Say in TOML what the models say in Python: names of tables, and defaults of spans and times."""
    if set(part.get("patternProperties", ())) == {NAME}:
        part["additionalProperties"] = False
    if isinstance(part.get("title"), str) and part.get("type") != "object":
        del part["title"]  # the key in other letters
    default = part.get("default")
    if isinstance(default, Mapping) and set(default) == {"amount", "unit"}:
        part["default"] = Span(**default).written()
    elif part.get("type") == "string" and isinstance(default, float):
        part["default"] = Span(default, "seconds").written()
    elif default is None and "default" in part:
        del part["default"]  # TOML has no null: the key is left out
    if "anyOf" in part:
        part["anyOf"] = [choice for choice in part["anyOf"] if choice != {"type": "null"}]
        if len(part["anyOf"]) == 1:
            part |= part.pop("anyOf")[0]
