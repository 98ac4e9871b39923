"""The JSON Schema says of a file's shape what the models say of it."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from rules import packs
from rules.schema import RuleFile
from sentinel.cli import main
from sentinel.config import Service
from sentinel.json_schema import DRAFT, rules_schema, scenario_schema, sentinel_schema

ROOT = Path(__file__).parents[2]


def accepts(schema: dict[str, Any], data: object) -> bool:
    return bool(jsonschema.Draft7Validator(schema).is_valid(data))


def tables(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every table in a TOML file."""
    if isinstance(data, dict):
        yield path
        for key, value in data.items():
            yield from tables(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from tables(value, (*path, index))


def at(data: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


OPEN = ("set", "labels", "let", "params", "series")
"""Tables whose keys are the user's own."""


@pytest.mark.parametrize(
    "schema", [sentinel_schema(), rules_schema(), scenario_schema()], ids=lambda s: s["title"]
)
def test_it_is_a_schema(schema: dict[str, Any]) -> None:
    """Each is valid by the draft it names, and its references lead somewhere."""
    assert schema["$schema"] == DRAFT
    jsonschema.Draft7Validator.check_schema(schema)
    for reference in {part["$ref"] for part in _parts(schema) if isinstance(part.get("$ref"), str)}:
        assert reference.removeprefix("#/$defs/") in schema["$defs"]


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    return (at(schema, path) for path in tables(schema))


def test_the_shipped_files_fit() -> None:
    """sentinel.toml, every pack and every shipped scenario are what their schemas describe."""
    data = tomllib.loads((ROOT / "sentinel.toml").read_text(encoding="utf-8"))
    jsonschema.validate(data, sentinel_schema(), jsonschema.Draft7Validator)
    for name in packs.names():
        jsonschema.validate(packs.read(name).data, rules_schema(), jsonschema.Draft7Validator)

    for path in sorted((ROOT / "tests" / "scenarios").glob("*.toml")):
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        jsonschema.validate(data, scenario_schema(), jsonschema.Draft7Validator)


def test_it_knows_every_key_and_no_other() -> None:
    """A key misspelt in any table of sentinel.toml is a problem in the editor too."""
    data = tomllib.loads((ROOT / "sentinel.toml").read_text(encoding="utf-8"))
    schema = sentinel_schema()
    assert set(schema["properties"]) == {*Service.model_fields, *RuleFile.model_fields}
    for path in tables(data):
        if path and path[-1] in OPEN:
            continue
        wrong = copy.deepcopy(data)
        at(wrong, path)["Sevrity"] = 1
        assert not accepts(schema, wrong), path


@pytest.mark.parametrize(
    ("text", "is_well"),
    [
        ('[[rule]]\nname = "a"\nexpr = "x > 1"\nfor = "3 points"', True),
        ('[[rule]]\nname = "a"\nexpr = "x > 1"\nfor = "3 pints"', False),
        ('[[rule]]\nname = "a"\nexpr = "x > 1"\nseverity = "grave"', False),
        ('[[rule]]\nname = "a"', False),
        ('[metrics]\nloss = "train/loss"\nlr = ["a", "b"]\ngap = { any = ["=a"], align = "step" }', True),
        ('[metrics]\nLoss = "train/loss"', False),
        ("[metrics]\nloss = []", False),
        ('[override."td3/actor_q_high"]\nseverity = "critical"', True),
        ('[override."td3/actor_q_high"]\nname = "other"', False),
        ('[ladders.l]\nrungs = [{ do = ["rollbak"] }]', False),
        ('[trainer]\nack_timeout = "30s"', True),
        ('[trainer]\nack_timeout = "30 steps"', False),
        ("[trainer]\nack_timeout = 30", False),
    ],
)
def test_shapes_are_judged_as_the_models_judge_them(text: str, is_well: bool) -> None:
    """Spans, choices, names, what may be left out and what not."""
    assert accepts(sentinel_schema(), tomllib.loads(text)) is is_well


def test_defaults_are_written_as_toml_has_them() -> None:
    """An editor that fills in a default fills in one that the sentinel reads."""
    schema = sentinel_schema()
    shown = [part for part in _parts(schema) if "default" in part and "type" in part]
    assert len(shown) > 20
    for part in shown:
        assert accepts({**part, "$defs": schema["$defs"]}, part["default"]), part
    limits = schema["$defs"]["LimitsSpec"]["properties"]
    assert limits["min_progress_between"]["default"] == "500 steps"
    assert schema["$defs"]["TrainerTable"]["properties"]["work_timeout"]["default"] == "600.0s"


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    """What the command prints is the schema, and nothing else."""
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == sentinel_schema()
    assert main(["schema", "rules"]) == 0
    assert json.loads(capsys.readouterr().out) == rules_schema()
