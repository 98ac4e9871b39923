"""Cases are judged as live runs are; a wrong expectation is told in words, a right one is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from rules.scenario import Scenario, load
from rules.source import RuleErrors
from sentinel.attempts import Attempts
from sentinel.cases import courses, play
from sentinel.discover import scan
from sentinel.judge import Judge, Step
from sentinel.policy import Book
from sentinel.scenarios import failures, load_scenario, load_tests, run_test
from sentinel.tail import RunTail
from tests.rules.test_scenario import RULE, TEST
from tests.sentinel.event_files import T0, record, scalar

FOLDER = Path(__file__).parents[1] / "scenarios"

CASES = [
    (path, number, case.name)
    for path in sorted(FOLDER.glob("*.toml"))
    for number, case in enumerate(load_scenario(path).cases)
]


def written(tests: str) -> Scenario:
    return load(RULE + tests, "t.toml", str)


def said(tests: str) -> list[str]:
    """What is told of the only case."""
    return failures(written(tests), 0)


@pytest.mark.parametrize(
    ("path", "number"), [c[:2] for c in CASES], ids=[f"{c[0].stem}: {c[2]}" for c in CASES]
)
def test_a_scenario_passes(path: Path, number: int) -> None:
    """The rules we ship do what their scenarios say."""
    assert failures(load_scenario(path), number) == []


# Expectations


@pytest.mark.parametrize(
    ("expect", "told"),
    [
        (
            'rule = "high"\nfires_at = 2',
            "expected to fire at step 2; it first fired at step 3 (wall 30, value 60, 'q is 60.0')",
        ),
        ('rule = "high"\nfires_by = 2', "expected to fire by step 2; it first fired at step 3"),
        ('rule = "high"\nnever = true', "expected never to fire; it first fired at step 3"),
        ('rule = "high"\ntimes = 1', "expected to fire 1 times; it first fired at step 3"),
        ('rule = "high"\nonset = 2', "expected its onset at step 2"),
        ('rule = "high"\nvalue = 61', "expected the value 61"),
        ('rule = "high"\nmessage = "q is 61"', "expected a message with 'q is 61'"),
        ('rule = "high"\nstate = "firing"', "expected to end firing; it is resolved (the rule has cleared)"),
        (
            'rule = "high"\nreason = "recovered"',
            "expected the reason 'recovered'; it was 'the rule has cleared'",
        ),
        ('rule = "any_high"\nfires_at = 1', "expected to fire at step 1; it did not fire"),
        ('rule = "any_high[b]"\nfires_at = 1', "expected to fire at step 1; it did not fire"),
        (
            'rule = "any_high"\nbefore = "high"',
            "expected to fire before high; it did not fire, high first fired at step 3",
        ),
    ],
)
def test_a_wrong_expectation_is_told_in_words(expect: str, told: str) -> None:
    """What was expected, and what came instead."""
    found = said(f'[[test]]\nname = "t"\nseries = {{ q = "1 2 60 1 70 1" }}\n[[test.expect]]\n{expect}\n')
    assert len(found) == 1
    assert told in found[0]


def test_a_right_expectation_is_not_told() -> None:
    """Every key at once."""
    steps = 'rule = "high"\nfires_at = 3\nfires_by = 3\ntimes = 2\nonset = 3\nbefore = "any_high"\n'
    words = 'value = 60.0\nmessage = "60.0"\nstate = "resolved"\nreason = "cleared"\n'
    assert said(TEST + steps + words) == []


def test_quiet_counts_from_a_severity_on() -> None:
    """`quiet = "critical"` lets a warning pass; instances are named."""
    loud = '[[test]]\nname = "t"\nquiet = "critical"\nseries = { q = "60", "a/loss" = "70" }\n'
    found = said(loud)
    assert len(found) == 1
    assert found[0].startswith("any_high[a]: expected quiet; it first fired at step 1")


# Recorded runs


def event_file(folder: Path, *records: bytes) -> Path:
    """Write an event file of these records."""
    path = folder / "events.out.tfevents.1700000000.host"
    path.write_bytes(b"".join(records))
    return path


def scalars(tag: str, *values: float, first: int = 1) -> list[bytes]:
    """One point a step, ten seconds apart."""
    return [scalar(tag, step, value, T0 + 10 * step) for step, value in enumerate(values, start=first)]


def start(step: int, wall: float) -> bytes:
    """SessionLog.START: the writer begins anew at `step`."""
    event = Event(wall_time=wall, step=step)
    event.session_log.status = SessionLog.START
    return record(event.SerializeToString())


def recorded(folder: Path, test: str) -> list[str]:
    """What is told of a case whose points come from what lies in `folder`."""
    (folder / "case.toml").write_text(f'{RULE}[[test]]\nname = "t"\n{test}', encoding="utf-8")
    tests = load_tests([folder / "case.toml"])
    return [told.sentence() for told in run_test(tests[0], float).failures]


FIRES = '[[test.expect]]\nrule = "high"\nfires_at = 3\n'


@pytest.mark.parametrize("source", ["events.out.tfevents.1700000000.host", "."])
def test_points_come_from_an_event_file(tmp_path: Path, source: str) -> None:
    """By its own name, or as the run's folder; from where the scenario lies."""
    event_file(tmp_path, *scalars("q", 1, 2, 60, 1))
    assert recorded(tmp_path, f'source = "{source}"\n{FIRES}') == []


