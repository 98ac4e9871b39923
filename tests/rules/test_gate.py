"""A gate passes only what was shown, fails what was refuted, and says of the rest what is missing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.fits import T_CRITICAL, trend, trend_t
from rules.gate import GateWatch, Outcome, compile_gates, worst
from tests.rules.gates import RULE, judged, problems, rules, run, together

GATE = '[[gate]]\nname = "short"\nat = "1000 steps"\n'


def only(found: dict[str, Outcome]) -> Outcome:
    (outcome,) = found.values()
    return outcome


# -- verdicts --


def test_a_run_passes_that_has_shown_everything() -> None:
    """Every requirement True at the step of the gate, and nothing forbidden before it."""
    outcome = only(
        judged(
            RULE + GATE + 'require = ["highest(q, steps=1000) < 50", "not rising(q, steps=1000)"]',
            run([1, 2] * 12, every=50),
        )
    )
    assert (outcome.verdict, outcome.certain, outcome.reached, outcome.at.run_step) == (
        "pass",
        True,
        True,
        1000,
    )
    assert outcome.reason == "all 2 requirements hold at step 1000, and nothing forbidden has fired"
    first, second = outcome.findings
    assert (first.value, first.limit, first.points) == (2, 50, 20)
    assert second.t is not None
    assert "t = " in second.reason


def test_a_false_requirement_fails_it_with_value_and_limit() -> None:
    """Whoever reads the verdict must not have to look the number up."""
    outcome = only(judged(GATE + 'require = ["mean(q, steps=500) < 5"]', run([1] * 6 + [9] * 8)))
    assert outcome.verdict == "fail"
    assert (outcome.findings[0].value, outcome.findings[0].limit) == (9, 5)
    assert outcome.reason == "1 of 1 requirements is False: mean(q, steps=500) < 5 (9 against 5, 5 points)"


def test_what_comes_after_the_gate_is_no_part_of_it() -> None:
    """The first thousand steps were well, whatever became of the run."""
    outcome = only(
        judged(RULE + GATE + 'require = ["highest(q, steps=1000) < 50"]', run([1] * 11 + [900] * 5))
    )
    assert outcome.verdict == "pass"
    assert outcome.forbidden == ()


def test_the_points_of_the_very_step_count() -> None:
    """A gate at step 1000 sees what was logged at step 1000."""
    outcome = only(judged(GATE + 'require = ["q < 50"]', run([1] * 10 + [900] + [1] * 5)))
    assert outcome.verdict == "fail"


def test_a_forbidden_rule_fails_it_at_once() -> None:
    """The run is at step 400 of 1000 and can never pass."""
    outcome = only(judged(RULE + GATE + 'require = ["lowest(q, steps=1000) > 0"]', run([1, 1, 1, 77, 1])))
    assert (outcome.verdict, outcome.certain, outcome.reached) == ("fail", True, False)
    assert outcome.reason == "high (critical) fired at step 300: 77 against 50"
    assert [(fired.key, fired.at.run_step, fired.value) for fired in outcome.forbidden] == [("high", 300, 77)]


def test_a_rule_may_be_forbidden_by_name() -> None:
    """A warning that this gate cannot have."""
    text = RULE.replace("critical", "warning") + GATE
    assert only(judged(text + 'require = ["q > 0"]', run([1, 77] * 8))).verdict == "pass"
    assert only(judged(text + 'forbid = ["high"]', run([1, 77] * 8))).verdict == "fail"


def test_an_early_failure_stands() -> None:
    """Q was above its ceiling once; that it came down again does not undo it."""
    text = GATE + 'require = [{ expr = "q < 50", early_fail = true, why = "the ceiling" }]'
    outcome = only(judged(text, run([1, 1, 60, 1, 1])))
    assert (outcome.verdict, outcome.certain, outcome.reached) == ("fail", True, False)
    assert (outcome.findings[0].value, outcome.findings[0].step) == (60, 200)
    assert "60 against 50 at step 200, and once is enough" in outcome.reason
    assert only(judged(text, run([1, 1, 60] + [1] * 10))).verdict == "fail"


def test_without_early_fail_only_the_end_counts() -> None:
    """A requirement is about the run at the gate's step."""
    outcome = only(judged(GATE + 'require = ["q < 50"]', run([1, 1, 60] + [1] * 10)))
    assert outcome.verdict == "pass"


