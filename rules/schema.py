"""The models of a rule file: what each table may say, and what is wrong with it, in words.

A rule file is read strictly: an unknown key, verb or name is a problem with its place and the nearest right
word. A misspelt action that is skipped would be a watchdog that is asleep.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails

from rules.source import Document, Path, Problem, nearest

Severity = Literal["info", "warning", "critical", "fatal"]
Verb = Literal["notify", "checkpoint", "rollback", "terminate"]
Unit = Literal["points", "steps", "seconds", "checkpoints"]
Setting: TypeAlias = bool | int | float | str

NAME = r"^[a-z][a-z0-9_]*$"
GATE_NAME = r"^[a-z][a-z0-9_-]*$"

TIME = r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*$"
_SPAN = re.compile(TIME.replace("(ms", "(points?|steps?|checkpoints?|ms"))
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a run: `2 points`, `500 steps`, `2m`, `1 checkpoint`."""

    amount: float
    unit: Unit

    @classmethod
    def parse(cls, text: object) -> Span:
        """Read a span.

        Raises:
            ValueError: it is none; with examples of what is.
        """
        if isinstance(text, Span):
            return text
        found = _SPAN.match(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError(
                f"{text!r} is no span; write a string like "
                '"3 points", "500 steps", "1 checkpoint", "90s", "2m" or "1h"'
            )
        amount, unit = float(found[1]), found[2]
        if unit in _SECONDS:
            return cls(amount * _SECONDS[unit], "seconds")
        whole: Unit = (
            "points" if unit.startswith("p") else "steps" if unit.startswith("st") else "checkpoints"
        )
        return cls(amount, whole)

    def __str__(self) -> str:
        """Say it as a person would."""
        return f"{self.amount:g} {self.unit}"

    def written(self) -> str:
        """Write it as a rule file has it; `Span.parse` reads it back."""
        return f"{self.amount!r}s" if self.unit == "seconds" else str(self)


def _one_of(what: str, known: Sequence[str]) -> BeforeValidator:
    def check(value: object) -> object:
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}; {nearest(str(value), known)}")
        return value

    return BeforeValidator(check)


SpanField = Annotated[
    Span,
    BeforeValidator(Span.parse),
    WithJsonSchema({"type": "string", "pattern": _SPAN.pattern, "examples": ["3 points", "500 steps", "2m"]}),
]
Whole: TypeAlias = Annotated[int, Field(strict=True)]
Real: TypeAlias = Annotated[float, Field(strict=True)]
Flag: TypeAlias = Annotated[bool, Field(strict=True)]
"""Numbers and truths as TOML has them: "50" is a text."""
Name = Annotated[str, StringConstraints(pattern=NAME)]


