"""sentinel.toml to settings: every problem of every file at once, with its place.

One file holds both what the rules are (merged with the packs it includes by `rules.merge`) and how the
sentinel itself runs (the tables here). Anything neither knows is a problem: an ignored key would be a setting
that is not in force.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

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

from notifier.message import SEVERITIES
from notifier.route import Route
from rules.evaluate import Program, compile_rules
from rules.gate import compile_gates
from rules.merge import RuleSet, merge
from rules.schema import RuleFile, validate
from rules.source import Document, Problem, RuleErrors, nearest, parse
from sentinel.actuator import Patience
from sentinel.channel_tables import (
    NotifyTable,
    Seconds,
    VariableName,
    read_channels,
    seconds,
    web_address,
)
from sentinel.climb import Approval
from sentinel.clock import Clock
from sentinel.clusters import Workload
from sentinel.clusters.kubernetes import POD
from sentinel.clusters.reach import Reach
from sentinel.clusters.slurm import JOB_ID
from sentinel.errors import ConfigError
from sentinel.foreign import Patterns, compiled
from sentinel.grouping import Policy
from sentinel.policy import Book
from sentinel.registration import Terms
from sentinel.restarts import Budget, Occasion, RestartPolicy
from sentinel.resume import STYLE, ResumeTemplate, parse_style

DEFAULT_INCLUDE = ("pack:generic", "pack:td3")
"""What is watched for where no file says otherwise."""

_ALIASES = "_aliases"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunTable(_Table):
    """[run]: which folders are runs."""

    logdir: Path = Path("runs")
    match: tuple[str, ...] = ("*",)


def _budget(text: str) -> Budget:
    count, time = Budget.split(text)
    return Budget(count, float(str(seconds(time))))


def _of_budget(text: str) -> str:
    _budget(text)
    return text


class RestartTable(_Table):
    """[trainer.restart]: whether a job that `sentinel run -- CMD` started is started again."""

    on: Occasion = RestartPolicy().on
    max: Annotated[int, Field(ge=0, description="restarts of one job")] = RestartPolicy().max
    backoff: Seconds = RestartPolicy().backoff
    factor: Annotated[float, Field(ge=1, description="each further one in a row waits so much longer")] = (
        RestartPolicy().factor
    )
    limit: Seconds = RestartPolicy().limit
    budget: Annotated[str, AfterValidator(_of_budget), Field(examples=["5 in 1h"])] = "5 in 1h"
    hang_after: Seconds = RestartPolicy().hang_after


class ParameterTable(_Table):
    """[trainer.parameters]: the first value of a parameter that a remedy may change, and its bounds."""

    value: float | int | bool | str
    low: float | None = None
    high: float | None = None


def _parameter(value: object) -> object:
    return value if isinstance(value, dict) else {"value": value}


def _readable(text: str) -> str:
    ResumeTemplate.parse(text)
    return text


def _style(text: str) -> str:
    parse_style(text)
    return text


def _signal(value: object) -> object:
    names = [signum.name for signum in signal.Signals]
    if not isinstance(value, str) or value not in names:
        spoken = f"SIG{value}".upper() if not str(value).upper().startswith("SIG") else str(value).upper()
        hint = f'did you mean "{spoken}"?' if spoken in names else nearest(spoken, names)
        raise ValueError(f"no signal {value!r}; {hint or 'write a name such as SIGUSR1'}")
    if value in ("SIGKILL", "SIGSTOP"):
        raise ValueError(
            f"{value} cannot be caught, so no job can obey it; take another signal, such as SIGUSR1"
        )
    return value


SignalName = Annotated[
    str, BeforeValidator(_signal), WithJsonSchema({"type": "string", "examples": ["SIGUSR1", "SIGTERM"]})
]


Launcher: TypeAlias = Literal["slurm", "kubernetes"]


def _job_name(value: object) -> object:
    return str(value) if type(value) is int else value


JobName = Annotated[
    str,
    BeforeValidator(_job_name),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["4711", "4711_3", "training/td3-x7k2p"]}),
]


class SignalsTable(_Table):
    """[trainer.signals]: what a job without guard is asked by; a verb without a signal cannot be asked."""

    checkpoint: SignalName | None = None
    terminate: SignalName | None = None

    @model_validator(mode="after")
    def _differ(self) -> SignalsTable:
        if self.checkpoint is not None and self.checkpoint == self.terminate:
            raise ValueError(
                f"checkpoint and terminate are both {self.checkpoint}; a job could not tell which"
            )
        return self


class TrainerTable(_Table):
    """[trainer]: how long to wait for it, and how it is started again."""

    ack_timeout: Seconds = Patience().ack
    work_timeout: Seconds = Patience().work
    grace: Seconds = Patience().grace
    signals: SignalsTable = SignalsTable()
    restart: RestartTable = RestartTable()
    resume: Annotated[str, AfterValidator(_readable)] | None = None
    override_style: Annotated[str, AfterValidator(_style)] = STYLE
    launcher: Launcher | None = None
    jobs: Annotated[
        dict[str, JobName], Field(description="the cluster's job of a run whose trainer has no guard")
    ] = Field(default_factory=dict)
    parameters: dict[str, Annotated[ParameterTable, BeforeValidator(_parameter)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _named(self) -> TrainerTable:
        if self.jobs and self.launcher is None:
            raise ValueError(
                'jobs are named, and no launcher that knows them; write launcher = "slurm" or "kubernetes"'
            )
        for run, job in self.jobs.items():
            if self.launcher == "slurm" and not JOB_ID.fullmatch(job):
                raise ValueError(
                    f'jobs: {run} = {job!r} is no number of a Slurm job; write "4711", or "4711_3" for '
                    "task 3 of an array"
                )
            if self.launcher == "kubernetes" and not POD.fullmatch(job):
                raise ValueError(f'jobs: {run} = {job!r} is no pod; write "NAMESPACE/POD", or "self"')
        return self


def _not_too_often(seconds: float) -> float:
    if seconds < 60.0:
        raise ValueError('people are told each time; write "1m" at the least, "1d" is usual')
    return seconds


def _listening(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535 or " " in host:
        raise ValueError('write where to listen as "HOST:PORT", such as "127.0.0.1:9464"')
    return text


class SentinelTable(_Table):
    """[sentinel]: whom it tells that it lives, and who may measure it. The ping's address is a secret: who
    knows it can feign our life.
    """

    watchdog_every: Annotated[Seconds, AfterValidator(_not_too_often)] | None = None
    ping_url: Annotated[SecretStr, AfterValidator(web_address)] | None = None
    ping_url_env: VariableName | None = None
    metrics: Annotated[str, AfterValidator(_listening), Field(examples=["127.0.0.1:9464"])] | None = None


def _pattern(text: str) -> str:
    compiled(text)
    return text


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class CheckpointsTable(_Table):
    """[checkpoints]: how a job without guard names its checkpoints, and where they lie."""

    patterns: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Patterns().names
    folder: Annotated[
        tuple[str, ...],
        BeforeValidator(_several),
        WithJsonSchema({"type": ["string", "array"], "examples": ["checkpoints", ".", ["checkpoints", "."]]}),
    ] = Patterns().folders
    settle: Seconds = Patterns().settle


class StateTable(_Table):
    """[state]: where the sentinel remembers."""

    folder: Path | None = None


class Service(_Table):
    """What a file says beside its rules."""

    mode: Literal["observe", "act"] = "observe"
    include: tuple[str, ...] = ()
    run: RunTable = RunTable()
    trainer: TrainerTable = TrainerTable()
    checkpoints: CheckpointsTable = CheckpointsTable()
    state: StateTable = StateTable()
    sentinel: SentinelTable = SentinelTable()
    notify: NotifyTable = NotifyTable()
    labels: Annotated[
        dict[str, dict[str, str]], Field(description="labels of runs, by globs over their names")
    ] = Field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """Everything that was configured, checked.

    Attributes:
        service: how the sentinel runs. rules: what it watches for.
        source, packs: the file and the packs that were asked for, for commands that are to mean the same.
        approval: how a replay answers what people would be asked; None for as the ladders say.
    """

    service: Service
    rules: RuleSet
    source: Path | None = None
    packs: tuple[str, ...] = ()
    approval: Approval | None = None

    @cached_property
    def program(self) -> Program:
        """The rules, compiled.

        Raises:
            RuleErrors: an expression is wrong; `load` has raised it before.
        """
        return compile_rules(self.rules)

    @cached_property
    def book(self) -> Book:
        """What the policy reads."""
        rules = self.rules
        return Book(rules.ladders, rules.remedies, rules.limits, rules.inhibit, self.approval)

    @property
    def mode(self) -> Literal["observe", "act"]:
        """Whether commands are sent or only told."""
        return self.service.mode

    @property
    def logdir(self) -> Path:
        """The folder of runs."""
        return self.service.run.logdir

    @property
    def match(self) -> tuple[str, ...]:
        """Patterns over run names; a run that matches none is left alone."""
        return self.service.run.match

    @property
    def state_folder(self) -> Path | None:
        """Where the sentinel remembers, if the file says so."""
        return self.service.state.folder

    @property
    def ping_url(self) -> str | None:
        """The address of a dead man's switch, from the file or from the variable it names; None for none."""
        table = self.service.sentinel
        if table.ping_url is not None:
            return table.ping_url.get_secret_value()
        found = os.environ.get(table.ping_url_env or "", "").strip()
        return found if found.startswith(("https://", "http://")) else None

    @property
    def patience(self) -> Patience:
        """How long the trainer may take."""
        table = self.service.trainer
        return Patience(table.ack_timeout, table.work_timeout, table.grace)

    def terms(self, clock: Clock, run: str = "", reach: Reach | None = None) -> Terms:
        """What is agreed with jobs that have no guard.

        Args:
            clock: tells when a checkpoint is at rest. run: the run's name.
            reach: the way to a cluster's jobs; None for none.
        """
        given = self.service.trainer.signals.model_dump(exclude_none=True)
        table = self.service.checkpoints
        signals = {verb: signal.Signals[name] for verb, name in given.items()}
        trainer = self.service.trainer
        job = trainer.jobs.get(run)
        named = Workload(trainer.launcher, job) if trainer.launcher is not None and job is not None else None
        return Terms(signals, Patterns(table.patterns, table.folder, table.settle), clock, reach, named)

    @property
    def restart(self) -> RestartPolicy:
        """Whether a job that died is started again."""
        table = self.service.trainer.restart
        return RestartPolicy(**{**dict(table), "budget": _budget(table.budget)})

    @property
    def resume(self) -> ResumeTemplate | None:
        """The command that goes on from a checkpoint."""
        table = self.service.trainer
        return None if table.resume is None else ResumeTemplate.parse(table.resume, table.override_style)

    @property
    def routes(self) -> tuple[Route, ...]:
        """Who is told what."""
        tables = self.service.notify.channels
        return tuple(Route(name, t.at_least, t.rules, t.runs, t.match) for name, t in tables.items())

    def labels(self, run: str, rule: str) -> dict[str, str]:
        """Return the labels of what is told of a rule in a run; a rule's own go before the run's.

        Args:
            run: name of the run. rule: full name, with its capture if it has one; "" for none.
        """
        found: dict[str, str] = {}
        for glob, labels in self.service.labels.items():
            if run and fnmatchcase(run, glob):
                found = {**labels, **found}  # the first that fits goes before those below it
        return {**found, **self._rule_labels.get(rule.partition("[")[0], {})}

    @cached_property
    def _rule_labels(self) -> dict[str, dict[str, str]]:
        return {rule.name: rule.labels for rule in self.rules.rules if rule.labels}

    @property
    def policies(self) -> dict[str, Policy]:
        """How each channel is told: groups, repeats and budgets."""
        return {name: table.policy for name, table in self.service.notify.channels.items()}