def test_a_run_that_is_not_there_yet_is_inconclusive() -> None:
    """Half a run shows nothing of the other half, however well it looks."""
    outcome = only(judged(GATE + 'require = ["q < 50"]', run([1] * 5)))
    assert (outcome.verdict, outcome.certain, outcome.reached) == ("inconclusive", False, False)
    assert outcome.findings[0].answer is True
    assert outcome.reason.startswith(
        "the run is at step 400 and is judged at 1000 steps; its files end there"
    )


@pytest.mark.parametrize(
    ("ending", "verdict", "said"),
    [
        ("running", "inconclusive", "the run goes on"),
        ("finished", "inconclusive", "the run finished there"),
        ("terminated", "inconclusive", "the run was told to end there"),
        ("died", "fail", "the trainer died at step 400, before 1000 steps"),
    ],
)
def test_what_is_known_of_the_end_counts(ending: str, verdict: str, said: str) -> None:
    """A crash before the gate is a failure; an end that nobody can explain is not."""
    outcome = only(judged(GATE + 'require = ["q < 50"]', run([1] * 5), ending=ending))  # type: ignore[arg-type]
    assert outcome.verdict == verdict
    assert said in outcome.reason


def test_a_crash_after_the_gate_is_no_failure_of_it() -> None:
    """It had been passed by then."""
    assert only(judged(GATE + 'require = ["q < 50"]', run([1] * 20), ending="died")).verdict == "pass"


def test_a_run_that_ends_at_the_very_step_is_judged() -> None:
    """`--max_timesteps 1000` logs nothing beyond step 1000."""
    assert only(judged(GATE + 'require = ["q < 50"]', run([1] * 11))).verdict == "pass"


def test_the_trainers_word_for_its_last_step_counts() -> None:
    """It logs every 300 steps and finished at step 1000."""
    samples = run([1] * 4, every=300)
    assert only(judged(GATE + 'require = ["q < 50"]', samples)).verdict == "inconclusive"
    assert only(judged(GATE + 'require = ["q < 50"]', samples, ended_step=1000)).verdict == "pass"


def test_unknown_is_not_passed_and_says_what_is_missing() -> None:
    """A metric that nobody logs; a trend with too few points."""
    text = GATE + 'require = ["mean(lazy, steps=500) < 1", "rising(q, steps=1000)", "q > 0"]'
    outcome = only(judged(text, run([1, 2, 3, 4, 5, 6], every=250)))
    assert (outcome.verdict, outcome.certain) == ("inconclusive", True)
    lazy, rising, q = outcome.findings
    assert (lazy.answer, rising.answer, q.answer) == (None, None, True)
    assert "lazy: not logged: the run has none of lazy" in lazy.reason
    assert "fewer than 12 points" in rising.reason
    assert rising.points == 4
    assert outcome.reason.startswith("2 of 3 requirements are not shown: ")


def test_nan_is_unknown_and_not_passed() -> None:
    """A comparison with NaN has no answer."""
    assert only(judged(GATE + 'require = ["q < 50"]', run([math.nan] * 12))).verdict == "inconclusive"


def test_false_beats_unknown() -> None:
    """What was refuted is refuted, however little is known of the rest."""
    outcome = only(judged(GATE + 'require = ["lazy > 0", "q > 50"]', run([1] * 12)))
    assert outcome.verdict == "fail"


def test_what_could_not_be_shown_need_not_be_a_failure() -> None:
    """A trend that a short run is too short to show is left open where the gate says so."""
    text = GATE + 'require = [{ expr = "rising(q, steps=2000, cover=0)", on_false = "inconclusive" }]'
    samples = run([1, 2] * 11, every=50)
    outcome = only(judged(text, samples))
    assert (outcome.verdict, outcome.certain) == ("inconclusive", True)
    assert outcome.findings[0].answer is False
    assert only(judged(text.replace(', on_false = "inconclusive"', ""), samples)).verdict == "fail"


def test_a_gate_may_be_set_in_time() -> None:
    """Two minutes after the run's first point."""
    text = '[[gate]]\nname = "short"\nat = "2m"\nrequire = ["q < 50"]'
    assert only(judged(text, run([1] * 12))).verdict == "inconclusive"
    assert only(judged(text, run([1] * 13))).verdict == "pass"
    assert only(judged(text, run([1] * 13 + [77] * 3))).verdict == "pass"


def test_a_probe_does_not_bring_the_run_further() -> None:
    """The sentinel's own measurements are no steps of the trainer."""
    samples = [*run([1] * 5), ("sys/process_alive", 5000, 60.0, 1.0)]
    assert only(judged(GATE + 'require = ["q < 50"]', samples)).reached is False


# -- gates that need others --

