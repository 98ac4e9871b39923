"""Cases are judged as live runs are; a wrong expectation is told in words, a right one is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from rules.scenario import Scenario, load
from rules.source import RuleErrors
from sentinel.scenarios import failures, load_scenario, load_tests, run_test
from tests.sentinel.event_files import T0, record, scalar

FOLDER = Path(__file__).parents[1] / "scenarios"

RULE = """
[metrics]
q = ["q"]
[[rule]]
name = "high"
expr = "q > 50"
summary = "q is {q:.1f}"
[[rule]]
name = "any_high"
each = "{which}/loss"
expr = "x > 50"
severity = "critical"
"""

TEST = '[[test]]\nname = "t"\nseries = { q = "1 2 60 1 70 1" }\n[[test.expect]]\n'

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
