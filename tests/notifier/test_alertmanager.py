"""Alertmanager: recorded answers on loopback; and, where Debian's is installed, the real one."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from notifier.alertmanager import EXPIRES, AlertmanagerNotifier
from notifier.base import Permanent, Repeating, Standing, Transient
from notifier.contract import Arrived, check, hostile, http_faults, sample
from notifier.message import as_story
from tests.fakes import FakeClock
from tests.post_stub import KEY, PostStub, server
from tests.slack_stub import Reply

__all__ = ["server"]  # a fixture: importing it is using it

TOKEN = "bearer-of-the-tests"
REFUSED = (
    b'{"code":400,"message":"parsing alerts body from \\"\\" failed, because parsing time \\"soon\\" as '
    b'\\"2006-01-02 15:04:05\\": cannot parse \\"soon\\" as \\"2006\\""}'
)
"""What Alertmanager 0.25 answers to a beginning that is no time."""


def notifier_for(stub: PostStub, clock: FakeClock | None = None) -> AlertmanagerNotifier:
    return AlertmanagerNotifier(
        stub.url,
        named="OUR_MANAGER",
        token_env="T",
        labels={"cluster": "a"},
        environ={"T": TOKEN},
        timeout=1.0,
        wall=(clock or FakeClock()).wall,
    )


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def text_of(alert: Any) -> str:
    return "\n".join(alert["annotations"].values())


def test_alertmanager_keeps_the_contract(server: PostStub) -> None:
    """Every status, a hang, a dribble: Transient or Permanent, and no secret shows."""

    def answer(status: int, headers: dict[str, str]) -> Callable[[], None]:
        return lambda: server.script(Reply(status, REFUSED, headers))

    faults = http_faults(
        answer,
        hang=lambda: server.script(Reply(hang=True)),
        drop=lambda: server.script(Reply(drop=True)),
        slow=lambda: server.script("slow"),
    )
    findings = check(
        lambda: notifier_for(server),
        secrets=[KEY, TOKEN],
        faults=faults,
        arrived=lambda: [Arrived(text_of(post.json[0]), "", len(post.body)) for post in server.posts],
        max_bytes=100_000,
    )
    assert findings == []


def test_a_story_is_one_alert(server: PostStub) -> None:
    """The same labels and the same beginning from its first message to its last; then it ends."""
    clock = FakeClock()
    notifier = notifier_for(server, clock)
    first = sample("opened")
    clock.advance(10)
    ref = notifier.send(first, None)
    clock.advance(60)
    notifier.send(sample("update"), ref)
    notifier.edit(ref, as_story(first, sample("update")))
    clock.advance(60)
    notifier.send(sample("closed"), ref)
    alerts = [post.json[0] for post in server.posts]
    assert {post.path for post in server.posts} == {f"/hook/{KEY}/api/v2/alerts"}
    assert len({json.dumps(alert["labels"]) for alert in alerts}) == 1
    assert alerts[0]["labels"] == {
        "cluster": "a",
        "alertname": "td3/actor_exploits_critic",
        "run": "driving/seed047",
        "severity": "critical",
    }
    assert {alert["startsAt"] for alert in alerts} == {"2023-11-14T22:13:20.000Z"}
    assert seconds(alerts[0]["endsAt"]) == 1_700_000_010 + EXPIRES
    assert seconds(alerts[-1]["endsAt"]) == 1_700_000_130
    assert alerts[0]["annotations"]["advice"] == "set q_features = critic, or reset the actor"
    assert alerts[2]["annotations"]["state"] == "rolled back to step 1 000"


def test_a_capture_is_a_label_of_its_own(server: PostStub) -> None:
    """People route by the rule, and each of its series is an alert."""
    notifier_for(server).send(replace(sample(), rule="generic/nonfinite[train/loss]"), None)
    labels = server.posts[0].json[0]["labels"]
    assert (labels["alertname"], labels["series"]) == ("generic/nonfinite", "train/loss")


def test_a_notice_ends_by_itself(server: PostStub) -> None:
    """Nobody would close it; an empty label does not exist in Prometheus."""
    notifier_for(server).send(
        replace(sample("notice"), rule="", run="", title="a folder cannot be read"), None
    )
    alert = server.posts[0].json[0]
    assert alert["labels"] == {"cluster": "a", "alertname": "a folder cannot be read", "severity": "critical"}
    assert seconds(alert["endsAt"]) > 1_700_000_000


def test_what_goes_on_is_said_again_in_one_post(server: PostStub) -> None:
    """With a later end, and the beginning it had."""
    clock = FakeClock()
    notifier = notifier_for(server, clock)
    assert isinstance(notifier, Repeating)
    ref = notifier.send(sample(), None)
    clock.advance(60)
    notifier.stand([Standing(ref, sample()), Standing(ref, replace(sample(), run="b"))])
    again = server.posts[1].json
    assert [alert["labels"]["run"] for alert in again] == ["driving/seed047", "b"]
    assert {alert["startsAt"] for alert in again} == {ref}
    assert seconds(again[0]["endsAt"]) == 1_700_000_060 + EXPIRES
    notifier.stand([])
    assert len(server.posts) == 2
    server.script(Reply(503))
    with pytest.raises(Transient):
        notifier.stand([Standing(ref, sample())])


@pytest.mark.parametrize("wall", [1_800_000_000.0, float("inf"), float("nan"), -1e18])
def test_an_end_is_never_before_its_beginning(server: PostStub, wall: float) -> None:
    """A trainer's clock may be ahead, or no clock at all; Alertmanager would refuse the alert."""
    notifier = notifier_for(server)
    ref = notifier.send(replace(sample(), wall_time=wall), None)
    notifier.send(replace(sample("closed"), wall_time=wall), ref)
    for post in server.posts:
        assert seconds(post.json[0]["startsAt"]) < seconds(post.json[0]["endsAt"])
        assert seconds(post.json[0]["startsAt"]) <= 1_700_000_000


