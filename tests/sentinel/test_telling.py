"""What a message says besides its sentences: what a command cost, and the command lines to go on with."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from notifier.contract import sample
from rules.alert import Alert, AlertState
from rules.series import Sample
from rules.verdict import Condition, Mark, Verdict
from rules.watch import Observation
from sentinel.cli import _parser
from sentinel.config import Settings, load
from sentinel.judge import Judge, Step
from sentinel.policy import Action
from sentinel.registration import Registration
from sentinel.story import Cost, outcome, tell
from sentinel.telling import Telling

RULES = 'version = 1\n[[rule]]\nname = "high"\nexpr = "m[\'q\'] > 50"\nseverity = "critical"\n'
BACK = Action("rollback", "r", checkpoint="00-00000400", to_step=400, set={"tau": 0.005}, reinit=("actor",))
AT = Mark(900, 1900.0, 9, 900)


class Desk:
    """One run, and who tells of it."""

    def __init__(self, folder: Path, name: str = "a b/run's") -> None:
        config = folder / "my rules.toml"
        config.write_text(RULES)
        self.settings: Settings = load(config)
        self.folder = folder / "runs" / name
        self.folder.mkdir(parents=True)
        self.judge = Judge(self.settings.program, self.settings.book)
        registration = Registration(self.folder)
        state = folder / "state"
        self.telling = Telling(name, self.folder, self.judge, registration, self.settings, state)

    def log(self, steps: range, began: float, each: float) -> None:
        samples: list[Sample] = [("q", step, began + each * step, 1.0) for step in steps]
        self.judge.samples(samples, 0)

    def checkpoint(self, step: int, wall: float) -> None:
        folder = self.folder / "checkpoints" / f"00-{step:08d}"
        folder.mkdir(parents=True)
        files = {"w": {"bytes": 1, "sha256": "0" * 64}}
        body = {"version": 1, "step": step, "attempt": 0, "wall_time": wall, "files": files}
        (folder / "manifest.json").write_text(json.dumps(body))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def command(verb: str, state: str = "done", **more: Any) -> dict[str, Any]:
    row = {"id": 1, "verb": verb, "state": state, "reason": "", "step": 900, "asked": 1890.0}
    return {**row, "checkpoint": None, "checkpoint_step": None, **more}


def test_a_rollback_costs_what_lies_behind_its_checkpoint(desk: Desk) -> None:
    """In steps, and in time by the points of the attempt that was given up; also once the next has begun."""
    desk.log(range(0, 1000, 100), 1000.0, 0.5)
    row = command("rollback", checkpoint="00-400", checkpoint_step=400, asked=1455.0)
    assert desk.telling.cost(row) == Cost(500, 250.0)
    desk.judge.ledger.rewinds.append((400, 1460.0))
    desk.log(range(500, 1000, 100), 5000.0, 9.0)
    assert desk.telling.cost(row) == Cost(500, 250.0)
    assert str(Cost(500, 112.0)) == "500 steps = 1 min 52 s of training"


def test_an_end_costs_what_lies_behind_the_last_checkpoint(desk: Desk) -> None:
    """What a resumed run would not have to do again is not lost."""
    desk.log(range(0, 1000, 100), 1000.0, 0.5)
    assert desk.telling.cost(command("terminate")) == Cost(900, 450.0)
    assert desk.telling.last_checkpoint() is None
    desk.checkpoint(700, 1350.0)
    assert desk.telling.cost(command("terminate")) == Cost(200, 100.0)
    assert desk.telling.last_checkpoint() == 700


@pytest.mark.parametrize(
    "row",
    [
        command("checkpoint", checkpoint="00-1", checkpoint_step=900),
        command("rollback", "refused", checkpoint_step=400),
        command("rollback", checkpoint_step=None),
        command("rollback", checkpoint_step=2000),
    ],
)
def test_what_gave_nothing_up_has_no_cost(desk: Desk, row: dict[str, Any]) -> None:
    """No number is better than a wrong one."""
    desk.log(range(0, 1000, 100), 1000.0, 0.5)
    assert desk.telling.cost(row) is None


def test_a_cost_without_times_is_told_in_steps(desk: Desk) -> None:
    """A sentinel that saw no point of it knows the steps alone."""
    assert desk.telling.cost(command("rollback", checkpoint_step=400)) == Cost(500, None)
    assert str(Cost(1)) == "1 step"


def test_outcomes_are_sentences(desk: Desk) -> None:
    """What was done, at which step, what it cost; a failure with its reason."""

    def said(row: dict[str, Any], cost: Cost | None = None, kept: int | None = None) -> str:
        return outcome("run", "t", "high", "critical", row, 1.0, cost, kept).happened

    back = command("rollback", checkpoint="00-400", checkpoint_step=400)
    assert said(back, Cost(500, 112.0)) == (
        "Rolled back to step 400. Given up: 500 steps = 1 min 52 s of training."
    )
    assert said(command("terminate"), Cost(200, 100.0), 700) == (
        "The run was ended at step 900. Its last checkpoint is of step 700; "
        "lost since: 200 steps = 1 min 40 s of training."
    )
    assert said(command("terminate"), Cost(900)).endswith("No checkpoint of it is known; lost: 900 steps.")
    assert said(command("checkpoint")) == "A checkpoint was written at step 900."
    assert said(command("rollback", "refused", reason="busy")) == "rollback (command 1) refused: busy"


def step(*actions: Action) -> Step:
    alert = Alert("high", AlertState.FIRING, 1, onset=AT, last=AT, fired=AT, value=60.0, limit=50.0)
    verdict = Verdict(Condition.BREACH, None, None, 60.0, 50.0, AT)
    spec = load(None, ["td3"]).rules.rules[0]
    return Step(Observation("high", spec, alert, None, verdict), 0, actions)


def test_every_command_line_is_one_that_this_sentinel_takes(desk: Desk) -> None:
    """Quoted for a shell, with this run's folder, configuration and state; names may hold anything."""
    desk.telling._registration.process = None
    lines = desk.telling.commands("high", (BACK,))
    parsed = [_parser().parse_args(shlex.split(line)[1:]) for line in lines]
    assert [line.split()[1] for line in lines] == ["explain", "status"], "nobody can be asked"
    assert parsed[0].run == desk.folder
    assert parsed[0].config == desk.folder.parents[2] / "my rules.toml"
    assert parsed[1].logdir == desk.folder.parents[1]
    assert parsed[1].state == desk.folder.parents[2] / "state"


def test_in_observe_mode_the_command_that_would_have_been_sent_is_offered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person may do at once what the ladder would have done."""
    monkeypatch.setattr(Registration, "unreachable", "")
    _, line, _ = desk.telling.commands("high", (BACK, Action("notify", "r")))
    parsed = _parser().parse_args(shlex.split(line)[1:])
    assert (parsed.run, parsed.verb, parsed.to) == ("a b/run's", "rollback", "00-00000400")
    desk.judge.sends = True
    assert len(desk.telling.commands("high", (BACK,))) == 2, "in act mode it has been sent"


def test_a_plot_that_cannot_be_composed_is_left_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture is worth less than the tick that it would end."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sentinel.telling.draw", broken)
    told = desk.telling.of_step(sample("opened"), step())
    assert told.plot is None
    assert told.commands


def test_a_story_says_each_number_once() -> None:
    """What the summary has said, in whatever digits, is no fact below it."""
    told = tell("run", step(Action("notify", "r")), "q is 60.0 at step 900", mode="act", known=False)
    assert told is not None
    assert "value" not in dict(told.facts)
    told = tell("run", step(Action("notify", "r")), "q is high", mode="act", known=False)
    assert told is not None
    assert dict(told.facts)["value"] == "60 (limit 50)"
