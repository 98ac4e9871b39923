"""Apprise, the real library, against a loopback server by its json:// and form:// services."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from urllib.parse import unquote_plus

import pytest

from notifier.base import Permanent, Transient
from notifier.contract import Arrived, check, http_faults, sample
from tests.post_stub import KEY, PostStub, server
from tests.slack_stub import Reply

pytest.importorskip("apprise", reason="the extra `apprise` is not installed")
from notifier.apprise_ import AppriseNotifier

__all__ = ["server"]  # a fixture: importing it is using it

# Apprise looks at what the standard library still has when it loads its services.
pytestmark = pytest.mark.filterwarnings("ignore:'(imghdr|cgi|telnetlib)' is deprecated:DeprecationWarning")

PASSWORD = "passwordoftheaddress"


def url(stub: PostStub, service: str = "json") -> str:
    return f"{service}://me:{PASSWORD}@127.0.0.1:{stub.port}/{KEY}?cto=1&rto=1"


def notifier_for(stub: PostStub, *services: str) -> AppriseNotifier:
    urls = ", ".join(url(stub, service) for service in services or ("json",))
    return AppriseNotifier("OUR_URLS", environ={"OUR_URLS": urls})


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # requests leaves a socket that hung to the collector
def test_apprise_keeps_the_contract(server: PostStub) -> None:
    """Every status; no address in any reason, log line or repr."""

    def answer(status: int, headers: dict[str, str]) -> Callable[[], None]:
        return lambda: server.script(Reply(status, b"no", headers))

    faults = [
        fault
        for fault in http_faults(
            answer,
            hang=lambda: server.script(Reply(hang=True)),
            drop=lambda: server.script(Reply(drop=True)),
        )
        if fault.retry_after in (None, 30.0)  # Apprise does not hand Retry-After on
    ]
    assert len(faults) > 40
    findings = check(
        lambda: notifier_for(server),
        secrets=[KEY, PASSWORD],
        faults=faults,
        arrived=lambda: [
            Arrived(p.json["title"] + "\n" + p.json["message"], "", len(p.body)) for p in server.posts
        ],
        max_bytes=65_536,
    )
    assert findings == []


def test_a_message_has_its_headline_as_title(server: PostStub) -> None:
    """And below it the rest, as text, with the colour of its severity; a story's end is a success."""
    notifier = notifier_for(server)
    notifier.send(sample("opened"), None)
    notifier.send(sample("closed"), None)
    first, last = (post.json for post in server.posts)
    assert first["title"] == "CRITICAL driving/seed047 · actor Q leaves the critics · firing"
    assert "since step   1 200" in first["message"]
    assert (first["type"], last["type"]) == ("failure", "success")


def test_who_has_a_message_is_not_told_it_again(server: PostStub) -> None:
    """Two addresses, and only one of them was down."""
    notifier = notifier_for(server, "json", "form")
    server.script(Reply(200), Reply(503))
    with pytest.raises(Transient, match=r"apprise: form \(2 of 2\): HTTP 503"):
        notifier.send(sample(), None)
    notifier.send(sample(), None)
    kinds = [post.headers["content-type"].partition(";")[0] for post in server.posts]
    assert kinds[0] == "application/json"
    assert len(kinds) == 3
    assert "application/json" not in kinds[1:]
    assert "actor Q" in unquote_plus(server.posts[2].body.decode())


def test_one_dead_address_leaves_the_channel_alive(server: PostStub) -> None:
    """All dead ones kill it."""
    notifier = notifier_for(server, "json", "form")
    server.script(Reply(401), Reply(200))
    with pytest.raises(Permanent, match=r"json \(1 of 2\): HTTP 401; look at OUR_URLS") as failure:
        notifier.send(sample(), None)
    assert not failure.value.channel_dead
    server.script(Reply(401), Reply(410))
    with pytest.raises(Permanent) as failure:
        notifier.send(sample(), None)
    assert failure.value.channel_dead


def test_commas_inside_an_address_stay_in_it(server: PostStub) -> None:
    """`mailto://…?to=a,b` is one address."""
    urls = f"json://127.0.0.1:{server.port}/a,b/,form://127.0.0.1:{server.port}/c"
    AppriseNotifier("U", environ={"U": urls}).send(sample(), None)
    assert [post.path.rstrip("/") for post in server.posts] == ["/a%2Cb", "/c"]


@pytest.mark.parametrize(
    "value", ["nosuchservice://x/{key}", "{key}", "json://", "json://h/a, tgram://{key}"]
)
def test_what_is_no_address_is_refused_without_being_shown(value: str) -> None:
    """By its number and the variable's name."""
    with pytest.raises(Permanent, match=r"address \d of \d in OUR_URLS") as failure:
        AppriseNotifier("OUR_URLS", environ={"OUR_URLS": value.format(key=KEY)})
    assert failure.value.channel_dead
    assert KEY not in str(failure.value)
    assert (failure.value.__cause__, failure.value.__context__) == (None, None)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(Permanent, match=r"pip install 'training-sentinel\[apprise\]'"):
        AppriseNotifier("U", environ={"U": "json://h"})


def test_its_log_goes_nowhere(server: PostStub, capfd: pytest.CaptureFixture[str]) -> None:
    """Python prints warnings of a logger without handlers; these hold addresses."""
    notifier = notifier_for(server)
    server.script(Reply(500))
    with pytest.raises(Transient):
        notifier.send(sample(), None)
    said = capfd.readouterr()
    assert said.out + said.err == ""
    assert not logging.getLogger("apprise").propagate
