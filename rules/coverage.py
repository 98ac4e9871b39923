"""What a rule can see of a run, by the tags that the run logs: could it ever fire, and what is it missing?

A rule whose metric is not there is not wrong and not quiet: its answer is UNKNOWN for ever, which nobody
notices. Here that is found out without a single point, by following a rule's tree with everything that is
logged taken as "could be anything".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, TypeAlias

from rules.compile import Alias, Candidate, CompiledRule
from rules.evaluate import Program
from rules.names import Names
from rules.tree import (
    Call,
    Choice,
    Compare,
    Logic,
    Metric,
    Missing,
    Node,
    Not,
    Tag,
    Truth,
    children,
    kind,
    walk,
)

Sight: TypeAlias = Literal["whole", "part", "blind", "inapplicable"]

_NOTHING: frozenset[bool] = frozenset()
_EITHER = frozenset((True, False))


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one rule can see of a run.

    Attributes:
        rule: its full name.
        sight: "whole": everything it names is logged. "part": it can fire, but some arm of it cannot.
            "blind": it can never fire. "inapplicable": it is for other runs, its `when` can never be True.
        missing: what it names and the run does not log, with the tags that would do.
        instances: of an `each` rule, how many tags fit its pattern; 1 for another rule.
    """

    rule: str
    sight: Sight
    missing: Mapping[str, tuple[str, ...]]
    instances: int


def coverage(program: Program, tags: Collection[str]) -> list[Coverage]:
    """Say of each rule what it can see of a run that logs these tags, in the order of the rules."""
    names = Names(program.metrics, tags)
    return [_cover(rule, names, program.metrics, tags) for rule in program.rules]


def _cover(rule: CompiledRule, names: Names, metrics: Mapping[str, Alias], tags: Collection[str]) -> Coverage:
    if rule.pattern is None:
        trees = [names.tree(rule.expr)]
    else:
        fitting = ((tag, rule.pattern.match(tag)) for tag in tags)
        trees = [names.tree(rule.expr, tag, captures) for tag, captures in fitting if captures is not None]
    missing = {name: candidates(name, metrics) for name in _unresolved(rule.expr, names, metrics, tags)}
    if rule.pattern is not None and not trees:
        missing[rule.pattern.text] = (rule.pattern.text,)
    fires = any(True in answers(tree) for tree in trees)
    sight: Sight = "blind" if not fires else "part" if missing else "whole"
    if rule.when is not None and rule.pattern is None and True not in answers(names.tree(rule.when)):
        sight = "inapplicable"
        missing |= {name: candidates(name, metrics) for name in _unresolved(rule.when, names, metrics, tags)}
    return Coverage(rule.spec.name, sight, missing, len(trees))


def _unresolved(
    node: Node, names: Names, metrics: Mapping[str, Alias], tags: Collection[str]
) -> Iterator[str]:
    """Yield what a tree names and the run does not log: of a metric that is made of others, the others."""
    for part in walk(node):
        match part:
            case Tag(name) if name not in tags and "{" not in name:
                yield name
            case Metric(name) if names.metric(name) is None:
                trees = [candidate.tree for candidate in metrics[name].candidates]
                if all(tree is not None for tree in trees):
                    for tree in trees:
                        assert tree is not None
                        yield from _unresolved(tree, names, metrics, tags)
                else:
                    yield name


def candidates(name: str, metrics: Mapping[str, Alias]) -> tuple[str, ...]:
    """Return the tags that would give a metric a meaning; those an expression needs together joined by
    " + ". An exact tag stands for itself.
    """
    if name not in metrics:
        return (name,)
    found = (_spelt(candidate, metrics) for candidate in metrics[name].candidates)
    return tuple(dict.fromkeys(text for text in found if text))


def nearest_tag(name: str, candidates: Sequence[str], logged: Iterable[str]) -> str | None:
    """Return the logged tag whose last part is spelt most like a metric's name or a tag that it may be."""
    plain = {_plain(tag): tag for tag in logged if tag not in candidates}
    for text in (name, *candidates):
        match = get_close_matches(_plain(text), plain, n=1, cutoff=0.75)
        if match:
            return plain[match[0]]
    return None


def _plain(tag: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", tag.lower().rpartition("/")[2]).strip()


def _spelt(candidate: Candidate, metrics: Mapping[str, Alias]) -> str:
    if candidate.tree is None:
        return candidate.text
    needs: list[str] = []
    for part in walk(candidate.tree):
        match part:
            case Tag(name):
                needs.append(name)
            case Metric(name):
                needs += candidates(name, metrics)[:1]
    return " + ".join(dict.fromkeys(needs))


def answers(node: Node) -> frozenset[bool]:
    """Return what a condition could ever answer besides UNKNOWN, once its names are replaced by tags.

    Args:
        node: a condition from `Names.tree`, in which what is not logged is Missing.
    """
    match node:
        case Truth(value):
            return frozenset((value,))
        case Not(operand):
            return frozenset(not answer for answer in answers(operand))
        case Logic(op, operands):
            return _logic(decides=op == "or", operands=[answers(operand) for operand in operands])
        case Choice(condition, then, otherwise):
            chosen = answers(condition)
            return (answers(then) if True in chosen else _NOTHING) | (
                answers(otherwise) if False in chosen else _NOTHING
            )
        case Call("known", (operand,)):
            return _EITHER if could_be_known(operand) else frozenset((False,))
        case Call("absent"):
            return _EITHER
        case Compare() | Call():
            return _EITHER if all(could_be_known(part) for part in children(node)) else _NOTHING
        case _:
            return _NOTHING


def _logic(*, decides: bool, operands: Iterable[frozenset[bool]]) -> frozenset[bool]:
    """Join the operands of `or` (which True decides) or of `and` (which False decides)."""
    parts = list(operands)
    found = set()
    if any(decides in part for part in parts):
        found.add(decides)
    if all((not decides) in part for part in parts):
        found.add(not decides)
    return frozenset(found)


def could_be_known(node: Node) -> bool:
    """Whether a number or condition could ever be anything but UNKNOWN."""
    match node:
        case Missing():
            return False
        case Call("known" | "absent"):
            return True
        case Call("coalesce", arguments):
            return any(could_be_known(argument) for argument in arguments)
        case Choice(condition, then, otherwise) if kind(node) == "num":
            chosen = answers(condition)
            return (True in chosen and could_be_known(then)) or (
                False in chosen and could_be_known(otherwise)
            )
        case Logic() | Choice() | Not():
            return bool(answers(node))
        case _:
            return all(could_be_known(part) for part in children(node))
