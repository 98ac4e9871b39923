"""[notify.NAME] of sentinel.toml: which channels there are, of which kind, and who is told on them.

A table is of the kind that `kind` says; one that bears a kind's own name needs to say nothing. A kind that is
not ours is looked for among the installed packages (`notifier.installed`), whose own keys stand in its table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    model_validator,
)

from notifier import installed
from rules.schema import TIME, Severity, Span, validate
from rules.source import Document, Problem, nearest
from sentinel.grouping import Policy


def seconds(value: object) -> object:
    """Read a time.

    Raises:
        ValueError: it is none.
    """
    span = Span.parse(value)
    if span.unit != "seconds":
        raise ValueError(f'{value!r}: this is a time; write "30s", "2m" or "1h"')
    return span.amount


Seconds = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema({"type": "string", "pattern": TIME, "examples": ["30s", "2m", "1h"]}),
]


def _variable(name: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        # Not repeated: it is often the secret itself.
        raise ValueError("write the name of an environment variable, never what it holds")
    return name


VariableName = Annotated[str, AfterValidator(_variable), Field(examples=["SLACK_BOT_TOKEN"])]


def web_address(value: SecretStr) -> SecretStr:
    """Take an address that can be asked; its key stands in many a one, so it is a secret.

    Raises:
        ValueError: it is of another kind.
    """
    if not value.get_secret_value().startswith(("https://", "http://")):
        raise ValueError("write an address that begins with https:// or http://")  # the value is a secret
    return value


def _user(text: str) -> str:
    if re.fullmatch(r"[UW][A-Z0-9]{2,30}", text) is None:
        raise ValueError(
            f'{text!r} is no user id; write one like "U0123ABCD" (in Slack: the person\'s profile, ⋮, '
            "Copy member ID)"
        )
    return text


_PERIODS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


def _rate(text: str) -> tuple[int, float]:
    count, _, period = (part.strip() for part in text.partition("/"))
    if not (count.isascii() and count.isdigit()) or period not in _PERIODS:
        raise ValueError(f'{text!r}: write how many in which time, "20/h"; m, h and d are known')
    return int(count), _PERIODS[period]


def _of_rate(text: str) -> str:
    _rate(text)
    return text


Budget: TypeAlias = dict[Severity, Annotated[str, AfterValidator(_of_rate), Field(examples=["20/h"])]]


def _usual() -> Budget:
    return {"warning": "20/h", "info": "10/h"}


class ChannelTable(BaseModel):
    """What every channel's table may say: who is told on it. Globs are those of `notifier.route.Route`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    enabled: bool = True
    at_least: Severity = "warning"
    rules: tuple[str, ...] = ("*",)
    runs: tuple[str, ...] = ("*",)
    match: dict[str, str] = Field(default_factory=dict)
    group_by: tuple[str, ...] = Policy().by
    group_wait: Seconds = 0.0
    group_interval: Seconds = Policy().interval
    repeat_interval: Seconds = 0.0
    across_runs: Annotated[int, Field(ge=0)] = Policy().across
    budget: Budget = Field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        """How the channel is told."""
        return Policy(
            self.group_by,
            self.group_wait,
            self.group_interval,
            self.repeat_interval,
            self.across_runs,
            {severity: _rate(text) for severity, text in self.budget.items()},
        )


class PeoplesTable(ChannelTable):
    """A channel that people read: told in groups, again while it goes on, and within a budget."""

    group_wait: Seconds = 30.0
    repeat_interval: Seconds = 14_400.0
    budget: Budget = Field(default_factory=_usual)


class ConsoleTable(ChannelTable):
    """[notify.console]."""

    kind: Literal["console"] = "console"
    at_least: Severity = "info"


class SlackTable(PeoplesTable):
    """[notify.slack]: used where the variable named by `token_env` is set."""

    kind: Literal["slack"] = "slack"
    channel: Annotated[str, Field(min_length=1)]
    token_env: VariableName = "SLACK_BOT_TOKEN"  # noqa: S105  a variable's name; a token never stands in a file
    base_url: str | None = None
    app_token_env: VariableName | None = None
    approvers: tuple[Annotated[str, AfterValidator(_user)], ...] = ()

    @model_validator(mode="after")
    def _heard(self) -> SlackTable:
        if self.approvers and self.app_token_env is None:
            raise ValueError(
                "approvers answer by buttons, and those are heard with an app-level token: "
                "name its variable in app_token_env (docs/approvals.md)"
            )
        return self

    @property
    def listens(self) -> bool:
        """Whether what people press and write there is heard."""
        return self.app_token_env is not None


class WebhookTable(ChannelTable):
    """[notify.webhook]: signed JSON, posted to an address of one's own."""

    kind: Literal["webhook"] = "webhook"
    url_env: VariableName
    secret_env: VariableName | None = None
    token_env: VariableName | None = None


