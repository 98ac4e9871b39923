"""[notify.NAME]: channels by name and kind, what is wrong with them, and how they are opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from notifier.console import ConsoleNotifier
from notifier.slack import SlackNotifier
from notifier.webhook import WebhookNotifier
from rules.source import RuleErrors
from sentinel.channels import open_channels
from sentinel.config import Settings, load

HEAD = 'version = 1\ninclude = ["pack:generic"]\n'


def read(folder: Path, text: str) -> Settings:
    path = folder / "sentinel.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    return load(path)


def problems(folder: Path, text: str) -> str:
    with pytest.raises(RuleErrors) as caught:
        read(folder, text)
    return "\n".join(problem.render() for problem in caught.value.problems)


def test_a_channel_named_like_its_kind_needs_no_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stood in everybody's file still stands; others of the same kind have names of their own."""
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-1")
    monkeypatch.setenv("HOOK", "http://127.0.0.1:9/")
    settings = read(
        tmp_path,
        '[notify.slack]\nchannel = "#a"\n'
        '[notify.night]\nkind = "slack"\nchannel = "#b"\nat_least = "fatal"\nruns = ["prod/*"]\n'
        '[notify.webhook]\nurl_env = "HOOK"\n'
        '[notify.grid]\nkind = "webhook"\nurl_env = "HOOK"\nrules = ["td3/*"]\n',
    )
    channels = open_channels(settings.service.notify)
    kinds = {name: type(channel) for name, channel in channels.items()}
    assert kinds == {
        "console": ConsoleNotifier,
        "slack": SlackNotifier,
        "night": SlackNotifier,
        "webhook": WebhookNotifier,
        "grid": WebhookNotifier,
    }
    routes = {route.channel: route for route in settings.routes}
    assert (routes["console"].at_least, routes["slack"].at_least) == ("info", "warning")
    assert (routes["night"].at_least, routes["night"].runs) == ("fatal", ("prod/*",))
    assert routes["grid"].rules == ("td3/*",)


def test_a_channel_that_is_not_enabled_is_not_opened(tmp_path: Path) -> None:
    """The console too."""
    settings = read(
        tmp_path, '[notify.console]\nenabled = false\n[notify.webhook]\nurl_env = "X"\nenabled = false\n'
    )
    assert open_channels(settings.service.notify) == {}
    assert settings.routes == ()


def test_a_channel_that_cannot_be_opened_is_told_and_left_out(tmp_path: Path) -> None:
    """A variable that is not set ends no watch."""
    said: list[str] = []
    settings = read(tmp_path, '[notify.hook]\nkind = "webhook"\nurl_env = "NOT_SET_ANYWHERE"\n')
    assert list(open_channels(settings.service.notify, said.append)) == ["console"]
    assert said == [
        "sentinel: webhook: NOT_SET_ANYWHERE is not set; hook is not told, the other channels are"
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '[notify.hook]\nurl_env = "A"',
            "3: notify.hook: 'hook' is no kind of channel; where it is a name of your",
        ),
        ('[notify.slak]\nchannel = "#a"', "did you mean 'slack'"),
        (
            '[notify.hook]\nkind = "webhok"',
            "no kind of channel is called 'webhok' here; did you mean 'webhook'",
        ),
        ("[notify.hook]\nkind = 3", "notify.hook.kind: this must be a text, in quotes"),
        (
            '[notify.slack]\nkind = "webhook"\nurl_env = "A"',
            "notify.slack: a channel of this name is of kind slack",
        ),
        (
            '[notify.hook]\nkind = "webhook"\nurl = "A"',
            "5: notify.hook: unknown key 'url'; did you mean 'url_env'",
        ),
        ('[notify.hook]\nkind = "webhook"', "notify.hook.url_env: this key is required"),
        (
            '[notify.hook]\nkind = "webhook"\nurl_env = "https://x/key"',
            "write the name of an environment variable",
        ),
        ('[notify.hook]\nkind = "webhook"\nurl_env = "A"\nat_least = "critcal"', "did you mean 'critical'"),
        (
            '[notify."a b"]\nkind = "webhook"\nurl_env = "A"',
            "a channel's name is of letters, digits, _ and -",
        ),
        ("[notify]\nconsole = true", "a channel is a table"),
        ("notify = 3", "notify: this must be a table"),
    ],
)
def test_what_is_wrong_with_a_channel_is_told_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    """And with the nearest right word."""
    assert words in problems(tmp_path, text).replace(":1: error:", ":").replace("\n  = help: ", "; ")
