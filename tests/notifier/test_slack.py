"""Slack, against a loopback server that keeps Slack's limits: real HTTP, real slack_sdk."""

from __future__ import annotations

import gc
import logging
import pickle
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace

import pytest
from slack_sdk import WebClient

from notifier import picture
from notifier import slack as module
from notifier.base import DeliveryError, Permanent, Transient
from notifier.contract import Arrived, Fault, check, hostile, http_faults, sample
from notifier.message import as_story
from notifier.plot import Line, Plot
from notifier.slack import DEFAULT_RETRY_AFTER, SlackNotifier
from tests.slack_stub import CHANNEL_ID, TOKEN, Reply, SlackStub, rate_limit, refusal, slack

__all__ = ["slack"]  # a fixture: importing it is using it


needs_matplotlib = pytest.mark.skipif(not picture.available(), reason=picture.LACKING)

PLOT = Plot(
    "actor exploits critic", "driving/seed047", "step", (Line("debug/actor_q_mean", (((1, 2), (2, 9)),)),)
)


def notifier_for(stub: SlackStub, channel: str = "#training") -> SlackNotifier:
    return SlackNotifier(channel, environ=stub.environ, base_url=stub.url, timeout=1)


def test_slack_keeps_the_contract(slack: SlackStub) -> None:
    """Every status, error code, hang and broken answer is Transient or Permanent; none shows the token."""

    def fault(
        name: str, reply: Reply, *, dead: bool | None = None, retry_after: float | None = None
    ) -> Fault:
        def inject() -> None:
            slack.script(reply)

        if dead is None:
            return Fault(name, inject, Transient, retry_after=retry_after)
        return Fault(name, inject, Permanent, channel_dead=dead)

    def statuses(status: int, headers: dict[str, str]) -> Callable[[], None]:
        return lambda: slack.script(Reply(status, b"<html>no</html>", headers))

    faults = [
        fault("429", rate_limit(7), retry_after=7),
        fault("429 in fractions", rate_limit("0.5"), retry_after=0.5),
        fault("429 without a time", rate_limit(None), retry_after=DEFAULT_RETRY_AFTER),
        fault("429 with nonsense", rate_limit("soon"), retry_after=DEFAULT_RETRY_AFTER),
        fault("429 with a negative time", rate_limit(-5), retry_after=DEFAULT_RETRY_AFTER),
        fault("rate limit by code", refusal("ratelimited"), retry_after=DEFAULT_RETRY_AFTER),
        fault("503 with a time", Reply(503, b"{}", {"Retry-After": "3"}), retry_after=3),
        *http_faults(statuses),
        *(fault(code, refusal(code)) for code in sorted(module.PASSING)),
        *(fault(code, refusal(code), dead=True) for code in sorted(module.DEAD)),
        *(
            fault(code, refusal(code), dead=False)
            for code in ("msg_too_long", "no_text", "never_heard_of_it")
        ),
        fault("cut JSON", Reply(body=b'{"ok": tr')),
        fault("empty body", Reply(body=b"")),
        fault("a list", Reply(body=b"[1]")),
        fault("null", Reply(body=b"null")),
        fault("a page", Reply(body=b"<html>Sign in to the guest network</html>")),
        fault("not UTF-8", Reply(body=b'{"ok": true, "ts": "\xff\xfe"}')),
        fault("ok without a message", Reply(body=b'{"ok": true}')),
        fault("the token echoed", refusal(TOKEN)),
        fault("the token as a scope", refusal("missing_scope", needed=TOKEN), dead=True),
        fault("connection dropped", Reply(drop=True)),
        fault("no answer", Reply(hang=True)),
    ]
    findings = check(
        lambda: notifier_for(slack),
        secrets=[TOKEN],
        faults=faults,
        arrived=lambda: [Arrived(str(call.body), "", len(str(call.body))) for call in slack.sent()],
        alive=lambda _text: False,  # Slack's own markup has escapes: the stub looks for what is alive
        max_bytes=60_000,
    )
    assert findings == []
    assert slack.alive == []


def test_the_stub_would_have_seen_a_living_mention(slack: SlackStub) -> None:
    """The check above is worth something only if the stub notices."""
    client = notifier_for(slack)._client
    client.chat_postMessage(channel="#training", text="<!channel> wake up")
    client.chat_postMessage(channel="#training", text="@here", parse="full")
    assert len(slack.alive) == 2


def test_a_story_is_one_message_with_a_thread(slack: SlackStub) -> None:
    """The first message stands in the channel and is edited; what follows is below it."""
    notifier = notifier_for(slack)
    first = sample("opened")
    ref = notifier.send(first, None)
    notifier.send(sample("update"), ref)
    notifier.edit(ref, as_story(first, sample("update")))
    notifier.send(sample("closed"), ref)
    notifier.edit(ref, as_story(first, sample("closed")))

    [top] = slack.top()
    assert ref == f"{CHANNEL_ID}:{top['ts']}"
    assert "recovered" in top["text"]
    assert "🔴 critical · recovered" in str(top["blocks"])
    assert [("rolled back" in m["text"], "recovered" in m["text"]) for m in slack.thread(top["ts"])] == [
        (True, False),
        (False, True),
    ]


