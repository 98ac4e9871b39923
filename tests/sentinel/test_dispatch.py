"""Commands between the journal and the control folder: rows first, and nothing sent that is not armed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentinel.actuator import Patience
from sentinel.dispatch import Dispatch
from sentinel.guard import Command, Guard
from sentinel.journal import Journal
from sentinel.registration import Registration
from tests.fakes import FakeClock


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.sqlite")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def guard(run: Path, clock: FakeClock) -> Iterator[Guard]:
    """The real guard, registered as the run's trainer."""
    registered_here = Guard(run, wall=clock.wall)
    yield registered_here
    registered_here.finish()


@pytest.fixture
def line(run: Path, journal: Journal, clock: FakeClock, guard: Guard) -> Dispatch:
    """An armed line that knows its trainer."""
    armed = dispatch(run, journal, clock)
    follow(armed, journal, run, clock)
    return armed


def dispatch(run: Path, journal: Journal, clock: FakeClock, *, act: bool = True) -> Dispatch:
    return Dispatch("run", run, journal, Patience(), clock, act=act)


def registered(run: Path) -> Registration:
    registration = Registration(run)
    registration.refresh()
    return registration


def ask(line: Dispatch, journal: Journal, clock: FakeClock, **changes: Any) -> None:
    with journal.transaction():
        line.ask("checkpoint", **{**GIVEN, "now": clock.wall(), **changes})


GIVEN: dict[str, Any] = {
    "checkpoint": None,
    "to_step": None,
    "set": {},
    "reinit": (),
    "reason": "a test",
    "asked_step": 100,
    "attempt": 0,
}


def follow(line: Dispatch, journal: Journal, run: Path, clock: FakeClock) -> None:
    with journal.transaction():
        line.follow(registered(run), clock.wall())
    line.perform()


def states(journal: Journal) -> dict[int, str]:
    return {row["id"]: row["state"] for row in journal.rows("SELECT id, state FROM commands ORDER BY id")}


def letters(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "control" / "commands").glob("*.json"))


def test_a_command_is_a_row_before_it_is_a_letter(
    run: Path, journal: Journal, clock: FakeClock, line: Dispatch
) -> None:
    """Asked, committed, and only then written."""
    ask(line, journal, clock)
    assert states(journal) == {1: "intended"}
    assert letters(run) == []
    follow(line, journal, run, clock)
    assert states(journal) == {1: "sent"}
    assert letters(run) == ["000001.json"]


def test_a_command_goes_its_way_with_a_row_for_each_step(
    run: Path, journal: Journal, clock: FakeClock, line: Dispatch, guard: Guard
) -> None:
    """The real guard takes it, and its outcome is the row's."""
    ask(line, journal, clock)
    follow(line, journal, run, clock)
    command = next(found for _ in range(10**8) if (found := guard.poll()) is not None)
    guard.acknowledge(command, "done", step=101, checkpoint="00-00000101", checkpoint_step=101)
    follow(line, journal, run, clock)
    row = journal.rows("SELECT * FROM commands")[0]
    assert (row["state"], row["step"], row["checkpoint"]) == ("done", 101, "00-00000101")
    steps = [r["what"] for r in journal.rows("SELECT what FROM command_steps ORDER BY rowid")]
    assert steps[0].startswith("intended")
    assert any(step.startswith("sent") for step in steps)
    assert steps[-1].startswith("done at step 101")


def test_a_restart_in_observe_mode_sends_nothing_for_a_rule(
    run: Path, journal: Journal, clock: FakeClock, line: Dispatch
) -> None:
    """Whoever disarms the sentinel does not want its last order carried out."""
    ask(line, journal, clock)
    ask(line, journal, clock, request="by-hand.json")
    again = dispatch(run, journal, clock, act=False)
    follow(again, journal, run, clock)
    assert states(journal) == {1: "expired", 2: "sent"}
    assert letters(run) == ["000002.json"]


def test_ids_are_not_used_again_when_the_state_was_deleted(
    run: Path, journal: Journal, clock: FakeClock, line: Dispatch, tmp_path: Path
) -> None:
    """An old receipt must not answer a new command."""
    ask(line, journal, clock)
    follow(line, journal, run, clock)
    fresh = Journal(tmp_path / "fresh.sqlite")
    new = dispatch(run, fresh, clock)
    follow(new, fresh, run, clock)
    ask(new, fresh, clock)
    assert states(fresh) == {2: "intended"}


def test_a_letter_that_cannot_be_written_is_tried_again(
    run: Path, journal: Journal, clock: FakeClock, line: Dispatch
) -> None:
    """A folder that takes nothing costs a try, not the command."""
    ask(line, journal, clock)
    commands = run / "control" / "commands"
    commands.rmdir()
    commands.write_text("in the way")
    follow(line, journal, run, clock)
    commands.unlink()
    follow(line, journal, run, clock)
    assert letters(run) == ["000001.json"]


