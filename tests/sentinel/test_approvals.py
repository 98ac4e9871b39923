"""Ask before acting: what a rung with `approve` asks, what an answer does, and what follows without one."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.schema import LadderSpec
from rules.watch import Observation
from sentinel.climb import Action, Climb, RunFacts
from sentinel.journal import to_json
from sentinel.policy import answer, decide
from sentinel.run_rows import read_climb
from tests.sentinel.test_policy import BOOK, checkpoint, facts, firing

ONSET = 900


def ladder(**more: Any) -> LadderSpec:
    """Tell at once; roll back after people were asked, for 100 seconds; end it where that is used up."""
    back = {"do": ["notify", "rollback"], "remedy": "cure", "approve": True, "deadline": "100s", **more}
    end = {"do": ["terminate"], "when": "exhausted"}
    return LadderSpec.model_validate({"rungs": [{"do": ["notify"]}, back, end]})


def sick(step: int) -> Observation:
    """The alert as it fires at a step."""
    return firing(step, 1000, onset=ONSET)


def ask(made: LadderSpec, step: int = 1000, kept: tuple[int, ...] = (400, 800)) -> tuple[Climb, Action]:
    """Fire, and be asked."""
    climb, actions = decide(sick(step), made, Climb("r"), BOOK, at(step, kept))
    assert climb.asked is not None
    return climb, actions[-1]


def at(step: int, kept: tuple[int, ...] = (400, 800), **more: Any) -> RunFacts:
    """The run's facts at a step; a second a step."""
    return facts(step, [checkpoint(k) for k in kept], **more)


def words(actions: tuple[Action, ...]) -> list[str]:
    """Actions in short: verb, and whether it asks, settles or is withheld."""
    return [
        f"{a.verb} {'asks' if a.asks else a.settles or ('withheld' if a.withheld else 'done')}"
        for a in actions
    ]


def test_a_rung_that_has_to_be_approved_asks_and_does_not_act() -> None:
    """The question names what would be done, and nothing is done until it is answered."""
    climb, question = ask(ladder())
    assert question.withheld
    assert question.asks is not None
    assert [(d.verb, d.checkpoint) for d in question.asks.deeds] == [("rollback", "00-00000800")]
    assert question.asks.deadline == 1100.0
    for step in (1001, 1050, 1099):
        climb, actions = decide(sick(step), ladder(), climb, BOOK, at(step))
        assert actions == ()


def test_an_approval_does_what_was_asked_once() -> None:
    """Act: the rollback of the question, and the climb goes on."""
    climb, _ = ask(ladder())
    found = answer(sick(1010), ladder(), climb, BOOK, at(1010), "act", "ada")
    assert not isinstance(found, str)
    climb, actions = found
    assert words(actions) == ["rollback act", "rollback done"]
    assert (actions[1].checkpoint, climb.rung, climb.asked) == ("00-00000800", 2, None)
    again = answer(sick(1011), ladder(), climb, BOOK, at(1011), "act", "ada")
    assert again == "nothing is asked there any more"


def test_a_hold_leaves_the_rung_undone_in_this_episode_alone() -> None:
    """Hold is no exhaustion: the run is not ended for it; another episode asks anew."""
    climb, _ = ask(ladder())
    found = answer(sick(1010), ladder(), climb, BOOK, at(1010), "hold", "ada")
    assert not isinstance(found, str)
    climb, actions = found
    assert words(actions) == ["rollback hold"]
    for step in (1020, 2000, 9000):
        climb, actions = decide(sick(step), ladder(), climb, BOOK, at(step))
        assert actions == ()
    anew = firing(9500, 9450, onset=9400, number=2)
    _, actions = decide(anew, ladder(), climb, BOOK, at(9500, (400, 800)))
    assert words(actions)[-1] == "rollback asks"


def test_the_run_may_be_ended_instead() -> None:
    """Another verb than the one asked about."""
    climb, _ = ask(ladder())
    found = answer(sick(1010), ladder(), climb, BOOK, at(1010), "terminate", "ada")
    assert not isinstance(found, str)
    assert words(found[1]) == ["rollback terminate", "terminate done"]