def test_a_session_start_is_a_new_attempt(tmp_path: Path) -> None:
    """What fired is on probation, and what was logged behind the step is forgotten."""
    event_file(tmp_path, *scalars("q", 1, 2, 60), start(2, T0 + 100), scalar("q", 2, 1, T0 + 110))
    expect = '[[test.expect]]\nrule = "high"\nstate = "probation"\nat = 1\n'
    assert recorded(tmp_path, f'source = "."\n{FIRES}{expect}') == []


def test_a_source_may_be_cut_filtered_and_renamed(tmp_path: Path) -> None:
    """Steps are the run's own, so an episode's series is cut with the rest."""
    points = [*scalars("value", 60, 1, 60, 60), *scalars("len", 1, 1, first=1)]
    event_file(tmp_path, *points)
    cut = 'source = "."\ntags = ["val*"]\nrename = { value = "q" }\n'
    assert recorded(tmp_path, f'{cut}only_steps = "2-3"\n{FIRES}times = 1\n') == []
    until = f'{cut}until = {T0 + 20}\n[[test.expect]]\nrule = "high"\nfires_at = 1\ntimes = 1\n'
    assert recorded(tmp_path, until) == []


def test_a_cut_by_steps_knows_of_attempts(tmp_path: Path) -> None:
    """What an attempt logs anew lies within the cut again."""
    event_file(
        tmp_path, *scalars("q", 1, 1, 1, 60), start(2, T0 + 100), scalar("q", 2, 1, T0 + 110),
        scalar("q", 3, 70, T0 + 120),
    )  # fmt: skip
    cut = 'source = "."\nonly_steps = "0-3"\n'
    assert recorded(tmp_path, f"{cut}{FIRES}times = 1\nvalue = 70\n") == []


@pytest.mark.parametrize(
    ("test", "told"),
    [
        ('source = "events.out.tfevents.17"', "case.toml:16:1: error: test 't': "),
        (
            'source = "events.out.tfevents.170000000.host"',
            "did you mean 'events.out.tfevents.1700000000.host'?",
        ),
        (
            'source = "."\ntags = ["valeu"]',
            "no tag 'valeu' in what is taken\n  = help: did you mean 'value'?",
        ),
        (
            'source = "."\n[test.rename]\nvaleu = "q"',
            "no tag 'valeu' to rename\n  = help: did you mean 'value'?",
        ),
        ('source = "."\ngen = "cheetah"', "its points come from source and gen"),
        ('source = "."\nseries = { q = "1" }', "its points come from series and source"),
        (
            'only_steps = "1-2"\nseries = { q = "1" }',
            "only_steps is for points that come from `source` or `gen`",
        ),
        ('source = "."\nonly_steps = "2-1"', "only_steps: '2-1' ends before it begins"),
    ],
)
def test_a_faulty_source_is_refused(tmp_path: Path, test: str, told: str) -> None:
    """Before anything is run; with the place and the nearest name."""
    event_file(tmp_path, *scalars("value", 1, 2))
    with pytest.raises(RuleErrors) as caught:
        recorded(tmp_path, f'quiet = "info"\n{test}\n')
    assert told in str(caught.value)


