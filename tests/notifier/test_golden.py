"""The whole story of the recorded incident, message by message, as people are told it.

What a person reads is compared word for word, and the blocks that Slack is sent sign for sign; so whoever
changes a sentence sees what it looks like on a phone. To write them anew, and then to read them:

    GOLDEN=write python -m pytest tests/notifier/test_golden.py && git diff tests/notifier/golden

The first part is the incident's own event file (20 November 2025) up to its step 1500; what comes after the
rollback is a healthy run's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from functools import reduce
from pathlib import Path

import pytest

from notifier import picture
from notifier.format import blocks, plain
from notifier.message import Message, as_story, so_far
from rules.series import Sample
from sentinel.guard import Guard, Parameter
from tests.fakes import FakeClock
from tests.sentinel.event_files import record
from tests.sentinel.scene import Scene
from tests.slack_stub import block_errors

GOLDEN = Path(__file__).parent / "golden"
RUN = "driving/seed047"
BEGAN = 1_763_640_541.0  # 20 November 2025, 12:09:01 UTC
WALLS = (113, 139.1, 164.4, 190.1, 216.2)
SERIES = {
    "debug/actor_q_mean": (2.3442, 11.732, 28.721, 54.498, 104.49),
    "train/q1_value": (16.238, 16.443, 13.921, 7.9047, 14.526),
    "train/q2_value": (16.282, 16.364, 14.029, 7.8454, 14.574),
}
CONFIG = 'version = 1\ninclude = ["pack:td3"]\n'


def golden(name: str, found: str) -> None:
    """Compare with what is kept, or keep it."""
    path = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8"), f"{path.name} differs; see the top of this file"


class Trainer:
    """The incident's trainer: logs, writes checkpoints, obeys; on the scene's clock."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.folder = scene.logdir / RUN
        self.folder.mkdir(parents=True)
        clock = scene.clock
        self.guard = Guard(
            self.folder,
            parameters=[
                Parameter.enum("q_features", "both", ["both", "critic"]),
                Parameter.number("tau", 0.001, low=0, high=1),
            ],
            checkpoints="checkpoints",
            clock=clock.monotonic,
            wall=clock.wall,
        )

    def checkpoint(self, step: int, attempt: int = 0) -> str:
        name = f"{attempt:02d}-{step:08d}"
        folder = self.folder / "checkpoints" / name
        folder.mkdir(parents=True)
        (folder / "state").write_bytes(b"weights")
        files = {"state": {"bytes": 7, "sha256": hashlib.sha256(b"weights").hexdigest()}}
        wall = self.scene.clock.wall()
        manifest = {"version": 1, "step": step, "attempt": attempt, "wall_time": wall, "files": files}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return name

    def log(self, samples: list[Sample], file: str = "events.out.tfevents.1763640537.a") -> None:
        self.scene.log(samples, RUN, file)
        self.scene.tick(0.2)
        self.scene.tick(2.1)  # the points' tick is over, and judged
        self.obey(samples[-1][1])
        self.scene.tick(0.2)

    def obey(self, step: int) -> None:
        self.guard.beat(step)
        self.scene.clock.advance(1.5)  # it looks once in a second, on the scene's clock
        command = self.guard.poll()
        if command is None:
            return
        if command.verb == "checkpoint":
            name = self.checkpoint(step)
            self.guard.acknowledge(command, "done", step=step, checkpoint=name, checkpoint_step=step)
        elif command.verb == "rollback":
            target, to_step = command.to_checkpoint, command.to_step
            self.guard.acknowledge(command, "done", step=step, checkpoint=target, checkpoint_step=to_step)
            self.guard.begin_attempt()
            self.begin(to_step or 0)

    def begin(self, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        event = Event(wall_time=self.scene.clock.wall(), step=step + 1)
        event.session_log.status = SessionLog.START
        self.scene.write(record(event.SerializeToString()), RUN, "events.out.tfevents.1763640800.b")


def story(tmp_path: Path) -> list[Message]:
    """Let the incident happen, and return what was told of the actor that leaves its critics."""
    scene = Scene(tmp_path, FakeClock(now=BEGAN), CONFIG, act=True)
    trainer = Trainer(scene)
    scene.clock.advance(20)
    trainer.log([("time/fps", 100, BEGAN + 20, 3.9)])
    for step, seconds in ((500, 60.0), (800, 84.0), (1000, 100.0)):
        scene.clock.advance(BEGAN + seconds - scene.clock.now)
        trainer.log([("time/fps", step, BEGAN + seconds, 3.9)])
        trainer.checkpoint(step)
    for place, seconds in enumerate(WALLS):
        step = 1100 + 100 * place
        trainer.log([(tag, step, BEGAN + seconds, values[place]) for tag, values in SERIES.items()])
    for step in range(900, 2000, 100):
        wall = scene.clock.now + 24.0
        healthy = 3.0 + step / 500
        trainer.log(
            [
                ("debug/actor_q_mean", step, wall, healthy + 0.4),
                ("train/q1_value", step, wall, healthy),
                ("train/q2_value", step, wall, healthy + 0.1),
            ],
            "events.out.tfevents.1763640800.b",
        )
    scene.settle()
    scene.settle()
    return [m for m in scene.post.messages if m.rule == "td3/actor_exploits_critic"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Message]:
    """The story's messages, each folder called /data."""
    folder = tmp_path_factory.mktemp("incident")
    before = signal.getsignal(signal.SIGUSR2)
    try:
        found = story(folder)
    finally:
        signal.signal(signal.SIGUSR2, before)
    return [_at_home(message, folder) for message in found]


def _at_home(message: Message, folder: Path) -> Message:
    text = message.to_json().replace(str(folder), "/data")
    text = re.sub(r"--config \S+?sentinel\.toml", "--config /data/sentinel.toml", text)
    return Message.from_json(text)


def test_the_story_as_text(told: list[Message]) -> None:
    """Each message is worth reading: what, since when, what was done, what it cost, how to go on."""
    shown = [f"── {message.kind} ──\n{plain(message)}\n" for message in told]
    top = as_story(reduce(so_far, told), told[-1])
    golden("incident.txt", "\n".join([*shown, f"── the first message in the end ──\n{plain(top)}\n"]))


def test_the_story_as_blocks(told: list[Message]) -> None:
    """What Slack is sent: each message as it comes, and the first one as it is edited at last."""
    made = [{"kind": message.kind, "blocks": blocks(message)} for message in told]
    made.append({"kind": "edited", "blocks": blocks(as_story(reduce(so_far, told), told[-1]))})
    assert [error for each in made for error in block_errors(each["blocks"])] == []  # type: ignore[arg-type]  # a list
    golden("incident.json", json.dumps(made, indent=1, ensure_ascii=False) + "\n")


def test_the_story_runs_from_its_beginning_to_its_end(told: list[Message]) -> None:
    """Pending is silent; the plot comes with the first and the last message, and with no other."""
    assert [m.kind for m in told] == ["opened", *["update"] * (len(told) - 2), "closed"]
    assert [m.kind for m in told if m.plot is not None] == ["opened", "closed"]
    assert "recovered" in told[-1].happened.lower()


def test_its_plots_hold_what_a_reader_looks_for(told: list[Message]) -> None:
    """Actor Q against critic Q, the limit, the onset, checkpoints, and where the run went back."""
    first, last = told[0].plot, told[-1].plot
    assert first is not None
    assert last is not None
    assert [line.label for line in last.lines] == [
        "debug/actor_q_mean",
        "critic q",
        "one limit: 3 x critic q",
    ]
    assert len(first.lines[0].parts) == 1
    assert len(last.lines[0].parts) == 2, "what was given up, and what came after"
    kinds = {mark.kind for mark in last.marks}
    assert {"fired", "checkpoint", "suspect", "rollback", "closed"} <= kinds
    golden("incident-plot.json", json.dumps(last.as_json(), indent=1, ensure_ascii=False) + "\n")


@pytest.mark.skipif(not picture.available(), reason=picture.LACKING)
def test_its_plots_are_drawn(told: list[Message]) -> None:
    """With SHOW=FOLDER they are left there to be looked at."""
    for name, message in (("opened", told[0]), ("closed", told[-1])):
        assert message.plot is not None
        png = picture.render(message.plot)
        assert png.startswith(b"\x89PNG")
        if os.environ.get("SHOW"):
            (Path(os.environ["SHOW"]) / f"{name}.png").write_bytes(png)
