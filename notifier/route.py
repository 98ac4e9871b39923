"""Which channels get which message. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from notifier.message import SEVERITIES, Message


@dataclass(frozen=True, slots=True)
class Route:
    """What one channel wants to hear. All conditions must hold.

    Attributes:
        channel: name of the channel.
        at_least: the mildest severity that is told here.
        rules: globs over the rule's name, `td3/*`; a rule made by `each` is also known without its capture.
            A message without a rule passes whatever they say.
        runs: globs over the run's name; `*` crosses folders. A message without a run passes.
        match: globs over the values of labels, by name; a message that lacks one of them does not pass,
            unless it has neither rule nor run.
    """

    channel: str
    at_least: str = "info"
    rules: tuple[str, ...] = ("*",)
    runs: tuple[str, ...] = ("*",)
    match: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.at_least not in SEVERITIES:
            known = ", ".join(SEVERITIES)
            raise ValueError(f"route to {self.channel!r}: at_least is {self.at_least!r}, not one of {known}")


def channels_for(message: Message, routes: Iterable[Route]) -> tuple[str, ...]:
    """Return the channels that are told a message, each once, in the order of the routes."""
    return tuple(dict.fromkeys(route.channel for route in routes if not why_not(route, message)))


def why_not(route: Route, message: Message) -> str:
    """Say which condition keeps a message from a channel; empty where it is told there."""
    if SEVERITIES.index(message.severity) < SEVERITIES.index(route.at_least):
        return f"it is {message.severity}, and told is what is {route.at_least} at least"
    names = {message.rule, message.rule.partition("[")[0]}
    if message.rule and not any(fnmatchcase(name, glob) for name in names for glob in route.rules):
        return f"its rule fits none of {', '.join(route.rules) or 'no glob at all'}"
    if message.run and not any(fnmatchcase(message.run, glob) for glob in route.runs):
        return f"its run fits none of {', '.join(route.runs) or 'no glob at all'}"
    if not message.run and not message.rule:
        return ""
    for name, glob in route.match.items():
        value = message.labels.get(name)
        if value is None:
            return f"it has no label {name}"
        if not fnmatchcase(value, glob):
            return f"its label {name} is {value}, not {glob}"
    return ""
