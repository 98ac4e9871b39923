"""The first sentinel.toml for a folder of runs: what is logged there, what can watch it, what cannot.

Nothing is guessed into force: the file holds the packs that fit by their tags, and everything else as
comments, with the reason.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap

from rules import packs
from rules.coverage import Coverage, coverage, nearest_tag
from rules.schema import NAME, RuleSpec
from sentinel.config import Settings, load
from sentinel.discover import RunFiles, scan
from sentinel.errors import RunGoneError, TailError
from sentinel.events import EventFile
from sentinel.frameworks import Recognised, recognise

PROBES = ("sys/process_alive", "sys/disk_free_frac", "sys/rss_frac")
"""What the sentinel measures itself, in every run whose process it knows."""

MOST_READ = 256 << 20
"""Bytes read of each event file, to learn its tags; a tag that first comes later is not seen."""

WIDTH = 110


@dataclass(frozen=True, slots=True)
class SurveyedRun:
    """What one run logs.

    Attributes:
        name: its folder below the log directory. tags: of its scalars, with the number of points of each.
        recognised: by these tags.
    """

    name: str
    tags: Counter[str]
    recognised: Recognised


@dataclass(frozen=True, slots=True)
class Survey:
    """What lies below a log directory.

    Attributes:
        logdir: as it was named. runs: those with scalars. empty: names of runs without any yet.
        unread: files that could not be read, with the reason.
    """

    logdir: Path
    runs: tuple[SurveyedRun, ...]
    empty: tuple[str, ...]
    unread: tuple[str, ...] = ()

    @property
    def packs(self) -> tuple[str, ...]:
        """The packs that fit, the most fitting first; `generic` always."""
        counted = Counter(pack for run in self.runs for pack in run.recognised.packs)
        return ("generic", *(pack for pack, _ in counted.most_common() if pack in packs.names()))

    @property
    def frameworks(self) -> Counter[str]:
        """How many runs each framework wrote, by the first that each bears."""
        return Counter(run.recognised.frameworks[0] for run in self.runs if run.recognised.frameworks)


@dataclass(slots=True)
class _Sight:
    """What one rule can see of the runs that its pack is for.

    Attributes:
        runs: of how many runs it is asked. whole, part: of how many it sees all, or something.
        missing: what none of them logs, with the tags that would do.
    """

    rule: RuleSpec
    runs: int = 0
    whole: int = 0
    part: int = 0
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def count(self, seen: Coverage) -> None:
        """Add one run; only what every run lacks is missing."""
        lacking = dict(seen.missing)
        self.missing = lacking if not self.runs else {k: v for k, v in self.missing.items() if k in lacking}
        self.runs += 1
        self.whole += seen.sight == "whole"
        self.part += seen.sight == "part"


def survey(logdir: Path) -> Survey:
    """Read the tags of every run at or below a folder.

    Raises:
        RunGoneError: there is no event file.
    """
    found = scan(logdir) if logdir.exists() else {}
    if not found:
        raise RunGoneError(
            f"{logdir}: no TensorBoard event file (events.out.tfevents.*) at or below it; nothing was "
            "written; start the job first, or name the folder that it logs to"
        )
    runs, empty, unread = [], [], []
    for name, files in found.items():
        tags, failed = _tags(files)
        unread += failed
        if tags:
            runs.append(SurveyedRun(name, tags, recognise(tags)))
        else:
            empty.append(name)
    return Survey(logdir, tuple(runs), tuple(empty), tuple(unread))


def _tags(files: RunFiles) -> tuple[Counter[str], list[str]]:
    tags: Counter[str] = Counter()
    failed = []
    for path in files.event_files:
        file, offset = EventFile(path), 0
        while offset < MOST_READ:
            try:
                batch = file.read()
            except TailError as error:
                failed.append(str(error))
                break
            tags.update(sample[0] for sample in batch.samples)
            offset = batch.offset
            if not batch.more:
                break
    return tags, failed


def compose(found: Survey) -> str:
    """Write the file: TOML that loads as it stands, and says why it is so.

    Raises:
        RuleErrors: a shipped pack is broken.
    """
    settings = load(None, found.packs)
    sights = _sights(found, settings)
    sections = [_head(found), _where(found), _params(found), *_rules(sights), _metrics(found, sights)]
    return "\n".join((*(section for section in sections if section), _TAIL))


def _sights(found: Survey, settings: Settings) -> list[_Sight]:
    sights = {rule.name: _Sight(rule) for rule in settings.rules.rules}
    for run in found.runs:
        fitting = {"generic", *run.recognised.packs}
        for seen in coverage(settings.program, {*run.tags, *PROBES}):
            if seen.rule.partition("/")[0] in fitting:
                sights[seen.rule].count(seen)
    return list(sights.values())


def _head(found: Survey) -> str:
    points = sum(sum(run.tags.values()) for run in found.runs)
    tags = {tag for run in found.runs for tag in run.tags}
    logdir = _shown(shlex.quote(str(found.logdir)))
    commands = {
        "sentinel check": "reads this file and every rule; changes nothing",
        f"sentinel replay {logdir}": "what these rules make of the runs that are there",
        f"sentinel run {logdir}": "watches and tells; with --act it may ask the trainer to act",
    }
    width = max(map(len, commands))
    return "\n".join(
        (
            f"# sentinel.toml, begun by `sentinel init` from what lies below {logdir}:",
            f"# {_plural(len(found.runs), 'run')} with scalars, {_plural(points, 'point')}, "
            f"{_plural(len(tags), 'tag')}.",
            "#",
            *_recognised(found),
            *_comment(f"Without any scalar yet: {_listed(found.empty)}." if found.empty else ""),
            *_comment(f"Could not be read: {_listed(found.unread)}." if found.unread else ""),
            "#",
            *(f"#   {command:<{width}}   {what}" for command, what in commands.items()),
            "",
            "version = 1",
            f"include = [{', '.join(json.dumps(f'pack:{pack}') for pack in found.packs)}]",
            'mode = "observe"           # "act" sends commands; `sentinel run --act` does so for once',
        )
    )


def _recognised(found: Survey) -> Iterator[str]:
    for framework, count in found.frameworks.most_common():
        yield f"# Recognised: {framework}, {_plural(count, 'run')}."
    algorithms = Counter(pack for run in found.runs for pack in run.recognised.packs)
    for pack, count in algorithms.most_common():
        there = "" if pack in packs.names() else "; there is no pack for it"
        yield f"# Recognised: {pack}, in {_plural(count, 'run')}{there}."
    unknown = [run.name for run in found.runs if not run.recognised.packs]
    if unknown:
        yield from _comment(
            f"Not recognised, and watched by the generic rules alone: {_listed(unknown)}. If a pack fits, of "
            f"{', '.join(name for name in packs.names() if name != 'generic')}, add it to `include`, and say "
            "under [metrics] which of your tags its names are."
        )


def _where(found: Survey) -> str:
    return f"\n[run]\nlogdir = {json.dumps(str(found.logdir))}"


def _params(found: Survey) -> str:
    lines = []
    for pack in found.packs:
        for name, value in packs.read(pack).data.get("params", {}).items():
            lines.append(f"# {name} = {value}".ljust(28) + f"# of pack:{pack}")
    if not lines:
        return ""
    return "\n".join(
        ("\n[params]                   # numbers that rules name as p.NAME; uncomment to change", *lines)
    )


def _rules(sights: Sequence[_Sight]) -> Iterator[str]:
    whole = [sight for sight in sights if sight.whole]
    part = [sight for sight in sights if sight.part and not sight.whole]
    blind = [sight for sight in sights if not sight.part and not sight.whole]
    for title, group in (
        ("rules that see what they need", whole),
        ("rules that can fire, but lack something", part),
        ("rules that cannot work here; one of these tags would enable them", blind),
    ):
        if group:
            yield "\n".join((f"\n# ── {title}", *(line for sight in group for line in _told(sight))))


def _told(sight: _Sight) -> Iterator[str]:
    partly = 0 < sight.whole < sight.runs
    where = f" (in {sight.whole} of {_plural(sight.runs, 'run')})" if partly else ""
    yield f"#   {sight.rule.severity:<9} {sight.rule.name}{where}"
    if not sight.whole:
        for name, tags in sight.missing.items():
            would = (
                " or ".join(tags)
                if tags != (name,)
                else "a tag that fits"
                if "*" in name or "{" in name
                else "itself"
            )
            yield from _comment(f"{name}: {would}", indent=12)


def _metrics(found: Survey, sights: Sequence[_Sight]) -> str:
    """Say what could stand for the metrics that nothing logged stands for."""
    missing = {name: tags for sight in sights for name, tags in sight.missing.items() if not sight.whole}
    logged = sorted({tag for run in found.runs for tag in run.tags})
    lines = [
        _suggestion(name, tags, logged) for name, tags in sorted(missing.items()) if re.fullmatch(NAME, name)
    ]
    if not lines:
        return ""
    head = "\n[metrics]                  # what the packs' names are in your runs: uncomment, and correct"
    return "\n".join((head, *lines))


def _suggestion(name: str, candidates: Sequence[str], logged: Sequence[str]) -> str:
    found = nearest_tag(name, candidates, logged)
    near = [found] if found else []
    why = "   # the nearest that is logged: is it that?" if near else "   # nothing like it is logged"
    return f"# {name} = {json.dumps(near or ['your/tag'])}{why}"


_TAIL = """
# ── who is told

# [notify.slack]           # used when the variable named by token_env is set
# channel = "#training"
# token_env = "SLACK_BOT_TOKEN"
# at_least = "warning"

# ── rules of your own

# [[rule]]
# name = "loss_is_high"
# expr = 'median(m["train/loss"], points=20) > 5'
# for = "10 points"
# severity = "warning"
# summary = "the loss has been above 5 since step {onset}"
"""


def _comment(text: str, indent: int = 0) -> list[str]:
    return [f"# {' ' * indent}{line}" for line in wrap(text, WIDTH - indent)]


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(_shown(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _shown(text: str) -> str:
    """Keep a name that comes from disk on its line: a comment must not end early."""
    if text == ".":
        return "the folder itself"
    return "".join(c if c.isprintable() else "?" for c in text)
