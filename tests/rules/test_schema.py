"""Rule files become one set of rules, or every problem they have, each with its place and what to write
instead.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.merge import NOTIFY, RuleSet, build, merge
from rules.schema import RuleSpec, Span
from rules.source import Problem, RuleErrors, nearest, parse

PACK = """\
version = 1
[pack]
name = "td3"
[params]
q_limit = 50.0
[metrics]
actor_q = ["debug/actor_q_mean", "=-m['train/actor_loss']"]
[[rule]]
name = "actor_q_high"
expr = "actor_q > p.q_limit"
for = "2 points"
summary = "{actor_q:.1f}"
inhibits = ["other"]
[[rule]]
name = "other"
expr = "actor_q > 1"
ladder = "fix"
[ladders.fix]
rungs = [{ do = ["notify", "checkpoint"] }, { do = ["rollback"], after = "2 points", remedy = "calm" }]
[remedies.calm]
tries = [{ set = { lr = "x0.3" } }]
"""


def rules(own: str) -> RuleSet:
    return build([("td3", parse(PACK, "pack:td3")), ("", parse(own, "sentinel.toml"))])


def problems(own: str) -> tuple[Problem, ...]:
    with pytest.raises(RuleErrors) as caught:
        rules(own)
    return caught.value.problems


def rule(merged: RuleSet, name: str) -> RuleSpec:
    return next(rule for rule in merged.rules if rule.name == name)


# Merging


def test_a_pack_gives_its_rules_its_name() -> None:
    """`pack/rule`, also where a rule names another of its pack; the user's own rules have no prefix."""
    merged = rules('[[rule]]\nname = "mine"\nexpr = "actor_q > 2"\n')
    assert [r.name for r in merged.rules] == ["td3/actor_q_high", "td3/other", "mine"]
    assert rule(merged, "td3/actor_q_high").inhibits == ("td3/other",)


def test_a_users_parameter_replaces_that_of_a_pack() -> None:
    """And is the user's own besides."""
    merged = rules(
        "[params]\nq_limit = 80.0\nmine = 1.0\n" + '[[rule]]\nname = "r"\nexpr = "actor_q > p.mine"\n'
    )
    assert merged.params == {"td3": {"q_limit": 80.0}, "": {"q_limit": 80.0, "mine": 1.0}}


def test_an_override_changes_what_it_names_and_nothing_else() -> None:
    """The pack's summary and hold stay."""
    merged = rules('[override."td3/actor_q_high"]\nseverity = "critical"\nladder = "fix"\n')
    changed = rule(merged, "td3/actor_q_high")
    assert (changed.severity, changed.ladder) == ("critical", "fix")
    assert (changed.for_, changed.summary) == (Span(2, "points"), "{actor_q:.1f}")
    assert merged.where("td3/actor_q_high", "severity") == "sentinel.toml:2:1"
    assert merged.where("td3/actor_q_high", "expr") == "pack:td3:10:1"


def test_a_disabled_rule_is_left_out() -> None:
    """By [disable] or by `enabled = false`; other rules may go on naming it."""
    assert [r.name for r in rules('[disable]\nrules = ["td3/other"]\n').rules] == ["td3/actor_q_high"]
    assert [r.name for r in rules('[override."td3/other"]\nenabled = false\n').rules] == ["td3/actor_q_high"]


def test_a_rule_without_a_ladder_only_tells() -> None:
    """The ladder named `notify` is always there."""
    assert rules("").ladders["notify"] == NOTIFY
    assert rule(rules(""), "td3/actor_q_high").ladder is None


def test_a_metric_is_a_tag_a_list_or_a_table() -> None:
    """Three ways of writing the same."""
    merged = rules('[metrics]\na = "x"\nb = ["x"]\nc = { any = ["x"], unit = "ratio" }\n')
    assert [merged.metrics[n].any for n in "abc"] == [("x",)] * 3
    assert merged.metrics["c"].unit == "ratio"


# Problems

RULE = '[[rule]]\nname = "r"\nexpr = "actor_q > 2"\n'
LADDER = RULE + 'ladder = "l"\n[ladders.l]\n'