@needs_matplotlib
def test_a_plot_is_uploaded_into_the_storys_thread(slack: SlackStub) -> None:
    """Slack's three steps; the file stands below the story, with words for who cannot see it."""
    notifier = notifier_for(slack)
    ref = notifier.send(sample(), None)
    notifier.attach(ref, replace(sample(), plot=PLOT))
    [file] = slack.files
    [top] = slack.top()
    assert file.thread == top["ts"]
    assert file.data.startswith(b"\x89PNG")
    assert (file.name, file.title) == ("plot.png", "driving/seed047 · actor Q leaves the critics")
    assert file.alt_txt == file.title


@needs_matplotlib
def test_a_missing_scope_is_said_once_and_kills_no_channel() -> None:
    """Who has installed the app for texts alone keeps them."""
    with SlackStub(scopes=("chat:write",)) as stub:
        notifier = notifier_for(stub)
        ref = notifier.send(sample(), None)
        drawn = replace(sample(), plot=PLOT)
        with pytest.raises(Permanent, match="missing_scope; give the app the scope files:write") as failure:
            notifier.attach(ref, drawn)
        assert not failure.value.channel_dead
        notifier.attach(ref, drawn)
        assert [call.method for call in stub.calls].count("files.getUploadURLExternal") == 1
        notifier.send(sample("update"), ref)


@needs_matplotlib
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([Reply(503, b"")], Transient),
        ([Reply(body=b'{"ok": true}')], Transient),
        ([rate_limit(3)], Transient),
        ([refusal("file_uploads_disabled")], Permanent),
        ([Reply(body=b'{"ok": true, "upload_url": "file:///etc/passwd", "file_id": "F1"}')], Permanent),
        ([Reply(body=b'{"ok": true, "upload_url": "http://127.0.0.1:9/x", "file_id": "F1"}')], Transient),
        ([Reply(drop=True)], Transient),
    ],
)
def test_an_upload_that_fails_is_told(
    slack: SlackStub, script: list[Reply], expected: type[DeliveryError]
) -> None:
    """At whatever step; the text stays, and the reason holds neither the token nor the address."""
    notifier = notifier_for(slack)
    ref = notifier.send(sample(), None)
    slack.script(*script)
    with pytest.raises(expected) as failure:
        notifier.attach(ref, replace(sample(), plot=PLOT))
    assert TOKEN not in failure.value.reason
    assert "127.0.0.1:9" not in failure.value.reason
    assert len(slack.top()) == 1


