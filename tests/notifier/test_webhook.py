"""The webhook, against a loopback server: its schema, its signature, and every way in which it can fail."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import socket
import time
from collections.abc import Callable
from dataclasses import replace

import jsonschema
import pytest

from notifier.base import Permanent, Transient
from notifier.contract import Arrived, check, hostile, http_faults, sample
from notifier.plot import Line, Mark, Plot
from notifier.post import MAX_RETRY_AFTER, Endpoint, retry_after
from notifier.webhook import MAX_BYTES, WebhookNotifier, body_of, message_id, schema
from tests.post_stub import KEY, Post, PostStub, server
from tests.slack_stub import Reply

__all__ = ["server"]  # a fixture: importing it is using it

SECRET = "whsec_" + base64.b64encode(b"the signing key of the tests").decode()
TOKEN = "bearer-of-the-tests"
PASSWORD = "passwordoftheaddress"


def notifier_for(stub: PostStub, timeout: float = 1.0) -> WebhookNotifier:
    environ = {"HOOK": stub.url, "SIGN": SECRET, "TOKEN": TOKEN}
    return WebhookNotifier("HOOK", "SIGN", "TOKEN", environ=environ, timeout=timeout, wall=lambda: 1.7e9)


def test_the_webhook_keeps_the_contract(server: PostStub) -> None:
    """Every status, a hang, a dribble, a drop: Transient or Permanent, and no secret shows."""

    def answer(status: int, headers: dict[str, str]) -> Callable[[], None]:
        return lambda: server.script(Reply(status, b"<html>no</html>", headers))

    faults = http_faults(
        answer,
        hang=lambda: server.script(Reply(hang=True)),
        drop=lambda: server.script(Reply(drop=True)),
        slow=lambda: server.script("slow"),
    )
    findings = check(
        lambda: notifier_for(server),
        secrets=[KEY, SECRET, SECRET.removeprefix("whsec_"), TOKEN],
        faults=faults,
        arrived=lambda: [Arrived(p.json["text"], p.headers["webhook-id"], len(p.body)) for p in server.posts],
        max_bytes=MAX_BYTES,
    )
    assert findings == []


def test_a_plot_and_commands_are_data_for_whoever_draws() -> None:
    """As in the journal, but that no text of it acts on a terminal."""
    plot = Plot(
        "t\x1b[31m",
        "s",
        "step",
        (Line("q", (((1, 2.5), (2, math.nan)),)),),
        50.0,
        "limit 50",
        (Mark("onset", 1, "x"),),
    )
    body = body_of(replace(sample(), plot=plot, commands=("sentinel status",) * 20))
    jsonschema.validate(json.loads(json.dumps(body, allow_nan=False)), schema())
    assert body["plot"]["title"] == "t\\x1b[31m"
    assert body["plot"]["lines"][0]["parts"] == [[[1, 2.5], [2, "nan"]]]
    assert body["commands"] == ["sentinel status"] * 10
    assert body_of(sample())["plot"] is None


def test_every_body_is_what_the_schema_says(server: PostStub) -> None:
    """Also where a run's files did their worst."""
    notifier = notifier_for(server)
    checker = jsonschema.Draft7Validator(schema())
    jsonschema.Draft7Validator.check_schema(schema())
    for message in (sample("opened"), sample("update"), sample("closed"), sample("notice"), *hostile()):
        notifier.send(message, None)
        checker.validate(server.posts[-1].json)
    assert not checker.is_valid({**body_of(sample()), "severity": "mild"})
    assert not checker.is_valid({k: v for k, v in body_of(sample()).items() if k != "story"})


def test_a_body_says_what_the_message_says(server: PostStub) -> None:
    """A receiver needs nothing but the body."""
    notifier_for(server).send(sample(), None)
    body = server.posts[0].json
    assert body["version"] == 1
    assert (body["kind"], body["severity"], body["run"]) == ("opened", "critical", "driving/seed047")
    assert (body["rule"], body["state"]) == ("td3/actor_exploits_critic", "firing")
    assert body["facts"][0] == {"label": "since step", "value": "1 200"}
    assert body["time"] == "2023-11-14T22:13:20.000Z"
    assert "set q_features" in body["text"]


def verified(post: Post, key: bytes) -> bool:
    """Check a signature as the specification of Standard Webhooks says, with nothing of ours."""
    name, timestamp = post.headers["webhook-id"], post.headers["webhook-timestamp"]
    signed = f"{name}.{timestamp}.".encode() + post.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return hmac.compare_digest(post.headers["webhook-signature"], f"v1,{expected}")


def test_the_signature_is_that_of_standard_webhooks(server: PostStub) -> None:
    """HMAC-SHA256 over id, time and body: who changes any of them is found out."""
    notifier_for(server).send(sample(), None)
    post, key = server.posts[0], b"the signing key of the tests"
    assert verified(post, key)
    assert not verified(replace(post, body=post.body + b" "), key)
    assert not verified(replace(post, headers={**post.headers, "webhook-timestamp": "1700000001"}), key)
    assert not verified(post, b"another key")
    assert post.headers["authorization"] == f"Bearer {TOKEN}"


