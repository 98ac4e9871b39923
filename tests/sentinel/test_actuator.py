"""A command is carried out at most once, and only `terminate` ever ends a process: the one meant."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sentinel.actuator import (
    Effect,
    Patience,
    Pending,
    Ring,
    Signal,
    State,
    WriteLetter,
    advance,
    intend,
    perform,
    resume,
)
from sentinel.control import Answer, Letter, Receipt, Verb, highest_id, read_receipt, write_letter
from sentinel.guard import Guard
from sentinel.process import Liveness, Process, from_record, liveness, myself
from sentinel.supervise import exit_code

JOB = Path(__file__).with_name("guarded_job.py")
PATIENCE = Patience(ack=10, work=100, grace=5)
WALL = 1_700_000_000.0


def letter(verb: Verb = "checkpoint", number: int = 1, trainer: Process | None = None) -> Letter:
    return Letter(number, verb, 0, WALL, WALL + PATIENCE.lifetime, "a test", trainer=trainer)


def answer(status: Answer, number: int = 1, reason: str = "") -> Receipt:
    return Receipt(number, status, 7, 0, WALL, None, None, reason)


def sent(verb: Verb = "checkpoint") -> Pending:
    pending, effects = advance(intend(letter(verb), 0, WALL), None, Liveness.ALIVE, 0, PATIENCE)
    assert effects == (WriteLetter(letter(verb)), Ring(letter(verb), 1))
    return pending


def run(pending: Pending, *steps: tuple[float, Receipt | None, Liveness]) -> tuple[Pending, list[Effect]]:
    done: list[Effect] = []
    for now, receipt, known in steps:
        pending, effects = advance(pending, receipt, known, now, PATIENCE)
        done += effects
    return pending, done


ALIVE, GONE, AWAY = Liveness.ALIVE, Liveness.GONE, Liveness.OTHER_HOST


def test_a_command_goes_its_way() -> None:
    """Intended, sent, accepted, done; the outcome keeps what the trainer said."""
    pending, effects = run(sent(), (1, answer("accepted"), ALIVE), (50, answer("done", reason="kept"), ALIVE))
    assert (pending.state, pending.reason, effects) == (State.DONE, "kept", [])
    assert run(pending, (1000, answer("failed"), GONE))[0] == pending


@pytest.mark.parametrize("verb", ["checkpoint", "rollback"])
def test_a_lost_receipt_costs_a_second_ring_and_the_ladders_next_rung(verb: Verb) -> None:
    """No receipt: rung again, then unanswered. The job is not touched, whatever the verb asked of it."""
    pending, effects = run(
        sent(verb), (9, None, ALIVE), (10, None, ALIVE), (19, None, ALIVE), (20, None, ALIVE)
    )
    assert pending.state is State.UNANSWERED
    assert effects == [Ring(letter(verb), 2)]
    assert "two rings" in pending.reason


def test_terminate_goes_on_to_the_signals() -> None:
    """SIGCONT and SIGTERM after two rings, SIGKILL after the grace, and each is a step of its own."""
    order = letter("terminate")
    pending, effects = run(sent("terminate"), (10, None, ALIVE), (20, None, ALIVE))
    assert pending.state is State.STOPPING
    assert effects == [Ring(order, 2), Signal(order, signal.SIGCONT), Signal(order, signal.SIGTERM)]
    pending, effects = run(pending, (24, None, ALIVE), (25, None, ALIVE))
    assert (pending.state, effects) == (State.KILLING, [Signal(order, signal.SIGKILL)])
    assert run(pending, (26, None, GONE))[0].reason == "ended by SIGKILL"
    assert run(pending, (31, None, ALIVE))[0].state is State.FAILED


def test_a_terminate_that_was_taken_up_is_waited_for() -> None:
    """A last checkpoint takes its time; only a trainer that is silent for `work` seconds is forced."""
    pending, effects = run(sent("terminate"), (1, answer("accepted"), ALIVE), (100, None, ALIVE))
    assert (pending.state, effects) == (State.ACCEPTED, [])
    assert run(pending, (101, None, ALIVE))[0].state is State.STOPPING
    assert run(pending, (50, None, GONE))[0].state is State.DONE


def test_a_terminate_that_is_done_is_over_when_the_process_is() -> None:
    """A trainer that says done and lingers (a thread that never ends) is treated as one that is silent."""
    said, effects = run(sent("terminate"), (1, answer("done", reason="kept"), ALIVE), (5, None, ALIVE))
    assert (said.state, effects) == (State.ENDING, [])
    ended, _ = run(said, (5, None, GONE))
    assert (ended.state, ended.reason) == (State.DONE, "kept")
    forced, effects = run(said, (6, None, ALIVE))
    assert (forced.state, [str(e) for e in effects]) == (State.STOPPING, ["SIGCONT sent", "SIGTERM sent"])
    assert "still runs 5 s later" in forced.reason
    killed, effects = run(forced, (7, answer("done"), ALIVE), (11, None, ALIVE))
    assert (killed.state, [str(e) for e in effects]) == (State.KILLING, ["SIGKILL sent"])
    assert run(said, (2, None, AWAY))[0].state is State.DONE  # who cannot be seen is believed


@pytest.mark.parametrize("known", [Liveness.OTHER_HOST, Liveness.UNKNOWN])
def test_nobody_is_ended_who_cannot_be_seen(known: Liveness) -> None:
    """Of a process on another host nothing is known; terminate stays a request."""
    pending, effects = run(sent("terminate"), (10, None, known), (20, None, known), (999, None, known))
    assert (pending.state, effects) == (State.UNANSWERED, [Ring(letter("terminate"), 2)])
    assert f"the process is {known}" in pending.reason


def test_a_refused_terminate_ends_nobody() -> None:
    """A stale or expired letter is refused; force is for silence, not for a No."""
    pending, effects = run(
        sent("terminate"), (1, answer("refused", reason="stale"), ALIVE), (999, None, ALIVE)
    )
    assert (pending.state, pending.reason, effects) == (State.REFUSED, "stale", [])


def test_the_end_of_the_process_answers_for_it() -> None:
    """What terminate asked for has happened; anything else has failed, and the letter is not even written."""
    for verb, state in (("checkpoint", State.FAILED), ("rollback", State.FAILED), ("terminate", State.DONE)):
        begun = intend(letter(verb), 0, WALL)  # type: ignore[arg-type]  # the three verbs
        for ended in (Liveness.GONE, Liveness.ZOMBIE):
            pending, effects = advance(begun, None, ended, 0, PATIENCE)
            assert (pending.state, effects) == (state, ())


def test_what_the_trainer_did_counts_even_if_it_says_so_late() -> None:
    """A receipt after all corrects `unanswered`, and one that a dying trainer left corrects `failed`."""
    silent, _ = run(sent(), (10, None, ALIVE), (20, None, ALIVE))
    late, effects = run(silent, (30, answer("accepted"), ALIVE), (31, answer("done"), ALIVE))
    assert (late.state, effects) == (State.DONE, [])
    failed, _ = run(sent(), (5, None, GONE))
    assert run(failed, (6, answer("accepted"), GONE))[0].state is State.FAILED
    assert run(failed, (7, answer("done"), GONE))[0].state is State.DONE


def test_a_letter_that_came_too_late_is_not_sent() -> None:
    """After a long standstill the order is about a run that has gone on."""
    pending, effects = run(intend(letter(), 0, WALL), (PATIENCE.lifetime, None, ALIVE))
    assert (pending.state, effects) == (State.EXPIRED, [])


@pytest.mark.parametrize("state", [state for state in State if not state.settled])
def test_after_a_crash_the_last_step_is_taken_once_more(state: State) -> None:
    """The row was committed, the deed perhaps not done: it is done again, the next one after its wait."""
    pending = resume(letter("terminate"), state, 1000, WALL)
    after, effects = advance(pending, None, ALIVE, 1000, PATIENCE)
    assert after.state is (State.SENT if state is State.INTENDED else state)
    order = letter("terminate")
    assert (
        list(effects)
        == {
            State.INTENDED: [WriteLetter(order), Ring(order, 1)],
            State.SENT: [WriteLetter(order), Ring(order, 1)],
            State.ACCEPTED: [],
            State.ENDING: [],
            State.STOPPING: [Signal(order, signal.SIGCONT), Signal(order, signal.SIGTERM)],
            State.KILLING: [Signal(order, signal.SIGKILL)],
        }[state]
    )
    assert advance(after, None, ALIVE, 1000, PATIENCE)[1] == ()


class Commands(RuleBasedStateMachine):
    """One command against a trainer that answers, dies, hides or lies, and a sentinel that crashes."""

    @initialize(verb=st.sampled_from(["checkpoint", "rollback", "terminate"]))
    def begin(self, verb: Verb) -> None:
        self.now, self.crashes = 0.0, 0
        self.pending = intend(letter(verb), 0.0, WALL)
        self.receipt: Receipt | None = None
        self.effects: list[Effect] = []
        self.answered: set[str] = set()

    @rule(
        seconds=st.sampled_from([0.0, 0.1, 4.9, 5.0, 10.0, 20.0, 100.0, 1000.0]),
        known=st.sampled_from([ALIVE] * 20 + list(Liveness)),
    )
    def tick(self, seconds: float, known: Liveness) -> None:
        self.now += seconds
        before = self.pending
        self.pending, effects = advance(before, self.receipt, known, self.now, PATIENCE)
        if known is not ALIVE:
            assert not any(isinstance(effect, Signal) for effect in effects), "only a live, known process"
        if before.state.settled:
            assert effects == ()
        self.effects += effects

    @rule(
        status=st.sampled_from(["accepted", "done", "refused", "failed"]),
        number=st.sampled_from([1, 1, 1, 2]),
    )
    def trainer_answers(self, status: Answer, number: int) -> None:
        if (
            self.receipt is None or self.receipt.status == "accepted"
        ):  # the guard lets the first outcome stand
            self.receipt = answer(status, number)
            if number == 1:
                self.answered.add(status)

    @rule()
    def receipt_is_lost(self) -> None:
        self.receipt = None

    @precondition(lambda self: self.crashes < 3 and not self.pending.state.settled)
    @rule()
    def sentinel_crashes(self) -> None:
        self.crashes += 1
        self.pending = resume(self.pending.letter, self.pending.state, self.now, WALL)

    @invariant()
    def no_effect_more_often_than_steps_were_taken(self) -> None:
        """Once each, and once more for every crash that may have come between the row and the deed."""
        most = 1 + self.crashes
        letters = sum(isinstance(effect, WriteLetter) for effect in self.effects)
        assert letters <= most
        for signum in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
            assert sum(isinstance(e, Signal) and e.signum is signum for e in self.effects) <= most
        assert sum(isinstance(effect, Ring) for effect in self.effects) <= 2 * most

    @invariant()
    def only_an_unanswered_terminate_ends_a_process(self) -> None:
        """Neither a lost receipt of another verb nor a refusal ever becomes a signal that kills."""
        signals = [effect.signum for effect in self.effects if isinstance(effect, Signal)]
        if self.pending.letter.verb != "terminate":
            assert signals == []
        assert set(signals) <= {signal.SIGCONT, signal.SIGTERM, signal.SIGKILL}
        if signal.SIGKILL in signals:
            assert signal.SIGTERM in signals[: signals.index(signal.SIGKILL)]

    @invariant()
    def an_outcome_is_the_trainers_word(self) -> None:
        """Refused is never invented."""
        if self.pending.state is State.REFUSED:
            assert "refused" in self.answered


Commands.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestCommands = Commands.TestCase


# ── the folder ──


def test_a_letter_is_written_once_and_whole(tmp_path: Path) -> None:
    """Written again after a crash it stays as it was; the trainer may have read it."""
    control = tmp_path / "control"
    order = replace(
        letter("rollback", 17, myself()), set={"tau": "x0.3"}, reinit=("actor",), to_checkpoint="00-1"
    )
    write_letter(control, order)
    write_letter(control, replace(order, reason="another"))
    (path,) = (control / "commands").iterdir()
    assert path.name == "000017.json"
    assert Letter.from_json(path.read_text()) == order
    assert control.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert highest_id(control) == 17


def test_the_guard_reads_what_the_actuator_writes(tmp_path: Path) -> None:
    """Both sides of the protocol, one file in between."""
    before = signal.getsignal(signal.SIGUSR2)
    guard = Guard(tmp_path, reinit=["actor"], wall=lambda: WALL)
    order = replace(letter("rollback", 3, myself()), reinit=("actor",), to_checkpoint="00-1", to_step=1)
    write_letter(tmp_path / "control", order)
    command = guard.poll()
    assert command is not None
    assert (command.id, command.verb, command.reinit) == (3, "rollback", ("actor",))
    guard.acknowledge(command, "done", step=5, checkpoint="00-1", checkpoint_step=1)
    found = read_receipt(tmp_path / "control", 3)
    assert found == Receipt(3, "done", 5, 0, WALL, "00-1", 1, "")
    signal.signal(signal.SIGUSR2, before)


@given(cut=st.integers(0, 200), junk=st.binary(max_size=30))
def test_a_torn_receipt_is_not_there_yet(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes
) -> None:
    """Cut anywhere, or anything else: never an answer, never an error."""
    receipts = tmp_path_factory.mktemp("run") / "receipts"
    receipts.mkdir()
    whole = b'{"id": 1, "status": "done", "step": 3, "reason": ""}'
    path = receipts / "000001.json"
    path.write_bytes(whole[: min(cut, len(whole) - 1)])
    assert read_receipt(receipts.parent, 1) is None
    path.write_bytes(junk)
    assert read_receipt(receipts.parent, 1) is None
    path.write_bytes(whole.replace(b'"id": 1', b'"id": 2'))
    assert read_receipt(receipts.parent, 1) is None
    path.write_bytes(whole.replace(b"3", b'"three"'))
    found = read_receipt(receipts.parent, 1)
    assert found is not None
    assert found.step is None


# ── real processes ──


@pytest.fixture
def job(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    yield from _job(tmp_path)


@pytest.fixture
def deaf(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A job that never looks into its folder: it hangs where it is."""
    yield from _job(tmp_path, "--stop", "registered")


