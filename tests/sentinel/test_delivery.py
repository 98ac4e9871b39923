"""What a channel sends next, and when: a fake clock, no threads."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.base import DeliveryError, Permanent, Transient
from notifier.contract import sample
from notifier.plot import Line, Plot
from sentinel.delivery import (
    FIRST_DELAY,
    FRESH_DELAY,
    LONGEST_DRAWN,
    MAX_DELAY,
    MOST_DRAWN,
    Delivered,
    Failed,
    Job,
    Lane,
    Postponed,
    Result,
    Row,
)


def row(number: int, thread: str = "", severity: str = "critical", kind: str = "opened") -> Row:
    message = replace(sample(kind, severity), key=f"k{number}", thread=thread or f"t{number}")
    return Row(number, "slack", message)


def lane(jitter: float = 0.0) -> Lane:
    return Lane("slack", lambda: jitter)


def take(queue: Lane, now: float = 0.0) -> Job:
    job = queue.next(now)
    assert isinstance(job, Job), f"nothing to do now: {job}"
    return job


def deliver(queue: Lane, ref: str | None = "r", now: float = 0.0) -> list[Result]:
    job = take(queue, now)
    return queue.settle(job, ref if job.verb == "send" else None, None, now)


def fail(queue: Lane, error: DeliveryError, now: float = 0.0) -> list[Result]:
    return queue.settle(take(queue, now), None, error, now)


def test_a_row_is_sent_and_settled() -> None:
    """The thinnest path."""
    queue = lane()
    assert queue.add(row(1)) is None
    assert deliver(queue, "C:1") == [Result(1, "slack", Delivered("C:1"))]
    assert queue.next(0.0) is None
    assert len(queue) == 0


def test_a_reply_waits_until_its_story_has_a_reference() -> None:
    """Sent at once it would stand in the channel as a story of its own."""
    queue = lane()
    queue.add(row(1, "story"))
    queue.add(row(2, "story", kind="closed"))
    first = take(queue)
    assert queue.next(0.0) is None
    queue.settle(first, "C:1", None, 0.0)
    assert (take(queue).row.id, take_ref(queue)) == (2, "C:1")


def take_ref(queue: Lane) -> str | None:
    """The reference that the job under way was given."""
    [entries] = queue._threads.values()
    return queue._job(entries[0]).ref


def test_a_reply_is_followed_by_an_edit_of_the_first_message() -> None:
    """The row is settled when both are done, so that a crash between repeats rather than forgets."""
    queue = lane()
    queue.add(row(1, "story"))
    deliver(queue, "C:1")
    queue.add(row(2, "story", kind="closed"))
    assert deliver(queue, "C:2") == []
    edit = take(queue)
    assert (edit.verb, edit.ref, edit.message.state) == ("edit", "C:1", "recovered")
    assert edit.message.happened == row(1).message.happened
    assert queue.settle(edit, None, None, 0.0) == [Result(2, "slack", Delivered("C:2"))]


def test_edits_of_a_story_that_goes_on_are_merged() -> None:
    """Three changes at once are three replies and one edit: the last says it all."""
    queue = lane()
    for number, kind in enumerate(("opened", "update", "closed"), start=1):
        queue.add(row(number, "story", kind=kind))
    jobs = []
    while (job := queue.next(0.0)) is not None:
        assert isinstance(job, Job)
        jobs.append((job.row.id, job.verb))
        queue.settle(job, "C:1" if job.verb == "send" else None, None, 0.0)
    assert jobs == [(1, "send"), (2, "send"), (3, "send"), (3, "edit")]


def test_after_a_restart_the_story_goes_on_where_it_was() -> None:
    """The journal knows the first message and its reference; this process does not."""
    queue = lane()
    opened = row(1, "story").message
    queue.add(replace(row(2, "story", kind="update"), thread_ref="C:1", first=opened))
    assert take(queue).ref == "C:1"
    queue.settle(Job(row(2, "story"), "send", opened, "C:1"), "C:2", None, 0.0)
    edit = take(queue)
    assert (edit.verb, edit.ref, edit.message.happened) == ("edit", "C:1", opened.happened)


def test_an_edit_that_is_refused_does_not_unsend_the_message() -> None:
    """The news was told; what went wrong beside it is a note."""
    queue = lane()
    queue.add(replace(row(2, "story", kind="closed"), thread_ref="C:1"))
    deliver(queue, "C:2")
    [result] = fail(queue, Permanent("slack: chat.update: edit_window_closed"))
    assert result.outcome == Delivered(
        "C:2", "the first message could not be edited: slack: chat.update: edit_window_closed"
    )


def test_an_edit_is_tried_again_without_sending_again() -> None:
    """A rate limit between reply and edit must not double the reply."""
    queue = lane()
    queue.add(replace(row(2, "story", kind="closed"), thread_ref="C:1"))
    deliver(queue, "C:2")
    fail(queue, Transient("rate limit", 5))
    job = take(queue, 10.0)
    assert job.verb == "edit"
    assert queue.settle(job, None, None, 10.0) == [Result(2, "slack", Delivered("C:2"))]


def test_a_story_whose_beginning_is_refused_begins_with_the_next_message() -> None:
    """One message that Slack will not take must not silence the rest of its story."""
    queue = lane()
    queue.add(row(1, "story"))
    queue.add(row(2, "story", kind="closed"))
    assert fail(queue, Permanent("msg_too_long")) == [
        Result(1, "slack", Failed("msg_too_long", channel_dead=False))
    ]
    assert take(queue).ref is None


def test_waiting_doubles_and_is_capped() -> None:
    """1, 2, 4 … 300 seconds: quick at first, and never more than five minutes on our own account."""
    queue = lane()
    queue.add(row(1))
    now, waits = 0.0, []
    for _ in range(12):
        [result] = fail(queue, Transient("down"), now)
        assert isinstance(result.outcome, Postponed)
        waits.append(result.outcome.retry_at - now)
        assert queue.next(result.outcome.retry_at - 0.01) == result.outcome.retry_at
        now = result.outcome.retry_at
    assert waits == [min(MAX_DELAY, FIRST_DELAY * 2**n) for n in range(12)]


def test_what_the_other_side_asks_for_is_kept() -> None:
    """Retry-After is a floor, also where it is longer than our own longest wait; jitter only adds."""
    queue = lane(jitter=0.999)
    queue.add(row(1))
    fail(queue, Transient("rate limit", 1000))
    again = queue.next(0.0)
    assert isinstance(again, float)
    assert 1000 <= again < 1001


def test_jitter_spreads_retries() -> None:
    """Ten sentinels that lost the same Slack must not come back in the same instant."""
    ends = []
    for jitter in (0.0, 0.5, 0.99):
        queue = lane(jitter)
        queue.add(row(1))
        fail(queue, Transient("down"))
        ends.append(queue.next(0.0))
    assert ends == [1.0, 1.25, 1.495]


def test_a_message_that_always_fails_holds_up_only_its_story() -> None:
    """The channel recovers with its first success; the bad message waits ever longer, alone."""
    queue = lane()
    queue.add(row(1, "bad"))
    queue.add(row(2, "good"))
    now, settled = 0.0, []
    while now < 60:
        job = queue.next(now)
        if isinstance(job, float):
            now = job
        elif job is None:
            break
        elif job.row.id == 1:
            queue.settle(job, None, Transient("internal_error"), now)
        else:
            settled.append((job.row.id, now))
            queue.settle(job, "C:2", None, now)
    assert settled == [(2, 1.0)]
    assert len(queue) == 1


def test_a_message_that_always_fails_is_tried_ever_more_rarely() -> None:
    """On a channel that works for all others it costs a call now and then, and delays nobody for long."""
    queue = lane()
    queue.add(row(1, "bad", severity="fatal"))
    tries, waits = [], []
    for second in range(600):
        queue.add(row(2 + second, severity="info"))
        while isinstance(job := queue.next(float(second)), Job):
            if job.row.id == 1:
                tries.append(second)
                queue.settle(job, None, Transient("internal_error"), float(second))
            else:
                waits.append(second - (job.row.id - 2))
                queue.settle(job, "C:1", None, float(second))
    assert len(tries) <= 11
    assert max(waits) <= 2


def test_a_fresh_alarm_does_not_wait_for_the_back_off_of_another() -> None:
    """One bad message alone in the queue looks like a dead channel; new ones find out within seconds."""
    queue = lane()
    queue.add(row(1, "bad"))
    now = 0.0
    for _ in range(12):
        fail(queue, Transient("internal_error"), now)
        now = float(queue.next(now) or 0)  # type: ignore[arg-type]  # nothing can be ready, so it is a time
    began = now - MAX_DELAY
    queue.add(row(2, "good"))
    assert queue.next(began + 1) == began + FRESH_DELAY
    assert take(queue, began + FRESH_DELAY).row.id == 2


def test_after_an_outage_all_goes_out_at_once_and_the_gravest_first() -> None:
    """An hour of failures leaves nobody with an hour's back-off of his own."""
    queue = lane()
    for number, severity in enumerate(("warning", "critical", "warning"), start=1):
        queue.add(row(number, severity=severity))
    now = 0.0
    while now < 3600:
        job = queue.next(now)
        if isinstance(job, float):
            now = job
        else:
            assert job is not None
            queue.settle(job, None, Transient("down"), now)
    order = []
    while isinstance(job := queue.next(now), Job):
        order.append(job.row.id)
        queue.settle(job, "C:1", None, now)
    assert sorted(order) == [1, 2, 3]
    assert order.index(2) <= 1


