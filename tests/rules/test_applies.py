"""For which runs a rule is (`when`), from which age on (`after_time`), and how a failing one is put aside."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from rules.compile import compile_all
from rules.coverage import coverage
from rules.evaluate import RESOLVE_BY, Program, compile_rules
from rules.instances import Instance
from rules.merge import NOTIFY, RuleSet, build
from rules.series import Sample
from rules.source import RuleErrors, parse
from rules.watch import RunWatch

HEAD = '[metrics]\nq1 = "q1"\nloss = "loss"\nlr = "lr"\n'
RULE = '[[rule]]\nname = "r"\nexpr = "loss > 5"\nwhen = "known(q1)"\n'


def rules(own: str = "", pack: str = "") -> RuleSet:
    documents = [("", parse(HEAD + own, "sentinel.toml"))]
    if pack:
        documents.insert(0, ("td3", parse(pack, "td3.toml")))
    return build(documents)


def watch(own: str = "", pack: str = "") -> RunWatch:
    return RunWatch(compile_rules(rules(own, pack)), {"notify": NOTIFY})


def points(tag: str, first: int, count: int, value: float) -> list[Sample]:
    return [(tag, n, 1000.0 + n, value) for n in range(first, first + count)]


def fired(run: RunWatch, samples: Iterable[Sample]) -> list[tuple[str, int]]:
    """Which alerts begin to fire, at which step."""
    found = run.observe(list(samples)) + run.flush()
    return [(o.key, o.verdict.at.step) for o in found if o.transition and o.transition.after == "firing"]


def test_a_rule_is_silent_until_its_when_is_true_and_judged_from_that_tick_on() -> None:
    """Its windows are as old as the run; only the judging waits."""
    run = watch(RULE.replace("loss > 5", "mean(loss, points=3) > 5"))
    assert fired(run, points("loss", 1, 5, 9.0)) == []
    assert run.marks() == {"r": "warming"}
    assert fired(run, [("q1", 6, 1006.0, 0.0), ("loss", 6, 1006.0, 9.0)]) == [("r", 6)]


def test_true_once_is_true_for_the_run() -> None:
    """A tag that is logged no more does not make the rule another run's."""
    run = watch(RULE)
    fired(run, [("q1", 0, 0.0, 1.0), ("loss", 0, 0.0, 1.0)])
    assert fired(run, points("loss", 1, 3, 9.0)) == [("r", 1)]


def test_after_so_many_ticks_it_is_called_inapplicable_and_still_wakes_up() -> None:
    """Training may begin late: a rule that slept for good would be a watchdog that is asleep."""
    run = watch(RULE)
    fired(run, points("loss", 1, RESOLVE_BY, 9.0))
    assert run.marks() == {"r": "inapplicable"}
    later = RESOLVE_BY + 1
    assert fired(run, [("q1", later, 1e4, 0.0), ("loss", later, 1e4, 9.0)]) == [("r", later)]
    assert run.marks() == {"r": ""}


def test_a_pack_has_a_when_for_all_its_rules_beside_their_own() -> None:
    """Both have to be True."""
    pack = (
        '[pack]\nname = "td3"\nwhen = "known(q1)"\n'
        '[[rule]]\nname = "a"\nexpr = "loss > 5"\n'
        '[[rule]]\nname = "b"\nexpr = "loss > 5"\nwhen = "lr > 0"\n'
    )
    run = watch(pack=pack, own='[[rule]]\nname = "own"\nexpr = "loss > 5"\n')
    assert fired(run, points("loss", 1, 1, 9.0)) == [("own", 1)]
    assert fired(run, [("q1", 2, 1002.0, 0.0), ("loss", 2, 1002.0, 9.0)]) == [("td3/a", 2)]
    assert fired(run, [("lr", 3, 1003.0, 1.0), ("loss", 3, 1003.0, 9.0)]) == [("td3/b", 3)]


def test_when_of_an_each_rule_is_each_tags_own() -> None:
    """The instance of a tag that never moved is none of this run's."""
    own = '[[rule]]\nname = "r"\neach = "g/{part}"\nexpr = "x > 5"\nwhen = "m[\'on/{part}\'] > 0"\n'
    run = watch(own)
    samples = [(tag, 1, 1000.0, value) for tag, value in (("on/a", 1.0), ("g/a", 9.0), ("g/b", 9.0))]
    assert fired(run, samples) == [("r[a]", 1)]