def test_a_letter_that_never_finds_room_has_failed_and_an_end_goes_on_by_force(
    run: Path, journal: Journal, clock: FakeClock, line: Dispatch
) -> None:
    """Its reason is told, and again at its end; a terminate becomes SIGTERM, as if nobody had answered."""
    ask(line, journal, clock)
    with journal.transaction():
        line.ask("terminate", **GIVEN, now=clock.wall())
    commands = run / "control" / "commands"
    commands.rmdir()
    commands.write_text("in the way")
    told = []
    for _ in range(10):
        with journal.transaction():
            told += line.follow(registered(run), clock.wall())
        if any(settled.row["state"] == "stopping" for settled in told):
            break  # what would follow is a real SIGTERM to this process
        line.perform()
        clock.advance(10.0)
    assert [(s.row["id"], s.row["state"], s.final) for s in told] == [
        (1, "unwritten", False),
        (2, "unwritten", False),
        (1, "failed", True),
        (2, "stopping", False),
    ]
    assert all("commands" in s.row["reason"] for s in told)
    written = [r["what"] for r in journal.rows("SELECT what FROM command_steps WHERE id = 1")]
    assert sum(what.startswith("its letter cannot be written") for what in written) == 1
    assert len(written) < 8, "a row for each step, none for each try"


def take(guard: Guard) -> Command | None:
    """What the guard hands out at its next look."""
    guard._looked = float("-inf")
    return guard._look()


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_is_set_under_a_letter_costs_no_command(
    run: Path, journal: Journal, clock: FakeClock, line: Dispatch, guard: Guard, jump: float
) -> None:
    """By the new time the letter is out of date: refused by the guard, asked anew, done."""
    ask(line, journal, clock, request="by-hand.json")
    follow(line, journal, run, clock)
    clock.step_wall(jump)
    assert take(guard) is None
    with journal.transaction():
        told = line.follow(registered(run), clock.wall())
        line.follow(registered(run), clock.wall())
    line.perform()
    assert [(s.row["id"], s.row["state"], s.final) for s in told] == [(1, "asked anew", False)]
    assert "asked anew as command 2" in told[0].sentence
    command = take(guard)
    assert command is not None
    assert command.id == 2
    guard.acknowledge(command, "done", step=101)
    follow(line, journal, run, clock)
    assert states(journal) == {1: "expired", 2: "done"}
    assert [r["request"] for r in journal.rows("SELECT request FROM commands ORDER BY id")] == [
        None,
        "by-hand.json",
    ]


@pytest.mark.parametrize("skew", [300.0, -300.0])
def test_a_trainer_whose_clock_is_another_is_asked_by_its_own(
    run: Path, journal: Journal, clock: FakeClock, skew: float
) -> None:
    """Five minutes ahead or behind: one refusal teaches it, and the next command needs none."""
    guard = Guard(run, wall=lambda: clock.wall() + skew)
    line = dispatch(run, journal, clock)
    for first in (True, False):
        ask(line, journal, clock)
        follow(line, journal, run, clock)
        command = take(guard)
        assert (command is None) == first
        follow(line, journal, run, clock)
        follow(line, journal, run, clock)
        command = command or take(guard)
        assert command is not None
        guard.acknowledge(command, "done", step=101)
        follow(line, journal, run, clock)
    assert states(journal) == {1: "expired", 2: "done", 3: "done"}
    why = journal.rows("SELECT reason FROM commands WHERE id = 1")[0]["reason"]
    assert f"its clock is 300 s {'ahead of' if skew > 0 else 'behind'} this machine's" in why
    guard.finish()


def test_a_clock_that_never_agrees_is_a_refusal_in_the_end(
    run: Path, journal: Journal, clock: FakeClock
) -> None:
    """Asked anew twice, over restarts too, and then left: nobody asks for ever."""
    ahead = iter(range(3600, 10**6, 3600))
    guard = Guard(run, wall=lambda: clock.wall() + next(ahead))
    ask(dispatch(run, journal, clock), journal, clock)
    for _ in range(6):
        line = dispatch(run, journal, clock)
        follow(line, journal, run, clock)
        assert take(guard) is None
        follow(line, journal, run, clock)
    assert states(journal) == {1: "expired", 2: "expired", 3: "refused"}
    guard.finish()


def test_a_letter_that_is_late_by_both_clocks_was_not_answered(
    run: Path, journal: Journal, clock: FakeClock, line: Dispatch, guard: Guard
) -> None:
    """A trainer that comes back after the letter's time refuses it, and nobody asks anew."""
    ask(line, journal, clock)
    follow(line, journal, run, clock)
    clock.advance(61.0)
    assert take(guard) is None
    follow(line, journal, run, clock)
    assert states(journal) == {1: "refused"}
    assert letters(run) == ["000001.json"]