CASES = {
    "an unknown key": (
        RULE + 'severty = "info"\n',
        "4:1",
        "unknown key 'severty'",
        "did you mean 'severity'?",
    ),
    "an unknown table": ("[param]\na = 1\n", "1:1", "unknown key 'param'", "did you mean 'params'?"),
    "a missing key": ('[[rule]]\nname = "r"\n', "1:1", "expr: this key is required", ""),
    "a misspelt verb": (
        LADDER + 'rungs = [{ do = ["notify"] }, { do = ["rolback"] }]\n',
        "6:39",
        "unknown action 'rolback'; did you mean 'rollback'?",
        "",
    ),
    "a misspelt key in a rung": (
        LADDER + 'rungs = [\n  { do = ["notify"], aftr = "2 points" },\n]\n',
        "7:22",
        "unknown key 'aftr'",
        "did you mean 'after'?",
    ),
    "a misspelt severity": (RULE + 'severity = "critcal"\n', "4:1", "did you mean 'critical'?", ""),
    "a span that is none": (RULE + 'for = "2 pints"\n', "4:1", "'2 pints' is no span", ""),
    "a span without its unit": (RULE + "for = 2\n", "4:1", "2 is no span", ""),
    "a name that is none": (
        '[[rule]]\nname = "My Rule"\nexpr = "actor_q > 2"\n',
        "2:1",
        "'My Rule' is no name",
        "",
    ),
    "a rule defined twice": (RULE + RULE, "5:1", "rule 'r' is defined twice", ""),
    "an override of nothing": (
        '[override."td3/actor_q_hgh"]\nseverity = "info"\n',
        "1:1",
        "no rule 'td3/actor_q_hgh' to override",
        "did you mean 'td3/actor_q_high'?",
    ),
    "a misspelt key of an override": (
        '[override."td3/other"]\nsevrity = "info"\n',
        "2:1",
        "unknown key 'sevrity'",
        "did you mean 'severity'?",
    ),
    "an override of the name": ('[override."td3/other"]\nname = "x"\n', "2:1", "a rule keeps its name", ""),
    "a disabled rule that is not there": (
        '[disable]\nrules = ["td3/othr"]\n',
        "2:",
        "no rule 'td3/othr' to disable",
        "did you mean 'td3/other'?",
    ),
    "a ladder that is not there": (
        RULE + 'ladder = "fx"\n',
        "4:1",
        "r: no ladder 'fx'",
        "did you mean 'fix'?",
    ),
    "a rule to inhibit that is not there": (
        RULE + 'inhibits = ["td3/oter"]\n',
        "4:1",
        "no rule 'td3/oter'",
        "td3/other",
    ),
    "a remedy that is not there": (
        LADDER + 'rungs = [\n  { do = ["rollback"], after = "1 points", remedy = "clam" },\n]\n',
        "7:44",
        "no remedy 'clam'",
        "did you mean 'calm'?",
    ),
    "a rollback without a remedy": (
        LADDER + 'rungs = [{ do = ["rollback"], after = "1 points" }]\n',
        "6:10",
        "a rollback without a remedy repeats the failure",
        "require_remedy = false",
    ),
    "a remedy that nothing rolls back to": (
        LADDER + 'rungs = [{ do = ["notify"], remedy = "calm" }]\n',
        "6:29",
        "`remedy` belongs to a rollback",
        "",
    ),
    "a rollback at a single point": (
        LADDER + 'rungs = [{ do = ["rollback"], remedy = "calm" }]\n',
        "4:1",
        "one bad point would discard training",
        'after = "2 points"',
    ),
    "a margin in seconds": (
        LADDER + 'rungs = [{ do = ["rollback"], after = "1 points", remedy = "calm", margin = "2m" }]\n',
        "6:68",
        "seconds mean nothing here",
        '"300 steps"',
    ),
    "a cool-down in points": (
        LADDER
        + 'rungs = [{ do = ["rollback"], after = "1 points", remedy = "calm", cooldown = "2 points" }]\n',
        "6:68",
        "points mean nothing here",
        '"1000 steps"',
    ),
    "a hold in checkpoints": (
        RULE + 'for = "1 checkpoint"\n',
        "4:1",
        "checkpoints mean nothing here",
        '"2m"',
    ),
    "a recovery without its time": (
        LADDER + 'rungs = [{ do = ["notify"] }]\nrecovered_when = "actor_q < 1"\n',
        "5:1",
        "`recovered_when` and `within` belong together",
        "",
    ),
    "a ladder without rungs": (LADDER + "rungs = []\n", "6:1", "this must not be empty", ""),
    "a try that changes nothing": ("[remedies.m]\ntries = [{}]\n", "2:10", "a try must change something", ""),
    "a factor that is none": (
        '[remedies.m]\ntries = [{ set = { lr = "x0.3.1" } }]\n',
        "2:20",
        "lr = 'x0.3.1' is no factor",
        '"x0.3"',
    ),
    "a misspelt parameter": (
        "[params]\nq_limt = 80\n",
        "2:1",
        "no rule names this parameter",
        "did you mean 'q_limit'?",
    ),
    "a parameter that is no number": ("[params]\nq_limit = nan\n", "2:1", "finite", ""),
    "a parameter that is a text": ('[params]\nq_limit = "80"\n', "2:1", "this must be a number", ""),
    "a truth that is a text": (
        '[[rule]]\nname = "a"\nexpr = "actor_q > 1"\nenabled = "no"\n',
        "4:1",
        "this must be true or false",
        "",
    ),
    "a count that is a text": (
        '[[rule]]\nname = "a"\nexpr = "actor_q > 1"\nafter_points = "40"\n',
        "4:1",
        "this must be a whole number",
        "",
    ),
    "an inhibition by nobody": (
        '[[inhibit]]\nwhen = { rule = "td3/oher" }\nmute = { severity = ["info"] }\n',
        "2:10",
        "no rule 'td3/oher'",
        "did you mean 'td3/other'?",
    ),
    "an inhibition of no severity": (
        '[[inhibit]]\nwhen = { rule = "td3/other" }\nmute = { severity = ["infos"] }\n',
        "3:10",
        "no severity 'infos'",
        "did you mean 'info'?",
    ),
    "a progress in seconds": (
        '[limits]\nmin_progress_between = "5m"\n',
        "2:1",
        "seconds mean nothing here",
        '"500 steps"',
    ),
    "another version": ("version = 2\n", "1:1", "version", ""),
}


