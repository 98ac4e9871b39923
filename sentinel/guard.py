"""The piece inside the training process: say what the run is, beat, and fetch commands at a step boundary.

A file is the letter and the signal only the doorbell: the handler sets a flag, `poll()` reads the folder.
Losing a signal, the sentinel or the disk must never cost a training step, so nothing here raises into the
loop and nothing waits. A command is claimed by an exclusive receipt before it is handed out, so it happens
at most once, also across a restart of the trainer. Standard library only and one file: any job can take it.

    guard = Guard(run_dir, parameters=[Parameter.number("lr", 3e-4, low=0, high=1)])
    for step in range(steps):
        guard.beat(step, "update")
        command = guard.poll()
        if command is not None:
            guard.acknowledge(command, "done" if obey(command) else "refused", step=step)
    guard.finish()

One process and one thread of a job hold the guard (of several ranks: one); long loops (evaluation, warm-up)
poll too. Files are replaced atomically. Receipts and the registration are fsynced; the heartbeat is not: it
only matters while this process lives.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import re
import signal
import stat
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, Union

Value = Union[float, int, bool, str]  # noqa: UP007 - evaluated at import, and a foreign job may run Python 3.9
VERBS = ("checkpoint", "rollback", "terminate")
OUTCOMES = ("done", "refused", "failed")
LOOK_EVERY = 1.0  # seconds between looks at the folder without a ring
CHECK_EVERY = 0.25  # seconds between looks at the clock, which the count of calls aims at
MOST_CALLS = 64  # calls between two looks at the clock: what a loop that suddenly turns slow can be blind for
SENTINEL_EVERY = 5.0  # seconds between looks at the sentinel's own heartbeat
LONGEST_ERROR = 300  # characters of the exception that ends the job
LARGEST_LETTER = 65536  # bytes; a longer command is refused unread
QUICK_PHASES = ("collect", "update")  # these alternate every step, so they do not write the heartbeat at once

_guards: weakref.WeakSet[Guard] = weakref.WeakSet()  # of this process, for what ends it
_LETTER = re.compile(r"[0-9]{6,18}\.json")
_RELATIVE = re.compile(r"x([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+)")


@dataclass(frozen=True)
class Parameter:
    """One value that commands may change: its kind, current value and bounds.

    Raises:
        ValueError: the first value lies outside the declared bounds or choices.
    """

    name: str
    kind: str
    value: Value
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] = ()
    integer: bool = False

    def __post_init__(self) -> None:
        self.resolve(self.value, self.value)

    @classmethod
    def number(cls, name: str, value: float, *, low: float, high: float, integer: bool = False) -> Parameter:
        """A number within [low, high]; `integer` rounds relative values and refuses fractions."""
        return cls(name, "number", value, low=low, high=high, integer=integer)

    @classmethod
    def enum(cls, name: str, value: Value, choices: Iterable[Value]) -> Parameter:
        """One of `choices`."""
        return cls(name, "enum", value, choices=tuple(choices))

    @classmethod
    def boolean(cls, name: str, value: Value) -> Parameter:
        """True or False."""
        return cls(name, "bool", value)

    def resolve(self, wanted: object, current: Value) -> Value:
        """Turn what a command asks for into a value: absolute, or "x0.3" times `current` for a number.

        Raises:
            ValueError: wrong kind, not finite, or outside the bounds; the message names the parameter.
        """
        if self.kind == "bool":
            if isinstance(wanted, bool):
                return wanted
            raise ValueError(f"parameter {self.name!r} is true or false, not {wanted!r}")
        if self.kind == "enum":
            for choice in self.choices:
                if type(choice) is type(wanted) and choice == wanted:
                    return choice
            raise ValueError(f"parameter {self.name!r} is one of {list(self.choices)}, not {wanted!r}")
        factor = _RELATIVE.fullmatch(wanted) if isinstance(wanted, str) else None
        if isinstance(wanted, bool) or not (factor or isinstance(wanted, (int, float))):
            raise ValueError(f'parameter {self.name!r} is a number or relative as "x0.3", not {wanted!r}')
        value = float(current) * float(factor[1]) if factor else wanted
        assert isinstance(value, (int, float))
        whole = round(value) if self.integer and math.isfinite(value) else value
        if self.integer and not factor and value != whole:
            raise ValueError(f"parameter {self.name!r} is a whole number, not {value}")
        if self.low is None or self.high is None or not self.low <= whole <= self.high or math.isinf(whole):
            raise ValueError(f"parameter {self.name!r}: {value} lies outside [{self.low}, {self.high}]")
        return whole

    def declaration(self, current: Value) -> dict[str, Any]:
        """This parameter as trainer.json shows it."""
        if self.kind == "number":
            whole = {"integer": True} if self.integer else {}
            return {"kind": "number", "value": current, "low": self.low, "high": self.high, **whole}
        if self.kind == "enum":
            return {"kind": "enum", "value": current, "choices": list(self.choices)}
        return {"kind": "bool", "value": current}


@dataclass(frozen=True)
class Command:
    """A checked and accepted letter. `set` holds absolute values, already within their bounds."""

    id: int
    verb: str
    to_checkpoint: str | None = None
    to_step: int | None = None
    set: Mapping[str, Value] = field(default_factory=dict)
    reinit: tuple[str, ...] = ()
    if_attempt: int | None = None
    issued_at: float = 0.0
    expires_at: float = math.inf
    reason: str = ""


class RefusalError(ValueError):
    """A letter that will not be carried out; the message becomes the receipt's reason."""


