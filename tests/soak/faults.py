"""What can befall: each fault changes the world and says what it did, or None where it found nothing."""

from __future__ import annotations

import math
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sentinel.inbox import Command, drop
from tests.soak.channels import Mood
from tests.soak.trainer import Trainer

if TYPE_CHECKING:
    from tests.soak.world import Soak

Act: TypeAlias = Callable[["Soak"], str | None]


def draw(chance: random.Random) -> tuple[str, Act]:
    """Choose a fault."""
    names = list(FAULTS)
    name = chance.choices(names, [FAULTS[n][0] for n in names])[0]
    return name, FAULTS[name][1]


def _one(soak: Soak, *, alive: bool = True) -> Trainer | None:
    """A run that trains, or one whose process has died and that is not over."""
    found = [t for t in soak.trainers.values() if t.alive is alive and not t.finished]
    return soak.chance.choice(found) if found else None


def restart(soak: Soak, trainer: Trainer) -> None:
    """Start a job again, from its newest whole checkpoint or, at times, from scratch."""
    if trainer.alive or trainer.finished or not trainer.folder.exists():
        return
    lower, marked = soak.chance.random() < 0.8, soak.chance.random() < 0.7
    trainer.paused = False
    if trainer.unmarked:  # trainer.json tells of its last start alone, and the files of that one nothing
        trainer.stirred = trainer.stirred or "a start without a mark"
    trainer.unmarked = not marked
    trainer.start(lower=lower, marked=marked)
    soak._anew = True
    soak.note(f"{trainer.name} begins again at step {trainer.step}, lr {trainer.lr:g}, marked: {marked}")


# ── the sentinel ──


def kill(soak: Soak) -> str | None:
    """SIGKILL at one of the next touches of the world."""
    if soak.lives.watcher is None:
        return None
    soak.disk.fuse = soak.chance.randint(1, 60)
    return f"at the {soak.disk.fuse}th touch from now"


def stop(soak: Soak) -> str | None:
    """SIGTERM, and a start later."""
    if soak.lives.watcher is None or soak.disk.fuse is not None:
        return None
    soak.lives.stop()
    if soak.lives.watcher is not None:
        return None
    away = soak.chance.choice([0.5, 20.0, 900.0])
    soak.away(away)
    return f"for {away:g} s"


def reload(soak: Soak) -> str | None:
    """SIGHUP with other rules, with the same, with broken ones."""
    if soak.lives.watcher is None:
        return None
    name = soak.chance.choice(["usual", "other", "broken"])
    soak.disturb("" if name in (soak.lives.rules, "broken") else "other rules")
    soak.lives.reload(name)
    if soak.lives.watcher is None:
        soak.fallen()
    if name == "other":
        soak.after(soak.chance.choice([300.0, 5000.0]), lambda: _back(soak))
    return name


def _back(soak: Soak) -> None:
    if soak.lives.watcher is not None and soak.lives.rules != "usual":
        soak.lives.reload("usual")
        soak.disturb("other rules")
        if soak.lives.watcher is None:
            soak.fallen()


def full(soak: Soak) -> str | None:
    """The disk of the state is full for a while."""
    if soak.disk.full:
        return None
    soak.disk.full = True
    seconds = soak.chance.choice([3.0, 60.0, 1500.0])
    soak.after(seconds, lambda: setattr(soak.disk, "full", False))
    soak.disturb("")
    return f"for {seconds:g} s"


def control(soak: Soak) -> str | None:
    """The disk of the runs is full for a while: no letter, no receipt, no heartbeat."""
    if soak.full.control:
        return None
    soak.full.control = True
    seconds = soak.chance.choice([20.0, 200.0, 2000.0])

    def over() -> None:
        soak.full.control = False
        soak.disturb("control folder full")

    soak.after(seconds, over)
    soak.disturb("control folder full")
    return f"for {seconds:g} s"


def clock(soak: Soak) -> str | None:
    """The wall clock is set."""
    # No whole seconds: a moment to the millisecond comes once, and messages are named by it.
    seconds = soak.chance.choice([3600.0, -3600.0, 7.0, -7.0, -0.5]) + soak.chance.uniform(0.1, 0.3)
    soak.clock.step_wall(seconds)
    soak.disturb("the clock was set")
    return f"{seconds:+.3f} s"


def channel(soak: Soak) -> str | None:
    """A channel is down, limits, hangs, refuses, or is revoked, for a while."""
    name = soak.chance.choice(["console", "slack", "slack"])
    moods: list[Mood] = ["down", "limited", "hung", "picky", "revoked"]
    mood = soak.chance.choice(moods)
    soak.world.moods[name] = mood
    seconds = soak.chance.choice([30.0, 900.0, 9000.0])
    soak.after(seconds, lambda: soak.world.moods.update({name: "ok"}))
    return f"{name} {mood} for {seconds:g} s"


def request(soak: Soak) -> str | None:
    """A person asks for a checkpoint."""
    trainer = _one(soak)
    if trainer is None or not soak.lives.state.exists():
        return None
    drop(Command(trainer.name, "checkpoint", why="a person asks"), soak.lives.state)
    return trainer.name


# ── the jobs ──