@pytest.mark.parametrize(("own", "where", "what", "hint"), CASES.values(), ids=CASES)
def test_a_problem_says_where_what_and_what_to_write(own: str, where: str, what: str, hint: str) -> None:
    """A watchdog that is configured, misspelt and silent is worse than none."""
    (problem,) = problems(own)
    assert problem.where.startswith(f"sentinel.toml:{where}")
    assert what in problem.what
    assert hint in problem.hint


def test_all_problems_of_all_files_come_at_once() -> None:
    """Whoever corrects one at a time starts the sentinel ten times."""
    pack = PACK.replace('ladder = "fix"', 'ladder = "fxi"').replace(
        'name = "other"', 'name = "other"\nfoo = 1', 1
    )
    own = '[[rule]]\nname = "r"\n[disable]\nrules = ["nobody"]\n[limits]\nmax_rolbacks = 3\n'
    with pytest.raises(RuleErrors) as caught:
        build([("td3", parse(pack, "pack:td3")), ("", parse(own, "sentinel.toml"))])
    places = [problem.where for problem in caught.value.problems]
    assert places == [
        "pack:td3:16:1",  # the unknown key
        "sentinel.toml:1:1",  # the rule without an expression
        "sentinel.toml:6:1",  # the misspelt limit
        "sentinel.toml:4:10",  # the rule to disable, which is in a file with other faults
        "pack:td3:18:1",  # the misspelt ladder, in the rule with the unknown key
    ]
    assert str(caught.value).count("error: ") == 5