def test_a_rule_that_fires_on_unknown_does_not_before_it_applies() -> None:
    """`no_data = "fire"` is about data that is missing, not about somebody else's run."""
    run = watch(RULE.replace("loss > 5", "lr > 5 or loss > 5") + 'no_data = "fire"\n')
    assert fired(run, points("loss", 1, 5, 0.0)) == []
    assert fired(run, [("q1", 6, 1006.0, 0.0), ("loss", 6, 1006.0, 0.0)]) == [("r", 6)]


def test_history_that_is_only_taken_in_decides_too() -> None:
    """After a restart or a rewind a rule applies as it did before."""
    run = watch(RULE)
    run.warm([("q1", 1, 1001.0, 0.0), ("loss", 1, 1001.0, 0.0)])
    run.warmed()
    assert fired(run, points("loss", 700, 1, 9.0)) == [("r", 700)]


def test_coverage_knows_what_is_not_for_such_a_run() -> None:
    """It is not blind: nothing is missing that this run should have."""
    program = compile_rules(rules(RULE))
    assert [found.sight for found in coverage(program, ["loss"])] == ["inapplicable"]
    assert [found.sight for found in coverage(program, ["loss", "q1"])] == ["whole"]


def test_after_time_counts_from_the_runs_first_point() -> None:
    """Not from the start of the watch, and not from the rule's own first point."""
    run = watch('[[rule]]\nname = "r"\nexpr = "loss > 5"\nafter_time = "60s"\n')
    samples = [("lr", 0, 0.0, 1.0), *(("loss", n, 10.0 * n, 9.0) for n in range(1, 9))]
    assert fired(run, samples) == [("r", 6)]


@pytest.mark.parametrize(
    ("own", "pack", "what"),
    [
        (RULE.replace("known(q1)", "q1"), "", "sentinel.toml:8:1: error: r.when: this must be a condition"),
        (RULE.replace("known(q1)", "known(q9)"), "", "r.when: unknown metric 'q9'"),
        ('[pack]\nname = "x"\nwhen = "known(q1)"\n' + RULE, "", "pack.when: this file is no pack"),
        (
            "",
            '[pack]\nname = "td3"\nwhen = "known(q9)"\n[[rule]]\nname = "a"\nexpr = "loss > 5"\n',
            "td3.toml:3:1: error: pack.td3.when: unknown metric 'q9'",
        ),
        (
            '[[rule]]\nname = "r"\nexpr = "loss > 5"\nafter_time = "5 points"\n',
            "",
            "r.after_time: points mean nothing here",
        ),
    ],
)
def test_problems_have_their_places(own: str, pack: str, what: str) -> None:
    """As those of every other expression."""
    with pytest.raises(RuleErrors) as caught:
        compile_all(rules(own, pack))
    assert what in str(caught.value)


def failing(expr: str, extra: str = "") -> tuple[RunWatch, Program]:
    program = compile_rules(rules(f'[[rule]]\nname = "r"\nexpr = "{expr}"\n{extra}'))
    return RunWatch(program, {"notify": NOTIFY}), program


@pytest.mark.parametrize("no_data", ["hold", "ok", "fire"])
def test_a_rule_that_failed_three_times_is_asked_no_more(
    monkeypatch: pytest.MonkeyPatch, no_data: str
) -> None:
    """Not even when a new tag makes its closures anew; and a failure is no missing data."""
    asked = []
    built = Instance.build

    def build(self: Instance, *given: object) -> bool:
        made = built(self, *given)  # type: ignore[arg-type]  # handed through

        def fail(now: float) -> bool:
            asked.append(now)
            raise ValueError("out of the domain")

        self.answer = fail
        return made

    monkeypatch.setattr(Instance, "build", build)
    run, _ = failing("loss > 5 or m['late'] > 5", f'no_data = "{no_data}"\n')
    assert fired(run, points("loss", 1, 6, 9.0)) == []
    assert len(asked) == 3
    assert fired(run, [("late", 9, 1009.0, 9.0), ("loss", 9, 1009.0, 9.0), *points("loss", 10, 3, 9.0)]) == []
    assert len(asked) == 3
    assert run.marks() == {"r": "error"}
    assert [failure.key for failure in run.failures()] == ["r"]