class AppriseTable(PeoplesTable):
    """[notify.apprise]: every service that Apprise reaches; the addresses stand in one variable."""

    kind: Literal["apprise"] = "apprise"
    urls_env: VariableName


class AlertmanagerTable(ChannelTable):
    """[notify.alertmanager]: the team's own Prometheus Alertmanager."""

    kind: Literal["alertmanager"] = "alertmanager"
    url: Annotated[SecretStr, AfterValidator(web_address)] | None = None
    url_env: VariableName | None = None
    token_env: VariableName | None = None
    labels: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _somewhere(self) -> AlertmanagerTable:
        if (self.url is None) == (self.url_env is None):
            raise ValueError("write either url, or url_env with the name of the variable that holds it")
        wrong = [name for name in self.labels if re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) is None]
        if wrong:
            raise ValueError(f"labels: {wrong[0]!r} is no name of a label; use letters, digits and _")
        grouped = {"group_by", "group_wait", "group_interval", "repeat_interval", "across_runs", "budget"}
        if grouped & self.model_fields_set:
            raise ValueError(
                f"{min(grouped & self.model_fields_set)}: Alertmanager groups by its own settings"
            )
        return self


class InstalledTable(ChannelTable):
    """A channel of another package's kind; its further keys are that kind's own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def options(self) -> dict[str, Any]:
        """What the kind's factory is called with."""
        return dict(self.__pydantic_extra__ or {})


KINDS: Mapping[str, type[ChannelTable]] = {
    "console": ConsoleTable,
    "slack": SlackTable,
    "webhook": WebhookTable,
    "apprise": AppriseTable,
    "alertmanager": AlertmanagerTable,
}
"""Our own kinds; no package can replace one."""

Channel: TypeAlias = (
    ConsoleTable | SlackTable | WebhookTable | AppriseTable | AlertmanagerTable | InstalledTable
)


class NotifyTable(BaseModel):
    """[notify]: who is told. Channels by name; those named like a kind are of that kind."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Channel] = Field(init=False)

    console: ConsoleTable = ConsoleTable()
    slack: SlackTable | None = None
    webhook: WebhookTable | None = None
    apprise: AppriseTable | None = None
    alertmanager: AlertmanagerTable | None = None

    @property
    def channels(self) -> dict[str, Channel]:
        """Every channel that is told, by name."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: t for name, t in {**named, **self.__pydantic_extra__}.items() if t and t.enabled}


def read_channels(notify: object, document: Document) -> tuple[dict[str, ChannelTable], list[Problem]]:
    """Check every table below [notify] against its kind.

    Args:
        notify: what the file says there. document: the file, for the places of problems.

    Returns:
        The tables that are right, by name, and what is wrong with the others.
    """
    tables: dict[str, ChannelTable] = {}
    problems: list[Problem] = []
    if not isinstance(notify, Mapping):
        return {}, [Problem(document.where(("notify",)), "notify: this must be a table")]
    for name, data in notify.items():
        where = document.where(("notify", name))
        kind = _kind(name, data, where)
        if isinstance(kind, Problem):
            problems.append(kind)
            continue
        model = KINDS.get(kind, InstalledTable)
        table, found = validate(model, {**data, "kind": kind}, document, ("notify", name))
        problems += found
        if isinstance(table, InstalledTable):
            wrong = installed.misfit(kind, table.options)
            problems += [Problem(where, f"notify.{name}: {what}", hint) for what, hint in wrong]
        if table is not None:
            tables[name] = table
    return tables, problems


def _kind(name: str, data: object, where: str) -> str | Problem:
    """Return the kind of a channel's table, or why it has none."""
    at = f"notify.{name}"
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) is None:
        return Problem(where, f"{at}: a channel's name is of letters, digits, _ and -")
    known = [*KINDS, *installed.kinds()]
    if not isinstance(data, Mapping):
        return Problem(where, f"unknown key {name!r} in notify: a channel is a table", nearest(name, known))
    kind = data.get("kind", name)
    if not isinstance(kind, str):
        return Problem(where, f"{at}.kind: this must be a text, in quotes")
    if name in KINDS and kind != name:
        what = f"{at}: a channel of this name is of kind {name}; give one of kind {kind!r} another name"
        return Problem(where, what)
    if kind in known:
        return kind
    if "kind" in data:
        return Problem(where, f"{at}: no kind of channel is called {kind!r} here", nearest(kind, known))
    what = f"{at}: {name!r} is no kind of channel; where it is a name of your own, add kind"
    return Problem(where, what, nearest(name, known) or f"the kinds are {', '.join(sorted(known))}")
