"""What gates say of each other and of the rules: every name that is named exists, and every gate can be
reached.

A gate that needs itself would never be passed, and one that asks for nothing would always be: both are
problems when the files are read, not findings of a validation run that took a day.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, get_args

from rules.schema import GateSpec, Severity
from rules.source import Problem, nearest

if TYPE_CHECKING:
    from rules.merge import RuleSet

SEVERITIES: tuple[str, ...] = get_args(Severity)


def check_gates(rules: RuleSet, known: Collection[str]) -> Iterator[Problem]:
    """Yield every problem of the gates' own.

    Args:
        rules: merged, with the places of its parts.
        known: names of all rules, those that are switched off too.
    """
    for name, gate in rules.gates.items():
        owner = f"gates.{name}"
        if gate.at.unit not in ("steps", "seconds") or gate.at.amount <= 0:
            what = f"gate {name}.at: {str(gate.at)!r} is no place at which a run can be judged"
            yield Problem(rules.where(owner, "at"), what, 'write "5000 steps" or "2h"')
        if not gate.require and not gate.forbid:
            what = f"gate {name} asks for nothing: every run would pass it"
            yield Problem(rules.where(owner), what, 'add require = ["…"], or forbid = ["critical", "fatal"]')
        yield from _forbidden(rules, gate, known)
        yield from _needs(rules, gate)
    yield from _cycles(rules)


def _forbidden(rules: RuleSet, gate: GateSpec, known: Collection[str]) -> Iterator[Problem]:
    for index, word in enumerate(gate.forbid):
        if word not in SEVERITIES and word not in known:
            where = rules.where(f"gates.{gate.name}", f"forbid.{index}")
            what = f"gate {gate.name}.forbid: {word!r} is neither a severity nor a rule"
            yield Problem(where, what, nearest(word, [*SEVERITIES, *known]))


def _needs(rules: RuleSet, gate: GateSpec) -> Iterator[Problem]:
    for index, other in enumerate(gate.needs):
        where = rules.where(f"gates.{gate.name}", f"needs.{index}")
        needed = rules.gates.get(other)
        if needed is None:
            what = f"gate {gate.name}.needs: no gate {other!r}"
            yield Problem(where, what, nearest(other, [name for name in rules.gates if name != gate.name]))
        elif needed.at.unit == gate.at.unit and needed.at.amount > gate.at.amount:
            what = f"gate {gate.name}.needs: {other!r} is judged later, at {needed.at}"
            yield Problem(where, what, f"a gate may need those judged up to its own {gate.at}")


def _cycles(rules: RuleSet) -> Iterator[Problem]:
    """Every cycle, told once, at the gate of it that comes first."""
    told: set[frozenset[str]] = set()
    for name in rules.gates:
        cycle = _cycle_through(name, rules.gates)
        if cycle and frozenset(cycle) not in told:
            told.add(frozenset(cycle))
            what = f"gate {name} needs itself: {' -> '.join([*cycle, name])}"
            yield Problem(rules.where(f"gates.{name}", "needs"), what, "it could never be passed")


def _cycle_through(name: str, gates: Mapping[str, GateSpec]) -> list[str]:
    """Return a shortest path of needs from a gate to itself, without its end; empty where there is none."""
    paths = [[name]]
    seen: set[str] = set()
    while paths:
        path = paths.pop(0)
        for other in gates[path[-1]].needs:
            if other == name:
                return path
            if other in gates and other not in seen:
                seen.add(other)
                paths.append([*path, other])
    return []


def with_needs(gates: Mapping[str, GateSpec], names: Collection[str]) -> list[str]:
    """Return the named gates after all that they need, each once: the order in which to judge them."""
    ordered: dict[str, None] = {}

    def add(name: str) -> None:
        if name not in ordered:
            for other in gates[name].needs:
                add(other)
            ordered[name] = None

    for name in names:
        add(name)
    return list(ordered)