def test_the_specification_s_own_example() -> None:
    """The vector of Standard Webhooks' reference libraries."""
    from notifier.webhook import signed

    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_may_be_any_text(server: PostStub) -> None:
    """`openssl rand -hex 32` makes one too; without one nothing is signed."""
    WebhookNotifier("U", "S", environ={"U": server.url, "S": "any text"}).send(sample(), None)
    assert verified(server.posts[0], b"any text")
    WebhookNotifier("U", environ={"U": server.url}).send(sample(), None)
    assert "webhook-signature" not in server.posts[1].headers


def test_every_attempt_of_a_message_has_its_id(server: PostStub) -> None:
    """Whoever remembers ids takes it once; another message has another."""
    notifier = notifier_for(server)
    server.script(Reply(503))
    with pytest.raises(Transient):
        notifier.send(sample(), None)
    ref = notifier.send(sample(), None)
    first, second = server.posts
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == ref == message_id(sample())
    assert first.headers["idempotency-key"] == f'"{ref}"'
    assert first.body == second.body
    assert message_id(sample("update")) != ref


def test_a_redirect_is_not_followed(server: PostStub) -> None:
    """It would carry the message, its signature and its token to whoever is named there."""
    with PostStub() as other:
        server.script(Reply(307, b"", {"Location": other.url}))
        with pytest.raises(Permanent, match=r"HTTP 307: a redirect, which is not followed.*HOOK") as failure:
            notifier_for(server).send(sample(), None)
        assert failure.value.channel_dead
        assert other.posts == []


def test_an_answer_that_never_ends_is_cut(server: PostStub) -> None:
    """A byte every 50 ms would keep a timeout for each read waiting for ever."""
    server.script("slow")
    began = time.monotonic()
    with pytest.raises(Transient, match=r"no answer within 0\.3 s"):
        notifier_for(server, timeout=0.3).send(sample(), None)
    assert time.monotonic() - began < 3


def test_user_and_password_of_an_address_become_a_header(server: PostStub) -> None:
    """As every HTTP client does; http.client alone would take them for a host."""
    url = server.url.replace("http://", f"http://me:{PASSWORD}@")
    WebhookNotifier("U", environ={"U": url}).send(sample(), None)
    expected = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert server.posts[0].headers["authorization"] == f"Basic {expected}"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "  ",
        "ftp://x/{key}",
        "{key}",
        "http:///{key}",
        "https://x:{key}/",
        "https://x/{key} y",
        "https://x/é{key}",
    ],
)
def test_what_is_no_address_is_refused_without_being_shown(value: str) -> None:
    """The variable is named, never what it holds; nothing that hangs on the error holds it either."""
    with pytest.raises(Permanent, match="HOOK") as failure:
        WebhookNotifier("HOOK", environ={"HOOK": value.format(key=KEY)})
    assert failure.value.channel_dead
    assert (failure.value.__cause__, failure.value.__context__) == (None, None)
    assert KEY not in str(failure.value)


def test_a_secret_that_is_none_is_refused_without_being_shown() -> None:
    """A cut whsec_ would sign with a key that nobody has."""
    with pytest.raises(Permanent, match="SIGN holds after whsec_ is not base64") as failure:
        WebhookNotifier("U", "SIGN", environ={"U": "http://x/", "SIGN": "whsec_%%%"})
    assert (failure.value.__cause__, failure.value.__context__) == (None, None)


def test_nobody_listening_is_transient() -> None:
    """A server that is down may come back; the reason says what, and not where."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    notifier = WebhookNotifier("U", environ={"U": f"http://127.0.0.1:{port}/{KEY}"})
    with pytest.raises(Transient, match=r"webhook: no answer \(ConnectionRefusedError: Connection refused\)"):
        notifier.send(sample(), None)


def test_a_server_without_tls_is_transient(server: PostStub) -> None:
    """What answers there may be a proxy that is about to go."""
    url = server.url.replace("http://", "https://")
    with pytest.raises(Transient, match=r"no answer \(SSL\w*Error\)"):
        WebhookNotifier("U", environ={"U": url}).send(sample(), None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-1", None),
        ("soon", None),
        ("nan", None),
        ("1e9", MAX_RETRY_AFTER),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    """RFC 9110 knows both."""
    assert retry_after({"RETRY-After": value}, lambda: 1445412480.0) == seconds


def test_no_attribute_holds_a_secret(server: PostStub) -> None:
    """Neither repr nor a debugger's list of attributes."""
    notifier = notifier_for(server)
    shown = repr(notifier) + repr(vars(notifier)) + repr(vars(notifier._endpoint))
    assert not [secret for secret in (KEY, SECRET, TOKEN) if secret in shown]
    assert "HOOK" in repr(notifier)
    assert isinstance(notifier._endpoint, Endpoint)
