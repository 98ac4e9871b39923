"""Ladders, tries, budgets and targets: what one evaluation of one alert asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.alert import Alert, AlertState, Transition
from rules.schema import LadderSpec, LimitsSpec, RemedySpec, RuleSpec, Span
from rules.verdict import Condition, Mark, Verdict
from rules.watch import Observation
from sentinel.checkpoints import Checkpoint
from sentinel.policy import Action, Book, Climb, Declared, RunFacts, decide, refused

RULE = RuleSpec(name="r", expr="a > 1")
LADDER = LadderSpec.model_validate(
    {
        "rungs": [
            {"do": ["notify", "checkpoint"]},
            {
                "do": ["rollback"],
                "after": "2 points",
                "margin": "300 steps",
                "max": 2,
                "cooldown": "1000 steps",
                "remedy": "cure",
            },
            {"do": ["terminate"], "when": "exhausted"},
        ]
    }
)
BOOK = Book(
    ladders={"q": LADDER},
    remedies={
        "cure": RemedySpec.model_validate({"tries": [{"set": {"lr": "x0.3"}}, {"set": {"tau": 0.005}}]})
    },
    limits=LimitsSpec(),
)
DECLARED = Declared(
    {"lr": 0.001, "tau": 0.05}, frozenset(), frozenset({"checkpoint", "rollback", "terminate"})
)


def mark(step: int) -> Mark:
    """A point every 100 steps, a second a step."""
    return Mark(step, float(step), step // 100, step)


def checkpoint(
    step: int, *, wall: float | None = None, attempt: int = 0, verified: bool = True
) -> Checkpoint:
    name = f"{attempt:02d}-{step:08d}"
    return Checkpoint(name, step, attempt, float(step) if wall is None else wall, Path(name), verified)


def firing(
    step: int,
    fired: int,
    *,
    onset: int | None = None,
    condition: Condition = Condition.BREACH,
    moved_from: AlertState | None = None,
    number: int = 1,
) -> Observation:
    alert = Alert(
        "r",
        AlertState.FIRING,
        number,
        mark(fired if onset is None else onset),
        fired=mark(fired),
        last=mark(step),
    )
    verdict = Verdict(condition, condition is not Condition.BREACH, None, 2.0, 1.0, mark(step))
    moved = None
    if moved_from is not None:
        moved = Transition("r", moved_from, AlertState.FIRING, mark(step), alert.onset, 2.0, 1.0, "")
    return Observation("r", RULE, alert, moved, verdict)


def facts(step: int, checkpoints: Sequence[Checkpoint] | None = (), **more: Any) -> RunFacts:
    catalogue = None if checkpoints is None else lambda: checkpoints
    return RunFacts(now=float(step), catalogue=catalogue, declared=more.pop("declared", DECLARED), **more)


def climb_to(
    steps: Sequence[int],
    *,
    climb: Climb | None = None,
    book: Book = BOOK,
    ladder: LadderSpec = LADDER,
    number: int = 1,
    **more: Any,
) -> tuple[Climb, list[Action]]:
    """Evaluate a firing alert at each of `steps`; it began to fire at the first."""
    climb = climb or Climb("r")
    done: list[Action] = []
    for step in steps:
        climb, actions = decide(
            firing(step, steps[0], number=number), ladder, climb, book, facts(step, **more)
        )
        done += actions
    return climb, done


def verbs(actions: Sequence[Action]) -> list[str]:
    return [("no " if a.withheld else "") + a.verb for a in actions]


def test_the_ladder_is_climbed_rung_by_rung_and_each_rung_once() -> None:
    """It tells and saves when it fires, and goes back after two more points."""
    climb, actions = climb_to([1300, 1400, 1500, 1600], checkpoints=[checkpoint(500), checkpoint(900)])
    assert verbs(actions) == ["notify", "checkpoint", "rollback"]
    rollback = actions[-1]
    assert (rollback.checkpoint, rollback.to_step) == ("00-00000900", 900)
    assert rollback.set == {"lr": "x0.3"}
    assert climb.rung == 2


@pytest.mark.parametrize(
    ("checkpoints", "suspect", "target"),
    [
        (
            [checkpoint(900), checkpoint(1000)],
            (),
            900,
        ),  # onset 1300 less 300 is 1000, and the step must be smaller
        ([checkpoint(900), checkpoint(600)], ((850.0, 950.0),), 600),
        ([checkpoint(900), checkpoint(600)], ((850.0, None),), 600),
        ([checkpoint(900, verified=False), checkpoint(600)], (), 600),
        ([checkpoint(1200)], (), None),
        ([], (), None),
    ],
)
def test_the_target_is_the_newest_good_checkpoint_before_onset(
    checkpoints: list[Checkpoint], suspect: tuple[tuple[float, float | None], ...], target: int | None
) -> None:
    """Not the newest: that one is usually the sickest. None means that nothing is done, and that this is
    said.
    """
    _, actions = climb_to([1300, 1500, 1600], checkpoints=checkpoints, suspect=suspect)
    last = actions[-1]
    assert last.verb == "rollback"
    assert (last.withheld, last.to_step) == (target is None, target)
    if target is None:
        assert "no good checkpoint before step 1000" in last.reason
        assert verbs(actions).count("no rollback") == 1


def test_a_margin_in_checkpoints_goes_that_many_further_back() -> None:
    """`margin = "1 checkpoint"`: the one before the newest good one."""
    rungs = [{"do": ["rollback"], "margin": "1 checkpoint", "remedy": "cure"}]
    ladder = LadderSpec.model_validate({"rungs": rungs})
    _, actions = climb_to([1300], ladder=ladder, checkpoints=[checkpoint(n) for n in (300, 600, 1200)])
    assert actions[0].to_step == 600


def test_the_same_trouble_again_gets_an_older_checkpoint_and_the_next_try() -> None:
    """Within the cool-down a second rollback to the same place with the same change would end the same."""
    kept = [checkpoint(500), checkpoint(900)]
    climb, _ = climb_to([1300, 1500], checkpoints=kept)
    later = [1800, 2000]
    again, actions = climb_to(
        later, climb=climb, checkpoints=kept, rollbacks=((1500, 900),), attempt_began=900
    )
    assert (actions[-1].verb, actions[-1].to_step, actions[-1].set) == ("rollback", 500, {"tau": 0.005})
    _, actions = climb_to(
        [2300, 2500], climb=again, checkpoints=kept, rollbacks=((1500, 900), (2000, 500)), attempt_began=500
    )
    assert verbs(actions) == ["notify", "checkpoint", "terminate"]


def test_other_trouble_long_after_begins_with_the_first_try_and_the_newest_checkpoint() -> None:
    """What the cool-down is for."""
    kept = [checkpoint(900), checkpoint(9000)]
    climb, _ = climb_to([1300, 1500], checkpoints=kept)
    _, actions = climb_to(
        [9900, 10100], climb=climb, number=2, checkpoints=kept, rollbacks=((1500, 900),), attempt_began=900
    )
    assert (actions[-1].to_step, actions[-1].set) == (9000, {"lr": "x0.3"})


def test_a_refused_rollback_is_asked_again_and_then_the_ladder_is_exhausted() -> None:
    """The checkpoint was not used, so it is still the right one; but a trainer is not asked for ever."""
    kept = [checkpoint(900)]
    climb, actions = climb_to([1300, 1500], checkpoints=kept)
    climb = refused(climb, LADDER, actions[-1].rung, mark(1500))
    climb, actions = _more(climb, [1600, 1700], kept)
    assert [(a.verb, a.to_step) for a in actions] == [("rollback", 900)]
    climb = refused(climb, LADDER, actions[-1].rung, mark(1700))
    climb, actions = _more(climb, [1800, 1900], kept)
    assert verbs(actions) == ["terminate"]


def _more(climb: Climb, steps: Sequence[int], kept: Sequence[Checkpoint]) -> tuple[Climb, list[Action]]:
    done: list[Action] = []
    for step in steps:
        climb, actions = decide(firing(step, 1300), LADDER, climb, BOOK, facts(step, kept))
        done += actions
    return climb, done


def test_an_alarm_that_fell_silent_without_recovery_goes_on_with_the_rollback() -> None:
    """Suppressed, not recovered: what it was told at the first rung it need not be told again."""
    climb = Climb("r", fired=mark(1300), rung=2, uses=(1, 1, 0), last_target=900, target_number=1, next_try=1)
    kept = [checkpoint(500), checkpoint(900)]
    silent = firing(2400, 2400, onset=1300, condition=Condition.OK, moved_from=AlertState.PROBATION)
    more: dict[str, Any] = {"rollbacks": ((1500, 900),), "attempt_began": 900}
    climb, actions = decide(silent, LADDER, climb, BOOK, facts(2400, kept, **more))
    assert actions == ()
    after = firing(2600, 2400, onset=1300, condition=Condition.OK)
    climb, actions = decide(after, LADDER, climb, BOOK, facts(2600, kept, **more))
    assert verbs(actions) == ["rollback"]
    assert (actions[0].to_step, actions[0].set) == (500, {"tau": 0.005}), "the cool-down does not matter here"


def test_nothing_is_done_about_what_cannot_be_seen() -> None:
    """Points whose answer is unknown bring no rollback nearer."""
    climb, _ = climb_to([1300], checkpoints=[checkpoint(900)])
    dark = firing(1600, 1300, condition=Condition.UNKNOWN)
    assert decide(dark, LADDER, climb, BOOK, facts(1600, [checkpoint(900)])) == (climb, ())


def test_a_muted_alert_asks_for_nothing() -> None:
    """Inhibition holds actions back; the state goes on."""
    _, actions = climb_to([1300, 1500, 1600], inhibited_by="other")
    assert actions == []


def test_tries_that_the_trainer_cannot_carry_out_are_skipped_and_that_is_said() -> None:
    """An undeclared parameter would be refused; a try that changes nothing repeats the failure."""
    kept = [checkpoint(900)]
    no_lr = replace(DECLARED, values={"tau": 0.05})
    _, actions = climb_to([1300, 1500], checkpoints=kept, declared=no_lr)
    assert actions[-1].set == {"tau": 0.005}
    assert "try 1 names lr, which the trainer has not declared, skipped" in actions[-1].reason

    nothing = Declared({"lr": 0.0, "tau": 0.005}, frozenset(), DECLARED.verbs)
    climb, actions = climb_to([1300, 1500], checkpoints=kept, declared=nothing)
    assert verbs(actions) == ["notify", "checkpoint", "no rollback", "terminate"]
    assert "try 1 would change nothing; try 2 would change nothing" in actions[2].reason
    assert climb.exhausted


def test_a_resume_command_takes_any_absolute_value_and_a_relative_one_only_of_what_is_known() -> None:
    """Its values are words of a command; what they scale has to be known, and bounds hold."""
    kept = [checkpoint(900)]
    open_ = Declared({}, frozenset(), DECLARED.verbs, open=True)
    _, actions = climb_to([1300, 1500], checkpoints=kept, declared=open_)
    assert actions[-1].set == {"tau": 0.005}
    assert "try 1 cannot be carried out: lr = 'x0.3' needs the present value of lr" in actions[-1].reason
    _, actions = climb_to([1300, 1500], checkpoints=kept, declared=replace(open_, values={"lr": 0.001}))
    assert actions[-1].set == {"lr": "x0.3"}
    bounded = replace(open_, values={"lr": 0.001}, bounds={"lr": (0.001, None), "tau": (None, 0.001)})
    _, actions = climb_to([1300, 1500], checkpoints=kept, declared=bounded)
    assert verbs(actions) == ["notify", "checkpoint", "no rollback", "terminate"]
    assert "tau = 0.005 lies outside of its bounds" in actions[2].reason


def test_a_rollback_that_nobody_can_do_here_is_passed_over() -> None:
    """It would be waited for for ever: the reason is told, and the rung after it follows at once."""
    never = replace(
        DECLARED, verbs=frozenset({"terminate"}), never={"rollback": "no way back", "checkpoint": "none"}
    )
    climb, actions = climb_to([1300, 1500, 1600], checkpoints=[checkpoint(900)], declared=never)
    assert verbs(actions) == ["notify", "no checkpoint", "no rollback", "terminate"]
    assert [a.reason for a in actions if a.withheld] == ["none", "no way back"]
    assert climb.exhausted


def test_an_end_that_nobody_can_be_asked_for_is_not_asked_for() -> None:
    """Also not where everything else is used up."""
    never = replace(DECLARED, verbs=frozenset(), never={"rollback": "no way back", "terminate": "no signal"})
    _, actions = climb_to([1300, 1500, 1600, 1700], checkpoints=[checkpoint(900)], declared=never)
    assert verbs(actions)[-2:] == ["no rollback", "no terminate"]


def test_without_a_catalogue_a_rollback_names_no_target() -> None:
    """A replay says what would have been done, and cannot know to where."""
    _, actions = climb_to([1300, 1500], checkpoints=None, declared=None)
    assert (actions[-1].verb, actions[-1].checkpoint, actions[-1].withheld) == ("rollback", None, False)


def test_a_rollback_without_a_remedy_is_withheld_unless_it_is_allowed() -> None:
    """It repeats the failure at the identical step."""
    bare = LadderSpec.model_validate({"rungs": [{"do": ["rollback"]}]})
    kept = [checkpoint(900)]
    _, actions = climb_to([1300, 1400], ladder=bare, checkpoints=kept)
    assert verbs(actions) == ["no rollback"]
    assert "require_remedy" in actions[0].reason
    allowed = replace(BOOK, limits=LimitsSpec(require_remedy=False))
    _, actions = climb_to([1300], ladder=bare, checkpoints=kept, book=allowed)
    assert (verbs(actions), actions[0].set) == (["rollback"], {})


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"in_flight": frozenset({"rollback"})}, "a rollback is under way"),
        ({"in_flight": frozenset({"terminate"})}, "the run is being ended"),
        ({"actions": tuple(float(n) for n in range(900, 906))}, "max_actions_per_hour = 6"),
        ({"rollbacks": ((1000, 800),), "attempt_began": 1200}, "min_progress_between = 500"),
        (
            {"declared": replace(DECLARED, verbs=frozenset({"checkpoint"}))},
            "does not know the command 'rollback'",
        ),
        ({"unreachable": "nobody has registered"}, "nobody has registered"),
    ],
)
def test_what_holds_a_rollback_back_is_said_once_and_the_rollback_stays_due(
    more: dict[str, Any], reason: str
) -> None:
    """It is waited for: when the reason is gone, it goes out."""
    kept = [checkpoint(900)]
    climb, actions = climb_to([1300, 1500, 1600, 1650], checkpoints=kept, **more)
    withheld = [a for a in actions if a.verb == "rollback"]
    assert len(withheld) == 1
    assert withheld[0].withheld
    assert reason in withheld[0].reason
    climb, actions = _more(climb, [1700], kept)
    assert verbs(actions) == ["rollback"]


def test_what_stands_beside_a_rollback_that_is_held_back_is_done_once() -> None:
    """Else people would be told at every point."""
    rungs = [{"do": ["notify", "checkpoint", "rollback"], "remedy": "cure"}]
    ladder = LadderSpec.model_validate({"rungs": rungs})
    climb, actions = climb_to([1300, 1400, 1500], ladder=ladder, checkpoints=[])
    assert verbs(actions) == ["notify", "checkpoint", "no rollback"]
    _, later = decide(firing(1600, 1300), ladder, climb, BOOK, facts(1600, [checkpoint(900)]))
    assert verbs(later) == ["rollback"]


def test_the_budget_of_the_run_ends_every_ladder() -> None:
    """`max_rollbacks` counts per run: with it spent, a ladder with uses left is exhausted, and so is one
    without any.
    """
    spent = ((100, 50), (800, 600), (1200, 900))
    _, actions = climb_to([5000, 5200], checkpoints=[checkpoint(900)], rollbacks=spent)
    assert verbs(actions) == ["notify", "checkpoint", "terminate"]
    end = LadderSpec.model_validate(
        {"rungs": [{"do": ["notify"]}, {"do": ["terminate"], "when": "exhausted"}]}
    )
    assert verbs(climb_to([5000, 5200], ladder=end)[1]) == ["notify"]
    assert verbs(climb_to([5000], ladder=end, others_exhausted=True)[1]) == ["notify", "terminate"]
    assert verbs(climb_to([5000], ladder=end, rollbacks=spent)[1]) == ["notify", "terminate"]


def test_checkpoints_stay_within_their_budget_on_disk() -> None:
    """A watchdog that fills the disk kills the run it watches."""
    _, actions = climb_to([1300], checkpoint_bytes=lambda: 51 * 10**9)
    assert verbs(actions) == ["notify", "no checkpoint"]
    assert "checkpoint_budget_gb = 50" in actions[1].reason


@given(st.data())
def test_whatever_happens_the_limits_hold(data: st.DataObject) -> None:
    """A run that fires again and again, with a trainer that obeys, refuses or stays silent.

    Never more rollbacks than the run or the rung allows, never to a checkpoint that is not verified, was
    written in a suspect stretch, is of or after the onset, or was tried within the cool-down; never two
    within too little progress, never more actions in an hour; and nothing after `terminate`.
    """
    limits = LimitsSpec(
        max_rollbacks=data.draw(st.integers(0, 3), "max_rollbacks"),
        max_actions_per_hour=data.draw(st.integers(1, 5), "per_hour"),
        min_progress_between=Span(data.draw(st.sampled_from([0, 300]), "progress"), "steps"),
    )
    rung = LADDER.rungs[1].model_copy(update={"max": data.draw(st.integers(1, 4), "max")})
    ladder = LADDER.model_copy(update={"rungs": (LADDER.rungs[0], rung, LADDER.rungs[2])})
    book = replace(BOOK, limits=limits)
    climb, step, wall, began = Climb("r"), 1000, 0.0, 0
    rollbacks: list[tuple[int, int]] = []
    taken: list[float] = []
    asked = 0
    ended = False
    suspect = ((50.0, 80.0),)
    kept = [
        checkpoint(n, wall=data.draw(st.sampled_from([10.0, 60.0])), verified=data.draw(st.booleans()))
        for n in (0, 300, 600, 900)
    ]
    onset = fired = Mark(step, wall, 0, step)
    for points in range(1, data.draw(st.integers(5, 30), "length")):
        step += 100
        wall += data.draw(st.sampled_from([10.0, 900.0, 4000.0]))
        at = Mark(step, wall, points, step)
        alert = Alert("r", AlertState.FIRING, 1, onset, fired=fired, last=at)
        condition = data.draw(st.sampled_from([Condition.BREACH, Condition.OK, Condition.UNKNOWN]))
        seen = Observation("r", RULE, alert, None, Verdict(condition, None, None, 2.0, 1.0, at))
        known = RunFacts(
            now=wall,
            catalogue=lambda: kept,
            declared=DECLARED,
            rollbacks=tuple(rollbacks),
            attempt_began=began,
            suspect=suspect,
            actions=tuple(taken),
            in_flight=frozenset({"terminate"}) if ended else frozenset(),
        )
        target_before = climb.last_target
        climb, actions = decide(seen, ladder, climb, book, known)
        for action in actions:
            if action.withheld or action.verb == "notify":
                continue
            assert not ended
            if action.verb == "terminate":
                ended = True
                assert climb.exhausted or len(rollbacks) >= limits.max_rollbacks
                continue
            taken.append(wall)
            assert sum(wall - t < 3600 for t in taken) <= limits.max_actions_per_hour
            if action.verb == "checkpoint":
                continue
            asked += 1
            target = next(c for c in kept if c.name == action.checkpoint)
            assert target.verified
            assert not 50 <= target.wall_time <= 80
            assert target.step < onset.run_step - 300
            if target_before is not None and step - target_before <= 1000:
                assert target.step < target_before
            if rollbacks:
                assert step - began >= limits.min_progress_between.amount
            if data.draw(st.booleans(), "obeys"):
                rollbacks.append((step, target.step))
                began = step = target.step
                fired = onset = Mark(step + 500, wall, points, step + 500)
                step += 400
            else:
                climb = refused(climb, ladder, action.rung, at)
        assert len(rollbacks) <= limits.max_rollbacks
        assert asked <= (rung.max or 1)