def crash(soak: Soak) -> str | None:
    """A job dies, and is started again, or not."""
    trainer = _one(soak)
    if trainer is None:
        return None
    trainer.die()
    if soak.chance.random() < 0.85:
        soak.after(soak.chance.choice([5.0, 60.0, 1000.0]), lambda: restart(soak, trainer))
        return trainer.name
    trainer.finished = "given up"
    soak.retire(trainer)
    return f"{trainer.name} for good"


def pause(soak: Soak) -> str | None:
    """A job stands still for a while."""
    trainer = _one(soak)
    if trainer is None or trainer.paused:
        return None
    trainer.paused = True
    trainer.calm_points = 0
    seconds = soak.chance.choice([30.0, 500.0, 4000.0])

    def over() -> None:
        trainer.paused = False
        trainer.next_at = max(trainer.next_at, soak.clock.since_boot)

    soak.after(seconds, over)
    return f"{trainer.name} for {seconds:g} s"


def checkpoint(soak: Soak) -> str | None:
    """The newest checkpoint of a job loses its content."""
    trainer = _one(soak)
    if trainer is None:
        return None
    found = [path / "state.json" for path in trainer._kept()[-1:]]
    for path in found:
        path.write_bytes(soak.chance.choice([b"", b"\0" * 40, path.read_bytes()[:-3]]))
    return f"{trainer.name} {[p.parent.name for p in found]}"


# ── the files ──


def _file(soak: Soak) -> tuple[Trainer, Path] | None:
    trainer = _one(soak)
    if trainer is None:
        return None
    files = sorted(trainer.folder.glob("events.*"))
    path = soak.chance.choice(files) if files else None
    if path is None or path.stat().st_size < 100:
        return None
    trainer.calm_points = 0
    return trainer, path


def flip(soak: Soak) -> str | None:
    """One bit of an event file turns over."""
    found = _file(soak)
    if found is None:
        return None
    trainer, path = found
    trainer.stirred = trainer.stirred or "bit flipped"
    size = path.stat().st_size
    at = soak.chance.randrange(max(0, size - 2000), size)
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(1)[0]
        file.seek(at)
        file.write(bytes([old ^ 1 << soak.chance.randrange(8)]))
    return f"{path.name} of {trainer.name} at byte {at} of {size}"


def cut(soak: Soak) -> str | None:
    """An event file loses its end, while it is written."""
    found = _file(soak)
    if found is None:
        return None
    trainer, path = found
    trainer.stirred = trainer.stirred or "cut"
    size = soak.chance.randrange(path.stat().st_size)
    os.truncate(path, size)
    return f"{path.name} of {trainer.name} to {size} bytes"


def rotate(soak: Soak) -> str | None:
    """A job goes on in a new file."""
    trainer = _one(soak)
    if trainer is None:
        return None
    trainer.rotate()
    soak._anew = True
    return trainer.name


def replace(soak: Soak) -> str | None:
    """Another file, with the same beginning, takes the place of one that is written."""
    found = _file(soak)
    if found is None:
        return None
    trainer, path = found
    trainer.stirred = trainer.stirred or "replaced"
    other = path.with_name("soak.tmp")
    shutil.copy(path, other)
    os.truncate(other, soak.chance.randrange(path.stat().st_size))
    other.replace(path)
    trainer.rotate()
    soak._anew = True
    return f"{path.name} of {trainer.name}"


def delete(soak: Soak) -> str | None:
    """An event file is deleted; its writer goes on in another, or writes on into nothing."""
    found = _file(soak)
    if found is None:
        return None
    trainer, path = found
    trainer.stirred = trainer.stirred or "deleted"
    path.unlink()
    trainer.rotate()
    soak._anew = True
    return f"{path.name} of {trainer.name}"


def unreadable(soak: Soak) -> str | None:
    """The event files of a run cannot be read for a while."""
    trainer = _one(soak)
    if trainer is None or trainer.folder in soak.full.unreadable:
        return None
    folder = trainer.folder
    trainer.calm_points = 0
    soak.full.unreadable[folder] = math.inf  # until there is something that it does not see
    trainer.stirred = trainer.stirred or "unreadable"

    def over() -> None:
        soak.full.unreadable.pop(folder, None)
        trainer.calm_points = 0

    seconds = soak.chance.choice([20.0, 300.0, 3000.0])
    soak.after(seconds, over)
    return f"{trainer.name} for {seconds:g} s"


def mend(soak: Soak) -> None:
    """End every fault."""
    soak.disk.full, soak.disk.fuse, soak.full.control = False, None, False
    soak.full.unreadable.clear()
    soak.world.moods.clear()
    soak.disturb("")
    if soak.lives.watcher is not None:
        soak.lives.stop()  # a channel that was revoked is opened anew
    soak.begin()


FAULTS: dict[str, tuple[float, Act]] = {
    "kill": (12, kill),
    "stop": (2, stop),
    "reload": (2, reload),
    "disk full": (3, full),
    "control folder full": (1, control),
    "clock set": (0.5, clock),
    "channel": (6, channel),
    "a person asks": (3, request),
    "job crashes": (6, crash),
    "job stands still": (4, pause),
    "checkpoint damaged": (3, checkpoint),
    "bit flipped": (2, flip),
    "file cut": (1.5, cut),
    "file rotated": (3, rotate),
    "file replaced": (1, replace),
    "file deleted": (1, delete),
    "unreadable": (2, unreadable),
}
"""What can befall: how often against the others, and what it does."""
