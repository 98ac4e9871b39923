"""The alert that always fires: at its interval, over restarts, and never from a sentinel that cannot see."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from notifier.message import Message
from notifier.route import Route, channels_for
from rules.alert import AlertState
from rules.source import RuleErrors
from sentinel.config import load
from sentinel.journal import Journal
from sentinel.mail import Mail
from sentinel.watchdog_alert import TITLE, RunStanding, report, span
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import RULES, Post, Scene
from tests.sentinel.test_engine import curve

HOUR = 3600.0
EVERY_DAY = RULES.replace("version = 1", 'version = 1\n[sentinel]\nwatchdog_every = "1d"', 1)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A log directory in which one run is healthy, watched by a sentinel that tells so every day."""
    made = Scene(tmp_path, FakeClock(T0), EVERY_DAY)
    made.log(curve([1, 1, 1, 1]))
    yield made
    made.journal.close()


def told(scene: Scene) -> list[Message]:
    """What was queued; a restart may submit a message once more."""
    return list({message.key: message for message in scene.post.messages if message.title == TITLE}.values())


def test_the_first_is_told_at_once_and_the_next_after_the_interval(scene: Scene) -> None:
    """The first one shows that it arrives at all."""
    scene.tick(1.0)
    assert [m.happened.splitlines()[0] for m in told(scene)] == [
        "watching 1 run, 1 healthy, last point 1 s ago."
    ]
    assert told(scene)[0].severity == "info"
    scene.tick(24 * HOUR - 2.0)
    assert len(told(scene)) == 1
    scene.tick(3.0)
    assert len(told(scene)) == 2


def test_a_restart_neither_repeats_nor_skips_one(scene: Scene) -> None:
    """When the last one was told is in the journal; one that fell due meanwhile is told at the start."""
    scene.tick(1.0)
    scene.start()
    scene.tick(HOUR)
    assert len(told(scene)) == 1
    scene.clock.advance(30 * HOUR)
    scene.start()
    scene.tick(1.0)
    assert len(told(scene)) == 2


def test_a_blind_sentinel_withholds_it_until_it_sees_again(scene: Scene) -> None:
    """Its absence is the alarm."""
    scene.tick(1.0)
    file = next((scene.logdir / "a").iterdir())
    hidden = file.with_name("hidden")
    file.rename(hidden)
    file.symlink_to("/proc/self/mem")  # a regular file that nobody can read, root included
    scene.tick(25 * HOUR)
    scene.tick(1.0)
    assert not scene.engine.sees
    assert len(told(scene)) == 1
    file.unlink()
    hidden.rename(file)
    scene.tick(60.0)
    scene.tick(60.0)
    assert len(told(scene)) == 2


def test_a_clock_that_is_set_back_costs_no_alarm(scene: Scene) -> None:
    """One too many is harmless; one too few wakes somebody."""
    scene.tick(1.0)
    scene.clock.step_wall(-30 * HOUR)
    scene.tick(1.0)
    assert len(told(scene)) == 2
    scene.tick(23 * HOUR)
    assert len(told(scene)) == 2


def test_it_is_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    """Nobody is told every day of what he did not ask for."""
    scene = Scene(tmp_path, FakeClock(T0))
    scene.log(curve([1, 1]))
    for _ in range(3):
        scene.tick(24 * HOUR)
    assert not told(scene)


def test_it_goes_to_every_channel_however_grave_what_that_wants_to_hear(tmp_path: Path) -> None:
    """It is an info, and Slack is told warnings by default: there it would never arrive."""
    journal = Journal(tmp_path / "journal.sqlite")
    post = Post()
    routes = [Route("console"), Route("slack", at_least="critical")]
    mail = Mail(journal, post, partial(channels_for, routes=routes))  # type: ignore[arg-type]  # all it uses
    message = Message("k", "t", "notice", "info", "", "", TITLE, "text", T0)
    with journal.transaction():
        mail.post(message, T0, everywhere=True)
    mail.submit()
    journal.close()
    assert [row.channel for row in post.rows] == ["console", "slack"]
    assert {row.message.severity for row in post.rows} == {"info"}


def test_what_is_not_known_to_be_healthy_is_not_counted_as_healthy() -> None:
    """A run that is silent, blind, or has an alert is named with the reason."""
    quiet: dict[str, AlertState] = {}
    standings = [
        RunStanding("well", "live", False, quiet, T0 - 4.0),
        RunStanding("ill", "live", False, {"loss_high": AlertState.FIRING}, T0 - 10.0),
        RunStanding("mute", "live", False, quiet, T0 - 3 * HOUR),
        RunStanding("dark", "live", True, quiet, T0),
        RunStanding("new", "live", False, quiet, None),
        RunStanding("over", "finished", False, quiet, T0 - 9 * HOUR),
    ]
    assert report(standings, 86400.0, T0).splitlines() == [
        "watching 5 runs, 1 healthy, last point 0 s ago.",
        "ill: loss_high firing",
        "mute: no point for 3 h",
        "dark: its files cannot be read",
        "new: no point yet",
        "The next one comes in 24 h; if it does not, nobody watches.",
    ]
    assert report([], 86400.0, T0).startswith("watching 0 runs, 0 healthy.")


def test_an_interval_below_a_minute_is_refused(tmp_path: Path) -> None:
    """People would be told without end."""
    path = tmp_path / "sentinel.toml"
    path.write_text('version = 1\ninclude = ["pack:generic"]\n[sentinel]\nwatchdog_every = "5s"\n')
    with pytest.raises(RuleErrors, match="people are told each time"):
        load(path)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4, "4 s"), (119, "119 s"), (1800, "30 min"), (86400, "24 h"), (86400 * 14, "14 days")],
)
def test_a_time_is_written_as_people_say_it(seconds: float, words: str) -> None:
    """The unit follows the size."""
    assert span(seconds) == words