class Strict(BaseModel):
    """A table in which an unknown key is a problem."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class RungSpec(Strict):
    """One rung of a ladder: what to do, once its condition holds while the alert fires."""

    do: Annotated[tuple[Annotated[Verb, _one_of("action", get_args(Verb))], ...], Field(min_length=1)]
    after: Annotated[
        SpanField | None,
        Field(description="how long the alert has fired before this rung is taken: points, steps or a time"),
    ] = None
    when: Annotated[
        Literal["exhausted"] | None, Field(description='"exhausted": only once tries and budget are used up')
    ] = None
    to: Annotated[
        Literal["last_good"],
        Field(description="a rollback goes to the newest whole checkpoint that no alert taints"),
    ] = "last_good"
    margin: Annotated[
        SpanField | None, Field(description="how far before the onset that checkpoint has to lie")
    ] = None
    max: Annotated[Whole | None, Field(ge=1, description="how often it is taken in one run")] = None
    cooldown: Annotated[
        SpanField | None, Field(description="how far the run goes on before this rung may be taken again")
    ] = None
    remedy: Annotated[str | None, Field(description="what a rollback changes: a name under [remedies]")] = (
        None
    )
    approve: Annotated[Flag, Field(description="people are asked first, and it waits for their answer")] = (
        False
    )
    deadline: Annotated[
        SpanField | None,
        Field(description="how long their answer is waited for: a time; 15 minutes unless said"),
    ] = None
    default: Annotated[
        Literal["hold", "act"] | None,
        Field(description='what follows where nobody answers: "hold" (it is left undone) or "act"'),
    ] = None

    @property
    def patience(self) -> Span:
        """How long an answer is waited for."""
        return self.deadline or Span(900.0, "seconds")


class LadderSpec(Strict):
    """What is done about an alert, rung by rung, and what counts as recovery after a rollback."""

    rungs: Annotated[tuple[RungSpec, ...], Field(min_length=1)]
    recovered_when: Annotated[
        str | None,
        Field(description="a condition; until it holds after a rollback, the alert is on probation"),
    ] = None
    within: Annotated[
        SpanField | None,
        Field(description="how long that may take; then it is suppressed, not recovered, and fires again"),
    ] = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> LadderSpec:
        if (self.recovered_when is None) != (self.within is None):
            raise ValueError(
                "`recovered_when` and `within` belong together: what recovery is, and how long it may take"
            )
        return self


class TrySpec(Strict):
    """One try of a remedy: parameters to set (`x0.3` scales), and parts to give fresh weights."""

    set: dict[str, Setting] = Field(default_factory=dict)
    reinit: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _changes_something(self) -> TrySpec:
        if not self.set and not self.reinit:
            raise ValueError("a try must change something: give `set` or `reinit`")
        return self


class RemedySpec(Strict):
    """What a rollback changes, try by try."""

    tries: Annotated[tuple[TrySpec, ...], Field(min_length=1)]


class LimitsSpec(Strict):
    """Bounds for a whole run, whatever its rules say."""

    max_rollbacks: Annotated[Whole, Field(ge=0)] = 3
    min_progress_between: Annotated[
        SpanField, Field(description="how far the run has to come after a rollback before the next one")
    ] = Span(500, "steps")
    max_actions_per_hour: Annotated[Whole, Field(ge=0)] = 6
    checkpoint_budget_gb: Annotated[Real, Field(ge=0)] = 50.0
    require_remedy: Annotated[
        Flag, Field(description="refuse a rollback that changes nothing: it would repeat the failure")
    ] = True


class MetricSpec(Strict):
    """A canonical metric: candidates in order of preference, tags or `=expressions`."""

    any: Annotated[tuple[str, ...], Field(min_length=1)]
    align: Annotated[
        Literal["join", "step"],
        Field(description='"join": a value when each input has a new point; "step": at equal steps alone'),
    ] = "join"
    unit: Annotated[str, Field(description="told beside its values")] = ""


_Metric: TypeAlias = str | Annotated[tuple[str, ...], Field(min_length=1)] | MetricSpec
"""A metric as it may be written: one candidate, several, or a table."""


def _metric(value: object) -> object:
    if isinstance(value, str):
        return {"any": (value,)}
    if isinstance(value, list):
        return {"any": value}
    return value


class RuleSpec(Strict):
    """One rule. `name` is the full name, `pack/rule` or the user's own `rule`."""

    name: str
    expr: Annotated[
        str,
        Field(
            description="the condition, in the language of docs/rules.md; the rule breaches while it is True"
        ),
    ]
    let: dict[Name, str] = Field(
        default_factory=dict, description="names for expressions, to be used in expr, clear and summary"
    )
    each: Annotated[
        str | None,
        Field(
            description='a pattern over tags, as "gradients/{part}_norm": one instance for each; the tag is x'
        ),
    ] = None
    when: Annotated[
        str | None,
        Field(description="a condition: the rule is for runs in which it has been True, and for no other"),
    ] = None
    for_: Annotated[
        SpanField,
        Field(alias="for", description="how long expr has to hold before it fires: points, steps or a time"),
    ] = Span(0, "points")
    clear: Annotated[
        str | None, Field(description="the condition under which it ends; without it, as expr becomes False")
    ] = None
    keep_firing_for: Annotated[
        SpanField, Field(description="how long it has to be clear before it is resolved")
    ] = Span(0, "points")
    after_step: Annotated[Whole, Field(ge=0, description="warm-up: no opinion before this step")] = 0
    after_points: Annotated[Whole, Field(ge=0, description="warm-up: no opinion before this many points")] = 0
    after_time: Annotated[
        SpanField | None, Field(description='warm-up: no opinion until the run is so old, as "10m"')
    ] = None
    grace: Annotated[SpanField | None, Field(description="how long it is mute after a rollback")] = None
    severity: Annotated[Severity, _one_of("severity", get_args(Severity))] = "warning"
    no_data: Annotated[
        Literal["hold", "ok", "fire"],
        Field(description="what an unknown answer does: hold the state, count as fine, or count as a breach"),
    ] = "hold"
    labels: dict[str, str] = Field(default_factory=dict, description="words of your own, told with the alert")
    summary: Annotated[
        str, Field(description="the message, with {names} of metrics, let, params, step, onset, value, limit")
    ] = ""
    why: Annotated[str, Field(description="what it means")] = ""
    try_: Annotated[str, Field(alias="try", description="what to do about it")] = ""
    source: Annotated[str, Field(description="where the rule and its numbers come from")] = ""
    ladder: Annotated[
        str | None,
        Field(description="what is done about it: a name under [ladders]; without it people are told"),
    ] = None
    inhibits: Annotated[
        tuple[str, ...], Field(description="rules that take no action while this one fires")
    ] = ()
    enabled: Annotated[Flag, Field(description="false leaves the rule out")] = True