def test_a_reference_of_another_channel_is_refused(server: PostStub) -> None:
    """Where a name was given to a channel of another kind, its old references stand in the journal."""
    with pytest.raises(Permanent, match="is not a reference to an alert here"):
        notifier_for(server).send(sample("closed"), "C0TRAINING:1700000000.000001")


# -- the real one ----------------------------------------------------------------------------------


CONFIG = """
route: {{receiver: hook, group_by: [alertname, run], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: hook, webhook_configs: [{{url: "{url}", send_resolved: true}}]}}]
"""


class Alertmanager:
    """A real Alertmanager, and what it has told its receiver."""

    def __init__(self, url: str, receiver: PostStub) -> None:
        self.url = url
        self.receiver = receiver

    def alerts(self) -> list[dict[str, Any]]:
        return list(json.loads(self.ask().read()))

    def ask(self, body: bytes | None = None) -> http.client.HTTPResponse:
        """Get all alerts, or post some as they stand."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=5)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST" if body else "GET", "/api/v2/alerts", body, headers)
        return connection.getresponse()

    def told(self) -> list[str]:
        return [post.json["status"] for post in self.receiver.posts]


def until(look: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def real(tmp_path: Path, server: PostStub) -> Iterator[Alertmanager]:
    binary = shutil.which("prometheus-alertmanager")
    if binary is None:
        pytest.skip("prometheus-alertmanager is not installed (apt-get install prometheus-alertmanager)")
    (tmp_path / "config.yml").write_text(CONFIG.format(url=server.url))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={tmp_path / 'config.yml'}",
                f"--storage.path={tmp_path / 'data'}",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        found = Alertmanager(f"http://{address}", server)

        def ready() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            with suppress(OSError):
                return found.alerts() == []
            return False

        until(ready, "it has started")
        yield found
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.alertmanager
def test_the_real_one_fires_and_resolves(real: Alertmanager) -> None:
    """Its receiver is told that it fires, once, however often we say so; and that it is resolved."""
    notifier = AlertmanagerNotifier(real.url, labels={"cluster": "a"})
    first = replace(sample(), wall_time=time.time() - 5)
    ref = notifier.send(first, None)
    until(lambda: real.told() == ["firing"], "its receiver is told")
    notifier.send(replace(sample("update"), wall_time=time.time()), ref)
    notifier.stand([Standing(ref, first)])
    [alert] = real.alerts()
    assert alert["status"]["state"] == "active"
    assert alert["startsAt"] == ref
    assert alert["labels"]["run"] == "driving/seed047"
    notifier.send(replace(sample("closed"), wall_time=time.time()), ref)
    until(lambda: "resolved" in real.told(), "its receiver is told of the end")
    assert real.told() == ["firing", "resolved"]
    assert real.alerts() == []


@pytest.mark.alertmanager
def test_what_is_not_said_again_ends(real: Alertmanager) -> None:
    """So the end of a sentinel, or of a run, leaves no alert for ever."""
    clock = FakeClock(now=time.time() - EXPIRES + 1.0)
    AlertmanagerNotifier(real.url, wall=clock.wall).send(replace(sample(), wall_time=clock.wall() - 5), None)
    until(lambda: real.told() == ["firing"], "it fires")
    until(lambda: real.told() == ["firing", "resolved"], "it ends by itself")


@pytest.mark.alertmanager
def test_the_real_one_takes_every_message(real: Alertmanager) -> None:
    """The contract, and all that a run's files could write into labels and annotations."""
    assert check(lambda: AlertmanagerNotifier(real.url)) == []
    notifier = AlertmanagerNotifier(real.url)
    for message in hostile():
        notifier.send(message, None)
    assert len(real.alerts()) >= 5


@pytest.mark.alertmanager
def test_the_recorded_refusal_is_the_real_one(real: Alertmanager) -> None:
    """What the tests without it are answered is what it answers."""
    with real.ask(b'[{"labels": {"alertname": "a"}, "startsAt": "soon"}]') as answer:
        assert answer.status == 400
        assert answer.read().strip() == REFUSED
