"""The incident of 20 November 2025, and what the sentinel makes of it.

    make demo                                        or: python -m examples.incident_demo --seed 7

A real training process starts with the incident's fault. A separate sentinel process tails its event files.
Actor Q leaves the critics, an alert fires, a checkpoint is taken, the run goes back to the newest good
checkpoint before the onset with a remedy, and the same process goes on to its end. Beside it, the same seed
trains with nobody watching; afterwards a plain restart from the same checkpoint, without the remedy, shows
what that is worth. Nothing is scripted: another seed gives another story.

Exit code 0 if the run was saved: actor Q mean below 50 at every step since the last rollback, and the last
ten episodes at least 80 % as long as those of the healthy preset (300 steps). 1 if not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from benchmarks.trainings import Story, read_story, start_sentinel, start_trainer, stop
from sentinel.errors import SentinelError
from sentinel.journal import Journal
from sentinel.state import JOURNAL
from sentinel.status import read_status

ROOT = Path(__file__).parents[1]
RUN = "incident"
HEALTHY_LENGTH = 300.0
ENOUGH = 0.8
SANE_Q = 50.0
LOOK_EVERY = 0.5


@dataclass(slots=True)
class Training:
    """One training process on screen."""

    title: str
    folder: Path
    process: subprocess.Popen[bytes]
    task: TaskID
    story: Story = field(default_factory=lambda: Story([], [], [], []))

    def look(self, progress: Progress) -> None:
        """Bring bar and figures up to date."""
        self.story = read_story(self.folder)
        q = f"{self.story.actor_q[-1][1]:8.1f}" if self.story.actor_q else "       -"
        length = f"{self.story.last_length:5.0f}" if self.story.lengths else "    -"
        progress.update(
            self.task, completed=_heartbeat(self.folder), figures=f"actor Q {q}   episodes {length} steps"
        )

    @property
    def over(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None


def _heartbeat(folder: Path) -> int:
    try:
        return int(json.loads((folder / "control" / "heartbeat.json").read_text())["step"])
    except (OSError, ValueError, KeyError):
        return 0


def _status(logdir: Path, state: Path) -> dict[str, Any] | None:
    try:
        status = read_status(logdir, state)
    except SentinelError:
        return None
    return next((run for run in status["runs"] if run["run"] == RUN), None)


class Screen:
    """What is shown while it goes on: trainings, rules, commands, and what the sentinel told people."""

    def __init__(self, console: Console, steps: int) -> None:
        self._steps = steps
        self.progress = Progress(
            TextColumn("{task.description:<36}"),
            BarColumn(bar_width=24),
            TextColumn("step {task.completed:>5.0f}/{task.total:.0f}  {task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
        )

    def add(self, title: str, folder: Path, process: subprocess.Popen[bytes]) -> Training:
        """Put a training on screen."""
        task = self.progress.add_task(title, total=self._steps, figures="")
        return Training(title, folder, process, task)

    def render(self, status: dict[str, Any] | None) -> Group:
        """Lay it out."""
        parts: list[Any] = [self.progress]
        if status is not None:
            parts += [_rules(status), _commands(status)]
        return Group(*parts)


_COLOURS = {
    "pending": "yellow",
    "firing": "bold red",
    "recovering": "cyan",
    "probation": "magenta",
    "resolved": "green",
}


def _rules(status: dict[str, Any]) -> Panel:
    table = Table.grid(padding=(0, 2))
    for alert in status["alerts"]:
        value = "" if alert["value"] is None else f"{alert['value']:.3g}"
        value += "" if alert["limit"] is None else f" (limit {alert['limit']:.3g})"
        onset = f"since step {alert['onset'][3]}" if alert["onset"] else ""
        table.add_row(
            Text(alert["state"], style=_COLOURS.get(alert["state"], "")), alert["key"], value, onset
        )
    if not status["alerts"]:
        table.add_row(Text("quiet", style="green"), f"at step {status['step']}")
    return Panel(table, title=f"rules, attempt {status['attempt']}", title_align="left", height=8)


def _commands(status: dict[str, Any]) -> Panel:
    table = Table.grid(padding=(0, 2))
    for command in status["commands"]:
        style = "green" if command["state"] == "done" else "yellow"
        target = f"{command['checkpoint']}" if command["checkpoint"] else ""
        table.add_row(
            str(command["id"]),
            command["verb"],
            Text(command["state"], style=style),
            target,
            f"asked at step {command['asked_step']}",
        )
    return Panel(table, title="commands and receipts", title_align="left", height=8)


@contextmanager
def _watched(logdir: Path, state: Path, log: Path) -> Iterator[None]:
    sentinel = start_sentinel(logdir, state, ROOT / "sentinel.toml", "--act", log=log)
    try:
        yield
    finally:
        stop(sentinel)


def _follow(console: Console, screen: Screen, trainings: list[Training], logdir: Path, state: Path) -> None:
    """Show the trainings until they end."""
    told = 0
    with Live(
        screen.render(None), console=console, refresh_per_second=4, transient=not console.is_terminal
    ) as live:
        while True:
            over = all(training.over for training in trainings)
            for training in trainings:
                training.look(screen.progress)
            status = _status(logdir, state)
            for line in _news(state, told):
                told = line[0]
                live.console.print(Text(line[1]))
            live.update(screen.render(status))
            if over:
                return
            time.sleep(LOOK_EVERY)


def _news(state: Path, after: int) -> list[tuple[int, str]]:
    """Return the messages that the sentinel has told since `after`, as one line each."""
    if not (state / JOURNAL).is_file():
        return []
    try:
        journal = Journal(state / JOURNAL, read_only=True)
        try:
            rows = journal.rows(
                "SELECT id, body FROM messages WHERE id > ? AND channel = 'console' ORDER BY id", after
            )
        finally:
            journal.close()
    except SentinelError:
        return []
    return [(row["id"], _line(json.loads(row["body"]))) for row in rows]


def _line(message: dict[str, Any]) -> str:
    first = message["happened"].splitlines()[0] if message["happened"] else ""
    asked = "; ".join(
        f"{label} {value}" for label, value in message["facts"] if label in ("asked", "checkpoint")
    )
    state = f" · {message['state']}" if message["state"] else ""
    return f"[{message['severity']}] {message['title']}{state}: {first}" + (f"  [{asked}]" if asked else "")


def main() -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--observation", choices=("state", "image"), default="image")
    parser.add_argument(
        "--keep", type=Path, help="folder for runs and state; default: a temporary one, removed at the end"
    )
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="sentinel-demo-") as temporary:
        return demo(console, options, options.keep or Path(temporary))


def demo(console: Console, options: argparse.Namespace, base: Path) -> int:
    """Play the three trainings and judge the saved one."""
    logdir, state, alone_dir = base / "runs", base / "state", base / "alone"
    logdir.mkdir(parents=True)
    flags = (
        "--preset", "incident", "--observation", options.observation, "--image_size", "48", "--npcs", "0",
        "--eval_freq", "0", "--seed", str(options.seed), "--max_timesteps", str(options.steps),
    )  # fmt: skip
    console.print(
        f"[bold]The incident, seed {options.seed}[/], trained twice at once: watched, and left alone.\n"
    )
    screen = Screen(console, options.steps)
    with _watched(logdir, state, base / "sentinel.log"):
        saved = screen.add("watched by the sentinel (act)", logdir / RUN, start_trainer(logdir / RUN, *flags))
        alone = screen.add("the same seed, left alone", alone_dir, start_trainer(alone_dir, *flags))
        try:
            _follow(console, screen, [saved, alone], logdir, state)
            time.sleep(3.0)  # the last points are judged
        finally:
            stop(saved.process)
            stop(alone.process)
    status = _status(logdir, state)
    target = _target(status)
    restarted = None
    if target is not None:
        console.print(
            f"\nA plain restart from the same checkpoint ({target['checkpoint']}), without the remedy:"
        )
        folder = base / "restarted"
        checkpoint = logdir / RUN / "checkpoints" / target["checkpoint"]
        screen = Screen(console, options.steps)
        restarted = screen.add(
            "restarted without a remedy", folder, start_trainer(folder, "--resume", str(checkpoint))
        )
        try:
            _follow(console, screen, [restarted], base / "nobody", base / "nowhere")
        finally:
            stop(restarted.process)
    return _summary(console, saved.story, alone.story, restarted.story if restarted else None, status, state)


def _target(status: dict[str, Any] | None) -> dict[str, Any] | None:
    done = [c for c in (status or {}).get("commands", ()) if c["verb"] == "rollback" and c["state"] == "done"]
    return done[-1] if done else None


def _summary(
    console: Console,
    saved: Story,
    alone: Story,
    restarted: Story | None,
    status: dict[str, Any] | None,
    state: Path,
) -> int:
    """Print the figures and return the exit code."""
    console.print()
    console.print(_detection(state, status, saved))
    table = Table(title="what became of it")
    for column in ("", "left alone", "plain restart", "watched"):
        table.add_column(column, justify="right" if column else "left")
    stories = (alone, restarted, saved)
    table.add_row("last step", *(_cell(s, lambda s: str(s.last_step)) for s in stories))
    table.add_row(
        "actor Q above 50 at step",
        *(_cell(s, lambda s: str(s.first_above(SANE_Q) or "never")) for s in stories),
    )
    table.add_row(
        "greatest actor Q since its last start",
        *(_cell(s, lambda s: f"{s.worst_q_since_rollback:.1f}") for s in stories),
    )
    table.add_row(
        "length of the last ten episodes", *(_cell(s, lambda s: f"{s.last_length:.0f}") for s in stories)
    )
    table.add_row(
        "return of the last ten episodes", *(_cell(s, lambda s: f"{s.last_reward:.0f}") for s in stories)
    )
    console.print(table)
    rolled_back = _target(status) is not None
    sane = saved.worst_q_since_rollback < SANE_Q
    drives = saved.last_length >= ENOUGH * HEALTHY_LENGTH
    if rolled_back and sane and drives:
        console.print("[bold green]saved[/]: rolled back, went on in the same process, and ended healthy")
        return 0
    why = (
        "it was never rolled back" if not rolled_back else "Q rose again" if not sane else "it does not drive"
    )
    console.print(f"[bold red]not saved[/]: {why}")
    return 1


def _cell(story: Story | None, show: Any) -> str:
    return show(story) if story is not None and story.actor_q else "-"


def _detection(state: Path, status: dict[str, Any] | None, saved: Story) -> Table:
    """Tell when it began, when it was seen, and what was done."""
    table = Table(title="what the sentinel did", show_header=False)
    journal = Journal(state / JOURNAL, read_only=True)
    fired = journal.rows(
        "SELECT * FROM transitions WHERE run = ? AND after = 'firing' AND before != 'firing' "
        "AND severity = 'critical' "
        "AND attempt = 0 ORDER BY id LIMIT 1",
        RUN,
    )
    commands = journal.rows("SELECT * FROM commands WHERE run = ? ORDER BY id", RUN)
    journal.close()
    if not fired:
        table.add_row("nothing critical", "no rule fired")
        return table
    first = fired[0]
    table.add_row("rule", first["key"])
    table.add_row("onset", f"step {first['onset_run_step']}")
    table.add_row(
        "fired", f"step {first['run_step']}, value {first['value']:.3g} against {first['bound']:.3g}"
    )
    table.add_row(
        "lag",
        f"{first['run_step'] - first['onset_run_step']} steps after onset; decided "
        f"{first['recorded'] - first['wall_time']:.2f} s after the point was logged",
    )
    for command in commands:
        where = f" -> {command['checkpoint']}" if command["checkpoint"] else ""
        remedy = json.loads(command["letter"])
        words = [f"{k}={v}" for k, v in remedy["set"].items()] + [
            f"fresh {part}" for part in remedy["reinit"]
        ]
        took = f" {command['updated'] - command['asked']:.2f} s after it was asked"
        table.add_row(
            f"command {command['id']}",
            f"{command['verb']} {command['state']}{where}, asked at step {command['asked_step']},{took}"
            + (f" with {', '.join(words)}" if words else ""),
        )
    rewound = list((status or {}).get("rewinds", ()))
    for rewind in rewound:
        q_before = [v for s, v in saved.actor_q if s >= rewind["to_step"]][:1]
        table.add_row(
            f"attempt {rewind['attempt']}",
            f"goes on from step {rewind['to_step']}" + (f", actor Q {q_before[0]:.2f}" if q_before else ""),
        )
    before = saved.before_first_rollback()
    if before is not None:
        table.add_row(
            "before the rollback", "actor Q {:.1f}, episodes of {:.0f} steps, return {:.0f}".format(*before)
        )
        after = saved.actor_q[-1][1], saved.last_length, saved.last_reward
        table.add_row("at the end", "actor Q {:.1f}, episodes of {:.0f} steps, return {:.0f}".format(*after))
    return table


if __name__ == "__main__":
    sys.exit(main())