class _RuleTable(RuleSpec):
    name: Name


class InhibitSpec(Strict):
    """While a rule fires, others of the same run are muted."""

    when: dict[Literal["rule"], str]
    mute: dict[Literal["severity", "rule"], tuple[str, ...]]
    equal: tuple[Literal["run"], ...] = ("run",)


class RequirementSpec(Strict):
    """One thing a gate asks of a run."""

    expr: Annotated[
        str, Field(description="a condition, in the language of docs/rules.md; it has to be True")
    ]
    early_fail: Annotated[
        Flag, Field(description="once it is False, at whatever step, the gate has failed for certain")
    ] = False
    on_false: Annotated[
        Literal["fail", "inconclusive"],
        Field(description='"inconclusive": it could not be shown, which is no proof of the contrary'),
    ] = "fail"
    why: Annotated[str, Field(description="what it is asked for")] = ""

    @model_validator(mode="after")
    def _fails_if_early(self) -> RequirementSpec:
        if self.early_fail and self.on_false != "fail":
            raise ValueError('`early_fail` ends in a failure; take it away, or on_false = "inconclusive"')
        return self


def _requirement(value: object) -> object:
    return {"expr": value} if isinstance(value, str) else value


class GateSpec(Strict):
    """What a run has to show by a certain step: pass, fail or inconclusive."""

    name: Annotated[str, StringConstraints(pattern=GATE_NAME)]
    at: Annotated[
        SpanField,
        Field(description="when it is judged: run steps, or a time since the run's first point"),
    ]
    needs: Annotated[
        tuple[str, ...], Field(description="gates that the same run has to have passed before")
    ] = ()
    forbid: Annotated[
        tuple[str, ...],
        Field(description="severities, and names of rules: one that fires up to `at` fails the gate at once"),
    ] = ("critical", "fatal")
    let: dict[Name, str] = Field(default_factory=dict, description="names for expressions, for `require`")
    require: Annotated[
        tuple[
            Annotated[
                RequirementSpec,
                BeforeValidator(_requirement, json_schema_input_type=str | RequirementSpec),
            ],
            ...,
        ],
        Field(description="conditions that have to be True at `at`; unknown is not True"),
    ] = ()
    why: Annotated[str, Field(description="what the gate is for")] = ""


class _Disable(Strict):
    rules: tuple[str, ...] = ()


class _Pack(Strict):
    name: str
    when: Annotated[
        str | None, Field(description="a condition: its rules are for runs in which it has been True")
    ] = None


class RuleFile(Strict):
    """The rule tables of one file."""

    version: Literal[1] = 1
    pack: _Pack | None = None
    params: dict[Name, Annotated[Real, Field(allow_inf_nan=False)]] = Field(default_factory=dict)
    override: dict[str, dict[str, Any]] = Field(default_factory=dict)
    disable: _Disable = _Disable()
    metrics: dict[Name, Annotated[MetricSpec, BeforeValidator(_metric, json_schema_input_type=_Metric)]] = (
        Field(default_factory=dict)
    )
    rule: tuple[_RuleTable, ...] = ()
    ladders: dict[Name, LadderSpec] = Field(default_factory=dict)
    remedies: dict[Name, RemedySpec] = Field(default_factory=dict)
    limits: LimitsSpec | None = None
    inhibit: tuple[InhibitSpec, ...] = ()
    gate: tuple[GateSpec, ...] = ()


_M = TypeVar("_M", bound=BaseModel)


