"""What the judge keeps of a run: suspect stretches, what is muted, what was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from rules.alert import AlertState, Transition
from rules.series import Sample
from rules.verdict import Mark
from sentinel.checkpoints import Checkpoint
from sentinel.config import load
from sentinel.judge import Judge, Ledger
from tests.sentinel.event_files import T0

RULES = """
[limits]
require_remedy = false
[[rule]]
name = "grave"
expr = "m['q'] > 50"
for = "2 points"
severity = "critical"
ladder = "act"
%s
[[rule]]
name = "other"
expr = "m['q'] > 40"
severity = "%s"
%s
[ladders.act]
rungs = [{ do = ["checkpoint"] }, { do = ["rollback"], after = "1 points", max = 5 }]
"""


def mark(wall: float) -> Mark:
    return Mark(int(wall), wall, int(wall), int(wall))


def moved(after: AlertState, wall: float, onset: float | None = None, key: str = "r") -> Transition:
    began = mark(wall if onset is None else onset)
    return Transition(key, AlertState.INACTIVE, after, mark(wall), began, None, None, "")


def judge(folder: Path, first: str = "", severity: str = "warning", second: str = "") -> Judge:
    path = folder / "sentinel.toml"
    path.write_text(RULES % (first, severity, second))
    settings = load(path)
    return Judge(settings.program, settings.book)


def curve(values: list[float]) -> list[Sample]:
    return [("q", 100 * n, T0 + n, value) for n, value in enumerate(values, 1)]


def asked(made: Judge, values: list[float]) -> dict[str, list[str]]:
    """Which verbs each rule asked for, withheld ones left out."""
    found: dict[str, list[str]] = {}
    for step in made.samples(curve(values), 0) + made.flush():
        for action in step.actions:
            if not action.withheld:
                found.setdefault(step.observation.key, []).append(action.verb)
    return found


def test_a_suspect_stretch_goes_from_onset_to_the_end_of_a_grave_alert() -> None:
    """A checkpoint of that time holds the trouble; calm alone does not end it, mild alerts do not count."""
    ledger = Ledger()
    ledger.follow(moved(AlertState.PENDING, 10), "critical")
    ledger.follow(moved(AlertState.FIRING, 20, onset=10), "critical")
    ledger.follow(moved(AlertState.RECOVERING, 30, onset=10), "critical")
    assert ledger.suspicions() == ((10, None),)
    ledger.follow(moved(AlertState.RESOLVED, 40, onset=10), "critical")
    ledger.follow(moved(AlertState.FIRING, 50), "warning")
    assert ledger.suspicions() == ((10, 40),)


@pytest.mark.parametrize("end", [AlertState.INACTIVE, AlertState.PROBATION])
def test_a_suspicion_ends_with_the_alert_or_the_rollback(end: AlertState) -> None:
    """What is written on probation is good until the alert fires again: then all since onset is suspect."""
    ledger = Ledger()
    ledger.follow(moved(AlertState.FIRING, 10), "fatal")
    ledger.follow(moved(end, 30, onset=10), "fatal")
    assert ledger.suspicions() == ((10, 30),)
    ledger.follow(moved(AlertState.FIRING, 60, onset=10), "fatal")
    assert ledger.suspicions() == ((10, 30), (10, None))


@pytest.mark.parametrize(
    ("first", "second", "severity", "muted"),
    [
        ("", "", "warning", set()),
        ('inhibits = ["other"]', "", "warning", {"other"}),
        ('inhibits = ["other"]', "", "fatal", set()),
        ('inhibits = ["other"]', 'inhibits = ["grave"]', "warning", {"other"}),
        (
            "",
            '[[inhibit]]\nwhen = { rule = "grave" }\nmute = { severity = ["warning"] }',
            "warning",
            {"other"},
        ),
        ("", '[[inhibit]]\nwhen = { rule = "grave" }\nmute = { rule = ["other"] }', "info", {"other"}),
    ],
)
def test_a_firing_rule_mutes_others_but_none_that_is_fatal_and_never_each_the_other(
    tmp_path: Path, first: str, second: str, severity: str, muted: set[str]
) -> None:
    """Two rules that are silent for each other's sake would be a watchdog that is asleep."""
    made = judge(tmp_path, first, severity, second)
    made.samples(curve([1, 60, 60, 60]), 0)
    made.flush()
    names = {"grave", "other"}
    assert {n for n in names if made._inhibitor(made.watch.rule(n)) is not None} == muted
    assert made.watch.alerts["other"].state is AlertState.FIRING


def test_what_was_asked_in_a_batch_is_known_to_the_rest_of_it(tmp_path: Path) -> None:
    """Where commands are sent, a second checkpoint or rollback waits for the first."""
    values = [1.0, 60, 60, 60, 60, 1, 60, 60, 60, 60]
    told = asked(judge(tmp_path, "", "critical", 'ladder = "act"\nfor = "2 points"'), values)
    assert sum(verbs.count("rollback") for verbs in told.values()) > 1
    made = judge(tmp_path, "", "critical", 'ladder = "act"\nfor = "2 points"')
    made.sends = True
    sent = asked(made, values)
    assert sum(verbs.count("rollback") for verbs in sent.values()) == 1


def test_history_moves_alerts_and_climbs_no_ladder(tmp_path: Path) -> None:
    """The ladder begins where the present does, if the alert still fires then."""
    made = judge(tmp_path)
    made.act = False
    assert asked(made, [60, 60, 60, 60]) == {}
    made.act = True
    later = made.samples([("q", 900, T0 + 9, 60.0)], 0) + made.flush()
    assert [a.verb for s in later if s.observation.key == "grave" for a in s.actions] == [
        "checkpoint",
        "rollback",
    ]


def test_checkpoints_of_an_abandoned_attempt_are_not_on_the_line_of_descent(tmp_path: Path) -> None:
    """Going back to one would bring the abandoned points' weights to life again."""
    made = judge(tmp_path)
    rows = [(500, T0 + 5), (900, T0 + 9), (700, T0 + 30)]
    kept = [Checkpoint(f"c{s}", s, 0, wall, tmp_path, verified=True) for s, wall in rows]
    made.catalogue = lambda: kept
    made.rewind(600, T0 + 20, ())
    assert [c.step for c in made._descent()] == [500, 700]
    assert (made.attempt, made.attempt_began, made.ledger.rewinds) == (1, 600, [(600, T0 + 20)])