assert SEVERITIES == ("info", "warning", "critical", "fatal"), "rules and notifier name the same severities"


def load(path: Path | None, packs: Sequence[str] = ()) -> Settings:
    """Read a configuration file, or make one of packs alone.

    Args:
        path: sentinel.toml; None for the shipped defaults.
        packs: names of packs; where given without a file, these alone are used.

    Raises:
        ConfigError: the file cannot be read.
        RuleErrors: anything in it, or in what it includes, is wrong; all problems at once.
    """
    if path is None:
        include = tuple(f"pack:{name}" for name in packs) or DEFAULT_INCLUDE
        document = Document("defaults", {"include": include})
    else:
        document = parse(_read(path), str(path))
        extra = [f"pack:{name}" for name in packs]
        included = document.data.get("include", [])
        if extra and isinstance(included, list):
            data = {**document.data, "include": [*included, *extra]}
            document = Document(document.file, data, document.positions)
    settings = _settle(document, path.parent if path is not None else Path())
    return replace(settings, source=path, packs=tuple(packs))


def _settle(document: Document, folder: Path) -> Settings:
    own = {key: value for key, value in document.data.items() if key in Service.model_fields}
    unknown = [k for k in document.data if k not in Service.model_fields and k not in RuleFile.model_fields]
    problems = [
        Problem(
            document.where((k,)),
            f"unknown key {k!r}",
            nearest(k, [*Service.model_fields, *RuleFile.model_fields]),
        )
        for k in unknown
    ]
    if "notify" in own:
        own["notify"], found = read_channels(own["notify"], document)
        problems += found
    service, found = validate(Service, own, document)
    problems += found
    documents: list[tuple[str, Document]] = []
    named = own.get("include")
    include = named if isinstance(named, (list, tuple)) else ()
    include = [item for item in include if isinstance(item, str)]
    for item in _with_aliases(include):
        try:
            documents += _included(item, folder, document)
        except RuleErrors as error:
            problems += error.problems
    rest = {k: v for k, v in document.data.items() if k not in own and k not in unknown}
    documents.append(("", Document(document.file, rest, document.positions)))
    rules, found = merge(documents)
    problems += found
    try:
        compile_rules(rules)
    except RuleErrors as error:
        problems += error.problems
    try:
        compile_gates(rules)
    except RuleErrors as error:
        problems += [problem for problem in error.problems if problem not in problems]
    if not problems and not any(rule.enabled for rule in rules.rules):
        hint = 'add include = ["pack:generic", "pack:td3"], or a [[rule]]'
        problems.append(Problem(document.file, "no rule: nothing would be watched for", hint))
    if problems or service is None:
        raise RuleErrors(problems)
    return Settings(service, rules)


def _with_aliases(include: Sequence[str]) -> Iterator[str]:
    """Every pack speaks in canonical names, so the aliases come first."""
    if any(item.startswith("pack:") for item in include):
        yield f"pack:{_ALIASES}"
    yield from dict.fromkeys(include)


def _included(item: str, folder: Path, document: Document) -> Iterator[tuple[str, Document]]:
    where = document.where(("include",))
    if item.startswith("pack:"):
        name = item.removeprefix("pack:")
        source = files("rules.packs") / f"{name}.toml"
        if not source.is_file():
            known = [
                p.name.removesuffix(".toml")
                for p in files("rules.packs").iterdir()
                if p.name.endswith(".toml")
            ]
            known = [name for name in known if not name.startswith("_")]
            raise RuleErrors([Problem(where, f"no pack {name!r}", nearest(name, known))])
        yield ("" if name == _ALIASES else name), parse(source.read_text(encoding="utf-8"), f"pack:{name}")
        return
    path = folder / item
    try:
        yield "", parse(_read(path), str(path))
    except ConfigError as error:
        raise RuleErrors([Problem(where, str(error))]) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; nothing was started") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; nothing was started") from error