def validate(
    model: type[_M], data: Mapping[str, Any], document: Document, prefix: Path = ()
) -> tuple[_M | None, list[Problem]]:
    """Check a table against its model; returns it, or None and every problem with its place."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        return None, [_problem(e, model, document, prefix) for e in _errors(error)]


def mistakes(model: type[BaseModel], data: Mapping[str, Any]) -> tuple[list[Path], list[Path]]:
    """Return the paths of the unknown keys in a table, and of all else that does not fit its model."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False)
        unknown = [e["loc"] for e in found if e["type"] == "extra_forbidden"]
        return unknown, [e["loc"] for e in found if e["type"] != "extra_forbidden"]
    return [], []


def _errors(error: ValidationError) -> list[ErrorDetails]:
    """Leave out that a list is too short where its elements were counted out for being wrong."""
    found = error.errors(include_url=False)
    return [
        e
        for e in found
        if e["type"] != "too_short"
        or not any(o is not e and o["loc"][: len(e["loc"])] == e["loc"] for o in found)
    ]


def _problem(error: ErrorDetails, model: type[BaseModel], document: Document, prefix: Path) -> Problem:
    loc = tuple(part for part in error["loc"] if part != "[key]")
    path: Path = (*prefix, *loc)
    where, name = document.where(path), _spoken(document, path)
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            table = _spoken(document, path[:-1]) or "the file"
            hint = nearest(str(loc[-1]), _fields_at(model, loc[:-1]))
            return Problem(where, f"{table}: unknown key {str(loc[-1])!r}", hint)
        case "missing":
            return Problem(where, f"{name}: this key is required")
        case "string_pattern_mismatch":
            marks = ", _ and -" if context.get("pattern") == GATE_NAME else " and _"
            what = f"{error['input']!r} is no name; use small letters, digits{marks}, beginning with a letter"
            return Problem(where, f"{name}: {what}")
        case "literal_error":
            known = re.findall(r"'([^']*)'", str(context.get("expected", "")))
            hint = nearest(str(error["input"]), known) if known else f"write {context.get('expected')}"
            return Problem(where, f"{name}: {error['input']!r} means nothing here", hint)
    said = _SAID.get(error["type"])
    what = said.format_map(context) if said else error["msg"].removeprefix("Value error, ")
    return Problem(where, f"{name}: {what}")


_SAID = {
    "too_short": "this must not be empty",
    "tuple_type": "this must be a list",
    "dict_type": "this must be a table",
    "model_type": "this must be a table",
    "string_type": "this must be a text, in quotes",
    "bool_type": "this must be true or false",
    "bool_parsing": "this must be true or false",
    "int_type": "this must be a whole number",
    "int_parsing": "this must be a whole number",
    "int_from_float": "this must be a whole number",
    "float_type": "this must be a number",
    "float_parsing": "this must be a number",
    "finite_number": "this must be a finite number",
    "greater_than_equal": "this must be at least {ge:g}",
}
"""What is said where the library's own words would speak of tuples, inputs and parsing."""


def _spoken(document: Document, path: Path) -> str:
    """Name a place as a person would: `rule actor_q_high.for`, not `rule.3.for`."""
    if len(path) < 2 or path[0] not in ("rule", "gate") or not isinstance(path[1], int):
        return ".".join(str(part) for part in path)
    table = document.data[str(path[0])][path[1]]
    name = table.get("name") if isinstance(table, Mapping) else None
    shown = name if isinstance(name, str) else f"number {path[1] + 1}"
    return ".".join((f"{path[0]} {shown}", *(str(part) for part in path[2:])))


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the table at `loc` may have."""
    current: type[BaseModel] | None = model
    named = False  # the next part is an index, or a name the user chose
    for part in loc:
        if named or isinstance(part, int):
            named = False
            continue
        by_key = (
            {f.alias or name: f.annotation for name, f in current.model_fields.items()} if current else {}
        )
        annotation = by_key.get(part)
        named = get_origin(annotation) is dict
        current = _inner(annotation)
    return [f.alias or name for name, f in current.model_fields.items()] if current else []


def _inner(annotation: object) -> type[BaseModel] | None:
    """Return the model inside `dict[..., M]`, `tuple[M, ...]`, `M | None` or `Annotated[M, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for a in get_args(annotation) if (found := _inner(a)) is not None), None)
