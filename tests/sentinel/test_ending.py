"""A job's processes are ended gently first, by force only after the grace, and never once nobody is left."""

from __future__ import annotations

import signal

from hypothesis import given
from hypothesis import strategies as st

from sentinel.ending import Phase, begin, step

GRACE = 30.0


def test_it_goes_on_while_somebody_is_left() -> None:
    """SIGCONT and SIGTERM at once, SIGKILL after the grace, then it is said that they outlive it."""
    ending = begin(100.0, asked=False)
    sent = []
    for now in (100.0, 100.5, 129.9, 130.0, 130.5, 160.0, 300.0):
        ending, signals = step(
            ending, left=True, being_asked=False, now=now, grace=GRACE, gentle=signal.SIGTERM
        )
        sent.append((now, signals))
    assert [each for each in sent if each[1]] == [
        (100.0, (signal.SIGCONT, signal.SIGTERM)),
        (130.0, (signal.SIGKILL,)),
    ]
    assert ending.phase is Phase.OUTLIVED


def test_who_was_asked_is_given_time() -> None:
    """A letter without an outcome is waited for; after it the grace begins."""
    ending = begin(0.0, asked=True)
    for now in (0.0, 100.0, 600.0):
        ending, signals = step(
            ending, left=True, being_asked=True, now=now, grace=GRACE, gentle=signal.SIGTERM
        )
        assert signals == ()
    ending, signals = step(
        ending, left=True, being_asked=False, now=629.0, grace=GRACE, gentle=signal.SIGTERM
    )
    assert signals == ()
    _, signals = step(ending, left=True, being_asked=False, now=630.0, grace=GRACE, gentle=signal.SIGTERM)
    assert signals == (signal.SIGCONT, signal.SIGTERM)


@given(
    st.booleans(),
    st.lists(st.tuples(st.floats(0, 40), st.booleans(), st.booleans()), max_size=40),
)
def test_force_follows_only_on_a_gentle_signal_and_its_grace(
    asked: bool, looks: list[tuple[float, bool, bool]]
) -> None:
    """Whatever happens in between; and nothing is sent to nobody."""
    now, gently = 0.0, None
    ending = begin(now, asked=asked)
    for after, left, being_asked in looks:
        now += after
        ending, signals = step(
            ending, left=left, being_asked=being_asked, now=now, grace=GRACE, gentle=signal.SIGTERM
        )
        assert left or not signals
        if signal.SIGKILL in signals:
            assert gently is not None
            assert now - gently >= GRACE
        if signal.SIGTERM in signals:
            gently = now