def test_a_faulty_entry_is_told_once_and_not_by_those_who_name_it() -> None:
    """A ladder with a misspelt verb exists, and so does the rule that lacks its expression."""
    own = (
        '[ladders.l]\nrungs = [{ do = ["notfy"] }]\n'
        '[[rule]]\nname = "a"\nexpr = "actor_q > 1"\nladder = "l"\n'
        'inhibits = ["b"]\n[[rule]]\nname = "b"\n[[rule]]\nname = "c"\nexpr = "actor_q > 1"\nladder = "m"\n'
    )
    assert [problem.where for problem in problems(own)] == [
        "sentinel.toml:8:1",
        "sentinel.toml:2:18",
        "sentinel.toml:13:1",
    ]


def test_a_rollback_that_waits_is_allowed() -> None:
    """By its rung's `after` or by the rule's own `for`; without a remedy only where that is asked for."""
    own = '[ladders.l]\nrungs = [{ do = ["rollback"] }]\n[limits]\nrequire_remedy = false\n'
    assert rules(own + '[[rule]]\nname = "r"\nexpr = "actor_q > 2"\nladder = "l"\nfor = "2 points"\n')
    assert rules(own + '[[rule]]\nname = "r"\nexpr = "actor_q > 2"\nladder = "l"\nfor = "30s"\n')
    (problem,) = problems(
        own + '[[rule]]\nname = "r"\nexpr = "actor_q > 2"\nladder = "l"\nfor = "1 points"\n'
    )
    assert "one bad point" in problem.what


# Spans


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("2 points", Span(2, "points")),
        ("1 point", Span(1, "points")),
        ("500steps", Span(500, "steps")),
        ("1 checkpoint", Span(1, "checkpoints")),
        ("250ms", Span(0.25, "seconds")),
        ("90s", Span(90, "seconds")),
        ("1.5 h", Span(5400, "seconds")),
        ("2d", Span(172800, "seconds")),
    ],
)
def test_a_span_is_read_as_it_is_written(text: str, span: Span) -> None:
    """Points, steps, checkpoints, or a time."""
    assert Span.parse(text) == span


@pytest.mark.parametrize(
    "text", ["", "2", "points", "-1 points", "2 weeks", "1e3 steps", "2 points 3", None, 2, True]
)
def test_what_is_no_span_is_told_with_examples(text: object) -> None:
    """The unit is never guessed."""
    with pytest.raises(ValueError, match=re.escape('write a string like "3 points"')):
        Span.parse(text)


@given(
    st.floats(0, 1e6).map(lambda x: round(x, 3)),
    st.sampled_from(["points", "steps", "seconds", "checkpoints"]),
)
def test_a_span_that_is_shown_can_be_read_again(amount: float, unit: str) -> None:
    """Up to the digits that are shown."""
    shown = str(Span(float(f"{amount:g}"), unit))  # type: ignore[arg-type]  # one of the four
    if "e" not in shown.partition(" ")[0] and unit != "seconds":
        assert str(Span.parse(shown)) == shown


def test_the_nearest_word_or_all_of_them() -> None:
    """A near miss is named; where nothing is near, what is known is listed."""
    assert nearest("rolback", ["notify", "rollback"]) == "did you mean 'rollback'?"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    assert nearest("zzz", []) == "known: none"


def test_what_is_well_in_a_faulty_file_is_still_looked_at() -> None:
    """So that one misspelt key does not hide a misspelt expression: the parts that are well are kept."""
    own = '[[rule]]\nname = "r"\nexpr = "nobody > 1"\nfoo = 1\n[[rule]]\nname = "s"\nexpr = "actor_q > 2"\n'
    merged, found = merge([("td3", parse(PACK, "pack:td3")), ("", parse(own, "sentinel.toml"))])
    assert [problem.what for problem in found] == ["rule r: unknown key 'foo'"]
    assert [r.name for r in merged.rules] == ["td3/actor_q_high", "td3/other", "r", "s"]
    assert merged.rules[2].expr == "nobody > 1"
