"""What people are told of a supervised job: that it ended, is started again, resumed or given up. Pure."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence
from dataclasses import replace

from notifier.message import Message
from sentinel.lives import LifeRow
from sentinel.process import Process
from sentinel.story import notice

FAMILY = "process"
"""Of messages about a run's process; the alert of a rule with the label area = "process" is of it too."""

_MOST_PIDS = 20

_LOOK = "Read the end of its output (SIGKILL: look for the kernel's out-of-memory killer)"


def how(code: int | None) -> str:
    """How a process ended: `by SIGKILL`, `with exit code 7`."""
    if code is None:
        return "with an exit code that nobody saw"
    known = {int(each): each.name for each in signal.Signals}
    return f"by {known[code - 128]}" if code - 128 in known else f"with exit code {code}"


def failed(life: LifeRow, wall: float, left: Sequence[Process] = ()) -> Message:
    """The job ended and nobody had asked for that; or it was ended because it hung. `left`: who goes on."""
    ended = how(life.code)
    pid = life.process.pid if life.process is not None else 0
    why = f" ({life.reason})" if life.after == "restart" and not life.reason.startswith(ended) else ""
    who = f"{shlex.join(life.command)} (pid {pid})"
    text = f"{who} ended {ended}{why}; nobody had asked it to through the sentinel"
    if left:
        go = "goes" if len(left) == 1 else "go"
        shown = " ".join(str(each.pid) for each in left[:_MOST_PIDS])
        more = f" and {len(left) - _MOST_PIDS} more" if len(left) > _MOST_PIDS else ""
        text += f". {len(left)} of its processes {go} on: {shown}{more}"
    advice = f"{_LOOK}; resume from the last good checkpoint."
    return replace(
        notice(_run(life), "job", "critical", f"the job ended {ended}", text, wall, advice), family=FAMILY
    )


def ended_unseen(life: LifeRow, wall: float) -> Message:
    """It ended and was not our child, so the kernel told somebody else how."""
    text = (
        f"{shlex.join(life.command)} ended while the sentinel that had started it was gone. Whether it was "
        "finished or failed is not known, so it is not started again."
    )
    advice = f"{_LOOK}; start it again by hand."
    return replace(
        notice(_run(life), "job", "critical", "the job ended unseen", text, wall, advice), family=FAMILY
    )


def waits(life: LifeRow, reason: str, wall: float) -> Message:
    """It will be started again."""
    far = "without a logged step" if life.furthest is None else f"at run step {life.furthest}"
    title, text = "the job will be started again", f"It ended {far}. {reason}"
    return replace(notice(_run(life), "restart-due", "warning", title, text, wall), family=FAMILY)


def started(life: LifeRow, process: Process, wall: float) -> Message:
    """A further life has begun."""
    title = "the job was resumed" if life.cause == "resume" else "the job was started again"
    text = f"{shlex.join(life.command)} (pid {process.pid}): {life.reason}"
    return replace(notice(_run(life), "started", "warning", title, text, wall), family=FAMILY)


def given_up(story: Sequence[LifeRow], reason: str, wall: float) -> Message:
    """No restart any more: the report of all its lives."""
    lines = [reason, *(f"{each.spoken}: {each.reason}" for each in story)]
    advice = "Find out what it dies of; nothing is started any more until you do so."
    made = notice(_run(story[-1]), "given-up", "fatal", "the job is given up", "\n".join(lines), wall, advice)
    return replace(made, family=FAMILY)


def _run(life: LifeRow) -> str:
    """The run that it trains; "" where that is not known, or not one alone."""
    return life.run or (life.runs[0] if len(life.runs) == 1 else "")


def taken_up(life: LifeRow) -> str:
    """An earlier sentinel's job goes on, so none is started."""
    who = f"pid {life.process.pid}" if life.process is not None else f"it is {life.state}"
    return (
        f"the job that an earlier sentinel started goes on ({who}); it is supervised, and not started again"
    )


def another(first: LifeRow, life: LifeRow) -> str:
    """Another command is not started beside a job that goes on."""
    who = f"pid {life.process.pid}" if life.process is not None else f"it is {life.state}"
    return (
        f"another job of this state still goes on: {shlex.join(first.command)} in {first.folder} ({who}); "
        "nothing was started. End that one first, or give this one a log directory or a --state of its own."
    )