def test_a_damaged_source_is_refused(tmp_path: Path) -> None:
    """A test on half of its data would pass for the wrong reason."""
    path = event_file(tmp_path, *scalars("q", 1, 2, 60, 1))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(RuleErrors, match=r"case\.toml:15:1: .* at byte \d+"):
        recorded(tmp_path, f'source = "."\n{FIRES}')


# Generated runs

GEN = """
[metrics]
q = ["debug/actor_q_mean"]
[[rule]]
name = "high"
expr = "q > 50"
severity = "critical"
[[rule]]
name = "rising"
expr = "q > 0"
severity = "info"
[[test]]
name = "t"
"""


def generated(test: str) -> list[str]:
    """What is told of a case on generated runs."""
    return failures(load(GEN + test, "t.toml", str), 0)


def test_a_generated_run_is_the_same_each_time() -> None:
    """So that a test of it is one."""
    case = load(f'{GEN}gen = "cheetah(seed=3, n=50)"\nquiet = "fatal"\n', "t.toml", str).cases[0]
    first, second = (list(courses(case)) for _ in range(2))
    assert first == second
    assert first[0].points == 50
    assert [course.label for course in first] == [""]


def test_a_case_is_run_with_each_of_its_seeds() -> None:
    """What is expected is expected of every one; the seeds that fail are named."""
    run = 'gen = "actor_leads(n=60, severity=3)"\nseeds = "0-3"\n[[test.expect]]\nrule = "high"\n'
    assert generated(f"{run}fires = true\n") == []
    told = generated(f"{run}never = true\n")
    assert len(told) == 1
    assert told[0].startswith("seed 0, seed 1, seed 2, seed 3: high: expected never to fire; it first fired")


def test_an_expectation_may_be_of_so_many_seeds() -> None:
    """`runs` counts those in which it holds."""
    run = (
        'gen = "actor_leads(n=60, severity=3)"\nseeds = "0-3"\n[[test.expect]]\nrule = "high"\nnever = true\n'
    )
    assert generated(f"{run}runs = {{ max = 0 }}\n") == []
    assert generated(f"{run}runs = {{ min = 1, max = 3 }}\n") == [
        "high: expected so in 1 to 3 of 4 runs; it was in 0, not with seed 0, seed 1, seed 2, seed 3"
    ]


def test_false_alarms_are_counted_over_all_points() -> None:
    """By rules of a severity and above; the longest series is what is counted."""
    run = 'gen = "cheetah(n=500)"\nseeds = "0-1"\nexpect_false_alarms_per_1e5 = '
    assert generated(f"{run}{{ max = 0, severity = 'fatal' }}\n") == []
    told = generated(f"{run}{{ max = 0 }}\n")
    assert len(told) == 1
    assert told[0].startswith("expected at most 0 false alarms in 1e5 points; it was ")
    assert "in 1000 points" in told[0]
    assert "rising " in told[0]


@pytest.mark.parametrize(
    ("test", "told"),
    [
        ('gen = "chetah(n=50)"', "no generator 'chetah'; did you mean 'cheetah'?"),
        ('gen = "cheetah(sed=1)"', "cheetah() has no argument 'sed'; did you mean 'seed'?"),
        ('gen = "cheetah"\nseeds = "a"', "seeds: 'a' is no range"),
        ('series = { q = "1" }\nseeds = "0-1"', "seeds are for a generated run"),
        (
            'gen = "cheetah"\n[[test.expect]]\nrule = "high"\nnever = true\nruns = { min = 1 }',
            "`runs` counts",
        ),
    ],
)
def test_a_faulty_generator_is_refused(test: str, told: str) -> None:
    """With the nearest family or argument."""
    with pytest.raises(RuleErrors) as caught:
        generated(f'quiet = "fatal"\n{test}\n')
    assert told in str(caught.value)


# Attempts, states, actions

