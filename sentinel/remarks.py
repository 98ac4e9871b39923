"""What keeps rules from being judged, said once: no data, a failure, a name that nothing stands for.

A rule that cannot see is not wrong and not quiet; nobody notices it. It is looked for at moments that the
points' own wall times decide, so that it does not matter how the run was read.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rules.coverage import coverage, nearest_tag
from rules.evaluate import Program
from rules.watch import RunWatch

LONGEST = 600.0
"""Seconds of the points' time for which a rule may be without data before that is told."""

SPACING = 300.0
"""Seconds between two looks: asking every rule is dear."""

_LISTED = 12  # names in one message; the rest is counted, and `sentinel status` has all of them


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that people are told once.

    Attributes:
        name: what kind it is: nodata, failed or unresolved. severity: of the message.
        title, text, advice: the message.
    """

    name: str
    severity: str
    title: str
    text: str
    advice: str


class Remarks:
    """Looks now and then at which rules cannot be judged, and remembers what was told.

    Attributes:
        due: wall time of the next look; the first sample at or after it brings it about.
    """

    def __init__(self, program: Program, kept: Mapping[str, Any] | None = None) -> None:
        """Begin, or go on from what `kept` returned in an earlier process."""
        before = kept or {}
        self._program = program
        self._began: float | None = before.get("began")
        self._since: dict[str, float] = dict(before.get("since", {}))
        self._told: set[str] = set(before.get("told", ()))
        self._failed: dict[str, str] = dict(before.get("failed", {}))
        self.due: float = before.get("due", -math.inf)

    def kept(self) -> dict[str, Any]:
        """Return what a later process needs to go on, as JSON has it."""
        return {
            "began": self._began,
            "since": dict(self._since),
            "told": sorted(self._told),
            "failed": dict(self._failed),
            **({"due": self.due} if math.isfinite(self.due) else {}),
        }

    def failures(self, watch: RunWatch) -> list[Remark]:
        """Return a remark on the rules that have begun to fail; cheap where none has."""
        fresh = {f.key: f.what for f in watch.failures() if f.key not in self._failed}
        if not fresh:
            return []
        self._failed |= fresh
        text = "\n".join(f"{key}: {what}" for key, what in sorted(fresh.items()))
        return [Remark("failed", "warning", "a rule cannot be evaluated", text, _FAILED)]

    def look(self, watch: RunWatch, wall: float, *, tell: bool) -> list[Remark]:
        """Look at every rule as of a sample's wall time.

        Args:
            watch: the rules. wall: seconds since the epoch.
            tell: False while history is caught up with; what lasts is told later.
        """
        if not math.isfinite(wall):
            return []
        self.due = (math.floor(wall / SPACING) + 1) * SPACING
        if self._began is None:
            self._began = wall
        without = [key for key, mark in watch.marks().items() if mark == "nodata"]
        self._since = {key: self._since.get(key, wall) for key in without}
        self._told &= {*without, _UNRESOLVED}
        if not tell or wall - self._began < LONGEST:
            return []
        return [*self._unresolved(watch.tags), *self._blind(watch, wall)]

    def _blind(self, watch: RunWatch, wall: float) -> list[Remark]:
        """Tell of rules that have been without data for too long, though their metrics exist."""
        long = [key for key, since in self._since.items() if wall - since >= LONGEST]
        fresh = sorted(set(long) - self._told)
        if not fresh:
            return []
        self._told.update(fresh)
        blind = {sight.rule for sight in coverage(self._program, watch.tags) if sight.sight == "blind"}
        told = [key for key in fresh if watch.rule(key).name not in blind]  # the others lack a name
        if not told:
            return []
        text = f"for ten minutes and more they could not be judged: {_listed(told)}"
        return [Remark("nodata", "info", "rules without data", text, _NODATA)]

    def _unresolved(self, tags: Collection[str]) -> list[Remark]:
        """Tell once of the names for which the run logs nothing."""
        if _UNRESOLVED in self._told:
            return []
        self._told.add(_UNRESOLVED)
        lacking: dict[str, tuple[str, ...]] = {}
        blind = []
        for sight in coverage(self._program, tags):
            if sight.sight == "blind":
                blind.append(sight.rule)
                lacking |= sight.missing
        if not blind:
            return []
        names = [_with_nearest(name, wanted, tags) for name, wanted in sorted(lacking.items())]
        text = f"nothing is logged for {_listed(names)}. So these rules can never fire: {_listed(blind)}"
        return [Remark("unresolved", "info", "names without a tag", text, _LACKING)]


def _with_nearest(name: str, wanted: Sequence[str], tags: Collection[str]) -> str:
    """Name what is missing, and the logged tag that looks most like it, if one does."""
    near = nearest_tag(name, wanted, sorted(tags))
    return f"{name} (the nearest tag is {near})" if near else name


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


_UNRESOLVED = "names without a tag"
_FAILED = (
    "The other rules go on; after three failures it is asked no more. See the rule with: sentinel explain"
)
_NODATA = "See whether what they need is still logged: sentinel status lists them as nodata"
_LACKING = (
    "Give the tag in [metrics], log it, or disable the rules; a rule of another trainer's pack needs "
    "nothing. Each name with what it may be: sentinel lint RUN"
)