TWO = (
    '[[gate]]\nname = "long"\nat = "1000 steps"\nneeds = ["short"]\nrequire = ["q < 50"]\n'
    '[[gate]]\nname = "short"\nat = "500 steps"\nrequire = ["q < 10"]\n'
)


def test_a_needed_gate_is_judged_on_the_same_run_at_its_own_step() -> None:
    """The long one may have been passed and still fails for the short one."""
    assert {n: o.verdict for n, o in judged(TWO, run([1] * 12)).items()} == {"short": "pass", "long": "pass"}
    found = judged(TWO, run([20] * 12))
    assert {n: o.verdict for n, o in found.items()} == {"short": "fail", "long": "fail"}
    assert found["long"].reason == "it needs short, which failed"
    assert found["short"].at.run_step == 500


def test_a_needed_gate_that_failed_settles_the_later_one() -> None:
    """There is nothing to wait for."""
    found = judged(TWO, run([20] * 8))
    assert (found["long"].verdict, found["long"].certain) == ("fail", True)


def test_a_needed_gate_without_an_answer_leaves_the_later_one_open() -> None:
    """Inconclusive is no foundation."""
    found = judged(TWO.replace("q < 10", "lazy < 10"), run([1] * 12))
    assert (found["long"].verdict, found["long"].reason) == (
        "inconclusive",
        "it needs short, which did not pass",
    )


def test_the_worst_of_several_counts() -> None:
    """fail beats inconclusive beats pass."""
    assert worst(["pass", "inconclusive", "fail"]) == "fail"
    assert worst(["pass", "inconclusive"]) == "inconclusive"
    assert worst(["pass"]) == "pass"


# -- attempts --


def test_a_rollback_undoes_no_failure_and_no_verdict() -> None:
    """A run that had to be rescued has not shown that it needs no rescue."""
    gates = GateWatch(compile_gates(rules(TWO)))
    gates.feed(run([1] * 7))
    assert gates.settled() == {"short": "pass"}
    gates.rewind([(0, run([1, 1, 1]))])
    gates.feed(run([40] * 10, begin=300), 1)
    gates.end()
    assert gates.settled() == {"short": "pass", "long": "pass"}


def test_the_windows_of_a_new_attempt_hold_what_it_kept() -> None:
    """What was left behind is no part of the run."""
    text = GATE + 'require = ["highest(q, steps=1000) < 50"]'
    gates = GateWatch(compile_gates(rules(text)))
    gates.feed(run([1, 1, 1, 1, 99, 99]))
    gates.rewind([(0, run([1, 1, 1, 1]))])
    gates.feed([(tag, step, wall + 100, value) for tag, step, wall, value in run([1] * 10, begin=400)], 1)
    gates.end()
    assert gates.settled() == {"short": "pass"}


# -- what is wrong with a gate, when it is read --


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('at = "1000 points"', "gate short.at: '1000 points' is no place at which a run can be judged"),
        ('at = "soon"', "'soon' is no span"),
        ('at = "9 steps"\nneeds = ["shrt"]', "gate short.needs: no gate 'shrt'"),
        ('at = "9 steps"\nforbid = ["hihg"]', "gate short.forbid: 'hihg' is neither a severity nor a rule"),
        ('at = "9 steps"\nforbid = []', "gate short asks for nothing"),
        ('at = "9 steps"\nneeds = ["short"]', "gate short needs itself: short -> short"),
        ('at = "9 steps"\nrequire = ["q < 1", "qq < 1"]', "gate short.require.1: unknown metric 'qq'"),
        ('at = "9 steps"\nrequire = ["q + 1"]', "gate short.require.0: this must be a condition"),
        ('at = "9 steps"\nrequire = [{ expr = "qq < 1" }]', "gate short.require.0: unknown metric 'qq'"),
        ('at = "9 steps"\nlet = { a = "qq" }\nrequire = ["a < 1"]', "gate short.let.a: unknown metric 'qq'"),
        ('at = "9 steps"\nrequire = [{ expr = "q < 1", erly = 1 }]', "unknown key 'erly'"),
        (
            'at = "9 steps"\nrequire = [{ expr = "q < 1", early_fail = true, on_false = "inconclusive" }]',
            "`early_fail` ends in a failure",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, said: str) -> None:
    """A gate nobody can pass is found before the run, not after a day of it."""
    found = problems(RULE + '[[gate]]\nname = "short"\n' + text)
    assert len(found) == 1, found
    assert said in found[0].what
    assert found[0].where.startswith("f.toml:")
    assert found[0].where.count(":") == 2


