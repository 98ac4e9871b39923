"""Kinds of channels that other installed packages bring, by entry points of the group `sentinel.notifiers`.

    [project.entry-points."sentinel.notifiers"]
    teams = "our_teams:TeamsNotifier"

What it names is called with the keys of the channel's table (`[notify.NAME] kind = "teams"`), each by its
name, and returns a notifier. It is imported only where a file names its kind.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from notifier.base import DeliveryError, Notifier, Permanent

GROUP = "sentinel.notifiers"
"""The group of entry points."""


def kinds() -> dict[str, EntryPoint]:
    """Return the kinds that installed packages bring, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def misfit(kind: str, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say what keeps a kind from being made with these options: (what, hint); nothing is made."""
    factory = _factory(kind)
    if isinstance(factory, str):
        return [(factory, "")]
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return []  # a factory that does not say what it takes says it when it is called
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return []
    named = {n: p for n, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    found = []
    for key in options.keys() - named.keys():
        close = get_close_matches(key, named, 1)
        found.append(
            (f"unknown key {key!r} for kind {kind!r}", f"did you mean {close[0]!r}?" if close else "")
        )
    missing = [n for n, p in named.items() if p.default is p.empty and n not in options]
    return found + [(f"kind {kind!r} requires the key {name!r}", "") for name in missing]


def make(kind: str, options: Mapping[str, Any]) -> Notifier:
    """Make a notifier of an installed kind.

    Raises:
        Permanent: it cannot be made.
    """
    factory = _factory(kind)
    if isinstance(factory, str):
        raise Permanent(factory, channel_dead=True)
    try:
        return factory(**options)
    except DeliveryError as error:
        raise Permanent(error.reason, channel_dead=True) from None
    except Exception as error:  # noqa: BLE001  a stranger's code; one channel must not end the sentinel
        # Only its type, and for a ValueError its word to the user: other texts may hold a secret.
        words = f": {error}" if isinstance(error, ValueError) else ""
        reason = f"kind {kind!r} cannot be opened ({type(error).__name__}{words})"
    raise Permanent(reason, channel_dead=True)


def _factory(kind: str) -> Callable[..., Notifier] | str:
    """Return what makes a kind, or why there is nothing."""
    point = kinds().get(kind)
    if point is None:
        return f"no installed package brings the kind {kind!r}"
    try:
        return cast("Callable[..., Notifier]", point.load())
    except Exception as error:  # noqa: BLE001  as above
        return f"kind {kind!r} of {point.value} cannot be imported ({type(error).__name__}: {error})"
