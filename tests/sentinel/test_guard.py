"""The guard obeys each letter at most once, refuses what it cannot do, and never costs the job anything."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel import guard as guard_module
from sentinel.guard import LOOK_EVERY, Command, Guard, Parameter

JOB = Path(__file__).with_name("guarded_job.py")


class Clocks:
    """Monotonic and wall clock that only a test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.epoch = 1_700_000_000.0

    def clock(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.epoch + self.now


@pytest.fixture(autouse=True)
def _doorbell_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR2)
    yield
    signal.signal(signal.SIGUSR2, before)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def make(run: Path, clocks: Clocks, **more: Any) -> Guard:
    declared = [
        Parameter.number("tau", 0.01, low=0.001, high=0.1),
        Parameter.number("delay", 2, low=1, high=8, integer=True),
        Parameter.enum("features", "actor", ["actor", "critic"]),
        Parameter.boolean("clip", value=True),
    ]
    return Guard(
        run,
        **{"parameters": declared, "reinit": ["actor"], "clock": clocks.clock, "wall": clocks.wall, **more},
    )


def put(run: Path, number: int, clocks: Clocks | None = None, **changes: Any) -> Path:
    now = clocks.wall() if clocks else time.time()
    letter = {
        "id": number,
        "verb": "checkpoint",
        "to_checkpoint": None,
        "to_step": None,
        "set": {},
        "reinit": [],
        "if_attempt": None,
        "issued_at": now,
        "expires_at": now + 60,
        "reason": "a test",
        **changes,
    }
    path = run / "control" / "commands" / f"{number:06d}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(letter))
    temporary.replace(path)
    return path


def receipt(run: Path, number: int) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((run / "control" / "receipts" / f"{number:06d}.json").read_text())
    except (OSError, ValueError):
        return None
    return found


def ring_and_poll(guard: Guard) -> Command | None:
    os.kill(os.getpid(), signal.SIGUSR2)
    return guard.poll()


# ── registration and the heartbeat ──