def test_the_nearest_names_are_offered() -> None:
    """Gates, rules and metrics alike."""
    text = RULE + TWO.replace('["short"]', '["shrt"]') + 'forbid = ["hihg"]'
    hints = [problem.hint for problem in problems(text)]
    assert sorted(hints) == ["did you mean 'high'?", "did you mean 'short'?"]


def test_a_circle_of_needs_is_told_once() -> None:
    """It belongs to no single gate."""
    ring = "".join(
        f'[[gate]]\nname = "{name}"\nat = "9 steps"\nneeds = ["{other}"]\n'
        for name, other in (("a", "b"), ("b", "c"), ("c", "a"))
    )
    assert [problem.what for problem in problems(ring)] == ["gate a needs itself: a -> b -> c -> a"]


def test_a_gate_cannot_need_a_later_one() -> None:
    """It would be judged before what it builds on."""
    (problem,) = problems(TWO.replace("500", "5000"))
    assert problem.what == "gate long.needs: 'short' is judged later, at 5000 steps"


def test_a_faulty_gate_hides_nothing_of_the_others() -> None:
    """Its name stays known, and every other problem is told."""
    text = TWO.replace('at = "500 steps"', 'at = "never"') + '[[rule]]\nname = "r"\nexpr = "qq > 1"\n'
    whats = [problem.what for problem in problems(text)]
    assert len(whats) == 1
    assert "'never' is no span" in whats[0]


def test_a_gate_of_a_pack_speaks_of_the_packs_own_rules_and_parameters() -> None:
    """`forbid = ["high"]` in the pack td is td/high, and p.limit is the pack's, or the user's for it."""
    pack = (
        'pack = { name = "td" }\nparams = { limit = 5 }\nmetrics = { q = ["q"] }\n'
        + RULE
        + (GATE + 'forbid = ["high"]\nrequire = ["q < p.limit"]')
    )
    assert problems("", ("td", pack)) == []
    (problem,) = problems("", ("td", pack.replace('["high"]', '["hgih"]')))
    assert "'td/hgih'" in problem.what


def test_the_users_gate_replaces_a_packs() -> None:
    """As with ladders: by the same name."""
    pack = GATE + 'require = ["nothing_here < 1"]'
    assert problems(GATE + 'require = ["q < 1"]', ("td", pack)) == []


# -- properties --

values = st.lists(
    st.one_of(st.floats(-100, 100), st.sampled_from([math.nan, math.inf, 49.0, 51.0])),
    min_size=1,
    max_size=40,
)
EXPRESSIONS = [
    "q < 50",
    "highest(q, steps=1000) < 50",
    "not falling(q, steps=1000, cover=0)",
    "rising(loss, points=100, cover=0)",
    "mean(lazy, steps=10) > 0",
    "frac(q > 10, points=10, min_points=3) < 0.5 or loss > 0",
    "median(loss, points=3) < best(q)",
]


@settings(max_examples=60, deadline=None)
@given(
    q=values,
    loss=values,
    cuts=st.lists(st.integers(0, 80), max_size=6),
    wanted=st.lists(st.sampled_from(EXPRESSIONS), min_size=1, max_size=3),
    early=st.booleans(),
)
def test_a_verdict_does_not_depend_on_the_pieces_in_which_a_run_is_read(
    q: list[float], loss: list[float], cuts: list[int], wanted: list[str], early: bool
) -> None:
    """Live, a run comes point by point; recorded, in one go: the same log has the same verdict, and the same
    numbers; and no gate passes with a requirement that is not True.
    """
    required = ", ".join(f'{{ expr = "{text}", early_fail = {str(early).lower()} }}' for text in wanted)
    text = f"{RULE}{GATE}require = [{required}]"
    samples = together(run(q), run(loss, "loss", every=70))
    whole = judged(text, samples)
    assert repr(judged(text, samples, chunks=[min(cut, len(samples)) for cut in cuts])) == repr(whole)
    assert repr(judged(text, samples, chunks=range(len(samples)))) == repr(whole)
    outcome = only(whole)
    if outcome.verdict == "pass":
        assert all(finding.answer is True for finding in outcome.findings)
        assert outcome.reached
        assert not outcome.forbidden


@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=60))
def test_the_t_that_is_told_is_the_t_that_decides(series: list[float]) -> None:
    """Beyond the critical value exactly where the trend is found."""
    t = trend_t(series)
    if abs(abs(t) - T_CRITICAL) > 1e-6:
        assert trend(series, direction=1, by=0) == (t > T_CRITICAL)
        assert trend(series, direction=-1, by=0) == (t < -T_CRITICAL)