class Guard:
    """Registers this process as the trainer of `run_dir` and hands out commands, each at most once.

    Args:
        run_dir: the folder of the run's event files; `control/` is made in it, mode 0700.
        parameters: what commands may set. reinit: names of parts that can be given fresh weights.
        checkpoints: folder of the checkpoints, relative to the run or absolute.
        verbs: the commands this job can carry out.
        doorbell: the signal that says "look now". Where the job has a handler of its own, or outside the main
            thread, none is installed: the folder alone is looked at, about once a second.
        clock, wall: seconds, monotonic and of the epoch.

    Raises:
        ValueError: two parameters of one name. The disk never makes it raise.

    `attempt` is 0 in a new run and one more than the last attempt after a restart.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        *,
        parameters: Iterable[Parameter] = (),
        reinit: Iterable[str] = (),
        checkpoints: str | os.PathLike[str] = "checkpoints",
        verbs: Iterable[str] = VERBS,
        doorbell: signal.Signals = signal.SIGUSR2,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._quiet: Iterable[
            None
        ] = ()  # an iterator with one item for each poll() that has nothing to look at
        self._calls = 1
        self._rung = False
        self._control = Path(run_dir).absolute() / "control"
        declared = tuple(parameters)
        self._parameters = {parameter.name: parameter for parameter in declared}
        if len(self._parameters) != len(declared):
            raise ValueError(f"a parameter is declared twice: {[p.name for p in declared]}")
        self._values: dict[str, Value] = {p.name: p.value for p in declared}
        self._reinit, self._checkpoints, self._verbs = tuple(reinit), os.fspath(checkpoints), tuple(verbs)
        self._clock, self._wall = clock, wall
        self._step, self._phase, self._beaten = 0, "start", True
        self._pid, self._uid = os.getpid(), os.geteuid()
        self._identity = {"pid": self._pid, "start_time": _start_time(self._pid)[0], "boot_id": _boot_id()}
        self._identity["pid_namespace"] = _pid_namespace()
        self._started_at = wall()
        self._finished_at: float | None = None
        self._outcome: str | None = None
        self._error: str | None = None  # of which the process dies
        self._synced: object = None  # the attempt and end that trainer.json holds for certain
        self._checked = self._sentinel_looked = clock()
        self._looked = self._checked - LOOK_EVERY  # letters may be waiting: the first poll() looks
        self._registered = self._settled = False
        self._seen: set[int] = set()  # ids that need no further look: answered, or claimed by someone
        self._accepted: set[int] = set()  # ids handed out and not yet acknowledged
        self._owed: dict[int, dict[str, Any]] = {}  # outcomes that the disk would not take; tried again
        self._warned: set[str] = set()
        self._sentinel: dict[str, Any] | None = None  # the sentinel's own heartbeat, as last seen to change
        self._sentinel_since, self._sentinel_lost = 0.0, False
        before = [_read(self._control / name) or {} for name in ("trainer.json", "heartbeat.json")]
        attempts = [record["attempt"] for record in before if isinstance(record.get("attempt"), int)]
        self.attempt = max(attempts, default=-1) + 1
        self._doorbell = self._hang_doorbell(doorbell)
        _guards.add(self)
        _listen_for_errors()
        self._workload = _workload(os.environ)
        if self._workload is not None and self._workload["kind"] == "slurm":
            # Slurm signals all of a step. This one kills nobody: who has no handler for it ignores it.
            bell = self._hang_doorbell(signal.SIGURG)
            self._workload["facts"].update({"bell": bell.name} if bell else {})
        self._safely(self._register)
        self._safely(self._write_heartbeat)

    def poll(self) -> Command | None:
        """The next command to carry out now, or None. Cheap enough for every step; never raises."""
        for _ in self._quiet:  # takes one item: counter and flag in one, at half the price of an integer
            return None
        return self._look()

    def beat(self, step: int, phase: str = "update") -> None:
        """Say that the loop is alive at `step`, in phase collect, update, evaluate, checkpoint or start.

        The next look of poll() writes it, about once a second; entering or leaving a slow phase writes at
        once, so that the sentinel has that phase's patience.
        """
        self._step = step
        self._beaten = True
        if phase != self._phase:
            quick = phase in QUICK_PHASES and self._phase in QUICK_PHASES
            self._phase = phase
            if not quick:
                self._calls, self._quiet = 1, ()  # the rate of calls is about to change
                self._safely(self._write_heartbeat)

    def acknowledge(
        self,
        command: Command,
        status: str,
        *,
        step: int | None = None,
        checkpoint: str | None = None,
        checkpoint_step: int | None = None,
        reason: str = "",
    ) -> None:
        """Write the outcome of a command: done, refused or failed ("accepted" was written by poll()).

        `done` makes the values of `command.set` the current ones. The first outcome stands.
        """
        if status == "accepted":
            return
        if command.id not in self._accepted:
            self._warn(
                f"ack{command.id}", f"command {command.id} has its outcome already; {status!r} is not written"
            )
            return
        if status not in OUTCOMES:
            status, reason = "failed", f"the job acknowledged with {status!r}, which is no outcome; {reason}"
        self._accepted.discard(command.id)
        if status == "done" and command.set:
            self._values.update(command.set)
            self._registered = False  # trainer.json shows current values
        outcome = {"step": step, "checkpoint": checkpoint, "checkpoint_step": checkpoint_step}
        self._owed[command.id] = self._receipt(command.id, status, reason, **outcome)
        self._safely(self._pay)

    def set_value(self, name: str, value: Value) -> None:
        """Tell the value of a declared parameter that the job changed by itself (a schedule, a resume)."""
        if name not in self._values:
            self._warn(f"set {name}", f"set_value: no parameter {name!r} is declared; nothing is recorded")
        elif self._values[name] != value:
            self._values[name] = value
            self._registered = False  # written at the next look, so that a schedule costs no disk each step

    def begin_attempt(self) -> int:
        """A new attempt begins (after a rollback): letters written for the old one are stale from here on."""
        self.attempt += 1
        self._beaten, self._registered = True, False
        self._safely(self._register)
        self._safely(self._write_heartbeat)
        return self.attempt

    def finish(self, outcome: str = "finished") -> None:
        """End the run: finished, terminated or failed. Unread letters are refused; a late ring is ignored.

        `failed`, said while an exception is being handled, leaves that exception's words to the sentinel.
        """
        if self._finished_at is not None:
            return
        self._finished_at, self._outcome = self._wall(), outcome
        error = sys.exc_info()[1]
        if outcome == "failed" and error is not None:
            self._error = self._safely(lambda: _last_words(error))
        self._beaten, self._registered = True, False
        if self._doorbell is not None and signal.getsignal(self._doorbell) == self._ring:
            _ignore(self._doorbell)
        for job in (self._pay, self._register, self._read_letters, self._write_heartbeat):
            self._safely(job)

    def _die_of(self, error: BaseException) -> None:
        """Write down what ends this process; it was printed as ever. The run is not said to be over."""
        if self._error is None and self._finished_at is None:
            self._error = self._safely(lambda: _last_words(error))
            self._registered = False
            self._safely(self._register)

    # ── the slow path: about once a second, or after a ring ──

    def _look(self) -> Command | None:
        rung, self._rung = self._rung, False  # cleared before the folder is read: a ring from now on is kept
        now = self._clock()
        if not rung:  # after a ring nobody knows how many calls there were
            took = max(now - self._checked, 1e-6)
            self._calls = max(1, min(MOST_CALLS, int(self._calls * CHECK_EVERY / took)))
        self._checked = now
        self._wait()
        if not rung and now - self._looked < LOOK_EVERY:
            return None
        self._looked = now
        if self._finished_at is not None:
            return None
        for job in (self._register, self._pay, self._write_heartbeat, self._watch_sentinel):
            self._safely(job)
        command: Command | None = self._safely(self._read_letters)
        if command is not None:
            self._ring()  # there may be another letter behind this one
        return command

    def _wait(self) -> None:
        """Let the next calls of poll() pass; a ring that comes meanwhile is not overwritten."""
        self._quiet = repeat(None, self._calls - 1)
        if self._rung:
            self._quiet = ()

    def _safely(self, job: Callable[[], Any]) -> Any:
        """Run one piece of work on the disk; whatever goes wrong is told once and training goes on."""
        if os.getpid() != self._pid:
            return None  # a forked worker is not the trainer
        try:
            return job()
        except FileNotFoundError as error:
            self._registered = False  # the folder is gone: make it again at the next look
            self._warn("vanished", f"{error}; the control folder is made again, training goes on")
        except Exception as error:  # noqa: BLE001 - the watchdog's files must never end the training they serve
            what = getattr(job, "__name__", "work").strip("_").replace("_", " ")
            self._warn(
                what,
                f"{what} in {self._control}: {type(error).__name__}: {error}; training goes on",
            )
        return None

    def _register(self) -> None:
        if self._registered:
            return
        for folder in (self._control, self._control / "commands", self._control / "receipts"):
            folder.mkdir(mode=0o700, parents=not self._settled, exist_ok=True)
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != self._uid:
                raise PermissionError(f"{folder} is no folder of uid {self._uid}; commands are not read")
            if stat.S_IMODE(found.st_mode) != 0o700:
                folder.chmod(0o700)
        other = _read(self._control / "trainer.json") or {}
        if other.get("pid") != self._pid and other.get("finished_at") is None and _alive(other):
            raise RuntimeError(
                f"process {other.get('pid')} is the trainer of this run; this one takes no commands"
            )
        if not self._settled:
            self._settle()
        parameters = {name: p.declaration(self._values[name]) for name, p in self._parameters.items()}
        record = {
            "version": 1,
            **self._identity,
            "host": os.uname().nodename,
            "uid": self._uid,
            "attempt": self.attempt,
        }
        record.update(
            parameters=parameters, reinit=self._reinit, verbs=self._verbs, checkpoints=self._checkpoints
        )
        record.update(signal=self._doorbell.name if self._doorbell else None, started_at=self._started_at)
        record.update(finished_at=self._finished_at, outcome=self._outcome)
        if self._error is not None:
            record.update(error=self._error)
        if self._workload is not None:
            record.update(workload=self._workload)
        certain = (self.attempt, self._finished_at, self._error)
        _write(self._control / "trainer.json", record, sync=certain != self._synced)
        self._registered, self._synced = True, certain

    def _settle(self) -> None:
        """Give commands that a dead trainer had accepted their outcome: they are not begun a second time."""
        for path in sorted((self._control / "receipts").iterdir()):
            if not _LETTER.fullmatch(path.name):
                continue
            self._seen.add(int(path.stem))
            if (_read(path) or {"status": "accepted"}).get("status") == "accepted":
                why = "the trainer restarted before it was done"
                _write(path, self._receipt(int(path.stem), "failed", why))
        self._settled = True

    def _read_letters(self) -> Command | None:
        if not self._registered:
            return None
        names = sorted(
            path.name for path in (self._control / "commands").iterdir() if _LETTER.fullmatch(path.name)
        )
        for name in names:
            if (number := int(name[:-5])) in self._seen:
                continue
            if (self._control / "receipts" / name).exists():
                self._seen.add(number)
                continue
            try:
                command = self._open_letter(number, self._control / "commands" / name)
            except RefusalError as refusal:
                self._claim(number, self._receipt(number, "refused", str(refusal)))
                continue
            if command is not None and self._claim(number, self._receipt(number, "accepted", "")):
                self._accepted.add(number)
                return command
        return None

    def _claim(self, number: int, receipt: dict[str, Any]) -> bool:
        """Write the first receipt of a command; False where another process has written one before."""
        path = self._control / "receipts" / f"{number:06d}.json"

        def only_once() -> None:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

        try:
            _write(path, receipt, claim=only_once)
        except FileExistsError:
            self._seen.add(number)
            return False
        self._seen.add(number)
        return True

    def _open_letter(self, number: int, path: Path) -> Command | None:
        """Read and check one command. None: it is still being written. Raises RefusalError with a reason."""
        # NONBLOCK and NOFOLLOW: neither a pipe nor a link in the folder may hang or lead us elsewhere.
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None  # taken back since the folder was listed
        except OSError as error:
            raise RefusalError(f"cannot be read: {error.strerror}") from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != self._uid:
                raise RefusalError(f"no file of uid {self._uid}; its owner is uid {found.st_uid}")
            text = os.read(descriptor, LARGEST_LETTER + 1)
        finally:
            os.close(descriptor)
        try:
            letter = json.loads(text) if len(text) <= LARGEST_LETTER else None
        except (ValueError, RecursionError):
            if self._wall() - found.st_mtime < SENTINEL_EVERY:
                return None
            letter = None
        if not isinstance(letter, dict) or letter.get("id") != number:
            raise RefusalError(f"not a command with id {number}")
        return self._check(number, letter)

    def _check(self, number: int, letter: dict[str, Any]) -> Command:
        """Refuse everything that cannot be carried out as it stands, before anything is touched."""
        verb, target, to_step = letter.get("verb"), letter.get("to_checkpoint"), letter.get("to_step")
        wanted, parts, until = letter.get("set") or {}, letter.get("reinit") or [], letter.get("expires_at")
        until = math.inf if until is None else until
        if self._finished_at is not None:
            raise RefusalError(f"the run has ended ({self._outcome})")
        if verb not in self._verbs:
            raise RefusalError(f"unknown verb {verb!r}; this job knows {', '.join(self._verbs)}")
        if not (isinstance(wanted, dict) and isinstance(parts, list) and isinstance(until, (int, float))):
            raise RefusalError("set, reinit or expires_at is of the wrong type")
        if letter.get("if_attempt") not in (None, self.attempt):
            raise RefusalError(f"stale: it is for attempt {letter['if_attempt']}, this is {self.attempt}")
        if not self._wall() <= until:
            raise RefusalError(f"expired {self._wall() - until:.0f} s ago by this clock")
        issued = letter.get("issued_at")
        if isinstance(issued, (int, float)) and issued - self._wall() > until - issued >= 0:
            # By more than its lifetime: it would be valid for much longer than was meant.
            raise RefusalError(
                f"from the future: by this clock it is written in {issued - self._wall():.0f} s"
            )
        plain = isinstance(target, str) and Path(target).name == target and target not in ("", "..")
        if target is not None and not plain:
            raise RefusalError(f"to_checkpoint {target!r} is no name of a checkpoint")
        if verb == "rollback" and target is None and not isinstance(to_step, int):
            raise RefusalError("a rollback needs to_checkpoint or to_step")
        unknown = [n for n in wanted if n not in self._parameters] + [
            n for n in parts if n not in self._reinit
        ]
        if unknown:
            raise RefusalError(f"not declared by this job: {', '.join(map(str, unknown))}")
        try:
            values = {n: self._parameters[n].resolve(v, self._values[n]) for n, v in wanted.items()}
        except (ValueError, OverflowError) as error:
            raise RefusalError(str(error)) from error
        return Command(
            id=number,
            verb=str(verb),
            to_checkpoint=target,
            to_step=to_step if isinstance(to_step, int) else None,
            set=values,
            reinit=tuple(parts),
            if_attempt=letter.get("if_attempt"),
            issued_at=issued if isinstance(issued, (int, float)) else 0.0,
            expires_at=until,
            reason=str(letter.get("reason") or ""),
        )

    def _receipt(self, number: int, status: str, reason: str, **more: Any) -> dict[str, Any]:
        receipt = {"id": number, "status": status, "step": int(self._step), "attempt": self.attempt}
        receipt.update(wall_time=self._wall(), checkpoint=None, checkpoint_step=None, reason=reason)
        receipt.update((key, value) for key, value in more.items() if value is not None)
        return receipt

    def _pay(self) -> None:
        """Write the outcomes that are still owed."""
        for number, receipt in sorted(self._owed.items()):
            _write(self._control / "receipts" / f"{number:06d}.json", receipt)
            del self._owed[number]

    def _write_heartbeat(self) -> None:
        if self._beaten and self._registered:
            beat = {
                "step": int(self._step),
                "phase": self._phase,
                "attempt": self.attempt,
                "wall_time": self._wall(),
            }
            _write(self._control / "heartbeat.json", beat, sync=False)
            self._beaten = False

    def _watch_sentinel(self) -> None:
        """Tell once that the sentinel that was here has gone, and once that it is back.

        Its file counts as fresh while it changes, by our own monotonic clock: its host may have another time.
        """
        if self._looked - self._sentinel_looked < SENTINEL_EVERY:
            return
        self._sentinel_looked = self._looked
        found = _read(self._control / "sentinel.json")
        if found is not None and found != self._sentinel:
            self._sentinel, self._sentinel_since = found, self._looked
            if self._sentinel_lost:
                self._sentinel_lost = False
                self._say("the sentinel is back")
            return
        if self._sentinel is None or self._sentinel_lost:
            return
        silent, patience = self._looked - self._sentinel_since, float(self._sentinel.get("patience") or 60.0)
        near = self._sentinel.get("pid_namespace") in (None, self._identity["pid_namespace"])
        near = near and self._sentinel.get("boot_id") == self._identity["boot_id"]
        gone = near and not _alive(self._sentinel)
        # An older sentinel does not name its container, in which we see nobody: a third of its patience.
        if silent > patience or (gone and silent > patience / 3):
            self._sentinel_lost = True
            why = "its process is gone" if gone else f"it has been silent for {silent:.0f} s"
            self._say(f"the sentinel watches this run no longer ({why}); training goes on unwatched")

    def _hang_doorbell(self, doorbell: signal.Signals) -> signal.Signals | None:
        """Install the handler where that takes nothing from anyone; else None, and the folder must do."""
        try:
            there = signal.getsignal(doorbell)
            ours = isinstance(getattr(there, "__self__", None), Guard)
            if not ours and there not in (signal.SIG_DFL, signal.SIG_IGN):
                self._say(
                    f"{doorbell.name} has a handler already; commands are noticed within a second or so"
                )
                return None
            signal.signal(doorbell, self._ring)
        except ValueError:  # not in the main thread
            return None
        atexit.register(_ignore, doorbell)
        return doorbell

    def _ring(self, _signum: int = 0, _frame: object = None) -> None:
        self._rung = True  # nothing but setting two flags: the interpreter may be anywhere
        self._quiet = ()

    def _warn(self, key: str, text: str) -> None:
        if key not in self._warned:
            self._warned.add(key)
            self._say(text)

    @staticmethod
    def _say(text: str) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr may be closed, full or None
            print(f"sentinel guard: {text}", file=sys.stderr, flush=True)


def _listen_for_errors() -> None:
    """Have an uncaught exception written down after it was printed as ever. Ctrl-C is none."""
    before = sys.excepthook
    if getattr(before, "asks_guards", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        try:
            before(kind, error, trace)
        finally:
            if issubclass(kind, Exception):
                for guard in tuple(_guards):
                    guard._die_of(error)

    hook.asks_guards = True  # type: ignore[attr-defined]  # a mark, so that guards do not stack their hooks
    sys.excepthook = hook


def _last_words(error: BaseException) -> str:
    """An exception in one line: `RuntimeError: CUDA out of memory (train.py:88)`."""
    trace, where = error.__traceback__, ""
    while trace is not None:
        where = f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"  # noqa: PTH119
        trace = trace.tb_next
    said = " ".join(str(error).split())[:LONGEST_ERROR]
    return f"{type(error).__name__}{': ' if said else ''}{said}{where}"


def _workload(environ: Mapping[str, str]) -> dict[str, Any] | None:
    """The cluster's job that this process is a part of, as the cluster's own variables tell; else None."""
    return _slurm_job(environ) or _pod(environ)


def _pod(environ: Mapping[str, str]) -> dict[str, Any] | None:
    """The Kubernetes pod of this process, where its manifest tells it name, namespace and uid."""
    name, namespace, uid = (environ.get(key) for key in ("POD_NAME", "POD_NAMESPACE", "POD_UID"))
    if "KUBERNETES_SERVICE_HOST" not in environ or not (name and namespace and uid):
        return None
    named = {"pod_uid": uid, "job": environ.get("JOB_NAME"), "job_uid": environ.get("JOB_UID")}
    facts = {key: value for key, value in named.items() if value}
    return {"kind": "kubernetes", "id": f"{namespace}/{name}", "facts": facts}


def _slurm_job(environ: Mapping[str, str]) -> dict[str, Any] | None:
    """The Slurm job of this process. A shell of `salloc` has its number and is no part of it, and a
    heterogeneous job cannot be told apart from its components: neither counts.
    """
    job, task = environ.get("SLURM_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    if not job or "SLURMD_NODENAME" not in environ or "SLURM_HET_SIZE" in environ:
        return None
    facts = {"restarts": environ.get("SLURM_RESTART_COUNT") or "0", "node": environ["SLURMD_NODENAME"]}
    named = {"cluster": environ.get("SLURM_CLUSTER_NAME"), "step": environ.get("SLURM_STEP_ID")}
    facts.update((name, value) for name, value in named.items() if value)
    # The last task of an array has the number of the whole array.
    number = f"{environ['SLURM_ARRAY_JOB_ID']}_{task}" if task and "SLURM_ARRAY_JOB_ID" in environ else job
    return {"kind": "slurm", "id": number, "facts": facts}


def _ignore(doorbell: signal.Signals) -> None:
    """Make a late ring harmless: while Python shuts down, its handlers go and SIGUSR2 would kill."""
    with contextlib.suppress(ValueError):
        signal.signal(doorbell, signal.SIG_IGN)


def _read(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`, or None when it is missing, torn or something else."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _write(
    path: Path, content: Mapping[str, Any], *, sync: bool = True, claim: Callable[[], None] | None = None
) -> None:
    """Replace `path` in one move. `claim` runs before it, when the content is safe on disk; it may raise."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        if claim is not None:
            claim()
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if sync:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip().decode()
    except OSError:
        return ""


def _pid_namespace() -> str:
    """In which pids count for this process; a sentinel in another container must not look for ours."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _start_time(pid: int) -> tuple[int | None, str]:
    """Start time (field 22 of /proc/PID/stat, in clock ticks) and state letter; (None, "") when gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[19]), fields[0].decode()
    except (OSError, ValueError, IndexError):
        return None, ""


def _alive(record: Mapping[str, Any]) -> bool:
    """Whether the very process of a trainer.json or sentinel.json, no successor of its pid, runs here."""
    if not isinstance(record.get("pid"), int) or record.get("boot_id") != _boot_id():
        return False
    started, state = _start_time(record["pid"])
    return started is not None and started == record.get("start_time") and state not in "ZX"
