"""Simulated weeks: jobs come and go, faults befall everything from a seed, and a sentinel watches.

One thread, one queue of events, one clock that leaps from one to the next. The same seed tells the same story
to the last statement of the journal.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sentinel.attention import Changes
from sentinel.config import load
from sentinel.errors import StateError
from tests.fakes import FakeClock
from tests.soak import checks, faults
from tests.soak.channels import World
from tests.soak.disk import Disk
from tests.soak.kernel import Kernel
from tests.soak.life import Full, Lives, write_rules
from tests.soak.trainer import Course, Manner, Trainer

DAY = 86400.0
CHECK_EVERY = DAY / 4
MOST_ALIVE = 4
UNSEEN = 50.0
"""Seconds: a run whose first points are older at first sight is history, about which nothing is done."""

NOTICED = 60.0
"""Seconds within which a sentinel has looked at a run in which something changes, announced or not."""

OTHER_RULES = "other rules"  # which judge even the last points of a run that is over

MANNERS: tuple[tuple[Manner, ...], ...] = (
    ("obeys",),
    ("obeys",),
    ("obeys", "refuses", "fails"),
    ("obeys", "obeys", "dies before", "dies after"),
    ("obeys", "obeys", "dozes"),
)


class Soak:
    """One seed's world.

    Attributes:
        trainers: every run that is still on disk, by name. story: the last events, for whoever looks for a
            fault. faults: how often each befell. compared: runs and transitions held against a replay.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.chance = random.Random(seed)
        self.clock = FakeClock()
        self.began = self.clock.since_boot
        self.logdir = folder / "runs"
        self.logdir.mkdir(parents=True)
        (folder / "proc").mkdir()
        self.kernel = Kernel(folder / "proc")
        self.disk = Disk()
        self.full = Full()
        self.world = World(random.Random(seed + 1))
        write_rules(folder)
        self.settings = load(folder / "usual.toml")
        jitter = random.Random(seed + 2).random
        self.lives = Lives(folder, self.logdir, self.clock, self.disk, self.world, jitter)
        self.trainers: dict[str, Trainer] = {}
        self.story: deque[str] = deque(maxlen=40)
        self.faults: Counter[str] = Counter()
        self.compared: Counter[str] = Counter()
        self.ticks = self.runs = self.journal_bytes = 0
        self.faulty = True
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed: set[Path] = set()
        self._anew = True

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Put the edges of this world into place."""
        with ExitStack() as stack:
            for part in (
                self.kernel.installed(),
                self.disk.installed(),
                self.full.installed(self.disk),
                self.lives.installed(),
            ):
                stack.enter_context(part)
            yield

    @property
    def days(self) -> float:
        """Simulated days so far."""
        return (self.clock.since_boot - self.began) / DAY

    def note(self, text: str) -> None:
        """Remember an event."""
        self.story.append(f"day {self.days:.4f} {text}")

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Let something happen later."""
        heapq.heappush(self._later, (self.clock.since_boot + seconds, next(self._numbers), act))

    def live(self, days: float) -> None:
        """Let so many days pass, then let everything be well, and hold what is left against what must be."""
        self._begin_run()
        self.after(0.0, self._tick)
        self.after(60.0, self._mishap)
        self.after(CHECK_EVERY, self._check)
        self.lives.begin()
        self._until(self.clock.since_boot + days * DAY)
        self._settle()

    def _until(self, end: float) -> None:
        while self.clock.since_boot < end:
            due = [t for t in self.trainers.values() if t.alive and not t.paused]
            first = min(due, key=lambda t: t.next_at, default=None)
            if first is not None and first.next_at <= self._later[0][0]:
                self._leap(first.next_at)
                first.train()
                self._logged(first)
            else:
                at, _, act = heapq.heappop(self._later)
                self._leap(at)
                act()

    def _leap(self, at: float) -> None:
        self.clock.advance(max(at - self.clock.since_boot, 0.001))

    def _logged(self, trainer: Trainer) -> None:
        if self.full.unreadable.get(trainer.folder) == math.inf:
            self.full.unreadable[trainer.folder] = self.clock.since_boot
        self._changed.add(trainer.file.path)
        self._changed.add(trainer.folder / "control" / "trainer.json")
        if trainer.finished:
            self.note(f"{trainer.name} {trainer.finished} at step {trainer.step}")
            self.retire(trainer)
        elif not trainer.alive:
            self.note(f"{trainer.name} died over a command")
            self.after(self.chance.choice([20.0, 300.0, 2000.0]), lambda: faults.restart(self, trainer))
        elif trainer.calm_points == checks.MOST_SICK_POINTS and self.lives.sees and not self.full.control:
            self._tick_once()
            if trainer.calm_points and self.lives.sees:
                checks.decided(trainer, self.lives.journal)

    # ── the sentinel ──

    def _tick(self) -> None:
        busy = any(t.alive for t in self.trainers.values())
        self.after(self.chance.choice([1.0, 2.0, 5.0, 10.0, 20.0] if busy else [60.0, 300.0]), self._tick)
        self._tick_once()

    def _tick_once(self) -> None:
        if self.lives.watcher is None:
            return
        changes: Changes | None = Changes(frozenset(self._changed), self._anew)
        if self.faulty and self.chance.random() < 0.05:
            changes = self.chance.choice([None, Changes()])
        if changes is not None and (changes.paths or changes.anew):
            self._changed.clear()
            self._anew = False
        before = {folder: self._beat(folder) for folder in self._out_of_sight()}
        lost = self.lives.watcher.lost
        self.ticks += 1
        if not self.lives.tick(changes):
            self.fallen()
            return
        if before:
            self._blind(before)
        if self.lives.watcher.lost and not lost:
            self.note(f"the sentinel cannot remember: {self.lives.watcher.lost[:60]}")
            self.disturb("the journal was lost")

    def _beat(self, folder: Path) -> bytes:
        path = folder / "control" / "sentinel.json"
        return path.read_bytes() if path.exists() else b""

    def _out_of_sight(self) -> list[Path]:
        """Folders of which nothing could be read for so long that the sentinel must know it."""
        now = self.clock.since_boot
        return [f for f, since in self.full.unreadable.items() if now - since > NOTICED and f.exists()]

    def _blind(self, before: dict[Path, bytes]) -> None:
        """A sentinel that is blind to a run leaves no heartbeat in it, and does not say that it sees."""
        for folder, beat in before.items():
            if self._beat(folder) != beat:
                raise checks.Broken(f"a heartbeat in {folder.name}, of which nothing can be read")
        if self.lives.sees:
            raise checks.Broken(f"it says that it sees, and cannot read {[f.name for f in before]}")

    def fallen(self) -> None:
        """The sentinel was killed: start it again, at once or late."""
        self.note(f"killed at touch {self.disk.touches}; begun again later")
        away = self.chance.choices([1.0, 40.0, 600.0, 3000.0, 40000.0], [8, 6, 3, 1, 0.3])[0]
        self.away(away)

    def away(self, seconds: float) -> None:
        """There is no sentinel for so long."""
        self.disturb("unwatched" if seconds > 1700 else "")
        self.after(seconds, self.begin)

    def begin(self) -> None:
        """Start the sentinel."""
        if self.lives.watcher is not None:
            return
        try:
            self.lives.begin()
        except StateError as error:
            self.note(f"not begun: {str(error)[:80]}")
            self.after(30.0, self.begin)
            return
        self._anew = True
        if self.lives.watcher is None:
            self.fallen()
        else:
            self.note(f"sentinel {self.lives.life} begins")

    def disturb(self, why: str) -> None:
        """Something befell everything; with a reason, live and replay may differ from here on."""
        for trainer in self.trainers.values():
            trainer.calm_points = 0
            if why and (not trainer.finished or why == OTHER_RULES):
                trainer.stirred = trainer.stirred or why

    # ── the runs ──

    def _begin_run(self) -> None:
        self.after(self.chance.expovariate(1 / 7200.0) + 60.0, self._begin_run)
        if sum(not t.finished for t in self.trainers.values()) >= MOST_ALIVE or not self.faulty:
            return
        self.runs += 1
        name = f"run-{self.runs:05d}"
        end = self.chance.randint(60, 800)
        sick = self.chance.randint(10, end) if self.chance.random() < 0.45 else None
        course = Course(
            pace=self.chance.choice([4.0, 10.0, 25.0, 45.0]),
            every=self.chance.choice([5, 9, 20]),
            end=end,
            sick_at=sick,
            cure=self.chance.choice([0.06, 0.06, 0.02, 0.0]),
            manners=self.chance.choice(MANNERS),
        )
        trainer = Trainer(self.logdir / name, course, self.clock, self.kernel, self.chance, name)
        trainer.start()
        self.trainers[name] = trainer
        self._anew = True
        if not self.lives.sees:
            trainer.stirred = "begun unseen"
        elif self.lives.rules != "usual":
            trainer.stirred = OTHER_RULES
        self.note(f"{name} begins: {course}")

    def retire(self, trainer: Trainer) -> None:
        """A run is over: hold it against a replay after an hour, delete it after a day or so."""
        self.after(3600.0, lambda: self._compare(trainer))
        self.after(self.chance.uniform(0.2, 2.0) * DAY, lambda: self._delete(trainer))

    def _compare(self, trainer: Trainer) -> None:
        if trainer.stirred or not trainer.folder.exists():
            self.compared["not: " + (trainer.stirred or "deleted")] += 1
            return
        if not self.lives.sees:
            self.after(600.0, lambda: self._compare(trainer))
            return
        self.compared["transitions"] += checks.as_replayed(
            trainer, self.settings, self.lives.journal, self.logdir
        )
        self.compared["runs"] += 1

    def _delete(self, trainer: Trainer) -> None:
        if trainer.folder.exists():
            trainer.finished = trainer.finished or "deleted"
            if trainer.alive:
                trainer.die()
            shutil.rmtree(trainer.folder)
            self.full.unreadable.pop(trainer.folder, None)
            self._anew = True
        checks.once([trainer], self.lives.journal)
        checks.budgets([trainer], self.lives.journal)
        self.trainers.pop(trainer.name, None)

    # ── what befalls them ──

    def _mishap(self) -> None:
        if not self.faulty:
            return
        self.after(self.chance.expovariate(1 / 900.0), self._mishap)
        name, act = faults.draw(self.chance)
        said = act(self)
        if said is not None:
            self.faults[name] += 1
            self.note(f"{name}: {said}")

    def _check(self) -> None:
        if self.faulty:
            self.after(CHECK_EVERY, self._check)
        self.check()

    def check(self) -> None:
        """Hold everything against what must be."""
        journal = self.lives.journal
        checks.intact(journal)
        checks.once(self.trainers.values(), journal)
        checks.budgets(self.trainers.values(), journal)
        checks.told(journal, self.world.delivered, self.lives.ended)

    def _settle(self) -> None:
        """No more faults: everything is let out, and nothing may be left."""
        self.faulty = False
        self.note("the faults end")
        faults.mend(self)
        self._until(self.clock.since_boot + 2400.0)  # the longest wait of a channel is half of that
        self.check()
        checks.damage_told(self.lives.journal)
        checks.settled(self.trainers.values(), self.lives.journal)
        checks.watchdog(self.lives.journal, 6 * 3600.0)
        checks.all_told(self.lives.journal, self.world.delivered, self.world.refused)
        self.lives.stop()
        for trainer in self.trainers.values():
            if trainer.alive:
                trainer.die()
