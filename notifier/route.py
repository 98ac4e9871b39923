"""Which channels get which message. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
    """

    channel: str
    at_least: str = "info"
    rules: tuple[str, ...] = ("*",)
    runs: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        if self.at_least not in SEVERITIES:
            known = ", ".join(SEVERITIES)
            raise ValueError(f"route to {self.channel!r}: at_least is {self.at_least!r}, not one of {known}")


def channels_for(message: Message, routes: Iterable[Route]) -> tuple[str, ...]:
    """Return the channels that are told a message, each once, in the order of the routes."""
    return tuple(dict.fromkeys(route.channel for route in routes if _takes(route, message)))


def _takes(route: Route, message: Message) -> bool:
    grave_enough = SEVERITIES.index(message.severity) >= SEVERITIES.index(route.at_least)
    names = {message.rule, message.rule.partition("[")[0]}
    rule = not message.rule or any(fnmatchcase(name, glob) for name in names for glob in route.rules)
    run = not message.run or any(fnmatchcase(message.run, glob) for glob in route.runs)
    return grave_enough and rule and run
