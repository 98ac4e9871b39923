"""An alert's life: what moves it, what does not, and what it remembers of its beginning."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rules.alert import Alert, AlertState, Held, Timing, Transition, advance, rewound
from rules.verdict import Condition, Mark, Verdict

INACTIVE, PENDING, FIRING = AlertState.INACTIVE, AlertState.PENDING, AlertState.FIRING
RECOVERING, PROBATION, RESOLVED = AlertState.RECOVERING, AlertState.PROBATION, AlertState.RESOLVED


def at(point: int, *, every: int = 100, seconds: float = 10.0) -> Mark:
    """The place of a driver's n-th point."""
    return Mark(point * every, point * seconds, point, point * every)


def breach(point: int) -> Verdict:
    return Verdict(Condition.BREACH, False, None, 60.0, 50.0, at(point))


def calm(point: int, *, cleared: bool | None = True, recovered: bool | None = None) -> Verdict:
    return Verdict(Condition.OK, cleared, recovered, 3.0, 50.0, at(point))


def blind(point: int, *, recovered: bool | None = None) -> Verdict:
    return Verdict(Condition.UNKNOWN, None, recovered, None, None, at(point))


def live(
    verdicts: list[Verdict], timing: Timing, alert: Alert | None = None
) -> tuple[Alert, list[Transition]]:
    alert = alert or Alert("r")
    moves = []
    for verdict in verdicts:
        alert, moved = advance(alert, verdict, timing)
        if moved is not None:
            moves.append(moved)
    return alert, moves


@pytest.mark.parametrize("hold", [(0, "points"), (1, "points"), (0, "seconds"), (0, "steps")])
def test_without_a_hold_the_first_breach_fires(hold: tuple[float, str]) -> None:
    """`for = "1 points"` and no `for` at all mean the same: one breach is enough."""
    alert, moves = live([calm(1), breach(2)], Timing(hold=hold))
    assert [(m.before, m.after) for m in moves] == [(INACTIVE, FIRING)]
    assert alert.onset == alert.fired == at(2)
    assert (alert.number, alert.value, alert.limit) == (1, 60.0, 50.0)


@pytest.mark.parametrize(
    ("hold", "fires"), [((3, "points"), 3), ((200, "steps"), 3), ((200, "seconds"), 21), ((15, "seconds"), 3)]
)
def test_a_hold_is_measured_from_the_first_breach(hold: tuple[float, str], fires: int) -> None:
    """Three points are three points; 200 steps and 20 seconds begin at the first of them. The onset is that
    one.
    """
    alert, moves = live([breach(n) for n in range(1, 22)], Timing(hold=hold))
    assert [m.after for m in moves] == [PENDING, FIRING]
    assert alert.onset == at(1)
    assert alert.fired == at(fires)


def test_a_breach_that_does_not_last_is_forgotten() -> None:
    """One calm answer ends a pending alert, and the next breach begins a new count and a new onset."""
    alert, moves = live([breach(1), breach(2), calm(3), breach(4)], Timing(hold=(3, "points")))
    assert [m.after for m in moves] == [PENDING, INACTIVE, PENDING]
    assert alert.onset == at(4)
    assert alert.held == Held(points=1)
    assert alert.number == 2


def test_unknown_time_does_not_count_towards_a_hold() -> None:
    """A breach, an hour of silence and a breach are two points of breach, and no hour of it."""
    timing = Timing(hold=(25, "seconds"))
    alert, moves = live([breach(1), breach(2), blind(3), breach(300), breach(301)], timing)
    assert alert.state is PENDING
    assert alert.held == Held(points=4, steps=200, seconds=20.0)
    assert alert.onset == at(1)
    alert, moves = live([breach(302)], timing, alert)
    assert [m.after for m in moves] == [FIRING]


def test_unknown_neither_fires_nor_resolves() -> None:
    """Losing sight of a sick run is not its recovery."""
    timing = Timing(keep=(2, "points"))
    alert, _ = live([breach(1)], timing)
    alert, moves = live([blind(n) for n in range(2, 500)], timing, alert)
    assert alert.state is FIRING
    assert moves == []


def test_clear_is_not_merely_the_end_of_the_breach() -> None:
    """Between limit and `clear` an alert stays as it is: that is what hysteresis is for."""
    alert, moves = live([breach(1), calm(2, cleared=False), calm(3, cleared=None)], Timing())
    assert alert.state is FIRING
    alert, moves = live([calm(4)], Timing(), alert)
    assert [m.after for m in moves] == [RESOLVED]


def test_calm_must_last_before_a_firing_alert_resolves() -> None:
    """`keep_firing_for`: three clear points in a row; a breach between them starts the count again."""
    timing = Timing(keep=(3, "points"))
    alert, moves = live([breach(1), calm(2), calm(3), breach(4), calm(5), calm(6)], timing)
    assert [m.after for m in moves] == [FIRING, RECOVERING, FIRING, RECOVERING]
    assert moves[2].reason == "it began again"
    alert, moves = live([calm(7)], timing, alert)
    assert [m.after for m in moves] == [RESOLVED]
    assert alert.onset == at(1)
    assert alert.number == 1


