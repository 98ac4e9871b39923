"""Generated runs: healthy and sick ones, from a line such as `cheetah(seed=3, n=2000)`.

The same text gives the same numbers, on every machine. A sick family knows where its fault began, exactly,
which no recorded run does; recorded runs are needed beside it, since a generator knows only the faults that
somebody thought of.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from rules.generators import damage, episodes, faults, learning, losses
from rules.generators.trace import Place, Point, Rewind, Setting, Trace
from rules.source import nearest

__all__ = [
    "FAMILIES",
    "MOST_POINTS",
    "Family",
    "Place",
    "Point",
    "Rewind",
    "Setting",
    "Trace",
    "generate",
    "trace",
]

MOST_POINTS = 100_000
"""Longest driving series that one line may ask for."""


class Named(Protocol):
    """A function that draws a run and has a name of its own."""

    __name__: str

    def __call__(self, rng: random.Random, setting: Setting, /) -> Trace: ...


Build: TypeAlias = Callable[[random.Random, Setting], Trace]


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of run.

    Attributes:
        name: as it is asked for. what: one sentence. build: draws one.
        area: what its series are: value, episodes, loss, reward, policy or log.
        healthy: whether it has no fault.
    """

    name: str
    what: str
    build: Build
    area: str
    healthy: bool


def _family(name: str, build: Build, area: str, what: str | None = None, *, healthy: bool = False) -> Family:
    sentence = (what or build.__doc__ or "").strip().partition("\n")[0]
    return Family(name, sentence, build, area, healthy)


def _families() -> Iterator[Family]:
    for name, shape in learning.SHAPES.items():
        yield _family(name, partial(learning.run, shape), "value", shape.__doc__, healthy=True)
    for name, kind in episodes.SHAPES.items():
        yield _family(name, partial(episodes.run, kind), "episodes", kind.__doc__, healthy=True)
    for name, noise in losses.NOISES.items():
        yield _family(name, partial(losses.loss, noise), "loss", noise.__doc__, healthy=True)
    for rho in (0.0, 0.5, 0.9):
        what = f"A reward that rises slowly, or not, with AR(1) noise of rho {rho:g}."
        yield _family(
            f"trend_{round(rho * 100):02d}", partial(losses.trend, rho), "reward", what, healthy=True
        )
    yield _family("ppo", losses.ppo, "policy", healthy=True)
    for name, anchors in (("incident_a", faults.INCIDENT_A), ("incident_b", faults.INCIDENT_B)):
        source = "report" if name == "incident_a" else "event file"
        what = f"The reference incident as its {source} has it, at any cadence and at three paces."
        yield _family(name, partial(faults.incident, anchors), "value", what)
    for area, builds in _SICK.items():
        for build in builds:
            yield _family(build.__name__, build, area)


_SICK: dict[str, tuple[Named, ...]] = {
    "value": (
        faults.actor_leads,
        faults.critic_follows,
        faults.critic_loss_diverges,
        faults.gradient_vanishes,
        faults.gradient_explodes,
    ),
    "episodes": (faults.episodes_collapse, faults.goal_collapse, faults.reward_collapse),
    "loss": (
        faults.loss_spike,
        faults.loss_spike_recovers,
        faults.loss_steps_up,
        faults.loss_ramps_up,
        faults.loss_diverges,
        faults.loss_oscillates,
        faults.plateau,
    ),
    "policy": (faults.entropy_collapses, faults.kl_ramps),
    "log": (
        damage.nan_once,
        damage.inf_once,
        damage.nan_forever,
        damage.frozen,
        damage.slowdown,
        damage.hang,
        damage.log_gap_then_lead,
        damage.rewind_then_lead,
        damage.silent_rewind_then_lead,
        damage.duplicates_then_lead,
        damage.episode_axis_lead,
        damage.renamed_then_lead,
    ),
}

FAMILIES: Mapping[str, Family] = {family.name: family for family in _families()}
"""Every kind of run by name, the healthy ones first."""


def generate(text: str) -> dict[str, list[Point]]:
    """Return (step, wall time, value) by tag for a line such as `cheetah(seed=3, n=2000)`.

    Arguments are seed=, n= (points of the driving series), cadence= (steps between them), and for faults
    severity= (1, 2 or 3) and at= (share of the run before the fault); all have defaults.

    Raises:
        ValueError: no such family or argument, or a value that it cannot have.
    """
    return trace(text).series


def trace(text: str) -> Trace:
    """Return the whole run for such a line: its series, its onset, its rewinds.

    Raises:
        ValueError: as `generate`.
    """
    family, setting = read(text)
    return draw(family, setting)


def draw(family: Family, setting: Setting) -> Trace:
    """Draw one run of a family; the same setting gives the same run."""
    return family.build(random.Random(f"{family.name}/{setting.seed}"), setting)


def read(text: str) -> tuple[Family, Setting]:
    """Read `name` or `name(argument=number, ...)`.

    Raises:
        ValueError: as `generate`.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(f"{text!r} is no generator; write cheetah(seed=3, n=2000)") from error
    call = node if isinstance(node, ast.Call) else None
    name = call.func if call else node
    if not isinstance(name, ast.Name) or (call and call.args):
        raise ValueError(f"{text!r} is no generator; write cheetah(seed=3, n=2000)")
    family = FAMILIES.get(name.id)
    if family is None:
        raise ValueError(f"no generator {name.id!r}{_hint(name.id, FAMILIES)}")
    given: dict[str, Any] = {}
    for keyword in call.keywords if call else ():
        key = keyword.arg or "**"
        if key not in Setting.__slots__:
            raise ValueError(f"{family.name}() has no argument {key!r}{_hint(key, Setting.__slots__)}")
        given[key] = _number(family.name, key, keyword.value)
    return family, _checked(family.name, Setting(**given))


def _number(family: str, key: str, node: ast.expr) -> float | int:
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if key == "at" else value
    if isinstance(value, float) and key == "at":
        return value
    raise ValueError(f"{family}({key}=...) must be a {'number' if key == 'at' else 'whole number'}")


def _checked(family: str, setting: Setting) -> Setting:
    if not 1 <= setting.n <= MOST_POINTS:
        raise ValueError(f"{family}(n={setting.n}) must be from 1 to {MOST_POINTS}")
    if not 1 <= setting.cadence <= 1_000_000:
        raise ValueError(f"{family}(cadence={setting.cadence}) must be from 1 to 1000000")
    if setting.severity not in (1, 2, 3):
        raise ValueError(f"{family}(severity={setting.severity}) must be 1, 2 or 3")
    if not 0 <= setting.at < 1:
        raise ValueError(f"{family}(at={setting.at:g}) must be at least 0 and below 1")
    return setting


def _hint(name: str, known: Collection[str]) -> str:
    return f"; {nearest(name, known)}"
