"""A command that is one signal: sent once, never twice, and its receipt is what can be seen."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.actuator import Patience, Pending, Receipt, Signal, State, advance, intend, resume, unsent
from sentinel.control import Letter
from sentinel.process import Liveness, myself

PATIENCE = Patience(ack=30, work=600, grace=20)
ALIVE, GONE, UNKNOWN = Liveness.ALIVE, Liveness.GONE, Liveness.UNKNOWN


def letter(verb: Any = "checkpoint", by: str = "SIGUSR1") -> Letter:
    return Letter(1, verb, 0, issued_at=0, expires_at=60, trainer=myself(), by_signal=by)


def sent(verb: str = "checkpoint", by: str = "SIGUSR1") -> tuple[Pending, list[Signal]]:
    pending, effects = advance(intend(letter(verb, by), 0, 0), None, ALIVE, 1, PATIENCE)
    return pending, [effect for effect in effects if isinstance(effect, Signal)]


def seen(step: int = 5) -> Receipt:
    return Receipt(1, "done", None, None, 9.0, f"checkpoint-{step}", step, "")


def test_a_checkpoint_is_one_signal_and_done_when_it_is_seen() -> None:
    """No letter, no bell, no second ring."""
    pending, effects = sent()
    assert [(e.signum, e.asks) for e in effects] == [(signal.SIGUSR1, True)]
    assert advance(pending, None, ALIVE, 500, PATIENCE) == (pending, ())
    done, effects_after = advance(pending, seen(), ALIVE, 500, PATIENCE)
    assert (done.state, effects_after) == (State.DONE, ())
    assert done.receipt is not None
    assert done.receipt.checkpoint_step == 5


def test_no_checkpoint_in_time_costs_the_job_nothing() -> None:
    """It is said, and that is all."""
    pending, _ = sent()
    after, effects = advance(pending, None, ALIVE, 602, PATIENCE)
    assert (after.state, effects) == (State.UNANSWERED, ())
    assert "no new verified checkpoint within 600 s" in after.reason


def test_after_a_restart_nothing_is_sent_again() -> None:
    """Whether the signal left before the crash cannot be known; a second one would be a second command."""
    for verb in ("checkpoint", "terminate"):
        pending = resume(letter(verb), State.SENT, 1000, 50)
        assert advance(pending, None, ALIVE, 1019, PATIENCE) == (pending, ())
    fresh = resume(letter(), State.INTENDED, 1000, 50)
    _, effects = advance(fresh, None, ALIVE, 1001, PATIENCE)
    assert len(effects) == 1, "what was only meant is sent"


def test_an_end_that_does_not_come_is_forced() -> None:
    """As for every job: SIGCONT and SIGTERM, then SIGKILL, each after its time."""
    pending, effects = sent("terminate", "SIGUSR2")
    assert [e.signum for e in effects] == [signal.SIGUSR2]
    assert advance(pending, None, ALIVE, 20, PATIENCE) == (pending, ()), "it has its grace"
    stopping, forced = advance(pending, None, ALIVE, 21, PATIENCE)
    assert stopping.reason == "SIGUSR2 sent, but no end of the process within 20 s"
    assert [e.signum for e in forced if isinstance(e, Signal)] == [signal.SIGCONT, signal.SIGTERM]
    killing, killed = advance(stopping, None, ALIVE, 41, PATIENCE)
    assert [e.signum for e in killed if isinstance(e, Signal)] == [signal.SIGKILL]
    ended, _ = advance(killing, None, GONE, 42, PATIENCE)
    assert ended.state is State.DONE


def test_a_process_that_ended_has_done_what_was_asked_or_cannot() -> None:
    """Its end is what terminate asked for."""
    pending, _ = sent("terminate", "SIGTERM")
    assert advance(pending, None, GONE, 2, PATIENCE)[0].state is State.DONE
    pending, _ = sent()
    assert advance(pending, None, GONE, 2, PATIENCE)[0].state is State.FAILED


def test_what_could_not_be_sent_is_refused() -> None:
    """No handler, another user: the reason is the kernel's or ours. An end goes on by SIGTERM."""
    pending, _ = sent()
    refused, effects = unsent(pending, "it would be killed", ALIVE, 2)
    assert (refused.state, refused.reason, effects) == (State.REFUSED, "it would be killed", ())
    pending, _ = sent("terminate", "SIGUSR2")
    stopping, effects = unsent(pending, "it would be killed", ALIVE, 2)
    assert stopping.state is State.STOPPING
    assert len(effects) == 2
    done = replace(pending, state=State.DONE)
    assert unsent(done, "x", ALIVE, 2) == (done, ())


def test_nothing_is_sent_to_who_cannot_be_seen() -> None:
    """Another host, or nobody."""
    after, effects = advance(intend(letter(), 0, 0), None, UNKNOWN, 1, PATIENCE)
    assert (after.state, effects) == (State.REFUSED, ())


@given(
    st.sampled_from(["checkpoint", "terminate"]),
    st.lists(
        st.tuples(
            st.floats(0, 400),
            st.sampled_from([ALIVE, ALIVE, ALIVE, ALIVE, UNKNOWN, GONE]),
            st.sampled_from([False, False, False, True]),
            st.booleans(),
        ),
        max_size=12,
    ),
)
@settings(max_examples=200)
def test_the_signal_itself_leaves_at_most_once(
    verb: str, history: list[tuple[float, Liveness, bool, bool]]
) -> None:
    """Whatever happens, restarts of the sentinel included; and only terminate ever forces."""
    pending, now, asked, forced = intend(letter(verb), 0, 0), 0.0, 0, 0
    for wait, liveness, receipt, restart in history:
        now += wait
        if restart and not pending.state.settled:
            pending = resume(pending.letter, pending.state, now, 0)
        pending, effects = advance(pending, seen() if receipt else None, liveness, now, PATIENCE)
        signals = [effect for effect in effects if isinstance(effect, Signal)]
        assert len(signals) == len(effects), "no letter and no ring"
        asked += sum(effect.asks for effect in signals)
        forced += sum(not effect.asks for effect in signals)
    assert asked <= 1
    assert forced == 0 or verb == "terminate"