def test_calm_that_was_not_seen_does_not_count() -> None:
    """A run that is calm, then dark for an hour, then calm has been calm twice, not for an hour."""
    timing = Timing(keep=(60, "seconds"))
    alert, _ = live([breach(1), calm(2), blind(3), calm(400)], timing)
    assert alert.state is RECOVERING
    alert, _ = live([calm(n) for n in range(401, 406)], timing, alert)
    assert alert.state is RECOVERING
    alert, _ = live([calm(406)], timing, alert)
    assert alert.state is RESOLVED


def test_neither_calm_nor_breach_interrupts_the_calm() -> None:
    """Calm must last whole: an answer between `clear` and the limit starts it again, without a new alarm."""
    timing = Timing(keep=(3, "points"))
    alert, moves = live([breach(1), calm(2), calm(3), calm(4, cleared=False), calm(5), calm(6)], timing)
    assert [m.after for m in moves] == [FIRING, RECOVERING]
    assert live([calm(7)], timing, alert)[0].state is RESOLVED


def test_a_resolved_alert_begins_anew() -> None:
    """A second episode has its own number and its own onset."""
    alert, _ = live([breach(1), calm(2), breach(9)], Timing())
    assert (alert.state, alert.number, alert.onset) == (FIRING, 2, at(9))


def on_probation(since: int = 4, fired: int = 8) -> Alert:
    """Fired at one point, rolled back to an earlier one."""
    alert, _ = live([breach(fired)], Timing())
    alert, moved = rewound(alert, at(since))
    assert moved is not None
    assert (moved.before, moved.after, moved.reason) == (FIRING, PROBATION, "a new attempt began")
    return alert


TRIAL = Timing(keep=(2, "points"), within=(1500, "steps"))


def test_a_rollback_forgets_what_was_pending() -> None:
    """Its points are gone."""
    alert, _ = live([breach(3)], Timing(hold=(2, "points")))
    after, moved = rewound(alert, at(1))
    assert moved is not None
    assert moved.after is after.state is INACTIVE
    assert after.onset is None
    assert advance(after, breach(2), Timing(hold=(2, "points")))[0].state is PENDING


@pytest.mark.parametrize("state", [INACTIVE, RESOLVED])
def test_a_rollback_leaves_an_alert_at_rest_alone(state: AlertState) -> None:
    """Nothing was wrong, so nothing is on probation."""
    alert = Alert("r", state)
    assert rewound(alert, at(1)) == (alert, None)


def test_silence_is_not_recovery() -> None:
    """An alarm that merely falls silent fires again when its time is over."""
    alert, moves = live([calm(n, recovered=False) for n in range(5, 19)], TRIAL, on_probation())
    assert moves == []
    alert, moves = live([calm(19, recovered=False)], TRIAL, alert)
    assert [(m.after, m.reason) for m in moves] == [(FIRING, "suppressed, not recovered")]
    assert alert.fired == at(19)
    alert, moves = live([calm(n) for n in range(20, 40)], TRIAL, alert)
    assert alert.state is FIRING, "calm alone does not end it any more"
    alert, moves = live([calm(40, recovered=True)], TRIAL, alert)
    assert [(m.after, m.reason) for m in moves] == [(RESOLVED, "recovered")]


def test_time_runs_out_in_the_dark_too() -> None:
    """A recovery that cannot be seen is none: probation ends by its time even if nothing is known."""
    _, moves = live([blind(n) for n in range(5, 30)], TRIAL, on_probation())
    assert [(m.after, m.reason) for m in moves] == [(FIRING, "suppressed, not recovered")]
    assert moves[0].at == at(19)


def test_recovery_counts_only_past_the_place_where_it_had_fired() -> None:
    """Before that step even the sick run looked well."""
    alert, moves = live([calm(n, recovered=True) for n in range(5, 8)], TRIAL, on_probation())
    assert moves == []
    alert, moves = live([calm(8, recovered=True)], TRIAL, alert)
    assert [(m.after, m.reason) for m in moves] == [(RESOLVED, "recovered")]


def test_recovery_is_judged_at_the_end_of_its_time_wherever_that_is() -> None:
    """A rollback from far ahead does not reach the old place within its time, and must be judged all the
    same.
    """
    far = on_probation(since=4, fired=60)
    _, moves = live([calm(n, recovered=True) for n in range(5, 25)], TRIAL, far)
    assert [(m.at, m.reason) for m in moves] == [(at(19), "recovered")]


