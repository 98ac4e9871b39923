"""An alert's life against a plain model of it, step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rules.alert import Alert, AlertState, Held, Timing, Transition, advance, rewound
from rules.verdict import Condition, Mark, Verdict

OK, BREACH, UNKNOWN = Condition.OK, Condition.BREACH, Condition.UNKNOWN
RESTING = (AlertState.INACTIVE, AlertState.RESOLVED)


def mark(n: int, seconds: float = 10.0) -> Mark:
    """The n-th point of a series logged every 100 steps and 10 seconds."""
    return Mark(100 * n, seconds * n, n, 100 * n)


def verdict(
    condition: Condition, n: int, *, cleared: bool | None = None, recovered: bool | None = None
) -> Verdict:
    clear = cleared if cleared is not None or condition is UNKNOWN else condition is OK
    return Verdict(condition, clear, recovered, float(n), 50.0, mark(n))


def live(
    letters: str, timing: Timing | None = None, alert: Alert | None = None, begin: int = 1
) -> list[Alert]:
    """Lead an alert through `B`reaches, calm `.`, `h`ysteresis (neither), unknown `?`; one letter a point."""
    alert = alert or Alert("r")
    seen = []
    for n, letter in enumerate(letters, begin):
        cleared = False if letter == "h" else None
        condition = {"B": BREACH, ".": OK, "h": OK, "?": UNKNOWN}[letter]
        alert, _ = advance(alert, verdict(condition, n, cleared=cleared), timing or Timing())
        seen.append(alert)
    return seen


def states(letters: str, timing: Timing | None = None) -> str:
    """The first letters of the states: i, p, f, r(ecovering), P(robation), R(esolved)."""
    short = {AlertState.PROBATION: "P", AlertState.RESOLVED: "R"}
    return "".join(short.get(a.state, a.state.value[0]) for a in live(letters, timing))


@pytest.mark.parametrize(
    ("letters", "hold", "keep", "expected"),
    [
        ("B", (0, "points"), (0, "points"), "f"),
        ("B", (1, "points"), (0, "points"), "f"),
        ("BBB", (3, "points"), (0, "points"), "ppf"),
        ("BB.BB", (3, "points"), (0, "points"), "ppipp"),
        ("B?B?B", (3, "points"), (0, "points"), "ppppf"),
        ("BBB", (200, "steps"), (0, "points"), "ppf"),
        ("BBBB", (25, "seconds"), (0, "points"), "pppf"),
        ("B....", (0, "points"), (3, "points"), "frrRR"),
        ("B..B..", (0, "points"), (3, "points"), "frrfrr"),
        ("B..h..", (0, "points"), (3, "points"), "frrrrr"),
        ("B..h...", (0, "points"), (3, "points"), "frrrrrR"),
        ("B.?.?.", (0, "points"), (3, "points"), "frrrrR"),
        ("B....", (0, "points"), (25, "seconds"), "frrrR"),
        ("Bhhh.", (0, "points"), (0, "points"), "ffffR"),
        ("B.B", (0, "points"), (0, "points"), "fRf"),
    ],
)
def test_the_life_of_an_alert(
    letters: str, hold: tuple[float, str], keep: tuple[float, str], expected: str
) -> None:
    """`for` before it fires, `keep_firing_for` before it resolves; unknown moves nothing."""
    assert states(letters, Timing(hold, keep)) == expected


def test_time_in_the_dark_does_not_count_towards_for() -> None:
    """Ten minutes without a known answer are not ten minutes of breach."""
    timing = Timing(hold=(60, "seconds"))
    dark = live("B" + "?" * 60 + "B", timing)
    assert dark[-1].state is AlertState.PENDING
    assert dark[-1].held.seconds == 0
    assert live("B" * 7, timing)[-1].state is AlertState.FIRING


def test_onset_is_the_first_breach_and_each_episode_has_its_number() -> None:
    """A rollback goes back before the first breach of the present episode, not of an earlier one."""
    timing = Timing(hold=(2, "points"))
    first, *_, last = live("BBB..BB", timing)
    assert first.onset == mark(1)
    assert (first.number, last.number) == (1, 2)
    assert (last.onset, last.fired) == (mark(6), mark(7))


def test_a_breach_that_is_also_clear_is_a_breach() -> None:
    """`expr` may hold by one of its parts while `clear` looks at another: that is no calm."""
    alert = live("B")[-1]
    for n in range(2, 6):
        alert, moved = advance(alert, verdict(BREACH, n, cleared=True), Timing())
        assert (alert.state, moved) == (AlertState.FIRING, None)


def test_a_clear_that_is_not_known_is_no_end_of_the_calm() -> None:
    """`clear` may look at a series that is silent for a while; what is unknown moves nothing."""
    timing = Timing(keep=(3, "points"))
    alert = live("B..", timing)[-1]
    alert, moved = advance(alert, Verdict(OK, None, None, 1.0, 2.0, mark(4)), timing)
    assert (alert.state, moved) == (AlertState.RECOVERING, None)
    alert, moved = advance(alert, verdict(OK, 5), timing)
    assert alert.state is AlertState.RESOLVED


def on_probation(timing: Timing) -> Alert:
    """Fired at point 20, rolled back to point 10."""
    alert = live("B", timing, begin=20)[-1]
    alert, moved = rewound(alert, mark(10))
    assert moved is not None
    assert moved.after is AlertState.PROBATION
    return alert


def test_a_rewind_forgets_what_was_pending_and_puts_on_probation_what_fired() -> None:
    """A rollback proves nothing yet."""
    timing = Timing(hold=(3, "points"))
    pending, moved = rewound(live("BB", timing)[-1], mark(1))
    assert moved is not None
    assert (pending.state, pending.onset, pending.held) == (AlertState.INACTIVE, None, Held())
    for letters in ("BBB", "BBB."):
        alert = live(letters, Timing((3, "points"), (9, "points")))[-1]
        assert rewound(alert, mark(1))[0].state is AlertState.PROBATION
    for alert in (Alert("r"), live("B.")[-1]):
        after, moved = rewound(alert, mark(1))
        assert (after.state, moved) == (alert.state, None)


def test_recovered_ends_probation_only_past_the_step_at_which_it_had_fired() -> None:
    """Before that step even the sick run looked well."""
    timing = Timing(within=(3000, "steps"))
    alert = on_probation(timing)
    alert, moved = advance(alert, verdict(OK, 19, recovered=True), timing)
    assert (alert.state, moved) == (AlertState.PROBATION, None)
    alert, moved = advance(alert, verdict(OK, 20, recovered=True), timing)
    assert moved is not None
    assert (alert.state, moved.reason) == (AlertState.RESOLVED, "recovered")


@pytest.mark.parametrize("condition", [OK, UNKNOWN])
def test_an_alarm_that_only_fell_silent_fires_when_its_time_is_over(condition: Condition) -> None:
    """Suppressed, not recovered: in the dark too, for a dead agent may log nothing."""
    timing = Timing(within=(500, "steps"))
    alert = on_probation(timing)
    alert, moved = advance(alert, verdict(condition, 14), timing)
    assert (alert.state, moved) == (AlertState.PROBATION, None)
    alert, moved = advance(alert, verdict(condition, 15), timing)
    assert moved is not None
    assert (alert.state, moved.reason) == (AlertState.FIRING, "suppressed, not recovered")
    assert alert.number == 1
    alert, moved = advance(alert, verdict(OK, 16), timing)
    assert (alert.state, moved) == (AlertState.FIRING, None)
    alert, moved = advance(alert, verdict(OK, 17, recovered=True), timing)
    assert alert.state is AlertState.RESOLVED


def test_a_rule_that_breaches_again_on_probation_fires_with_a_new_onset_and_its_old_number() -> None:
    """It is the same story; but the next rollback goes before where it began this time."""
    timing = Timing(hold=(2, "points"), within=(3000, "steps"))
    alert = on_probation(Timing(within=(3000, "steps")))
    alert, moved = advance(alert, verdict(BREACH, 12), timing)
    assert (alert.state, moved) == (AlertState.PROBATION, None)
    alert, moved = advance(alert, verdict(BREACH, 13), timing)
    assert moved is not None
    assert (alert.state, alert.number) == (AlertState.FIRING, 1)
    assert (alert.onset, alert.fired, alert.probation_since) == (mark(12), mark(13), None)


def test_without_a_recovery_condition_probation_ends_with_the_rules_own_calm() -> None:
    """A ladder that does not say what recovery is gets the ordinary one."""
    timing = Timing(keep=(2, "points"))
    alert = on_probation(timing)
    alert, moved = advance(alert, verdict(OK, 11), timing)
    assert (alert.state, moved) == (AlertState.PROBATION, None)
    alert, moved = advance(alert, verdict(OK, 12), timing)
    assert moved is not None
    assert (alert.state, moved.reason) == (AlertState.RESOLVED, "the rule has cleared")


verdicts = st.tuples(
    st.sampled_from([OK, BREACH, UNKNOWN]),
    st.sampled_from([None, False, True]),
    st.booleans(),
    st.integers(1, 4),
)
amounts = st.tuples(st.integers(0, 6), st.sampled_from(["points", "steps", "seconds"]))


class Life(RuleBasedStateMachine):
    """Any sequence of verdicts and rewinds; the invariants are what every other part relies on."""

    def __init__(self) -> None:
        super().__init__()
        self.alert = Alert("r")
        self.timing = Timing()
        self.n = 0
        self.before: Alert | None = None
        self.told: Transition | None = None
        self.breached_since_rest = False

    @precondition(lambda self: self.n == 0)
    @rule(hold=amounts, keep=amounts, within=st.none() | amounts)
    def configure(self, hold: tuple[int, str], keep: tuple[int, str], within: tuple[int, str] | None) -> None:
        self.timing = Timing(hold, keep, within)

    @rule(what=verdicts)
    def judge(self, what: tuple[Condition, bool | None, bool, int]) -> None:
        condition, cleared, recovered, gap = what
        self.n += gap
        given = Verdict(condition, cleared, recovered, 1.0, 2.0, Mark(self.n, float(self.n), self.n, self.n))
        self.before = self.alert
        self.alert, self.told = advance(self.alert, given, self.timing)
        before, after, told = self.before, self.alert, self.told
        if condition is UNKNOWN:
            moves = told is not None
            assert not moves or (before.probation_since is not None and self.timing.within is not None)
            if not moves:
                assert replace(after, blind=before.blind) == before
        if condition is BREACH:
            assert after.state not in RESTING
            assert after.state is not AlertState.RECOVERING
        if after.number != before.number:
            assert before.state in RESTING
            assert after.number == before.number + 1
            assert after.onset == given.at
        if after.state is AlertState.FIRING and before.state is not AlertState.FIRING:
            assert after.fired == given.at or before.state is AlertState.RECOVERING
        if before.state is AlertState.PROBATION and after.state is AlertState.RESOLVED and self.timing.within:
            assert told is not None
            assert recovered
            assert told.reason == "recovered"

    @rule(back=st.integers(0, 10))
    def rewind(self, back: int) -> None:
        to = max(0, self.n - back)
        self.before = self.alert
        self.alert, self.told = rewound(self.alert, Mark(to, float(self.n), to, to))
        self.n = to
        assert self.alert.state in (*RESTING, AlertState.PROBATION)
        assert self.alert.number == self.before.number

    @invariant()
    def a_transition_is_a_change_of_state_and_nothing_else_is(self) -> None:
        if self.before is None:
            return
        changed = self.before.state is not self.alert.state
        assert (self.told is not None) == changed
        if self.told is not None:
            assert (self.told.before, self.told.after) == (self.before.state, self.alert.state)

    @invariant()
    def what_is_not_at_rest_has_an_onset(self) -> None:
        if self.alert.state not in RESTING:
            assert self.alert.onset is not None
            assert self.alert.number > 0


TestLife = Life.TestCase


@given(st.lists(st.sampled_from("BB?.h"), min_size=4, max_size=30), amounts, amounts)
def test_leaving_out_the_unknown_answers_changes_no_state(
    letters: list[str], hold: tuple[int, str], keep: tuple[int, str]
) -> None:
    """Counted in points, a life in which some answers were unknown is the life without them."""
    timing = Timing((hold[0], "points"), (keep[0], "points"))
    whole = [a for a, letter in zip(live("".join(letters), timing), letters, strict=True) if letter != "?"]
    known = live("".join(x for x in letters if x != "?"), timing)
    assert [(a.state, a.number) for a in whole] == [(a.state, a.number) for a in known]