def test_the_registration_names_process_and_parameters(tmp_path: Path, clocks: Clocks) -> None:
    """Whoever reads trainer.json knows which process it is and what may be set within which bounds."""
    make(tmp_path, clocks)
    record = json.loads((tmp_path / "control/trainer.json").read_text())
    started = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
    assert (record["pid"], record["start_time"], record["uid"]) == (os.getpid(), started, os.geteuid())
    assert record["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert record["parameters"]["tau"] == {"kind": "number", "value": 0.01, "low": 0.001, "high": 0.1}
    assert record["parameters"]["features"] == {
        "kind": "enum",
        "value": "actor",
        "choices": ["actor", "critic"],
    }
    assert (record["attempt"], record["signal"], record["finished_at"]) == (0, "SIGUSR2", None)
    for folder in ("control", "control/commands", "control/receipts"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700


def test_the_heartbeat_is_written_about_once_a_second_and_at_once_in_slow_phases(
    tmp_path: Path, clocks: Clocks
) -> None:
    """A thousand quick steps cost a few writes; an evaluation is known of as it begins."""
    guard = make(tmp_path, clocks)
    steps = set()
    for step in range(1000):
        clocks.now += 0.005
        guard.beat(step, "collect" if step % 2 else "update")
        guard.poll()
        steps.add(json.loads((tmp_path / "control/heartbeat.json").read_text())["step"])
    assert 4 <= len(steps) <= 8
    guard.beat(1000, "evaluate")
    beat = json.loads((tmp_path / "control/heartbeat.json").read_text())
    assert beat == {"step": 1000, "phase": "evaluate", "attempt": 0, "wall_time": clocks.wall()}


def test_a_restarted_trainer_begins_a_new_attempt(tmp_path: Path, clocks: Clocks) -> None:
    """Attempts are counted through restarts, so that a letter for the one before is stale."""
    assert make(tmp_path, clocks).attempt == 0
    second = make(tmp_path, clocks)
    assert second.attempt == 1
    assert second.begin_attempt() == 2
    assert make(tmp_path, clocks).attempt == 3


def test_a_job_keeps_its_own_handler(
    tmp_path: Path, clocks: Clocks, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guard takes no signal from a job that uses it; the folder is looked at all the same."""
    mine: list[int] = []
    signal.signal(signal.SIGUSR2, lambda number, _: mine.append(number))
    guard = make(tmp_path, clocks)
    assert "SIGUSR2 has a handler already" in capsys.readouterr().err
    assert json.loads((tmp_path / "control/trainer.json").read_text())["signal"] is None
    os.kill(os.getpid(), signal.SIGUSR2)
    assert mine == [signal.SIGUSR2]
    put(tmp_path, 1, clocks)
    clocks.now += 2
    assert guard.poll() is not None


def test_outside_the_main_thread_the_folder_alone_is_looked_at(tmp_path: Path, clocks: Clocks) -> None:
    """Only the main thread may have signal handlers; elsewhere a command costs about a second more."""
    found: list[Command | None] = []

    def train() -> None:
        guard = make(tmp_path, clocks)
        put(tmp_path, 1, clocks)
        clocks.now += 2
        found.append(guard.poll())

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert [command and command.id for command in found] == [1]
    assert json.loads((tmp_path / "control/trainer.json").read_text())["signal"] is None


def test_the_run_of_a_living_process_is_left_to_it(
    tmp_path: Path, clocks: Clocks, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second rank, or a second start by mistake, neither takes commands nor overwrites the registration."""
    job = start_job(tmp_path, "--ignore")
    try:
        guard = make(tmp_path, clocks)
        clocks.now += 2
        put(tmp_path, 1, clocks)
        assert guard.poll() is None
        assert f"process {job.pid} is the trainer of this run" in capsys.readouterr().err
        assert json.loads((tmp_path / "control/trainer.json").read_text())["pid"] == job.pid
    finally:
        kill(job)
    clocks.now += 2
    guard.poll()
    assert json.loads((tmp_path / "control/trainer.json").read_text())["pid"] == os.getpid()


# ── when a command is noticed ──


def test_a_ring_is_noticed_at_the_next_poll(tmp_path: Path, clocks: Clocks) -> None:
    """The signal only sets a flag; the next step boundary reads the letter."""
    guard = make(tmp_path, clocks)
    assert guard.poll() is None
    put(tmp_path, 1, clocks, **ROLLBACK, set={"tau": "x0.5"}, reinit=["actor"])
    assert guard.poll() is None
    command = ring_and_poll(guard)
    assert command is not None
    assert (command.verb, command.to_checkpoint, command.reinit) == ("rollback", "00-00000100", ("actor",))
    assert command.set == {"tau": 0.005}
    taken = receipt(tmp_path, 1)
    assert taken is not None
    assert taken["status"] == "accepted"


@given(step=st.floats(1e-5, 5.0), slower=st.floats(1.0, 1e4))
@settings(max_examples=60, deadline=None)
def test_a_lost_ring_costs_about_a_second_at_any_step_time(
    tmp_path_factory: pytest.TempPathFactory, step: float, slower: float
) -> None:
    """Counting calls follows the step time; a loop that turns slower is blind for 64 steps at most, once."""
    run, clocks = tmp_path_factory.mktemp("run"), Clocks()
    guard = make(run, clocks)
    for _ in range(200):
        clocks.now += step
        guard.poll()
    put(run, 1, clocks, expires_at=None)
    assert until_noticed(guard, clocks, step) <= LOOK_EVERY + max(2 * step, 0.3)
    put(run, 2, clocks, expires_at=None)
    assert until_noticed(guard, clocks, step * slower) <= LOOK_EVERY + 65 * step * slower
    for _ in range(64):
        clocks.now += step * slower
        guard.poll()
    put(run, 3, clocks, expires_at=None)
    assert until_noticed(guard, clocks, step * slower) <= LOOK_EVERY + max(2 * step * slower, 0.3)


def until_noticed(guard: Guard, clocks: Clocks, step: float) -> float:
    since = clocks.now
    for _ in range(200_000):
        clocks.now += step
        command = guard.poll()
        if command is not None:
            guard.poll()  # after a command the guard looks for another one at once
            return clocks.now - since
    raise AssertionError("the letter was not noticed")


def test_a_ring_in_the_middle_of_a_look_is_kept(tmp_path: Path, clocks: Clocks) -> None:
    """The signal may come while the guard itself is at work; the very next poll answers it."""
    rings: list[int] = []

    def clock() -> float:
        if rings:
            os.kill(os.getpid(), rings.pop())
        return clocks.now

    guard = make(tmp_path, clocks, clock=clock)
    for _ in range(100):
        clocks.now += 0.005
        guard.poll()
    put(tmp_path, 1, clocks)
    rings.append(signal.SIGUSR2)
    while rings:
        assert guard.poll() is None
    assert guard.poll() is not None


def test_letters_are_handed_out_in_their_order_and_none_twice(tmp_path: Path, clocks: Clocks) -> None:
    """One command a poll, oldest id first; what has a receipt is left alone."""
    guard = make(tmp_path, clocks)
    for number in (3, 1, 2):
        put(tmp_path, number, clocks)
    os.kill(os.getpid(), signal.SIGUSR2)
    handed = [guard.poll() for _ in range(5)]
    assert [command and command.id for command in handed] == [1, 2, 3, None, None]


# ── what is refused ──

ROLLBACK = {"verb": "rollback", "to_checkpoint": "00-00000100"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"verb": "rolback"}, "unknown verb 'rolback'"),
        ({"verb": ["rollback"]}, "unknown verb"),
        ({"id": 2}, "not a command with id 1"),
        ({"if_attempt": 7}, "stale: it is for attempt 7, this is 0"),
        ({"expires_at": 1.0}, "expired"),
        ({"expires_at": math.nan}, "expired"),
        ({"expires_at": "soon"}, "wrong type"),
        ({"verb": "rollback"}, "needs to_checkpoint or to_step"),
        ({**ROLLBACK, "to_checkpoint": "../../etc"}, "no name of a checkpoint"),
        ({**ROLLBACK, "to_checkpoint": ".."}, "no name of a checkpoint"),
        ({**ROLLBACK, "set": {"gamma": 0.9}}, "not declared by this job: gamma"),
        ({**ROLLBACK, "set": {"actor": 0.9}}, "not declared by this job: actor"),
        ({**ROLLBACK, "set": {"tau": 0.2}}, "lies outside [0.001, 0.1]"),
        ({**ROLLBACK, "set": {"tau": "x100"}}, "lies outside [0.001, 0.1]"),
        ({**ROLLBACK, "set": {"tau": math.nan}}, "lies outside"),
        ({**ROLLBACK, "set": {"tau": True}}, "is a number"),
        ({**ROLLBACK, "set": {"tau": "fast"}}, "is a number"),
        ({**ROLLBACK, "set": {"delay": 2.5}}, "is a whole number"),
        ({**ROLLBACK, "set": {"features": "both"}}, "is one of"),
        ({**ROLLBACK, "set": {"clip": 1}}, "is true or false"),
        ({**ROLLBACK, "set": ["tau"]}, "wrong type"),
        ({**ROLLBACK, "reinit": ["critic"]}, "not declared by this job: critic"),
        ({**ROLLBACK, "reinit": [["actor"]]}, "not declared by this job"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(
    tmp_path: Path, clocks: Clocks, changes: dict[str, Any], why: str
) -> None:
    """A letter is checked whole before anything is touched, and the sender learns why."""
    guard = make(tmp_path, clocks)
    before = (tmp_path / "control/trainer.json").read_bytes()
    put(tmp_path, 1, clocks, **changes)
    assert ring_and_poll(guard) is None
    answer = receipt(tmp_path, 1)
    assert answer is not None
    assert answer["status"] == "refused"
    assert why in answer["reason"]
    assert (tmp_path / "control/trainer.json").read_bytes() == before


@pytest.mark.parametrize("kind", ["torn", "link", "pipe", "huge", "folder"])
def test_a_letter_that_is_no_letter_is_refused(tmp_path: Path, clocks: Clocks, kind: str) -> None:
    """A pipe would hang, a link would lead elsewhere, a torn letter may still be on its way for a moment."""
    guard = make(tmp_path, clocks)
    path = put(tmp_path, 1, clocks)
    path.unlink()
    if kind == "link":
        (tmp_path / "elsewhere").write_text(json.dumps({"id": 1, "verb": "terminate"}))
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text(
            '{"id": 1, "verb"' if kind == "torn" else json.dumps({"id": 1, "reason": "x" * 100_000})
        )
        os.utime(path, (clocks.wall(), clocks.wall()))
    if kind == "torn":
        assert ring_and_poll(guard) is None
        assert receipt(tmp_path, 1) is None
        clocks.now += 10
    put(tmp_path, 2, clocks)
    command = ring_and_poll(guard)
    assert command is not None
    assert command.id == 2
    answer = receipt(tmp_path, 1)
    assert answer is not None
    assert answer["status"] == "refused"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_letter_of_another_user_is_refused(tmp_path: Path, clocks: Clocks) -> None:
    """Whoever can drop a file must not thereby command somebody else's training."""
    guard = make(tmp_path, clocks)
    os.chown(put(tmp_path, 1, clocks), 65534, 65534)
    assert ring_and_poll(guard) is None
    answer = receipt(tmp_path, 1)
    assert answer is not None
    assert "uid 65534" in answer["reason"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = (
    "verb",
    "to_checkpoint",
    "to_step",
    "set",
    "reinit",
    "if_attempt",
    "issued_at",
    "expires_at",
    "reason",
)


@given(
    changes=st.dictionaries(
        st.sampled_from(FIELDS), JSON | st.sampled_from(["rollback", "terminate", {"tau": 1}])
    ),
    whole=JSON | st.binary(max_size=40) | st.none(),
)
@settings(max_examples=150, deadline=None)
def test_no_letter_whatever_it_says_escapes_a_receipt_or_raises(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], whole: Any
) -> None:
    """Any bytes in the folder end as accepted or refused, and never keep the next letter from its turn."""
    run, clocks = tmp_path_factory.mktemp("run"), Clocks()
    guard = make(run, clocks)
    path = put(run, 1, clocks, **changes)
    if whole is not None:
        path.write_bytes(whole if isinstance(whole, bytes) else json.dumps(whole).encode())
        os.utime(path, (0, 0))
    put(run, 2, clocks)
    os.kill(os.getpid(), signal.SIGUSR2)
    handed = [command.id for command in (guard.poll() for _ in range(4)) if command is not None]
    first = receipt(run, 1)
    assert first is not None
    assert first["status"] == ("accepted" if 1 in handed else "refused")
    assert 2 in handed
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)


@given(
    low=st.floats(-1e6, 1e6),
    width=st.floats(0, 1e6),
    at=st.floats(0, 1),
    wanted=st.floats() | st.integers() | st.floats(0, 1e4).map(lambda f: f"x{f}") | st.text(max_size=6),
    integer=st.booleans(),
)
def test_a_value_that_passes_lies_within_its_bounds(
    low: float, width: float, at: float, wanted: object, integer: bool
) -> None:
    """Absolute or relative, whole or not: either it is refused, or it is finite and inside."""
    current = min(max(low + at * width, low), low + width)
    if integer and not current.is_integer():
        integer = False
    parameter = Parameter.number("p", current, low=low, high=low + width, integer=integer)
    try:
        value = parameter.resolve(wanted, current)
    except (ValueError, OverflowError):
        return
    assert isinstance(value, (int, float))
    assert low <= value <= low + width
    assert not integer or isinstance(value, int)


def test_relative_values_follow_the_current_one(tmp_path: Path, clocks: Clocks) -> None:
    """`x0.5` twice is a quarter; a value the job changed by itself counts too."""
    guard = make(tmp_path, clocks)
    put(tmp_path, 1, clocks, **ROLLBACK, set={"tau": "x0.5", "delay": "x0.3"})
    first = ring_and_poll(guard)
    assert first is not None
    assert first.set == {"tau": 0.005, "delay": 1}
    guard.acknowledge(first, "done")
    put(tmp_path, 2, clocks, **ROLLBACK, set={"tau": "x0.5"})
    second = ring_and_poll(guard)
    assert second is not None
    assert second.set == {"tau": 0.0025}
    guard.set_value("tau", 0.08)
    put(tmp_path, 3, clocks, **ROLLBACK, set={"tau": "x0.5"})
    third = ring_and_poll(guard)
    assert third is not None
    assert third.set == {"tau": 0.04}
    shown = json.loads((tmp_path / "control/trainer.json").read_text())["parameters"]
    assert (shown["tau"]["value"], shown["delay"]["value"]) == (0.08, 1)


@pytest.mark.parametrize("low_high", [(0.5, 1.0), (0.0, 0.05), (math.nan, 1.0)])
def test_a_declaration_that_contradicts_itself_is_told_before_training(low_high: tuple[float, float]) -> None:
    """A first value outside its own bounds is a mistake in the job, not in a command."""
    with pytest.raises(ValueError, match="lies outside"):
        Parameter.number("lr", 0.1, low=low_high[0], high=low_high[1])


# ── attempts, outcomes, the end ──


def test_a_rollback_makes_older_letters_stale(tmp_path: Path, clocks: Clocks) -> None:
    """What was decided before a rollback was decided about steps that are void now."""
    guard = make(tmp_path, clocks)
    put(tmp_path, 1, clocks, **ROLLBACK, if_attempt=0)
    put(tmp_path, 2, clocks, **ROLLBACK, if_attempt=0)
    command = ring_and_poll(guard)
    assert command is not None
    guard.begin_attempt()
    guard.acknowledge(command, "done", step=100, checkpoint="00-00000100", checkpoint_step=100)
    assert guard.poll() is None
    first, second = receipt(tmp_path, 1), receipt(tmp_path, 2)
    assert first is not None
    assert second is not None
    assert (first["status"], first["attempt"], first["checkpoint_step"]) == ("done", 1, 100)
    assert second["status"] == "refused"


def test_the_first_outcome_stands(tmp_path: Path, clocks: Clocks, capsys: pytest.CaptureFixture[str]) -> None:
    """A job that reports twice does not turn what it did into what it did not."""
    guard = make(tmp_path, clocks)
    put(tmp_path, 1, clocks)
    command = ring_and_poll(guard)
    assert command is not None
    guard.acknowledge(command, "done")
    guard.acknowledge(command, "failed")
    answer = receipt(tmp_path, 1)
    assert answer is not None
    assert answer["status"] == "done"
    assert "has its outcome already" in capsys.readouterr().err


def test_the_end_of_a_run_answers_what_is_left(tmp_path: Path, clocks: Clocks) -> None:
    """After finish() nobody waits for an answer, and the registration says how it ended."""
    guard = make(tmp_path, clocks)
    put(tmp_path, 1, clocks)
    guard.finish("finished")
    answer, record = receipt(tmp_path, 1), json.loads((tmp_path / "control/trainer.json").read_text())
    assert answer is not None
    assert (answer["status"], record["outcome"], record["finished_at"]) == (
        "refused",
        "finished",
        clocks.wall(),
    )
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN
    assert guard.poll() is None


def test_a_ring_that_comes_while_python_ends_does_no_harm(tmp_path: Path) -> None:
    """Without care the interpreter puts SIGUSR2 back to its default on its way out, which is to kill."""
    code = (
        "import os, signal, sys\nfrom sentinel.guard import Guard\n"
        f"guard = Guard({str(tmp_path)!r})\n"
        "class Late:\n    def __del__(self, kill=os.kill, pid=os.getpid(), n=signal.SIGUSR2): kill(pid, n)\n"
        "sys.late = Late()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


DYING = """
import json, sys
from pathlib import Path
from sentinel.guard import Guard
run = Path(sys.argv[1])
class Mute(ValueError):
    def __str__(self): raise KeyError("no words")
def before(kind, error, trace): print("printed", kind.__name__, file=sys.stderr)
sys.excepthook = before
guards = [Guard(run / name) for name in "ab"]
{}
"""


def _die(run: Path, code: str) -> tuple[int, str, list[Any]]:
    """Run a job that ends with this code: exit code, what it printed, the error in each trainer.json."""
    command = [sys.executable, "-c", DYING.format(code), str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    said = [json.loads((run / name / "control/trainer.json").read_text()) for name in "ab"]
    return done.returncode, done.stderr, [record.get("error") for record in said]


def test_what_ends_the_process_is_written_down_after_it_was_printed(tmp_path: Path) -> None:
    """Its kind, its words in one line, where; the exit code and who prints it stay as they are."""
    code, printed, errors = _die(tmp_path, "raise RuntimeError('out of\\nmemory ' + 'x' * 900)")
    assert (code, printed) == (1, "printed RuntimeError\n")
    assert errors[0].startswith("RuntimeError: out of memory xxx")
    assert errors[0].endswith("x (<string>:11)")
    assert len(errors[0]) < 340
    assert errors[1] == errors[0]


def test_an_end_that_is_no_error_leaves_no_words(tmp_path: Path) -> None:
    """Ctrl-C and sys.exit; an error that cannot be put into words costs a warning, and no run."""
    for number, (code, wanted) in enumerate([("raise KeyboardInterrupt", -2), ("sys.exit(3)", 3)]):
        found, _, errors = _die(tmp_path / str(number), code)
        assert (found, errors) == (wanted, [None, None])
    found, printed, errors = _die(tmp_path / "mute", "raise Mute")
    assert (found, errors) == (1, [None, None])
    assert printed.startswith("printed Mute\n")
    assert "training goes on" in printed


def test_who_says_that_it_failed_need_not_say_of_what(tmp_path: Path, clocks: Clocks) -> None:
    """Said while the error is handled, its words go along; in a new start they are gone."""
    guard = make(tmp_path, clocks)
    try:
        raise ZeroDivisionError("loss")
    except ZeroDivisionError:
        guard.finish("failed")
    record = json.loads((tmp_path / "control/trainer.json").read_text())
    assert record["outcome"] == "failed"
    assert record["error"].startswith("ZeroDivisionError: loss (test_guard.py:")
    make(tmp_path, clocks)
    assert "error" not in json.loads((tmp_path / "control/trainer.json").read_text())


def test_a_forked_worker_is_not_the_trainer(tmp_path: Path, clocks: Clocks) -> None:
    """A data loader's process inherits the guard; it must neither beat nor take a command."""
    guard = make(tmp_path, clocks)
    put(tmp_path, 1, clocks)
    clocks.now += 5
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child
        guard.beat(99, "evaluate")
        os._exit(0 if guard.poll() is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert json.loads((tmp_path / "control/heartbeat.json").read_text())["step"] == 0
    assert receipt(tmp_path, 1) is None


# ── the sentinel's absence ──


def test_the_sentinels_absence_is_told_once_and_so_is_its_return(
    tmp_path: Path, clocks: Clocks, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training never stops because the sentinel did; it says so once, not every five seconds."""
    guard = make(tmp_path, clocks)
    path = tmp_path / "control/sentinel.json"

    def beat() -> None:
        record = {
            "pid": 1,
            "start_time": 0,
            "boot_id": "elsewhere",
            "wall_time": clocks.wall(),
            "patience": 20,
        }
        path.write_text(json.dumps(record))

    def train(seconds: float, *, watched: bool) -> str:
        for _ in range(int(seconds)):
            clocks.now += 1
            if watched:
                beat()
            guard.poll()
        return capsys.readouterr().err

    assert train(60, watched=False) == ""
    assert train(60, watched=True) == ""
    assert train(120, watched=False).count("watches this run no longer (it has been silent") == 1
    assert train(60, watched=True).count("the sentinel is back") == 1
    path.unlink()
    assert train(60, watched=False).count("watches this run no longer") == 1


def test_a_sentinel_whose_process_is_gone_is_missed_sooner(
    tmp_path: Path, clocks: Clocks, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the same machine the process itself can be looked at, unless it is in another container."""
    guard = make(tmp_path, clocks)
    far = {"boot_id": guard_module._boot_id(), "pid_namespace": "pid:[1]", "patience": 60}
    (tmp_path / "control/sentinel.json").write_text(json.dumps({"pid": 7, "start_time": 1, **far}))
    for _ in range(31):
        clocks.now += 1
        guard.poll()
    assert "gone" not in capsys.readouterr().err
    record = {
        "pid": os.getpid(),
        "start_time": 1,
        "boot_id": guard_module._boot_id(),
        "wall_time": 1,
        "patience": 60,
    }
    (tmp_path / "control/sentinel.json").write_text(json.dumps(record))
    for _ in range(31):
        clocks.now += 1
        guard.poll()
    assert capsys.readouterr().err.count("its process is gone") == 1


# ── the disk ──


def test_a_vanished_folder_is_made_again(tmp_path: Path, clocks: Clocks) -> None:
    """Somebody tidied up: the job registers again, takes commands, and does nothing a second time."""
    guard = make(tmp_path, clocks)
    put(tmp_path, 1, clocks)
    done = ring_and_poll(guard)
    assert done is not None
    guard.acknowledge(done, "done")
    shutil.rmtree(tmp_path / "control")
    clocks.now += 2
    guard.poll()
    clocks.now += 2
    guard.poll()
    assert (tmp_path / "control/trainer.json").exists()
    put(tmp_path, 1, clocks)
    put(tmp_path, 2, clocks)
    command = ring_and_poll(guard)
    assert command is not None
    assert command.id == 2
    shutil.rmtree(tmp_path)
    for _ in range(3):
        clocks.now += 2
        guard.beat(1, "evaluate")
        assert guard.poll() is None
        guard.beat(1, "update")
    assert not tmp_path.exists()
    tmp_path.mkdir()


def test_an_outcome_the_disk_would_not_take_is_written_later(
    tmp_path: Path, clocks: Clocks, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command is done, only its receipt is owed; it is paid as soon as can be, and told once."""
    guard = make(tmp_path, clocks)
    put(tmp_path, 1, clocks)
    command = ring_and_poll(guard)
    assert command is not None
    receipts = tmp_path / "control/receipts"
    receipts.rename(tmp_path / "kept")
    receipts.write_text("in the way")
    guard.acknowledge(command, "done", step=7)
    for _ in range(5):
        clocks.now += 2
        guard.poll()
    assert capsys.readouterr().err.count("pay in") == 1
    receipts.unlink()
    (tmp_path / "kept").rename(receipts)
    clocks.now += 2
    guard.poll()
    answer = receipt(tmp_path, 1)
    assert answer is not None
    assert (answer["status"], answer["step"]) == ("done", 7)


DISK_TROUBLE = """
import os, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from guard import Guard
run, now = Path(sys.argv[1]), [0.0]
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
if sys.argv[3] == "read-only from the start":
    run.chmod(0o500)
guard = Guard(run, clock=lambda: now[0], wall=lambda: now[0])
if sys.argv[3] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
if sys.argv[3] == "read-only":
    for folder in ("control/commands", "control/receipts", "control"):
        (run / folder).chmod(0o500)
letter = run / "control" / "commands" / "000001.json"
for step in range(100):
    now[0] += 2
    guard.beat(step, "evaluate" if step % 2 else "update")
    assert guard.poll() is None, "a command without a durable receipt must not be handed out"
guard.begin_attempt()
guard.finish()
print("trained on")
"""


@pytest.mark.parametrize("trouble", ["full", "read-only", "read-only from the start"])
def test_no_trouble_with_the_disk_reaches_the_job(tmp_path: Path, trouble: str) -> None:
    """Full or read-only: the job trains on, hears of it a few times, and obeys nothing it cannot receipt."""
    alone, run = tmp_path / "alone", tmp_path / "run"
    alone.mkdir(mode=0o755)
    run.mkdir()
    shutil.copy(guard_module.__file__, alone / "guard.py")
    if trouble != "read-only from the start":
        Guard(run).finish()
        put(run, 1, expires_at=None)
    if os.geteuid() == 0:  # root may write everywhere: the job becomes nobody
        for path in (run, *run.rglob("*")):
            os.chown(path, 65534, 65534)
        for parent in tmp_path.parents:
            if parent.name.startswith(("pytest-", "popen-")):  # pytest's own, and its worker's
                parent.chmod(0o755)
        tmp_path.chmod(0o755)
    if trouble != "full":
        letter = run / "control/commands/000001.json"
        if letter.exists():
            letter.unlink()  # a read-only folder could not have received it
    else:
        before = {"pid": 2**22, "attempt": 0}
        (run / "control/trainer.json").write_text(json.dumps(before))
    done = subprocess.run(
        [sys.executable, "-S", "-c", DISK_TROUBLE, run, alone, trouble],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.stdout, done.returncode) == ("trained on\n", 0), done.stderr
    assert 1 <= len(done.stderr.splitlines()) <= 6
    assert "training goes on" in done.stderr
    assert receipt(run, 1) is None


# ── at most once: a real job, killed anywhere ──


def start_job(run: Path, *more: str, folder: Path | None = None) -> subprocess.Popen[str]:
    """Start the job and wait until it has registered."""
    script = (folder / JOB.name) if folder else JOB
    job = subprocess.Popen(
        [sys.executable, *(["-S"] if folder else []), str(script), str(run), *more],
        stdout=subprocess.PIPE,
        text=True,
    )
    line = job.stdout.readline() if job.stdout else ""
    assert line == "registered\n"
    return job


def kill(job: subprocess.Popen[str]) -> None:
    job.kill()
    job.wait(timeout=20)
    if job.stdout:
        job.stdout.close()


def settled(run: Path, number: int, job: subprocess.Popen[str], seconds: float = 20) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and job.poll() is None:
        answer = receipt(run, number)
        if answer is not None and answer["status"] != "accepted":
            return answer
        time.sleep(0.005)
    raise AssertionError(f"no outcome of command {number}; the job's exit status is {job.poll()}")


def effects(run: Path) -> list[str]:
    path = run / "effects"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    ("point", "times", "status"),
    [("registered", 1, "done"), ("accepted", 0, "failed"), ("executed", 1, "failed")],
)
def test_a_job_killed_between_letter_and_outcome_does_the_command_at_most_once(
    tmp_path: Path, point: str, times: int, status: str
) -> None:
    """Unread, it is done by the next process; accepted, it is not begun again and the sender learns that."""
    job = start_job(tmp_path, "--stop", point)
    put(tmp_path, 1)
    if point != "registered":
        os.kill(job.pid, signal.SIGUSR2)
    assert job.stdout is not None
    assert job.stdout.readline() == f"{point}\n"
    kill(job)
    again = start_job(tmp_path)
    try:
        answer = settled(tmp_path, 1, again)
    finally:
        kill(again)
    assert (len(effects(tmp_path)), answer["status"]) == (times, status)
    assert status == "done" or answer["reason"] == "the trainer restarted before it was done"


def test_a_job_killed_at_any_file_operation_does_the_command_at_most_once(tmp_path: Path) -> None:
    """SIGKILL at every open, rename, remove and listing from the letter to the outcome."""
    shutil.copy(guard_module.__file__, tmp_path / "guard.py")
    shutil.copy(JOB, tmp_path / JOB.name)
    died, outcomes = 0, set()
    for operation in range(1, 40):
        run = tmp_path / f"run{operation}"
        (run / "control/commands").mkdir(parents=True)
        put(run, 1)
        job = start_job(run, "--die-at", str(operation), folder=tmp_path)
        assert job.stdout is not None
        obeyed = job.stdout.readline()
        kill(job)
        if obeyed:  # it lived until it had acknowledged: every operation has had its turn
            break
        died += 1
        again = start_job(run, folder=tmp_path)
        try:
            answer = settled(run, 1, again)
        finally:
            kill(again)
        assert len(effects(run)) <= 1
        assert len(effects(run)) == 1 or answer["status"] == "failed"
        outcomes.add((len(effects(run)), answer["status"]))
    assert died >= 8
    assert outcomes == {(1, "done"), (0, "failed"), (1, "failed")}


def test_a_storm_of_rings_breaks_nothing(tmp_path: Path) -> None:
    """The handler only sets a flag, so a thousand rings cost a thousand looks and no more."""
    job = start_job(tmp_path)
    try:
        for number in range(1, 31):
            put(tmp_path, number)
            for _ in range(30):
                os.kill(job.pid, signal.SIGUSR2)
        for number in range(1, 31):
            assert settled(tmp_path, number, job)["status"] == "done"
    finally:
        kill(job)
    assert [line.split()[0] for line in effects(tmp_path)] == [str(number) for number in range(1, 31)]


def test_the_file_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    """Copied alone, without site-packages, it guards a job: that is how a foreign job takes it."""
    shutil.copy(guard_module.__file__, tmp_path / "guard.py")
    shutil.copy(JOB, tmp_path / JOB.name)
    job = start_job(tmp_path / "run", folder=tmp_path)
    put(tmp_path / "run", 1, verb="terminate")
    os.kill(job.pid, signal.SIGUSR2)
    assert job.wait(timeout=20) == 0
    if job.stdout:
        job.stdout.close()
    record = json.loads((tmp_path / "run/control/trainer.json").read_text())
    assert record["outcome"] == "terminated"
