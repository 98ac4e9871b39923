"""What the parts of a rule set say of each other: every name that is named exists, and every span has a unit
that means something.

A ladder that names a remedy nobody wrote, or a margin in seconds that nothing measures, would show when a run
is dying. So it is a problem when the files are read.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from rules.source import Problem, nearest

if TYPE_CHECKING:
    from rules.merge import RuleSet
    from rules.schema import InhibitSpec, LadderSpec, RuleSpec, RungSpec, Span, TrySpec

_RELATIVE = re.compile(r"x\d+(\.\d*)?([eE][+-]?\d+)?|x\.\d+")
_PARAM = re.compile(r"\bp\.([a-z][a-z0-9_]*)")
_BRACES = re.compile(r"\{([a-z][a-z0-9_]*)")


def check(rules: RuleSet, known: Collection[str]) -> Iterator[Problem]:
    """Yield every problem between the parts of a rule set.

    Args:
        rules: merged, with the places of its parts.
        known: names of all rules, those that are switched off too.
    """
    for rule in rules.rules:
        yield from _check_rule(rules, rule, known)
    for name, ladder in rules.ladders.items():
        yield from _check_ladder(rules, name, ladder)
    for name, remedy in rules.remedies.items():
        for index, attempt in enumerate(remedy.tries):
            yield from _check_try(rules, f"remedies.{name}", index, attempt)
    for index, inhibit in enumerate(rules.inhibit):
        yield from _check_inhibit(rules, index, inhibit, known)
    if rules.limits.min_progress_between.unit != "steps":
        yield _unit(rules, "limits", "min_progress_between", rules.limits.min_progress_between, "500 steps")
    yield from _check_params(rules)


def _check_rule(rules: RuleSet, rule: RuleSpec, known: Collection[str]) -> Iterator[Problem]:
    if rule.ladder is not None and rule.ladder not in rules.ladders:
        what = f"{rule.name}: no ladder {rule.ladder!r}"
        yield Problem(rules.where(rule.name, "ladder"), what, nearest(rule.ladder, rules.ladders))
    for other in rule.inhibits:
        if other not in known:
            what = f"{rule.name}: no rule {other!r} to inhibit"
            yield Problem(rules.where(rule.name, "inhibits"), what, nearest(other, known))
    for part, span in (("for", rule.for_), ("keep_firing_for", rule.keep_firing_for), ("grace", rule.grace)):
        if span is not None and span.unit == "checkpoints":
            yield _unit(rules, rule.name, part, span, "3 points", "500 steps", "2m")
    if rule.after_time is not None and rule.after_time.unit != "seconds":
        yield _unit(rules, rule.name, "after_time", rule.after_time, "90s", "10m", "2h")
    ladder = rules.ladders.get(rule.ladder or "notify")
    if ladder is not None and _rolls_back_at_once(rule, ladder):
        yield Problem(
            rules.where(rule.name, "ladder"),
            f"{rule.name}: a rollback after a single point; one bad point would discard training",
            'give its rung `after = "2 points"`, or the rule a longer `for`',
        )


def _check_ladder(rules: RuleSet, name: str, ladder: LadderSpec) -> Iterator[Problem]:
    owner = f"ladders.{name}"
    if ladder.within is not None and ladder.within.unit == "checkpoints":
        yield _unit(rules, owner, "within", ladder.within, "1500 steps", "50 points", "1h")
    for index, rung in enumerate(ladder.rungs):
        yield from _check_rung(rules, owner, f"rungs.{index}", rung)


def _check_rung(rules: RuleSet, owner: str, part: str, rung: RungSpec) -> Iterator[Problem]:
    if rung.after is not None and rung.after.unit == "checkpoints":
        yield _unit(rules, owner, f"{part}.after", rung.after, "2 points", "500 steps", "10m")
    yield from _check_question(rules, owner, part, rung)
    if "rollback" not in rung.do:
        for key in ("remedy", "margin", "cooldown"):
            if getattr(rung, key) is not None:
                what = f"{owner}: `{key}` belongs to a rollback, and this rung does none"
                yield Problem(rules.where(owner, f"{part}.{key}"), what, "take it away, or roll back")
        return
    if rung.margin is not None and rung.margin.unit not in ("steps", "checkpoints"):
        yield _unit(rules, owner, f"{part}.margin", rung.margin, "300 steps", "1 checkpoint")
    if rung.cooldown is not None and rung.cooldown.unit != "steps":
        yield _unit(rules, owner, f"{part}.cooldown", rung.cooldown, "1000 steps")
    if rung.remedy is None and rules.limits.require_remedy:
        yield Problem(
            rules.where(owner, part),
            f"{owner}: a rollback without a remedy repeats the failure",
            "name a `remedy`, or set [limits] require_remedy = false",
        )
    if rung.remedy is not None and rung.remedy not in rules.remedies:
        what = f"{owner}: no remedy {rung.remedy!r}"
        yield Problem(rules.where(owner, f"{part}.remedy"), what, nearest(rung.remedy, rules.remedies))


def _check_question(rules: RuleSet, owner: str, part: str, rung: RungSpec) -> Iterator[Problem]:
    """Check what a rung says of asking people first."""
    if not rung.approve:
        for key in ("deadline", "default"):
            if getattr(rung, key) is not None:
                what = f"{owner}: `{key}` belongs to a question, and this rung asks nobody"
                yield Problem(
                    rules.where(owner, f"{part}.{key}"), what, "take it away, or add approve = true"
                )
        return
    if set(rung.do) == {"notify"}:
        what = f"{owner}: `approve` is for what is done to a run, and this rung only tells"
        yield Problem(rules.where(owner, f"{part}.approve"), what, "take it away")
    if rung.deadline is not None and (rung.deadline.unit != "seconds" or not rung.deadline.amount):
        yield _unit(rules, owner, f"{part}.deadline", rung.deadline, "15m", "2h")


def _check_try(rules: RuleSet, owner: str, index: int, attempt: TrySpec) -> Iterator[Problem]:
    for name, value in attempt.set.items():
        where = rules.where(owner, f"tries.{index}.set.{name}")
        if isinstance(value, float) and not math.isfinite(value):
            yield Problem(where, f"{owner}: {name} = {value} is no number to set")
        elif isinstance(value, str) and re.match(r"x[\d.]", value) and not _RELATIVE.fullmatch(value):
            what = f"{owner}: {name} = {value!r} is no factor"
            yield Problem(where, what, 'a factor is "x" and a number: "x0.3"')


def _check_inhibit(
    rules: RuleSet, index: int, inhibit: InhibitSpec, known: Collection[str]
) -> Iterator[Problem]:
    owner = f"inhibit.{index}"
    if "rule" not in inhibit.when:
        yield Problem(rules.where(owner), "inhibit: `when` must name a rule", 'when = { rule = "pack/rule" }')
    if not inhibit.mute:
        yield Problem(rules.where(owner), "inhibit: it mutes nothing", 'mute = { severity = ["info"] }')
    named = [("when.rule", name) for name in inhibit.when.values()]
    named += [("mute.rule", name) for name in inhibit.mute.get("rule", ())]
    for part, name in named:
        if name not in known:
            yield Problem(rules.where(owner, part), f"inhibit: no rule {name!r}", nearest(name, known))
    severities = ("info", "warning", "critical", "fatal")
    for severity in inhibit.mute.get("severity", ()):
        if severity not in severities:
            where = rules.where(owner, "mute.severity")
            yield Problem(where, f"inhibit: no severity {severity!r}", nearest(severity, severities))


def _check_params(rules: RuleSet) -> Iterator[Problem]:
    """A parameter of the user's that no rule names, but nearly, is one that is misspelt."""
    used = {name for space, names in rules.params.items() if space for name in names}
    used |= {name for rule in rules.rules for name in _names(rule)}
    texts = [ladder.recovered_when or "" for ladder in rules.ladders.values()]
    texts += rules.applies.values()
    texts += [candidate for spec in rules.metrics.values() for candidate in spec.any]
    used |= {name for text in texts for name in _PARAM.findall(text)}
    given = used & {
        name for names in rules.params.values() for name in names
    }  # what is not, is told by itself
    for name in rules.params.get("", {}):
        if name not in used and difflib.get_close_matches(name, given, n=1):
            what = f"params.{name}: no rule names this parameter"
            yield Problem(rules.where("params", name), what, nearest(name, given))


def _names(rule: RuleSpec) -> Iterator[str]:
    for text in (rule.expr, rule.clear or "", rule.when or "", *rule.let.values()):
        yield from _PARAM.findall(text)
    for text in (rule.summary, rule.why, rule.try_):
        yield from _BRACES.findall(text)


def _rolls_back_at_once(rule: RuleSpec, ladder: LadderSpec) -> bool:
    waits = rule.for_.amount > 1 or (rule.for_.unit != "points" and rule.for_.amount > 0)
    return not waits and any("rollback" in rung.do and not _waits(rung) for rung in ladder.rungs)


def _waits(rung: RungSpec) -> bool:
    return rung.when is not None or (rung.after is not None and rung.after.amount > 0)


def _unit(rules: RuleSet, owner: str, part: str, span: Span, *examples: str) -> Problem:
    name = f"{owner}.{part}"
    hint = "write " + " or ".join(f'"{example}"' for example in examples)
    return Problem(rules.where(owner, part), f"{name}: {span.unit} mean nothing here", hint)