def test_without_matplotlib_there_is_no_plot_and_it_is_said_once(
    slack: SlackStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extra that is not installed."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    notifier = notifier_for(slack)
    ref = notifier.send(sample(), None)
    with pytest.raises(Permanent, match="matplotlib is not installed"):
        notifier.attach(ref, replace(sample(), plot=PLOT))
    notifier.attach(ref, replace(sample(), plot=PLOT))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_so_the_token_stays_here(slack: SlackStub, status: int) -> None:
    """urllib would take the Authorization header along to whatever host the answer names."""
    with SlackStub() as elsewhere:
        slack.script(Reply(status, b"", {"Location": f"{elsewhere.url}chat.postMessage"}))
        with pytest.raises(Permanent, match=f"HTTP {status}") as failure:
            notifier_for(slack).send(sample(), None)
        assert failure.value.channel_dead
        assert elsewhere.calls == []


def test_slack_sdk_alone_would_have_followed_it(slack: SlackStub) -> None:
    """The test above is worth something: without our client the token goes to the other host."""
    with SlackStub() as elsewhere:
        slack.script(Reply(302, b"", {"Location": f"{elsewhere.url}chat.postMessage"}))
        with pytest.raises(Exception):  # noqa: B017, PT011  whatever it makes of the answer to a GET
            WebClient(TOKEN, slack.url).chat_postMessage(channel="#training", text="x")
        assert elsewhere.asked_with == [TOKEN]


def test_links_are_not_unfolded(slack: SlackStub) -> None:
    """Slack must not fetch what a run's name points at."""
    notifier_for(slack).send(sample(), None)
    body = slack.sent()[0].body
    assert (body["unfurl_links"], body["unfurl_media"], body["parse"], body["link_names"]) == (
        False,
        False,
        "none",
        False,
    )


def test_a_message_whose_blocks_are_refused_goes_as_text(slack: SlackStub) -> None:
    """Slack's rules for blocks change; a message told plainly is better than one not told."""
    slack.script(refusal("invalid_blocks"))
    notifier_for(slack).send(sample(), None)
    assert slack.sent()[0].body["blocks"] == []
    assert "actor Q leaves the critics" in slack.sent()[0].body["text"]


def test_a_reply_to_a_deleted_story_stands_alone(slack: SlackStub) -> None:
    """Somebody tidied the channel; the news is told all the same."""
    ref = notifier_for(slack).send(sample("closed"), f"{CHANNEL_ID}:1600000000.000001")
    [top] = slack.top()
    assert ref == f"{CHANNEL_ID}:{top['ts']}"


def test_an_edit_of_a_deleted_story_is_refused(slack: SlackStub) -> None:
    """Only this message is lost, not the channel."""
    with pytest.raises(Permanent, match="message_not_found") as failure:
        notifier_for(slack).edit(f"{CHANNEL_ID}:1600000000.000001", sample())
    assert not failure.value.channel_dead


def test_a_wrong_token_says_which_variable_to_mend(slack: SlackStub) -> None:
    """The reason names the variable and never its value."""
    notifier = SlackNotifier("#training", environ={"SLACK_BOT_TOKEN": "xoxb-other"}, base_url=slack.url)
    with pytest.raises(
        Permanent, match="invalid_auth; put a valid bot token into SLACK_BOT_TOKEN"
    ) as failure:
        notifier.send(sample(), None)
    assert failure.value.channel_dead


def test_a_missing_channel_says_what_to_do(slack: SlackStub) -> None:
    """The commonest mistake of all: the app was not invited."""
    with pytest.raises(
        Permanent, match=r"channel_not_found; is channel '#nowhere' right\? Invite the app there"
    ):
        notifier_for(slack, "#nowhere").send(sample(), None)


def test_check_says_who_the_token_is(slack: SlackStub) -> None:
    """`sentinel doctor` can try a token without sending anything."""
    assert notifier_for(slack).check() == "sentinel in stub"
    assert slack.messages == {}


def test_nobody_listening_is_transient(slack: SlackStub) -> None:
    """A network that is down may come back."""
    notifier = notifier_for(slack)
    slack.close()
    with pytest.raises(Transient, match=r"chat\.postMessage: no answer \(ConnectionRefusedError"):
        notifier.send(sample(), None)


@pytest.mark.parametrize(
    "value", ["", "  ", "xoxb-se cret", "xoxb-secret\nX-Evil: 1", "xoxb-sécret", "xoxb-\x00secret"]
)
def test_what_cannot_be_a_token_is_refused_without_being_shown(value: str) -> None:
    """http.client would put a header that it refuses, token and all, into its exception."""
    with pytest.raises(Permanent) as failure:
        SlackNotifier("#training", "MY_TOKEN", environ={"MY_TOKEN": value})
    assert failure.value.channel_dead
    assert "MY_TOKEN" in failure.value.reason
    assert "cret" not in "".join(traceback.format_exception(failure.value))


def test_a_line_break_after_a_token_is_forgiven() -> None:
    """`export SLACK_BOT_TOKEN=$(cat file)` keeps no line break, an env file may."""
    assert "t0ken" not in repr(SlackNotifier("#c", environ={"SLACK_BOT_TOKEN": "xoxb-t0ken\n"}))


def test_the_token_is_in_nothing_that_can_be_printed(
    slack: SlackStub, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Logs at every level, both output streams, reprs, and every error with all that hangs on it."""
    caplog.set_level(logging.DEBUG)
    notifier = notifier_for(slack)
    shown = [repr(notifier), str(notifier), repr(vars(notifier))]
    for reply in (
        refusal("invalid_auth"),
        Reply(500, TOKEN.encode()),
        Reply(body=TOKEN.encode()),
        Reply(drop=True),
    ):
        slack.script(reply)
        with pytest.raises(DeliveryError) as failure:
            notifier.send(sample(), None)
        error = failure.value
        assert (error.__cause__, error.__context__) == (None, None)
        shown += [repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]
    shown += [caplog.text, *capfd.readouterr()]
    assert not [text for text in shown if TOKEN in text]
    assert [call.token for call in slack.calls] == [TOKEN] * 4


def test_a_notifier_cannot_be_pickled_with_its_token(slack: SlackStub) -> None:
    """A token must not reach a disk by way of a queue or a cache."""
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        pickle.dumps(notifier_for(slack))


def test_hostile_messages_wake_nobody(slack: SlackStub) -> None:
    """Posted and edited, with and without blocks."""
    notifier = notifier_for(slack)
    for message in hostile():
        ref = notifier.send(message, None)
        slack.script(refusal("invalid_blocks"))
        notifier.edit(ref, replace(message, kind="closed"))
    assert slack.alive == []
    gc.collect()  # a socket left open would be a ResourceWarning here, and warnings are errors
