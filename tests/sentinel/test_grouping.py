"""Groups: who waits for whom, who does not, and why people are told; against small models."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sentinel.grouping import GRAVE, Group, Policy, Reason, Sent, Told, Waiting, batches, due, why_notify

POLICY = Policy(wait=30.0, interval=300.0, repeat=14_400.0)
NAMES = st.frozensets(st.sampled_from("abcd"))
SEVERITY = st.sampled_from(["info", "warning", "critical", "fatal"])


def story(
    thread: str, severity: str = "warning", run: str = "r", rule: str = "x", due: float = 0.0
) -> Waiting:
    return Waiting(thread, f"run={run}", run, rule, severity, due)


def test_the_reasons_come_in_alertmanagers_order() -> None:
    """The table of its `needsUpdate`."""
    told = Told(frozenset("ab"), frozenset(), 0.0)
    cases = [
        (Group(frozenset("a")), None, 0, Reason.FIRST),
        (Group(frozenset(), frozenset("a")), None, 0, Reason.NOTHING),
        (Group(frozenset("abc"), frozenset("d")), told, 0, Reason.NEW_ALERTS),
        (Group(frozenset(), frozenset("ab")), told, 0, Reason.ALL_RESOLVED),
        (Group(frozenset("a"), frozenset("b")), told, 0, Reason.NEW_RESOLVED),
        (Group(frozenset("ab")), told, 14_399, Reason.NOTHING),
        (Group(frozenset("ab")), told, 14_400, Reason.REPEAT),
        (Group(frozenset(), frozenset("a")), Told(frozenset(), frozenset("a"), 0.0), 99_999, Reason.NOTHING),
    ]
    for group, before, now, reason in cases:
        assert why_notify(group, before, now, 14_400) is reason


@given(st.lists(st.tuples(NAMES, st.floats(0, 20_000)), max_size=12))
def test_who_follows_the_reasons_knows_what_fires(flushes: list[tuple[frozenset[str], float]]) -> None:
    """At each flush people are told unless they know all of it; and what goes on is not told more often than
    each `repeat`.
    """
    told: Told | None = None
    now, was = 0.0, frozenset[str]()
    for firing, passed in flushes:
        now += passed
        group = Group(firing, was - firing)
        reason = why_notify(group, told, now, 14_400)
        knows = told is not None and firing == told.firing
        if reason is Reason.NOTHING:
            assert knows or (not firing and (told is None or not told.firing))
        elif reason is Reason.REPEAT:
            assert told is not None
            assert knows
            assert now - told.at >= 14_400
        else:
            assert not knows or not group.resolved <= (told.resolved if told else frozenset())
        assert (reason is Reason.FIRST) == (told is None and bool(firing))
        if reason is not Reason.NOTHING:
            told = Told(firing, group.resolved, now)
        was = firing


def test_the_first_critical_goes_at_once_and_what_follows_it_waits_together() -> None:
    """Twenty runs that die of one cause are one message and another, not twenty."""
    first = story("a", "critical", run="1")
    assert due(first, [], POLICY, 100.0) == 100.0
    past = [Sent("run=1", "x", "critical", 100.0)]
    assert due(story("b", "critical", run="2"), past, POLICY, 101.0) == 130.0  # the same rule
    assert due(story("c", "critical", run="1", rule="y"), past, POLICY, 101.0) == 130.0  # the same run
    assert due(story("d", "critical", run="2", rule="y"), past, POLICY, 101.0) == 101.0  # of its own
    assert due(story("e", "critical", run="2"), past, POLICY, 131.0) == 131.0


def test_a_warning_waits_for_its_group() -> None:
    """`group_wait` where it is the first, `group_interval` after its group was told."""
    assert due(story("a"), [], POLICY, 100.0) == 130.0
    past = [Sent("run=r", "x", "critical", 100.0)]
    assert due(story("a"), past, POLICY, 101.0) == 400.0
    assert due(story("a", run="s"), past, POLICY, 101.0) == 131.0
    assert due(story("a"), past, POLICY, 401.0) == 431.0


def test_a_critical_takes_along_what_waits_in_its_run() -> None:
    """One message, the gravest first."""
    waiting = [story("w", due=30.0), story("c", "critical", rule="y"), story("other", run="s", due=30.0)]
    assert [[s.thread for s in batch] for batch in batches(waiting, POLICY, 0.0)] == [["c", "w"]]


def test_one_rule_in_three_runs_is_one_message() -> None:
    """A disk that is full, a node that is lost; what else waits in those runs stays with its run."""
    waiting = [story(run, run=run) for run in "abc"] + [story("a2", run="a", rule="y")]
    assert [[s.thread for s in b] for b in batches(waiting, POLICY, 0.0)] == [["a", "b", "c"], ["a2"]]
    two = [story(run, run=run) for run in "ab"]
    assert [[s.thread for s in b] for b in batches(two, POLICY, 0.0)] == [["a"], ["b"]]


STORIES = st.lists(
    st.builds(
        lambda severity, run, rule, at: Waiting("", f"run={run}", run, rule, severity, at),
        SEVERITY,
        st.sampled_from("abcd"),
        st.sampled_from(["x", "y"]),
        st.floats(0, 100),
    ),
    max_size=10,
)


@given(STORIES, st.floats(0, 100))
def test_everything_that_is_due_is_in_exactly_one_message(stories: list[Waiting], now: float) -> None:
    """And the gravest comes first, in a message and among them."""
    waiting = [replace(each, thread=str(i)) for i, each in enumerate(stories)]
    made = batches(waiting, POLICY, now)
    told = [each.thread for batch in made for each in batch]
    assert len(told) == len(set(told))
    assert {each.thread for each in waiting if each.due <= now} <= set(told)
    order = ["fatal", "critical", "warning", "info"]
    for batch in [*made, [batch[0] for batch in made]]:
        ranks = [order.index(each.severity) for each in batch]
        assert ranks == sorted(ranks)


@given(
    st.lists(
        st.tuples(st.floats(0, 400), SEVERITY, st.sampled_from("ab"), st.sampled_from("xy")), max_size=12
    )
)
def test_a_critical_never_waits_longer_than_the_group_wait(
    arrivals: list[tuple[float, str, str, str]],
) -> None:
    """Whatever came before it; and a warning never longer than the interval."""
    now, past = 0.0, list[Sent]()
    for gap, severity, run, rule in arrivals:
        now += gap
        at = due(story("t", severity, run, rule), past, POLICY, now)
        assert now <= at <= now + (POLICY.wait if severity in GRAVE else POLICY.interval)
        past.append(Sent(f"run={run}", rule, severity, at))
