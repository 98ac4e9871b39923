"""One story, told again and again, each time with the sentinel killed at another statement of its journal.

    python -m tests.e2e.lockstep quick|slow|asked FOLDER RULES.toml POINT…        POINT 0: not killed

This process is the trainer: the job of job.py, a step at a time. The sentinel is a child that is forked for
it; it ticks when told to over a pipe, on a clock that only the trainer moves, so that the same story can be
told twice. At its POINT-th touch of the world (a statement that changes the journal; before and after each
effect) it sends itself SIGKILL, and another is forked. Prints one JSON object per story. No production code
knows of this.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

import sentinel.actuator
import sentinel.dispatch
from notifier.message import Message
from sentinel.config import load
from sentinel.engine import Engine
from sentinel.inbox import Answer, drop
from sentinel.journal import Journal
from sentinel.mail import Mail
from sentinel.outbox import Outbox
from sentinel.questions import open_questions
from sentinel.state import JOURNAL
from tests.e2e.job import Job

GAPS: dict[str, Callable[[int], float]] = {
    "quick": lambda _step: 0.4,
    "slow": lambda step: 31.0 if step in (8, 20) else 3.0,
    "asked": lambda _step: 0.4,
}
"""Seconds between two steps of the job, by the story's clock: between slow ones each tick of the rules has
been closed by silence, and some are so far apart that silence itself is judged. When it is asked, somebody
answers: what is asked first by two people at once, and everything that is asked after that.
"""

CHANGES = re.compile(r"\s*(BEGIN|COMMIT|INSERT|UPDATE|DELETE)", re.IGNORECASE)
DIVERGE_AT, END, LAST = 14, 26, 200
CLOSING = 12  # looks after the job's end: what is quiet is closed, what is queued arrives


class StoryClock:
    """Wall and monotonic clock of one story, moved by its teller; no two of its events coincide."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def wall(self) -> float:
        """Return seconds since the epoch."""
        self.now += 0.001
        return self.now

    def monotonic(self) -> float:
        """Return seconds."""
        return self.now

    def rest(self, seconds: float) -> None:
        """Move on."""
        self.now += seconds


class Countdown:
    """Kills this process at the n-th touch; 0 never."""

    def __init__(self, point: int) -> None:
        self.point = point
        self.touches = 0
        self.names: list[str] = []

    def touch(self, name: str) -> None:
        """Count, and perhaps die."""
        self.touches += 1
        self.names.append(name)
        if self.touches == self.point:
            os.kill(os.getpid(), signal.SIGKILL)

    def statement(self, text: str) -> None:
        """Count a statement that is about to change the journal."""
        if CHANGES.match(text):
            self.touch(" ".join(text.split()[:3]))


class File:
    """An event file written at once, by the thread that asks."""

    def __init__(self, folder: Path, number: int, wall: float) -> None:
        self._file = (folder / f"events.out.tfevents.{int(wall)}.story.{number}").open("wb")
        self._records = RecordWriter(self._file)
        self.add_event(Event(wall_time=wall, file_version="brain.Event:2"))

    def add_event(self, event: Event) -> None:
        """Append an event."""
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        """Let readers see it."""
        self._file.flush()

    def close(self) -> None:
        """Let the file go."""
        self._records.close()


class Paper:
    """A channel that appends each key to a file, durable before it is acknowledged."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, message: Message, thread_ref: str | None) -> str:
        """Write one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{message.key}\n")
        return thread_ref or message.key

    def edit(self, first_ref: str, message: Message) -> None:
        """Nothing is edited on paper."""


def be_sentinel(
    folder: Path, rules: Path, clock: StoryClock, countdown: Countdown, *, orders: int, answers: int
) -> None:
    """Be the sentinel: tick at every order until there are no more. Never returns."""
    connect = sqlite3.connect

    def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(countdown.statement)
        return connection

    perform = sentinel.actuator.perform

    def counted(*arguments: Any) -> str:
        countdown.touch(f"before {arguments[0]}")
        done = perform(*arguments)
        countdown.touch(f"after {arguments[0]}")
        return done

    sqlite3.connect = watched  # type: ignore[assignment]  # this process exists to be killed at a statement
    setattr(sentinel.dispatch, "perform", counted)  # noqa: B010  a name that it does not export
    settings = load(rules)
    state = folder / "state"
    state.mkdir(exist_ok=True)
    journal = Journal(state / JOURNAL)
    outbox = Outbox({"paper": Paper(folder / "paper")}, clock.monotonic, jitter=lambda: 0.0)
    mail = Mail(journal, outbox, lambda _message: ["paper"])
    engine = Engine(folder / "runs", state, settings, journal, mail, clock, act=True)
    while order := os.read(orders, 64):
        clock.now = float(order)
        engine.tick()
        outbox.drain(10.0)  # on a clock that stands still: it returns when the queue is empty
        os.write(answers, b"%d\n" % countdown.touches)
    print("\n".join(countdown.names), file=sys.stderr)


