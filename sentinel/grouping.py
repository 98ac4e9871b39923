"""When a channel is told, with what, and why: Alertmanager's groups, with criticals that do not wait. Pure.

A story that has opened waits for its group, and what is due at the same time is one message. Departures from
Alertmanager, and their reasons, are in docs/decisions/0007: the first grave alert goes at once, one rule in
many runs is one group, and what a story does once it has been told is told in its thread without waiting.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from notifier.message import SEVERITIES
from sentinel.judge import GRAVE


class Reason(enum.StrEnum):
    """Why a message is sent, or not; the first six in Alertmanager's words and order."""

    FIRST = "FirstNotification"
    NEW_ALERTS = "NewAlertsInGroup"
    ALL_RESOLVED = "AllAlertsResolved"
    NEW_RESOLVED = "NewResolvedAlerts"
    REPEAT = "RepeatIntervalElapsed"
    NOTHING = "DoNotNotify"
    UPDATE = "StoryUpdated"
    NOTICE = "Notice"
    DIGEST = "HeldBack"


@dataclass(frozen=True, slots=True)
class Group:
    """The alerts of a group as they are: names of those that fire, and of those that have resolved."""

    firing: frozenset[str]
    resolved: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Told:
    """What people were last told of a group, and when that arrived, in seconds since the epoch."""

    firing: frozenset[str]
    resolved: frozenset[str]
    at: float


def why_notify(group: Group, told: Told | None, now: float, repeat: float) -> Reason:
    """Say whether people have to be told how a group is, and why; as Alertmanager's `needsUpdate`.

    Args:
        group: as it is. told: what they know; None where they were never told.
        now: seconds since the epoch. repeat: seconds after which what goes on is told again.
    """
    if told is None:
        return Reason.FIRST if group.firing else Reason.NOTHING  # fired and resolved between: never told
    if not group.firing <= told.firing:
        return Reason.NEW_ALERTS
    if not group.firing:
        return Reason.ALL_RESOLVED if told.firing else Reason.NOTHING
    if not group.resolved <= told.resolved:
        return Reason.NEW_RESOLVED
    return Reason.REPEAT if now - told.at >= repeat else Reason.NOTHING


@dataclass(frozen=True, slots=True)
class Policy:
    """How a channel is told; times in seconds.

    Attributes:
        by: labels whose values make a group; `...` makes each story its own.
        wait: for how long the first of a group waits for others; 0: everything is told at once and alone.
        interval: between two messages of one group. repeat: until what goes on is told again; 0 for never.
        across: one rule that opens in so many runs is one message, whatever its groups.
        budget: how many messages of a severity in how many seconds.
    """

    by: tuple[str, ...] = ("run",)
    wait: float = 0.0
    interval: float = 300.0
    repeat: float = 0.0
    across: int = 3
    budget: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    def group(self, labels: Mapping[str, str], thread: str) -> str:
        """Name the group of a story. `labels`: its run, rule, severity and own. `thread`: its name."""
        if "..." in self.by:
            return thread
        return "\n".join(f"{name}={labels.get(name, '')}" for name in self.by)


AT_ONCE = Policy()
"""Each message alone, as soon as there is one."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A story that has opened and was not told yet.

    Attributes:
        thread: its name. group: its group's. run: what it is about.
        kind: its rule without the capture; of a notice its title.
        severity: of it. due: when it is to be told, in seconds since the epoch.
    """

    thread: str
    group: str
    run: str
    kind: str
    severity: str
    due: float


@dataclass(frozen=True, slots=True)
class Sent:
    """A story that was told at a time: what `due` has to know of the past."""

    group: str
    kind: str
    severity: str
    at: float


def due(story: Waiting, past: Iterable[Sent], policy: Policy, now: float) -> float:
    """Say when a story that opens now is to be told.

    A grave one goes at once, unless one of its group or of its rule went less than `wait` ago: then it is
    told with what else came by then. Any other waits for its group: `wait` seconds, or until `interval` has
    passed since the group was last told.
    """
    if story.severity in GRAVE:
        times = [
            each.at
            for each in past
            if each.severity in GRAVE and (each.group == story.group or each.kind == story.kind)
        ]
        last = max(times, default=None)
        return now if last is None or not 0.0 <= now - last < policy.wait else last + policy.wait
    times = [each.at for each in past if each.group == story.group]
    last = max(times, default=None)
    if last is None or not 0.0 <= now - last < policy.interval:
        return now + policy.wait
    return max(now, last + policy.interval)


def batches(waiting: Sequence[Waiting], policy: Policy, now: float) -> list[list[Waiting]]:
    """Put what is due now into messages, together with what waits in the same groups.

    Returns:
        One list a message, the gravest story first in it, the gravest message first.
    """
    ready = [story for story in waiting if story.due <= now]
    runs: dict[str, set[str]] = {}
    for story in waiting:
        runs.setdefault(story.kind, set()).add(story.run)
    wide = {kind for kind in {story.kind for story in ready} if len(runs[kind]) >= policy.across > 1}
    groups = {story.group for story in ready if story.kind not in wide}
    found: dict[tuple[str, str], list[Waiting]] = {}
    for story in waiting:
        if story.kind in wide:
            found.setdefault(("rule", story.kind), []).append(story)
        elif story.group in groups:
            found.setdefault(("group", story.group), []).append(story)
    made = [sorted(each, key=_gravest) for each in found.values()]
    return sorted(made, key=lambda each: _gravest(each[0]))


def _gravest(story: Waiting) -> int:
    return -SEVERITIES.index(story.severity)