def test_a_flood_of_warnings_does_not_starve_a_critical() -> None:
    """The gravest story goes first, whenever it came; among equals the oldest."""
    queue = lane()
    for number in range(1, 100):
        queue.add(row(number, severity="warning"))
    queue.add(row(100, severity="fatal"))
    queue.add(row(101, severity="critical"))
    order = []
    for _ in range(4):
        order.append(take(queue).row.id)
        queue._busy = None
        del queue._threads[f"t{order[-1]}"]
    assert order == [100, 101, 1, 2]


def test_a_dead_channel_says_so_for_every_row() -> None:
    """What waited and what comes later gets the reason at once, so that it can be told elsewhere."""
    queue = lane()
    queue.add(row(1))
    queue.add(row(2))
    results = fail(queue, Permanent("invalid_auth", channel_dead=True))
    assert results == [Result(n, "slack", Failed("invalid_auth", channel_dead=True)) for n in (1, 2)]
    assert queue.add(row(3)) == Result(3, "slack", Failed("invalid_auth", channel_dead=True))
    assert (queue.dead, queue.next(1e9), len(queue)) == ("invalid_auth", None, 0)


def test_a_row_may_be_submitted_every_tick() -> None:
    """Waiting, in flight, or settled but not yet written down: it is never sent twice."""
    queue = lane()
    queue.add(row(1))
    assert queue.add(row(1)) is None
    job = take(queue)
    assert queue.add(row(1)) is None
    queue.settle(job, "C:1", None, 0.0)
    assert queue.add(row(1)) == Result(1, "slack", Delivered("C:1"))
    assert queue.next(0.0) is None