@pytest.mark.parametrize(("default", "expected"), [("hold", []), ("act", ["rollback done"])])
def test_without_an_answer_the_declared_default_follows(default: str, expected: list[str]) -> None:
    """And that nobody answered is said."""
    made = ladder(default=default)
    climb, _ = ask(made)
    climb, actions = decide(sick(1100), made, climb, BOOK, at(1100))
    assert words(actions)[:1] == ["rollback lapsed"]
    assert [word for word in words(actions) if word.startswith("rollback done")] == expected
    assert climb.asked is None


def test_nobody_loses_their_time_to_answer_because_the_sentinel_came_late() -> None:
    """The deadline counts from when the question is really put, however old the point is."""
    _, actions = decide(sick(1000), ladder(), Climb("r"), BOOK, at(1000, present=5000.0))
    assert actions[-1].asks is not None
    assert actions[-1].asks.deadline == 5100.0


def test_a_target_that_has_changed_since_is_asked_about_anew() -> None:
    """No surprise: the checkpoint that was approved is gone, so the older one is a new question."""
    climb, _ = ask(ladder())
    found = answer(sick(1010), ladder(), climb, BOOK, at(1010, (400,)), "act", "ada")
    assert not isinstance(found, str)
    climb, actions = found
    assert words(actions) == ["rollback changed", "rollback asks"]
    assert climb.asked is not None
    assert [d.checkpoint for d in climb.asked.deeds] == ["00-00000400"]
    found = answer(sick(1020), ladder(), climb, BOOK, at(1020, (400,)), "act", "ada")
    assert not isinstance(found, str)
    assert words(found[1]) == ["rollback act", "rollback done"]


def test_an_approval_that_cannot_be_carried_out_says_why_and_the_question_stands() -> None:
    """Another rollback is under way: nothing is done later behind anybody's back."""
    climb, _ = ask(ladder())
    busy = at(1010, in_flight=frozenset({"rollback"}))
    assert answer(sick(1010), ladder(), climb, BOOK, busy, "act", "ada") == "a rollback is under way"
    muted = at(1010, inhibited_by="other")
    assert "muted" in str(answer(sick(1010), ladder(), climb, BOOK, muted, "act", "ada"))
    assert words(decide(sick(1010), ladder(), climb, BOOK, busy)[1]) == []


def test_a_default_that_cannot_be_carried_out_yet_is_when_it_can() -> None:
    """`default = "act"` is the ladder's own word, so it waits as any rung does."""
    made = ladder(default="act")
    climb, _ = ask(made)
    busy = at(1100, in_flight=frozenset({"rollback"}))
    climb, actions = decide(sick(1100), made, climb, BOOK, busy)
    assert words(actions)[0] == "rollback lapsed"
    assert "rollback done" not in words(actions)
    climb, actions = decide(sick(1150), made, climb, BOOK, at(1150))
    assert words(actions)[-1] == "rollback done"


def test_an_open_question_outlives_the_process() -> None:
    """A climb is read back as it was written, question and all."""
    climb, _ = ask(ladder())
    assert read_climb(to_json(asdict(climb))) == climb
    old = asdict(replace(climb, asked=None))
    del old["asked"]
    assert read_climb(to_json(old)).asked is None


@given(st.lists(st.sampled_from(["tick", "act", "hold", "terminate", "busy", "gone", "late"]), max_size=12))
def test_whatever_is_answered_when_nothing_is_done_that_was_not_asked(moves: list[str]) -> None:
    """No rollback without a question before it, answered by a person, about that very checkpoint."""
    made, climb, step = ladder(max=3), Climb("r"), 1000
    kept: tuple[int, ...] = (200, 400, 800)
    approved = True
    for move in moves:
        step += 200 if move == "late" else 1
        kept = kept[:-1] if move == "gone" else kept
        known = at(step, kept, in_flight=frozenset({"rollback"}) if move == "busy" else frozenset())
        seen, before = sick(step), climb
        if move in ("act", "hold", "terminate"):
            found = answer(seen, made, climb, BOOK, known, move, "ada")  # type: ignore[arg-type]  # sampled
            approved = move == "act"
            actions: tuple[Action, ...] = ()
            if not isinstance(found, str):
                climb, actions = found
        else:
            approved = False
            climb, actions = decide(seen, made, climb, BOOK, known)
        done = [a for a in actions if a.verb == "rollback" and not a.withheld]
        assert not done or (approved and before.asked is not None)
        assert [d.checkpoint for d in done] == [
            d.checkpoint for d in (before.asked.deeds if done and before.asked else ())
        ]
