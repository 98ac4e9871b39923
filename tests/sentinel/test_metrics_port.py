"""`/metrics`: what it says of a real journal, and that nobody who asks can hold up a tick."""

from __future__ import annotations

import http.client
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rules.source import RuleErrors
from sentinel.config import load
from sentinel.measures import FAMILIES, measure
from sentinel.metrics_port import MetricsPort
from sentinel.state import JOURNAL
from sentinel.vitals import BUCKETS, Ticks, Vitals
from sentinel.watcher import Plan, Watcher
from tests.fakes import FakeClock
from tests.sentinel.event_files import T0
from tests.sentinel.scene import Scene
from tests.sentinel.test_engine import curve

parser = pytest.importorskip("prometheus_client.parser", reason="the extra `metrics` is not installed")

ROOT = Path(__file__).parents[2]
HEAD = 'version = 1\ninclude = ["pack:generic"]\n[notify.console]\nenabled = false\n'


def read(folder: Path, text: str) -> Path:
    path = folder / "sentinel.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    return path


@pytest.fixture
def port(tmp_path: Path) -> Iterator[MetricsPort]:
    """One that serves on a free port, beside a sentinel that has not ticked yet."""
    (tmp_path / "state").mkdir()
    (tmp_path / "runs").mkdir()
    said: list[str] = []
    made = MetricsPort(tmp_path / "state" / JOURNAL, FakeClock(T0), said.append)
    made.follow(load(read(tmp_path, '[sentinel]\nmetrics = "127.0.0.1:0"\n')))
    assert said == []
    yield made
    made.close()


