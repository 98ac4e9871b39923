"""What goes on is said again to channels that forget: by a real engine and outbox, over a restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from notifier.alertmanager import EXPIRES, AlertmanagerNotifier
from notifier.base import Standing, Transient
from notifier.contract import sample
from notifier.message import Message
from sentinel.channels import open_channels
from sentinel.config import load
from sentinel.engine import STAND_EVERY
from sentinel.outbox import Outbox, Row
from sentinel.watcher import Plan, Watcher
from tests.fakes import FakeClock
from tests.post_stub import PostStub, server
from tests.sentinel.event_files import T0, scalar
from tests.slack_stub import Reply

__all__ = ["server"]  # a fixture: importing it is using it

RULES = """
version = 1
[notify.console]
enabled = false
[notify.alertmanager]
url = "{url}"
at_least = "info"
[metrics]
x = ["x"]
[[rule]]
name = "high"
expr = "x > 10"
clear = "x < 5"
severity = "critical"
"""


def until(look: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


class Life:
    """A sentinel on one log directory, with an Alertmanager that is a stub."""

    def __init__(self, folder: Path, stub: PostStub, clock: FakeClock) -> None:
        self.folder = folder
        self.clock = clock
        self.stub = stub
        self.step = 0
        (folder / "runs" / "a").mkdir(parents=True)
        (folder / "state").mkdir()
        (folder / "sentinel.toml").write_text(RULES.format(url=stub.url))
        self.start()

    def start(self) -> None:
        self.watcher = Watcher(
            self.folder / "runs",
            self.folder / "state",
            Plan(load(self.folder / "sentinel.toml"), act=False),
            self.clock,
            wake=lambda: None,
            open_channels=lambda settings: {
                name: AlertmanagerNotifier(self.stub.url, wall=self.clock.wall)
                for name in open_channels(settings.service.notify)
            },
        )

    def log(self, *values: float) -> None:
        with (self.folder / "runs" / "a" / "events.out.tfevents.1700000000.t").open("ab") as file:
            for value in values:
                self.step += 1
                file.write(scalar("x", self.step, value, self.clock.wall()))

    def tick(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)
        self.watcher.tick()
        self.watcher.drain(10.0)
        self.watcher.write_down()

    def alerts(self) -> list[dict[str, Any]]:
        """Every post of the story, notices left out."""
        found = [alert for post in self.stub.posts for alert in post.json]
        return [alert for alert in found if alert["labels"]["alertname"] == "high"]


@pytest.fixture
def life(tmp_path: Path, server: PostStub) -> Iterator[Life]:
    made = Life(tmp_path, server, FakeClock(T0))
    yield made
    made.watcher.close()


def test_an_alert_that_fires_is_said_again_until_it_ends(life: Life) -> None:
    """Also by the sentinel that comes after one that was killed; then it is closed, and not said again."""
    life.log(1, 1)
    life.tick()
    life.log(99, 99, 99)
    life.tick()
    life.log(99)
    life.tick()
    [first, *_] = life.alerts()
    count = len(life.alerts())
    life.tick(STAND_EVERY)
    until(lambda: len(life.alerts()) > count, "it is said again")
    again = life.alerts()[-1]
    assert (again["startsAt"], again["labels"]) == (first["startsAt"], first["labels"])
    assert again["endsAt"] > first["endsAt"]

    life.watcher.close()  # as a SIGKILL would
    life.start()
    count = len(life.alerts())
    life.tick()
    until(lambda: len(life.alerts()) > count, "its successor says it too")
    assert life.alerts()[-1]["startsAt"] == first["startsAt"]

    life.log(1, 1, 1, 1)
    life.tick()
    life.log(1)
    life.tick()
    closed = life.alerts()[-1]
    assert closed["annotations"]["state"] == "resolved"
    assert closed["startsAt"] == first["startsAt"]
    count = len(life.alerts())
    for _ in range(3):
        life.tick(STAND_EVERY)
    assert len(life.alerts()) == count


def test_it_is_said_more_often_than_it_expires() -> None:
    """One that is lost, and one that is late, do no harm."""
    assert EXPIRES >= 4 * STAND_EVERY


class Forgetful:
    """A channel that has to be told again, and fails at it."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.heard = 0

    def send(self, message: Message, thread_ref: str | None) -> str:
        return "ref"

    def edit(self, first_ref: str, message: Message) -> None:
        """Nothing is edited."""

    def stand(self, stories: object) -> None:
        self.heard += 1
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Transient("it is down"), "it is down"), (RuntimeError("secret"), "a bug: it raised RuntimeError")],
)
def test_a_channel_that_cannot_be_told_again_shows_in_its_health(error: Exception, reason: str) -> None:
    """Though no message waits; and it is well again when it can."""
    channel = Forgetful(error)
    outbox = Outbox({"c": channel}, time.monotonic)
    assert outbox.repeating == ("c",)
    outbox.stand("c", [])
    until(lambda: outbox.health()["c"].state == "retrying", "its trouble is seen")
    assert reason in outbox.health()["c"].reason
    channel.error = None
    outbox.stand("c", [])
    until(lambda: outbox.health()["c"].state == "ok", "it is well again")
    outbox.close()


def test_a_channel_that_forgets_nothing_is_not_told_again() -> None:
    """Slack and the console keep what they were told."""

    class Plain:
        def send(self, message: Message, thread_ref: str | None) -> str:
            return "ref"

        def edit(self, first_ref: str, message: Message) -> None:
            """Nothing is edited."""

    outbox = Outbox({"c": Plain()}, time.monotonic)
    assert outbox.repeating == ()
    outbox.close()


def test_messages_go_on_while_one_is_refused(server: PostStub) -> None:
    """A refused repetition kills neither the channel nor what waits behind it."""
    server.script(Reply(401))
    outbox = Outbox({"c": AlertmanagerNotifier(server.url)}, time.monotonic)
    outbox.stand("c", [])
    outbox.stand("c", [Standing("2023-11-14T22:13:20.000Z", sample())])
    until(lambda: outbox.health()["c"].reason, "it was refused")
    outbox.submit([Row(1, "c", sample())])
    assert outbox.drain(10.0)
    assert [type(result.outcome).__name__ for result in outbox.collect()] == ["Delivered"]
    outbox.close()