LADDER = """
[metrics]
q = ["q"]
[[rule]]
name = "high"
expr = "q > 50"
for = "2 points"
severity = "critical"
ladder = "back"
[ladders.back]
rungs = [
  { do = ["notify", "checkpoint"] },
  { do = ["rollback"], after = "1 points", max = 1, remedy = "calm", margin = "50 steps" },
  { do = ["terminate"], when = "exhausted" },
]
[remedies.calm]
tries = [{ set = { lr = "x0.1" }, reinit = ["actor"] }]
[[test]]
name = "t"
steps = "100+100x7"
series = { q = "1 1 1 60x4" }
"""


def climbed(test: str) -> list[str]:
    """What is told of a case with a ladder."""
    return failures(load(LADDER + test, "t.toml", str), 0)


DONE = 'actions = ["notify", "checkpoint", { do = "rollback", to_step = %s }]\n'
EXPECT = '[[test.expect]]\nrule = "high"\n'


def test_a_state_may_be_expected_on_the_way() -> None:
    """At a step, not only in the end."""
    for step, state in ((300, "inactive"), (400, "pending"), (500, "firing"), (700, "firing")):
        assert climbed(f'{EXPECT}state = "{state}"\nat = {step}\n') == []
    assert climbed(f'{EXPECT}state = "firing"\nat = 400\n') == [
        "high: expected to be firing at step 400; it is pending"
    ]


def test_what_the_ladder_asks_for_is_expected_in_its_order() -> None:
    """Without checkpoints a rollback's target is open."""
    assert climbed(f'{EXPECT}actions = ["notify", "checkpoint", "rollback"]\n') == []
    assert climbed(f'{EXPECT}actions = ["notify", "rollback", "checkpoint"]\n') == [
        "high: expected the actions notify, rollback, checkpoint; "
        "it asked for notify at step 500, checkpoint at step 500, "
        "rollback with lr = x0.1 and new actor at step 600"
    ]


def test_actions_of_all_rules_need_no_rule() -> None:
    """What the run would see, whoever asks."""
    assert climbed('[[test.expect]]\nactions = ["notify", "checkpoint", "rollback"]\n') == []


@pytest.mark.parametrize(("checkpoints", "target"), [("100+100x7", 300), ("100 200", 200), ("360", None)])
def test_a_rollback_goes_to_the_newest_good_checkpoint(checkpoints: str, target: int | None) -> None:
    """Before the onset less the margin; where there is none, the rollback is withheld and says so."""
    test = f'checkpoints = "{checkpoints}"\n{EXPECT}'
    if target is not None:
        assert climbed(test + DONE % target) == []
        assert climbed(test + DONE % (target + 1)) != []
    else:
        withheld = '{ do = "rollback", withheld = "no good checkpoint" }'
        assert climbed(f'{test}actions = ["notify", "checkpoint", {withheld}]\n') == []


def test_a_remedy_is_expected_word_for_word() -> None:
    """What it sets and what it makes anew."""
    deed = '{ do = "rollback", set = { lr = "x0.1" }, reinit = ["actor"] }'
    assert climbed(f'{EXPECT}actions = ["notify", "checkpoint", {deed}]\n') == []
    other = deed.replace("x0.1", "x0.2")
    assert "rollback with lr = x0.2" in climbed(f'{EXPECT}actions = ["notify", "checkpoint", {other}]\n')[0]


def test_a_rewind_after_a_rollback_is_that_rollback() -> None:
    """It is used up then: what comes next is the end."""
    again = LADDER.replace("100+100x7", "100+100x5 400+100x5").replace("1 1 1 60x4", "1 1 1 60x2 60x5")
    test = (
        f'rewind_at = 300\ncheckpoints = "100+100x7"\n{EXPECT}times = 2\nactions = ["notify", "checkpoint", '
    )
    test += '{ do = "rollback", to_step = 300 }, "notify", "checkpoint", "terminate"]\n'
    assert failures(load(again + test, "t.toml", str), 0) == []


TWICE = (
    LADDER.replace("max = 1", 'max = 3, cooldown = "50 steps"')
    .replace("100+100x7", "100+100x5 400+100x8")
    .replace("1 1 1 60x4", "1 1 1 60x2 1x4 60x3")
)