def get(port: int | None, path: str = "/metrics") -> tuple[int, str]:
    assert port is not None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def scraped(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What Prometheus would store: by its own parser."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def values(found: list[tuple[str, dict[str, str], float]], name: str, **labels: str) -> list[float]:
    return [v for n, given, v in found if n == name and labels.items() <= given.items()]


def flat(journal: Path, vitals: Vitals, now: float) -> list[tuple[str, dict[str, str], float]]:
    return [
        (family.name, dict(labels), value)
        for family in measure(journal, vitals, now)
        for labels, value in family.samples
    ]


def test_it_says_what_the_journal_knows(tmp_path: Path) -> None:
    """Alerts with severity and state, lags, queues: of a run that fires."""
    scene = Scene(tmp_path, FakeClock(T0))
    scene.log(curve([1, 1, 1, 99, 99, 99, 99]))
    scene.tick(1.0)
    scene.tick(30.0)
    vitals = Vitals(severities={"q_high": "critical", "silent": "warning"})
    found = flat(scene.state / JOURNAL, vitals, scene.clock.wall())
    assert values(found, "sentinel_alert", rule="q_high", severity="critical", state="firing") == [1.0]
    assert values(found, "sentinel_runs", phase="live") == [1.0]
    assert values(found, "sentinel_alerts_fired_total", severity="critical") == [1.0]
    [lag] = values(found, "sentinel_run_lag_seconds")
    assert 0 <= lag < 40
    assert values(found, "sentinel_journal_readable") == [1.0]
    assert sum(values(found, "sentinel_messages", channel="console")) > 0
    scene.journal.close()


def test_without_a_journal_it_says_so(tmp_path: Path) -> None:
    """What is in memory is told all the same; a number that is not known is left out, and is not 0."""
    (tmp_path / "broken").write_bytes(b"no database" * 100)
    for path in (tmp_path / "none", tmp_path / "broken"):
        found = flat(path, Vitals(lost="the disk is full", blind=("a", "b")), T0)
        assert values(found, "sentinel_journal_readable") == [0.0]
        assert values(found, "sentinel_remembers") == [0.0]
        assert values(found, "sentinel_blind_runs") == [2.0]
        assert not values(found, "sentinel_runs")


def test_prometheus_can_read_it(tmp_path: Path, port: MetricsPort) -> None:
    """Over HTTP, by Prometheus' own parser, with a run whose name is hostile."""
    clock = FakeClock(T0)
    (tmp_path / "runs" / 'evil"\\{}é').mkdir()
    watcher = _watcher(tmp_path, clock)
    try:
        watcher.tick()
        port.look(watcher, 0.02)
        port.look(watcher, 99.0)
        status, text = get(port.port)
        found = scraped(text)
        assert status == 200
        assert found["sentinel_tick_seconds_count", frozenset()] == 2
        assert found["sentinel_tick_seconds_bucket", frozenset({("le", "0.025")})] == 1
        assert found["sentinel_tick_seconds_bucket", frozenset({("le", "+Inf")})] == 2
        assert found["sentinel_sees", frozenset()] == 1
        assert found["sentinel_mode", frozenset({("mode", "observe")})] == 1
        assert found["sentinel_last_tick_timestamp_seconds", frozenset()] == T0
        assert get(port.port, "/") == (404, get(port.port, "/")[1])
    finally:
        watcher.close()


def _watcher(folder: Path, clock: FakeClock) -> Watcher:
    plan = Plan(load(folder / "sentinel.toml"), act=False)
    return Watcher(
        folder / "runs", folder / "state", plan, clock, wake=lambda: None, open_channels=lambda _s: {}
    )


def test_a_scraper_that_hangs_delays_no_tick(tmp_path: Path, port: MetricsPort) -> None:
    """Twenty that connect and say nothing, twenty that ask and read nothing; ticks and others go on."""
    watcher = _watcher(tmp_path, FakeClock(T0))
    assert port.port is not None
    hanging = [socket.create_connection(("127.0.0.1", port.port)) for _ in range(40)]
    try:
        for each in hanging[:20]:
            each.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        began = time.monotonic()
        for _ in range(20):
            watcher.tick()
            port.look(watcher, 0.001)
        assert get(port.port)[0] in (200, 503)
        assert time.monotonic() - began < 5
    finally:
        for each in hanging:
            each.close()
        watcher.close()


def test_it_follows_the_settings(tmp_path: Path, port: MetricsPort) -> None:
    """With the address it has it goes on; without one it ends."""
    before = port.port
    port.follow(load(read(tmp_path, '[sentinel]\nmetrics = "127.0.0.1:0"\n')))
    assert port.port == before
    port.follow(load(read(tmp_path, "")))
    assert port.port is None
    with pytest.raises(ConnectionRefusedError):
        get(before)


def test_an_address_that_is_taken_ends_nothing(tmp_path: Path, port: MetricsPort) -> None:
    """That is said, with the reason."""
    said: list[str] = []
    other = MetricsPort(tmp_path / "x", FakeClock(), said.append)
    other.follow(load(read(tmp_path, f'[sentinel]\nmetrics = "127.0.0.1:{port.port}"\n')))
    assert other.port is None
    why = f"127.0.0.1:{port.port}: Address already in use"
    assert said == [f"sentinel: metrics: {why}; nothing is served, all else goes on"]


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "sentinel.exposition", None)
    said: list[str] = []
    other = MetricsPort(tmp_path / "x", FakeClock(), said.append)
    other.follow(load(read(tmp_path, '[sentinel]\nmetrics = "127.0.0.1:0"\n')))
    assert other.port is None
    assert "pip install 'training-sentinel[metrics]'" in said[0]


@pytest.mark.parametrize(
    "value", ["9464", ":9464", "localhost", "127.0.0.1:http", "127.0.0.1:70000", "a b:1"]
)
def test_where_to_listen_is_a_host_and_a_port(tmp_path: Path, value: str) -> None:
    """A port alone would be open to everybody, which one has to write."""
    with pytest.raises(RuleErrors, match=r"HOST:PORT"):
        load(read(tmp_path, f'[sentinel]\nmetrics = "{value}"\n'))


def test_ticks_are_counted_into_buckets() -> None:
    """Each into the first whose bound it does not pass; cumulated, as Prometheus adds them up."""
    ticks = Ticks()
    for seconds in (0.0005, 0.001, 0.3, 1000.0):
        ticks = ticks.and_one(seconds)
    found = dict(ticks.cumulative)
    assert (found["0.001"], found["0.25"], found["0.5"], found["30"], found["+Inf"]) == (2, 2, 3, 3, 4)
    assert ticks.seconds == pytest.approx(1000.3015)
    assert len(found) == len(BUCKETS) + 1


def test_every_metric_has_its_row() -> None:
    """And every row its metric."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(sentinel_\w+)` \|", page, re.MULTILINE))
    assert rows == {*FAMILIES, "sentinel_tick_seconds"}
