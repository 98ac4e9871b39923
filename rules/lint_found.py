"""What a lint is, and the place of a rule in a run that is looked for lints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from rules.axis_facts import RunFacts, SeriesFacts
from rules.schema import RuleSpec
from rules.tree import Node

Grade = Literal["warning", "info"]

Code = Literal[
    "empty",
    "failed",
    "unresolved",
    "each",
    "never",
    "window",
    "hold",
    "warm-up",
    "axis",
    "nan",
    "duplicate",
    "pack",
]

WHY: Mapping[Code, str] = {
    "empty": "an empty run and a healthy one look alike: nothing fires",
    "failed": "its evaluation ended in an error; after three it is asked no more",
    "unresolved": "a rule without its metric never fires, and its silence looks like health",
    "each": "the rule is made once for each tag that fits its pattern",
    "never": "a rule whose answer is always unknown never fires, and its silence looks like health",
    "window": "until a window holds what its function needs, the answer is unknown",
    "hold": "`for` counts on the axis of the rule's first series",
    "warm-up": "before the end of its warm-up a rule has no opinion",
    "axis": "steps are counted on the series' own axis, and this one counts something else than the run",
    "nan": "NaN is neither above nor below any limit: rules on this series are blind",
    "duplicate": "windows take each point as it comes: repeated points count twice, and trends are bent",
    "pack": "its rules are for another kind of training, or the run has other names for what they need",
}


@dataclass(frozen=True, slots=True)
class Lint:
    """One finding.

    Attributes:
        code: what kind it is. rules: the rules it is about, by full name; none where it is about a tag.
        metric: the metric, tag, pattern or pack it is about; "" where it is about rules alone.
        what, hint: what was found, and what to do about it.
        severity: "warning": something cannot work as it is written. "info": good to know.
    """

    code: Code
    rules: tuple[str, ...]
    metric: str
    what: str
    hint: str
    severity: Grade

    @property
    def why(self) -> str:
        """Say why it matters."""
        return WHY[self.code]


@dataclass(frozen=True, slots=True)
class Place:
    """One rule instance in one run.

    Attributes:
        key: of the instance. rule: as configured.
        trees: its conditions, with the run's tags in the place of names: expr, and clear if it has one.
        driver: the series on whose axis its steps are, "step_any" for the run.
        own: the facts about that; None while it has no point.
        facts: about all series.
        judged: whether it ever had a known answer.
    """

    key: str
    rule: RuleSpec
    trees: tuple[Node, ...]
    driver: str
    own: SeriesFacts | None
    facts: RunFacts
    judged: bool


def grade(rules: Iterable[str]) -> Grade:
    """Grade what a longer run would mend: a rule of your own was written for such runs, a pack's was not."""
    return "info" if all("/" in name for name in rules) else "warning"


def listed(names: Iterable[str], most: int = 3) -> str:
    """Name a few, and count the others."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