OUTCOMES = st.sampled_from(["ok", "ok", "transient", "rate limit", "refused"])


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["info", "warning", "critical", "fatal"])),
        min_size=1,
        max_size=12,
    ),
    outcomes=st.lists(OUTCOMES, max_size=40),
    jitter=st.floats(0, 0.99),
    submit_again=st.lists(st.booleans(), max_size=40),
)
def test_whatever_happens_every_row_settles_once_and_in_order(
    rows: list[tuple[int, str]], outcomes: list[str], jitter: float, submit_again: list[bool]
) -> None:
    """After failures that end: each row one final result, stories in order, replies below their beginning."""
    queue = lane(jitter)
    made = [row(n, f"s{thread}", severity) for n, (thread, severity) in enumerate(rows, start=1)]
    for one in made:
        assert queue.add(one) is None
    final: list[Result] = []
    sends: list[tuple[str, int, str | None]] = []
    tops: dict[str, str] = {}
    now, script, again = 0.0, iter(outcomes), iter(submit_again)
    while (job := queue.next(now)) is not None:
        if isinstance(job, float):
            assert job > now
            now = job
            continue
        if next(again, False):
            assert queue.add(made[-1]) is None or len(queue) < len(made)
        outcome, ref = next(script, "ok"), f"ref{job.row.id}"
        error: DeliveryError | None = None
        story = job.row.message.thread
        if outcome == "transient":
            error = Transient("down")
        elif outcome == "rate limit":
            error = Transient("rate limit", 30.0)
        elif outcome == "refused":
            error = Permanent("no")
        if job.verb == "send":
            assert job.ref == tops.get(story)
            if error is None:
                sends.append((story, job.row.id, job.ref))
                tops.setdefault(story, ref)
        else:
            assert job.ref == tops[story] != f"ref{job.row.id}"
        results = queue.settle(job, ref if error is None and job.verb == "send" else None, error, now)
        assert not (error is None and any(isinstance(r.outcome, Postponed) for r in results))
        final += [r for r in results if not isinstance(r.outcome, Postponed)]
    assert Counter(r.row_id for r in final) == Counter(one.id for one in made)
    assert len({number for _, number, _ in sends}) == len(sends), "a message was sent twice"
    for story in tops:
        numbers = [number for name, number, _ in sends if name == story]
        assert numbers == sorted(numbers)
    assert len(queue) == 0


