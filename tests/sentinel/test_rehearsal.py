"""`sentinel notify`: samples that arrive, samples that do not, samples that are only shown."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from notifier import picture
from notifier.contract import sample
from notifier.webhook import schema
from sentinel.cli import main
from sentinel.rehearsal import rehearse, samples
from tests.post_stub import KEY, PostStub, server
from tests.slack_stub import Reply, SlackStub, refusal, slack

__all__ = ["server", "slack"]  # fixtures: importing them is using them

HEAD = 'version = 1\ninclude = ["pack:generic"]\n'


@pytest.fixture
def config(tmp_path: Path, slack: SlackStub, server: PostStub, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A console, a Slack and a webhook that goes by another name."""
    path = tmp_path / "sentinel.toml"
    path.write_text(
        HEAD + f'[notify.slack]\nchannel = "#training"\nbase_url = "{slack.url}"\n'
        '[notify.grid]\nkind = "webhook"\nurl_env = "GRID"\nat_least = "critical"\n'
    )
    monkeypatch.setenv("GRID", server.url)
    for name, value in slack.environ.items():
        monkeypatch.setenv(name, value)
    return ["-c", str(path)]


def test_every_kind_arrives_on_every_channel(
    config: list[str], slack: SlackStub, server: PostStub, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a story: in Slack one message with a thread, and a notice beside it."""
    assert main(["notify", "--test", *config]) == 0
    top = slack.top()
    assert len(top) == 2
    assert len(slack.thread(top[0]["ts"])) == 2
    assert "resolved" in top[0]["text"]
    assert [post.json["kind"] for post in server.posts] == ["opened", "update", "closed", "notice"]
    assert {post.json["severity"] for post in server.posts} == {"critical"}
    said = capsys.readouterr()
    assert "slack: opened: delivered" in said.out
    if picture.available():
        assert [file.thread for file in slack.files] == [top[0]["ts"]]
    assert "grid: notice: delivered" in said.out
    assert "test of the channel console" in said.err


def test_a_plot_that_does_not_arrive_is_said_and_fails_nothing(
    config: list[str], slack: SlackStub, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it is needed one learns that a scope is missing, or matplotlib."""
    slack.scopes.discard("files:write")
    assert main(["notify", "--test", "slack", *config]) == 0
    assert "slack: opened: delivered; without its plot: " in capsys.readouterr().out


def test_the_samples_are_new_each_time(config: list[str], server: PostStub) -> None:
    """Who remembers keys would take the second test for the first."""
    assert main(["notify", "--test", "grid", *config]) == 0
    assert main(["notify", "--test", "grid", *config]) == 0
    assert len({post.json["key"] for post in server.posts}) == 8


def test_one_that_fails_is_1_and_the_others_are_tried(
    config: list[str], slack: SlackStub, server: PostStub, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason, and nothing secret in it."""
    slack.script(refusal("channel_not_found"))
    assert main(["notify", "--test", "--json", *config]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    failed = [line for line in lines if not line["delivered"]]
    assert [(line["channel"], line["kind"]) for line in failed] == [("slack", "opened")]
    assert "Invite the app there" in failed[0]["reason"]
    assert len(server.posts) == 4


def test_a_channel_that_cannot_be_opened_is_2(
    config: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are tried all the same."""
    monkeypatch.delenv("GRID")
    assert main(["notify", "--test", *config]) == 2
    said = capsys.readouterr()
    assert "grid: not opened: webhook: GRID is not set" in said.err
    assert "slack: closed: delivered" in said.out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--test", "nosuch"], "no channel 'nosuch' is configured (there are: console, slack, grid)"),
        ([], "say --test [CHANNEL]"),
    ],
)
def test_what_cannot_be_meant_is_2(
    config: list[str], words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing is sent."""
    assert main(["notify", *words, *config]) == 2
    assert reason in capsys.readouterr().err


def test_a_dry_run_sends_nothing(
    config: list[str], slack: SlackStub, server: PostStub, capsys: pytest.CaptureFixture[str]
) -> None:
    """It shows the webhook's body as it would be posted, and needs no secret for it."""
    assert main(["notify", "--dry-run", "--json", *config]) == 0
    assert (slack.calls, server.posts) == ([], [])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 12
    for line in lines:
        if line["channel"] == "grid":
            jsonschema.validate(json.loads(line["would_send"]), schema(), jsonschema.Draft7Validator)
    assert main(["notify", "--test", "slack", "--dry-run", *config]) == 0
    said = capsys.readouterr().out
    assert "── slack: opened" in said
    assert "grid" not in said


def test_a_failure_ends_a_channels_rehearsal(server: PostStub) -> None:
    """A reply to a message that did not arrive would say nothing more."""
    from notifier.webhook import WebhookNotifier

    server.script(Reply(500))
    notifier = WebhookNotifier("U", environ={"U": server.url})
    [attempt] = rehearse("grid", notifier, samples("grid", "info", 0.0))
    assert attempt.reason == "webhook: HTTP 500"
    assert KEY not in repr(attempt)


def test_the_samples_are_of_every_kind() -> None:
    """As many as there are."""
    from notifier.message import KINDS

    assert tuple(message.kind for message in samples("c", "info", 0.0)) == KINDS
    assert sample().run != samples("c", "info", 0.0)[0].run