def test_a_rollback_that_was_done_counts_against_the_runs_limits() -> None:
    """As it does live: what is used up ends the run."""
    last = '{ do = "rollback", to_step = 500 }'
    for limit, expected in ((2, last), (1, '"terminate"')):
        limits = f"[limits]\nmax_rollbacks = {limit}\n[[test]]"
        test = f'rewind_at = 300\ncheckpoints = "100+100x4"\n{EXPECT}actions = ["notify", "checkpoint", '
        test += f'{{ do = "rollback", to_step = 300 }}, "notify", "checkpoint", {expected}]\n'
        assert failures(load(TWICE.replace("[[test]]", limits) + test, "t.toml", str), 0) == [], limit


def test_a_rewind_may_be_told_by_its_step_alone() -> None:
    """Where the steps go back; the same as its long form."""
    axis = '[[test]]\nname = "t"\nsteps = "1+1x3 2+1x2"\nseries = { q = "1 2 60 60 1 1 1" }\n'
    expect = '[[test.expect]]\nrule = "high"\nstate = "probation"\nat = 1\n'
    for rewind in ("rewind_at = 1\n", "[[test.rewind]]\nwall = 50\nto_step = 1\n"):
        assert said(f"{axis}{rewind}{expect}") == []
    with pytest.raises(RuleErrors, match="rewind_at has 2 steps, and `steps` go back 1 times"):
        said(f"{axis}rewind_at = [1, 1]\n{expect}")


def test_silence_may_be_given_as_a_time() -> None:
    """It is judged after the last point; `until` says the same as a wall time."""
    rule = '[[rule]]\nname = "quiet"\nexpr = "stale(q, time=\'1m\')"\n'
    test = f'{rule}{TEST}rule = "quiet"\nfires = true\n'
    assert said(test) != []
    assert said(test.replace("[[test.expect]]", 'silence = "3m"\n[[test.expect]]')) == []
    assert said(test.replace("[[test.expect]]", "until = 240\n[[test.expect]]")) == []
    with pytest.raises(RuleErrors, match="silence is a time"):
        said(test.replace("[[test.expect]]", 'silence = "3 steps"\n[[test.expect]]'))


@pytest.mark.parametrize(
    ("expect", "told"),
    [
        ('rule = "high"', "it expects nothing of the rule"),
        ('rule = "high"\nactions = ["notfy"]', "did you mean 'notify'?"),
        ('rule = "high"\nactions = [{ do = "rollback", to = 3 }]', "unknown key 'to'"),
        ('rule = "high"\nat = 3\nnever = true', "`at` is the step of a `state`"),
        ("never = true", "rule: this key is required"),
    ],
)
def test_a_faulty_expectation_is_refused(expect: str, told: str) -> None:
    """An expectation that cannot fail is none."""
    with pytest.raises(RuleErrors) as caught:
        climbed(f"[[test.expect]]\n{expect}\n")
    assert told in str(caught.value)


# Gates

GATED = """
[metrics]
q = ["q"]
[[rule]]
name = "high"
expr = "q > 50"
severity = "critical"
[[gate]]
name = "validation-1k"
at = "1000 steps"
require = ["q > 0"]
[[test]]
name = "t"
steps = "100+100x11"
"""


@pytest.mark.parametrize(
    ("test", "verdict", "reason"),
    [
        ('series = { q = "1x11" }', "pass", ""),
        ('series = { q = "-1x11" }', "fail", "q > 0"),
        ('series = { q = "1x8" }', "inconclusive", "the run is at step 900"),
        ('series = { q = "1x8" }\nending = "died"', "fail", "the trainer died at step 900"),
        ('series = { q = "1x4 60 1x4" }', "fail", "high (critical) fired at step 600"),
    ],
)
def test_a_gate_is_expected_to_stand_so(test: str, verdict: str, reason: str) -> None:
    """The verdict, and why; anything else is told with the gate's own reason."""
    expect = f'{GATED}{test}\n[[test.expect]]\ngate = "validation-1k"\nverdict = "%s"\nreason = "%s"\n'
    assert failures(load(expect % (verdict, reason), "t.toml", str), 0) == []
    other = "pass" if verdict != "pass" else "fail"
    (told,) = failures(load(expect % (other, reason), "t.toml", str), 0)
    assert told.startswith(f"gate validation-1k: expected {other}; it is {verdict}: ")
    (told,) = failures(load(expect % (verdict, "no such"), "t.toml", str), 0)
    assert told.startswith(f"gate validation-1k: expected the reason 'no such'; it is {verdict}: ")


