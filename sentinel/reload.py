"""SIGHUP: other rules into force without an end; where the file is wrong, the old ones, and that is told."""

from __future__ import annotations

from collections.abc import Callable

from rules.source import RuleErrors
from sentinel.errors import ConfigError
from sentinel.story import notice
from sentinel.watcher import Plan, Watcher

_MOST_TOLD = 20


def read_again(watcher: Watcher, read: Callable[[], Plan], now: float) -> bool:
    """Read the configuration anew, and put it into force if it is whole; returns whether it was.

    Args:
        watcher: what is to go on by it.
        read: gives what the file now says, or raises all that is wrong with it.
        now: wall time, for people.
    """
    try:
        plan = read()
    except (RuleErrors, ConfigError) as error:
        wrong = [p.render() for p in error.problems] if isinstance(error, RuleErrors) else [str(error)]
        more = [f"and {len(wrong) - _MOST_TOLD} more"] if len(wrong) > _MOST_TOLD else []
        watcher.tell(
            notice(
                "",
                "reload",
                "critical",
                "the new configuration is wrong; the old rules stay in force",
                "\n".join([*wrong[:_MOST_TOLD], *more]),
                now,
                "Put it right (sentinel check shows the same problems), then send SIGHUP again.",
            )
        )
        return False
    before = watcher.plan
    watcher.reload(plan)
    watcher.tell(notice("", "reload", "info", "other rules are in force", _difference(before, plan), now))
    return True


def _difference(before: Plan, after: Plan) -> str:
    """Say what the new plan has and the old one had not, and what needs a restart all the same."""
    old = {rule.name: rule for rule in before.settings.rules.rules if rule.enabled}
    new = {rule.name: rule for rule in after.settings.rules.rules if rule.enabled}
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    parts = [f"{len(new)} rules, mode {'act' if after.act else 'observe'}"]
    for word, names in (("new", new.keys() - old.keys()), ("gone", old.keys() - new.keys())):
        if names:
            parts.append(f"{word}: {', '.join(sorted(names))}")
    if changed:
        parts.append(f"changed: {', '.join(changed)}")
    was, now = before.settings, after.settings
    if (was.logdir, was.state_folder) != (now.logdir, now.state_folder):
        parts.append("[run] logdir and [state] folder change with the next start only")
    return "; ".join(parts)