@pytest.mark.parametrize("kind", ["notice"])
def test_a_notice_in_a_story_changes_nothing_above_it(kind: str) -> None:
    """Something said beside a story is not where the story stands."""
    queue = lane()
    queue.add(replace(row(2, "story", kind=kind), thread_ref="C:1"))
    assert deliver(queue, "C:2") == [Result(2, "slack", Delivered("C:2"))]


def drawn(number: int, thread: str = "", severity: str = "critical", kind: str = "opened") -> Row:
    """A row whose message carries a plot."""
    plain = row(number, thread, severity, kind)
    plot = Plot("t", "s", "step", (Line("x", (((1, 2),),)),))
    return replace(plain, message=replace(plain.message, plot=plot))


def artist() -> Lane:
    return Lane("slack", lambda: 0.0, draws=True)


def test_a_plot_follows_its_text_and_then_the_row_is_settled() -> None:
    """Killed between the two, the sentinel tells it again: nothing is lost."""
    queue = artist()
    queue.add(drawn(1))
    assert deliver(queue, "C:1") == []
    job = take(queue)
    assert (job.verb, job.ref) == ("attach", "C:1")
    assert queue.settle(job, None, None, 0.0) == [Result(1, "slack", Delivered("C:1"))]


def test_who_does_not_draw_is_sent_no_plot() -> None:
    """The console, a webhook: the row is settled with its text."""
    queue = lane()
    queue.add(drawn(1))
    assert deliver(queue, "C:1") == [Result(1, "slack", Delivered("C:1"))]


def test_a_plot_that_is_refused_leaves_the_text_delivered() -> None:
    """It is noted, and neither the message nor the channel has failed."""
    queue = artist()
    queue.add(drawn(1))
    deliver(queue, "C:1")
    [result] = fail(queue, Permanent("no scope", channel_dead=True))
    assert result.outcome == Delivered("C:1", no_plot="no scope")
    assert (queue.dead, queue.failures) == (None, 0)


def test_a_plot_is_tried_a_few_times_and_then_left() -> None:
    """The story's next message waits behind it, so not for long."""
    queue = artist()
    queue.add(drawn(1))
    queue.add(row(2, "t1", kind="closed"))
    deliver(queue, "C:1")
    now = 0.0
    for _ in range(MOST_DRAWN - 1):
        assert fail(queue, Transient("busy"), now) == []
        due = queue.next(now)
        assert isinstance(due, float)
        now = due
    [result] = fail(queue, Transient("busy"), now)
    assert result.outcome == Delivered("C:1", no_plot="busy")
    assert now < LONGEST_DRAWN
    assert take(queue, now).row.id == 2


def test_a_plot_that_would_have_to_wait_long_is_left() -> None:
    """The other side may ask for an hour."""
    queue = artist()
    queue.add(drawn(1))
    deliver(queue, "C:1")
    assert fail(queue, Transient("busy", 3600.0)) != []


def test_all_texts_go_before_any_plot() -> None:
    """A picture is dear, and a warning's text is worth more than a critical alert's picture."""
    queue = artist()
    queue.add(drawn(1))
    queue.add(drawn(2, severity="warning"))
    assert [deliver(queue, f"C:{n}") for n in (1, 2)] == [[], []]
    queue.add(row(3, severity="info"))
    assert [take_and_settle(queue) for _ in range(3)] == [(3, "send"), (1, "attach"), (2, "attach")]


def take_and_settle(queue: Lane) -> tuple[int, str]:
    job = take(queue)
    queue.settle(job, "r", None, 0.0)
    return job.row.id, job.verb


def test_a_paced_channel_is_called_no_more_often_than_it_says() -> None:
    """A burst at once, and then one a spacing; time that was quiet makes no larger burst."""
    queue = Lane("slack", lambda: 0.0, spacing=1.5, burst=3)
    for number in range(10):
        queue.add(row(number))
    now, calls = 100.0, []
    while len(queue):
        job = queue.next(now)
        if isinstance(job, Job):
            calls.append(now)
            queue.settle(job, "r", None, now)
        else:
            assert job is not None
            now = job
    assert calls == [100.0] * 3 + [100.0 + 1.5 * n for n in range(1, 8)]