@pytest.mark.parametrize(
    ("expect", "told"),
    [
        ('gate = "validation-2k"\nverdict = "pass"', "did you mean 'validation-1k'?"),
        ('gate = "validation-1k"', "`gate` and `verdict` belong together"),
        ('rule = "high"\nverdict = "pass"\nnever = true', "`gate` and `verdict` belong together"),
        ('gate = "validation-1k"\nverdict = "pass"\nnever = true', "of a gate there is no never"),
        ('gate = "validation-1k"\nverdict = "passed"', "did you mean 'pass'?"),
    ],
)
def test_a_faulty_expectation_of_a_gate_is_refused(expect: str, told: str) -> None:
    """With the nearest gate or verdict."""
    with pytest.raises(RuleErrors) as caught:
        load(f"{GATED}[[test.expect]]\n{expect}\n", "t.toml", str)
    assert told in str(caught.value)


# As live


def test_steps_that_go_back_unannounced_are_seen_as_live(tmp_path: Path) -> None:
    """A job resumed by hand says nothing: its steps tell, here as in a run that is watched."""
    points = [(step, 1.0) for step in range(10, 510, 10)] + [(510, 60.0)]
    points += [(step, 1.0) for step in range(210, 520, 10)]
    records = [scalar("q", step, value, T0 + 10 * n) for n, (step, value) in enumerate(points)]
    event_file(tmp_path, *records)
    expect = '[[test.expect]]\nrule = "high"\nfires_at = 510\ntimes = 1\n'
    (tmp_path / "case.toml").write_text(
        f'{RULE}[[test]]\nname = "t"\nsource = "."\n{expect}', encoding="utf-8"
    )
    (test,) = load_tests([tmp_path / "case.toml"])
    assert run_test(test, float).failures == []
    steps, rewinds = live(test.scenario, tmp_path)
    (course,) = courses(test.case, test.recorded)
    story = play(test.scenario, test.case, course).stories["high"]
    moves = [step.observation.transition for step in steps]
    assert [(move.at.step, move.after) for move in moves if move is not None] == story.changes
    assert rewinds == 1


@pytest.mark.parametrize("run", ["SEED055", "IDR000", "WIP002"])
def test_a_recorded_run_gives_what_it_gives_live(corpus: Path, tmp_path: Path, run: str) -> None:
    """The same alerts at the same steps, and the same asked for: there is one judge."""
    head = 'include = ["pack:generic", "pack:td3"]\n[[test]]\nname = "t"\nquiet = "info"\n'
    (tmp_path / "case.toml").write_text(f'{head}source = "{corpus / run}"', encoding="utf-8")
    (test,) = load_tests([tmp_path / "case.toml"])
    (course,) = courses(test.case, test.recorded)
    stories = play(test.scenario, test.case, course).stories
    steps, _ = live(test.scenario, corpus / run)
    assert sorted((k, at, state) for k, story in stories.items() for at, state in story.changes) == sorted(
        (step.observation.key, moved.at.step, moved.after)
        for step in steps
        if (moved := step.observation.transition) is not None
    )
    assert sorted((one.verb, one.step) for story in stories.values() for one in story.asked) == sorted(
        (action.verb, step.observation.verdict.at.step) for step in steps for action in step.actions
    )


def live(scenario: Scenario, folder: Path) -> tuple[list[Step], int]:
    """Judge a run's files as the daemon does; return what came of it, and how often it was rewound."""
    rules = scenario.rules
    judge = Judge(scenario.program, Book(rules.ladders, rules.remedies, rules.limits, rules.inhibit))
    tail = RunTail(folder)
    attempts = Attempts(judge, tail)
    files = scan(folder)["."].event_files
    steps: list[Step] = []
    while True:
        chunks, _ = tail.read(files)
        if not chunks and not tail.behind:
            return [*steps, *judge.flush()], len(attempts.rewinds)
        for chunk in chunks:
            steps += attempts.take(chunk)
