"""A change of channels while the sentinel runs: what the old outbox has delivered is not told again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from notifier.base import Notifier
from notifier.message import Message
from sentinel.config import Settings, load
from sentinel.story import notice
from sentinel.watcher import Plan, Watcher
from tests.fakes import FakeClock

RULES = """
version = 1
[notify.slack]
group_wait = "0s"
channel = "#training"
at_least = "{}"
[metrics]
x = ["x"]
[[rule]]
name = "r"
expr = "x > 1"
severity = "info"
summary = "x"
"""


class Ear:
    """A channel that writes down the titles that it hears."""

    def __init__(self, heard: list[str]) -> None:
        self._heard = heard

    def send(self, message: Message, thread_ref: str | None) -> str:
        """Hear."""
        self._heard.append(message.title)
        return message.key

    def edit(self, first_ref: str, message: Message) -> None:
        """Nothing is edited."""


def test_what_was_delivered_before_a_change_of_channels_is_not_told_again(tmp_path: Path) -> None:
    """The delivery was not yet written down when the channels changed."""
    heard: list[str] = []

    def channels(_settings: Settings) -> Mapping[str, Notifier]:
        return {"slack": Ear(heard)}

    plans = []
    for severity in ("info", "warning"):
        path = tmp_path / f"{severity}.toml"
        path.write_text(RULES.format(severity))
        plans.append(Plan(load(path), act=False))
    (tmp_path / "state").mkdir()
    clock = FakeClock()
    watcher = Watcher(
        tmp_path, tmp_path / "state", plans[0], clock, wake=lambda: None, open_channels=channels
    )
    try:
        watcher.tell(notice("", "a", "warning", "said once", "text", clock.wall()))
        watcher.tick()
        watcher.drain(10.0)
        watcher.reload(replace(plans[1]))
        watcher.tick()
        watcher.drain(10.0)
        assert heard == ["said once"]
    finally:
        watcher.close()


def test_a_sentinel_that_ends_writes_down_what_was_delivered_and_tells_nothing_more(tmp_path: Path) -> None:
    """What a last look had queued would arrive, not be written down, and be told again by the next one."""
    heard: list[str] = []
    path = tmp_path / "rules.toml"
    path.write_text(RULES.format("info"))
    (tmp_path / "state").mkdir()
    clock = FakeClock()
    for _life in range(2):
        watcher = Watcher(
            tmp_path,
            tmp_path / "state",
            Plan(load(path), act=False),
            clock,
            wake=lambda: None,
            open_channels=lambda _settings: {"slack": Ear(heard)},
        )
        if not heard:
            watcher.tell(notice("", "a", "warning", "told", "text", clock.wall()))
            watcher.tick()
            watcher.tell(notice("", "b", "warning", "queued at the end", "text", clock.wall()))
        else:
            watcher.tick()
        watcher.drain(10.0)
        watcher.write_down()
        watcher.drain(10.0)
        watcher.close()
    assert heard == ["told", "queued at the end"]
