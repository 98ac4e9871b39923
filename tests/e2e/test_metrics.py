"""A real sentinel's `/metrics`, beside a run that goes wrong."""

from __future__ import annotations

import http.client
import socket
import time
from pathlib import Path

import pytest

from tests.e2e.scene import Scene, until
from tests.sentinel.event_files import scalar
from tests.slack_stub import SlackStub, slack

__all__ = ["slack"]  # a fixture: importing it is using it

pytest.importorskip("prometheus_client", reason="the extra `metrics` is not installed")


def test_an_alert_is_scraped_while_it_fires(tmp_path: Path, slack: SlackStub) -> None:
    """`[sentinel] metrics` is all that is needed; the console command of a scrape is curl's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scene = Scene(tmp_path, slack)
    scene.write_rules(mode="observe", more=f'\n[sentinel]\nmetrics = "127.0.0.1:{port}"\n')
    (scene.logdir / "a").mkdir()
    with (scene.logdir / "a" / "events.out.tfevents.1700000000.t").open("ab") as file:
        for step, value in enumerate([1.0, 1.0, 99.0, 99.0, 99.0, 99.0]):
            file.write(scalar("train/loss", step, value, time.time()))

    def scrape() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        except OSError:
            return ""
        finally:
            connection.close()

    try:
        scene.sentinel()
        until(lambda: 'run="a"' in scrape() and "sentinel_sees 1" in scrape(), "it is served")
        until(lambda: "sentinel_tick_seconds_count" in scrape(), "ticks are counted")
        with (scene.logdir / "a" / "events.out.tfevents.1700000000.t").open("ab") as file:
            for step, value in enumerate([99.0, 99.0, 99.0], start=6):
                file.write(scalar("train/loss", step, value, time.time()))
        firing = 'rule="loss_high",run="a",series="",severity="critical",state="firing"'
        until(lambda: firing in scrape(), "the alert is served")
        until(lambda: 'sentinel_channel_state{channel="slack",state="ok"} 1.0' in scrape(), "channels too")
    finally:
        scene.end()
