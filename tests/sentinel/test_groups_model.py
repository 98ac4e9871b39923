"""Groups against a small model: nothing is lost, nothing is told twice, no critical is late."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.message import Message
from sentinel.grouping import Policy
from tests.sentinel.test_groups import Desk, closed, opened

POLICY = Policy(wait=30.0, interval=300.0, across=3)
SEVERITIES = {"w": "warning", "c": "critical", "v": "warning"}
MOVES = st.lists(
    st.tuples(
        st.floats(0.0, 120.0),
        st.sampled_from("abcd"),
        st.sampled_from("wcv"),
        st.booleans(),
    ),
    max_size=25,
)


def names(message: Message, stories: dict[str, Message]) -> set[str]:
    """The stories that a message tells of for the first time."""
    if message.thread in stories:
        return {message.thread} if message.kind == "opened" else set()
    if message.kind != "opened":
        return set()
    labels = [fact.label for fact in message.facts]
    found = set()
    for thread, story in stories.items():
        if message.run and message.run != story.run:
            continue
        about = {story.rule if message.run else f"{story.run} {story.rule}"}
        about |= {story.run} if message.rule == story.rule and not message.run else set()
        if about & set(labels):
            found.add(thread)
    return found


@settings(max_examples=60, deadline=None)
@given(MOVES)
def test_whatever_opens_and_stays_is_told_once_and_in_time(moves: list[tuple[float, str, str, bool]]) -> None:
    """Stories open and close at any time, and the process is killed between any two of them."""
    desk = Desk(Path(":memory:"), POLICY)
    stories: dict[str, Message] = {}
    began: dict[str, float] = {}
    told: dict[str, float] = {}
    going: dict[tuple[str, str], Message] = {}
    number = 0

    def tick(*messages: Message, after: float = 0.0) -> None:
        for message in desk.tick(*messages, after=after):
            # One alert has one story at a time, so a name that was told is the youngest of those untold.
            fresh = {t: s for t, s in stories.items() if t not in told and t in began}
            for thread in names(message, {t: s for t, s in fresh.items() if going.get((s.run, s.rule)) is s}):
                assert thread not in told, "nothing is told twice"
                told[thread] = desk.now

    for gap, run, rule, kill in moves:
        for _ in range(int(gap)):  # the sentinel looks each second
            tick(after=1.0)
        if kill:
            desk.rise()
        if (run, rule) in going:
            story = going.pop((run, rule))
            tick(closed(story))
        else:
            number += 1
            story = opened(run, rule, SEVERITIES[rule], number)
            stories[story.thread], began[story.thread] = story, desk.now
            going[run, rule] = story
            tick(story)
    for _ in range(400):
        tick(after=1.0)

    for story in going.values():
        late = told[story.thread] - began[story.thread]
        assert late <= (POLICY.wait if story.severity == "critical" else POLICY.interval) + 1.0
    states = {r["state"] for r in desk.journal.rows("SELECT state FROM messages")}
    assert states <= {"sent", "grouped", "untold"}
    untold = {r["thread"] for r in desk.journal.rows("SELECT thread FROM stories WHERE state = 'untold'")}
    assert not untold & told.keys(), "what was told has its end told"
    assert untold | told.keys() == stories.keys(), "every story is told, or ended before its turn"
    desk.journal.close()