class Sentinel:
    """The forked child, and the next one when that has been killed."""

    def __init__(self, serve: Callable[[int, int, int], None], point: int) -> None:
        self._serve, self._point = serve, point
        self.killed = self.touches = 0
        self._begin()

    def _begin(self) -> None:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._orders)
            os.close(self._answers)
            try:
                self._serve(orders, answers, 0 if self.killed else self._point)
            except BaseException as error:  # noqa: BLE001  a child that is forked must not become a second trainer
                print(f"sentinel: {error!r}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        os.close(orders)
        os.close(answers)

    def tick(self, now: float) -> None:
        """Have it tick; if it dies over that, have its successor do it."""
        os.write(self._orders, b"%.6f" % now)
        if answer := os.read(self._answers, 64):
            self.touches = int(answer)
            return
        self.end(expected=signal.SIGKILL)
        self.killed += 1
        self._begin()
        self.tick(now)

    def end(self, *, expected: int = 0) -> None:
        """Let it go, and see how it went."""
        os.close(self._orders)
        os.close(self._answers)
        status = os.waitpid(self._pid, 0)[1]
        how = os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if how != expected:
            raise SystemExit(f"the sentinel ended with {how}, not {expected}")


def tell(gap: Callable[[int], float], folder: Path, rules: Path, point: int) -> dict[str, Any]:
    """Tell the story once, and return what is left of it."""
    run = folder / "runs" / "a"
    clock = StoryClock()
    numbers = iter(range(100))

    def serve(orders: int, answers: int, point: int) -> None:
        be_sentinel(folder, rules, clock, Countdown(point), orders=orders, answers=answers)

    run.mkdir(parents=True)
    job = Job(
        run, DIVERGE_AT, 4, lambda folder: File(folder, next(numbers), clock.now), clock.wall, clock.monotonic
    )
    child = Sentinel(serve, point)
    steps = 0
    answered: set[int] = set()
    around: list[int] = []  # touches when the first question had been put, and when its rollback was done
    while job.step < END or not job.healthy:
        job.train()
        next_step = clock.now + gap(job.step)
        child.tick(clock.now)
        answer(folder, answered)
        if (answered and not around) or (len(around) == 1 and "rollback" in (run / "effects").read_text()):
            around.append(child.touches)
        while clock.now < next_step - 1.0:
            clock.now += 1.0
            child.tick(clock.now)
        clock.now = next_step
        steps += 1
        if steps > LAST:
            break
    job.writer.close()
    job.guard.finish("finished")
    for _ in range(CLOSING):
        clock.now += 1.0
        child.tick(clock.now)
    child.end()
    return {
        "point": point,
        "killed": child.killed,
        "touches": child.touches,
        "around": around,
        **_left(folder, run),
    }


def answer(folder: Path, answered: set[int]) -> None:
    """Approve whatever is asked, two people at once; each question is answered once."""
    journal = Journal(folder / "state" / JOURNAL, read_only=True)
    for row in open_questions(journal):
        if row["id"] not in answered:
            answered.add(row["id"])
            drop(Answer(row["id"], "act", "ada"), folder / "state")
            drop(Answer(row["id"], "act", "bob"), folder / "state")
    journal.close()


def _left(folder: Path, run: Path) -> dict[str, Any]:
    journal = Journal(folder / "state" / JOURNAL, read_only=True)
    transitions = journal.rows("SELECT * FROM transitions ORDER BY id")
    commands = journal.rows("SELECT id, verb, state, checkpoint, asked_step FROM commands ORDER BY id")
    questions = journal.rows("SELECT id, state, what FROM questions ORDER BY id")
    unsent = journal.rows("SELECT key FROM messages WHERE state != 'sent'")
    told = [
        f"{t['key']} {t['before']} {t['after']} {t['step']} {t['onset_step']} {t['actions']}"
        for t in transitions
    ]
    return {
        "transitions": told,
        "questions": [list(row) for row in questions],
        "commands": [list(row) for row in commands],
        "effects": (run / "effects").read_text().splitlines(),
        "unsent": [row["key"] for row in unsent],
        "told": (folder / "paper").read_text().splitlines(),
    }


def main() -> None:
    """Tell one story for each point."""
    gap, folder, rules = GAPS[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3])
    for point in map(int, sys.argv[4:]):
        print(json.dumps(tell(gap, folder / f"{point:06d}", rules, point)), flush=True)


if __name__ == "__main__":
    main()