def _job(run: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen([sys.executable, str(JOB), str(run), *more], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "registered\n"
    yield started
    started.kill()
    started.wait(timeout=10)
    started.stdout.close()


def registered(run: Path) -> Process:
    process = from_record(json.loads((run / "control/trainer.json").read_text()))
    assert process is not None
    return process


def follow(
    pending: Pending, control: Path, patience: Patience, *, reap: subprocess.Popen[str]
) -> tuple[Pending, list[str]]:
    """What the engine does each tick, until the command is settled."""
    rows: list[str] = []
    deadline = time.monotonic() + 20
    while not pending.state.settled and time.monotonic() < deadline:
        reap.poll()
        known = liveness(pending.letter.trainer)
        receipt = read_receipt(control, pending.letter.id)
        pending, effects = advance(pending, receipt, known, time.monotonic(), patience)
        rows += [perform(effect, control, signal.SIGUSR2) for effect in effects]
        time.sleep(0.002)
    return pending, rows


def fresh(verb: Verb, number: int, run: Path, patience: Patience) -> Pending:
    now = time.time()
    order = Letter(number, verb, 0, now, now + patience.lifetime, trainer=registered(run))
    return intend(order, time.monotonic(), now)


def test_a_real_job_obeys_and_ends_when_asked(tmp_path: Path, job: subprocess.Popen[str]) -> None:
    """A letter, a ring, a receipt: no force is needed against a job that listens."""
    patience = Patience(ack=10, work=10, grace=10)
    control = tmp_path / "control"
    pending, rows = follow(fresh("checkpoint", 1, tmp_path, patience), control, patience, reap=job)
    assert (pending.state, rows) == (State.DONE, ["letter 1 written: checkpoint", "rung"])
    pending, rows = follow(fresh("terminate", 2, tmp_path, patience), control, patience, reap=job)
    assert (pending.state, rows) == (State.DONE, ["letter 2 written: terminate", "rung"])
    assert job.wait(timeout=10) == 0


def test_a_job_that_does_not_listen_keeps_its_life_unless_terminate_is_asked(
    tmp_path: Path, deaf: subprocess.Popen[str]
) -> None:
    """A hanging job, stopped even: the checkpoint goes unanswered, terminate goes on to SIGTERM."""
    patience = Patience(ack=0.05, work=1, grace=5)
    control = tmp_path / "control"
    pending, rows = follow(fresh("checkpoint", 1, tmp_path, patience), control, patience, reap=deaf)
    assert pending.state is State.UNANSWERED
    assert rows[-1] == "rung again, no receipt (2)"
    assert deaf.poll() is None
    os.kill(deaf.pid, signal.SIGSTOP)
    pending, rows = follow(fresh("terminate", 2, tmp_path, patience), control, patience, reap=deaf)
    assert (pending.state, pending.reason) == (State.DONE, "ended by SIGTERM")
    assert rows[-2:] == ["SIGCONT sent", "SIGTERM sent"]
    assert exit_code(deaf.wait(timeout=10)) == 143


def test_force_never_reaches_a_successor_of_the_pid(tmp_path: Path, deaf: subprocess.Popen[str]) -> None:
    """The letter was for an earlier process with this pid; this one is left alone."""
    patience = Patience(ack=0.02, work=1, grace=0.02)
    earlier = replace(registered(tmp_path), start_time=registered(tmp_path).start_time - 1)
    begun = fresh("terminate", 1, tmp_path, patience)
    order = replace(begun.letter, trainer=earlier)
    for effect in (Ring(order, 1), Signal(order, signal.SIGTERM), Signal(order, signal.SIGKILL)):
        assert "not sent" in perform(effect, tmp_path / "control", signal.SIGUSR2)
    pending, rows = follow(replace(begun, letter=order), tmp_path / "control", patience, reap=deaf)
    assert (pending.state, rows) == (State.DONE, [])
    assert deaf.poll() is None


def test_a_job_without_a_handler_is_not_rung(tmp_path: Path) -> None:
    """SIGUSR2 would kill it; it finds the letter by looking."""
    sleeper = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
    try:
        ticks = int(Path(f"/proc/{sleeper.pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
        order = letter(trainer=replace(myself(), pid=sleeper.pid, start_time=ticks))
        assert "no handler" in perform(Ring(order, 1), tmp_path, signal.SIGUSR2)
        assert "looks into the folder by itself" in perform(Ring(order, 1), tmp_path, None)
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait(timeout=10)


def test_a_folder_that_takes_no_letter_is_an_error_to_be_told(tmp_path: Path) -> None:
    """The caller has to know: nothing was asked, and it can be performed again."""
    (tmp_path / "control").write_text("in the way")
    with pytest.raises(OSError, match="control"):
        perform(WriteLetter(letter()), tmp_path / "control", None)
    (tmp_path / "control").unlink()
    perform(WriteLetter(letter()), tmp_path / "control", None)
    assert highest_id(tmp_path / "control") == 1
    shutil.rmtree(tmp_path / "control")
    assert highest_id(tmp_path / "control") == 0