def test_a_breach_after_a_rollback_fires_with_a_new_onset() -> None:
    """It is the same incident, and what the next rollback must precede is its new beginning."""
    timing = replace(TRIAL, hold=(2, "points"))
    alert, moves = live([calm(5), breach(6), calm(7), breach(10)], timing, on_probation())
    assert moves == []
    alert, moves = live([breach(11)], timing, alert)
    assert [(m.after, m.reason) for m in moves] == [(FIRING, "it began again after the rollback")]
    assert (alert.number, alert.onset) == (1, at(10))


def test_without_a_recovery_condition_calm_ends_probation() -> None:
    """Where a ladder does not say what recovery is, it is the rule's own calm for `keep_firing_for`."""
    timing = Timing(keep=(3, "points"))
    alert, moves = live([calm(5), calm(6), calm(7, cleared=False), calm(8), calm(9)], timing, on_probation())
    assert moves == []
    _, moves = live([calm(10)], timing, alert)
    assert [(m.after, m.reason) for m in moves] == [(RESOLVED, "the rule has cleared")]


def test_a_second_rollback_renews_probation() -> None:
    """The new attempt has the whole time again."""
    alert, _ = live([calm(n) for n in range(5, 15)], TRIAL, on_probation())
    alert, moved = rewound(alert, at(2))
    assert moved is None
    _, moves = live([calm(n) for n in range(3, 17)], TRIAL, alert)
    assert moves == []


class Life(RuleBasedStateMachine):
    """Any verdicts and rollbacks in any order, against what must always hold."""

    def __init__(self) -> None:
        super().__init__()
        self.timing = Timing(hold=(3, "points"), keep=(2, "points"), within=(700, "steps"))
        self.alert = Alert("r")
        self.point = 0
        self.breaches: list[Mark] = []
        self.known_breaches = 0
        self.calm_in_a_row = 0

    def step(self, verdict: Verdict) -> Transition | None:
        before = self.alert
        self.alert, moved = advance(before, verdict, self.timing)
        assert (moved is None) == (before.state is self.alert.state)
        if moved is not None:
            assert (moved.before, moved.after) == (before.state, self.alert.state)
            assert moved.at == verdict.at
        return moved

    @rule(gap=st.integers(1, 4))
    def breaches_again(self, gap: int) -> None:
        """A breach counts, and never calms."""
        self.point += gap
        verdict = breach(self.point)
        self.breaches.append(verdict.at)
        self.known_breaches += 1
        self.calm_in_a_row = 0
        before = self.alert.state
        self.step(verdict)
        assert self.alert.state in (PENDING, FIRING, PROBATION)
        if before is FIRING:
            assert self.alert.state is FIRING

    @rule(gap=st.integers(1, 4), cleared=st.sampled_from([True, False, None]), recovered=st.booleans())
    def is_calm(self, gap: int, cleared: bool | None, recovered: bool) -> None:
        """Calm never starts a new breach; only silence after a rollback makes it fire."""
        self.point += gap
        self.known_breaches = 0
        self.calm_in_a_row = self.calm_in_a_row + 1 if cleared else 0
        moved = self.step(calm(self.point, cleared=cleared, recovered=recovered))
        if moved is not None and moved.after is FIRING:
            assert moved.reason == "suppressed, not recovered"
        if moved is not None and moved.reason == "the rule has cleared":
            assert cleared is True

    @rule(gap=st.integers(1, 50))
    def is_blind(self, gap: int) -> None:
        """UNKNOWN moves nothing, but for probation, whose time runs out."""
        self.point += gap
        before = self.alert
        moved = self.step(blind(self.point))
        if moved is not None:
            assert before.state is PROBATION
            assert moved.reason == "suppressed, not recovered"
        assert self.alert.held == (Held() if moved else before.held)
        assert self.alert.onset == before.onset

    @rule(back=st.integers(1, 10))
    def is_rolled_back(self, back: int) -> None:
        """A rollback resolves nothing and fires nothing."""
        before = self.alert.state
        self.point = max(0, self.point - back)
        self.known_breaches = self.calm_in_a_row = 0
        self.alert, _ = rewound(self.alert, at(self.point))
        assert self.alert.state is {PENDING: INACTIVE, FIRING: PROBATION, RECOVERING: PROBATION}.get(
            before, before
        )

    @invariant()
    def an_alert_in_trouble_knows_its_beginning(self) -> None:
        """The onset is a breach that was seen, and none later than where it fired."""
        if self.alert.state in (PENDING, FIRING, RECOVERING, PROBATION):
            assert self.alert.onset in self.breaches
        if self.alert.state is FIRING and self.alert.probation_since is None:
            assert self.alert.fired is not None
            assert self.alert.onset is not None
            assert self.alert.onset.points <= self.alert.fired.points

    @invariant()
    def a_pending_alert_has_not_held_long_enough(self) -> None:
        """Else it would be firing; and what it held are points of breach that were known."""
        if self.alert.state is PENDING:
            assert 1 <= self.alert.held.points < 3
            assert self.known_breaches >= 1


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
